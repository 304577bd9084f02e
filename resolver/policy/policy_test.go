package policy

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/blocklist"
	"cordon/blocklog"
	"cordon/resolver/wire"
)

const page = "https://stop.authority.example/terrorism"

func listOf(t testing.TB, serial uint64, entries ...blocklist.Entry) (*blocklist.List, *blocklist.Index) {
	t.Helper()
	l := &blocklist.List{
		Header: blocklist.Header{
			Authority: "Test authority", Serial: serial, AnswerTTL: 60,
			Issued: time.Unix(1, 0), ValidUntil: time.Unix(2, 0),
			Categories: map[string]blocklist.StopPage{
				"terrorism": {IPv4: []netip.Addr{netip.MustParseAddr("192.0.2.80")}, IPv6: []netip.Addr{netip.MustParseAddr("2001:db8::80")}, Page: page},
				"minors":    {IPv4: []netip.Addr{netip.MustParseAddr("192.0.2.81")}, Page: "https://stop.authority.example/minors"},
			},
		},
		Entries: entries,
	}
	l.Sort()
	x, err := blocklist.NewIndex(l.Entries)
	if err != nil {
		t.Fatal(err)
	}
	return l, x
}

func entry(id, name string, scope blocklist.Scope, category string) blocklist.Entry {
	return blocklist.Entry{ID: id, Name: name, Scope: scope, Category: category}
}

// enforcing returns a policy with one list in force.
func enforcing(t testing.TB, entries ...blocklist.Entry) *Policy {
	t.Helper()
	p, err := New([]List{{Name: "national", Required: true}})
	if err != nil {
		t.Fatal(err)
	}
	apply(t, p, "national", 7, entries...)
	return p
}

func apply(t testing.TB, p *Policy, name string, serial uint64, entries ...blocklist.Entry) {
	t.Helper()
	l, x := listOf(t, serial, entries...)
	if err := p.Apply(name, l, x); err != nil {
		t.Fatal(err)
	}
}

func wireName(t testing.TB, text string) []byte {
	t.Helper()
	name, err := wire.ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func parse(t testing.TB, m *dns.Msg) *wire.Query {
	t.Helper()
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q := new(wire.Query)
	if err := q.Parse(packet); err != nil {
		t.Fatal(err)
	}
	return q
}

// answerTo has the query answered and unpacks the reply.
func answerTo(t testing.TB, p *Policy, m *dns.Msg) (*dns.Msg, blocklog.Action) {
	t.Helper()
	q := parse(t, m)
	hit, ok := p.Current().Match(q.Name())
	if !ok {
		t.Fatalf("%s is not listed", m.Question[0].Name)
	}
	packet, action := hit.AppendReply(nil, q, q.Limit(false))
	reply := new(dns.Msg)
	if err := reply.Unpack(packet); err != nil {
		t.Fatalf("the reply does not parse: %v", err)
	}
	return reply, action
}

func edes(m *dns.Msg) map[uint16]string {
	found := make(map[uint16]string)
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				found[e.InfoCode] = e.ExtraText
			}
		}
	}
	return found
}

func TestEveryTypeOfAListedNameIsBlocked(t *testing.T) {
	p := enforcing(t, entry("e1", "propagande.example", blocklist.ScopeDomain, "terrorism"))
	types := []uint16{
		dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeTXT, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeDS, dns.TypeDNSKEY,
		dns.TypeANY, dns.TypeNS, dns.TypeSOA, dns.TypeCNAME, dns.TypePTR, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeCAA, 65280,
	}
	for _, name := range []string{"propagande.example.", "www.propagande.example.", "a.b.c.propagande.example.", "WwW.PropaGande.Example."} {
		for _, typ := range types {
			for _, flags := range []struct{ do, cd bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
				m := new(dns.Msg)
				m.SetQuestion(name, typ)
				m.SetEdns0(1232, flags.do)
				m.CheckingDisabled = flags.cd
				m.AuthenticatedData = true
				reply, action := answerTo(t, p, m)
				where := dns.TypeToString[typ] + " " + name

				if reply.Rcode != dns.RcodeSuccess || reply.AuthenticatedData || !reply.RecursionAvailable || reply.CheckingDisabled != flags.cd {
					t.Fatalf("%s: header %v", where, reply.MsgHdr)
				}
				if reply.Question[0].Name != name {
					t.Errorf("%s: the question came back as %s", where, reply.Question[0].Name)
				}
				if e := edes(reply); e[dns.ExtendedErrorCodeCensored] != page {
					t.Errorf("%s: extended errors %v, want Censored with the page's address", where, e)
				}
				_, forged := edes(reply)[dns.ExtendedErrorCodeForgedAnswer]
				switch typ {
				case dns.TypeA, dns.TypeAAAA:
					if len(reply.Answer) != 1 || reply.Answer[0].Header().Rrtype != typ || reply.Answer[0].Header().Ttl != 60 || reply.Answer[0].Header().Name != name {
						t.Errorf("%s: answer %v, want one address of the stop page with the list's TTL", where, reply.Answer)
					}
					if action != blocklog.StopPage || !forged {
						t.Errorf("%s: action %v, forged %v", where, action, forged)
					}
				default:
					if len(reply.Answer) != 0 || len(reply.Ns) != 1 || reply.Ns[0].Header().Rrtype != dns.TypeSOA || reply.Ns[0].(*dns.SOA).Minttl != 60 {
						t.Errorf("%s: answer %v authority %v, want NODATA with a SOA", where, reply.Answer, reply.Ns)
					}
					if action != blocklog.NoData || forged {
						t.Errorf("%s: action %v, forged %v", where, action, forged)
					}
				}
			}
		}
	}
}

func TestAnAddressFamilyThatTheStopPageLacksIsNoData(t *testing.T) {
	p := enforcing(t, entry("e1", "images.example", blocklist.ScopeHost, "minors"))
	m := new(dns.Msg)
	m.SetQuestion("images.example.", dns.TypeAAAA)
	m.SetEdns0(1232, false)
	reply, action := answerTo(t, p, m)
	if action != blocklog.NoData || len(reply.Answer) != 0 || len(reply.Ns) != 1 {
		t.Fatalf("action %v, reply %v", action, reply)
	}
}

func TestAClientWithoutEDNSGetsNoOPT(t *testing.T) {
	p := enforcing(t, entry("e1", "images.example", blocklist.ScopeHost, "minors"))
	m := new(dns.Msg)
	m.SetQuestion("images.example.", dns.TypeA)
	reply, _ := answerTo(t, p, m)
	if reply.IsEdns0() != nil || len(reply.Answer) != 1 {
		t.Fatalf("reply %v", reply)
	}
}

func TestScope(t *testing.T) {
	p := enforcing(t,
		entry("d", "propagande.example", blocklist.ScopeDomain, "terrorism"),
		entry("h", "images.example", blocklist.ScopeHost, "minors"),
		entry("deep", "a.b.sub.example", blocklist.ScopeHost, "minors"),
		entry("sub", "sub.example", blocklist.ScopeDomain, "terrorism"))
	for _, c := range []struct{ name, want string }{
		{"propagande.example.", "d"},
		{"x.propagande.example.", "d"},
		{"xpropagande.example.", ""},
		{"images.example.", "h"},
		{"www.images.example.", ""},
		{"a.b.sub.example.", "deep"},
		{"c.b.sub.example.", "sub"}, // the deeper entry frees no sibling
		{"b.sub.example.", "sub"},
		{"example.", ""},
		{".", ""},
	} {
		hit, ok := p.Current().Match(wireName(t, c.name))
		got := ""
		if ok {
			got = hit.Entry().ID
		}
		if got != c.want {
			t.Errorf("%s is covered by %q, want %q", c.name, got, c.want)
		}
	}
}

func TestOnOverlapTheFirstListAnswersAndAllAreOnRecord(t *testing.T) {
	p, err := New([]List{{"first", true}, {"second", true}, {"third", true}})
	if err != nil {
		t.Fatal(err)
	}
	apply(t, p, "third", 3, entry("c", "x.example", blocklist.ScopeDomain, "terrorism"))
	apply(t, p, "second", 2, entry("other", "y.example", blocklist.ScopeHost, "terrorism"))
	if p.Current().Ready() {
		t.Fatal("ready though a required list is missing")
	}
	apply(t, p, "first", 1, entry("a", "www.x.example", blocklist.ScopeHost, "minors"))
	g := p.Current()
	if !g.Ready() {
		t.Fatal("not ready though all lists are loaded")
	}
	name := wireName(t, "www.x.example.")
	hit, ok := g.Match(name)
	if !ok || hit.List() != "first" {
		t.Fatalf("enforced by %v", hit)
	}
	got := g.AppendMatches(nil, hit, name)
	want := []blocklog.Match{{List: "first", Serial: 1, Entry: "a"}, {List: "third", Serial: 3, Entry: "c"}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("on record %v, want %v", got, want)
	}
}

func TestApplyLeavesOtherListsAndOldGenerationsAlone(t *testing.T) {
	p, err := New([]List{{"first", true}, {"second", false}})
	if err != nil {
		t.Fatal(err)
	}
	apply(t, p, "first", 1, entry("a", "a.example", blocklist.ScopeHost, "minors"))
	apply(t, p, "second", 1, entry("b", "b.example", blocklist.ScopeHost, "minors"))
	before := p.Current()
	apply(t, p, "second", 2)
	after := p.Current()
	if _, ok := after.Match(wireName(t, "a.example.")); !ok {
		t.Error("the change of the second list took an entry of the first")
	}
	if _, ok := after.Match(wireName(t, "b.example.")); ok {
		t.Error("the lifted name is still listed")
	}
	if _, ok := before.Match(wireName(t, "b.example.")); !ok {
		t.Error("the old generation changed under its reader")
	}
	if after.Number() != before.Number()+1 || after.Serials()["second"] != 2 {
		t.Errorf("number %d after %d, serials %v", after.Number(), before.Number(), after.Serials())
	}
	if err := p.Apply("unknown", &blocklist.List{}, nil); err == nil {
		t.Error("a list that is not configured was applied")
	}
}

func TestWithoutRequiredListsAPolicyIsReadyAtOnce(t *testing.T) {
	p, err := New([]List{{"optional", false}})
	if err != nil || !p.Current().Ready() {
		t.Fatalf("ready %v, %v", p.Current().Ready(), err)
	}
	if p, _ := New([]List{{"optional", false}, {"needed", true}}); p.Current().Ready() {
		t.Fatal("ready without the required list")
	}
}

func TestMatchAndReplyDoNotAllocate(t *testing.T) {
	p := enforcing(t, entry("e1", "propagande.example", blocklist.ScopeDomain, "terrorism"))
	m := new(dns.Msg)
	m.SetQuestion("www.propagande.example.", dns.TypeA)
	m.SetEdns0(1232, true)
	q := parse(t, m)
	buf := make([]byte, 0, 1232)
	matches := make([]blocklog.Match, 0, 4)
	if n := testing.AllocsPerRun(100, func() {
		g := p.Current()
		hit, ok := g.Match(q.Name())
		if !ok {
			t.Fatal("not listed")
		}
		matches = g.AppendMatches(matches[:0], hit, q.Name())
		hit.AppendReply(buf, q, 1232)
	}); n != 0 {
		t.Errorf("%v allocations a blocked answer", n)
	}
}

func BenchmarkBlockedAnswer(b *testing.B) {
	p := enforcing(b, entry("e1", "propagande.example", blocklist.ScopeDomain, "terrorism"))
	m := new(dns.Msg)
	m.SetQuestion("www.propagande.example.", dns.TypeA)
	m.SetEdns0(1232, true)
	q := parse(b, m)
	buf := make([]byte, 0, 1232)
	b.ReportAllocs()
	for b.Loop() {
		hit, _ := p.Current().Match(q.Name())
		hit.AppendReply(buf, q, 1232)
	}
}
