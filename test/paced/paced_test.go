package paced

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answer serves one UDP socket until it is closed; reply gives nil for no answer.
func answer(t *testing.T, reply func(*dns.Msg) *dns.Msg) netip.AddrPort {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { socket.Close(); <-done })
	go func() {
		defer close(done)
		b := make([]byte, 512)
		for {
			n, from, err := socket.ReadFrom(b)
			if err != nil {
				return
			}
			var m dns.Msg
			if m.Unpack(b[:n]) != nil {
				continue
			}
			if r := reply(&m); r != nil {
				wire, _ := r.Pack()
				_, _ = socket.WriteTo(wire, from)
			}
		}
	}()
	return socket.LocalAddr().(*net.UDPAddr).AddrPort()
}

func ask(t *testing.T, lines string, reply func(*dns.Msg) *dns.Msg) *Result {
	t.Helper()
	file := filepath.Join(t.TempDir(), "questions")
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	l := Load{Server: answer(t, reply), Questions: file, Rate: 500, Sockets: 4, Time: 200 * time.Millisecond, Timeout: 300 * time.Millisecond,
		Site: ".bench", StopPage: netip.MustParseAddr("192.0.2.80")}
	r, err := l.Run(nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent == 0 {
		t.Fatal("nothing was asked")
	}
	return r
}

func with(m *dns.Msg, address string) *dns.Msg {
	r := new(dns.Msg).SetReply(m)
	r.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.ParseIP(address)}}
	return r
}

func TestAnswersAreCountedAndTimed(t *testing.T) {
	r := ask(t, "www.site1.bench A\n", func(m *dns.Msg) *dns.Msg { return with(m, "192.0.2.1") })
	if r.Answered != r.Sent || r.Lost != 0 || r.Unfiltered != 0 || r.Rcodes["NOERROR"] != r.Sent {
		t.Errorf("result %+v", r)
	}
	if r.Median <= 0 || r.P999 < r.Median || r.Max < r.P999 {
		t.Errorf("latencies %+v", r)
	}
}

func TestWhatIsNotAnsweredIsLost(t *testing.T) {
	n := 0
	r := ask(t, "www.site1.bench A\n", func(m *dns.Msg) *dns.Msg {
		if n++; n%2 == 0 {
			return nil
		}
		return with(m, "192.0.2.1")
	})
	if r.Lost != r.Sent/2 || r.Answered+r.Lost != r.Sent {
		t.Errorf("every second was dropped: %+v", r)
	}
}

func TestAListedNameWithoutTheStopPageIsNoticed(t *testing.T) {
	r := ask(t, "www.listed.com A\nwww.site1.bench A\n", func(m *dns.Msg) *dns.Msg { return with(m, "192.0.2.1") })
	if want := (r.Sent + 1) / 2; r.Unfiltered != want {
		t.Errorf("unfiltered %d of %d, want %d", r.Unfiltered, r.Sent, want)
	}
	r = ask(t, "www.listed.com A\n", func(m *dns.Msg) *dns.Msg { return with(m, "192.0.2.80") })
	if r.Unfiltered != 0 {
		t.Errorf("the stop page is taken for none: %+v", r)
	}
}

func TestAnAnswerTwiceCountsOnce(t *testing.T) {
	var before *dns.Msg
	r := ask(t, "www.site1.bench A\n", func(m *dns.Msg) *dns.Msg {
		if before == nil {
			before = m.Copy()
		}
		return with(before, "192.0.2.1") // the first question's, over and over
	})
	if r.Answered > 4 { // one a socket: its first question has the same ID
		t.Errorf("%d answers to one question: %+v", r.Answered, r)
	}
}
