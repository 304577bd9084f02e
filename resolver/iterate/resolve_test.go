package iterate

import (
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// The addresses of the small internet that most tests start from.
const (
	rootAddr    = "198.41.0.4"
	tldAddr     = "192.5.6.30"
	exampleAddr = "192.0.2.53"
	otherAddr   = "203.0.113.53"
)

// smallInternet is root, com and org (NSEC3), example.com (signed with mode) and
// plain.org (unsigned).
func smallInternet(t testing.TB, mode denialMode) (n *internet, example, plain *authZone) {
	n = newInternet(t)
	n.zone(".", withNSEC, rootAddr)
	n.zone("com.", withNSEC3, tldAddr)
	n.zone("org.", withNSEC, tldAddr)
	example = n.zone("example.com.", mode, exampleAddr)
	example.add("www A 192.0.2.80", "www AAAA 2001:db8::80", "a.ent A 192.0.2.1", "*.wild A 192.0.2.9",
		"alias CNAME www", "away CNAME web.plain.org.", "old DNAME new", "x.new A 192.0.2.7")
	plain = n.zone("plain.org.", unsigned, otherAddr)
	plain.add("web A 203.0.113.80", "back CNAME www.example.com.")
	return n, example, plain
}

var denialModes = map[string]denialMode{"NSEC": withNSEC, "NSEC3": withNSEC3, "opt-out": withOptOut, "unsigned": unsigned}

func TestAnswersOfEachKindAreFoundAndValidated(t *testing.T) {
	long := strings.Repeat("l", 60)
	for mode, denial := range denialModes {
		t.Run(mode, func(t *testing.T) {
			n, example, _ := smallInternet(t, denial)
			example.add("long DNAME "+long+"."+long+"."+long+".example.com.", "wildalias.ok A 192.0.2.2", "*.cwild CNAME www")
			r := n.resolver()
			good := dnssec.Secure
			if denial == unsigned {
				good = dnssec.Insecure
			}
			denied := good
			if denial == withOptOut {
				denied = dnssec.Insecure // a span of opt-out proves no more (RFC 5155 §9.2)
			}
			for _, c := range []struct {
				name, question string
				rcode          int
				status         dnssec.Status
				data           []string
			}{
				{"a name that exists", "www.example.com. A", dns.RcodeSuccess, good, []string{"192.0.2.80"}},
				{"in another case", "WWW.eXample.COM. A", dns.RcodeSuccess, good, []string{"192.0.2.80"}},
				{"a type it lacks", "www.example.com. MX", dns.RcodeSuccess, good, nil},
				{"a name that does not exist", "none.example.com. A", dns.RcodeNameError, denied, nil},
				{"below a name that does not exist", "a.b.c.none.example.com. A", dns.RcodeNameError, denied, nil},
				{"an empty non-terminal", "ent.example.com. A", dns.RcodeSuccess, good, nil},
				{"below an empty non-terminal", "a.ent.example.com. A", dns.RcodeSuccess, good, []string{"192.0.2.1"}},
				{"a wildcard", "any.wild.example.com. A", dns.RcodeSuccess, denied, []string{"192.0.2.9"}},
				{"a wildcard, deeper", "q.r.s.wild.example.com. A", dns.RcodeSuccess, denied, []string{"192.0.2.9"}},
				{"a wildcard without the type", "any.wild.example.com. TXT", dns.RcodeSuccess, denied, nil},
				{"the wildcard by name", "*.wild.example.com. A", dns.RcodeSuccess, good, []string{"192.0.2.9"}},
				{"a CNAME", "alias.example.com. A", dns.RcodeSuccess, good, []string{"www.example.com.", "192.0.2.80"}},
				{"a CNAME that is asked for", "alias.example.com. CNAME", dns.RcodeSuccess, good, []string{"www.example.com."}},
				{"a CNAME from a wildcard", "q.cwild.example.com. A", dns.RcodeSuccess, denied, []string{"www.example.com.", "192.0.2.80"}},
				{"a CNAME to an unsigned zone", "away.example.com. A", dns.RcodeSuccess, dnssec.Insecure, []string{"web.plain.org.", "203.0.113.80"}},
				{"a CNAME from an unsigned zone", "back.plain.org. A", dns.RcodeSuccess, dnssec.Insecure, []string{"www.example.com.", "192.0.2.80"}},
				{"below a DNAME", "x.old.example.com. A", dns.RcodeSuccess, good, []string{"new.example.com.", "x.new.example.com.", "192.0.2.7"}},
				{"a DNAME that makes too long a name", long + ".long.example.com. A", dns.RcodeYXDomain, good, []string{long + "." + long + "." + long + ".example.com."}},
				{"the zone's SOA", "example.com. SOA", dns.RcodeSuccess, good, []string{"ns1.example.com. hostmaster.example.com. 1 7200 3600 1209600 300"}},
				{"no DS at a name that is no cut", "www.example.com. DS", dns.RcodeSuccess, good, nil},
				{"no DS of an unsigned zone", "plain.org. DS", dns.RcodeSuccess, dnssec.Secure, nil},
				{"no DS of the root", ". DS", dns.RcodeSuccess, dnssec.Secure, nil},
				{"a top-level name that does not exist", "nowhere. A", dns.RcodeNameError, dnssec.Secure, nil},
			} {
				t.Run(c.name, func(t *testing.T) {
					expect(t, ask(t, r, c.question), c.rcode, c.status, c.data...)
					n.queries()
					again := ask(t, r, c.question)
					expect(t, again, c.rcode, c.status, c.data...)
					// An unsigned DNAME is asked for anew for each name.
					if q := n.queries(); len(q) > 0 && !(denial == unsigned && strings.Contains(c.name, "DNAME")) {
						t.Errorf("asked again although cached: %v", q)
					}
				})
			}
		})
	}
}

// The NSEC beside an alias (RFC 4035 §2.5) is found whether or not the alias is
// in the cache.
func TestNSECBesideAnAliasIsNotHiddenByIt(t *testing.T) {
	n, example, _ := smallInternet(t, withNSEC)
	n.server(exampleAddr).behave = func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		if q.Question[0].Qtype == dns.TypeNSEC {
			m.Answer = example.proof(dns.CanonicalName(q.Question[0].Name))
			m.Ns = nil
		}
		return m, nil
	}
	r := n.resolver()
	expect(t, ask(t, r, "alias.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "www.example.com.", "192.0.2.80")
	got := ask(t, r, "alias.example.com. NSEC")
	if got.Status != dnssec.Secure || len(got.Answer) == 0 || got.Answer[0].Header().Rrtype != dns.TypeNSEC {
		t.Errorf("answer %v (%v), want the NSEC of the alias", got.Answer, got.Status)
	}
}

func TestSignedAnswersComeWithWhatAValidatingClientNeeds(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	r := n.resolver()
	count := func(rrs []dns.RR, t uint16) (c int) {
		for _, rr := range rrs {
			if rr.Header().Rrtype == t {
				c++
			}
		}
		return c
	}
	for range 2 { // fresh, and from the cache
		unchecked := r.Resolve(t.Context(), Request{Question: Question{"other.wild.example.com.", dns.TypeA}, CheckingDisabled: true})
		if count(unchecked.Answer, dns.TypeRRSIG) != 1 || count(unchecked.Authority, dns.TypeNSEC) != 1 || count(unchecked.Authority, dns.TypeRRSIG) != 1 {
			t.Errorf("wildcard, unchecked: %v %v", unchecked.Answer, unchecked.Authority)
		}
		if res := ask(t, r, "any.wild.example.com. A"); count(res.Answer, dns.TypeRRSIG) != 1 || count(res.Authority, dns.TypeNSEC) != 1 || count(res.Authority, dns.TypeRRSIG) != 1 {
			t.Errorf("wildcard: %v %v", res.Answer, res.Authority)
		}
		if res := ask(t, r, "none.example.com. A"); count(res.Authority, dns.TypeSOA) != 1 || count(res.Authority, dns.TypeNSEC) == 0 {
			t.Errorf("denial: %v", res.Authority)
		}
	}
}

func TestAQueryShowsEachZoneNoMoreThanItNeeds(t *testing.T) {
	n, example, _ := smallInternet(t, withNSEC)
	example.add("deep.name.in.the A 192.0.2.3")
	ask(t, n.resolver(), "deep.name.in.the.example.com. TXT")
	for _, s := range n.queries() {
		labels := dns.CountLabel(s.Name)
		if s.server.String() == rootAddr && labels > 1 || s.server.String() == tldAddr && labels > 2 {
			t.Errorf("%s was asked %s", s.server, s.Question)
		}
	}
}

func TestFullQuestionIsSentWhenShortNamesFail(t *testing.T) {
	for name, reply := range map[string]int{"NXDOMAIN for an empty non-terminal": dns.RcodeNameError, "REFUSED": dns.RcodeRefused} {
		t.Run(name, func(t *testing.T) {
			n, _, plain := smallInternet(t, withNSEC)
			plain.add("a.b.c A 203.0.113.1")
			n.server(otherAddr).behave = func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
				m := honest()
				if len(m.Answer) == 0 {
					m.Rcode = reply
				}
				return m, nil
			}
			expect(t, ask(t, n.resolver(), "a.b.c.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.1")
		})
	}
}

func TestProvenNXDOMAINAnswersForAllBelow(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	r := n.resolver()
	ask(t, r, "none.example.com. A")
	n.queries()
	expect(t, ask(t, r, "x.y.none.example.com. A"), dns.RcodeNameError, dnssec.Secure)
	if q := n.queries(); len(q) > 0 {
		t.Errorf("asked %v", q)
	}
}

func TestUnprovenNXDOMAINAnswersForItsNameOnly(t *testing.T) {
	n, _, plain := smallInternet(t, withNSEC)
	r := n.resolver()
	ask(t, r, "none.plain.org. A")
	plain.add("x.none A 203.0.113.2")
	expect(t, ask(t, r, "x.none.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.2")
}

func TestAliasLoopsAndLongChainsEnd(t *testing.T) {
	n, _, plain := smallInternet(t, withNSEC)
	plain.add("a CNAME b", "b CNAME c", "c CNAME a", "self CNAME self", "loop DNAME loop.loop")
	chain := "end A 203.0.113.3"
	for i := range 30 {
		plain.add(chain)
		chain = "c" + string(rune('a'+i)) + " CNAME " + strings.Fields(chain)[0]
	}
	r := n.resolver()
	for _, name := range []string{"a.plain.org. A", "self.plain.org. A", "x.loop.plain.org. A", strings.Fields(chain)[2] + ".plain.org. A"} {
		for range 2 {
			res := ask(t, r, name)
			if (name[0] == 'a' || name[0] == 's') && len(res.Answer) == 0 {
				t.Errorf("%s: the loop is not shown", name)
			}
			res.Answer = nil
			expectFailure(t, res, dns.ExtendedErrorCodeOther)
		}
	}
	if sent := len(n.queries()); sent > 80 {
		t.Errorf("%d queries", sent)
	}
}

func TestStopEndsTheChainBeforeTheTargetIsFollowed(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	r := n.resolver()
	for _, c := range []struct{ question, stop, last string }{
		{"away.example.com. A", "web.plain.org.", "web.plain.org."},
		{"x.old.example.com. A", "x.new.example.com.", "x.new.example.com."},
		{"back.plain.org. A", "www.example.com.", "www.example.com."},
	} {
		for range 2 { // fresh, and from the cache
			var asked []string
			res := ask(t, r, c.question, func(q *Request) {
				q.Stop = func(target string) bool { asked = append(asked, target); return target == c.stop }
			})
			if res.Stopped != c.stop || len(asked) != 1 || res.Rcode != dns.RcodeSuccess {
				t.Errorf("%s: stopped at %q after %v", c.question, res.Stopped, asked)
			}
			cname, ok := lastData(res.Answer).(*dns.CNAME)
			if !ok || cname.Target != c.last {
				t.Errorf("%s: answer ends with %v", c.question, res.Answer)
			}
		}
	}
	for _, s := range n.queries() {
		if s.Name == "web.plain.org." {
			t.Error("the stopped target was asked for")
		}
	}
}

func lastData(rrs []dns.RR) dns.RR {
	for i := len(rrs) - 1; i >= 0; i-- {
		if rrs[i].Header().Rrtype != dns.TypeRRSIG {
			return rrs[i]
		}
	}
	return nil
}

func TestTTLIsTheLowestOfTheReplyAndCountsDown(t *testing.T) {
	n, example, plain := smallInternet(t, withNSEC)
	plain.add("short 60 A 203.0.113.4", "huge 2000000 A 203.0.113.5", "zero 0 A 203.0.113.6", "high 4000000000 A 203.0.113.7")
	example.add("short 60 A 192.0.2.60", "toshort 600 CNAME short")
	r := n.resolver()
	for _, c := range []struct {
		name, question string
		ttl            time.Duration
	}{
		{"a plain set", "short.plain.org. A", 60 * time.Second},
		{"a chain", "toshort.example.com. A", 60 * time.Second},
		{"a denial: the SOA's minimum", "none.example.com. A", 300 * time.Second},
		{"larger than what was delegated", "huge.plain.org. A", time.Hour},
		{"zero", "zero.plain.org. A", 0},
		{"with the high bit", "high.plain.org. A", 0},
	} {
		if res := ask(t, r, c.question); res.TTL != c.ttl {
			t.Errorf("%s: %v, want %v", c.name, res.TTL, c.ttl)
		}
	}
	n.pass(40 * time.Second)
	res := ask(t, r, "toshort.example.com. A")
	if res.TTL != 20*time.Second || lastData(res.Answer).Header().Ttl != 20 {
		t.Errorf("after 40 of 60 seconds: %v, %v", res.TTL, res.Answer)
	}
}

func TestTTLEndsWithTheSignature(t *testing.T) {
	n, example, _ := smallInternet(t, withNSEC)
	example.valid[1] = n.clock().Add(10 * time.Minute)
	const allowance = 5 * time.Minute // for clocks that differ
	if res := ask(t, n.resolver(), "www.example.com. A"); res.TTL != 10*time.Minute+allowance || res.Status != dnssec.Secure {
		t.Errorf("TTL %v %s", res.TTL, res.Status)
	}
}

// It does not say for how long it is true (RFC 2308 §5).
func TestDenialWithoutSOAIsCachedLikeAFailure(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	n.server(otherAddr).behave = func(_ *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		m.Ns = nil
		return m, nil
	}
	r := n.resolver()
	for range 2 {
		n.queries()
		res := ask(t, r, "none.plain.org. A")
		expect(t, res, dns.RcodeNameError, dnssec.Insecure)
		if res.TTL != failureTTL || len(n.queries()) == 0 {
			t.Errorf("cached for %v", res.TTL)
		}
		n.pass(failureTTL)
	}
}

// Nobody can validate them by themselves, and what is said of them today is not
// what is true of the next RRset.
func TestSignaturesAskedForAreNeitherVouchedForNorKept(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	n.server(exampleAddr).behave = func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		if q.Question[0].Qtype != dns.TypeRRSIG {
			return honest(), nil
		}
		of := q.Copy()
		of.Question[0].Qtype = dns.TypeA
		m := n.server(exampleAddr).answer(of)
		m.Question = q.Question
		return m, nil
	}
	r := n.resolver()
	for range 2 {
		n.queries()
		res := ask(t, r, "www.example.com. RRSIG")
		if res.Rcode != dns.RcodeSuccess || res.Status != dnssec.Insecure || len(res.Answer) == 0 || len(n.queries()) == 0 {
			t.Errorf("%s %s %v", dns.RcodeToString[res.Rcode], res.Status, res.Answer)
		}
		for _, rr := range res.Answer {
			if rr.Header().Rrtype != dns.TypeRRSIG {
				t.Errorf("answer with %v", rr)
			}
		}
	}
}

func TestTTLsStayWithinTheConfiguredBounds(t *testing.T) {
	n, _, plain := smallInternet(t, withNSEC)
	plain.add("short 5 A 203.0.113.4", "long 3000 A 203.0.113.5", "zero 0 A 203.0.113.6")
	r := n.resolver(func(c *Config) {
		c.MinTTL, c.MaxTTL, c.MaxNegativeTTL = 10*time.Second, 20*time.Minute, 2*time.Minute
	})
	for question, ttl := range map[string]time.Duration{
		"short.plain.org. A":  10 * time.Second,
		"zero.plain.org. A":   10 * time.Second,
		"long.plain.org. A":   20 * time.Minute,
		"none.plain.org. A":   2 * time.Minute,
		"none.example.com. A": 2 * time.Minute,
	} {
		if res := ask(t, r, question); res.TTL != ttl {
			t.Errorf("%s: %v, want %v", question, res.TTL, ttl)
		}
	}
}

func TestTypesThatAreNoDataAreNotResolved(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	r := n.resolver()
	for _, typ := range []uint16{dns.TypeNone, dns.TypeOPT, dns.TypeAXFR, dns.TypeIXFR, dns.TypeTSIG, dns.TypeNXNAME} {
		res := r.Resolve(t.Context(), Request{Question: Question{"www.example.com.", typ}})
		if res.Rcode != dns.RcodeNotImplemented {
			t.Errorf("type %d: %s", typ, dns.RcodeToString[res.Rcode])
		}
	}
	if q := n.queries(); len(q) > 0 {
		t.Errorf("asked %v", q)
	}
}

func TestANYGivesTheNamesSetsValidated(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	res := ask(t, n.resolver(), "www.example.com. ANY")
	if res.Status != dnssec.Secure || len(res.Answer) != 4 {
		t.Errorf("%s %v", res.Status, res.Answer)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	valid := n.resolver().config
	for name, change := range map[string]func(*Config){
		"no Exchange":        func(c *Config) { c.Exchange = nil },
		"no clock":           func(c *Config) { c.Clock = nil },
		"no hints":           func(c *Config) { c.Roots = nil },
		"no address family":  func(c *Config) { c.DisableIPv4 = true },
		"hints on loopback":  func(c *Config) { c.Roots = []dns.RR{mustRecord(t, ". NS a."), mustRecord(t, "a. A 127.0.0.1")} },
		"anchor of any type": func(c *Config) { c.Anchors = []dns.RR{mustRecord(t, ". NS a.")} },
	} {
		c := valid
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func mustRecord(t testing.TB, s string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(s)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}
