package rpl

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Settings is what CONFIG asks of a resolver. The zero value of a field means
// that nothing was said.
type Settings struct {
	Now      time.Time // val-override-date
	Stubs    []Zone    // zones with servers of their own; "." stands for the root hints
	Forwards []Zone    // zones that recursive servers resolve
	Anchors  []dns.RR  // trust anchors: DS or DNSKEY
	Insecure []string  // names below which nothing is validated

	NoMinimisation       bool
	NoIPv4, NoIPv6       bool
	MinTTL, MaxTTL       time.Duration
	MaxNegativeTTL       time.Duration
	PrivateAddresses     []netip.Prefix // which must not come from outside
	PrivateDomains       []string       // but for these
	DNS64                netip.Prefix
	Refused              []netip.Prefix // whose questions are refused
	ServeExpired         bool
	ServeExpiredAfter    time.Duration // serve-expired-client-timeout
	ServeExpiredReplyTTL time.Duration
	ServeExpiredTTL      time.Duration
	Prefetch             bool

	// Snooping: questions that ask for no recursion are answered from the cache.
	Snooping bool
	fakes    bool // algorithms that no resolver knows any more are to be taken
	// Deckard: CONFIG has no sections, as is the way of Deckard's files.
	Deckard bool
	// Unsupported names an option that asks for what only Unbound or Knot
	// Resolver has, or "".
	Unsupported string
}

// Zone is a stub or forward zone.
type Zone struct {
	Name    string
	Servers []netip.Addr
	First   bool // try the Internet when the servers give nothing
}

// setting is one "key: value" of CONFIG and the section that it stands in.
type setting struct {
	section, key, value string
}

// configPair matches a key and what stands behind it up to the next key or the
// end of the line; values in quotes may hold anything.
var configPair = regexp.MustCompile(`([a-z][a-z0-9-]*):(?:\s+|$)((?:"[^"]*"|'[^']*'|\s*[^\s"']+)?)`)

// takeConfig reads a line of CONFIG.
func (p *parser) takeConfig(line string) error {
	trimmed := strings.TrimSpace(line)
	switch word, _, _ := strings.Cut(trimmed, " "); word {
	case "CONFIG_END":
		p.state = inScenario
		return p.s.Settings.read(p.config)
	case "TEMPFILE_CONTENTS":
		p.inFile = true
		return nil
	case "TEMPFILE_END":
		p.inFile = false
		return nil
	}
	if p.inFile {
		return nil
	}
	trimmed = strings.TrimSpace(withoutComment(trimmed, ";#"))
	if trimmed == "" || strings.HasPrefix(trimmed, "TEMPFILE_NAME") {
		return nil
	}
	pairs, err := splitConfig(trimmed)
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		section := ""
		if n := len(p.config); n > 0 {
			section = p.config[n-1].section
		}
		if pair.value == "" {
			section = pair.key // "server:", "stub-zone:" and so on
		}
		p.config = append(p.config, setting{section: section, key: pair.key, value: pair.value})
	}
	return nil
}

// splitConfig takes a line apart into keys and values. Several keys may share a
// line after one that opens a section.
func splitConfig(line string) ([]setting, error) {
	key, rest, ok := strings.Cut(line, ":")
	if !ok {
		return nil, fmt.Errorf("%q is no option", line)
	}
	key, rest = strings.TrimSpace(key), strings.TrimSpace(rest)
	if !strings.HasSuffix(key, "-zone") || rest == "" {
		return []setting{{key: key, value: unquote(rest)}}, nil
	}
	pairs := []setting{{key: key}}
	for _, m := range configPair.FindAllStringSubmatch(rest, -1) {
		pairs = append(pairs, setting{key: m[1], value: unquote(m[2])})
	}
	return pairs, nil
}

func unquote(s string) string { return strings.Trim(strings.TrimSpace(s), `"'`) }

// ignored are options that change nothing of what a scenario shows of a resolver
// which does not have them, or that say what is so here anyhow.
var ignored = map[string]bool{
	"server": true, "stub-zone": true, "forward-zone": true,
	"target-fetch-policy": true, "minimal-responses": true, "iter-scrub-promiscuous": true,
	"rrset-roundrobin": true, "log-servfail": true, "val-log-level": true,
	"verbosity": true, "do-not-query-localhost": true, "harden-glue": true, "ede": true,
	"num-queries-per-thread": true, "stub-prime": true, "stub-name": true, "local-zone": true,
	"discard-timeout": true, "val-max-restart": true,
	// Hardening that asks more, or believes less, on the way to the same answer.
	"harden-referral-path": true, "harden-unverified-glue": true,
	"max-global-quota": true, "aggressive-nsec": true, "ede-serve-expired": true,
}

// read makes Settings of the pairs of CONFIG.
func (s *Settings) read(config []setting) error {
	s.Deckard = true
	for _, c := range config {
		s.Deckard = s.Deckard && c.section == ""
		if err := s.set(c); err != nil {
			return fmt.Errorf("%s: %q: %w", c.key, c.value, err)
		}
	}
	for _, rr := range s.Anchors {
		if ds, ok := rr.(*dns.DS); ok && ds.Algorithm == dns.DSA && s.fakes {
			s.lack("DSA, which testbound fakes")
		}
	}
	return nil
}

func (s *Settings) set(c setting) (err error) {
	yes := c.value == "yes"
	switch c.key {
	case "stub-zone":
		s.Stubs = append(s.Stubs, Zone{Name: "."})
	case "forward-zone":
		s.Forwards = append(s.Forwards, Zone{Name: "."})
	case "name":
		if z := s.zone(c.section); z != nil {
			z.Name = dns.CanonicalName(c.value)
		}
	case "stub-addr", "forward-addr":
		return s.server(c)
	case "forward-first":
		s.zone(c.section).First = yes
	case "trust-anchor":
		rr, err := readRecord(c.value)
		s.Anchors = append(s.Anchors, rr)
		return err
	case "domain-insecure":
		s.Insecure = append(s.Insecure, dns.CanonicalName(c.value))
	case "val-override-date", "val-override-timestamp":
		if c.value == "-1" {
			s.lack(c.key + ": -1") // signatures of any age
			return nil
		}
		s.Now, err = readDate(c.value)
	case "fake-sha1", "fake-dsa":
		s.fakes = yes
	case "query-minimization", "qname-minimisation":
		s.NoMinimisation = c.value == "off" || c.value == "no"
	case "do-ip4":
		s.NoIPv4 = !yes
	case "do-ip6":
		s.NoIPv6 = !yes
	case "private-address":
		var p netip.Prefix
		p, err = netip.ParsePrefix(c.value)
		s.PrivateAddresses = append(s.PrivateAddresses, p)
	case "private-domain":
		s.PrivateDomains = append(s.PrivateDomains, dns.CanonicalName(c.value))
	case "dns64-prefix":
		s.DNS64, err = netip.ParsePrefix(c.value)
		s.DNS64 = s.DNS64.Masked()
	case "access-control":
		return s.access(c.value)
	case "cache-min-ttl":
		s.MinTTL, err = seconds(c.value)
	case "cache-max-ttl":
		s.MaxTTL, err = seconds(c.value)
	case "cache-max-negative-ttl":
		s.MaxNegativeTTL, err = seconds(c.value)
	case "serve-expired":
		s.ServeExpired = yes
	case "serve-expired-client-timeout":
		var ms int
		ms, err = strconv.Atoi(c.value)
		s.ServeExpiredAfter = time.Duration(ms) * time.Millisecond
		if ms == 0 {
			s.lack(c.key + ": 0") // stale answers before the servers are asked
		}
	case "serve-expired-reply-ttl":
		s.ServeExpiredReplyTTL, err = seconds(c.value)
	case "serve-expired-ttl":
		s.ServeExpiredTTL, err = seconds(c.value)
	case "prefetch":
		s.Prefetch = yes
	case "features":
		return s.feature(c.value)
	case "module-config":
		if strings.Contains(c.value, "respip") {
			s.lack("module respip")
		}
	case "trust-anchor-signaling", "do-nat64", "answer-cookie":
		if yes {
			s.lack(c.key)
		}
	default:
		if !ignored[c.key] {
			s.lack(c.key)
		}
	}
	return err
}

// lack notes the first option that nobody but its inventor has.
func (s *Settings) lack(option string) {
	if s.Unsupported == "" {
		s.Unsupported = option
	}
}

// zone is the stub or forward zone that is being described.
func (s *Settings) zone(section string) *Zone {
	switch section {
	case "stub-zone":
		return &s.Stubs[len(s.Stubs)-1]
	case "forward-zone":
		return &s.Forwards[len(s.Forwards)-1]
	}
	return nil
}

// server is an address of a zone's server; outside of a section, as Deckard has
// it, of a root server.
func (s *Settings) server(c setting) error {
	host, _, _ := strings.Cut(c.value, "@")
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return err
	}
	z := s.zone(c.section)
	if z == nil {
		if len(s.Stubs) == 0 {
			s.Stubs = append(s.Stubs, Zone{Name: "."})
		}
		z = &s.Stubs[0]
	}
	z.Servers = append(z.Servers, addr)
	return nil
}

func (s *Settings) access(value string) error {
	who, what, _ := strings.Cut(value, " ")
	switch strings.TrimSpace(what) {
	case "allow_snoop":
		s.Snooping = true
		return nil
	case "allow":
		return nil // all are allowed
	}
	p, err := netip.ParsePrefix(who)
	s.Refused = append(s.Refused, p)
	return err
}

// feature is an option of Deckard's, such as "min_ttl = 300".
func (s *Settings) feature(value string) (err error) {
	key, v, _ := strings.Cut(value, "=")
	v = strings.TrimSpace(v)
	switch key = strings.TrimSpace(key); key {
	case "min_ttl":
		s.MinTTL, err = seconds(v)
	case "max_ttl":
		s.MaxTTL, err = seconds(v)
	default:
		s.lack("feature " + key)
	}
	return err
}

func seconds(s string) (time.Duration, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	return time.Duration(n) * time.Second, err
}

// readDate reads the forms of an RRSIG's dates (RFC 4034 §3.2).
func readDate(s string) (time.Time, error) {
	if len(s) == 14 {
		return time.Parse("20060102150405", s)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return time.Unix(n, 0).UTC(), err
}
