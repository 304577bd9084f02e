package iterate

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
	"cordon/resolver/dnssec"
)

// NXNSAttack (CVE-2020-8616): a referral to many names of a victim's zone.
func TestReferralToManyNamesOfAVictimCostsItFewQueries(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	evil := n.zone("evil.org.", unsigned, "203.0.113.66")
	for i := range 200 {
		evil.add(fmt.Sprintf("sub NS ns%d.plain.org.", i))
	}
	r := n.resolver(func(c *Config) { c.DisableIPv6 = false })
	ask(t, r, "web.plain.org. A")
	n.queries()
	expectFailure(t, ask(t, r, "x.sub.evil.org. A"), dns.ExtendedErrorCodeOther)
	victim := 0
	for _, s := range n.queries() {
		if s.server.String() == otherAddr {
			victim++
		}
	}
	if victim > 10 {
		t.Errorf("the victim got %d queries", victim)
	}
}

// A tree of referrals that each need another, without end.
func TestQueriesOfARequestAreBoundedHoweverTheyArise(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	n.zone("evil.org.", unsigned, "203.0.113.66")
	i := 0
	n.server("203.0.113.66").behave = func(q *dns.Msg, _ bool, _ func() *dns.Msg) (*dns.Msg, error) {
		m := new(dns.Msg).SetReply(q)
		for range 10 {
			i++
			m.Ns = append(m.Ns, mustRecord(t, fmt.Sprintf("%s NS n.d%d.evil.org.", q.Question[0].Name, i)))
		}
		return m, nil
	}
	r := n.resolver()
	task := r.newTask(false)
	res := task.follow(t.Context(), Request{Question: Question{"x.evil.org.", dns.TypeA}})
	if res.Rcode != dns.RcodeServerFailure || len(res.EDE) != 1 {
		t.Errorf("%s %v", dns.RcodeToString[res.Rcode], res.EDE)
	}
	if sent := len(n.queries()); sent > r.config.Limits.Queries || task.spent.Queries != sent {
		t.Errorf("%d queries sent, %d counted, limit %d", sent, task.spent.Queries, r.config.Limits.Queries)
	}
}

func TestEachLimitEndsInSERVFAILThatNamesIt(t *testing.T) {
	for name, limit := range map[string]func(*Limits){
		"queries":    func(l *Limits) { l.Queries = 2 },
		"keys":       func(l *Limits) { l.Keys = 1 },
		"records":    func(l *Limits) { l.Records = 20 },
		"aliases":    func(l *Limits) { l.Aliases = 0 },
		"signatures": func(l *Limits) { l.Validation.Signatures = 2 },
		"digests":    func(l *Limits) { l.Validation.Digests = 1 },
		"hashes":     func(l *Limits) { l.Validation.Hashes = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			n, _, _ := smallInternet(t, withNSEC3)
			r := n.resolver(func(c *Config) {
				c.Limits = DefaultLimits()
				limit(&c.Limits)
			})
			question := "alias.example.com. A"
			if name == "hashes" {
				question = "none.example.com. A"
			}
			res := ask(t, r, question)
			expectFailure(t, res, dns.ExtendedErrorCodeOther)
			if res.Status == dnssec.Bogus {
				t.Error("what was not finished is called bogus")
			}
			// With allowance again, the same question resolves: nothing was poisoned
			// but the question itself, and that briefly.
			n.pass(failureTTL)
			r.config.Limits = DefaultLimits()
			if res := ask(t, r, question); res.Rcode == dns.RcodeServerFailure {
				t.Errorf("afterwards: %v", res.EDE)
			}
		})
	}
}

func TestDataOutsideTheZoneAskedIsNotKept(t *testing.T) {
	n, _, _ := smallInternet(t, unsigned)
	n.zone("evil.org.", unsigned, "203.0.113.66").add("www A 203.0.113.67", "toweb CNAME web.plain.org.")
	n.server("203.0.113.66").behave = func(_ *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		for _, s := range []string{"web.plain.org. A 203.0.113.66", "www.example.com. A 203.0.113.66", "org. DNAME evil.org."} {
			m.Answer = append(m.Answer, mustRecord(t, s))
			m.Extra = append(m.Extra, mustRecord(t, s))
		}
		for _, s := range []string{"plain.org. NS ns1.evil.org.", "org. NS ns1.evil.org.", ". NS ns1.evil.org.", "evil.org. NS ns.elsewhere.", "plain.org. DS 1 8 2 " + fmt.Sprintf("%064d", 0)} {
			m.Ns = append(m.Ns, mustRecord(t, s))
		}
		m.Extra = append(m.Extra, mustRecord(t, "ns1.plain.org. A 203.0.113.66"))
		return m, nil
	}
	r := n.resolver()
	expect(t, ask(t, r, "www.evil.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.67")
	expect(t, ask(t, r, "toweb.evil.org. A"), dns.RcodeSuccess, dnssec.Insecure, "web.plain.org.", "203.0.113.80")
	expect(t, ask(t, r, "web.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.80")
	expect(t, ask(t, r, "www.example.com. A"), dns.RcodeSuccess, dnssec.Insecure, "192.0.2.80")
	if z := r.newTask(false).knownZone("evil.org."); z == nil || len(z.ns) != 1 || z.ns[0] != "ns1.evil.org." {
		t.Errorf("the child's own NS replaced the delegation: %+v", z)
	}
}

func TestGlueIsForItsDelegationOnlyAndNeverAnAnswer(t *testing.T) {
	n, _, plain := smallInternet(t, withNSEC)
	plain.remove("ns1.plain.org.", dns.TypeA)
	plain.add("ns1 A 203.0.113.99") // the zone says otherwise than the parent's glue
	n.zone("evil.org.", unsigned, "203.0.113.66").add("sub NS ns1.plain.org.")
	n.server("203.0.113.66").behave = func(_ *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		m.Extra = append(m.Extra, mustRecord(t, "ns1.plain.org. A 203.0.113.77"))
		return m, nil
	}
	r := n.resolver()
	ask(t, r, "x.sub.evil.org. A")
	for _, s := range n.queries() {
		if s.server.String() == "203.0.113.77" {
			t.Errorf("glue for a name that the zone does not speak for was used: %v", s)
		}
	}
	expect(t, ask(t, r, "ns1.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.99")
	expect(t, ask(t, r, "web.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.80")
}

// A signed zone that proves a name to be no delegation cannot also be made to
// delegate it: whoever forges the referral would get an unsigned zone.
func TestForgedReferralInASignedZoneIsBogus(t *testing.T) {
	for mode, denial := range map[string]denialMode{"NSEC": withNSEC, "NSEC3": withNSEC3} {
		n, example, _ := smallInternet(t, denial)
		n.zone("evil.org.", unsigned, "203.0.113.66").add("ns A 203.0.113.66")
		n.server(exampleAddr).behave = func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
			m := honest()
			if q.Question[0].Qtype == dns.TypeA {
				m.Answer, m.Authoritative = nil, false
				m.Ns = append(example.proofs("www.example.com."), mustRecord(t, "www.example.com. NS ns.evil.org."))
			}
			return m, nil
		}
		t.Run(mode, func(t *testing.T) {
			expectFailure(t, ask(t, n.resolver(), "www.example.com. A"), dns.ExtendedErrorCodeNSECMissing)
		})
	}
}

func TestUnroutableGlueIsDropped(t *testing.T) {
	n, _, plain := smallInternet(t, withNSEC)
	plain.add("ns A 203.0.113.1")
	org := n.zones["org."]
	for _, a := range []string{"0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.1.1.1"} {
		org.add("ns1.plain.org. A " + a)
	}
	r := n.resolver()
	expect(t, ask(t, r, "web.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.80")
	for _, s := range n.queries() {
		if !r.config.mayAsk(s.server) {
			t.Errorf("asked %s", s.server)
		}
	}
}

// Ghost domains (CVE-2012-1191): the child cannot keep alive what the parent has
// taken back, whatever it is asked meanwhile, and neither can a grandchild.
func TestRevokedDelegationEndsWithWhatTheParentGranted(t *testing.T) {
	n, _, plain := smallInternet(t, withNSEC)
	plain.ttl = 86400
	plain.add("sub NS ns.sub", "ns.sub A 203.0.113.54")
	sub := n.zone("deep.plain.org.", unsigned, "203.0.113.55")
	sub.ttl = 86400
	sub.add("www A 203.0.113.90")
	n.server(otherAddr).behave = func(_ *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		m.Ns = append(m.Ns, mustRecord(t, "plain.org. 86400 NS ns1.plain.org."))
		m.Extra = append(m.Extra, mustRecord(t, "ns1.plain.org. 86400 A "+otherAddr))
		return m, nil
	}
	r := n.resolver()
	expect(t, ask(t, r, "www.deep.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.90")
	n.zones["org."].remove("plain.org.", dns.TypeNS)
	n.zones["org."].remove("ns1.plain.org.", dns.TypeA)
	for range 7 { // an hour, asking on
		ask(t, r, "plain.org. NS")
		ask(t, r, "ns1.plain.org. A")
		ask(t, r, fmt.Sprintf("n%d.deep.plain.org. A", n.clock().Unix()))
		n.pass(10 * time.Minute)
	}
	expect(t, ask(t, r, "www.deep.plain.org. A"), dns.RcodeNameError, dnssec.Secure)
	expect(t, ask(t, r, "plain.org. NS"), dns.RcodeNameError, dnssec.Secure)
}

func TestDNAMEWhoseCNAMESaysOtherwiseIsRefused(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	n.server(exampleAddr).behave = func(_ *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		for _, rr := range m.Answer {
			if c, ok := rr.(*dns.CNAME); ok && c.Hdr.Name == "x.old.example.com." {
				c.Target = "web.plain.org."
			}
		}
		return m, nil
	}
	expectFailure(t, ask(t, n.resolver(), "x.old.example.com. A"), dns.ExtendedErrorCodeInvalidData)
}

func TestRecordsWithoutTTLAreUsedOnceAndNotKept(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	org := n.zones["org."]
	org.remove("plain.org.", dns.TypeNS)
	org.add("plain.org. 0 NS ns1.plain.org.")
	r := n.resolver()
	expect(t, ask(t, r, "web.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.80")
	if _, ok := r.cache.Get(cache.Delegation, "plain.org.", dns.TypeNS); ok {
		t.Error("a delegation without TTL was kept")
	}
}
