package resolver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/blocklist"
	"cordon/blocklog"
	"cordon/resolver/iterate"
	"cordon/resolver/policy"
	"cordon/resolver/transport"
)

// internet is a root server that holds every name there is, unsigned.
type internet struct {
	mu      sync.Mutex
	records map[string][]dns.RR // by name
	asked   map[string]int      // by name
	down    bool                // gives no reply
}

func newInternet(t testing.TB, records ...string) *internet {
	t.Helper()
	n := &internet{records: map[string][]dns.RR{}, asked: map[string]int{}}
	for _, text := range append(records, ". 3600 IN NS a.root.", "a.root. 3600 IN A 192.0.2.53", ". 3600 IN SOA a.root. x.root. 1 2 3 4 300") {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		n.records[rr.Header().Name] = append(n.records[rr.Header().Name], rr)
	}
	return n
}

// Exchange implements iterate.Exchange.
func (n *internet) Exchange(_ context.Context, _ netip.AddrPort, query *dns.Msg, _ bool) (*dns.Msg, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	q := query.Question[0]
	name := strings.ToLower(q.Name)
	n.asked[name]++
	if n.down {
		return nil, errors.New("no reply")
	}
	m := new(dns.Msg)
	m.SetReply(query)
	m.Authoritative = true
	for _, rr := range n.records[name] {
		if rr.Header().Rrtype == q.Qtype || rr.Header().Rrtype == dns.TypeCNAME {
			m.Answer = append(m.Answer, rr)
		}
	}
	if len(m.Answer) == 0 {
		m.Ns = n.records["."][1:]
		if _, there := n.records[name]; !there {
			m.Rcode = dns.RcodeNameError
		}
	}
	return m, nil
}

func (n *internet) timesAsked(name string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[name]
}

// newResolver returns a resolver with one list, "national", not yet loaded,
// that resolves from the internet given.
func newResolver(t testing.TB, n *internet) *Resolver {
	t.Helper()
	dir := t.TempDir()
	r, err := New(Config{
		Listen:     []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		AllowFrom:  []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		CacheBytes: 1 << 20, Workers: 10,
		Recursion: Recursion{Port: 53, CacheBytes: 1 << 20, Timeout: 5 * time.Second},
		Blocklog:  BlocklogConfig{Dir: filepath.Join(dir, "blocklog")},
	}, Surroundings{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	if r.policy, err = policy.New([]policy.List{{Name: "national", Required: true}}); err != nil {
		t.Fatal(err)
	}
	r.iterator, err = iterate.New(iterate.Config{
		Exchange: n, Clock: time.Now,
		Roots: []dns.RR{n.records["."][0], n.records["a.root."][0]},
		Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// enforce puts a list of domain entries in force.
func enforce(t testing.TB, r *Resolver, serial uint64, names ...string) {
	t.Helper()
	l := &blocklist.List{Header: blocklist.Header{Serial: serial, AnswerTTL: 60, Categories: map[string]blocklist.StopPage{
		"terrorism": {IPv4: []netip.Addr{netip.MustParseAddr("198.51.100.80")}, Page: "https://stop.example/"},
	}}}
	for _, n := range names {
		l.Entries = append(l.Entries, blocklist.Entry{ID: "id-" + n, Name: n, Scope: blocklist.ScopeDomain, Category: "terrorism"})
	}
	l.Sort()
	x, err := blocklist.NewIndex(l.Entries)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.policy.Apply("national", l, x); err != nil {
		t.Fatal(err)
	}
}

var client = transport.Meta{Transport: blocklog.UDP, Peer: netip.MustParseAddrPort("127.0.0.1:4000")}

// ask sends m the way a packet goes: to the session, and to a worker if that
// says so. It tells which of the two answered.
func ask(t testing.TB, r *Resolver, m *dns.Msg, from transport.Meta) (reply *dns.Msg, waited bool) {
	t.Helper()
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	s := r.Session()
	raw, verdict := s.Answer(nil, packet, from)
	switch verdict {
	case transport.Drop:
		return nil, false
	case transport.Later:
		raw, waited = r.Resolve(context.Background(), packet, from), true
	}
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	reply = new(dns.Msg)
	if err := reply.Unpack(raw); err != nil {
		t.Fatalf("the reply does not parse: %v", err)
	}
	return reply, waited
}

func question(name string, typ uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, typ)
	m.SetEdns0(1232, false)
	return m
}

// records reads the whole block log.
func records(t testing.TB, dir string) (all []blocklog.Record) {
	t.Helper()
	oldest, _, err := blocklog.Bounds(dir)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := blocklog.OpenReader(dir, oldest)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for {
		record, _, err := reader.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, record)
	}
}

// decisions gives name, type and entry of each decision in the block log.
func decisions(t testing.TB, r *Resolver) []string {
	t.Helper()
	all := []string{}
	for _, record := range records(t, r.config.Blocklog.Dir) {
		if d := record.Decision; d != nil {
			all = append(all, blocklog.NameText(d.Name)+" "+blocklog.TypeText(d.Type)+" "+d.Matches[0].Entry)
		}
	}
	return all
}

func ede(m *dns.Msg) []uint16 {
	var codes []uint16
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				codes = append(codes, e.InfoCode)
			}
		}
	}
	return codes
}

func blocked(m *dns.Msg) bool {
	for _, code := range ede(m) {
		if code == dns.ExtendedErrorCodeCensored {
			return true
		}
	}
	return false
}

func TestBeforeTheFirstListEveryAnswerIsServfailNotReady(t *testing.T) {
	r := newResolver(t, newInternet(t, "www.libre.example. 60 IN A 192.0.2.10"))
	reply, _ := ask(t, r, question("www.libre.example.", dns.TypeA), client)
	if reply.Rcode != dns.RcodeServerFailure || len(ede(reply)) != 1 || ede(reply)[0] != dns.ExtendedErrorCodeNotReady {
		t.Fatalf("got %v", reply)
	}
	enforce(t, r, 1)
	if reply, _ := ask(t, r, question("www.libre.example.", dns.TypeA), client); len(reply.Answer) != 1 {
		t.Fatalf("with the list loaded: %v", reply)
	}
}

func TestAnUnlistedNameIsResolvedOnceAndThenServedFromTheCache(t *testing.T) {
	n := newInternet(t, "www.libre.example. 60 IN A 192.0.2.10")
	r := newResolver(t, n)
	enforce(t, r, 1, "propagande.example")
	for i := range 3 {
		reply, waited := ask(t, r, question("wWw.libre.EXAMPLE.", dns.TypeA), client)
		if len(reply.Answer) != 1 || reply.Question[0].Name != "wWw.libre.EXAMPLE." || blocked(reply) {
			t.Fatalf("reply %v", reply)
		}
		if waited != (i == 0) {
			t.Errorf("question %d: waited %v", i+1, waited)
		}
	}
	if got := n.timesAsked("www.libre.example."); got != 1 {
		t.Errorf("the servers were asked %d times", got)
	}
	if got := decisions(t, r); len(got) != 0 {
		t.Errorf("names that are not listed are on record: %v", got)
	}
}

func TestAListedNameIsBlockedAndNobodyIsAsked(t *testing.T) {
	n := newInternet(t, "www.propagande.example. 60 IN A 192.0.2.66")
	r := newResolver(t, n)
	enforce(t, r, 1, "propagande.example")
	reply, waited := ask(t, r, question("www.propagande.example.", dns.TypeA), client)
	if waited || !blocked(reply) || len(reply.Answer) != 1 || reply.Answer[0].(*dns.A).A.String() != "198.51.100.80" {
		t.Fatalf("waited %v, reply %v", waited, reply)
	}
	if got := n.timesAsked("www.propagande.example."); got != 0 {
		t.Errorf("the servers were asked %d times", got)
	}
	if got := decisions(t, r); len(got) != 1 || got[0] != "www.propagande.example A id-propagande.example" {
		t.Errorf("on record: %v", got)
	}
}

func TestACNAMEToAListedNameIsBlockedWithoutShowingTheTarget(t *testing.T) {
	n := newInternet(t,
		"alias.libre.example. 60 IN CNAME www.propagande.example.",
		"www.propagande.example. 60 IN A 192.0.2.66")
	r := newResolver(t, n)
	enforce(t, r, 1, "propagande.example")
	for _, typ := range []uint16{dns.TypeA, dns.TypeMX, dns.TypeCNAME} {
		reply, _ := ask(t, r, question("alias.libre.example.", typ), client)
		if !blocked(reply) {
			t.Errorf("%s: %v", dns.TypeToString[typ], reply)
		}
		if strings.Contains(reply.String(), "propagande") {
			t.Errorf("%s: the reply names the listed target: %v", dns.TypeToString[typ], reply)
		}
	}
	if got := n.timesAsked("www.propagande.example."); got != 0 {
		t.Errorf("the listed target was resolved %d times", got)
	}
	want := []string{"alias.libre.example A id-propagande.example", "alias.libre.example MX id-propagande.example", "alias.libre.example CNAME id-propagande.example"}
	if got := decisions(t, r); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("on record %v, want %v", got, want)
	}
}

func TestAListingHoldsAtOnceForWhatIsCachedAndALiftFreesItAtOnce(t *testing.T) {
	n := newInternet(t,
		"alias.libre.example. 3600 IN CNAME www.propagande.example.",
		"www.propagande.example. 3600 IN A 192.0.2.66")
	r := newResolver(t, n)
	resolves := func(when, name string) {
		t.Helper()
		reply, _ := ask(t, r, question(name, dns.TypeA), client)
		if blocked(reply) || len(reply.Answer) == 0 || reply.Answer[len(reply.Answer)-1].(*dns.A).A.String() != "192.0.2.66" {
			t.Errorf("%s, %s: %v", when, name, reply)
		}
	}
	isBlocked := func(when, name string) {
		t.Helper()
		if reply, _ := ask(t, r, question(name, dns.TypeA), client); !blocked(reply) {
			t.Errorf("%s, %s: %v", when, name, reply)
		}
	}
	enforce(t, r, 1)
	for _, name := range []string{"alias.libre.example.", "www.propagande.example."} {
		resolves("before the listing", name)
	}
	enforce(t, r, 2, "propagande.example")
	for _, name := range []string{"alias.libre.example.", "www.propagande.example."} {
		isBlocked("listed", name)
		isBlocked("listed, again", name)
	}
	enforce(t, r, 3)
	for _, name := range []string{"alias.libre.example.", "www.propagande.example."} {
		resolves("lifted", name)
	}
}

func TestAnHTTPSRecordThatLeadsToAListedNameIsBlocked(t *testing.T) {
	n := newInternet(t, "svc.libre.example. 60 IN HTTPS 1 www.propagande.example. alpn=h2 ipv4hint=192.0.2.66")
	r := newResolver(t, n)
	enforce(t, r, 1, "propagande.example")
	reply, _ := ask(t, r, question("svc.libre.example.", dns.TypeHTTPS), client)
	if !blocked(reply) || len(reply.Answer) != 0 {
		t.Fatalf("reply %v", reply)
	}
}

func TestWhatIsRefused(t *testing.T) {
	r := newResolver(t, newInternet(t))
	enforce(t, r, 1, "propagande.example")
	stranger := transport.Meta{Transport: blocklog.UDP, Peer: netip.MustParseAddrPort("192.0.2.99:53")}
	for _, c := range []struct {
		name  string
		from  transport.Meta
		query func(m *dns.Msg)
		rcode int
	}{
		{"a client that is not in allow_from", stranger, func(*dns.Msg) {}, dns.RcodeRefused},
		{"a question without recursion", client, func(m *dns.Msg) { m.RecursionDesired = false }, dns.RcodeRefused},
		{"class CHAOS", client, func(m *dns.Msg) {
			m.Question[0] = dns.Question{Name: "version.bind.", Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS}
		}, dns.RcodeRefused},
		{"class ANY", client, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY }, dns.RcodeRefused},
		{"a zone transfer", client, func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }, dns.RcodeNotImplemented},
		{"an update", client, func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
	} {
		m := question("www.libre.example.", dns.TypeA)
		c.query(m)
		reply, waited := ask(t, r, m, c.from)
		if reply.Rcode != c.rcode || waited || len(reply.Answer) != 0 {
			t.Errorf("%s: %v (waited %v)", c.name, reply, waited)
		}
	}
	reply := question("www.libre.example.", dns.TypeA)
	reply.Response = true
	if got, _ := ask(t, r, reply, client); got != nil {
		t.Errorf("a reply was answered: %v", got)
	}
}

func TestAListedNameIsBlockedWithoutRecursionDesiredToo(t *testing.T) {
	r := newResolver(t, newInternet(t))
	enforce(t, r, 1, "propagande.example")
	m := question("propagande.example.", dns.TypeA)
	m.RecursionDesired = false
	if reply, _ := ask(t, r, m, client); !blocked(reply) {
		t.Fatalf("reply %v", reply)
	}
}

func TestANYGetsTheShortAnswer(t *testing.T) {
	r := newResolver(t, newInternet(t, "www.libre.example. 60 IN A 192.0.2.10"))
	enforce(t, r, 1)
	reply, waited := ask(t, r, question("www.libre.example.", dns.TypeANY), client)
	if waited || len(reply.Answer) != 1 || reply.Answer[0].(*dns.HINFO).Cpu != "RFC8482" {
		t.Fatalf("reply %v", reply)
	}
}

func TestDesignatedResolversAreAlwaysAnsweredHere(t *testing.T) {
	n := newInternet(t, "_dns.resolver.arpa. 60 IN A 192.0.2.1")
	r := newResolver(t, n)
	enforce(t, r, 1)
	reply, waited := ask(t, r, question("_dns.resolver.arpa.", dns.TypeSVCB), client)
	if waited || len(reply.Answer) != 0 || n.timesAsked("_dns.resolver.arpa.") != 0 {
		t.Fatalf("reply %v, waited %v", reply, waited)
	}
}

func TestABlockedAnswerDoesNotAllocate(t *testing.T) {
	r := newResolver(t, newInternet(t, "www.libre.example. 3600 IN A 192.0.2.10"))
	enforce(t, r, 1, "propagande.example")
	ask(t, r, question("www.libre.example.", dns.TypeA), client)
	s := r.Session()
	buf := make([]byte, 0, 1500)
	for _, c := range []struct{ what, name string }{
		{"a blocked answer, with its record", "www.propagande.example."},
		{"an answer from the cache", "www.libre.example."},
	} {
		packet, err := question(c.name, dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		n := testing.AllocsPerRun(200, func() {
			if _, verdict := s.Answer(buf, packet, client); verdict != transport.Reply {
				t.Fatalf("%s: verdict %v", c.what, verdict)
			}
			if err := s.Commit(); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", c.what, n)
		}
	}
}

// TestQuestionsThatAreNotBlockedAreCounted holds that the traffic that guards a
// name is that which got an answer, from the cache and from the servers alike.
func TestQuestionsThatAreNotBlockedAreCounted(t *testing.T) {
	n := newInternet(t, "www.libre.example. 3600 IN A 192.0.2.10", "alias.libre.example. 3600 IN CNAME www.propagande.example.")
	r := newResolver(t, n)
	r.traffic = blocklist.NewPopularity(r.clock)
	enforce(t, r, 1, "propagande.example")
	s := r.Session()
	const asked = 2000
	for _, name := range []string{"www.libre.example.", "www.propagande.example.", "alias.libre.example."} {
		packet, err := question(name, dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		for range asked {
			if _, verdict := s.Answer(nil, packet, client); verdict == transport.Later {
				r.Resolve(context.Background(), packet, client)
			}
		}
		if err := s.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	s.(*session).tally.Flush()
	for name, want := range map[string]float64{"libre.example": asked, "www.libre.example": asked, "propagande.example": 0, "alias.libre.example": 0} {
		wire, err := blocklist.WireName(name)
		if err != nil {
			t.Fatal(err)
		}
		// One in eight is counted, for eight.
		if got, of := r.traffic.Estimate(wire); got < 0.8*want || got > 1.2*want || of != asked {
			t.Errorf("%s: %v of %v questions, want about %v of %d", name, got, of, want, asked)
		}
	}
}
