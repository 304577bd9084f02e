package wire

import (
	"bytes"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// parsed is a query that parses.
func parsed(t testing.TB, name string, qtype uint16, edit ...func(*dns.Msg)) *Query {
	t.Helper()
	q := new(Query)
	if err := q.Parse(question(t, name, qtype, edit...)); err != nil {
		t.Fatal(err)
	}
	return q
}

// edes are the extended errors of a reply.
func edes(m *dns.Msg) []EDE {
	var found []EDE
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				found = append(found, EDE{e.InfoCode, e.ExtraText})
			}
		}
	}
	return found
}

func TestBuilderAnswersInTheCaseOfTheClient(t *testing.T) {
	q := parsed(t, "wWw.Example.", dns.TypeA, withEDNS(1232, true))
	var b Builder
	b.Start(nil, q, q.Limit(false))
	b.Answer(0, dns.TypeA, 60, []byte{192, 0, 2, 1})
	b.Answer(0, dns.TypeA, 60, []byte{192, 0, 2, 2})
	b.Authority(4, dns.TypeNS, 300, []byte("\x02ns\x07example\x00"))
	b.Authority(len(q.Name())-1, dns.TypeNS, 300, []byte("\x00"))
	m := unpack(t, b.Finish(dns.RcodeSuccess, true, EDE{4, ""}, EDE{16, "https://stop.example/"}))

	if m.Question[0].Name != "wWw.Example." || len(m.Answer) != 2 || len(m.Ns) != 2 {
		t.Fatalf("reply:\n%v", m)
	}
	if got := m.Answer[1].String(); got != "wWw.Example.\t60\tIN\tA\t192.0.2.2" {
		t.Errorf("answer %q", got)
	}
	if got := m.Ns[0].String(); got != "Example.\t300\tIN\tNS\tns.example." {
		t.Errorf("authority %q", got)
	}
	if got := m.Ns[1].Header().Name; got != "." {
		t.Errorf("owner %q, want the root", got)
	}
	if !m.AuthenticatedData || !m.RecursionAvailable || !m.RecursionDesired || m.Authoritative || m.Truncated {
		t.Errorf("flags of\n%v", m)
	}
	opt := m.IsEdns0()
	if opt == nil || !opt.Do() || opt.UDPSize() != MaxUDP {
		t.Errorf("OPT %v", opt)
	}
	if got := edes(m); len(got) != 2 || got[0] != (EDE{4, ""}) || got[1] != (EDE{16, "https://stop.example/"}) {
		t.Errorf("extended errors %v", got)
	}
}

func TestBuilderKeepsWhatIsBeforeTheReply(t *testing.T) {
	q := parsed(t, "www.example.", dns.TypeA)
	reply := AppendError([]byte("prefix"), q, dns.RcodeRefused, 512)
	if !bytes.HasPrefix(reply, []byte("prefix")) {
		t.Fatalf("reply %q", reply)
	}
	if m := unpack(t, reply[6:]); m.Rcode != dns.RcodeRefused {
		t.Errorf("reply\n%v", m)
	}
}

func TestADIsForClientsThatCanTell(t *testing.T) {
	tests := []struct {
		name         string
		edit         func(*dns.Msg)
		secure, want bool
	}{
		{"neither DO nor AD", func(*dns.Msg) {}, true, false},
		{"DO", withEDNS(1232, true), true, true},
		{"AD", func(m *dns.Msg) { m.AuthenticatedData = true }, true, true},
		{"DO and an insecure answer", withEDNS(1232, true), false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := parsed(t, "example.", dns.TypeA, tt.edit)
			var b Builder
			b.Start(nil, q, 512)
			if m := unpack(t, b.Finish(0, tt.secure)); m.AuthenticatedData != tt.want {
				t.Errorf("AD = %v, want %v", m.AuthenticatedData, tt.want)
			}
		})
	}
}

func TestTruncationLeavesHeaderQuestionAndOPT(t *testing.T) {
	q := parsed(t, "example.", dns.TypeTXT, withEDNS(512, false))
	var b Builder
	b.Start(nil, q, 512)
	text := append([]byte{200}, bytes.Repeat([]byte("x"), 200)...)
	for range 3 {
		b.Answer(0, dns.TypeTXT, 60, text)
	}
	b.Authority(0, dns.TypeNS, 60, []byte{0})
	m := unpack(t, b.Finish(0, false, EDE{16, "why"}))
	if !m.Truncated || len(m.Answer)+len(m.Ns) != 0 || len(m.Question) != 1 {
		t.Errorf("reply\n%v", m)
	}
	if got := edes(m); len(got) != 1 || got[0].Text != "why" {
		t.Errorf("extended errors %v", got)
	}
}

func TestExtendedErrorsGiveWayToTheLimit(t *testing.T) {
	const limit = 512
	q := parsed(t, "example.", dns.TypeA, withEDNS(limit, false))
	room := limit - headerLen - len("\x07example\x00") - 4 - optLen
	tests := []struct {
		name string
		edes []EDE
		want []EDE
	}{
		{"a text that just fits", []EDE{{16, strings.Repeat("x", room-6)}}, []EDE{{16, strings.Repeat("x", room-6)}}},
		{"a text one byte too long", []EDE{{16, strings.Repeat("x", room-5)}}, []EDE{{16, ""}}},
		{"a code behind a long text", []EDE{{16, strings.Repeat("x", room-12)}, {4, "y"}}, []EDE{{16, strings.Repeat("x", room-12)}, {4, ""}}},
		{"no room for another code", []EDE{{16, strings.Repeat("x", room-11)}, {4, "y"}}, []EDE{{16, strings.Repeat("x", room-11)}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b Builder
			b.Start(nil, q, limit)
			if b.Room() != room {
				t.Errorf("Room = %d, want %d", b.Room(), room)
			}
			reply := b.Finish(0, false, tt.edes...)
			if len(reply) > limit {
				t.Errorf("reply has %d bytes", len(reply))
			}
			got := edes(unpack(t, reply))
			if len(got) != len(tt.want) {
				t.Fatalf("extended errors %v", got)
			}
			for i := range got {
				if got[i] != tt.want[i] {
					t.Errorf("extended error %d: %v", i, got[i])
				}
			}
		})
	}
}

func TestWithoutEDNSThereIsNoOPT(t *testing.T) {
	q := parsed(t, "example.", dns.TypeA)
	reply := AppendError(nil, q, dns.RcodeBadVers, 512, EDE{16, "why"})
	if m := unpack(t, reply); len(m.Extra) != 0 || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("reply\n%v", m)
	}
	var b Builder
	b.Start(nil, q, 512)
	if b.Room() != 0 {
		t.Errorf("Room = %d without EDNS", b.Room())
	}
}

func TestASignedQueryIsToldThatItsKeyIsUnknown(t *testing.T) {
	var q Query
	if err := q.Parse(question(t, "www.example.", dns.TypeA, withEDNS(1232, false), func(m *dns.Msg) {
		m.SetTsig("Key.example.", dns.HmacSHA256, 300, 1234567)
	})); err != ErrTSIG {
		t.Fatal(err)
	}
	m := unpack(t, AppendError(nil, &q, dns.RcodeNotAuth, 512))
	tsig := m.IsTsig()
	if tsig == nil || len(m.Extra) != 2 || m.Rcode != dns.RcodeNotAuth {
		t.Fatalf("reply\n%v", m)
	}
	if tsig.Hdr.Name != "key.example." || tsig.Algorithm != dns.HmacSHA256 || tsig.TimeSigned != 1234567 ||
		tsig.Fudge != 300 || tsig.MACSize != 0 || tsig.OrigId != q.ID || tsig.Error != dns.RcodeBadKey {
		t.Errorf("TSIG %v", tsig)
	}
}

func TestFastPathDoesNotAllocate(t *testing.T) {
	packet := question(t, "www.example.", dns.TypeA, withEDNS(1232, true))
	stored := storedExample(t)
	dst := make([]byte, 0, MaxUDP)
	soa := []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	var q Query
	tests := map[string]func(){
		"Parse": func() {
			if err := q.Parse(packet); err != nil {
				t.Fatal(err)
			}
			q.Option(dns.EDNS0COOKIE)
		},
		"AppendError": func() {
			AppendError(dst, &q, dns.RcodeRefused, 1232, EDE{18, "text"})
		},
		"Builder": func() {
			var b Builder
			b.Start(dst, &q, 1232)
			b.Answer(0, dns.TypeA, 60, []byte{192, 0, 2, 1})
			b.Authority(0, dns.TypeSOA, 60, soa)
			b.Finish(0, false, EDE{4, ""}, EDE{16, "text"})
		},
		"Patch": func() { Patch(dst, stored, &q, 1, 1232) },
	}
	tests["Parse"]()
	for name, f := range tests {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	packet := question(b, "www.example.", dns.TypeA, withEDNS(1232, true, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}))
	var q Query
	b.ReportAllocs()
	for b.Loop() {
		if err := q.Parse(packet); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBuilder(b *testing.B) {
	q := parsed(b, "www.example.", dns.TypeA, withEDNS(1232, true))
	dst := make([]byte, 0, MaxUDP)
	b.ReportAllocs()
	for b.Loop() {
		var r Builder
		r.Start(dst, q, MaxUDP)
		r.Answer(0, dns.TypeA, 60, []byte{192, 0, 2, 1})
		r.Finish(0, false, EDE{4, ""}, EDE{16, "https://stop.example/"})
	}
}
