package iterate

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

func at(all ...string) (parsed []netip.AddrPort) {
	for _, s := range all {
		parsed = append(parsed, netip.MustParseAddrPort(s))
	}
	return parsed
}

const forwarderAddr = "10.0.0.53"

// withForwarder puts a resolver that validates nothing into the internet.
func withForwarder(t *testing.T, n *internet) (asked *[]*dns.Msg) {
	t.Helper()
	upstream := n.resolver(func(c *Config) { c.Anchors = nil })
	asked = new([]*dns.Msg)
	n.server(forwarderAddr).behave = func(q *dns.Msg, _ bool, _ func() *dns.Msg) (*dns.Msg, error) {
		*asked = append(*asked, q)
		res := upstream.Resolve(t.Context(), Request{Question: Question{q.Question[0].Name, q.Question[0].Qtype}, CheckingDisabled: true})
		m := new(dns.Msg).SetReply(q)
		m.RecursionAvailable, m.Rcode, m.Answer, m.Ns = true, res.Rcode, res.Answer, res.Authority
		return m, nil
	}
	return asked
}

func TestForwardZonesAreAskedRecursivelyAndValidated(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	asked := withForwarder(t, n)
	r := n.resolver(func(c *Config) { c.Forwards = []Forward{{Zone: ".", Servers: at(forwarderAddr + ":53")}} })
	expect(t, ask(t, r, "www.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
	expect(t, ask(t, r, "none.example.com. A"), dns.RcodeNameError, dnssec.Secure)
	expect(t, ask(t, r, "back.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "www.example.com.", "192.0.2.80")
	for _, q := range *asked {
		if !q.RecursionDesired || !q.CheckingDisabled {
			t.Errorf("asked without RD or CD: %v", q)
		}
	}
}

func TestForgedAnswersOfAForwarderAreBogus(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	withForwarder(t, n)
	honest := n.server(forwarderAddr).behave
	n.server(forwarderAddr).behave = func(q *dns.Msg, stream bool, own func() *dns.Msg) (*dns.Msg, error) {
		m, err := honest(q, stream, own)
		for _, rr := range m.Answer {
			if a, ok := rr.(*dns.A); ok {
				a.A = netip.MustParseAddr("203.0.113.66").AsSlice()
			}
		}
		return m, err
	}
	r := n.resolver(func(c *Config) { c.Forwards = []Forward{{Zone: ".", Servers: at(forwarderAddr + ":53")}} })
	expectFailure(t, ask(t, r, "www.example.com. A"), dns.ExtendedErrorCodeDNSBogus)
}

func TestForwardFirstGoesToTheInternetWhenTheForwarderFails(t *testing.T) {
	for _, first := range []bool{false, true} {
		n, _, _ := smallInternet(t, withNSEC)
		n.server(forwarderAddr).behave = silent
		r := n.resolver(func(c *Config) {
			c.Forwards = []Forward{{Zone: "example.com.", Servers: at(forwarderAddr + ":53"), First: first}}
		})
		res := ask(t, r, "www.example.com. A")
		if first {
			expect(t, res, dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
		} else {
			expectFailure(t, res, dns.ExtendedErrorCodeNoReachableAuthority)
		}
	}
}

// A stub's servers are asked at their own port, without recursion, and wherever
// they are.
func TestStubZonesAreAskedAtTheirOwnServers(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	n.serve(n.zones["example.com."], "10.1.2.3")
	n.server(exampleAddr).behave = silent
	r := n.resolver(func(c *Config) { c.Stubs = []Stub{{"example.com", at("10.1.2.3:5353")}} })
	expect(t, ask(t, r, "www.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
	expect(t, ask(t, r, "none.example.com. A"), dns.RcodeNameError, dnssec.Secure)
}

// The parent proves that a private zone does not exist: only a negative trust
// anchor makes it believable.
func TestPrivateZonesNeedANegativeTrustAnchor(t *testing.T) {
	for _, negative := range []bool{false, true} {
		n, _, _ := smallInternet(t, withNSEC)
		priv := &authZone{n: n, name: "corp.", rrs: map[string]map[uint16][]dns.RR{}, sigs: map[string]*dns.RRSIG{}, ttl: 60}
		priv.add("@ SOA a b 1 2 3 4 5", "www A 10.0.0.1")
		n.serve(priv, "10.9.9.9")
		r := n.resolver(func(c *Config) {
			c.Stubs = []Stub{{"corp.", at("10.9.9.9:53")}}
			if negative {
				c.NegativeAnchors = []NegativeAnchor{{Name: "corp."}}
			}
		})
		res := ask(t, r, "www.corp. A")
		if negative {
			expect(t, res, dns.RcodeSuccess, dnssec.Insecure, "10.0.0.1")
		} else {
			expectFailure(t, res, dns.ExtendedErrorCodeNSECMissing)
		}
	}
}

func TestNegativeTrustAnchorHoldsUntilItsEnd(t *testing.T) {
	n, example, _ := smallInternet(t, withNSEC)
	example.valid[1] = n.clock().Add(-time.Hour) // its signatures have run out
	r := n.resolver(func(c *Config) {
		c.NegativeAnchors = []NegativeAnchor{{Name: "Example.com", Until: n.clock().Add(10 * time.Minute)}}
	})
	res := ask(t, r, "www.example.com. A")
	expect(t, res, dns.RcodeSuccess, dnssec.Insecure, "192.0.2.80")
	if len(res.EDE) != 1 || res.EDE[0].Code != 33 { // Negative Trust Anchor
		t.Errorf("extended errors %v, want 33 alone", res.EDE)
	}
	n.pass(11 * time.Minute)
	expectFailure(t, ask(t, r, "alias.example.com. A"), dns.ExtendedErrorCodeSignatureExpired)
}

func TestPrivateAddressesAreWithheld(t *testing.T) {
	n, example, plain := smallInternet(t, withNSEC)
	plain.add("in A 10.0.0.1", "mixed A 10.0.0.1", "mixed A 203.0.113.8", "in AAAA ::ffff:10.0.0.1", "svc HTTPS 1 . ipv4hint=10.0.0.1", "ok.home A 10.0.0.2")
	example.add("signed A 10.0.0.1", "signed A 192.0.2.3")
	r := n.resolver(func(c *Config) {
		c.PrivateAddresses = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		c.PrivateDomains = []string{"home.plain.org"}
	})
	for range 2 { // fresh, and from the cache
		expect(t, ask(t, r, "in.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure)
		expect(t, ask(t, r, "in.plain.org. AAAA"), dns.RcodeSuccess, dnssec.Insecure)
		expect(t, ask(t, r, "svc.plain.org. HTTPS"), dns.RcodeSuccess, dnssec.Insecure)
		expect(t, ask(t, r, "mixed.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.8")
		expect(t, ask(t, r, "signed.example.com. A"), dns.RcodeSuccess, dnssec.Insecure, "192.0.2.3")
		expect(t, ask(t, r, "ok.home.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "10.0.0.2")
		expect(t, ask(t, r, "in.plain.org. A", checkingDisabled), dns.RcodeSuccess, dnssec.Insecure)
	}
}

func TestConfigurationThatCannotBeMeantIsRefused(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	good := at("10.0.0.1:53")
	for want, change := range map[string]func(*Config){
		"twice":      func(c *Config) { c.Stubs = []Stub{{"a.", good}}; c.Forwards = []Forward{{Zone: "A", Servers: good}} },
		"no servers": func(c *Config) { c.Stubs = []Stub{{Zone: "a."}} },
		"root hints": func(c *Config) { c.Stubs = []Stub{{".", good}} },
		"no domain":  func(c *Config) { c.NegativeAnchors = []NegativeAnchor{{Name: strings.Repeat("a", 70)}} },
		"DNS64":      func(c *Config) { c.DNS64 = netip.MustParsePrefix("64:ff9b::/95") },
	} {
		c := Config{Exchange: n, Clock: n.clock, Roots: []dns.RR{mustRecord(t, ". NS a.root."), mustRecord(t, "a.root. A "+rootAddr)}}
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
