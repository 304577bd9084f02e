// Package iterate goes from the root to the answer: delegations, name servers,
// budgets (RFC 1034 §5.3.3, RFC 9156). What it brings back has been validated
// by resolver/dnssec.
//
// A request is one task, worked off on the caller's goroutine: resolve.go
// follows aliases, lookup.go walks down the zones for one name, ask.go goes
// through the servers of one zone, exchange.go asks one of them, reply.go reads
// what it says, accept.go and chain.go decide what of it to believe. All tasks
// share the RRset cache, what is known of servers (servers.go, cookies.go) and
// equal questions in flight (flight.go).
package iterate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
	"cordon/resolver/dnssec"
)

// Exchange sends one query to one server and returns the server's reply. The
// Exchange sets the query's ID, and may vary the case of its name; query itself
// it leaves as it is. The reply has already been matched to the query (source,
// ID, question); what does not match was dropped and waited past. stream asks
// for TCP. An error of which errors.As makes an interface{ AlteredCase() bool }
// is of a reply by UDP that matched, and could have come from somebody who never
// saw the query: in another case, if that says yes, or else without a cookie though
// the query had a server's. It returns when ctx ends; until then it waits for one reply, and does
// not repeat the query. The reply is shared and read only afterwards.
type Exchange interface {
	Exchange(ctx context.Context, server netip.AddrPort, query *dns.Msg, stream bool) (*dns.Msg, error)
}

// Question is what is to be resolved. Name is fully qualified, in presentation
// form as dns.UnpackDomainName escapes it; Resolve lower-cases it. The class is
// IN.
type Question struct {
	Name string
	Type uint16
}

func (q Question) String() string { return q.Name + " " + dns.Type(q.Type).String() }

// Request is a question and how it is asked.
type Request struct {
	Question
	// CheckingDisabled returns data without regard to validation (RFC 4035 §3.2.2).
	CheckingDisabled bool
	// Stop is asked for each CNAME target, and each name that a DNAME leads to,
	// before it is followed. When it says yes, resolution ends there and
	// Result.Stopped names the target. May be nil.
	Stop func(target string) bool
	// Renew asks the servers again for what of the answer is known for no longer
	// than this.
	Renew time.Duration
	// Quiet leaves no trace at third parties: what fails is not reported to the
	// agents of RFC 9567.
	Quiet bool
}

// EDE is an extended DNS error (RFC 8914).
type EDE struct {
	Code uint16
	Text string
}

// Result is the outcome of a request. Sections hold RRSIG and denial records
// too; who serves it strips what a client did not ask for. The records are the
// caller's own.
type Result struct {
	Rcode     int
	Answer    []dns.RR // the CNAME chain in order, then the answer
	Authority []dns.RR // SOA and proofs of a negative answer, proofs of a wildcard
	Status    dnssec.Status
	EDE       []EDE
	TTL       time.Duration // for how long the whole may be cached; 0: not at all
	Stopped   string        // the target at which Stop ended the chain, or ""
	Spent     Spent
}

// Config of a Resolver. Exchange, Roots and Clock are required.
type Config struct {
	Exchange Exchange
	// Clock counts lifetimes; time.Now does so by the monotonic clock, which nobody
	// sets. Wall is the time of day, by which signatures and negative trust anchors
	// are judged; default Clock.
	Clock      func() time.Time
	Wall       func() time.Time
	Roots      []dns.RR // root hints: NS and A/AAAA
	Anchors    []dns.RR // trust anchors to begin with: DS or DNSKEY; none means no validation
	Port       uint16   // port of authoritative servers; default 53 (another one is for laboratories)
	CacheBytes int64    // bound of the RRset cache; default 64 MiB

	// Allow lists address ranges that may be asked although they are not public
	// (loopback, private): for laboratories, and networks with a root of their
	// own. Unspecified, multicast and broadcast addresses are never asked.
	Allow       []netip.Prefix
	DisableIPv4 bool // ask no server over IPv4
	DisableIPv6 bool // ask no server over IPv6
	RejectSHA1  bool // treat SHA-1 in DNSSEC as unknown (RFC 9905)
	// NoMinimisation sends the full question to every server on the way (against
	// RFC 9156).
	NoMinimisation bool
	Limits         Limits // of one request; the zero value means DefaultLimits
	// PerZone and PerServer bound the queries that wait for replies at a time, of
	// all requests: for the names of one zone, below its delegation, and to one
	// address. Past them requests fail at once, and the failure is not kept. Default
	// 200 and 400, so that no zone has all that its server may have. Forward zones
	// have no such bound.
	PerZone, PerServer int

	Stubs           []Stub
	Forwards        []Forward
	NegativeAnchors []NegativeAnchor

	// PrivateAddresses must not be what names on the Internet stand for (DNS
	// rebinding); such records are left out of answers, except at or below
	// PrivateDomains.
	PrivateAddresses []netip.Prefix
	PrivateDomains   []string
	// DNS64 makes AAAA records out of A records with this prefix (RFC 6147); the
	// zero value makes none.
	DNS64 netip.Prefix

	// ServeStale is for how long answers are given past their TTL when no server
	// answers any more (RFC 8767); 0, the default: never. StaleTTL is the TTL that
	// they then have, default 30 s.
	ServeStale, StaleTTL time.Duration

	// MinTTL and MaxTTL bound for how long answers are kept, MaxNegativeTTL
	// denials (RFC 8767 §4, RFC 2308 §5); default 0, a day, and three hours, and
	// the latter two are the most that is possible. What a signature or the
	// delegation ends earlier ends earlier.
	MinTTL, MaxTTL, MaxNegativeTTL time.Duration

	// SignalAnchors tells the zones of trust anchors which are trusted here (RFC
	// 8145); ReportErrors tells agents what does not validate (RFC 9567). Both need
	// Run.
	SignalAnchors, ReportErrors bool

	// Random gives a number below n, to choose among servers with; no secret
	// depends on it. Default: math/rand/v2.
	Random func(n int) int
}

// Resolver resolves from the root. Safe for concurrent use. It starts goroutines
// within Run alone, for what nobody waits for.
type Resolver struct {
	config  Config
	anchors atomic.Pointer[anchorSet]
	hints   *zone
	// Stubs and forwards, and until when negative trust anchors hold, by name.
	configured map[string]*configured
	negative   map[string]time.Time
	cache      *cache.RRsets
	denials    *cache.Denials
	servers    *servers
	flights    flights
	background *background
	signals    signals
	reports    reports
	renewals   renewals
	// credulous takes what any server says of any zone: for the tests that show
	// that the scenarios would notice.
	credulous bool
}

// New returns a resolver with an empty cache.
func New(c Config) (*Resolver, error) {
	if c.Exchange == nil || c.Clock == nil {
		return nil, errors.New("iterate: Exchange and Clock are required")
	}
	if c.DisableIPv4 && c.DisableIPv6 {
		return nil, errors.New("iterate: both IPv4 and IPv6 are disabled")
	}
	if err := checkDNS64(c.DNS64); err != nil {
		return nil, err
	}
	if c.Wall == nil {
		c.Wall = c.Clock
	}
	if c.Port == 0 {
		c.Port = 53
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 64 << 20
	}
	if c.Limits == (Limits{}) {
		c.Limits = DefaultLimits()
	}
	if c.PerZone <= 0 {
		c.PerZone = 200
	}
	if c.PerServer <= 0 {
		c.PerServer = 400
	}
	if c.MaxTTL <= 0 || c.MaxTTL > cache.MaxTTL {
		c.MaxTTL = cache.MaxTTL
	}
	if c.MaxNegativeTTL <= 0 || c.MaxNegativeTTL > cache.MaxNegativeTTL {
		c.MaxNegativeTTL = cache.MaxNegativeTTL
	}
	c.MinTTL = min(max(c.MinTTL, 0), c.MaxTTL)
	if c.StaleTTL <= 0 {
		c.StaleTTL = 30 * time.Second
	}
	if c.Random == nil {
		c.Random = rand.IntN
	}
	r := &Resolver{
		config:  c,
		cache:   cache.NewRRsets(c.CacheBytes/8*7, c.Clock),
		denials: cache.NewDenials(c.CacheBytes/8, c.Clock),
		servers: newServers(c.Clock),
		flights: newFlights(c.PerZone, c.PerServer),

		background: newBackground(), renewals: renewals{under: map[Question]chan struct{}{}}, signals: signals{last: map[string]time.Time{}},
		configured: map[string]*configured{}, negative: map[string]time.Time{},
	}
	r.cache.KeepStale(c.ServeStale)
	if err := r.configure(); err != nil {
		return nil, err
	}
	if err := r.SetAnchors(c.Anchors); err != nil {
		return nil, err
	}
	hints, err := r.rootHints(c.Roots)
	if err != nil {
		return nil, err
	}
	r.hints = hints
	return r, nil
}

// Refused counts what Config.PerZone and PerServer kept from being sent.
func (r *Resolver) Refused() Refused {
	r.flights.mu.Lock()
	defer r.flights.mu.Unlock()
	return r.flights.refused
}

// CacheBytes is what the RRset cache holds at present.
func (r *Resolver) CacheBytes() int64 { return r.cache.Bytes() + r.denials.Bytes() }

// Resolve answers q. It returns a Result with Rcode SERVFAIL and EDE where
// resolution or validation fails; ctx and Limits.Time bound the time.
func (r *Resolver) Resolve(ctx context.Context, q Request) *Result {
	name, err := canonical(q.Name)
	if err != nil {
		return &Result{Rcode: dns.RcodeFormatError, EDE: []EDE{{dns.ExtendedErrorCodeOther, err.Error()}}}
	}
	q.Name = name
	if !askable(q.Type) {
		return &Result{Rcode: dns.RcodeNotImplemented, EDE: []EDE{{dns.ExtendedErrorCodeInvalidQueryType, "type " + dns.Type(q.Type).String() + " is not resolved"}}}
	}
	switch old := r.oldAnswer(ctx, q); {
	case old == nil:
		return r.resolve(ctx, q, r.config.Limits.Time)
	case old.Stopped != "":
		return old
	default:
		return r.renew(ctx, q, old)
	}
}

// resolve answers q within a time.
func (r *Resolver) resolve(ctx context.Context, q Request, within time.Duration) *Result {
	ctx, cancel := context.WithTimeoutCause(ctx, within, errOutOfTime)
	defer cancel()
	t := r.newTask(q.CheckingDisabled)
	t.quiet, t.renew = q.Quiet, q.Renew
	return t.run(ctx, q)
}

// run answers q with all that is done to answers.
func (t *task) run(ctx context.Context, q Request) *Result {
	var res *Result
	if t.r.config.DNS64.IsValid() {
		res = t.translate(ctx, q)
	} else {
		res = t.r.sentinel(q, t.follow(ctx, q))
	}
	res.Spent = t.sum()
	return res
}

// askable leaves out what is no data of a zone (RFC 6895 §3.1, RFC 9824 §3.1).
func askable(t uint16) bool {
	switch t {
	case dns.TypeNone, dns.TypeOPT, dns.TypeSIG, dns.TypeNXNAME:
		return false
	case dns.TypeANY:
		return true
	}
	return t < 128 || t > 255
}

// canonical is name in the one spelling that equal names share.
func canonical(name string) (string, error) {
	buf := make([]byte, 255)
	n, err := dns.PackDomainName(dns.Fqdn(name), buf, 0, nil, false)
	if err != nil {
		return "", fmt.Errorf("no domain name: %w", err)
	}
	name, _, err = dns.UnpackDomainName(buf[:n], 0)
	if err != nil {
		return "", fmt.Errorf("no domain name: %w", err)
	}
	return dns.CanonicalName(name), nil
}
