package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"

	"cordon/blocklog"
)

// dialDoQ opens a connection from a socket of its own.
func (r *running) dialDoQ(config *tls.Config) *quic.Conn {
	r.t.Helper()
	conn, err := quic.DialAddr(r.t.Context(), r.DoQ()[0].String(), config, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	return conn
}

// doqQuery is a query as it goes over a stream.
func doqQuery(t testing.TB, name string, edit ...func(*dns.Msg)) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeTXT)
	m.Id = 0
	for _, e := range edit {
		e(m)
	}
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)
}

// ask sends raw on a stream of its own and reads what comes.
func askDoQ(t testing.TB, conn *quic.Conn, raw []byte) ([]byte, error) {
	t.Helper()
	stream, err := conn.OpenStreamSync(t.Context())
	if err != nil {
		return nil, err
	}
	if _, err := stream.Write(raw); err != nil {
		return nil, err
	}
	if err := stream.Close(); err != nil {
		return nil, err
	}
	return io.ReadAll(stream)
}

// answers asks for a name and wants its reply.
func answersDoQ(t testing.TB, conn *quic.Conn, name string) {
	t.Helper()
	got, err := askDoQ(t, conn, doqQuery(t, name))
	if err != nil || len(got) < 2 || int(binary.BigEndian.Uint16(got)) != len(got)-2 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(got[2:]); err != nil || m.Question[0].Name != name || m.Id != 0 {
		t.Fatalf("%v %v", m, err)
	}
}

func TestDoQAnswersEachOnItsStream(t *testing.T) {
	metas := make(chan Meta, 3)
	release := make(chan struct{})
	r, a := serveTLS(t, Config{DoQ: onLoopback}, &fakeHandler{from: func(m Meta) { metas <- m }, resolve: func(context.Context, string) { <-release }})
	conn := r.dialDoQ(a.trusts("doq"))
	waiting, err := conn.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := waiting.Write(doqQuery(t, "later.first.")); err != nil {
		t.Fatal(err)
	}
	_ = waiting.Close()
	answersDoQ(t, conn, "now.second.")
	if m := <-metas; m.Transport != blocklog.DoQ || m.Peer.Addr() != loopback.Addr() || m.Certified {
		t.Errorf("%+v", m)
	}
	close(release)
	if got, err := io.ReadAll(waiting); err != nil || len(got) == 0 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if state := conn.ConnectionState(); state.TLS.NegotiatedProtocol != "doq" || state.Used0RTT {
		t.Errorf("ALPN %q, 0-RTT %v", state.TLS.NegotiatedProtocol, state.Used0RTT)
	}
	_ = conn.CloseWithError(0, "")
	r.eventually(0, "cordon_streams")
	r.eventually(1, "cordon_streams_closed_total", "client")
}

func TestDoQClosesWhatBreaksTheProtocol(t *testing.T) {
	r, a := serveTLS(t, Config{DoQ: onLoopback}, &fakeHandler{})
	whole := doqQuery(t, "now.example.")
	for name, raw := range map[string][]byte{
		"an ID":              doqQuery(t, "now.example.", func(m *dns.Msg) { m.Id = 7 }),
		"half a message":     whole[:len(whole)-1],
		"two messages":       append(bytes.Clone(whole), whole...),
		"nothing":            {},
		"no DNS":             {0, 3, 0, 0, 0},
		"a message too long": append([]byte{0xff, 0xff}, make([]byte, 65535)...),
		"an option for idle TCP": doqQuery(t, "now.example.", func(m *dns.Msg) {
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE}}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			conn := r.dialDoQ(a.trusts("doq"))
			_, err := askDoQ(t, conn, raw)
			var closed *quic.ApplicationError
			if !errors.As(err, &closed) || closed.ErrorCode != doqProtocolError || !closed.Remote {
				t.Errorf("the connection ended with %v", err)
			}
		})
	}
	r.eventually(7, "cordon_streams_closed_total", "protocol")
}

func TestDoQTellsAStreamWhyItHasNoReply(t *testing.T) {
	started, release := make(chan struct{}, 1), make(chan struct{})
	commit := errDiskFull
	r, a := serveTLS(t, Config{DoQ: onLoopback, InFlight: 1}, &fakeHandler{commit: func() error { return commit }, resolve: func(_ context.Context, name string) {
		if name == "later.wait." {
			started <- struct{}{}
			<-release
		}
	}})
	conn := r.dialDoQ(a.trusts("doq"))
	reset := func(name string, want quic.StreamErrorCode) {
		t.Helper()
		_, err := askDoQ(t, conn, doqQuery(t, name))
		var stream *quic.StreamError
		if !errors.As(err, &stream) || stream.ErrorCode != want {
			t.Errorf("%s: %v, want code %d", name, err, want)
		}
	}
	reset("now.withheld.", doqInternalError)
	reset("later-nothing.example.", doqInternalError)
	waits := make(chan error)
	go func() {
		_, err := askDoQ(t, conn, doqQuery(t, "later.wait."))
		waits <- err
	}()
	<-started
	reset("later.shed.", doqExcessiveLoad)
	close(release)
	if err := <-waits; err != nil {
		t.Error(err)
	}
	r.eventually(1, "cordon_queries_total", "doq", "shed")
	r.eventually(1, "cordon_replies_withheld_total", "doq")
}

func TestDoQCancelledStreamsHoldTheirPlaces(t *testing.T) {
	const pipeline = 4
	started, release := make(chan struct{}, 100), make(chan struct{})
	r, a := serveTLS(t, Config{DoQ: onLoopback, Pipeline: pipeline}, &fakeHandler{resolve: func(context.Context, string) {
		started <- struct{}{}
		<-release
	}})
	conn := r.dialDoQ(a.trusts("doq"))
	for range pipeline {
		stream, err := conn.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Write(doqQuery(t, "later.example.")); err != nil {
			t.Fatal(err)
		}
		_ = stream.Close()
		<-started
		stream.CancelRead(doqRequestCancelled)
	}
	answersDoQ(t, r.dialDoQ(a.trusts("doq")), "now.other.") // another connection is not concerned
	if _, err := conn.OpenStream(); err == nil {
		t.Error("cancelling made room for another stream")
	}
	close(release)
	answersDoQ(t, conn, "now.example.")
}

func TestDoQClosesAConnectionThatOnlyCancels(t *testing.T) {
	r, a := serveTLS(t, Config{DoQ: onLoopback}, &fakeHandler{})
	conn := r.dialDoQ(a.trusts("doq"))
	var err error
	for err == nil {
		var stream *quic.Stream
		if stream, err = conn.OpenStreamSync(t.Context()); err == nil {
			_, _ = stream.Write([]byte{0})
			stream.CancelWrite(doqRequestCancelled)
			stream.CancelRead(doqRequestCancelled)
		}
	}
	var closed *quic.ApplicationError
	if !errors.As(err, &closed) || closed.ErrorCode != doqExcessiveLoad {
		t.Errorf("the connection ended with %v", err)
	}
}

func TestDoQClosesAConnectionThatNeverAsks(t *testing.T) {
	r, a := serveTLS(t, Config{DoQ: onLoopback, Idle: 50 * time.Millisecond}, &fakeHandler{})
	conn, err := quic.DialAddr(t.Context(), r.DoQ()[0].String(), a.trusts("doq"), &quic.Config{KeepAlivePeriod: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	<-conn.Context().Done()
	r.eventually(1, "cordon_streams_closed_total", "idle")
}

func TestDoQHandshakesAndConnectionsCountAgainstTheClient(t *testing.T) {
	r, a := serveTLS(t, Config{DoQ: onLoopback, StreamsPerClient: 2}, &fakeHandler{})
	first := r.dialDoQ(a.trusts("doq"))
	r.dialDoQ(a.trusts("doq"))
	if _, err := quic.DialAddr(t.Context(), r.DoQ()[0].String(), a.trusts("doq"), nil); err == nil {
		t.Error("a third connection was taken")
	}
	r.eventuallySome("cordon_streams_refused_total", "client") // the client tries more than once
	_ = first.CloseWithError(0, "")
	r.eventually(1, "cordon_streams")
	answersDoQ(t, r.dialDoQ(a.trusts("doq")), "now.example.")
	if _, err := quic.DialAddr(t.Context(), r.DoQ()[0].String(), a.trusts("h3"), nil); err == nil {
		t.Error("another protocol was taken")
	}
	r.eventually(2, "cordon_streams") // its handshake gave its place back
}

func TestDoQHandshakesMayBeRefused(t *testing.T) {
	r, a := serveTLS(t, Config{DoQ: onLoopback, MayShakeHands: func(netip.Addr) bool { return false }}, &fakeHandler{})
	if _, err := quic.DialAddr(t.Context(), r.DoQ()[0].String(), a.trusts("doq"), nil); err == nil {
		t.Error("the handshake was made")
	}
	r.eventuallySome("cordon_streams_refused_total", "handshakes")
}

// TestDoQSurvivesAFloodOfHandshakes holds that clients that begin handshakes
// and never go on are bounded, and that an honest one is served meanwhile.
func TestDoQSurvivesAFloodOfHandshakes(t *testing.T) {
	const most = 64
	r, a := serveTLS(t, Config{DoQ: onLoopback, Streams: most, StreamsPerClient: most / 2, Handshake: 100 * time.Millisecond}, &fakeHandler{})
	initial := initialPacket(t, a)
	before := heap()
	for range 1000 {
		conn := r.dial("udp", r.DoQ()[0].String())
		// Each has connection IDs of its own, as far as the server can tell.
		if _, err := conn.Write(initial()); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if got := r.counter("cordon_streams"); got > most/2 {
			t.Fatalf("%v connections of one client", got)
		}
	}
	r.eventually(0, "cordon_streams")
	answersDoQ(t, r.dialDoQ(a.trusts("doq")), "now.honest.")
	holdsLittle(t, before, 16<<20)
}

// initialPacket gives what a client sends first, anew at each call.
func initialPacket(t testing.TB, a *authority) func() []byte {
	t.Helper()
	sink, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(loopback))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	return func() []byte {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = quic.DialAddr(ctx, sink.LocalAddr().String(), a.trusts("doq"), nil)
		}()
		buf := make([]byte, 2048)
		n, err := sink.Read(buf)
		cancel()
		<-ended
		if err != nil {
			t.Fatal(err)
		}
		return buf[:n]
	}
}

func FuzzReadDoQ(f *testing.F) {
	f.Add(doqQuery(f, "now.example."))
	f.Add([]byte{0, 3, 0, 0, 0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		query, err := readDoQ(bytes.NewReader(b))
		if err == nil && (len(query) != len(b)-2 || len(query) > maxQuery || query[0] != 0 || query[1] != 0) {
			t.Fatalf("%x was read as %x", b, query)
		}
	})
}
