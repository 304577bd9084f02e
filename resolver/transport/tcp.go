package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"cordon/blocklog"
)

// listener is a TCP socket and what is spoken there: TCP, DoT or DoH.
type listener struct {
	*net.TCPListener
	speaks blocklog.Transport
}

// streams is what all connections share.
type streams struct {
	c         *Config
	m         *metrics
	handler   Handler
	workers   *workers
	admission *admission
	dot, doq  *tls.Config // nil without DoT, DoQ
	doh       *doh        // nil without DoH

	handshakes atomic.Int64 // QUIC handshakes under way

	group sync.WaitGroup // one per open connection
	mu    sync.Mutex     // guards what follows
	open  map[net.Conn]struct{}
	quic  []*quic.Transport
}

func newStreams(c *Config, m *metrics, h Handler, w *workers) *streams {
	return &streams{
		c: c, m: m, handler: h, workers: w,
		admission: newAdmission(c.Streams, c.StreamsPerClient),
		open:      make(map[net.Conn]struct{}),
	}
}

// accept takes connections until ctx ends. What goes wrong with one connection
// is counted and nothing else: its errors hold the peer's address.
func (s *streams) accept(ctx context.Context, l listener) error {
	failures := 0
	for {
		conn, err := l.AcceptTCP()
		switch {
		case err == nil:
			failures = 0
			s.admit(ctx, conn, l.speaks)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept at %s: %w", l.Addr(), err)
		default: // too many open files, or a connection that is gone already
			if failures++; failures == maxReadErrors {
				return fmt.Errorf("accept at %s: %w", l.Addr(), err)
			}
			s.c.Log.Warn("accept failed", "listen", l.Addr().String(), "error", err)
			pause(ctx, min(time.Second, 10*time.Millisecond<<min(failures, 8)))
		}
	}
}

// admit starts a connection, or closes it if there are too many.
func (s *streams) admit(ctx context.Context, conn net.Conn, speaks blocklog.Transport) {
	o := &opening{streams: s, conn: conn, meta: Meta{Transport: speaks, Peer: conn.RemoteAddr().(*net.TCPAddr).AddrPort()}}
	o.proxied = speaksFor(s.c.Proxies, o.meta.Peer.Addr().Unmap())
	if !o.proxied {
		o.client = clientNetwork(o.meta.Peer.Addr())
	}
	if limit, ok := s.admission.admit(o.client); !ok {
		s.m.refused.WithLabelValues(limit).Inc()
		_ = conn.Close()
		return
	}
	s.track(conn, true)
	s.m.streams.Inc()
	s.group.Go(func() {
		defer func() { s.admission.leave(o.client) }() // the client may be named on the way
		defer s.m.streams.Dec()
		defer s.track(conn, false)
		s.m.closed.WithLabelValues(o.run(ctx)).Inc()
	})
}

// opening is a connection on its way from the accept to the protocol that is
// spoken on it.
type opening struct {
	*streams
	conn    net.Conn
	meta    Meta
	client  netip.Prefix // whose place it has
	proxied bool         // a PROXY header comes first
}

// run opens the connection, serves it to its end, closes it, and says why it
// ended.
func (o *opening) run(ctx context.Context) string {
	conn := o.conn
	defer conn.Close()
	if o.proxied {
		if reason := o.readProxy(ctx); reason != "" {
			return reason
		}
	}
	if o.meta.Transport == blocklog.TCP {
		return newStream(o.streams, conn, o.meta).run(ctx)
	}
	if o.meta.Transport == blocklog.DoH {
		held := holdConn(conn)
		secure, reason := o.handshake(ctx, held, o.doh.tls)
		if reason != "" {
			return reason
		}
		held.meta = o.meta
		return o.doh.serve(secure, held)
	}
	secure, reason := o.handshake(ctx, conn, o.dot)
	if reason != "" {
		return reason
	}
	return newStream(o.streams, secure, o.meta).run(ctx)
}

// readProxy takes the client's address from the proxy's header and its place
// with it.
func (o *opening) readProxy(ctx context.Context) (reason string) {
	if err := o.conn.SetReadDeadline(o.c.Clock().Add(o.c.Handshake)); err != nil {
		return closedByClient
	}
	stop := context.AfterFunc(ctx, func() { _ = o.conn.SetReadDeadline(past) })
	peer, err := readProxy(o.conn)
	switch stopped := !stop(); {
	case stopped:
		return closedShutdown
	case errors.Is(err, errProxy):
		return closedProtocol
	case err != nil:
		return closedHandshake
	}
	if peer.IsValid() {
		o.meta.Peer = peer
	}
	client := clientNetwork(o.meta.Peer.Addr())
	if !o.admission.name(client) {
		o.m.refused.WithLabelValues("client").Inc()
		return closedRefused
	}
	o.client = client
	return ""
}

// handshake makes the connection a TLS one.
func (o *opening) handshake(ctx context.Context, conn net.Conn, config *tls.Config) (_ *tls.Conn, reason string) {
	if !o.c.mayShakeHands(o.meta.Peer.Addr()) {
		o.m.refused.WithLabelValues("handshakes").Inc()
		return nil, closedRefused
	}
	shaking, cancel := context.WithTimeout(ctx, o.c.Handshake)
	defer cancel()
	secure := tls.Server(conn, config)
	switch err := secure.HandshakeContext(shaking); {
	case ctx.Err() != nil:
		return nil, closedShutdown
	case err != nil:
		return nil, closedHandshake
	}
	o.meta.Certified = certified(secure.ConnectionState())
	return secure, ""
}

func (s *streams) track(conn net.Conn, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if open {
		s.open[conn] = struct{}{}
	} else {
		delete(s.open, conn)
	}
}

// wait finishes what is under way until ctx ends, and returns when all
// connections have ended.
func (s *streams) wait(ctx context.Context) {
	if s.doh != nil {
		s.doh.stop(ctx)
	}
	s.group.Wait()
	s.workers.wait()
	s.closeQUIC()
}

// abort closes all connections, whatever is under way.
func (s *streams) abort() {
	s.mu.Lock()
	for conn := range s.open {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.closeQUIC()
}

func (s *streams) closeQUIC() {
	s.mu.Lock()
	all := s.quic
	s.mu.Unlock()
	for _, t := range all {
		_ = t.Close() // twice does no harm
	}
}
