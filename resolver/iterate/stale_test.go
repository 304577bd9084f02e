package iterate

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

func TestOldAnswersStandInForServersThatDoNotAnswer(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	r := n.resolver(func(c *Config) { c.ServeStale = 24 * time.Hour })
	questions := map[string]int{"web.plain.org. A": dns.RcodeSuccess, "none.plain.org. A": dns.RcodeNameError, "web.plain.org. MX": dns.RcodeSuccess, "alias.example.com. A": dns.RcodeSuccess}
	for q := range questions {
		ask(t, r, q)
	}
	n.pass(2 * time.Hour)
	n.server(otherAddr).behave, n.server(exampleAddr).behave = silent, silent
	for q, rcode := range questions {
		res := ask(t, r, q)
		if res.Rcode != rcode || res.TTL != 30*time.Second || len(res.EDE) == 0 {
			t.Errorf("%s: %s for %v, %v", q, dns.RcodeToString[res.Rcode], res.TTL, res.EDE)
			continue
		}
		want := dns.ExtendedErrorCodeStaleAnswer
		if rcode == dns.RcodeNameError {
			want = dns.ExtendedErrorCodeStaleNXDOMAINAnswer
		}
		if res.EDE[0].Code != want {
			t.Errorf("%s: EDE %v, want %d", q, res.EDE, want)
		}
	}
	n.server(otherAddr).behave = nil
	n.pass(time.Minute)
	if res := ask(t, r, "web.plain.org. A"); res.TTL == 30*time.Second || len(res.EDE) > 0 {
		t.Errorf("still old although the server is back: %v %v", res.TTL, res.EDE)
	}
}

func TestOldAnswersHaveAnEndAndDoNotHideFailedValidation(t *testing.T) {
	n, example, _ := smallInternet(t, withNSEC)
	r := n.resolver(func(c *Config) { c.ServeStale = 24 * time.Hour })
	ask(t, r, "www.example.com. A")
	ask(t, r, "web.plain.org. A")
	n.pass(2 * time.Hour)
	example.valid[1] = n.clock().Add(-time.Hour)
	expectFailure(t, ask(t, r, "www.example.com. A"), dns.ExtendedErrorCodeSignatureExpired)
	n.pass(24 * time.Hour)
	n.server(otherAddr).behave = silent
	expectFailure(t, ask(t, r, "web.plain.org. A"), dns.ExtendedErrorCodeNoReachableAuthority)
}

// RFC 8509: a name tells whether a key of the root is trusted.
func TestSentinelTellsWhichRootKeysAreTrusted(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	known := n.zones["."].key.KeyTag()
	r := n.resolver()
	for _, c := range []struct {
		kind    string
		tag     uint16
		resolve bool
	}{
		{"is", known, true}, {"is", known + 1, false}, {"not", known, false}, {"not", known + 1, true},
	} {
		label := fmt.Sprintf("root-key-sentinel-%s-ta-%05d", c.kind, c.tag)
		n.zones["example.com."].add(label + " A 192.0.2.44")
		clear(n.zones["example.com."].sigs)
		res := ask(t, r, label+".example.com. A")
		if (res.Rcode == dns.RcodeSuccess) != c.resolve {
			t.Errorf("%s: %s", label, dns.RcodeToString[res.Rcode])
		}
		expect(t, ask(t, r, label+".example.com. A", checkingDisabled), dns.RcodeSuccess, dnssec.Secure, "192.0.2.44")
	}
}

// A server that only the zone itself names is asked when the delegation's is
// gone, and not for longer than the delegation holds.
func TestServersThatOnlyTheChildNamesAreTheLastResort(t *testing.T) {
	n, _, plain := smallInternet(t, withNSEC)
	plain.add("@ NS ns.elsewhere.org.", "@ A 203.0.113.80")
	n.zone("elsewhere.org.", unsigned, "203.0.113.70").add("ns A 203.0.113.71")
	n.serve(plain, "203.0.113.71")
	r := n.resolver()
	ask(t, r, "plain.org. NS")
	n.server(otherAddr).behave = silent
	expect(t, ask(t, r, "web.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.80")
}
