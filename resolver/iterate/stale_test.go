package iterate

import (
	"fmt"
	"testing"
	"testing/synctest"
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

// hang makes servers keep their queries until they are given up, or free is
// called.
func hang(n *internet, addrs ...string) (free func()) {
	gate := make(chan struct{})
	for _, addr := range addrs {
		n.server(addr).hold = gate
	}
	return func() { close(gate) }
}

// RFC 8767 §5: who asks waits a moment for the servers, then gets what is old;
// the look-up goes on, and the next one gets what it brought.
func TestAnOldAnswerComesAfterAMomentAndTheLookUpGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _, _ := smallInternet(t, withNSEC)
		slow := n.zone("slow.org.", unsigned, "203.0.113.60", "203.0.113.61", "203.0.113.62")
		slow.add("web A 203.0.113.80")
		r := n.resolver(func(c *Config) { c.ServeStale = 24 * time.Hour })
		idle := inBackground(t, r)
		ask(t, r, "web.slow.org. A")
		n.pass(2 * time.Hour)
		free := hang(n, "203.0.113.60", "203.0.113.61", "203.0.113.62")
		slow.remove("web.slow.org.", dns.TypeA)
		slow.add("web A 203.0.113.81")

		begun := time.Now()
		res := ask(t, r, "web.slow.org. A")
		expect(t, res, dns.RcodeSuccess, dnssec.Insecure, "203.0.113.80")
		if waited := time.Since(begun); waited != stalePatience {
			t.Errorf("waited for %s", waited)
		}
		if res.TTL > failureTTL || res.EDE[0].Code != dns.ExtendedErrorCodeStaleAnswer {
			t.Errorf("kept for %s, %v", res.TTL, res.EDE)
		}
		// Others who ask meanwhile do not make it be looked up twice.
		ask(t, r, "web.slow.org. A")
		if under := len(r.background.renewals); under != 1 {
			t.Errorf("%d look-ups under way", under)
		}
		free()
		idle()
		begun = time.Now()
		expect(t, ask(t, r, "web.slow.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.81")
		if waited := time.Since(begun); waited > 0 {
			t.Errorf("waited for %s although it had been looked up", waited)
		}
	})
}

func TestAnOldAnswerComesAtOnceWhereTheServersFailedLately(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _, _ := smallInternet(t, withNSEC)
		r := n.resolver(func(c *Config) { c.ServeStale = 24 * time.Hour })
		idle := inBackground(t, r)
		ask(t, r, "web.plain.org. A")
		n.pass(2 * time.Hour)
		hang(n, otherAddr)
		ask(t, r, "web.plain.org. A")
		idle() // until the look-up is given up
		n.queries()
		begun := time.Now()
		expect(t, ask(t, r, "web.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.80")
		if waited, sent := time.Since(begun), n.queries(); waited > 0 || len(sent) > 0 {
			t.Errorf("waited for %s, sent %v", waited, sent)
		}
	})
}

// An alias may be fresh and what it leads to old: the whole is given as fast as
// if the question's own name were old.
func TestAnOldTargetOfAFreshAliasComesAfterAMoment(t *testing.T) {
	for _, running := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			n, example, _ := smallInternet(t, withNSEC)
			example.ttl = 7200
			example.add("far CNAME web.plain.org.")
			clear(example.sigs)
			r := n.resolver(func(c *Config) { c.ServeStale = 24 * time.Hour })
			if running {
				inBackground(t, r)
			}
			ask(t, r, "far.example.com. A")
			n.pass(90 * time.Minute) // the delegation of example.com. ends, too
			ask(t, r, "far.example.com. CNAME")
			hang(n, otherAddr)
			begun := time.Now()
			res := ask(t, r, "far.example.com. A")
			expect(t, res, dns.RcodeSuccess, dnssec.Insecure, "web.plain.org.", "203.0.113.80")
			if waited := time.Since(begun); waited > stalePatience {
				t.Errorf("waited for %s", waited)
			}

			// A target that has been listed since is not told, however old.
			res = ask(t, r, "far.example.com. A", func(q *Request) { q.Stop = func(name string) bool { return name == "web.plain.org." } })
			if res.Stopped != "web.plain.org." {
				t.Errorf("not stopped: %v", res.Answer)
			}
		})
	}
}

func TestARenewalAsksTheServersForWhatEndsSoon(t *testing.T) {
	n, _, plain := smallInternet(t, withNSEC)
	r := n.resolver()
	ask(t, r, "web.plain.org. A")
	n.pass(57 * time.Minute)
	plain.remove("web.plain.org.", dns.TypeA)
	plain.add("web A 203.0.113.81")
	left := ask(t, r, "web.plain.org. A").TTL
	renew := func(q *Request) { q.Renew = left }
	n.server(otherAddr).behave = silent
	if res := ask(t, r, "web.plain.org. A", renew); res.Rcode != dns.RcodeServerFailure {
		t.Errorf("renewed without a server: %v", res.Answer)
	}
	expect(t, ask(t, r, "web.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.80")
	n.server(otherAddr).behave = nil
	n.pass(time.Minute)
	res := ask(t, r, "web.plain.org. A", renew)
	expect(t, res, dns.RcodeSuccess, dnssec.Insecure, "203.0.113.81")
	n.queries()
	expect(t, ask(t, r, "web.plain.org. A", renew), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.81")
	if sent := n.queries(); len(sent) > 0 {
		t.Errorf("asked again for what was just renewed: %v", sent)
	}
}
