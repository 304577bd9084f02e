package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"cordon/blocklog"
	"cordon/resolver/wire"
)

func TestUDPAnswersAtOnceAndLater(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			r := serve(t, Config{UDP: []netip.AddrPort{netip.MustParseAddrPort(addr)}}, &fakeHandler{})
			conn := r.dialUDP()
			for _, name := range []string{"now.example.", "later.example."} {
				send(t, conn, name)
				if got := receive(t, conn); got != name {
					t.Errorf("reply to %s, asked %s", got, name)
				}
			}
			send(t, conn, "drop.example.")
			send(t, conn, "later-nothing.example.")
			send(t, conn, "now.end.")
			if got := receive(t, conn); got != "now.end." {
				t.Errorf("reply to %s, which is to have none", got)
			}
			r.stop()
			for verdict, want := range map[string]float64{"answered": 2, "resolved": 2, "dropped": 1, "shed": 0} {
				if got := r.counter("cordon_queries_total", "udp", verdict); got != want {
					t.Errorf("%v queries %s, want %v", got, verdict, want)
				}
			}
		})
	}
}

func TestUDPRepliesComeFromTheAddressThatWasAsked(t *testing.T) {
	for _, tt := range []struct{ listen, ask string }{
		{"0.0.0.0:0", "127.0.0.5"},
		{"[::]:0", "::1"},
	} {
		t.Run(tt.listen, func(t *testing.T) {
			r := serve(t, Config{UDP: []netip.AddrPort{netip.MustParseAddrPort(tt.listen)}}, &fakeHandler{})
			// A connected socket takes nothing from another address.
			conn := r.dial("udp", netip.AddrPortFrom(netip.MustParseAddr(tt.ask), r.UDP()[0].Port()).String())
			for _, name := range []string{"now.example.", "later.example."} {
				send(t, conn, name)
				if got := receive(t, conn); got != name {
					t.Errorf("reply to %s, asked %s", got, name)
				}
			}
		})
	}
}

func TestUDPHasASocketForEachReader(t *testing.T) {
	r := serve(t, Config{UDP: []netip.AddrPort{loopback}, Sockets: 3}, &fakeHandler{})
	addrs := r.UDP()
	if len(addrs) != 3 || addrs[0] != addrs[1] || addrs[1] != addrs[2] {
		t.Errorf("sockets at %v", addrs)
	}
}

func TestUDPSendsNothingOfABatchThatWasNotCommitted(t *testing.T) {
	var full atomic.Bool
	full.Store(true)
	r := serve(t, Config{UDP: []netip.AddrPort{loopback}, Sockets: 1}, &fakeHandler{commit: func() error {
		if full.Load() {
			return errDiskFull
		}
		return nil
	}})
	conn := r.dialUDP()
	send(t, conn, "now.withheld.")
	r.eventually(1, "cordon_replies_withheld_total", "udp")
	full.Store(false)
	send(t, conn, "now.sent.")
	if got := receive(t, conn); got != "now.sent." {
		t.Errorf("reply to %s", got)
	}
}

func TestUDPShedsTheNewestWhenResolutionIsFull(t *testing.T) {
	release := make(chan struct{})
	started := make(chan struct{}, 2)
	r := serve(t, Config{UDP: []netip.AddrPort{loopback}, Sockets: 1, InFlight: 2}, &fakeHandler{
		resolve: func(context.Context, string) {
			started <- struct{}{}
			<-release
		},
	})
	conn := r.dialUDP()
	send(t, conn, "later.a.")
	send(t, conn, "later.b.")
	<-started
	<-started
	send(t, conn, "later.shed.")
	send(t, conn, "now.served.")
	if got := receive(t, conn); got != "now.served." {
		t.Errorf("reply to %s", got)
	}
	r.eventually(1, "cordon_queries_total", "udp", "shed")
	close(release)
	if a, b := receive(t, conn), receive(t, conn); a == "later.shed." || b == "later.shed." {
		t.Errorf("replies to %s and %s", a, b)
	}
}

func TestUDPDropsWhatIsLongerThanAnyQuery(t *testing.T) {
	r := serve(t, Config{UDP: []netip.AddrPort{loopback}, Sockets: 1}, &fakeHandler{})
	conn := r.dialUDP()
	m := new(dns.Msg)
	m.SetQuestion("now.example.", dns.TypeA)
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(append(packet, make([]byte, maxQuery)...)); err != nil {
		t.Fatal(err)
	}
	send(t, conn, "now.next.")
	if got := receive(t, conn); got != "now.next." {
		t.Errorf("reply to %s", got)
	}
	r.eventually(1, "cordon_queries_total", "udp", "dropped")
}

// constantSession answers everything with the same bytes.
type constantSession struct{ commits int }

func (s *constantSession) Answer(dst, query []byte, _ Meta) ([]byte, Verdict) {
	return append(dst, query...), Reply
}

func (s *constantSession) Commit() error {
	s.commits++
	return nil
}

// failingBatch takes some messages at a time and refuses one of them.
type failingBatch struct {
	packetBatch
	refuse  int // index of the message that cannot be sent
	sent    []string
	written int
}

func (b *failingBatch) WriteBatch(ms []ipv4.Message, _ int) (int, error) {
	if b.written == b.refuse {
		b.written++
		return 0, unix.EPERM
	}
	n := min(3, len(ms), max(1, b.refuse-b.written))
	for _, m := range ms[:n] {
		b.sent = append(b.sent, string(m.Buffers[0]))
	}
	b.written += n
	return n, nil
}

func newLoop(t testing.TB, batch packetBatch, s Session) *udpLoop {
	t.Helper()
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &udpLoop{
		udpSocket: &udpSocket{batch: batch}, session: s, metrics: m,
		in: newMessages(maxQuery, oobSize), out: newMessages(wire.MaxUDP, 0),
	}
}

// fillBatch makes n packets of one byte, a, b, c...
func fillBatch(l *udpLoop, n int) []ipv4.Message {
	for i := range l.in[:n] {
		l.in[i].Buffers[0][0] = 'a' + byte(i)
		l.in[i].N = 1
		l.in[i].Addr = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1024 + i}
	}
	return l.in[:n]
}

func TestUDPGoesOnBehindAReplyThatCannotBeSent(t *testing.T) {
	batch := &failingBatch{refuse: 4}
	s := &constantSession{}
	l := newLoop(t, batch, s)
	l.answer(fillBatch(l, 8))
	want := []string{"a", "b", "c", "d", "f", "g", "h"}
	if len(batch.sent) != len(want) {
		t.Fatalf("sent %q", batch.sent)
	}
	for i := range want {
		if batch.sent[i] != want[i] {
			t.Errorf("sent %q, want %q", batch.sent, want)
		}
	}
	if s.commits != 1 {
		t.Errorf("%d commits for one batch", s.commits)
	}
}

// brokenBatch fails a number of reads, then calls end.
type brokenBatch struct {
	packetBatch
	failures int
	end      func()
}

func (b *brokenBatch) ReadBatch([]ipv4.Message, int) (int, error) {
	if b.failures--; b.failures < 0 {
		b.end()
		return 0, os.ErrDeadlineExceeded
	}
	return 0, unix.ENOBUFS
}

func TestUDPReadErrorsAreRiddenOutForAWhile(t *testing.T) {
	for name, tt := range map[string]struct {
		failures int
		want     error
	}{
		"some":         {maxReadErrors - 1, nil},
		"no end of it": {maxReadErrors, unix.ENOBUFS},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				l := newLoop(t, nil, nil)
				u := &udpSocket{batch: &brokenBatch{failures: tt.failures, end: cancel}}
				if err := u.serve(ctx, &fakeHandler{}, nil, l.metrics); !errors.Is(err, tt.want) {
					t.Errorf("serve = %v, want %v", err, tt.want)
				}
				if got := testutil.ToFloat64(l.metrics.receiveErrors); got != float64(tt.failures) {
					t.Errorf("%v errors counted, want %d", got, tt.failures)
				}
			})
		})
	}
}

// discard takes everything.
type discard struct{ packetBatch }

func (discard) WriteBatch(ms []ipv4.Message, _ int) (int, error) { return len(ms), nil }

func TestUDPAnswersABatchWithoutAllocating(t *testing.T) {
	l := newLoop(t, discard{}, &constantSession{})
	packets := fillBatch(l, batchSize)
	if n := testing.AllocsPerRun(100, func() { l.answer(packets) }); n != 0 {
		t.Errorf("%v allocations per batch", n)
	}
}

func BenchmarkUDPBatch(b *testing.B) {
	l := newLoop(b, discard{}, &constantSession{})
	packets := fillBatch(l, batchSize)
	b.ReportAllocs()
	for b.Loop() {
		l.answer(packets)
	}
}

func TestReplySourceFindsThePacketInformation(t *testing.T) {
	other := ipv4.ControlMessage{TTL: 7}
	info := ipv4.ControlMessage{Src: net.IPv4(127, 0, 0, 9), IfIndex: 3}
	oob := append(other.Marshal(), info.Marshal()...)
	var got ipv4.ControlMessage
	if err := got.Parse(replySource(oob)); err != nil || got.IfIndex != 0 || got.TTL != 0 {
		t.Errorf("control message %v, %v", &got, err)
	}
	if got := replySource(other.Marshal()); got != nil {
		t.Errorf("source %x without packet information", got)
	}
	if got := replySource(nil); got != nil {
		t.Errorf("source %x of nothing", got)
	}
}

// FuzzReplySource must not panic on any control messages.
func FuzzReplySource(f *testing.F) {
	info := ipv4.ControlMessage{Src: net.IPv4(127, 0, 0, 9), IfIndex: 3}
	f.Add(info.Marshal())
	f.Add(info.Marshal()[:unix.SizeofCmsghdr+unix.SizeofInet4Pktinfo]) // without padding
	f.Fuzz(func(t *testing.T, oob []byte) {
		if got := replySource(oob); len(got) > len(oob) {
			t.Fatalf("%d bytes out of %d", len(got), len(oob))
		}
	})
}

func TestMetaTellsStreamsFromUDP(t *testing.T) {
	for transport, want := range map[blocklog.Transport]bool{
		blocklog.UDP: false, blocklog.TCP: true, blocklog.DoT: true, blocklog.DoH: true, blocklog.DoQ: true,
	} {
		if got := (Meta{Transport: transport}).Stream(); got != want {
			t.Errorf("transport %d: Stream = %v", transport, got)
		}
	}
}
