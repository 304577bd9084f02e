package iterate

import (
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
	"cordon/resolver/dnssec"
)

// TestEachKindOfFailureIsRemembered goes through the failures of RFC 9520 §2: a
// second client within a second costs no query, and each is forgotten in time.
func TestEachKindOfFailureIsRemembered(t *testing.T) {
	rcode := func(rcode int) func(*dns.Msg, bool, func() *dns.Msg) (*dns.Msg, error) {
		return func(q *dns.Msg, _ bool, _ func() *dns.Msg) (*dns.Msg, error) {
			m := new(dns.Msg).SetRcode(q, rcode)
			m.SetEdns0(1232, true)
			return m, nil
		}
	}
	for _, c := range []struct {
		name, question string
		fail           func(n *internet, example, plain *authZone)
		forgotten      time.Duration
	}{
		{"silence", "web.plain.org. A", func(n *internet, _, _ *authZone) { n.server(otherAddr).behave = silent }, failureTTL},
		{"SERVFAIL", "web.plain.org. A", func(n *internet, _, _ *authZone) { n.server(otherAddr).behave = rcode(dns.RcodeServerFailure) }, failureTTL},
		{"REFUSED", "web.plain.org. A", func(n *internet, _, _ *authZone) { n.server(otherAddr).behave = rcode(dns.RcodeRefused) }, failureTTL},
		{"servers without addresses", "www.lost.org. A", func(n *internet, _, _ *authZone) { n.zones["org."].add("lost NS ns.nowhere.plain.org.") }, failureTTL},
		{"delegations in a circle", "www.one.org. A", func(n *internet, _, _ *authZone) { n.zones["org."].add("one NS ns.two", "two NS ns.one") }, failureTTL},
		{"expired signatures", "www.example.com. A", func(n *internet, example, _ *authZone) { example.valid[1] = n.clock().Add(-time.Hour) }, bogusTTL},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, example, plain := smallInternet(t, withNSEC)
			c.fail(n, example, plain)
			clear(n.zones["org."].sigs)
			r := n.resolver()
			first := ask(t, r, c.question)
			if first.Rcode != dns.RcodeServerFailure || first.TTL < time.Second || first.TTL > 5*time.Minute {
				t.Errorf("%s for %s", dns.RcodeToString[first.Rcode], first.TTL)
			}
			if sent := n.queries(); len(sent) > 30 {
				t.Errorf("%d queries for one question", len(sent))
			}
			n.pass(900 * time.Millisecond)
			again := ask(t, r, c.question)
			if sent := n.queries(); len(sent) > 0 || again.Rcode != dns.RcodeServerFailure {
				t.Errorf("asked again within a second: %v", sent)
			}
			n.pass(c.forgotten)
			name, typ, _ := strings.Cut(c.question, " ")
			if f, ok := r.cache.Get(cache.Failure, name, dns.StringToType[typ]); ok {
				t.Errorf("still remembered: %+v", f)
			}
		})
	}
}

// TestRenewalsDoNotKeepARevokedDelegationAlive has a withdrawn domain asked for all
// the time, and renewed each time before its answer ends.
func TestRenewalsDoNotKeepARevokedDelegationAlive(t *testing.T) {
	n, _, plain := smallInternet(t, withNSEC)
	plain.ttl = 86400
	plain.add("short 60 A 203.0.113.90", "long A 203.0.113.91")
	r := n.resolver(func(c *Config) { c.ServeStale = 24 * time.Hour })
	for _, name := range []string{"short", "long"} {
		ask(t, r, name+".plain.org. A")
	}
	n.zones["org."].remove("plain.org.", dns.TypeNS)
	n.zones["org."].remove("ns1.plain.org.", dns.TypeA)
	clear(n.zones["org."].sigs)
	for range 70 {
		n.pass(55 * time.Second)
		for _, name := range []string{"short", "long"} {
			left := ask(t, r, name+".plain.org. A").TTL
			ask(t, r, name+".plain.org. A", func(q *Request) { q.Renew = left })
		}
	}
	for _, name := range []string{"short", "long", "never"} {
		expect(t, ask(t, r, name+".plain.org. A"), dns.RcodeNameError, dnssec.Secure)
	}
}
