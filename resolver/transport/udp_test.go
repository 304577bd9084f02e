package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

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

// constantSession answers everything with the query.
type constantSession struct {
	commits  int
	lengthen byte // a query that begins with it gets a longer reply
}

func (s *constantSession) Answer(dst, query []byte, _ Meta) ([]byte, Verdict) {
	dst = append(dst, query...)
	if query[0] == s.lengthen {
		dst = append(append(dst, query...), query...)
	}
	return dst, Reply
}

func (s *constantSession) Commit() error {
	s.commits++
	return nil
}

// fakeSocket is a kernel whose answers a test chooses; what is nil does nothing.
type fakeSocket struct {
	onReceive func(ms []message) (int, error)
	onSend    func(ms []message) (int, error)
	onNap     func(time.Duration)
}

func (s *fakeSocket) receive(ms []message) (int, error) { return s.onReceive(ms) }
func (s *fakeSocket) await(ms []message) (int, error)   { return s.onReceive(ms) }
func (s *fakeSocket) nap(d time.Duration)               { s.onNap(d) }

func (s *fakeSocket) send(ms []message) (int, error) {
	if s.onSend == nil {
		return len(ms), nil
	}
	return s.onSend(ms)
}

// sessionHandler has one session.
type sessionHandler struct{ s Session }

func (h sessionHandler) Session() Session                           { return h.s }
func (sessionHandler) Resolve(context.Context, []byte, Meta) []byte { return nil }

func newLoop(t testing.TB, socket packetSocket, s Session) *udpLoop {
	t.Helper()
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	return newUDPLoop(&udpSocket{cuts: true}, socket, sessionHandler{s}, newWorkers(context.Background(), 1), &Config{Clock: time.Now}, m)
}

// fillBatch makes n packets of one byte, a, b, c..., from so many sockets.
func fillBatch(l *udpLoop, n, sockets int) {
	for i, m := range l.in.ready()[:n] {
		port := 1024 + i%sockets
		address := []byte{0, 0, byte(port >> 8), byte(port), 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
		binary.NativeEndian.PutUint16(address, unix.AF_INET)
		copy(l.in.from[i][:], address)
		l.in.packets[i][0] = 'a' + byte(i)
		m.hdr.Namelen, m.len = uint32(len(address)), 1
		l.in.messages[i] = m
	}
	l.in.received = n
}

// datagrams are what a message puts on the wire: the port it goes to and the
// payload of each.
func datagrams(t *testing.T, m *message) (all []string) {
	t.Helper()
	to, ok := addrPort(unsafe.Slice(m.hdr.Name, m.hdr.Namelen))
	if !ok {
		t.Fatal("a message without an address")
	}
	vectors := unsafe.Slice(m.hdr.Iov, m.hdr.Iovlen)
	if cut := segmentLength(t, m); len(vectors) > 1 != (cut > 0) {
		t.Errorf("%d parts, to be cut at %d", len(vectors), cut)
	}
	for _, v := range vectors {
		all = append(all, fmt.Sprintf("%d%s", to.Port()-1024, unsafe.Slice(v.Base, v.Len)))
	}
	return all
}

// segmentLength is what a message asks the kernel to cut at; 0: nothing.
func segmentLength(t *testing.T, m *message) (n int) {
	t.Helper()
	if m.hdr.Controllen == 0 {
		return 0
	}
	all, err := unix.ParseSocketControlMessage(unsafe.Slice(m.hdr.Control, m.hdr.Controllen))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Header.Level == unix.SOL_UDP && c.Header.Type == unix.UDP_SEGMENT {
			n = int(binary.NativeEndian.Uint16(c.Data))
		}
	}
	return n
}

func TestUDPGoesOnBehindAReplyThatCannotBeSent(t *testing.T) {
	var sent []string
	written := 0
	socket := &fakeSocket{onSend: func(ms []message) (int, error) {
		if written == 4 {
			written++
			return 0, unix.EPERM
		}
		n := min(3, len(ms), max(1, 4-written))
		for i := range ms[:n] {
			sent = append(sent, datagrams(t, &ms[i])...)
		}
		written += n
		return n, nil
	}}
	s := &constantSession{}
	l := newLoop(t, socket, s)
	fillBatch(l, 8, 8)
	l.answer()
	if want := []string{"0a", "1b", "2c", "3d", "5f", "6g", "7h"}; !slices.Equal(sent, want) {
		t.Errorf("sent %q, want %q", sent, want)
	}
	if s.commits != 1 {
		t.Errorf("%d commits for one batch", s.commits)
	}
	if got := testutil.ToFloat64(l.metrics.udp.sendErrors); got != 1 {
		t.Errorf("%v replies counted as not sent", got)
	}
}

func TestUDPRepliesOfOneLengthToOneSocketAreOneMessage(t *testing.T) {
	var got [][]string
	l := newLoop(t, &fakeSocket{onSend: func(ms []message) (int, error) {
		for i := range ms {
			got = append(got, datagrams(t, &ms[i]))
		}
		return len(ms), nil
	}}, &constantSession{lengthen: 'e'})
	fillBatch(l, 7, 2)
	l.answer()
	want := [][]string{{"0a", "0c", "0g"}, {"1b", "1d", "1f"}, {"0eee"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("messages %q, want %q", got, want)
	}
}

func TestUDPAMessageIsNoLongerThanADatagramCanBe(t *testing.T) {
	out := newOutBatch(true)
	address := make([]byte, unix.SizeofSockaddrInet4)
	for range batchSize {
		out.add(append(out.buffer(), make([]byte, wire.MaxUDP)...), address, nil)
	}
	total := 0
	for _, m := range out.messages() {
		if n := m.segments() * wire.MaxUDP; n > maxSegmented {
			t.Errorf("a message of %d bytes", n)
		}
		total += m.segments()
	}
	if got := len(out.messages()); total != batchSize || got != 2 {
		t.Errorf("%d replies in %d messages", total, got)
	}
}

func TestUDPManyRepliesToOneSocketArriveWhole(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"} {
		t.Run(addr, func(t *testing.T) {
			listen := netip.MustParseAddrPort(addr)
			u, err := listenUDP(t.Context(), listen)
			if err != nil {
				t.Fatal(err)
			}
			defer u.conn.Close()
			host := "127.0.0.1"
			if listen.Addr().Is6() {
				host = "::1"
			}
			conn, err := net.Dial("udp", net.JoinHostPort(host, strconv.Itoa(int(u.local.Port()))))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			socket, err := newKernelSocket(u.conn)
			if err != nil {
				t.Fatal(err)
			}
			m, err := newMetrics(nil)
			if err != nil {
				t.Fatal(err)
			}
			l := newUDPLoop(u, socket, sessionHandler{&constantSession{}}, newWorkers(t.Context(), 1), &Config{Clock: time.Now}, m)
			const n = 20
			for i := range n {
				if _, err := fmt.Fprintf(conn, "packet %02d", i); err != nil {
					t.Fatal(err)
				}
			}
			for got := 0; got < n; got += l.in.received {
				if l.in.received, err = socket.await(l.in.ready()); err != nil {
					t.Fatal(err)
				}
				l.answer()
			}
			buf := make([]byte, 100)
			for i := range n {
				k, err := conn.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				if got, want := string(buf[:k]), fmt.Sprintf("packet %02d", i); got != want {
					t.Errorf("reply %q, want %q", got, want)
				}
			}
			if l.out.cutting.never || l.out.cutting.failed > 0 {
				t.Error("this kernel did not cut a message, so the test does not test")
			}
		})
	}
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
				failures := tt.failures
				l := newLoop(t, &fakeSocket{onReceive: func([]message) (int, error) {
					if failures--; failures < 0 {
						cancel()
						return 0, os.ErrDeadlineExceeded
					}
					return 0, unix.ENOBUFS
				}}, &constantSession{})
				if err := l.run(ctx); !errors.Is(err, tt.want) {
					t.Errorf("run = %v, want %v", err, tt.want)
				}
				if got := testutil.ToFloat64(l.metrics.receiveErrors); got != float64(tt.failures) {
					t.Errorf("%v errors counted, want %d", got, tt.failures)
				}
			})
		})
	}
}

func TestUDPAnswersABatchWithoutAllocating(t *testing.T) {
	for _, sockets := range []int{1, 8, batchSize} {
		l := newLoop(t, &fakeSocket{}, &constantSession{})
		if n := testing.AllocsPerRun(100, func() {
			fillBatch(l, batchSize, sockets)
			l.answer()
		}); n != 0 {
			t.Errorf("%d sockets: %v allocations per batch", sockets, n)
		}
	}
}

// BenchmarkUDPBatch is what the transport adds to a batch of 64, without the
// kernel.
func BenchmarkUDPBatch(b *testing.B) {
	for _, sockets := range []int{1, 8, batchSize} {
		b.Run(fmt.Sprintf("sockets=%d", sockets), func(b *testing.B) {
			l := newLoop(b, &fakeSocket{}, &constantSession{})
			fillBatch(l, batchSize, sockets)
			b.ReportAllocs()
			for b.Loop() {
				l.answer()
			}
		})
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
