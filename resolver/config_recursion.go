package resolver

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
	"cordon/resolver/iterate"
	"cordon/resolver/wire"
)

// Following is how what is known follows what the zones have, and what they are
// told.
type Following struct {
	AnchorState  string `yaml:"anchor_state"`   // file that keeps what was learned of the anchors' keys (RFC 5011); empty: they are not followed
	Signals      *bool  `yaml:"anchor_signals"` // tell the anchors' zones which keys are trusted (RFC 8145); default true
	ReportErrors bool   `yaml:"report_errors"`  // tell agents what does not validate (RFC 9567)
	Prefetch     *bool  `yaml:"prefetch"`       // look answers up anew that are asked for shortly before they end; default true
}

// ZoneConfig is a stub or forward zone.
type ZoneConfig struct {
	Name    string   `yaml:"name"`    // of the zone; "." for everything
	Servers []string `yaml:"servers"` // addresses, with a port if it is not 53
	// First, of a forward zone: go to the authoritative servers when these give
	// nothing.
	First bool `yaml:"first"`
}

// NegativeAnchorConfig is a name at and below which nothing is validated, as its
// signatures are known to be broken (RFC 7646).
type NegativeAnchorConfig struct {
	Name  string    `yaml:"name"`
	Until time.Time `yaml:"until"` // required: what is broken is not to stay unnoticed
}

// check finds out whether the settings can be used; the rest of it is done by
// iterate.New.
func (c *Recursion) check() error {
	for setting, zones := range map[string][]ZoneConfig{"stub_zones": c.StubZones, "forward_zones": c.ForwardZones} {
		for i, z := range zones {
			if _, err := z.addresses(); err != nil {
				return fmt.Errorf("%s[%d] (%s): %w", setting, i, z.Name, err)
			}
		}
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"per_zone", c.PerZone}, {"per_server", c.PerServer}} {
		if n.value < 0 || n.value > 1_000_000 {
			return fmt.Errorf("%s: %d; use 1 to 1000000", n.name, n.value)
		}
	}
	for i, n := range c.Negative {
		if n.Name == "" || n.Until.IsZero() {
			return fmt.Errorf("negative_trust_anchors[%d]: give a name and a time until which it holds, such as 2030-01-02T15:04:05Z", i)
		}
	}
	for _, d := range []struct {
		name       string
		value, max time.Duration
	}{
		{"min_ttl", c.MinTTL, time.Hour},
		{"max_ttl", c.MaxTTL, cache.MaxTTL},
		{"serve_stale", c.ServeStale, 7 * 24 * time.Hour},
		{"stale_ttl", c.StaleTTL, time.Hour},
		{"max_negative_ttl", c.MaxNegativeTTL, cache.MaxNegativeTTL},
	} {
		if d.value < 0 || d.value > d.max {
			return fmt.Errorf("%s: %s; use 0s to %s", d.name, d.value, d.max)
		}
	}
	return nil
}

// addresses are the servers of a zone.
func (z *ZoneConfig) addresses() ([]netip.AddrPort, error) {
	if z.Name == "" || len(z.Servers) == 0 {
		return nil, fmt.Errorf("give a name and at least one server")
	}
	var all []netip.AddrPort
	for _, s := range z.Servers {
		if addr, err := netip.ParseAddr(s); err == nil {
			all = append(all, netip.AddrPortFrom(addr, 53))
			continue
		}
		server, err := netip.ParseAddrPort(s)
		if err != nil {
			return nil, fmt.Errorf("server %q; use an address, such as 192.0.2.1, 192.0.2.1:5353 or [2001:db8::1]:53", s)
		}
		all = append(all, server)
	}
	return all, nil
}

// zones are stub and forward zones as iterate takes them.
func (c *Recursion) zones() (stubs []iterate.Stub, forwards []iterate.Forward, err error) {
	for _, z := range c.StubZones {
		servers, err := z.addresses()
		if err != nil {
			return nil, nil, err
		}
		stubs = append(stubs, iterate.Stub{Zone: z.Name, Servers: servers})
	}
	for _, z := range c.ForwardZones {
		servers, err := z.addresses()
		if err != nil {
			return nil, nil, err
		}
		forwards = append(forwards, iterate.Forward{Zone: z.Name, Servers: servers, First: z.First})
	}
	return stubs, forwards, nil
}

// negativeAnchors are the negative trust anchors as iterate takes them.
func (c *Recursion) negativeAnchors() []iterate.NegativeAnchor {
	var all []iterate.NegativeAnchor
	for _, n := range c.Negative {
		all = append(all, iterate.NegativeAnchor{Name: n.Name, Until: n.Until})
	}
	return all
}

// zoneSet is a set of zones by apex, in wire form and lower case.
type zoneSet map[string]bool

// elsewhere are the stub and forward zones. A forward for everything is not one
// of them: special-use names stay here (RFC 6761).
func (c *Recursion) elsewhere() (zoneSet, error) {
	set := zoneSet{}
	for _, z := range slices.Concat(c.StubZones, c.ForwardZones) {
		apex, err := wire.ParseName(strings.ToLower(dns.Fqdn(z.Name)))
		if err != nil {
			return nil, fmt.Errorf("recursion: zone %q: %w", z.Name, err)
		}
		if len(apex) > 1 {
			set[string(apex)] = true
		}
	}
	return set, nil
}

// has says whether name, in wire form and lower case, is at or below a zone of
// the set. It does not allocate.
func (s zoneSet) has(name []byte) bool {
	if len(s) == 0 {
		return false
	}
	for off := 0; off < len(name); off += 1 + int(name[off]) {
		if s[string(name[off:])] {
			return true
		}
	}
	return false
}
