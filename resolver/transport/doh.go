package transport

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"cordon/blocklog"
	"cordon/resolver/wire"
)

const (
	// DoHPath is where queries are taken (RFC 8484 §4.1), as a URI template
	// "/dns-query{?dns}".
	DoHPath = "/dns-query"

	dnsMessage = "application/dns-message"
	// maxHeader has room for the longest query in base64, in bytes.
	maxHeader = 12 << 10
	// h3Unidirectional are the streams of HTTP/3 itself: control, and two of
	// QPACK (RFC 9114 §6.2), with room for what is reserved.
	h3Unidirectional = 8
)

// doh serves DNS over HTTPS: HTTP/1.1 and HTTP/2 over TLS, HTTP/3 over QUIC. It
// keeps no access log, and the error logs of the HTTP servers, which hold
// clients' addresses, go nowhere.
type doh struct {
	*streams
	tls   *tls.Config
	h2    *http.Server
	h3    *http3.Server
	queue handoff
}

func newDoH(s *streams) *doh {
	d := &doh{
		streams: s,
		tls:     s.c.TLS.Certificates.config(s.c.TLS.Clients, "h2", "http/1.1"),
		queue:   handoff{conns: make(chan net.Conn), closed: make(chan struct{})},
	}
	d.h2 = &http.Server{
		Handler:           d,
		TLSConfig:         d.tls,
		ReadHeaderTimeout: s.c.Handshake,
		ReadTimeout:       s.c.Idle,
		IdleTimeout:       s.c.Idle,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			held := c.(*tls.Conn).NetConn().(*heldConn)
			return context.WithValue(ctx, dohKey{}, &dohConn{lonely: newLonely(s), meta: func() Meta { return held.meta }})
		},
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          s.c.Pipeline,
			MaxReceiveBufferPerConnection: 1 << 16,
			MaxReceiveBufferPerStream:     1 << 14,
			WriteByteTimeout:              s.c.Write,
		},
	}
	d.h3 = &http3.Server{
		Handler:        d,
		MaxHeaderBytes: maxHeader,
		IdleTimeout:    s.c.Idle,
		ConnContext: func(ctx context.Context, c *quic.Conn) context.Context {
			return context.WithValue(ctx, dohKey{}, &dohConn{lonely: newLonely(s), meta: func() Meta { return quicMeta(c, blocklog.DoH) }})
		},
	}
	return d
}

// serve hands a connection to the HTTP server and returns when it has ended.
func (d *doh) serve(secure *tls.Conn, held *heldConn) string {
	select {
	case d.queue.conns <- secure:
		<-held.closed
		return closedByClient
	case <-d.queue.closed:
		return closedShutdown
	}
}

// runH2 serves until ctx ends; requests under way are stop's.
func (d *doh) runH2(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = d.queue.Close() })()
	err := d.h2.Serve(&d.queue)
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve HTTP/2: %w", err)
}

// runH3 serves a socket until ctx ends.
func (d *doh) runH3(ctx context.Context, q quicSocket) error {
	l, err := d.listenOn(q, http3.ConfigureTLSConfig(d.c.TLS.Certificates.config(d.c.TLS.Clients)), d.quicConfig(h3Unidirectional))
	if err != nil {
		return err
	}
	err = d.h3.ServeListener(&untilDone{l, ctx})
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve HTTP/3 at %s: %w", q.address(), err)
}

// stop finishes the requests under way, until ctx ends.
func (d *doh) stop(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() {
		if d.h2.Shutdown(ctx) != nil {
			_ = d.h2.Close()
		}
	})
	both.Go(func() {
		if d.h3.Shutdown(ctx) != nil {
			_ = d.h3.Close()
		}
	})
	both.Wait()
}

// dohConn is one connection.
type dohConn struct {
	*lonely
	meta func() Meta
}

type dohKey struct{}

// ServeHTTP answers one request (RFC 8484 §4).
func (d *doh) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn := r.Context().Value(dohKey{}).(*dohConn)
	deadlines := http.NewResponseController(w)
	_ = deadlines.SetReadDeadline(d.c.Clock().Add(d.c.Idle)) // without it, the connection's holds
	if r.ProtoMajor < 3 {                                    // HTTP/3 is at the same port
		if local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
			w.Header().Set("Alt-Svc", `h3=":`+strconv.Itoa(local.Port)+`"; ma=86400`)
		}
	}
	query, status := dohQuery(w, r)
	if status != http.StatusOK {
		refuseHTTP(w, status)
		return
	}
	reply, fate := conn.answer(query, conn.meta())
	_ = deadlines.SetWriteDeadline(d.c.Clock().Add(d.c.Write))
	switch fate {
	case replied:
	case noQuery:
		refuseHTTP(w, http.StatusBadRequest)
		return
	case shed:
		w.Header().Set("Retry-After", "1")
		refuseHTTP(w, http.StatusServiceUnavailable)
		return
	default:
		refuseHTTP(w, http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", dnsMessage)
	h.Set("Content-Length", strconv.Itoa(len(reply)))
	h.Set("Cache-Control", cacheControl(reply))
	if _, err := w.Write(reply); err != nil {
		d.m.doh.sendErrors.Inc()
	}
}

// cacheControl lets the client's cache, and no shared one, keep a reply for as
// long as its records may be (RFC 8484 §5.1): others may get another answer.
func cacheControl(reply []byte) string {
	fresh := wire.Freshness(reply)
	if fresh == 0 {
		return "no-store"
	}
	return "private, max-age=" + strconv.FormatUint(uint64(fresh), 10)
}

// dohQuery takes the query out of a request, or says with which status it is
// refused.
func dohQuery(w http.ResponseWriter, r *http.Request) ([]byte, int) {
	if r.URL.Path != DoHPath {
		return nil, http.StatusNotFound
	}
	switch r.Method {
	case http.MethodGet:
		text := r.URL.Query().Get("dns")
		if base64.RawURLEncoding.DecodedLen(len(text)) > maxQuery {
			return nil, http.StatusRequestURITooLong
		}
		query, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(query) == 0 {
			return nil, http.StatusBadRequest
		}
		return query, http.StatusOK
	case http.MethodPost:
		if r.Header.Get("Content-Type") != dnsMessage {
			return nil, http.StatusUnsupportedMediaType
		}
		query, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuery))
		var tooLong *http.MaxBytesError
		switch {
		case errors.As(err, &tooLong):
			return nil, http.StatusRequestEntityTooLarge
		case err != nil:
			return nil, http.StatusBadRequest
		}
		return query, http.StatusOK
	}
	w.Header().Set("Allow", "GET, POST")
	return nil, http.StatusMethodNotAllowed
}

func refuseHTTP(w http.ResponseWriter, status int) {
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, http.StatusText(status), status)
}

// heldConn is a connection on its way through the HTTP server.
type heldConn struct {
	net.Conn
	meta   Meta          // set before the HTTP server gets it
	closed chan struct{} // closed by the first Close
	once   sync.Once
}

func holdConn(c net.Conn) *heldConn { return &heldConn{Conn: c, closed: make(chan struct{})} }

func (c *heldConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// handoff is a listener for connections that were opened elsewhere.
type handoff struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handoff) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr is of no use to anyone: connections come from several sockets.
func (*handoff) Addr() net.Addr { return &net.TCPAddr{} }

// untilDone is a listener that closes when ctx ends.
type untilDone struct {
	*shaken
	ctx context.Context
}

func (l *untilDone) Accept(context.Context) (*quic.Conn, error) {
	conn, err := l.shaken.Accept(l.ctx)
	if l.ctx.Err() != nil {
		return nil, quic.ErrServerClosed
	}
	return conn, err
}
