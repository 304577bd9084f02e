package transport

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"cordon/blocklog"
)

// ended waits until the server has closed the connection.
func ended(t testing.TB, conn net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, conn); n != 0 {
		t.Errorf("%d bytes came before the end (%v)", n, err)
	}
}

func TestTCPAnswersOutOfOrder(t *testing.T) {
	release := make(chan struct{})
	r := serve(t, Config{}, &fakeHandler{resolve: func(context.Context, string) { <-release }})
	conn := r.dialTCP()
	send(t, conn, "later.first.")
	send(t, conn, "now.second.")
	send(t, conn, "now.third.")
	for _, want := range []string{"now.second.", "now.third."} {
		if got := receive(t, conn); got != want {
			t.Errorf("reply to %s, want %s", got, want)
		}
	}
	close(release)
	if got := receive(t, conn); got != "later.first." {
		t.Errorf("reply to %s", got)
	}
	_ = conn.Close()
	r.eventually(1, "cordon_streams_closed_total", "client")
	for verdict, want := range map[string]float64{"answered": 2, "resolved": 1} {
		if got := r.counter("cordon_queries_total", "tcp", verdict); got != want {
			t.Errorf("%v queries %s, want %v", got, verdict, want)
		}
	}
}

func TestTCPTakesQueriesInAnyPieces(t *testing.T) {
	r := serve(t, Config{}, &fakeHandler{})
	conn := r.dialTCP()
	m := new(dns.Msg)
	m.SetQuestion("now.example.", dns.TypeTXT)
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	frame := append([]byte{0, byte(len(packet))}, packet...)
	for _, b := range frame {
		if _, err := conn.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, conn)
	var many []byte
	for range 200 {
		many = append(many, frame...)
	}
	if _, err := conn.Write(many); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		receive(t, conn)
	}
}

func TestTCPAnswersAfterTheClientHasSentItsLast(t *testing.T) {
	r := serve(t, Config{}, &fakeHandler{})
	conn := r.dialTCP()
	send(t, conn, "later.example.")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	receive(t, conn)
	ended(t, conn)
}

func TestTCPClosesWhatIsIdleOrTooSlowToAsk(t *testing.T) {
	r := serve(t, Config{Idle: 20 * time.Millisecond}, &fakeHandler{})
	silent, half := r.dialTCP(), r.dialTCP()
	if _, err := half.Write([]byte{0, 20, 1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	ended(t, silent)
	ended(t, half)
	r.eventually(2, "cordon_streams_closed_total", "idle")
}

func TestTCPClosesWhatSpeaksNoDNS(t *testing.T) {
	r := serve(t, Config{}, &fakeHandler{})
	for name, bytes := range map[string]string{
		"no query":           "\x00\x03abc",
		"an empty message":   "\x00\x00",
		"a very long one":    "\xff\xff\x00",
		"a request for HTTP": "GET / HTTP/1.1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn := r.dialTCP()
			if _, err := conn.Write([]byte(bytes)); err != nil {
				t.Fatal(err)
			}
			ended(t, conn)
		})
	}
	r.eventually(4, "cordon_streams_closed_total", "protocol")
}

func TestTCPSlowReaderCostsItsOwnConnectionOnly(t *testing.T) {
	r := serve(t, Config{Write: 100 * time.Millisecond}, &fakeHandler{padding: 40_000})
	slow, honest := r.dialTCP(), r.dialTCP()
	given := make(chan struct{})
	go func() { // asks and never reads, until the server gives it up
		defer close(given)
		m := new(dns.Msg)
		m.SetQuestion("now.slow.", dns.TypeTXT)
		for (&dns.Conn{Conn: slow}).WriteMsg(m) == nil {
		}
	}()
	for served := false; !served; {
		send(t, honest, "now.honest.")
		receive(t, honest)
		select {
		case <-given:
			served = true
		default:
		}
	}
	r.eventually(1, "cordon_streams_closed_total", "slow")
	send(t, honest, "later.honest.")
	receive(t, honest)
}

// pipeStream is a stream whose peer is the other end of a pipe, which holds no
// bytes: what the peer does not read is not written.
func pipeStream(ctx context.Context, t *testing.T, c Config, h Handler) (peer net.Conn, s *streams, reason <-chan string) {
	t.Helper()
	c.Clock = time.Now
	c.setDefaults()
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	s = newStreams(&c, m, h, newWorkers(t.Context(), c.InFlight))
	t.Cleanup(s.workers.wait)
	peer, server := net.Pipe()
	ended := make(chan string, 1)
	st := newStream(s, server, Meta{Transport: blocklog.TCP})
	s.track(server, true)
	go func() { ended <- st.run(ctx) }()
	return peer, s, ended
}

func TestTCPGivesUpAPeerForWhichTooMuchWaits(t *testing.T) {
	release := make(chan struct{})
	peer, _, reason := pipeStream(t.Context(), t, Config{Write: time.Hour, Idle: time.Hour}, &fakeHandler{padding: 60_000, resolve: func(context.Context, string) { <-release }})
	for range maxUnsent/60_000 + 1 {
		send(t, peer, "later.example.")
	}
	close(release)
	if got := <-reason; got != closedSlow {
		t.Errorf("the connection ended as %q", got)
	}
}

func TestTCPShutdownIsNotHeldUpByAPeerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		peer, s, reason := pipeStream(ctx, t, Config{Write: time.Hour, Idle: time.Hour}, &fakeHandler{})
		send(t, peer, "now.example.")
		stop()
		synctest.Wait()
		select {
		case got := <-reason:
			t.Fatalf("the connection ended as %q before its reply was taken", got)
		default:
		}
		s.abort()
		if got := <-reason; got != closedShutdown {
			t.Errorf("the connection ended as %q", got)
		}
	})
}

func TestTCPReadsNoMoreWhileRepliesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const padding = 30_000
		peer, _, reason := pipeStream(t.Context(), t, Config{Write: time.Hour, Idle: time.Hour}, &fakeHandler{padding: padding})
		for range pauseUnsent/padding + 1 {
			send(t, peer, "now.example.")
		}
		read := false
		go func() {
			send(t, peer, "now.last.")
			read = true
		}()
		synctest.Wait()
		if read {
			t.Error("a query was read while too much waited")
		}
		for receive(t, peer) != "now.last." {
		}
		_ = peer.Close()
		if got := <-reason; got != closedByClient {
			t.Errorf("the connection ended as %q", got)
		}
	})
}

func TestTCPBoundsTheQueriesOfOneConnection(t *testing.T) {
	const pipeline, queries = 2, 6
	release := make(chan struct{})
	started := make(chan struct{}, queries)
	var working, most atomic.Int32
	r := serve(t, Config{Pipeline: pipeline}, &fakeHandler{resolve: func(context.Context, string) {
		for n := working.Add(1); ; {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		started <- struct{}{}
		<-release
		working.Add(-1)
	}})
	conn, other := r.dialTCP(), r.dialTCP()
	for range queries {
		send(t, conn, "later.example.")
	}
	for range pipeline {
		<-started
	}
	send(t, other, "now.other.")
	receive(t, other)
	close(release)
	for range queries {
		receive(t, conn)
	}
	if got := most.Load(); got != pipeline {
		t.Errorf("%d queries of one connection were resolved at a time, want %d", got, pipeline)
	}
}

func TestTCPShedsWhenResolutionIsFull(t *testing.T) {
	release := make(chan struct{})
	started := make(chan struct{}, 1)
	r := serve(t, Config{InFlight: 1}, &fakeHandler{resolve: func(context.Context, string) {
		started <- struct{}{}
		<-release
	}})
	conn := r.dialTCP()
	send(t, conn, "later.first.")
	<-started
	send(t, conn, "later.shed.")
	send(t, conn, "now.served.")
	if got := receive(t, conn); got != "now.served." {
		t.Errorf("reply to %s", got)
	}
	r.eventually(1, "cordon_queries_total", "tcp", "shed")
	close(release)
	if got := receive(t, conn); got != "later.first." {
		t.Errorf("reply to %s", got)
	}
}

func TestTCPSendsNothingThatWasNotCommitted(t *testing.T) {
	r := serve(t, Config{}, &fakeHandler{commit: func() error { return errDiskFull }})
	conn := r.dialTCP()
	send(t, conn, "now.example.")
	ended(t, conn)
	r.eventually(1, "cordon_replies_withheld_total", "tcp")
	r.eventually(1, "cordon_streams_closed_total", "withheld")
}

func TestTCPGivesAPlaceBackWhenThereIsNoReply(t *testing.T) {
	r := serve(t, Config{Pipeline: 1}, &fakeHandler{})
	conn := r.dialTCP()
	for range 5 {
		send(t, conn, "later-nothing.example.")
	}
	send(t, conn, "now.example.")
	if got := receive(t, conn); got != "now.example." {
		t.Errorf("reply to %s", got)
	}
}

func TestTCPLimitsConnectionsInTotalAndPerClient(t *testing.T) {
	for _, tt := range []struct {
		limit string
		c     Config
	}{
		{"client", Config{StreamsPerClient: 2}},
		{"total", Config{Streams: 2}},
	} {
		t.Run(tt.limit, func(t *testing.T) {
			r := serve(t, tt.c, &fakeHandler{})
			first, second := r.dialTCP(), r.dialTCP()
			for _, conn := range []net.Conn{first, second} {
				send(t, conn, "now.example.")
				receive(t, conn)
			}
			ended(t, r.dialTCP())
			r.eventually(1, "cordon_streams_refused_total", tt.limit)
			_ = first.Close()
			r.eventually(1, "cordon_streams")
			third := r.dialTCP()
			send(t, third, "now.example.")
			receive(t, third)
		})
	}
}

func TestAClientIsAnAddressOrASlash64(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1":           "192.0.2.1/32",
		"::ffff:192.0.2.1":    "192.0.2.1/32",
		"2001:db8:1:2:3::4":   "2001:db8:1:2::/64",
		"fe80::1%lo":          "fe80::/64",
		"2001:db8:1:2:ffff::": "2001:db8:1:2::/64",
	} {
		if got := clientNetwork(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("clientNetwork(%s) = %s, want %s", addr, got, want)
		}
	}
}

func TestAdmissionForgetsClientsThatHaveLeft(t *testing.T) {
	a := newAdmission(10, 1)
	client := clientNetwork(netip.MustParseAddr("192.0.2.1"))
	if _, ok := a.admit(client); !ok {
		t.Fatal("the first connection was refused")
	}
	if limit, ok := a.admit(client); ok || limit != "client" {
		t.Fatalf("the second connection: %q, %v", limit, ok)
	}
	a.leave(client)
	if len(a.clients) != 0 || a.total != 0 {
		t.Errorf("left behind: %v, %d", a.clients, a.total)
	}
}
