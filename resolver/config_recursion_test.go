package resolver

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"cordon/resolver/wire"
)

func TestServersOfZonesMayHaveAPort(t *testing.T) {
	c := Recursion{
		StubZones:    []ZoneConfig{{Name: "corp.example", Servers: []string{"10.0.0.1", "10.0.0.2:5353", "2001:db8::1", "[2001:db8::2]:5353"}}},
		ForwardZones: []ZoneConfig{{Name: ".", Servers: []string{"192.0.2.1"}, First: true}},
	}
	stubs, forwards, err := c.zones()
	if err != nil || len(stubs) != 1 || len(forwards) != 1 || !forwards[0].First {
		t.Fatal(stubs, forwards, err)
	}
	for i, want := range []string{"10.0.0.1:53", "10.0.0.2:5353", "[2001:db8::1]:53", "[2001:db8::2]:5353"} {
		if stubs[0].Servers[i] != netip.MustParseAddrPort(want) {
			t.Errorf("%s, want %s", stubs[0].Servers[i], want)
		}
	}
}

func TestRecursionErrorsNameSettingAndRemedy(t *testing.T) {
	until := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for want, c := range map[string]Recursion{
		"stub_zones[0] (a.): give a name":              {StubZones: []ZoneConfig{{Name: "a."}}},
		"forward_zones[1] (b.): server \"ns.b.\"; use": {ForwardZones: []ZoneConfig{{Name: "a.", Servers: []string{"192.0.2.1"}}, {Name: "b.", Servers: []string{"ns.b."}}}},
		"negative_trust_anchors[1]: give a name":       {Negative: []NegativeAnchorConfig{{"a.", until}, {Name: "b."}}},
		"max_ttl: 48h0m0s; use 0s to 24h":              {MaxTTL: 48 * time.Hour},
		"min_ttl: -1s":                                 {MinTTL: -time.Second},
		"serve_stale: 240h":                            {ServeStale: 240 * time.Hour},
	} {
		if err := c.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := (&Recursion{Negative: []NegativeAnchorConfig{{"a.", until}}, ServeStale: time.Hour, MaxTTL: time.Hour}).check(); err != nil {
		t.Error(err)
	}
}

// A stub for a private reverse zone would be of no use behind the empty zone of
// RFC 6303.
func TestConfiguredZonesComeBeforeLocalOnes(t *testing.T) {
	c := Recursion{
		StubZones:    []ZoneConfig{{Name: "10.IN-ADDR.arpa", Servers: []string{"10.0.0.1"}}},
		ForwardZones: []ZoneConfig{{Name: ".", Servers: []string{"192.0.2.1"}}},
	}
	set, err := c.elsewhere()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"1.0.0.10.in-addr.arpa.": true, "10.in-addr.arpa.": true, "110.in-addr.arpa.": false, "localhost.": false, ".": false} {
		wired, err := wire.ParseName(name)
		if err != nil {
			t.Fatal(err)
		}
		if set.has(wired) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
