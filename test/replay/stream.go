package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"
)

// session keeps the last TLS session of one client, for resumption.
type session struct {
	mu    sync.Mutex
	state *tls.ClientSessionState // guarded by mu
}

func (s *session) Get(string) (*tls.ClientSessionState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.state != nil
}

func (s *session) Put(_ string, state *tls.ClientSessionState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
}

// config is that of the run, with the client's own session.
func (c *client) config(base *tls.Config) *tls.Config {
	conf := base.Clone()
	conf.ClientSessionCache = &c.session
	return conf
}

// framing is how questions and answers stand in a stream. Its methods are called
// by one goroutine at a time, except answer beside question.
type framing interface {
	// begin gives what is sent first.
	begin() []byte
	// question appends one and gives the key under which its answer comes.
	question(b, wire []byte) (sent []byte, key uint32)
	// answer reads to the next answer; reply is what is to be sent for it, or for what
	// came instead of one (key 0).
	answer(r *bufio.Reader) (key uint32, good bool, reply []byte, err error)
}

// stream is a link over TCP, with or without TLS.
type stream struct {
	r       *replay
	c       *client
	framing framing
	ctx     context.Context
	cancel  context.CancelFunc

	mu      sync.Mutex
	conn    net.Conn            // guarded by mu; nil until it is there
	waiting []question          // for the connection; guarded by mu
	pending map[uint32]question // guarded by mu
	ended   bool                // guarded by mu
}

func openStream(r *replay, c *client, f framing) *stream {
	s := &stream{r: r, c: c, framing: f, pending: map[uint32]question{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	r.links.Go(s.run)
	return s
}

func (s *stream) ask(q question) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return false
	case s.conn == nil:
		s.waiting = append(s.waiting, q)
	default:
		s.send(q)
	}
	return true
}

// send writes a question; the caller holds mu. An error shows at the reader, too.
func (s *stream) send(q question) {
	b, key := s.framing.question(make([]byte, 0, 256), q.wire)
	s.pending[key] = q
	_, _ = s.conn.Write(b)
}

func (s *stream) stop() { s.cancel() }

// run is the connection's life.
func (s *stream) run() {
	defer s.cancel()
	conn, err := s.dial()
	if err != nil {
		if s.ctx.Err() == nil {
			s.r.refused.Add(1)
		}
		s.end()
		return
	}
	defer conn.Close()
	defer context.AfterFunc(s.ctx, func() { conn.Close() })()
	s.r.opened.Add(1)
	s.mu.Lock()
	s.conn = conn
	if first := s.framing.begin(); first != nil {
		_, _ = conn.Write(first)
	}
	for _, q := range s.waiting {
		s.send(q)
	}
	s.waiting = nil
	s.mu.Unlock()
	s.read(conn)
}

// read takes answers until the connection ends, or has been idle.
func (s *stream) read(conn net.Conn) {
	defer s.end()
	in := bufio.NewReaderSize(conn, 2048)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(usual.idle)); err != nil {
			return
		}
		key, good, reply, err := s.framing.answer(in)
		if err != nil {
			return
		}
		s.mu.Lock()
		q, known := s.pending[key]
		delete(s.pending, key)
		if reply != nil {
			_, _ = conn.Write(reply)
		}
		s.mu.Unlock()
		if known {
			s.r.take(q, good)
		}
	}
}

// end gives what is unanswered back to the client.
func (s *stream) end() {
	s.mu.Lock()
	s.ended = true
	left := s.waiting
	for _, q := range s.pending {
		left = append(left, q)
	}
	s.mu.Unlock()
	s.r.lost(s.c, left...)
}

func (s *stream) dial() (net.Conn, error) {
	d := net.Dialer{Timeout: s.r.options.timeout, LocalAddr: &net.TCPAddr{IP: s.c.address()}, KeepAlive: -1,
		Control: func(_, _ string, raw syscall.RawConn) (err error) {
			fault := raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			})
			return errors.Join(fault, err)
		}}
	conn, err := d.DialContext(s.ctx, "tcp", s.r.server.String())
	if err != nil || !s.r.transport.tls {
		return conn, err
	}
	secure := tls.Client(conn, s.c.config(s.r.tls))
	ctx, cancel := context.WithTimeout(s.ctx, s.r.options.timeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if secure.ConnectionState().DidResume {
		s.r.resumed.Add(1)
	}
	return secure, nil
}

// plain is the framing of TCP and DoT (RFC 7766, RFC 7858).
type plain struct {
	id     uint16
	buffer []byte
}

func (*plain) begin() []byte { return nil }

func (p *plain) question(b, wire []byte) ([]byte, uint32) {
	p.id++
	b = framed(b, wire)
	binary.BigEndian.PutUint16(b[len(b)-len(wire):], p.id)
	return b, uint32(p.id)
}

func (p *plain) answer(r *bufio.Reader) (key uint32, good bool, reply []byte, err error) {
	message, err := readFramed(r, &p.buffer)
	if err != nil {
		return 0, false, nil, err
	}
	return uint32(binary.BigEndian.Uint16(message)), isGood(message), nil, nil
}

// readFramed reads a message behind its length into buffer, which grows.
func readFramed(r io.Reader, buffer *[]byte) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n < 12 {
		return nil, fmt.Errorf("a message of %d bytes", n)
	}
	if cap(*buffer) < n {
		*buffer = make([]byte, n)
	}
	_, err := io.ReadFull(r, (*buffer)[:n])
	return (*buffer)[:n], err
}

// isGood is NOERROR.
func isGood(message []byte) bool { return len(message) >= 12 && message[3]&15 == 0 }

// overHTTP is the framing of DoH with HTTP/2 and POST (RFC 8484). It does without
// the goroutines that a general client has for each question: the client's core is
// the scarcer one.
type overHTTP struct {
	authority string
	stream    uint32

	out    bytes.Buffer // of begin and question
	write  *http2.Framer
	fields bytes.Buffer
	encode *hpack.Encoder

	replies bytes.Buffer // of answer
	read    *http2.Framer
	good    map[uint32]bool // by stream: what is known of the answer that comes
}

func newOverHTTP(authority string) *overHTTP {
	h := &overHTTP{authority: authority, stream: 1, good: map[uint32]bool{}}
	h.write = http2.NewFramer(&h.out, nil)
	h.encode = hpack.NewEncoder(&h.fields)
	return h
}

func (h *overHTTP) begin() []byte {
	h.out.Reset()
	h.out.WriteString(http2.ClientPreface)
	_ = h.write.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}) // into memory: no error
	_ = h.write.WriteWindowUpdate(0, 1<<30)                                       // more than a run brings
	return bytes.Clone(h.out.Bytes())
}

func (h *overHTTP) question(b, wire []byte) ([]byte, uint32) {
	id := h.stream
	h.stream += 2
	h.out.Reset()
	h.fields.Reset()
	for _, f := range [...]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: h.authority}, {Name: ":path", Value: "/dns-query"},
		{Name: "content-type", Value: "application/dns-message"}, {Name: "accept", Value: "application/dns-message"},
		{Name: "content-length", Value: fmt.Sprint(len(wire))},
	} {
		_ = h.encode.WriteField(f) // into memory
	}
	_ = h.write.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.fields.Bytes(), EndHeaders: true})
	_ = h.write.WriteData(id, true, wire)
	return append(b, h.out.Bytes()...), id
}

func (h *overHTTP) answer(r *bufio.Reader) (key uint32, good bool, reply []byte, err error) {
	if h.read == nil {
		h.read = http2.NewFramer(&h.replies, r)
		h.read.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	}
	for {
		f, err := h.read.ReadFrame()
		if err != nil {
			return 0, false, nil, err
		}
		h.replies.Reset()
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			h.good[f.StreamID] = f.PseudoValue("status") == "200"
			if f.StreamEnded() {
				delete(h.good, f.StreamID)
				return f.StreamID, false, nil, nil
			}
		case *http2.DataFrame:
			if len(f.Data()) > 0 && h.good[f.StreamID] {
				h.good[f.StreamID] = isGood(f.Data())
			}
			if f.StreamEnded() {
				good := h.good[f.StreamID]
				delete(h.good, f.StreamID)
				return f.StreamID, good, nil, nil
			}
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = h.read.WriteSettingsAck()
				return 0, false, bytes.Clone(h.replies.Bytes()), nil
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = h.read.WritePing(true, f.Data)
				return 0, false, bytes.Clone(h.replies.Bytes()), nil
			}
		case *http2.RSTStreamFrame:
			delete(h.good, f.StreamID)
			return f.StreamID, false, nil, nil
		case *http2.GoAwayFrame:
			return 0, false, nil, fmt.Errorf("the server goes away: %v", f.ErrCode)
		}
	}
}
