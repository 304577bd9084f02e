package iterate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

const (
	evilAddr   = "203.0.113.66"
	victimAddr = "203.0.113.99" // servers that are no part of the attack but its target
)

// amplification is an attack that makes a resolver ask much. The attacker has
// evil.org, whose server says what it likes; a victim is whoever the resolver is
// led to.
type amplification struct {
	name string
	// build adds to the internet what there is of victims, and gives what the
	// attacker's server puts into the reply to a question.
	build func(n *internet) func(q dns.Question, m *dns.Msg)
	most  float64 // queries that a client's question may cost
}

func delegation(cut, ns string) dns.RR {
	return &dns.NS{Hdr: dns.RR_Header{Name: cut, Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: 3600}, Ns: ns}
}

func toAlias(m *dns.Msg, name, target string) {
	m.Authoritative = true
	m.Answer = append(m.Answer, &dns.CNAME{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: 3600}, Target: target})
}

// site is the label below evil.org. of a name.
func site(name string) string {
	labels := dns.SplitDomainName(name)
	return labels[len(labels)-3]
}

// refer gives a referral to so many servers with the names that name makes, from
// a number that does not come again.
func refer(servers int, name func(i int) string) func(q dns.Question, m *dns.Msg) {
	next := 0
	return func(q dns.Question, m *dns.Msg) {
		for range servers {
			next++
			m.Ns = append(m.Ns, delegation(site(q.Name)+".evil.org.", name(next)))
		}
	}
}

func named(format string) func(int) string {
	return func(i int) string { return fmt.Sprintf(format, i) }
}

func oneVictim(n *internet) *authZone { return n.zone("victim.org.", unsigned, victimAddr) }

func manyVictims(n *internet) (name func(i int) string) {
	const many = 1000
	for i := range many {
		n.zone(fmt.Sprintf("victim%d.org.", i), unsigned, fmt.Sprintf("203.0.112.%d", i%256))
	}
	return func(i int) string { return fmt.Sprintf("n%d.victim%d.org.", i, i%many) }
}

// hosts are addresses of a network, each another.
func hosts(i int) string { return fmt.Sprintf("203.0.%d.%d", 114+i/250%20, 1+i%250) }

var amplifications = []amplification{
	{"NXNSAttack: 200 names of one victim", func(n *internet) func(dns.Question, *dns.Msg) {
		oneVictim(n)
		return refer(200, named("n%d.victim.org."))
	}, 10},
	{"NXNSAttack: 200 names of one victim, each label of which is asked for", func(n *internet) func(dns.Question, *dns.Msg) {
		oneVictim(n).add("*.a A 203.0.113.1")
		return refer(200, named("n%d.e.d.c.b.a.victim.org."))
	}, 10},
	{"NXNSAttack: 200 names of as many victims", func(n *internet) func(dns.Question, *dns.Msg) {
		return refer(200, manyVictims(n))
	}, 10},
	{"NXNSAttack: 200 names below a top-level domain that do not exist", func(*internet) func(dns.Question, *dns.Msg) {
		return refer(200, named("n%d.com."))
	}, 10},
	{"NXNSAttack: 200 names that are no servers, all at one address", func(n *internet) func(dns.Question, *dns.Msg) {
		oneVictim(n).add("* A 203.0.113.98")
		return refer(200, named("n%d.victim.org."))
	}, 10},
	{"NXNSAttack: 200 names that are no servers, each at an address of its own", func(n *internet) func(dns.Question, *dns.Msg) {
		oneVictim(n)
		next := 0
		n.server(victimAddr).behave = func(q *dns.Msg, _ bool, _ func() *dns.Msg) (*dns.Msg, error) {
			next++
			m := new(dns.Msg).SetReply(q)
			m.Authoritative, m.Answer = true, []dns.RR{mustRecord(n.t, q.Question[0].Name+" A "+hosts(next))}
			return m, nil
		}
		return refer(200, named("n%d.victim.org."))
	}, 10},
	{"NXNSAttack: 200 names whose zones' servers are silent", func(n *internet) func(dns.Question, *dns.Msg) {
		name := manyVictims(n)
		for i := range 256 {
			n.server(fmt.Sprintf("203.0.112.%d", i)).behave = silent
		}
		return refer(200, name)
	}, 10},
	{"NRDelegationAttack: 20 servers with glue, all silent", func(n *internet) func(dns.Question, *dns.Msg) {
		servers, next := refer(20, named("n%d.evil.org.")), 0
		return func(q dns.Question, m *dns.Msg) {
			servers(q, m)
			for _, ns := range m.Ns {
				next++
				m.Extra = append(m.Extra, mustRecord(n.t, ns.(*dns.NS).Ns+" A "+hosts(next)))
			}
		}
	}, 10},
	{"referrals that each need another, without end", func(*internet) func(dns.Question, *dns.Msg) {
		return refer(10, named("n.d%d.evil.org."))
	}, 10},
	{"TsuNAME: two zones that have their servers in each other", func(*internet) func(dns.Question, *dns.Msg) {
		return func(q dns.Question, m *dns.Msg) {
			own := site(q.Name)
			other, ok := strings.CutPrefix(own, "other")
			if !ok {
				other = "other" + own
			}
			m.Ns = append(m.Ns, delegation(own+".evil.org.", "ns."+other+".evil.org."))
		}
	}, 10},
	{"CAMP: a chain of aliases, each behind a referral to names of a victim", func(n *internet) func(dns.Question, *dns.Msg) {
		oneVictim(n)
		names := refer(200, named("n%d.victim.org."))
		return func(q dns.Question, m *dns.Msg) {
			if dns.CountLabel(q.Name) == 3 { // minimised: the first of the chain answers itself
				toAlias(m, q.Name, "x.other"+q.Name)
				return
			}
			names(q, m)
		}
	}, 10},
	// A chain has to be followed; these two bounds are those of its length.
	{"CAMP: a chain of aliases", func(*internet) func(dns.Question, *dns.Msg) {
		return func(q dns.Question, m *dns.Msg) { toAlias(m, q.Name, "c"+q.Name) }
	}, 14},
	{"CAMP: a chain of aliases of many labels", func(*internet) func(dns.Question, *dns.Msg) {
		next := 0
		return func(q dns.Question, m *dns.Msg) {
			m.Authoritative = true
			if dns.CountLabel(q.Name) >= 16 || strings.HasPrefix(q.Name, "x.") {
				next++
				toAlias(m, q.Name, strings.Repeat("l.", 13)+fmt.Sprintf("c%d.evil.org.", next))
			}
		}
	}, 24},
}

// The figures stand in docs/performance.md.
func TestAQuestionCostsFewQueriesWhateverAnAttackerAnswers(t *testing.T) {
	const asked = 20
	for _, a := range amplifications {
		t.Run(a.name, func(t *testing.T) {
			n := newInternet(t)
			n.zone(".", unsigned, rootAddr)
			n.zone("org.", unsigned, tldAddr)
			n.zone("com.", unsigned, tldAddr)
			n.zone("evil.org.", unsigned, evilAddr)
			says := a.build(n)
			n.server(evilAddr).behave = func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
				if q.Question[0].Name == "evil.org." {
					return honest(), nil
				}
				m := new(dns.Msg).SetReply(q)
				says(q.Question[0], m)
				return m, nil
			}
			r := n.resolver(func(c *Config) { c.DisableIPv6 = false })
			ask(t, r, "evil.org. A") // the way there is known
			n.queries()
			to := map[string]int{}
			total, worst := 0, 0
			for i := range asked {
				ask(t, r, fmt.Sprintf("x.s%d.evil.org. A", i))
				sent := n.queries()
				total, worst = total+len(sent), max(worst, len(sent))
				for _, s := range sent {
					to[s.server.String()]++
				}
			}
			mean := float64(total) / asked
			t.Logf("%.1f queries a question, at most %d; %.1f to the attacker", mean, worst, float64(to[evilAddr])/asked)
			if mean > a.most {
				t.Errorf("a question costs %.1f queries, want %.0f at the most", mean, a.most)
			}
		})
	}
}

// What bounds attacks must not be felt by a zone with two providers when one of
// them is out of order, in whichever order its servers are tried.
func TestAZoneOutlivesOneOfItsTwoProviders(t *testing.T) {
	n := newInternet(t)
	n.zone(".", unsigned, rootAddr)
	n.zone("org.", unsigned, tldAddr)
	n.zone("com.", unsigned, tldAddr)
	n.zone("dead.org.", unsigned, "203.0.113.1", "203.0.113.2")
	n.server("203.0.113.1").behave, n.server("203.0.113.2").behave = silent, silent
	n.zone("good.com.", unsigned, exampleAddr)
	n.zone("customer.com.", unsigned).add("www A 192.0.2.80")
	n.serve(n.zones["customer.com."], "192.0.2.99")
	for _, ns := range []string{"a.dead.org.", "b.dead.org.", "ns2.good.com.", "ns3.good.com."} {
		n.zones["com."].add("customer.com. NS " + ns)
	}
	n.zones["good.com."].add("ns2 A 192.0.2.99", "ns3 A 192.0.2.99")
	for range 100 {
		expect(t, ask(t, n.resolver(func(c *Config) { c.DisableIPv6 = false }), "www.customer.com. A"), dns.RcodeSuccess, dnssec.Insecure, "192.0.2.80")
	}
}
