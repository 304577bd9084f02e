package iterate

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// The table of RFC 6052 §2.4.
func TestIPv4AddressesAreEmbeddedAsRFC6052Says(t *testing.T) {
	for prefix, want := range map[string]string{
		"2001:db8::/32":         "2001:db8:c000:221::",
		"2001:db8:100::/40":     "2001:db8:1c0:2:21::",
		"2001:db8:122::/48":     "2001:db8:122:c000:2:2100::",
		"2001:db8:122:300::/56": "2001:db8:122:3c0:0:221::",
		"2001:db8:122:344::/64": "2001:db8:122:344:c0:2:2100:0",
		"2001:db8:122:344::/96": "2001:db8:122:344::192.0.2.33",
	} {
		p := netip.MustParsePrefix(prefix)
		got, ok := embed(p, []byte{192, 0, 2, 33})
		if !ok || got != netip.MustParseAddr(want) {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
		reverse, err := dns.ReverseAddr(got.String())
		if err != nil {
			t.Fatal(err)
		}
		if back, ok := reverseIPv4(p, reverse); !ok || back != "33.2.0.192.in-addr.arpa." {
			t.Errorf("%s back: %q", got, back)
		}
	}
	if got, ok := embed(wellKnown, []byte{10, 0, 0, 1}); ok {
		t.Errorf("a private address behind the well-known prefix: %s", got)
	}
	for _, name := range []string{"ip6.arpa.", "1.0.0.127.in-addr.arpa.", "x.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.b.9.f.f.4.6.0.0.ip6.arpa."} {
		if back, ok := reverseIPv4(wellKnown, name); ok {
			t.Errorf("%s: %s", name, back)
		}
	}
}

func TestDNS64StandsInWhereThereIsNoIPv6(t *testing.T) {
	n, _, plain := smallInternet(t, withNSEC)
	plain.add("alias CNAME web", "mapped AAAA ::ffff:203.0.113.9", "mapped A 203.0.113.9")
	r := n.resolver(func(c *Config) { c.DNS64 = wellKnown })
	expect(t, ask(t, r, "www.example.com. AAAA"), dns.RcodeSuccess, dnssec.Secure, "2001:db8::80")
	expect(t, ask(t, r, "web.plain.org. AAAA"), dns.RcodeSuccess, dnssec.Insecure, "64:ff9b::cb00:7150")
	expect(t, ask(t, r, "alias.plain.org. AAAA"), dns.RcodeSuccess, dnssec.Insecure, "web.plain.org.", "64:ff9b::cb00:7150")
	expect(t, ask(t, r, "mapped.plain.org. AAAA"), dns.RcodeSuccess, dnssec.Insecure, "64:ff9b::cb00:7109")
	expect(t, ask(t, r, "none.plain.org. AAAA"), dns.RcodeNameError, dnssec.Insecure)
	expect(t, ask(t, r, "web.plain.org. AAAA", checkingDisabled), dns.RcodeSuccess, dnssec.Insecure)
	// What was signed as A is no signed AAAA.
	res := ask(t, r, "alias.example.com. A")
	expect(t, res, dns.RcodeSuccess, dnssec.Secure, "www.example.com.", "192.0.2.80")
}

func TestDNS64DoesNotHideFailedValidation(t *testing.T) {
	n, example, _ := smallInternet(t, withNSEC)
	example.remove("www.example.com.", dns.TypeAAAA)
	n.server(exampleAddr).behave = func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		if q.Question[0].Qtype == dns.TypeAAAA {
			m.Ns = nil
		}
		return m, nil
	}
	r := n.resolver(func(c *Config) { c.DNS64 = wellKnown })
	expectFailure(t, ask(t, r, "www.example.com. AAAA"), dns.ExtendedErrorCodeNSECMissing)
}
