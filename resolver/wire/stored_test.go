package wire

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func records(t testing.TB, lines ...string) []dns.RR {
	t.Helper()
	var rrs []dns.RR
	for _, l := range lines {
		rr, err := dns.NewRR(l)
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, rr)
	}
	return rrs
}

func mustName(t testing.TB, text string) []byte {
	t.Helper()
	name, err := ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// exampleOutcome is a CNAME chain with signatures.
func exampleOutcome(t testing.TB) Outcome {
	return Outcome{
		Name: mustName(t, "www.example."), Type: dns.TypeA, DO: true, Secure: true,
		Answer: records(t,
			"www.example. 300 IN CNAME Host.Example.net.",
			"www.example. 300 IN RRSIG CNAME 13 2 300 20300101000000 20200101000000 1 example. AAAA",
			"host.example.net. 60 IN A 192.0.2.1",
			"host.example.net. 60 IN A 192.0.2.2"),
		EDE: []EDE{{3, "stale"}},
	}
}

func storedExample(t testing.TB) *Stored {
	t.Helper()
	s, err := Store(exampleOutcome(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPatchMakesTheReplyOfThisClient(t *testing.T) {
	s := storedExample(t)
	q := parsed(t, "WWW.eXample.", dns.TypeA, withEDNS(1232, true), func(m *dns.Msg) { m.RecursionDesired, m.CheckingDisabled = false, true })
	reply := Patch([]byte("x"), s, q, 50, q.Limit(false))
	m := unpack(t, reply[1:])
	want := records(t,
		"WWW.eXample. 250 IN CNAME host.example.net.",
		"WWW.eXample. 250 IN RRSIG CNAME 13 2 300 20300101000000 20200101000000 1 example. AAAA",
		"host.example.net. 10 IN A 192.0.2.1",
		"host.example.net. 10 IN A 192.0.2.2")
	for i, rr := range want {
		if !strings.EqualFold(m.Answer[i].String(), rr.String()) {
			t.Errorf("answer %d: %v, want %v", i, m.Answer[i], rr)
		}
	}
	if m.Question[0].Name != "WWW.eXample." || m.Answer[0].Header().Name != "WWW.eXample." {
		t.Errorf("the case of the client is lost:\n%v", m)
	}
	if m.Id != q.ID || m.RecursionDesired || !m.CheckingDisabled || !m.AuthenticatedData || m.Truncated {
		t.Errorf("header of\n%v", m)
	}
	if got := edes(m); len(got) != 1 || got[0] != (EDE{3, "stale"}) {
		t.Errorf("extended errors %v", got)
	}

	q = parsed(t, "www.example.", dns.TypeA)
	if m := unpack(t, Patch(nil, s, q, 100, 512)); len(m.Extra) != 0 || m.AuthenticatedData || m.Answer[2].Header().Ttl != 0 {
		t.Errorf("reply to a client without EDNS, after the lowest TTL:\n%v", m)
	}
	if again := unpack(t, Patch(nil, s, q, 0, 512)); again.Answer[0].Header().Ttl != 300 {
		t.Errorf("Patch changed what is stored:\n%v", again)
	}
}

func TestPatchTruncatesWhatDoesNotFit(t *testing.T) {
	o := Outcome{Name: mustName(t, "example."), Type: dns.TypeTXT}
	for range 3 {
		o.Answer = append(o.Answer, records(t, `example. 60 IN TXT "`+strings.Repeat("x", 200)+`"`)...)
	}
	s, err := Store(o)
	if err != nil {
		t.Fatal(err)
	}
	q := parsed(t, "example.", dns.TypeTXT, withEDNS(512, false))
	m := unpack(t, Patch(nil, s, q, 0, q.Limit(false)))
	if !m.Truncated || len(m.Answer) != 0 || m.IsEdns0() == nil {
		t.Errorf("reply\n%v", m)
	}
	if m := unpack(t, Patch(nil, s, q, 0, q.Limit(true))); m.Truncated || len(m.Answer) != 3 {
		t.Errorf("reply by a stream\n%v", m)
	}
}

func TestPatchRefusesAnotherQuestion(t *testing.T) {
	q := parsed(t, "longer.www.example.", dns.TypeA)
	if m := unpack(t, Patch(nil, storedExample(t), q, 0, 512)); len(m.Answer) != 0 {
		t.Errorf("reply\n%v", m)
	}
}

func TestStoreFindsEveryTarget(t *testing.T) {
	s, err := Store(Outcome{
		Name: mustName(t, "a.example."), Type: dns.TypeHTTPS,
		Answer: records(t,
			"example. 60 IN DNAME Sub.Example.org.",
			"a.example. 60 IN CNAME a.sub.example.org.",
			"a.sub.example.org. 60 IN HTTPS 1 . alpn=h2",
			"a.sub.example.org. 60 IN HTTPS 2 SVC.example.net. ipv4hint=192.0.2.1",
			"a.sub.example.org. 60 IN MX 1 mail.example."),
		Authority: records(t, "example. 60 IN CNAME not-in-the-answer."),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"sub.example.org.", "a.sub.example.org.", "svc.example.net."}
	var got []string
	for _, name := range s.Targets {
		got = append(got, NameText(name))
	}
	if !slices.Equal(got, want) {
		t.Errorf("targets %q, want %q", got, want)
	}
}

func TestStoreLeavesOutDNSSECRecordsWithoutDO(t *testing.T) {
	o := exampleOutcome(t)
	o.DO = false
	o.Authority = records(t, "example. 60 IN NSEC a.example. A", "example. 60 IN SOA . . 1 1 1 1 60")
	s, err := Store(o)
	if err != nil {
		t.Fatal(err)
	}
	m := unpack(t, Patch(nil, s, parsed(t, "www.example.", dns.TypeA), 0, 512))
	if len(m.Answer) != 3 || len(m.Ns) != 1 {
		t.Errorf("reply\n%v", m)
	}
	o.Type = dns.TypeRRSIG
	if s, err = Store(o); err != nil {
		t.Fatal(err)
	}
	m = unpack(t, Patch(nil, s, parsed(t, "www.example.", dns.TypeRRSIG), 0, 512))
	if len(m.Answer) != 4 {
		t.Errorf("reply to a question for RRSIG\n%v", m)
	}
	if len(o.Answer) != 4 {
		t.Error("Store changed what it was given")
	}
}

func TestStoreBoundsTTLs(t *testing.T) {
	s, err := Store(Outcome{
		Name: mustName(t, "example."), Type: dns.TypeA, MaxTTL: 900,
		Answer:    []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1<<31 + 5}, A: []byte{192, 0, 2, 1}}},
		Authority: records(t, "example. 1000 IN NS ns.example."),
	})
	if err != nil {
		t.Fatal(err)
	}
	m := unpack(t, Patch(nil, s, parsed(t, "example.", dns.TypeA), 0, 512))
	if m.Answer[0].Header().Ttl != 0 || m.Ns[0].Header().Ttl != 900 || s.TTL != 0 {
		t.Errorf("lowest TTL %d in reply\n%v", s.TTL, m)
	}
}

func TestStoreKeepsOddNames(t *testing.T) {
	name := []byte("\x05a.b\x00c\x07example\x00")
	s, err := Store(Outcome{Name: name, Type: dns.TypeA, Answer: records(t, `a\.b\000c.example. 60 IN A 192.0.2.1`)})
	if err != nil {
		t.Fatal(err)
	}
	packet := append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, name...)
	var q Query
	if err := q.Parse(append(packet, 0, 1, 0, 1)); err != nil {
		t.Fatal(err)
	}
	m := unpack(t, Patch(nil, s, &q, 0, 512))
	if m.Answer[0].Header().Name != `a\.b\000c.example.` {
		t.Errorf("reply\n%v", m)
	}
}

func TestStoreRefusesWhatIsNoMessage(t *testing.T) {
	huge := Outcome{Name: mustName(t, "example."), Type: dns.TypeTXT}
	for range 300 {
		huge.Answer = append(huge.Answer, records(t, `example. 60 IN TXT "`+strings.Repeat("x", 250)+`"`)...)
	}
	broken := Outcome{Name: mustName(t, "example."), Type: dns.TypeA,
		Answer: []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: "no dot at the end"}}}
	for name, o := range map[string]Outcome{
		"more than 64 KiB":        huge,
		"a record without a name": broken,
		"a question of no name":   {Name: []byte("\x03www")},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Store(o); err == nil {
				t.Error("stored")
			}
		})
	}
}

// FuzzStore stores what another message says and patches it for a query: the
// reply has the same records, and is within the limit.
func FuzzStore(f *testing.F) {
	m := new(dns.Msg)
	m.SetQuestion("www.example.", dns.TypeA)
	m.Answer = exampleOutcome(f).Answer
	packet, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packet, uint32(5), uint16(1232), true)
	m.Ns = records(f, "example. 60 IN SOA ns.example. h.example. 1 1 1 1 60", "www.example. 1 IN HTTPS 1 a.example. alpn=h2")
	m.Compress = true
	if packet, err = m.Pack(); err != nil {
		f.Fatal(err)
	}
	f.Add(packet, uint32(500), uint16(0), false)
	f.Fuzz(func(t *testing.T, packet []byte, age uint32, size uint16, do bool) {
		var m dns.Msg
		if m.Unpack(packet) != nil || len(m.Question) != 1 {
			return
		}
		name, err := ParseName(m.Question[0].Name)
		if err != nil {
			return
		}
		for _, rr := range slices.Concat(m.Answer, m.Ns) {
			if rr.Header().Rrtype == dns.TypeOPT {
				return // no record of the zone, and unpack would read it as EDNS
			}
		}
		s, err := Store(Outcome{Name: name, Type: m.Question[0].Qtype, Answer: m.Answer, Authority: m.Ns, DO: true})
		if err != nil {
			return
		}
		q := parsed(t, m.Question[0].Name, m.Question[0].Qtype, withEDNS(size, do))
		limit := q.Limit(false)
		reply := Patch(nil, s, q, age, limit)
		if len(reply) > limit {
			t.Fatalf("reply of %d bytes, the limit is %d", len(reply), limit)
		}
		got := unpack(t, reply)
		if got.Truncated {
			return
		}
		if len(got.Answer) != len(m.Answer) || len(got.Ns) != len(m.Ns) {
			t.Fatalf("stored\n%v\ngot\n%v", &m, got)
		}
		for i, rr := range slices.Concat(got.Answer, got.Ns) {
			was := dns.Copy(slices.Concat(m.Answer, m.Ns)[i])
			was.Header().Ttl = aged(was.Header().Ttl, age)
			if !bytes.Equal(packedRR(t, rr), packedRR(t, was)) {
				t.Fatalf("record %d: stored %v, got %v", i, was, rr)
			}
		}
	})
}

// aged is the naive model of what Store and Patch do to a TTL.
func aged(ttl, age uint32) uint32 {
	if ttl > 1<<31-1 || ttl < age {
		return 0
	}
	return ttl - age
}

// packedRR is a record without compression, its owner in lower case.
func packedRR(t testing.TB, rr dns.RR) []byte {
	t.Helper()
	rr = dns.Copy(rr)
	rr.Header().Name = dns.CanonicalName(rr.Header().Name)
	buf := make([]byte, 1<<17)
	n, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func BenchmarkPatch(b *testing.B) {
	s := storedExample(b)
	q := parsed(b, "www.example.", dns.TypeA, withEDNS(1232, true))
	dst := make([]byte, 0, MaxUDP)
	b.ReportAllocs()
	for b.Loop() {
		Patch(dst, s, q, 5, MaxUDP)
	}
}
