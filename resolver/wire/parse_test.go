package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// question packs a query with miekg/dns.
func question(t testing.TB, name string, qtype uint16, edit ...func(*dns.Msg)) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.Id = 0x1234
	for _, e := range edit {
		e(m)
	}
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

// withEDNS adds an OPT record with the options.
func withEDNS(size uint16, do bool, options ...dns.EDNS0) func(*dns.Msg) {
	return func(m *dns.Msg) {
		m.SetEdns0(size, do)
		opt := m.IsEdns0()
		opt.Option = append(opt.Option, options...)
	}
}

// edited changes a packet by hand.
func edited(packet []byte, edit func([]byte) []byte) []byte {
	return edit(bytes.Clone(packet))
}

// rawOPT is an OPT record with the RDATA.
func rawOPT(rdata ...byte) []byte {
	opt := []byte{0, 0, 41, 4, 208, 0, 0, 0, 0, 0, byte(len(rdata))}
	return append(opt, rdata...)
}

// withRecords appends raw additional records to a query.
func withRecords(packet []byte, records ...[]byte) []byte {
	packet = bytes.Clone(packet)
	for _, r := range records {
		packet = append(packet, r...)
		packet[11]++
	}
	return packet
}

func TestParseJudgesQueries(t *testing.T) {
	plain := question(t, "www.example.", dns.TypeA)
	tsig := question(t, "www.example.", dns.TypeA, withEDNS(1232, false), func(m *dns.Msg) {
		m.SetTsig("key.", dns.HmacSHA256, 300, 1)
	})
	longest := strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("b", 61) + "."
	tests := []struct {
		name   string
		packet []byte
		want   error
	}{
		{"a plain query", plain, nil},
		{"a query with EDNS", question(t, "www.example.", dns.TypeA, withEDNS(1232, true)), nil},
		{"a question for the root", question(t, ".", dns.TypeNS), nil},
		{"the longest name", question(t, longest, dns.TypeA), nil},
		{"nothing", nil, ErrDrop},
		{"less than a header", plain[:11], ErrDrop},
		{"a reply", edited(plain, func(p []byte) []byte { p[2] |= 0x80; return p }), ErrDrop},
		{"a reply with a question missing", edited(plain[:12], func(p []byte) []byte { p[2] |= 0x80; return p }), ErrDrop},
		{"opcode STATUS", edited(plain, func(p []byte) []byte { p[2] |= 2 << 3; return p }), ErrOpcode},
		{"a dynamic update", edited(plain, func(p []byte) []byte { p[2] |= 5 << 3; return p }), ErrOpcode},
		{"no question", edited(plain[:12], func(p []byte) []byte { p[5] = 0; return p }), ErrFormat},
		{"two questions", edited(plain, func(p []byte) []byte { p[5] = 2; return append(p, p[12:]...) }), ErrFormat},
		{"a header alone that promises a question", plain[:12], ErrFormat},
		{"a question cut in its name", plain[:20], ErrFormat},
		{"a question cut in its class", plain[:len(plain)-1], ErrFormat},
		{"a compressed question", edited(plain, func(p []byte) []byte { return append(p[:12], 0xc0, 0x0c, 0, 1, 0, 1) }), ErrFormat},
		{"a pointer behind a label", edited(plain, func(p []byte) []byte { return append(p[:12], 1, 'a', 0xc0, 0x0c, 0, 1, 0, 1) }), ErrFormat},
		{"an extended label type", edited(plain, func(p []byte) []byte { return append(p[:12], 0x41, 1, 0, 0, 1, 0, 1) }), ErrFormat},
		{"a name of 256 bytes", edited(plain, func(p []byte) []byte {
			p = p[:12]
			for range 127 {
				p = append(p, 1, 'a')
			}
			return append(p, 1, 'a', 0, 0, 1, 0, 1)
		}), ErrFormat},
		{"an answer in the query", edited(plain, func(p []byte) []byte {
			p[7] = 1
			return append(p, 0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0)
		}), ErrFormat},
		{"an authority record in a query for A", edited(plain, func(p []byte) []byte {
			p[9] = 1
			return append(p, 0xc0, 0x0c, 0, 6, 0, 1, 0, 0, 0, 0, 0, 0)
		}), ErrFormat},
		{"an incremental transfer with its SOA", question(t, "example.", dns.TypeIXFR, func(m *dns.Msg) {
			m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: ".", Mbox: "."}}
		}), nil},
		{"bytes behind the end", append(bytes.Clone(plain), 0), ErrFormat},
		{"65535 additional records that are not there", edited(plain, func(p []byte) []byte { p[10], p[11] = 0xff, 0xff; return p }), ErrFormat},
		{"two OPT records", withRecords(plain, rawOPT(), rawOPT()), ErrFormat},
		{"an OPT with an owner", withRecords(plain, append([]byte{1, 'a'}, rawOPT()...)), ErrFormat},
		{"an option cut in its header", withRecords(plain, rawOPT(0, 10, 0)), ErrFormat},
		{"an option longer than the OPT", withRecords(plain, rawOPT(0, 10, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8)), ErrFormat},
		{"an OPT longer than the packet", edited(withRecords(plain, rawOPT()), func(p []byte) []byte { p[len(p)-1] = 1; return p }), ErrFormat},
		{"unknown and repeated options", withRecords(plain, rawOPT(0xfd, 0xe9, 0, 1, 7, 0xfd, 0xe9, 0, 0)), nil},
		{"EDNS version 1", edited(withRecords(plain, rawOPT()), func(p []byte) []byte { p[len(p)-5] = 1; return p }), ErrVersion},
		{"a signed query", tsig, ErrTSIG},
		{"a TSIG before the OPT", func() []byte {
			m := new(dns.Msg)
			if err := m.Unpack(tsig); err != nil {
				t.Fatal(err)
			}
			m.Extra[0], m.Extra[1] = m.Extra[1], m.Extra[0]
			p, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			return p
		}(), ErrFormat},
		{"an additional record with a forward pointer", withRecords(plain, []byte{0xc0, 0xff, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0}), ErrFormat},
		{"an additional record of some other type", withRecords(plain, []byte{0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0}), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var q Query
			if err := q.Parse(tt.packet); !errors.Is(err, tt.want) {
				t.Fatalf("Parse = %v, want %v", err, tt.want)
			}
			rcode, answer := Rcode(tt.want)
			if answer != (tt.want != ErrDrop) {
				t.Fatalf("Rcode(%v) says answer = %v", tt.want, answer)
			}
			if !answer {
				return
			}
			// Whatever was wrong, the reply to it is a sound message.
			reply := unpack(t, AppendError(nil, &q, rcode, q.Limit(false)))
			if reply.Id != q.ID || !reply.Response || reply.Rcode != rcode || reply.Opcode != int(q.Opcode) {
				t.Errorf("reply does not answer the query:\n%v", reply)
			}
			if (reply.IsEdns0() != nil) != q.EDNS {
				t.Errorf("the query has EDNS: %v, but the reply is\n%v", q.EDNS, reply)
			}
			if (reply.IsTsig() != nil) != (tt.want == ErrTSIG) {
				t.Errorf("TSIG in the reply\n%v", reply)
			}
		})
	}
}

func TestParseReadsFields(t *testing.T) {
	packet := question(t, "wWw.eXample.", dns.TypeHTTPS, func(m *dns.Msg) {
		m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData = true, true, true
	}, withEDNS(4096, true,
		&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"},
		&dns.EDNS0_PADDING{Padding: make([]byte, 3)},
		&dns.EDNS0_LOCAL{Code: 65001},
	))
	var q Query
	if err := q.Parse(packet); err != nil {
		t.Fatal(err)
	}
	if got := string(q.Name()); got != "\x03www\x07example\x00" {
		t.Errorf("Name = %q", got)
	}
	if q.ID != 0x1234 || q.Type != dns.TypeHTTPS || q.Class != dns.ClassINET ||
		!q.RD || !q.CD || !q.AD || !q.EDNS || !q.DO || q.Version != 0 || q.UDPSize != 4096 {
		t.Errorf("fields of the query: %+v", q)
	}
	if got, ok := q.Option(dns.EDNS0COOKIE); !ok || !bytes.Equal(got, []byte{1, 2, 3, 4, 5, 6, 7, 8}) {
		t.Errorf("cookie = %x, %v", got, ok)
	}
	if got, ok := q.Option(65001); !ok || len(got) != 0 {
		t.Errorf("empty option = %x, %v", got, ok)
	}
	if _, ok := q.Option(dns.EDNS0NSID); ok {
		t.Error("an option that is not there was found")
	}
	if err := q.Parse(question(t, "a.", dns.TypeA)); err != nil || q.EDNS || q.DO || q.CD {
		t.Errorf("fields of the query before are left: %+v (%v)", q, err)
	}
	if _, ok := q.Option(dns.EDNS0COOKIE); ok {
		t.Error("an option of the query before was found")
	}
}

func TestLimitIsWhatTheClientCanTake(t *testing.T) {
	tests := []struct {
		name   string
		edit   func(*dns.Msg)
		stream bool
		want   int
	}{
		{"UDP without EDNS", func(*dns.Msg) {}, false, 512},
		{"UDP with a size below 512", withEDNS(100, false), false, 512},
		{"UDP with a size between", withEDNS(900, false), false, 900},
		{"UDP with a size that would be cut into fragments", withEDNS(4096, false), false, MaxUDP},
		{"a stream", func(*dns.Msg) {}, true, MaxStream},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var q Query
			if err := q.Parse(question(t, "example.", dns.TypeA, tt.edit)); err != nil {
				t.Fatal(err)
			}
			if got := q.Limit(tt.stream); got != tt.want {
				t.Errorf("Limit = %d, want %d", got, tt.want)
			}
		})
	}
}

// FuzzParse holds Parse against miekg/dns where both accept a packet, and
// requires that every reply to what it does not accept is sound.
func FuzzParse(f *testing.F) {
	f.Add(question(f, "www.example.", dns.TypeA))
	f.Add(question(f, "WWW.example.", dns.TypeANY, withEDNS(1232, true, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"})))
	f.Add(question(f, "example.", dns.TypeA, func(m *dns.Msg) { m.SetTsig("key.", dns.HmacSHA256, 300, 1) }))
	f.Add(withRecords(question(f, ".", dns.TypeNS), rawOPT(), rawOPT()))
	f.Add([]byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 0x0c, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, packet []byte) {
		var q Query
		err := q.Parse(packet)
		rcode, answer := Rcode(err)
		if !answer {
			return
		}
		reply := AppendError(nil, &q, rcode, q.Limit(false))
		if len(reply) > q.Limit(false) {
			t.Fatalf("reply of %d bytes, the limit is %d", len(reply), q.Limit(false))
		}
		got := unpack(t, reply)
		if got.Rcode != rcode || got.Id != binary.BigEndian.Uint16(packet) {
			t.Fatalf("reply does not answer the query:\n%v", got)
		}
		var m dns.Msg
		if err != nil || m.Unpack(packet) != nil {
			return
		}
		name, perr := ParseName(m.Question[0].Name)
		if perr != nil || !bytes.Equal(name, q.Name()) {
			t.Fatalf("name %q, miekg/dns has %q (%v)", q.Name(), name, perr)
		}
		opt := m.IsEdns0()
		if q.Type != m.Question[0].Qtype || q.Class != m.Question[0].Qclass || q.RD != m.RecursionDesired ||
			q.CD != m.CheckingDisabled || q.AD != m.AuthenticatedData || q.EDNS != (opt != nil) {
			t.Fatalf("fields %+v, miekg/dns has\n%v", q, &m)
		}
		if opt != nil && (q.DO != opt.Do() || q.UDPSize != max(512, opt.UDPSize()) || q.Version != opt.Version()) {
			t.Fatalf("EDNS %+v, miekg/dns has\n%v", q, opt)
		}
	})
}

// unpack decodes a reply, which has to be sound.
func unpack(t testing.TB, packet []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(packet); err != nil {
		t.Fatalf("unpack %x: %v", packet, err)
	}
	if n := len(m.Question) + len(m.Answer) + len(m.Ns) + len(m.Extra); n != sumCounts(packet) {
		t.Fatalf("the header counts %d records, there are %d", sumCounts(packet), n)
	}
	return m
}

func sumCounts(packet []byte) int {
	n := 0
	for i := 4; i < 12; i += 2 {
		n += int(binary.BigEndian.Uint16(packet[i:]))
	}
	return n
}
