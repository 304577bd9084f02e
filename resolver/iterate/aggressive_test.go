package iterate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// What is proven once is asked no more: not for other names in the same span, not
// for other types, and not for names below a wildcard that is known.
func TestProvenDenialsAnswerForNamesNeverAsked(t *testing.T) {
	for _, mode := range []string{"NSEC", "NSEC3"} {
		t.Run(mode, func(t *testing.T) {
			n, _, _ := smallInternet(t, denialModes[mode])
			r := n.resolver()
			for i := range 4 * 26 { // until all spans are known
				ask(t, r, fmt.Sprintf("%cz%d.example.com. A", 'a'+i%26, i))
				ask(t, r, fmt.Sprintf("%cz%d.wild.example.com. A", 'a'+i%26, i))
			}
			n.queries()
			expect(t, ask(t, r, "never.example.com. A"), dns.RcodeNameError, dnssec.Secure)
			expect(t, ask(t, r, "deep.below.never.example.com. MX"), dns.RcodeNameError, dnssec.Secure)
			expect(t, ask(t, r, "example.com. MX"), dns.RcodeSuccess, dnssec.Secure)
			expect(t, ask(t, r, "another.wild.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.9")
			if q := n.queries(); len(q) > 0 {
				t.Errorf("asked %v", q)
			}
			expect(t, ask(t, r, "www.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
		})
	}
}

// An opt-out span may hide unsigned delegations (RFC 8198 §5.4), and an unsigned
// zone proves nothing.
func TestNothingIsDeducedWithoutFullProof(t *testing.T) {
	for _, mode := range []string{"opt-out", "unsigned"} {
		t.Run(mode, func(t *testing.T) {
			n, _, _ := smallInternet(t, denialModes[mode])
			r := n.resolver()
			for i := range 20 {
				ask(t, r, fmt.Sprintf("none%d.example.com. A", i))
			}
			n.queries()
			ask(t, r, "never.example.com. A")
			if len(n.queries()) == 0 {
				t.Error("deduced")
			}
		})
	}
}

func TestDeductionsEndWithTheirProof(t *testing.T) {
	n, example, _ := smallInternet(t, withNSEC)
	r := n.resolver()
	ask(t, r, "none.example.com. A")
	res := ask(t, r, "nona.example.com. A")
	if res.TTL > 300*time.Second || res.Rcode != dns.RcodeNameError {
		t.Fatalf("%s for %v, and the SOA allows five minutes", dns.RcodeToString[res.Rcode], res.TTL)
	}
	example.add("nonb A 192.0.2.33")
	clear(example.sigs)
	n.pass(301 * time.Second)
	expect(t, ask(t, r, "nonb.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.33")
}

// What is configured to be had from elsewhere, or not to be validated, is not
// denied by its parent's proofs.
func TestNothingIsDeducedAcrossAConfiguredZone(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	n.zones["priv.example.com."] = &authZone{n: n, name: "priv.example.com.", rrs: map[string]map[uint16][]dns.RR{}, sigs: map[string]*dns.RRSIG{}, ttl: 60}
	n.zones["priv.example.com."].add("@ SOA a b 1 2 3 4 5", "www A 10.0.0.1")
	n.serve(n.zones["priv.example.com."], "10.9.9.9")
	r := n.resolver(func(c *Config) {
		c.Stubs = []Stub{{"priv.example.com.", at("10.9.9.9:53")}}
		c.NegativeAnchors = []NegativeAnchor{{Name: "priv.example.com."}}
	})
	for i := range 20 {
		ask(t, r, fmt.Sprintf("p%d.example.com. A", i))
	}
	expect(t, ask(t, r, "www.priv.example.com. A"), dns.RcodeSuccess, dnssec.Insecure, "10.0.0.1")
}

// Trying to deduce must not use up what validation needs.
func TestLongNamesBelowNSEC3AreStillValidated(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC3)
	r := n.resolver(func(c *Config) { c.NoMinimisation = true })
	for i := range 12 {
		name := fmt.Sprintf("%s%d.example.com. A", strings.Repeat("a.", 110), i)
		expect(t, ask(t, r, name), dns.RcodeNameError, dnssec.Secure)
	}
}
