package iterate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// delegate replaces the delegation of child in its parent.
func (n *internet) delegate(child string, records ...string) {
	p := n.parentOf(child)
	p.remove(child, dns.TypeNS)
	p.add(records...)
}

func TestNameServersWithoutGlueAreLookedUp(t *testing.T) {
	n, _, plain := smallInternet(t, withNSEC)
	plain.add("ns A " + exampleAddr)
	n.delegate("example.com.", "example.com. NS ns.plain.org.")
	expect(t, ask(t, n.resolver(), "www.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
}

func TestDelegationsThatNeedEachOtherEnd(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	n.delegate("example.com.", "example.com. NS ns.plain.org.")
	n.delegate("plain.org.", "plain.org. NS ns.example.com.")
	r := n.resolver()
	expectFailure(t, ask(t, r, "www.example.com. A"), dns.ExtendedErrorCodeNoReachableAuthority)
	if sent := len(n.queries()); sent > 20 {
		t.Errorf("%d queries for a loop", sent)
	}
	// Found out on the way to another name, it says nothing of that name's own.
	n.delegate("plain.org.", "plain.org. NS ns1.plain.org.")
	n.zones["plain.org."].add("ns A " + exampleAddr)
	n.pass(time.Hour)
	expect(t, ask(t, r, "www.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
}

func TestServersThatAreOfNoUseArePassedOver(t *testing.T) {
	reply := func(f func(*dns.Msg)) func(*dns.Msg, bool, func() *dns.Msg) (*dns.Msg, error) {
		return func(_ *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
			m := honest()
			f(m)
			return m, nil
		}
	}
	empty := func(m *dns.Msg) { m.Answer, m.Ns, m.Extra, m.Authoritative = nil, nil, nil, false }
	for name, behave := range map[string]func(*dns.Msg, bool, func() *dns.Msg) (*dns.Msg, error){
		"silent":                silent,
		"refusing":              reply(func(m *dns.Msg) { empty(m); m.Rcode = dns.RcodeRefused }),
		"failing":               reply(func(m *dns.Msg) { empty(m); m.Rcode = dns.RcodeServerFailure }),
		"not authoritative":     reply(empty),
		"referring to the root": reply(func(m *dns.Msg) { empty(m); m.Ns = []dns.RR{mustRecord(t, ". NS a.root.")} }),
		"referring to itself":   reply(func(m *dns.Msg) { empty(m); m.Ns = []dns.RR{mustRecord(t, "example. NS ns1.example.")} }),
		"referring sideways":    reply(func(m *dns.Msg) { empty(m); m.Ns = []dns.RR{mustRecord(t, "other. NS ns1.other.")} }),
		"answering for another": reply(func(m *dns.Msg) { empty(m); m.Answer = []dns.RR{mustRecord(t, "x.other. A 192.0.2.66")} }),
		"denying with other SOA": reply(func(m *dns.Msg) {
			empty(m)
			m.Rcode = dns.RcodeNameError
			m.Ns = []dns.RR{mustRecord(t, "other. SOA a. b. 1 1 1 1 1")}
		}),
		"answering from a cache": reply(func(m *dns.Msg) {
			empty(m)
			m.RecursionAvailable = true
			m.Answer = []dns.RR{mustRecord(t, "www.example. A 192.0.2.66")}
		}),
		"truncating over TCP too": reply(func(m *dns.Msg) { empty(m); m.Truncated = true }),
	} {
		t.Run(name, func(t *testing.T) {
			n := newInternet(t)
			n.zone(".", unsigned, rootAddr)
			z := n.zone("example.", unsigned, exampleAddr, otherAddr)
			z.add("www A 192.0.2.80")
			n.server(exampleAddr).behave = behave
			for range 10 { // whichever is asked first
				expect(t, ask(t, n.resolver(), "www.example. A"), dns.RcodeSuccess, dnssec.Insecure, "192.0.2.80")
			}
		})
	}
}

func TestALameServerIsNotAskedAgainSoon(t *testing.T) {
	n := newInternet(t)
	n.zone(".", unsigned, rootAddr)
	z := n.zone("example.", unsigned, exampleAddr, otherAddr)
	n.server(exampleAddr).zones = nil // refuses
	r := n.resolver()
	lame := 0
	for i := range 50 {
		z.add(fmt.Sprintf("w%d A 192.0.2.80", i))
		expect(t, ask(t, r, fmt.Sprintf("w%d.example. A", i)), dns.RcodeSuccess, dnssec.Insecure, "192.0.2.80")
	}
	for _, s := range n.queries() {
		if s.server.String() == exampleAddr {
			lame++
		}
	}
	if lame > 1 {
		t.Errorf("asked %d times", lame)
	}
}

func TestAFailureForOneNameSaysNothingOfTheServersOthers(t *testing.T) {
	n, _, plain := smallInternet(t, withNSEC)
	n.server(otherAddr).behave = func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		if q.Question[0].Name == "odd.plain.org." {
			m.Rcode = dns.RcodeServerFailure
		}
		return m, nil
	}
	plain.add("odd A 203.0.113.1")
	r := n.resolver()
	expectFailure(t, ask(t, r, "odd.plain.org. A"), dns.ExtendedErrorCodeNetworkError)
	if _, down := r.servers.rank(netip.MustParseAddr(otherAddr), "plain.org."); down {
		t.Error("the server counts as lame")
	}
}

func TestASilentServerIsBackedOffFromAndTriedAgain(t *testing.T) {
	n := newInternet(t)
	s := newServers(n.clock)
	a := netip.MustParseAddr(exampleAddr)
	down := func() bool { _, d := s.rank(a, "."); return d }
	for range 2 {
		s.silent(a)
	}
	if down() {
		t.Error("given up after two losses")
	}
	var last time.Duration
	for range 10 {
		s.silent(a)
		if !down() {
			t.Fatal("not backed off from")
		}
		waited := time.Duration(0)
		for ; down(); waited += time.Second {
			n.pass(time.Second)
		}
		if waited < last || waited > maxBackOff {
			t.Errorf("backed off %v after %v", waited, last)
		}
		last = waited
	}
	if last != maxBackOff {
		t.Errorf("back-off ended at %v, want %v", last, maxBackOff)
	}
	s.answered(a, 20*time.Millisecond, flightKey{}, true)
	if down() || s.timeout(a) > time.Second {
		t.Error("not forgiven after a reply")
	}
}

func TestTheFastestServerIsAskedMostAndOthersNowAndThen(t *testing.T) {
	n := newInternet(t)
	n.zone(".", unsigned, rootAddr)
	n.zone("example.", unsigned, exampleAddr, otherAddr)
	r := n.resolver()
	fast, slow := netip.MustParseAddr(exampleAddr), netip.MustParseAddr(otherAddr)
	z := &zone{name: "example.", ns: []string{"a.", "b."}, glue: map[string][]netip.Addr{"a.": {slow}, "b.": {fast}}}
	first := map[netip.Addr]int{}
	for range 2000 {
		r.servers.answered(fast, 10*time.Millisecond, flightKey{}, true)
		r.servers.answered(slow, 90*time.Millisecond, flightKey{}, true)
		c, err := r.newTask(false).cursor(z).next(t.Context())
		if err != nil || c == nil {
			t.Fatal(c, err)
		}
		first[c.addr.Addr()]++
	}
	// The chance of a slow one is 1 in 40; 2000 times that within wide bounds.
	if first[slow] < 10 || first[slow] > 150 {
		t.Errorf("%v", first)
	}
}

func TestStateOfServersIsBounded(t *testing.T) {
	s := newServers(newInternet(t).clock)
	for i := range maxServers + 1000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		s.silent(a)
		s.setLame(a, "example.")
	}
	if len(s.by) > maxServers || len(s.lame) > maxServers {
		t.Errorf("%d servers, %d lame", len(s.by), len(s.lame))
	}
}

func TestTruncatedRepliesAreAskedForOverTCP(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	n.server(exampleAddr).behave = func(_ *dns.Msg, stream bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		if !stream {
			m.Answer, m.Truncated = nil, true
		}
		return m, nil
	}
	expect(t, ask(t, n.resolver(), "www.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
}

// doubtful is what an Exchange says of a reply that could be anybody's.
type doubtful struct {
	error
	alteredCase bool
}

func (d doubtful) AlteredCase() bool { return d.alteredCase }

func TestAServerThatAltersTheCaseIsAskedByTCP(t *testing.T) {
	n, _, plain := smallInternet(t, withNSEC)
	for i := range 5 {
		plain.add(fmt.Sprintf("w%d A 203.0.113.81", i))
	}
	tcpFails := false
	n.server(otherAddr).behave = func(_ *dns.Msg, stream bool, honest func() *dns.Msg) (*dns.Msg, error) {
		switch {
		case !stream:
			return nil, doubtful{errors.New("another case"), true}
		case tcpFails:
			return nil, errSilence
		}
		return honest(), nil
	}
	r := n.resolver()
	ways := func(question string) (ways string) {
		n.queries()
		res := ask(t, r, question)
		if !tcpFails {
			expect(t, res, dns.RcodeSuccess, dnssec.Insecure, "203.0.113.81")
		}
		for _, s := range n.queries() {
			switch {
			case s.server.String() != otherAddr:
			case s.stream:
				ways += "tcp "
			default:
				ways += "udp "
			}
		}
		return ways
	}
	if got := ways("w0.plain.org. A"); got != "udp tcp " {
		t.Errorf("asked by %s", got)
	}
	if got := ways("w1.plain.org. A"); got != "tcp " {
		t.Errorf("not remembered: asked by %s", got)
	}
	n.pass(streamTime)
	if got := ways("w2.plain.org. A"); got != "udp tcp " {
		t.Errorf("remembered for ever: asked by %s", got)
	}
	if st := r.servers.by[netip.MustParseAddr(otherAddr)]; st.failures > 0 {
		t.Error("the server was blamed")
	}
	// Without TCP nothing of it is believed, and it is not remembered.
	tcpFails = true
	ways("w3.plain.org. A")
	if r.servers.altersCase(netip.MustParseAddr(otherAddr)) {
		t.Error("TCP is still asked for at once, without success")
	}
}

func TestQueriesOfferEDNSWithoutFragments(t *testing.T) {
	m := flightKey{Question: Question{"example.", dns.TypeA}, edns: true}.query("")
	if opt := m.IsEdns0(); opt == nil || opt.UDPSize() != 1232 || !opt.Do() || m.RecursionDesired {
		t.Errorf("%v", m)
	}
}

func TestEDNSIsLeftOutOnlyForServersThatDoNotKnowIt(t *testing.T) {
	old := func(rcode int) func(*dns.Msg, bool, func() *dns.Msg) (*dns.Msg, error) {
		return func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
			if q.IsEdns0() == nil {
				return honest(), nil
			}
			m := new(dns.Msg).SetReply(q)
			m.Rcode = rcode
			return m, nil
		}
	}
	for _, rcode := range []int{dns.RcodeFormatError, dns.RcodeNotImplemented} {
		n, _, plain := smallInternet(t, withNSEC)
		n.server(otherAddr).behave = old(rcode)
		plain.add("w2 A 203.0.113.81")
		r := n.resolver()
		expect(t, ask(t, r, "web.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.80")
		n.queries()
		expect(t, ask(t, r, "w2.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.81")
		if q := n.queries(); len(q) != 1 || q[0].edns {
			t.Errorf("%s: not remembered: %v", dns.RcodeToString[rcode], q)
		}
	}

	// One that has spoken EDNS before is not believed (CVE-2026-52690).
	n, _, plain := smallInternet(t, withNSEC)
	plain.add("w2 A 203.0.113.81")
	r := n.resolver()
	ask(t, r, "web.plain.org. A")
	n.server(otherAddr).behave = old(dns.RcodeFormatError)
	n.queries()
	expectFailure(t, ask(t, r, "w2.plain.org. A"), dns.ExtendedErrorCodeNetworkError)
	// Nor is one of a signed zone, where it would strip all signatures.
	n.server(exampleAddr).behave = old(dns.RcodeFormatError)
	expectFailure(t, ask(t, n.resolver(), "www.example.com. A"), dns.ExtendedErrorCodeNetworkError)
	for _, s := range n.queries() {
		if !s.edns {
			t.Errorf("asked without EDNS: %v", s)
		}
	}
}

func TestAddressesThatNoServerHasAreNotAsked(t *testing.T) {
	public := Config{}
	laboratory := Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}
	for addr, want := range map[string][2]bool{
		"192.0.2.1": {true, true}, "2001:db8::1": {true, true},
		"127.0.0.1": {false, true}, "127.8.8.8": {false, true}, "fd00::1": {false, true},
		"0.0.0.0": {}, "0.1.2.3": {}, "::": {}, "::1": {}, "::7f00:1": {},
		"224.0.0.1": {}, "255.255.255.255": {}, "240.0.0.1": {}, "ff02::1": {},
		"10.0.0.1": {}, "172.16.0.1": {}, "192.168.1.1": {}, "169.254.1.1": {}, "100.64.0.1": {}, "198.18.0.1": {},
		"fe80::1": {}, "fc00::1": {}, "fec0::1": {},
	} {
		a := netip.MustParseAddr(addr)
		if got := [2]bool{public.mayAsk(a), laboratory.mayAsk(a)}; got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
	if a, ok := addressOf(&dns.AAAA{AAAA: netip.MustParseAddr("::ffff:127.0.0.1").AsSlice()}); !ok || public.mayAsk(a) {
		t.Error("a mapped loopback address may be asked")
	}
	if (&Config{DisableIPv6: true}).mayAsk(netip.MustParseAddr("2001:db8::1")) || (&Config{DisableIPv4: true}).mayAsk(netip.MustParseAddr("192.0.2.1")) {
		t.Error("a family that is disabled may be asked")
	}
}

func TestServersAreReachedOverIPv6(t *testing.T) {
	n := newInternet(t)
	n.zone(".", withNSEC, rootAddr, "2001:db8::53")
	z := n.zone("example.", withNSEC, "2001:db8::54")
	z.add("www A 192.0.2.80")
	r := n.resolver(func(c *Config) { c.DisableIPv6 = false })
	expect(t, ask(t, r, "www.example. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
	expectFailure(t, ask(t, n.resolver(), "www.example. A"), dns.ExtendedErrorCodeNoReachableAuthority)
}

func TestPrimingTakesTheRootsOwnServersAndSurvivesFailure(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	const newRoot = "198.41.0.9"
	root := n.zones["."]
	root.add("ns9 A " + newRoot)
	root.add("@ NS ns9")
	n.serve(root, newRoot)
	hint := func(c *Config) { c.Roots = c.Roots[:2] }
	n.server(rootAddr).behave = func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		if q.Question[0].Qtype == dns.TypeNS {
			m.Extra = append(m.Extra, mustRecord(t, "ns9. A "+newRoot), mustRecord(t, "evil. A 203.0.113.66"), mustRecord(t, "ns1. A 127.0.0.1"))
		}
		return m, nil
	}
	r := n.resolver(hint)
	ask(t, r, "www.example.com. A")
	z := r.newTask(false).knownZone(".")
	if z == nil || len(z.glue["ns9."]) != 1 || len(z.glue["ns1."]) != 1 || len(z.glue["evil."]) != 0 {
		t.Fatalf("primed with %+v", z)
	}

	// Priming fails; the hints do.
	n.server(rootAddr).behave = func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		if q.Question[0].Name == "." && q.Question[0].Qtype == dns.TypeNS {
			return nil, errSilence
		}
		return honest(), nil
	}
	expect(t, ask(t, n.resolver(hint), "www.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
}

func TestFailuresAreRememberedBrieflyAndPerQuestion(t *testing.T) {
	n, _, plain := smallInternet(t, withNSEC)
	n.server(otherAddr).behave = silent
	r := n.resolver()
	res := ask(t, r, "web.plain.org. A")
	expectFailure(t, res, dns.ExtendedErrorCodeNoReachableAuthority)
	if res.TTL != failureTTL {
		t.Errorf("TTL %v", res.TTL)
	}
	n.queries()
	expectFailure(t, ask(t, r, "web.plain.org. A"), dns.ExtendedErrorCodeNoReachableAuthority)
	if q := n.queries(); len(q) > 0 {
		t.Errorf("asked again at once: %v", q)
	}
	n.server(otherAddr).behave = nil
	plain.add("w2 A 203.0.113.81")
	expect(t, ask(t, r, "w2.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.81")
	n.pass(failureTTL)
	expect(t, ask(t, r, "web.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.80")
}

// gate holds queries for a name until it is opened.
type gate struct {
	*internet
	name    string
	entered chan struct{}
	open    chan struct{}
}

func (g *gate) Exchange(ctx context.Context, server netip.AddrPort, q *dns.Msg, stream bool) (*dns.Msg, error) {
	if q.Question[0].Name == g.name {
		g.entered <- struct{}{}
		select {
		case <-g.open:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return g.internet.Exchange(ctx, server, q, stream)
}

func newGate(n *internet, name string) *gate {
	return &gate{n, name, make(chan struct{}, 100), make(chan struct{})}
}

func TestACallerThatGoesAwayPoisonsNothing(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	g := newGate(n, "www.example.com.")
	r := n.resolver(func(c *Config) { c.Exchange = g })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan *Result)
	go func() { done <- r.Resolve(ctx, Request{Question: Question{"www.example.com.", dns.TypeA}}) }()
	<-g.entered
	cancel()
	res := <-done
	if res.Rcode != dns.RcodeServerFailure || res.TTL != 0 {
		t.Errorf("%s, to be kept %v", dns.RcodeToString[res.Rcode], res.TTL)
	}
	if st := r.servers.by[netip.MustParseAddr(exampleAddr)]; st != nil && st.failures > 0 {
		t.Error("the server was blamed")
	}
	close(g.open)
	expect(t, ask(t, r, "www.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
}

func TestEqualQuestionsAreSentOnceAndOutliveOneCaller(t *testing.T) {
	const callers = 20
	for name, tt := range map[string]struct {
		beginnerLeaves bool
		sent           int
	}{
		"one who waits leaves":    {false, 1},
		"one who began it leaves": {true, 2},
	} {
		t.Run(name, func(t *testing.T) {
			n, _, _ := smallInternet(t, withNSEC)
			g := newGate(n, "www.example.com.")
			r := n.resolver(func(c *Config) { c.Exchange = g })
			ask(t, r, "mail.example.com. A") // so that all begin at the same zone
			n.queries()
			waiting := func(n int) func() bool {
				return func() bool {
					r.flights.mu.Lock()
					defer r.flights.mu.Unlock()
					for _, fl := range r.flights.running {
						return fl.waiters == n
					}
					return false
				}
			}
			first, leave := context.WithCancel(t.Context())
			var left, stayed sync.WaitGroup
			goes := func() {
				left.Go(func() { r.Resolve(first, Request{Question: Question{"www.example.com.", dns.TypeA}}) })
			}
			results := make([]*Result, callers)
			stays := func() {
				for i := range results {
					stayed.Go(func() { results[i] = ask(t, r, "www.example.com. A") })
				}
			}
			if tt.beginnerLeaves {
				goes()
				<-g.entered
				stays()
				waitFor(t, waiting(callers))
			} else {
				stays()
				<-g.entered
				goes()
				waitFor(t, waiting(callers))
			}
			leave()
			left.Wait()
			close(g.open)
			stayed.Wait()
			for _, res := range results {
				expect(t, res, dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
			}
			sent := 0
			for _, s := range n.queries() {
				if s.Name == "www.example.com." {
					sent++
				}
			}
			// The gate does not let on what it held when its caller left.
			if tt.beginnerLeaves {
				sent++
			}
			if sent != tt.sent {
				t.Errorf("sent %d times, want %d", sent, tt.sent)
			}
		})
	}
}

// waitFor yields until ok says so; the test's own deadline ends it otherwise.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for !ok() {
		if t.Context().Err() != nil {
			t.Fatal("gave up waiting")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestTimeOfARequestIsBoundedAndNotBlamedOnTheCaller(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	g := newGate(n, "www.example.com.")
	r := n.resolver(func(c *Config) {
		c.Exchange = g
		c.Limits = DefaultLimits()
		c.Limits.Time = time.Millisecond
	})
	res := ask(t, r, "www.example.com. A")
	expectFailure(t, res, dns.ExtendedErrorCodeNoReachableAuthority)
	if res.TTL != failureTTL {
		t.Errorf("TTL %v", res.TTL)
	}
}

func TestManyCallersAtOnce(t *testing.T) {
	n, example, _ := smallInternet(t, withNSEC)
	for i := range 50 {
		example.add(fmt.Sprintf("w%d A 192.0.2.80", i))
	}
	// The signing cache of the test's servers is not for concurrent use.
	serial := &oneAtATime{internet: n}
	r := n.resolver(func(c *Config) { c.Exchange = serial })
	var all sync.WaitGroup
	for c := range 8 {
		all.Go(func() {
			for i := range 50 {
				expect(t, ask(t, r, fmt.Sprintf("w%d.example.com. A", (i*7+c)%50)), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
			}
		})
	}
	all.Wait()
}

type oneAtATime struct {
	*internet
	turn sync.Mutex
}

func (o *oneAtATime) Exchange(ctx context.Context, server netip.AddrPort, q *dns.Msg, stream bool) (*dns.Msg, error) {
	o.turn.Lock()
	defer o.turn.Unlock()
	return o.internet.Exchange(ctx, server, q, stream)
}

func TestFlightGivesEveryWaiterTheError(t *testing.T) {
	f := newFlights(1, 1)
	want := errors.New("broken")
	_, err := f.do(t.Context(), flightKey{}, "", time.Second, func(context.Context) (*dns.Msg, error) { return nil, want })
	if !errors.Is(err, want) || len(f.running) != 0 {
		t.Errorf("%v, %d left", err, len(f.running))
	}
}
