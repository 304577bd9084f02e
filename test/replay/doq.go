package main

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// quicPath is a UDP socket that clients share: their connections stay their own.
type quicPath struct {
	socket    *net.UDPConn
	transport *quic.Transport
}

const quicPaths = 64

func openPaths() (all []*quicPath, err error) {
	defer func() {
		if err != nil {
			closePaths(all)
		}
	}()
	for i := range quicPaths {
		socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: (&client{number: i}).address()})
		if err != nil {
			return all, err
		}
		_ = socket.SetReadBuffer(4 << 20) // as much as the kernel gives
		all = append(all, &quicPath{socket: socket, transport: &quic.Transport{Conn: socket}})
	}
	return all, nil
}

func closePaths(all []*quicPath) {
	for _, p := range all {
		_ = p.transport.Close() // all connections are closed
		_ = p.socket.Close()
	}
}

// quicLink is a link by DoQ (RFC 9250): a stream for each question.
type quicLink struct {
	r      *replay
	c      *client
	ctx    context.Context
	cancel context.CancelFunc
	there  chan struct{} // closed when conn is set, or will not be

	mu    sync.Mutex
	conn  *quic.Conn // guarded by mu until there is closed
	ended bool       // guarded by mu
}

func openQUIC(r *replay, c *client) *quicLink {
	l := &quicLink{r: r, c: c, there: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	r.links.Go(l.run)
	return l
}

func (l *quicLink) run() {
	defer l.cancel()
	ctx, cancel := context.WithTimeout(l.ctx, l.r.options.timeout)
	defer cancel()
	conf := l.c.config(l.r.tls)
	path := l.r.paths[l.c.number%len(l.r.paths)]
	conn, err := path.transport.Dial(ctx, net.UDPAddrFromAddrPort(l.r.server), conf, &quic.Config{MaxIdleTimeout: usual.idle, HandshakeIdleTimeout: l.r.options.timeout})
	l.mu.Lock()
	l.conn, l.ended = conn, err != nil
	l.mu.Unlock()
	close(l.there)
	if err != nil {
		if l.ctx.Err() == nil {
			l.r.refused.Add(1)
		}
		return
	}
	l.r.opened.Add(1)
	if conn.ConnectionState().TLS.DidResume {
		l.r.resumed.Add(1)
	}
	select {
	case <-l.ctx.Done():
		_ = conn.CloseWithError(0, "") // has no error that matters
	case <-conn.Context().Done(): // idle, or ended by the server
	}
	l.end()
}

// end takes no more questions, and closes the connection.
func (l *quicLink) end() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.cancel()
}

func (l *quicLink) ask(q question) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.r.links.Go(func() {
		if good, err := l.exchange(q); err == nil {
			l.r.take(q, good)
		} else {
			l.end() // or the question would go the same way again
			l.r.lost(l.c, q)
		}
	})
	return true
}

func (l *quicLink) connection() *quic.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn
}

func (l *quicLink) exchange(q question) (good bool, err error) {
	<-l.there
	conn := l.connection()
	if conn == nil {
		return false, net.ErrClosed
	}
	ctx, cancel := context.WithTimeout(conn.Context(), l.r.options.timeout)
	defer cancel()
	stream, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return false, err
	}
	_ = stream.SetDeadline(time.Now().Add(l.r.options.timeout)) // a closed stream says so below
	if _, err := stream.Write(framed(make([]byte, 0, 256), q.wire)); err != nil {
		return false, err
	}
	if err := stream.Close(); err != nil {
		return false, err
	}
	var buffer []byte
	message, err := readFramed(stream, &buffer)
	return isGood(message), err
}

func (l *quicLink) stop() { l.cancel() }
