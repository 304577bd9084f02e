package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/quic-go/quic-go"

	"cordon/blocklog"
)

const (
	// manyHandshakes under way at a time mean that source addresses are verified
	// first (Retry, RFC 9000 §8.1.2), which costs an honest client a round trip.
	manyHandshakes = 32
	// quicWindow is what a peer may send on one connection and has not been read,
	// in bytes.
	quicWindow = 64 << 10
)

// errRefused refuses a connection; the peer sees CONNECTION_REFUSED.
var errRefused = errors.New("transport: too many connections")

// quicSocket is a UDP socket on which QUIC is spoken: DoQ, or DoH over HTTP/3.
type quicSocket struct {
	conn   *net.UDPConn
	speaks blocklog.Transport
}

func listenQUIC(ctx context.Context, addr netip.AddrPort, speaks blocklog.Transport) (quicSocket, error) {
	pc, err := listenConfig(nil).ListenPacket(ctx, network("udp", addr.Addr()), addr.String())
	if err != nil {
		return quicSocket{}, err
	}
	conn := pc.(*net.UDPConn)
	_ = conn.SetReadBuffer(receiveBuffer) // a smaller one works too
	return quicSocket{conn, speaks}, nil
}

func (q quicSocket) address() netip.AddrPort { return q.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// quicConfig bounds a connection. 0-RTT is off: early data can be replayed, and
// what is asked of a resolver shows in what it then asks others (RFC 9250
// §4.5). A stream's credit is given back when its query costs nothing any
// more, so that cancelling streams makes no room for others.
func (s *streams) quicConfig(unidirectional int64) *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           s.c.Handshake,
		MaxIdleTimeout:                 s.c.Idle,
		MaxIncomingStreams:             int64(s.c.Pipeline),
		MaxIncomingUniStreams:          unidirectional,
		RequireStreamCreditRelease:     true,
		InitialStreamReceiveWindow:     2 + maxQuery,
		MaxStreamReceiveWindow:         16 << 10,
		InitialConnectionReceiveWindow: quicWindow,
		MaxConnectionReceiveWindow:     quicWindow,
	}
}

// listenOn begins to take connections; they end with the transport, which
// s.stop closes.
func (s *streams) listenOn(q quicSocket, t *tls.Config, c *quic.Config) (*shaken, error) {
	transport := &quic.Transport{Conn: q.conn, VerifySourceAddress: s.suspicious, ConnContext: s.admitQUIC}
	l, err := transport.Listen(t, c)
	if err != nil {
		return nil, fmt.Errorf("listen at %s by QUIC: %w", q.address(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quic = append(s.quic, transport)
	return &shaken{l}, nil
}

// suspicious says whether the source of a connection attempt is to be verified
// first.
func (s *streams) suspicious(addr net.Addr) bool {
	if s.handshakes.Load() >= manyHandshakes {
		return true
	}
	udp, ok := addr.(*net.UDPAddr)
	return !ok || s.admission.crowded(clientNetwork(udp.AddrPort().Addr()))
}

// handshake is a QUIC handshake that is under way until it is done with.
type handshake struct {
	streams *streams
	once    sync.Once
}

type handshakeKey struct{}

func (h *handshake) done() { h.once.Do(func() { h.streams.handshakes.Add(-1) }) }

// admitQUIC counts a connection from its first packet to its end, whether its
// handshake succeeds or not.
func (s *streams) admitQUIC(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	client := clientNetwork(peerOf(info.RemoteAddr).Addr())
	if !s.c.mayShakeHands(client.Addr()) {
		s.m.refused.WithLabelValues("handshakes").Inc()
		return nil, errRefused
	}
	if limit, ok := s.admission.admit(client); !ok {
		s.m.refused.WithLabelValues(limit).Inc()
		return nil, errRefused
	}
	s.m.streams.Inc()
	s.handshakes.Add(1)
	h := &handshake{streams: s}
	context.AfterFunc(ctx, func() {
		h.done()
		s.m.streams.Dec()
		s.admission.leave(client)
	})
	return context.WithValue(ctx, handshakeKey{}, h), nil
}

// shaken is a listener that notes the end of each handshake.
type shaken struct{ *quic.Listener }

func (l *shaken) Accept(ctx context.Context) (*quic.Conn, error) {
	conn, err := l.Listener.Accept(ctx)
	if err == nil {
		conn.Context().Value(handshakeKey{}).(*handshake).done()
	}
	return conn, err
}

func peerOf(addr net.Addr) netip.AddrPort {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	a := udp.AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// quicMeta is what is known of a query on a QUIC connection; the peer may have
// moved since the last one.
func quicMeta(conn *quic.Conn, t blocklog.Transport) Meta {
	return Meta{Transport: t, Peer: peerOf(conn.RemoteAddr()), Certified: certified(conn.ConnectionState().TLS)}
}
