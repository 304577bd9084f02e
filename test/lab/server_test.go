package lab

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// exchange asks over UDP or TCP.
func exchange(t *testing.T, network string, server string, q *dns.Msg) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: network, Timeout: 5 * time.Second, UDPSize: dns.MaxMsgSize}
	r, _, err := c.Exchange(q, server)
	if err != nil {
		t.Fatalf("%v over %s: %v", q.Question, network, err)
	}
	return r
}

func query(name string, qtype uint16) *dns.Msg {
	q := new(dns.Msg)
	q.SetQuestion(name, qtype)
	return q
}

func at(s *Server, address string) string {
	return netip.AddrPortFrom(netip.MustParseAddr(address), s.Port()).String()
}

func TestRootRefersWithSignerAndGlue(t *testing.T) {
	s := start(t, sampleInternet(t))
	q := query("WWW.Libre.Example.", dns.TypeA)
	q.SetEdns0(1232, true)
	r := exchange(t, "udp", at(s, "127.0.53.1"), q)
	got := describe(r)
	for _, want := range []string{"NOERROR aa=false", "ns example.\t86400\tin\tns\ta.nic.example.", "ns example.\t3600\tin\tds\t", "ns example.\t3600\tin\trrsig\tds ", "ar a.nic.example.\t86400\tin\ta\t127.0.53.2"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if r.Question[0].Name != "WWW.Libre.Example." {
		t.Errorf("the question came back as %q", r.Question[0].Name)
	}
	if len(r.Answer) > 0 {
		t.Errorf("a referral answers: %v", r.Answer)
	}
}

func TestLongAnswersAreCutOverUDPAndWholeOverTCP(t *testing.T) {
	s := start(t, sampleInternet(t))
	server := at(s, "127.0.53.3")
	whole := exchange(t, "tcp", server, query("gros.libre.example.", dns.TypeTXT))
	if whole.Truncated || len(whole.Answer) != 7 {
		t.Errorf("over TCP: cut %v, %d records", whole.Truncated, len(whole.Answer))
	}
	for _, size := range []uint16{0, 100, 1232, 4096, 65535} { // 0 stands for no EDNS
		q := query("gros.libre.example.", dns.TypeTXT)
		limit := 512
		if size > 0 {
			q.SetEdns0(size, false)
			limit = min(max(int(size), 512), 1232)
		}
		r := exchange(t, "udp", server, q)
		r.Compress = true // as it came
		wire, err := r.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if !r.Truncated || len(wire) > limit {
			t.Errorf("with room for %d: cut %v, %d bytes", size, r.Truncated, len(wire))
		}
		if (r.IsEdns0() != nil) != (size > 0) {
			t.Errorf("with room for %d: EDNS in the answer: %v", size, r.IsEdns0())
		}
	}
}

func TestOddQuestionsAreRefused(t *testing.T) {
	s := start(t, sampleInternet(t))
	change := func(f func(*dns.Msg)) *dns.Msg {
		q := query("www.libre.example.", dns.TypeA)
		f(q)
		return q
	}
	for _, c := range []struct {
		name string
		q    *dns.Msg
		want int
	}{
		{"a name of nobody here", query("www.nic.ouvert.", dns.TypeA), dns.RcodeRefused},
		{"another class", change(func(q *dns.Msg) { q.Question[0].Qclass = dns.ClassCHAOS }), dns.RcodeRefused},
		{"a zone transfer", change(func(q *dns.Msg) { q.Question[0] = dns.Question{Name: "libre.example.", Qtype: dns.TypeAXFR, Qclass: 1} }), dns.RcodeRefused},
		{"an update", change(func(q *dns.Msg) { q.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented},
		{"no question", change(func(q *dns.Msg) { q.Question = nil }), dns.RcodeFormatError},
		{"a new version of EDNS", change(func(q *dns.Msg) { q.SetEdns0(1232, false); q.IsEdns0().SetVersion(1) }), dns.RcodeBadVers},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := exchange(t, "udp", at(s, "127.0.53.3"), c.q)
			if r.Rcode != c.want || len(r.Answer)+len(r.Ns) > 0 {
				t.Errorf("answered %s with %d records, want %s", dns.RcodeToString[r.Rcode], len(r.Answer)+len(r.Ns), dns.RcodeToString[c.want])
			}
		})
	}
}

func TestListenNamesTheAddressThatIsTaken(t *testing.T) {
	inet := sampleInternet(t)
	taken, err := net.ListenPacket("udp", "127.0.53.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	if s, err := inet.Listen(port); err == nil {
		s.Close()
		t.Error("a taken port was opened")
	} else if !strings.Contains(err.Error(), taken.LocalAddr().String()) {
		t.Errorf("the error does not name the address: %v", err)
	}
	// What was opened before the failure is free again.
	again, err := net.ListenPacket("udp", at(&Server{port: port}, "127.0.53.1"))
	if err != nil {
		t.Error(err)
	} else {
		_ = again.Close()
	}
}
