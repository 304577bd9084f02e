package iterate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// Tests that docs/pitfalls.md asks for and that belong to no other file.

// CVE-2021-25220: a forwarder may speak for the zone that is forwarded to it, and
// for no other.
func TestAForwarderSpeaksForItsZoneOnly(t *testing.T) {
	n, _, _ := smallInternet(t, unsigned)
	withForwarder(t, n)
	honest := n.server(forwarderAddr).behave
	n.server(forwarderAddr).behave = func(q *dns.Msg, stream bool, own func() *dns.Msg) (*dns.Msg, error) {
		m, err := honest(q, stream, own)
		m.Answer = append(m.Answer, mustRecord(t, "web.plain.org. A 203.0.113.66"))
		m.Ns = append(m.Ns, mustRecord(t, "plain.org. NS ns.evil.org."), mustRecord(t, ". NS ns.evil.org."))
		m.Extra = append(m.Extra, mustRecord(t, "web.plain.org. A 203.0.113.66"), mustRecord(t, "ns1.plain.org. A 203.0.113.66"))
		return m, err
	}
	r := n.resolver(func(c *Config) { c.Forwards = []Forward{{Zone: "example.com.", Servers: at(forwarderAddr + ":53")}} })
	expect(t, ask(t, r, "www.example.com. A"), dns.RcodeSuccess, dnssec.Insecure, "192.0.2.80")
	expect(t, ask(t, r, "away.example.com. A"), dns.RcodeSuccess, dnssec.Insecure, "web.plain.org.", "203.0.113.80")
	expect(t, ask(t, r, "web.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.80")
	for _, s := range n.queries() {
		if s.server.String() == "203.0.113.66" {
			t.Errorf("asked the server that the forwarder named: %v", s)
		}
	}
}

// A dot within a label parts nothing (RFC 2181 §11).
func TestADotWithinALabelMakesAnotherName(t *testing.T) {
	n, example, plain := smallInternet(t, withNSEC)
	plain.add(`a\.b A 203.0.113.11`, "a.b A 203.0.113.12")
	example.add(`c\.d CNAME `+`a\.b.plain.org.`, `e\000f A 192.0.2.13`)
	r := n.resolver()
	for range 2 { // fresh, and from the cache
		expect(t, ask(t, r, `a\.b.plain.org. A`), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.11")
		expect(t, ask(t, r, "a.b.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.12")
		expect(t, ask(t, r, `c\.d.example.com. A`), dns.RcodeSuccess, dnssec.Insecure, `a\.b.plain.org.`, "203.0.113.11")
		expect(t, ask(t, r, `e\000f.example.com. A`), dns.RcodeSuccess, dnssec.Secure, "192.0.2.13")
		expect(t, ask(t, r, "c.d.example.com. A"), dns.RcodeNameError, dnssec.Secure)
	}
}

// CVE-2024-1737: sets of thousands of records cost every question about them.
func TestASetOfTooManyRecordsIsNotTaken(t *testing.T) {
	n, _, plain := smallInternet(t, withNSEC)
	for i := range maxRecords + 1 {
		plain.add(fmt.Sprintf("huge A 203.0.%d.%d", i>>8, i&255))
		if i > 0 {
			plain.add(fmt.Sprintf("large A 203.0.%d.%d", i>>8, i&255))
		}
	}
	r := n.resolver()
	expectFailure(t, ask(t, r, "huge.plain.org. A"), dns.ExtendedErrorCodeNetworkError)
	if _, down := r.servers.rank(netip.MustParseAddr(otherAddr), "plain.org."); down {
		t.Error("the server counts as lame for the whole zone")
	}
	if res := ask(t, r, "large.plain.org. A"); len(res.Answer) != maxRecords {
		t.Errorf("%d records of the most that are allowed, %v", len(res.Answer), res.EDE)
	}
	expect(t, ask(t, r, "web.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.80")
}

// Twenty name servers with one address are one server, and a server that fails in
// whatever way is asked a few times and no more (CVE-2026-5950).
func TestAZoneWhoseServersFailCostsAFewQueries(t *testing.T) {
	for name, behave := range map[string]func(*dns.Msg, bool, func() *dns.Msg) (*dns.Msg, error){
		"silent": silent,
		"SERVFAIL": func(q *dns.Msg, _ bool, _ func() *dns.Msg) (*dns.Msg, error) {
			return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure), nil
		},
		"FORMERR": func(q *dns.Msg, _ bool, _ func() *dns.Msg) (*dns.Msg, error) {
			return new(dns.Msg).SetRcode(q, dns.RcodeFormatError), nil
		},
		"truncated for ever": func(q *dns.Msg, _ bool, _ func() *dns.Msg) (*dns.Msg, error) {
			m := new(dns.Msg).SetReply(q)
			m.Truncated = true
			return m, nil
		},
		"a referral to itself": func(q *dns.Msg, _ bool, _ func() *dns.Msg) (*dns.Msg, error) {
			m := new(dns.Msg).SetReply(q)
			m.Ns = []dns.RR{mustRecord(t, "plain.org. NS ns1.plain.org.")}
			return m, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			n, _, _ := smallInternet(t, withNSEC)
			for i := range 20 {
				n.zones["org."].add(fmt.Sprintf("plain.org. NS n%d.plain.org.", i), fmt.Sprintf("n%d.plain.org. A %s", i, otherAddr))
			}
			n.server(otherAddr).behave = behave
			r := n.resolver()
			if res := ask(t, r, "web.plain.org. A"); res.Rcode != dns.RcodeServerFailure {
				t.Errorf("%s", dns.RcodeToString[res.Rcode])
			}
			sent := 0
			for _, s := range n.queries() {
				if s.server.String() == otherAddr {
					sent++
				}
			}
			if sent == 0 || sent > 2*maxTries {
				t.Errorf("asked %d times", sent)
			}
		})
	}
}

// RFC 6604 §3.
func TestTheRcodeIsThatOfTheLastNameOfAChain(t *testing.T) {
	n, example, plain := smallInternet(t, withNSEC)
	example.add("tonone CNAME none.plain.org.", "toempty CNAME www")
	plain.add("tonone CNAME none.example.com.", "tobroken CNAME x.dead.plain.org.", "dead NS ns.dead", "ns.dead A 203.0.113.99")
	r := n.resolver()
	for range 2 { // fresh, and from the cache
		expect(t, ask(t, r, "tonone.example.com. A"), dns.RcodeNameError, dnssec.Insecure, "none.plain.org.")
		expect(t, ask(t, r, "tonone.plain.org. A"), dns.RcodeNameError, dnssec.Insecure, "none.example.com.")
		expect(t, ask(t, r, "toempty.example.com. MX"), dns.RcodeSuccess, dnssec.Secure, "www.example.com.")
		expect(t, ask(t, r, "nope.old.example.com. A"), dns.RcodeNameError, dnssec.Secure, "new.example.com.", "nope.new.example.com.")
		expectFailure(t, ask(t, r, "tobroken.plain.org. A"), dns.ExtendedErrorCodeNoReachableAuthority)
	}
}

// RFC 9156 §2.3: whatever the number of labels.
func TestMinimisationTakesABoundedNumberOfSteps(t *testing.T) {
	n, _, plain := smallInternet(t, withNSEC)
	deep := strings.Repeat("a.", 100)
	plain.add(deep + "plain.org. A 203.0.113.14")
	expect(t, ask(t, n.resolver(), deep+"plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.14")
	sent := 0
	for _, s := range n.queries() {
		if s.server.String() == otherAddr {
			sent++
		}
	}
	if sent < 2 || sent > minimiseMax+1 {
		t.Errorf("%d queries for a name of 102 labels", sent)
	}
}

// CVE-2026-1519: the limit on iterations holds for the proof of an unsigned
// delegation too, and a signature that does not hold waives nothing.
func TestCostlyNSEC3AtADelegationIsInsecureButOnlyWhenSigned(t *testing.T) {
	build := func() *internet {
		n, _, _ := smallInternet(t, unsigned)
		n.zones["com."].iterations = dnssec.MaxIterations + 1
		return n
	}
	expect(t, ask(t, build().resolver(), "www.example.com. A"), dns.RcodeSuccess, dnssec.Insecure, "192.0.2.80")

	n, _, _ := smallInternet(t, unsigned)
	n.server(tldAddr).behave = func(_ *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		for _, rr := range m.Ns {
			if x, ok := rr.(*dns.NSEC3); ok {
				x.Iterations = 2500 // after signing
			}
		}
		return m, nil
	}
	expectFailure(t, ask(t, n.resolver(), "www.example.com. A"), dns.ExtendedErrorCodeNSECMissing)
}

// CVE-2026-50243: a rule that hangs on resolved data does not make it good. The
// alias is forged, so where it leads is not even asked about.
func TestABogusAliasStaysBogusWhereverItLeads(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	n.server(exampleAddr).behave = func(_ *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		for _, rr := range m.Answer {
			if c, ok := rr.(*dns.CNAME); ok {
				c.Target = "listed.plain.org."
			}
		}
		return m, nil
	}
	r := n.resolver()
	for range 2 { // fresh, and from the cache
		res := ask(t, r, "alias.example.com. A", func(q *Request) {
			q.Stop = func(target string) bool { t.Errorf("asked about %s", target); return true }
		})
		expectFailure(t, res, dns.ExtendedErrorCodeDNSBogus)
		if res.Stopped != "" || res.Status != dnssec.Bogus {
			t.Errorf("stopped at %q, %s", res.Stopped, res.Status)
		}
	}
}
