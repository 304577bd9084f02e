package feed

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const origin = "rpz.example."

// head is the beginning of each zone file.
const head = "$ORIGIN rpz.example.\n@ 60 IN SOA ns.example. host.example. 7 300 60 86400 60\n@ IN NS ns.example.\n"

// noPages: no list is loaded.
type noPages struct{}

func (noPages) StopPageAddress(netip.Addr) bool { return false }
func (noPages) StopPageName([]byte) bool        { return false }

// pages are those of 198.51.100.80 and stop.example.
type pages struct{}

func (pages) StopPageAddress(a netip.Addr) bool {
	return a == netip.MustParseAddr("198.51.100.80") || a == netip.MustParseAddr("2001:db8::80")
}
func (pages) StopPageName(n []byte) bool { return string(n) == "\x04stop\x07example\x00" }

func compileWith(t testing.TB, pages StopPages, rules string) *Zone {
	t.Helper()
	c, err := newCompiler("malware", origin, pages)
	if err != nil {
		t.Fatal(err)
	}
	if err := readZone(strings.NewReader(head+rules), "malware.rpz", origin, Limits{}.orDefault(), c.add); err != nil {
		t.Fatal(err)
	}
	z, err := c.finish()
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func compile(t testing.TB, rules string) *Zone { t.Helper(); return compileWith(t, noPages{}, rules) }

func wire(t testing.TB, text string) []byte {
	t.Helper()
	w, err := wireName(text)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// said is an answer as a test writes it.
type said struct {
	targets, servers []string
	addresses        []string
	t                testing.TB
}

func (s said) name(all []string, i int) []byte {
	if i >= len(all) {
		return nil
	}
	return wire(s.t, all[i])
}
func (s said) Target(i int) []byte { return s.name(s.targets, i) }
func (s said) Server(i int) []byte { return s.name(s.servers, i) }
func (s said) Address(i int) (netip.Addr, bool) {
	if i >= len(s.addresses) {
		return netip.Addr{}, false
	}
	return netip.MustParseAddr(s.addresses[i]), true
}

func asked(t testing.TB, name string) Question {
	return Question{Name: wire(t, name), Client: netip.MustParseAddr("192.0.2.1")}
}

func TestEachActionIsRead(t *testing.T) {
	z := compile(t, `
nx CNAME .
nodata CNAME *.
pass CNAME rpz-passthru.
old.pass CNAME old.pass.
drop CNAME rpz-drop.
tcp CNAME rpz-tcp-only.
garden CNAME walled.garden.example.
data A 192.0.2.7
data TXT "look here"
`)
	s := NewSet([]*Zone{z})
	for name, want := range map[string]Action{
		"nx.": NXDomain, "nodata.": NoData, "pass.": Passthru, "old.pass.": Passthru, "drop.": Drop, "tcp.": TCPOnly,
		"garden.": LocalData, "data.": LocalData, "other.": 0, "below.nx.": 0, ".": 0,
	} {
		m, final := s.Question(asked(t, name))
		if m.Action() != want || final != (want != 0) {
			t.Errorf("%s: %v, final %v; want %v", name, m.Action(), final, want)
		}
	}
	if z.Counts != (Counts{Active: 8}) || len(z.Shunned) != 0 {
		t.Errorf("counts %+v, shunned %v", z.Counts, z.Shunned)
	}
	m, _ := s.Question(asked(t, "garden."))
	if l := m.Local(); string(l.CName) != string(wire(t, "walled.garden.example.")) || l.Prepend {
		t.Errorf("local data %+v", l)
	}
	m, _ = s.Question(asked(t, "data."))
	if l := m.Local(); len(l.Records) != 2 || l.Records[0].Addr != netip.MustParseAddr("192.0.2.7") || string(l.Records[1].Data) != "\x09look here" {
		t.Errorf("local data %+v", l)
	}
}

func TestAWildcardCoversWhatIsBelowAndTheExactNameComesFirst(t *testing.T) {
	z := compile(t, `
bad.example CNAME .
*.bad.example CNAME *.
good.bad.example CNAME rpz-passthru.
*.deep.bad.example CNAME rpz-drop.
*.only.example CNAME .
`)
	s := NewSet([]*Zone{z})
	for name, want := range map[string]struct {
		action Action
		entry  string
	}{
		"bad.example.":          {NXDomain, "bad.example"},
		"www.bad.example.":      {NoData, "*.bad.example"},
		"a.b.bad.example.":      {NoData, "*.bad.example"},
		"good.bad.example.":     {Passthru, "good.bad.example"},
		"x.good.bad.example.":   {NoData, "*.bad.example"},
		"deep.bad.example.":     {NoData, "*.bad.example"},
		"x.y.deep.bad.example.": {Drop, "*.deep.bad.example"},
		"only.example.":         {},
		"x.only.example.":       {NXDomain, "*.only.example"},
		"xbad.example.":         {},
	} {
		m, _ := s.Question(asked(t, name))
		if m.Action() != want.action || want.action != 0 && m.Entry() != want.entry {
			t.Errorf("%s: %v by %q; want %v by %q", name, m.Action(), m.Entry(), want.action, want.entry)
		}
	}
	all := NewSet([]*Zone{compile(t, "* CNAME .")})
	if m, _ := all.Question(asked(t, "www.example.")); m.Action() != NXDomain || m.Entry() != "*" {
		t.Errorf("a rule for all names: %v by %q", m.Action(), m.Entry())
	}
}

func TestNamesAreMatchedWithoutCaseAndAsBytes(t *testing.T) {
	z := compile(t, `WWW.Bad.EXAMPLE CNAME .
a\.b.example CNAME .
\000bin.example CNAME .
`)
	s := NewSet([]*Zone{z})
	for _, name := range []string{"www.bad.example.", `a\.b.example.`, `\000bin.example.`} {
		if m, _ := s.Question(asked(t, name)); m.Action() != NXDomain {
			t.Errorf("%s: %v", name, m.Action())
		}
	}
	if m, _ := s.Question(asked(t, "a.b.example.")); m.Action() != 0 {
		t.Error("a dot within a label was taken for one between labels")
	}
}

func TestAddressesGoByTheLongestPrefix(t *testing.T) {
	z := compile(t, `
24.0.2.0.192.rpz-ip CNAME .
32.7.2.0.192.rpz-ip CNAME rpz-passthru.
32.zz.db8.2001.rpz-ip CNAME *.
128.1.zz.db8.2001.rpz-ip CNAME rpz-drop.
16.0.0.51.198.rpz-client-ip CNAME rpz-drop.
0.0.0.0.0.rpz-client-ip CNAME rpz-tcp-only.
`)
	s := NewSet([]*Zone{z})
	for addr, want := range map[string]struct {
		action Action
		entry  string
	}{
		"192.0.2.1": {NXDomain, "rpz-ip 192.0.2.0/24"}, "192.0.2.7": {Passthru, "rpz-ip 192.0.2.7/32"}, "192.0.3.1": {},
		"2001:db8::2": {NoData, "rpz-ip 2001:db8::/32"}, "2001:db8::1": {Drop, "rpz-ip 2001:db8::1/128"}, "2001:db9::1": {},
		"::ffff:192.0.2.1": {NXDomain, "rpz-ip 192.0.2.0/24"},
	} {
		q := Question{Name: wire(t, "x."), Client: netip.MustParseAddr("2001:db8:ffff::1")}
		m := s.Answer(q, said{addresses: []string{addr}, t: t})
		if m.Action() != want.action || want.action != 0 && m.Entry() != want.entry {
			t.Errorf("%s: %v by %q", addr, m.Action(), m.Entry())
		}
	}
	for addr, want := range map[string]Action{"198.51.7.7": Drop, "203.0.113.1": TCPOnly, "2001:db8::1": 0} {
		m, _ := s.Question(Question{Name: wire(t, "x."), Client: netip.MustParseAddr(addr)})
		if m.Action() != want {
			t.Errorf("client %s: %v", addr, m.Action())
		}
		if want != 0 && m.Entry() != "rpz-client-ip" {
			t.Errorf("the record would say %q of the client", m.Entry())
		}
	}
}

// TestPrecedence goes through §5 of the draft, one rule after the other.
func TestPrecedence(t *testing.T) {
	first := "first"
	for _, c := range []struct {
		name         string
		zones        []string
		answer       said
		entry, where string
	}{
		{"the feed that stands first", []string{"x.example CNAME .", "x.example CNAME rpz-passthru."}, said{}, "x.example", first},
		{"a client's address before its question", []string{"x.example CNAME .\n32.1.2.0.192.rpz-client-ip CNAME ."}, said{}, "rpz-client-ip", first},
		{"the question before the answer", []string{"x.example CNAME .\n24.0.2.0.192.rpz-ip CNAME rpz-drop."}, said{addresses: []string{"192.0.2.9"}}, "x.example", first},
		{"the answer in the first feed before the question in the second", []string{"24.0.2.0.192.rpz-ip CNAME .", "x.example CNAME ."}, said{addresses: []string{"192.0.2.9"}}, "rpz-ip 192.0.2.0/24", first},
		{"the answer before its servers", []string{"24.0.2.0.192.rpz-ip CNAME .\nns.evil.example.rpz-nsdname CNAME ."}, said{addresses: []string{"192.0.2.9"}, servers: []string{"ns.evil.example."}}, "rpz-ip 192.0.2.0/24", first},
		{"the chain in its order, whatever the feed", []string{"c.example CNAME .", "b.example CNAME ."}, said{targets: []string{"b.example.", "c.example."}}, "b.example", "second"},
		{"addresses at the end of the chain", []string{"24.0.2.0.192.rpz-ip CNAME .", "b.example CNAME ."}, said{targets: []string{"b.example.", "c.example."}, addresses: []string{"192.0.2.9"}}, "b.example", "second"},
		{"the longest of the prefixes", []string{"8.0.0.0.10.rpz-ip CNAME .\n24.0.2.0.192.rpz-ip CNAME ."}, said{addresses: []string{"10.0.0.1", "192.0.2.9"}}, "rpz-ip 192.0.2.0/24", first},
		{"of equal ones the smallest address", []string{"24.0.2.0.192.rpz-ip CNAME .\n24.0.0.0.10.rpz-ip CNAME ."}, said{addresses: []string{"192.0.2.9", "10.0.0.1"}}, "rpz-ip 10.0.0.0/24", first},
		{"an IPv4 prefix counts as its IPv6 form", []string{"24.0.2.0.192.rpz-ip CNAME .\n64.zz.db8.2001.rpz-ip CNAME ."}, said{addresses: []string{"2001:db8::1", "192.0.2.9"}}, "rpz-ip 192.0.2.0/24", first},
		{"the smallest of the server names", []string{"*.b.example.rpz-nsdname CNAME .\n*.a.example.rpz-nsdname CNAME ."}, said{servers: []string{"a.b.example.", "z.a.example."}}, "rpz-nsdname *.a.example", first},
	} {
		t.Run(c.name, func(t *testing.T) {
			var zones []*Zone
			for i, rules := range c.zones {
				z := compile(t, rules)
				z.Name = []string{first, "second"}[i]
				zones = append(zones, z)
			}
			s := NewSet(zones)
			c.answer.t = t
			m := s.Answer(asked(t, "x.example."), c.answer)
			if m.Zone == nil || m.Entry() != c.entry || m.Zone.Name != c.where {
				t.Errorf("triggered %q (%+v), want %q of feed %s", m.Entry(), m.Zone, c.entry, c.where)
			}
		})
	}
}

func TestTheQuestionDecidesAloneWhereNoAnswerCould(t *testing.T) {
	names, addresses := compile(t, "x.example CNAME ."), compile(t, "24.0.2.0.192.rpz-ip CNAME .")
	both := compile(t, "x.example CNAME .\nns.example.rpz-nsdname CNAME .")
	for _, c := range []struct {
		name  string
		zones []*Zone
		final bool
	}{
		{"no rule for answers", []*Zone{names}, true},
		{"in the same feed, after the question's", []*Zone{both}, true},
		{"in a later feed", []*Zone{names, addresses}, true},
		{"in an earlier feed", []*Zone{addresses, names}, false},
	} {
		s := NewSet(c.zones)
		m, final := s.Question(asked(t, "x.example."))
		if m.Action() != NXDomain || final != c.final {
			t.Errorf("%s: %v, final %v", c.name, m.Action(), final)
		}
	}
}

func TestWhatIsNotInForceIsCountedAndNamed(t *testing.T) {
	z := compileWith(t, pages{}, `
good.example CNAME .
24.0.2.0.192.rpz-nsip CNAME .
x.rpz-later CNAME .
act.example CNAME rpz-teapot.
svc.example HTTPS 1 . alpn=h2
33.0.2.0.192.rpz-ip CNAME .
24.1.2.0.192.rpz-ip CNAME .
8.zz.zz.1.rpz-ip CNAME .
rpz-nsdname CNAME .
twice.example CNAME .
twice.example CNAME *.
mixed.example A 192.0.2.1
mixed.example CNAME .
page.example A 198.51.100.80
page.example A 192.0.2.1
six.example AAAA 2001:db8::80
alias.example CNAME stop.example.
below.example CNAME *.stop.example.
mail.example MX 10 Stop.Example.
`)
	if want := (Counts{Active: 9, Unsupported: 4, Refused: 5, Invalid: 6}); z.Counts != want {
		t.Errorf("counts %+v, want %+v", z.Counts, want)
	}
	named := strings.Join(z.Shunned, "\n")
	for _, want := range []string{
		"24.0.2.0.192.rpz-nsip.rpz.example. NSIP triggers are not supported", `"rpz-later" is not known`, "the action rpz-teapot. is not known",
		"HTTPS", "prefix length 33", "192.0.2.1/24 has bits set", `"zz" stands twice`, "no name stands before", "twice.example.rpz.example. it has an action",
		"mixed.example.rpz.example. it has an action", "page.example.rpz.example. leads to the stop page", "alias.example.rpz.example. leads to the stop page",
	} {
		if !strings.Contains(named, want) {
			t.Errorf("%q is not named in\n%s", want, named)
		}
	}
	// A name whose records are left out keeps its rule, so that it is not free.
	s := NewSet([]*Zone{z})
	for name, records := range map[string]int{"page.example.": 1, "alias.example.": 0, "six.example.": 0, "svc.example.": 0, "mail.example.": 0} {
		m, _ := s.Question(asked(t, name))
		if m.Action() != LocalData || len(m.Local().Records) != records || m.Local().CName != nil {
			t.Errorf("%s: %v", name, m.Action())
		}
	}
}

func TestTheListOfWhatIsNotInForceIsBounded(t *testing.T) {
	var b strings.Builder
	for i := range 3 * maxShunned {
		b.WriteString("32." + string(rune('0'+i%10)) + "." + "0.0.10.rpz-nsip CNAME .\n")
	}
	z := compile(t, b.String())
	if z.Counts.Unsupported != 3*maxShunned || len(z.Shunned) != maxShunned {
		t.Errorf("%d counted, %d named", z.Counts.Unsupported, len(z.Shunned))
	}
}

func TestAFileThatIsNotTheFeedIsRefusedWithLineAndValue(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no SOA", "x CNAME .\n", "no SOA record of rpz.example."},
		{"another zone's SOA", "$ORIGIN other.example.\n@ SOA a. b. 1 2 3 4 5\n", "set zone to"},
		{"a bad line", head + "x CNAME .\ny A 192.0.2.256\n", `malware.rpz: bad A A: "192.0.2.256" at line: 5`},
		{"an included file", head + "$INCLUDE /etc/passwd\n", "malware.rpz"},
		{"too many records", head + strings.Repeat("x A 192.0.2.1\n", 30), "more than 20 records"},
		{"too many bytes", head + strings.Repeat(";", 3000), "more than 2000 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, err := newCompiler("malware", origin, noPages{})
			if err != nil {
				t.Fatal(err)
			}
			err = readZone(strings.NewReader(c.text), "malware.rpz", origin, Limits{Bytes: 2000, Records: 20}, k.add)
			if err == nil {
				_, err = k.finish()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q in it", err, c.want)
			}
		})
	}
}

func TestMatchingDoesNotAllocate(t *testing.T) {
	s := NewSet([]*Zone{compile(t, "*.bad.example CNAME .\n24.0.2.0.192.rpz-ip CNAME .\n*.evil.example.rpz-nsdname CNAME .\n16.0.0.51.198.rpz-client-ip CNAME .")})
	q := asked(t, "www.good.example.")
	a := fixed{wire(t, "alias.good.example."), netip.MustParseAddr("192.0.3.1"), wire(t, "ns.good.example.")}
	var answer Answer = &a
	if n := testing.AllocsPerRun(100, func() {
		if m, _ := s.Question(q); m.Action() != 0 {
			t.Fatal("triggered")
		}
		if m := s.Answer(q, answer); m.Action() != 0 {
			t.Fatal("triggered")
		}
	}); n != 0 {
		t.Errorf("%v allocations a question", n)
	}
}

type fixed struct {
	target []byte
	addr   netip.Addr
	server []byte
}

func (f *fixed) Target(i int) []byte {
	if i > 0 {
		return nil
	}
	return f.target
}
func (f *fixed) Address(i int) (netip.Addr, bool) { return f.addr, i == 0 }
func (f *fixed) Server(i int) []byte {
	if i > 0 {
		return nil
	}
	return f.server
}

func BenchmarkQuestion(b *testing.B) {
	c, err := newCompiler("malware", origin, noPages{})
	if err != nil {
		b.Fatal(err)
	}
	soa, err := dns.NewRR("rpz.example. 60 IN SOA a. b. 1 2 3 4 5")
	if err != nil {
		b.Fatal(err)
	}
	if err := c.add(soa); err != nil {
		b.Fatal(err)
	}
	const million = 1_000_000
	for i := range million {
		name := []byte("\x0cbad" + string(digits(i)) + "\x07example\x00")
		c.zone.qnames.put(name, false, rule(NXDomain))
		c.zone.qnames.put(name, true, rule(NXDomain))
	}
	z, err := c.finish()
	if err != nil {
		b.Fatal(err)
	}
	s := NewSet([]*Zone{z})
	hit, miss := make([]Question, 4096), make([]Question, 4096)
	for i := range hit {
		hit[i] = Question{Name: []byte("\x03www\x0cbad" + string(digits(i*(million/4096))) + "\x07example\x00")}
		miss[i] = Question{Name: []byte("\x03www\x0cgut" + string(digits(i)) + "\x07example\x00")}
	}
	for name, all := range map[string][]Question{"hit": hit, "miss": miss} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				s.Question(all[i&4095])
				i++
			}
			b.ReportMetric(float64(z.qnames.bytes())/million, "bytes/name")
		})
	}
}

func digits(n int) []byte {
	d := []byte("000000000")
	for i := len(d) - 1; n > 0; i-- {
		d[i], n = '0'+byte(n%10), n/10
	}
	return d
}
