package resolver

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"cordon/blocklist"
	"cordon/configs"
)

// Config is the resolver's configuration file. Relative paths are taken from
// the folder that the file is in.
type Config struct {
	Listen     []netip.AddrPort `yaml:"listen"`     // UDP and TCP
	AllowFrom  []netip.Prefix   `yaml:"allow_from"` // whose questions are answered; others are REFUSED
	Serving    `yaml:",inline"` // encrypted transports, exemptions, limits
	Recursion  Recursion        `yaml:"recursion"`   //
	CacheBytes int64            `yaml:"cache_bytes"` // bound of the cache of whole answers
	Workers    int              `yaml:"workers"`     // questions being resolved at once; more are shed
	UDP        UDPConfig        `yaml:"udp"`         //
	Lists      []ListConfig     `yaml:"lists"`       // in order of precedence
	Store      string           `yaml:"store"`       // folder of the last verified lists, 0700
	Blocklog   BlocklogConfig   `yaml:"blocklog"`    //
	Policy     PolicyConfig     `yaml:"policy"`      //
	Guard      GuardConfig      `yaml:"guard"`       // what of a signed list needs a person's word as well
	Metrics    MetricsConfig    `yaml:"metrics"`     //
	Control    ControlConfig    `yaml:"control"`     //
	RPZ        RPZConfig        `yaml:"rpz"`         // the lists given onwards
	Feeds      FeedsConfig      `yaml:"feeds"`       // the operator's own
	LogLevel   string           `yaml:"log_level"`   // debug, info, warn, error
}

// Recursion is how the resolver goes to the authoritative servers.
type Recursion struct {
	Following    `yaml:",inline"` // what the zones have, and what they are told
	RootHints    string           `yaml:"root_hints"`    // file; default: the Internet's, built in
	TrustAnchors string           `yaml:"trust_anchors"` // file of DS or DNSKEY records; default: the root's, built in
	Port         uint16           `yaml:"port"`          // of authoritative servers; another than 53 is for laboratories
	MayQuery     []netip.Prefix   `yaml:"may_query"`     // loopback or private networks with authoritative servers of one's own
	IPv6         *bool            `yaml:"ipv6"`          // ask over IPv6 too; default true
	Minimise     *bool            `yaml:"minimise"`      // show each server no more of a name than it needs (RFC 9156); default true
	MixCase      *bool            `yaml:"mix_case"`      // ask by UDP in a mixture of cases (0x20); default true
	CacheBytes   int64            `yaml:"cache_bytes"`   // bound of the RRset cache
	PerZone      int              `yaml:"per_zone"`      // queries that wait for replies at a time, for one zone
	PerServer    int              `yaml:"per_server"`    // and to one address
	Timeout      time.Duration    `yaml:"timeout"`       // for one question, from its arrival

	StubZones    []ZoneConfig           `yaml:"stub_zones"`             // whose authoritative servers are named here
	ForwardZones []ZoneConfig           `yaml:"forward_zones"`          // which other resolvers resolve
	Negative     []NegativeAnchorConfig `yaml:"negative_trust_anchors"` // where nothing is validated for a while

	DNS64            netip.Prefix   `yaml:"dns64"`             // prefix for networks without IPv4; default none
	PrivateAddresses []netip.Prefix `yaml:"private_addresses"` // that no name on the Internet may have
	PrivateDomains   []string       `yaml:"private_domains"`   // except these and what is below them
	MinTTL           time.Duration  `yaml:"min_ttl"`           // bounds of the time for which answers are kept
	MaxTTL           time.Duration  `yaml:"max_ttl"`
	MaxNegativeTTL   time.Duration  `yaml:"max_negative_ttl"` // and denials
	ServeStale       time.Duration  `yaml:"serve_stale"`      // for how long old answers stand in for servers that do not answer
	StaleTTL         time.Duration  `yaml:"stale_ttl"`        // of old answers
}

// UDPConfig is how the UDP sockets are read.
type UDPConfig struct {
	// MaxWait is the longest wait for more packets when they come fast: a little
	// latency for more answers a second. 0 turns it off.
	MaxWait time.Duration `yaml:"max_wait"`
}

// ListConfig is one authority's list, with its own root of trust.
type ListConfig struct {
	Name           string        `yaml:"name"`            // in records and metrics
	Source         Sources       `yaml:"source"`          // https:// addresses or folders of the publication, mirrors of each other
	Root           string        `yaml:"root"`            // the pinned root metadata, got from the authority in person
	Identity       string        `yaml:"identity"`        // age identity of this resolver
	PassphraseFile string        `yaml:"passphrase_file"` // of the identity; default CORDON_PASSPHRASE
	CA             string        `yaml:"ca"`              // certificates that may sign for the source; default the system's
	Poll           time.Duration `yaml:"poll"`            // between two looks at the source
	Required       *bool         `yaml:"required"`        // answer nothing before this list is loaded; default true
	AcceptFirst    bool          `yaml:"accept_first"`    // the first list may be of any size
}

// GuardConfig is what the guards between a verified list and its enforcement
// go by (see blocklist.GuardConfig).
type GuardConfig struct {
	Starter   bool            `yaml:"starter"`   // protect the names that ship with the program
	Protected []string        `yaml:"protected"` // files of names, one a line
	Ranking   RankingConfig   `yaml:"ranking"`   //
	Popular   PopularConfig   `yaml:"popular"`   //
	Additions blocklist.Bound `yaml:"additions"` // in one update, past which it is held
	Removals  blocklist.Bound `yaml:"removals"`
	Canary    CanaryConfig    `yaml:"canary"` // try new lists on a part of the traffic first
}

// CanaryConfig is how a new list is tried before it is in force for all.
type CanaryConfig struct {
	OneIn  int           `yaml:"one_in"` // one reading goroutine in so many tries it; 0 turns it off
	For    time.Duration `yaml:"for"`    // how long
	Factor int           `yaml:"factor"` // the share of blocked answers may grow by this
	Least  int           `yaml:"least"`  // questions on trial below which nothing is said
	Node   string        `yaml:"node"`   // name of this node of a fleet; empty: each node tries each list
	Nodes  int           `yaml:"nodes"`  // one node in so many tries a list
	Wait   time.Duration `yaml:"wait"`   // for how long the others hold it back
}

// RankingConfig is a list of popular sites from elsewhere.
type RankingConfig struct {
	File string `yaml:"file"` // CSV, "rank,name" a line
	Top  int    `yaml:"top"`  // how many ranks are protected
}

// PopularConfig is when a name is popular by this resolver's own traffic: past
// both bounds.
type PopularConfig struct {
	PerMillion int `yaml:"per_million"` // of the recent questions; 0 turns counting off
	Least      int `yaml:"least"`       // questions
}

// BlocklogConfig is the journal of decisions and events.
type BlocklogConfig struct {
	Dir          string        `yaml:"dir"`
	SegmentBytes int64         `yaml:"segment_bytes"`
	OnFailure    string        `yaml:"on_failure"`  // what is done while it cannot be written: spool or servfail
	SpoolBytes   int64         `yaml:"spool_bytes"` // of records that wait meanwhile
	Keep         time.Duration `yaml:"keep"`        // sealed segments older than this are removed; 0: none
	Sealed       string        `yaml:"sealed"`      // file in which the auditor says what is sealed
}

// PolicyConfig is what of the blocked answer an operator may set.
type PolicyConfig struct {
	// OwnNames are the resolver's own names, which no list may take.
	OwnNames []string `yaml:"own_names"`
	// InfoURL is given in RESINFO (RFC 9606).
	InfoURL string `yaml:"info_url"`
	// StructuredErrors are for clients that can read them.
	StructuredErrors StructuredErrors `yaml:"structured_errors"`
}

// StructuredErrors is draft-ietf-dnsop-structured-dns-error.
type StructuredErrors struct {
	Option   uint16   `yaml:"option"`   // code of the option by which a client asks for them; 0: off
	Contact  []string `yaml:"contact"`  // URIs; none: the stop page's
	Language string   `yaml:"language"` // of the authority's texts
}

// MetricsConfig is the listener for Prometheus; empty turns it off.
type MetricsConfig struct {
	Listen string `yaml:"listen"`
}

// ControlConfig is the socket for the operator's commands.
type ControlConfig struct {
	Socket string `yaml:"socket"`
}

var listName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// LoadConfig reads and checks the file at path, fills in defaults and makes
// paths absolute. Errors name the file, the setting, its value and a remedy.
func LoadConfig(path string) (*Config, error) {
	c := &Config{
		CacheBytes: 256 << 20,
		Workers:    2000,
		UDP:        UDPConfig{MaxWait: 100 * time.Microsecond},
		Recursion:  Recursion{Port: 53, CacheBytes: 128 << 20, PerZone: 200, PerServer: 400, Timeout: 8 * time.Second},
		Guard: GuardConfig{
			Starter:   true,
			Ranking:   RankingConfig{Top: 100_000},
			Popular:   PopularConfig{PerMillion: 100, Least: 1000},
			Additions: blocklist.Bound{Least: 500, Percent: 25},
			Removals:  blocklist.Bound{Least: 100, Percent: 25},
			Canary:    CanaryConfig{For: 2 * time.Minute, Factor: 3, Least: 1000, Nodes: 10, Wait: 30 * time.Minute},
		},
		Serving: Serving{Limits: LimitsConfig{
			Connections: 4096, ConnectionsPerClient: 128, Idle: 10 * time.Second, Handshakes: 200,
		}},
		LogLevel: "info",
	}
	if err := configs.Load(path, c); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c.resolvePaths(dir)
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func (c *Config) resolvePaths(dir string) {
	paths := []*string{&c.Recursion.RootHints, &c.Recursion.TrustAnchors, &c.Recursion.AnchorState, &c.Store, &c.Blocklog.Dir, &c.Blocklog.Sealed, &c.Control.Socket, &c.Guard.Ranking.File, &c.RPZ.Keys, &c.RPZ.File}
	paths = append(paths, c.Serving.paths()...)
	paths = append(paths, c.Feeds.paths()...)
	for i := range c.Guard.Protected {
		paths = append(paths, &c.Guard.Protected[i])
	}
	for i := range c.Lists {
		l := &c.Lists[i]
		paths = append(paths, &l.Root, &l.Identity, &l.PassphraseFile, &l.CA)
		for j := range l.Source {
			if !remote(l.Source[j]) {
				paths = append(paths, &l.Source[j])
			}
		}
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

// Sources are the places where one publication is to be had. In the file they are a
// list, or a single one without brackets.
type Sources []string

// UnmarshalYAML reads either.
func (s *Sources) UnmarshalYAML(read func(any) error) error {
	var one string
	if err := read(&one); err == nil {
		*s = Sources{one}
		return nil
	}
	return read((*[]string)(s))
}

func remote(source string) bool { return strings.Contains(source, "://") }

const maxSources = 8 // of one list

// required is the default of Promise 2 unless the operator says otherwise.
func (l *ListConfig) required() bool { return l.Required == nil || *l.Required }

func (c *Config) check() error {
	if len(c.Listen) == 0 {
		return fmt.Errorf("listen: no address; give at least one, such as 127.0.0.1:53")
	}
	if len(c.AllowFrom) == 0 {
		// An open resolver is a weapon (RFC 5358): the default is this host alone.
		c.AllowFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	for _, p := range c.AllowFrom {
		if p != p.Masked() {
			return fmt.Errorf("allow_from: %s has bits set behind its length; write %s", p, p.Masked())
		}
	}
	if c.Blocklog.Dir == "" {
		return fmt.Errorf("blocklog.dir: missing; name the folder of the block log, such as /var/lib/cordon/blocklog")
	}
	if err := c.Blocklog.check(); err != nil {
		return fmt.Errorf("blocklog.%w", err)
	}
	if len(c.Lists) > 0 && c.Store == "" {
		return fmt.Errorf("store: missing; name the folder that keeps the last verified lists, such as /var/lib/cordon/lists")
	}
	if c.Workers < 1 || c.Workers > 1_000_000 {
		return fmt.Errorf("workers: %d; use 1 to 1000000", c.Workers)
	}
	for _, b := range []struct {
		name  string
		value int64
	}{{"cache_bytes", c.CacheBytes}, {"recursion.cache_bytes", c.Recursion.CacheBytes}} {
		if b.value < 1<<20 {
			return fmt.Errorf("%s: %d; use at least 1048576 (1 MiB)", b.name, b.value)
		}
	}
	if c.UDP.MaxWait < 0 || c.UDP.MaxWait > time.Millisecond {
		return fmt.Errorf("udp.max_wait: %s; use 0s to 1ms", c.UDP.MaxWait)
	}
	if c.Recursion.Port == 0 {
		return fmt.Errorf("recursion.port: 0; leave it out, or name the port of the laboratory's servers")
	}
	if err := c.Recursion.check(); err != nil {
		return fmt.Errorf("recursion.%w", err)
	}
	if c.Recursion.Timeout < time.Second || c.Recursion.Timeout > time.Minute {
		return fmt.Errorf("recursion.timeout: %s; use 1s to 1m", c.Recursion.Timeout)
	}
	if err := c.Guard.check(); err != nil {
		return fmt.Errorf("guard.%w", err)
	}
	if err := c.Serving.check(); err != nil {
		return err
	}
	if err := c.RPZ.check(c.Lists); err != nil {
		return fmt.Errorf("rpz.%w", err)
	}
	if err := c.Feeds.check(c.Blocklog.Dir); err != nil {
		return fmt.Errorf("feeds.%w", err)
	}
	seen := make(map[string]bool)
	for i := range c.Lists {
		l := &c.Lists[i]
		if err := l.check(); err != nil {
			return fmt.Errorf("lists[%d] (%s): %w", i, l.Name, err)
		}
		if seen[l.Name] {
			return fmt.Errorf("lists[%d]: name %q is used twice; give each list a name of its own", i, l.Name)
		}
		seen[l.Name] = true
	}
	return nil
}

func (g *GuardConfig) check() error {
	for _, n := range []struct {
		name       string
		value, max int
	}{
		{"ranking.top", g.Ranking.Top, 10_000_000},
		{"popular.per_million", g.Popular.PerMillion, 1_000_000},
		{"popular.least", g.Popular.Least, 1_000_000},
		{"additions.least", g.Additions.Least, 10_000_000},
		{"additions.percent", g.Additions.Percent, 1000},
		{"removals.least", g.Removals.Least, 10_000_000},
		{"removals.percent", g.Removals.Percent, 100},
		{"canary.one_in", g.Canary.OneIn, 1024},
		{"canary.factor", g.Canary.Factor, 1000},
		{"canary.least", g.Canary.Least, 1_000_000},
	} {
		if n.value < 0 || n.value > n.max {
			return fmt.Errorf("%s: %d; use 0 to %d", n.name, n.value, n.max)
		}
	}
	if c := g.Canary; c.OneIn > 0 && (c.Factor < 1 || c.For < time.Second || c.For > time.Hour) {
		return fmt.Errorf("canary: for %s, factor %d; use 1s to 1h, and a factor of 1 or more", c.For, c.Factor)
	}
	if c := g.Canary; c.Node != "" && (c.OneIn == 0 || c.Nodes < 2 || c.Nodes > 1000 || c.Wait < c.For || c.Wait > 24*time.Hour) {
		return fmt.Errorf("canary: node %s needs one_in, nodes from 2 to 1000 (it is %d), and a wait from what for says to 24h (it is %s)", c.Node, c.Nodes, c.Wait)
	}
	return nil
}

// weaker names what of the guards is turned off, for the record of the start.
func (g *GuardConfig) weaker() (all []string) {
	if !g.Starter {
		all = append(all, "guard.starter is off: the names that ship with the program are not protected")
	}
	if g.Popular.PerMillion == 0 {
		all = append(all, "guard.popular is off: no name is protected by the traffic to it")
	}
	if g.Additions == (blocklist.Bound{}) {
		all = append(all, "guard.additions is off: a list may grow by any number at once")
	}
	if g.Removals == (blocklist.Bound{}) {
		all = append(all, "guard.removals is off: a list may shrink by any number at once")
	}
	return all
}

func (l *ListConfig) check() error {
	if !listName.MatchString(l.Name) {
		return fmt.Errorf("name: %q; use 1 to 32 of a-z, 0-9, hyphen and underscore", l.Name)
	}
	for _, f := range []struct{ name, value, remedy string }{
		{"root", l.Root, "the root.json that the authority handed over"},
		{"identity", l.Identity, "the age identity whose recipient the authority has"},
	} {
		if f.value == "" {
			return fmt.Errorf("%s: missing; give %s", f.name, f.remedy)
		}
	}
	if n := len(l.Source); n == 0 || n > maxSources {
		return fmt.Errorf("source: %d of them; give an https:// address or a folder, or up to %d mirrors of one publication", n, maxSources)
	}
	for _, source := range l.Source {
		u, err := url.Parse(source)
		if source == "" || remote(source) && (err != nil || u.Host == "" || u.Scheme != "https") {
			return fmt.Errorf("source: %q; use https://HOST/PATH or a folder", source)
		}
	}
	if l.Poll == 0 {
		l.Poll = time.Minute
	}
	if l.Poll < time.Second || l.Poll > 24*time.Hour {
		return fmt.Errorf("poll: %s; use 1s to 24h", l.Poll)
	}
	return nil
}
