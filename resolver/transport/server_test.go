package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"cordon/resolver/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDiskFull = errors.New("disk full")

// fakeHandler does with a query what the first label of its name says: "now",
// "later" or "drop". Its hooks may be nil.
type fakeHandler struct {
	answered func(name string)                      // before a reply at once is made
	commit   func() error                           // result of Commit
	resolve  func(ctx context.Context, name string) // before a reply is resolved
	padding  int                                    // bytes of TXT in each reply
	ttl      uint32                                 // of it, in seconds
	from     func(Meta)                             // before a reply at once is made
}

func (h *fakeHandler) Session() Session { return &fakeSession{handler: h} }

func (h *fakeHandler) Resolve(ctx context.Context, query []byte, from Meta) []byte {
	var q wire.Query
	if err := q.Parse(query); err != nil {
		return nil
	}
	name := wire.NameText(q.Name())
	if h.resolve != nil {
		h.resolve(ctx, name)
	}
	if strings.HasPrefix(name, "later-nothing.") {
		return nil
	}
	return h.reply(nil, &q, from)
}

func (h *fakeHandler) reply(dst []byte, q *wire.Query, from Meta) []byte {
	var b wire.Builder
	b.Start(dst, q, q.Limit(from.Stream()))
	for left := h.padding; left > 0; left -= 200 {
		b.Answer(0, dns.TypeTXT, h.ttl, append([]byte{200}, make([]byte, 200)...))
	}
	return b.Finish(0, false)
}

type fakeSession struct {
	handler *fakeHandler
	query   wire.Query
}

func (s *fakeSession) Answer(dst, query []byte, from Meta) ([]byte, Verdict) {
	if s.query.Parse(query) != nil {
		return dst, Drop
	}
	switch first, _, _ := strings.Cut(wire.NameText(s.query.Name()), "."); {
	case strings.HasPrefix(first, "later"):
		return dst, Later
	case first == "drop":
		return dst, Drop
	}
	if s.handler.from != nil {
		s.handler.from(from)
	}
	if s.handler.answered != nil {
		s.handler.answered(wire.NameText(s.query.Name()))
	}
	return s.handler.reply(dst, &s.query, from), Reply
}

func (s *fakeSession) Commit() error {
	if s.handler.commit != nil {
		return s.handler.commit()
	}
	return nil
}

// running is a server under test.
type running struct {
	*Server
	t       *testing.T
	metrics *prometheus.Registry
	cancel  context.CancelFunc
	served  chan error
}

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// serve starts a server, on loopback unless c says where.
func serve(t *testing.T, c Config, h Handler) *running {
	t.Helper()
	if len(c.UDP)+len(c.TCP)+len(c.DoT)+len(c.DoH)+len(c.DoQ) == 0 {
		c.UDP, c.TCP = []netip.AddrPort{loopback}, []netip.AddrPort{loopback}
	}
	r := &running{t: t, metrics: prometheus.NewRegistry(), served: make(chan error, 1)}
	c.Clock, c.Registerer = time.Now, r.metrics
	var err error
	if r.Server, err = Listen(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	go func() { r.served <- r.Serve(ctx, h) }()
	t.Cleanup(r.stop)
	return r
}

// stop shuts the server down, once.
func (r *running) stop() {
	r.cancel()
	if r.served == nil {
		return
	}
	if err := <-r.served; err != nil {
		r.t.Errorf("Serve = %v", err)
	}
	r.served = nil
}

// counter is the value of a counter with labels in the order of their names,
// as "name{label=value,...}".
func (r *running) counter(name string, labels ...string) float64 {
	r.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var got []string
			for _, l := range m.GetLabel() {
				got = append(got, l.GetValue())
			}
			if slices.Equal(got, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// eventually waits until a metric has a value.
func (r *running) eventually(want float64, name string, labels ...string) {
	r.t.Helper()
	r.await(func(got float64) bool { return got == want }, name, labels...)
}

// eventuallySome waits until a metric is not 0 any more.
func (r *running) eventuallySome(name string, labels ...string) {
	r.t.Helper()
	r.await(func(got float64) bool { return got > 0 }, name, labels...)
}

func (r *running) await(is func(float64) bool, name string, labels ...string) {
	r.t.Helper()
	patience := time.After(20 * time.Second) // running into it is a failure, never slowness
	for !is(r.counter(name, labels...)) {
		select {
		case <-patience:
			r.t.Fatalf("%s%v stays %v", name, labels, r.counter(name, labels...))
		case <-time.After(time.Millisecond):
		}
	}
}

func (r *running) dialUDP() net.Conn { return r.dial("udp", r.UDP()[0].String()) }
func (r *running) dialTCP() net.Conn { return r.dial("tcp", r.TCP()[0].String()) }

func (r *running) dial(network, addr string) net.Conn {
	r.t.Helper()
	conn, err := net.Dial(network, addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// send sends a query over a connection of either kind.
func send(t testing.TB, conn net.Conn, name string) {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeTXT)
	if err := (&dns.Conn{Conn: conn}).WriteMsg(m); err != nil {
		t.Fatal(err)
	}
}

// receive reads the next reply and returns the name that it answers.
func receive(t testing.TB, conn net.Conn) string {
	t.Helper()
	m, err := (&dns.Conn{Conn: conn}).ReadMsg()
	if err != nil {
		t.Fatalf("no reply: %v", err)
	}
	return m.Question[0].Name
}

func TestListenSaysWhatIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	addr := taken.Addr().(*net.TCPAddr).AddrPort()
	for name, c := range map[string]Config{
		"no clock":             {UDP: []netip.AddrPort{loopback}},
		"no address":           {Clock: time.Now},
		addr.String():          {Clock: time.Now, UDP: []netip.AddrPort{loopback}, TCP: []netip.AddrPort{addr}},
		"listen at 192.0.2.1":  {Clock: time.Now, UDP: []netip.AddrPort{loopback, netip.MustParseAddrPort("192.0.2.1:53")}},
		"no certificate":       {Clock: time.Now, DoT: []netip.AddrPort{loopback}},
		"register the metrics": {Clock: time.Now, UDP: []netip.AddrPort{loopback}, Registerer: taker{}},
	} {
		if s, err := Listen(t.Context(), c); err == nil {
			t.Errorf("%s: no error (%v)", name, s.Close())
		} else if !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %q", name, err)
		}
	}
}

// taker registers nothing.
type taker struct{ prometheus.Registerer }

func (taker) Register(prometheus.Collector) error { return prometheus.AlreadyRegisteredError{} }

func TestShutdownFinishesWhatIsUnderWay(t *testing.T) {
	started, release := make(chan struct{}, 2), make(chan struct{})
	r := serve(t, Config{}, &fakeHandler{resolve: func(context.Context, string) {
		started <- struct{}{}
		<-release
	}})
	udp, tcp := r.dialUDP(), r.dialTCP()
	send(t, udp, "later.udp.")
	send(t, tcp, "later.tcp.")
	<-started
	<-started
	r.cancel()
	for { // the listener is closed first
		conn, err := net.Dial("tcp", r.TCP()[0].String())
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	close(release)
	if got := receive(t, udp); got != "later.udp." {
		t.Errorf("reply to %s", got)
	}
	if got := receive(t, tcp); got != "later.tcp." {
		t.Errorf("reply to %s", got)
	}
	r.stop()
	if got := r.counter("cordon_streams_closed_total", "shutdown"); got == 0 {
		t.Error("no connection counts as ended by the shutdown")
	}
	if got := r.counter("cordon_streams"); got != 0 {
		t.Errorf("%v connections are left", got)
	}
}

func TestShutdownGivesUpAfterItsGrace(t *testing.T) {
	started := make(chan struct{}, 2)
	r := serve(t, Config{Grace: 10 * time.Millisecond, Write: time.Hour}, &fakeHandler{
		resolve: func(ctx context.Context, _ string) {
			started <- struct{}{}
			<-ctx.Done() // only the end of the grace ends this
		},
	})
	send(t, r.dialUDP(), "later.udp.")
	send(t, r.dialTCP(), "later.tcp.")
	<-started
	<-started
	r.stop()
}

func TestServeEndsWhenASocketFails(t *testing.T) {
	r := serve(t, Config{}, &fakeHandler{})
	conn := r.dialTCP()
	send(t, conn, "now.example.")
	receive(t, conn)
	_ = r.udp[0].conn.Close()
	if err := <-r.served; !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), r.UDP()[0].String()) {
		t.Errorf("Serve = %v", err)
	}
	r.served = nil
	ended(t, conn)
}

func TestMetricsAreWellFormed(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	if _, err := newMetrics(registry); err != nil {
		t.Fatal(err)
	}
	if _, err := NewUpstream(UpstreamConfig{Registerer: registry}); err != nil {
		t.Fatal(err)
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("problems %v, %v", problems, err)
	}
}

func TestManyClientsAtOnceGetTheirOwnReplies(t *testing.T) {
	r := serve(t, Config{}, &fakeHandler{})
	var clients sync.WaitGroup
	for i := range 8 {
		conn := r.dialUDP()
		if i%2 == 1 {
			conn = r.dialTCP()
		}
		clients.Go(func() {
			for j := range 100 {
				name := []string{"now.", "later."}[j%2] + string(rune('a'+i)) + "."
				m := new(dns.Msg)
				m.SetQuestion(name, dns.TypeTXT)
				c := &dns.Conn{Conn: conn}
				if err := c.WriteMsg(m); err != nil {
					t.Error(err)
					return
				}
				got, err := c.ReadMsg()
				if err != nil || got.Id != m.Id || got.Question[0].Name != name {
					t.Errorf("reply to %s: %v, %v", name, got, err)
					return
				}
			}
		})
	}
	clients.Wait()
}
