package resolver

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/miekg/dns"
)

// What RFC 8906 §8 has a server tried with: each gets an answer, and the right one,
// over UDP and TCP, for a name that is resolved, one that is cached by then, and one
// that is listed.
func TestOddQuestionsGetTheAnswersOfRFC8906(t *testing.T) {
	r := newResolver(t, newInternet(t, "www.libre.example. 3600 IN A 192.0.2.10"))
	enforce(t, r, 1, "propagande.example")
	defer running(t, r)()
	const unknownOption, unknownType = 100, 1000
	for _, tt := range []struct {
		name string
		edit func(m *dns.Msg)
		raw  func(packet []byte) // what dns.Msg cannot say
		want int                 // rcode
	}{
		{name: "8.1.1 an unknown type", edit: func(m *dns.Msg) { m.Question[0].Qtype = unknownType }},
		{name: "8.1.2.1 CD", edit: func(m *dns.Msg) { m.CheckingDisabled = true }},
		{name: "8.1.2.2 the reserved bit", edit: func(m *dns.Msg) { m.Zero = true }},
		{name: "AD", edit: func(m *dns.Msg) { m.AuthenticatedData = true }},
		{name: "AA, TC and RA, which are for replies", edit: func(m *dns.Msg) { m.Authoritative, m.Truncated, m.RecursionAvailable = true, true, true }},
		{name: "an rcode, which is for replies", edit: func(m *dns.Msg) { m.Rcode = dns.RcodeRefused }},
		{name: "8.1.3.1 an unknown opcode", edit: func(m *dns.Msg) { m.Opcode = 15 }, want: dns.RcodeNotImplemented},
		{name: "NOTIFY", edit: func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }, want: dns.RcodeNotImplemented},
		{name: "UPDATE", edit: func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, want: dns.RcodeNotImplemented},
		{name: "8.2.1 EDNS", edit: func(m *dns.Msg) { m.SetEdns0(4096, false) }},
		{name: "8.2.2 EDNS of version 1", edit: func(m *dns.Msg) { m.SetEdns0(4096, false).IsEdns0().SetVersion(1) }, want: dns.RcodeBadVers},
		{name: "8.2.3 an unknown option", edit: func(m *dns.Msg) { with(m.SetEdns0(4096, false), unknownOption, "hello") }},
		{name: "8.2.4 an unknown flag", edit: func(m *dns.Msg) { m.SetEdns0(4096, false).IsEdns0().SetZ(0x80) }},
		{name: "8.2.5 version 1 with an unknown flag", edit: func(m *dns.Msg) {
			o := m.SetEdns0(4096, false).IsEdns0()
			o.SetVersion(1)
			o.SetZ(0x80)
		}, want: dns.RcodeBadVers},
		{name: "8.2.6 version 1 with an unknown option", edit: func(m *dns.Msg) {
			with(m.SetEdns0(4096, false), unknownOption, "hello").IsEdns0().SetVersion(1)
		}, want: dns.RcodeBadVers},
		{name: "8.2.7 a small buffer and DO", edit: func(m *dns.Msg) { m.SetEdns0(512, true) }},
		{name: "8.2.8 DO", edit: func(m *dns.Msg) { m.SetEdns0(4096, true) }},
		{name: "8.2.9 version 1 with DO", edit: func(m *dns.Msg) { m.SetEdns0(4096, true).IsEdns0().SetVersion(1) }, want: dns.RcodeBadVers},
		{name: "8.2.10 several options", edit: func(m *dns.Msg) {
			with(with(with(m.SetEdns0(4096, false), dns.EDNS0NSID, ""), dns.EDNS0SUBNET, "\x00\x01\x00\x00"), dns.EDNS0EXPIRE, "")
		}},
		{name: "a buffer of nothing", edit: func(m *dns.Msg) { m.SetEdns0(0, false) }},
		{name: "two questions", raw: func(p []byte) { p[5] = 2 }, want: dns.RcodeFormatError},
		{name: "no question", raw: func(p []byte) { p[5] = 0 }, want: dns.RcodeFormatError},
		{name: "an answer that is not there", raw: func(p []byte) { p[7] = 1 }, want: dns.RcodeFormatError},
		{name: "another class", edit: func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassHESIOD }, want: dns.RcodeRefused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, name := range []string{"www.libre.example.", "www.libre.example.", "www.propagande.example."} {
				for network, address := range map[string]string{"udp": r.server.UDP()[0].String(), "tcp": r.server.TCP()[0].String()} {
					m := new(dns.Msg).SetQuestion(name, dns.TypeA)
					if tt.edit != nil {
						tt.edit(m)
					}
					packet := pack(t, m)
					if tt.raw != nil {
						tt.raw(packet)
					}
					judge8906(t, network+" "+name, exchange(t, network, address, packet), m, tt.want)
				}
			}
		})
	}
}

// judge8906 looks at what every reply has to be, whatever was asked.
func judge8906(t *testing.T, what string, reply, asked *dns.Msg, rcode int) {
	t.Helper()
	if reply.Rcode != rcode || !reply.Response || reply.Id != asked.Id || reply.Opcode != asked.Opcode {
		t.Errorf("%s: want rcode %s: %v", what, dns.RcodeToString[rcode], reply)
	}
	if reply.Zero || reply.AuthenticatedData || reply.Truncated {
		t.Errorf("%s: flags that nothing calls for: %v", what, reply)
	}
	sent, got := asked.IsEdns0(), reply.IsEdns0()
	if (sent != nil) != (got != nil) {
		t.Errorf("%s: EDNS asked %v, answered %v", what, sent != nil, got != nil)
	}
	if got == nil {
		return
	}
	if got.Version() != 0 || got.Z() != 0 || got.Do() != sent.Do() {
		t.Errorf("%s: version %d, DO %v, other flags %#x", what, got.Version(), got.Do(), got.Z())
	}
	for _, o := range got.Option {
		if o.Option() != dns.EDNS0EDE {
			t.Errorf("%s: option %d, which nothing calls for", what, o.Option())
		}
	}
}

// exchange sends a packet as it is and reads one reply.
func exchange(t *testing.T, network, address string, packet []byte) *dns.Msg {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if network == "tcp" {
		packet = append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)
	}
	if _, err := conn.Write(packet); err != nil {
		t.Fatal(err)
	}
	reply, err := (&dns.Conn{Conn: conn}).ReadMsg()
	if err != nil {
		t.Fatalf("no reply: %v", err)
	}
	return reply
}

// TestWhatIsNoQuestionGetsNoAnswer holds that a reply, and what is shorter than a
// header, is not answered: two servers would answer each other for ever.
func TestWhatIsNoQuestionGetsNoAnswer(t *testing.T) {
	r := newResolver(t, newInternet(t))
	enforce(t, r, 1)
	defer running(t, r)()
	conn, err := net.Dial("udp", r.server.UDP()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reply := new(dns.Msg).SetReply(question("localhost.", dns.TypeA))
	last := question("localhost.", dns.TypeA)
	for _, packet := range [][]byte{pack(t, reply), pack(t, last)[:11], {0}, {}, pack(t, last)} {
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	got, err := (&dns.Conn{Conn: conn}).ReadMsg()
	if err != nil || got.Id != last.Id {
		t.Errorf("the first reply is %v, %v; want that of the last packet, the only question", got, err)
	}
}
