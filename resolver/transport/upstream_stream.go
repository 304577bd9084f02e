package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// upstreamStreams are the TCP connections to servers. A connection carries many
// queries at once, answered in any order (RFC 7766 §6.2.1.1, §7), and is kept for
// a while after the last one. A server may close it at any time, which costs a
// query that was under way another connection and nothing else.
type upstreamStreams struct {
	timeout, idle time.Duration
	most          int
	m             *upstreamMetrics

	ctx    context.Context // ends with close; of every connection
	cancel context.CancelFunc
	group  sync.WaitGroup // one for each connection

	mu     sync.Mutex
	closed bool                               // guarded by mu, as all below
	open   map[*upstreamStream]struct{}       // all
	shared map[netip.AddrPort]*upstreamStream // those that take another query
}

// pipeline is how many queries one connection carries at a time, those counted
// that nobody waits for any more.
const pipeline = 64

func newUpstreamStreams(c UpstreamConfig, m *upstreamMetrics) *upstreamStreams {
	ctx, cancel := context.WithCancel(context.Background())
	return &upstreamStreams{
		timeout: c.StreamTimeout, idle: c.StreamIdle, most: c.Streams, m: m,
		ctx: ctx, cancel: cancel,
		open: map[*upstreamStream]struct{}{}, shared: map[netip.AddrPort]*upstreamStream{},
	}
}

func (p *upstreamStreams) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.group.Wait()
}

// upstreamStream is one connection, from its dialing on. What is not guarded by
// upstreamStreams.mu is set before ready or ended is closed and read afterwards.
type upstreamStream struct {
	pool   *upstreamStreams
	server netip.AddrPort
	cancel context.CancelFunc // closes it
	ready  chan struct{}      // closed when it is open, if ever
	ended  chan struct{}
	conn   net.Conn      // before ready
	err    error         // why it ended, before ended
	turn   chan struct{} // of capacity 1, full while somebody writes

	// The packets awaited, by ID; nil where nobody waits any more. All of this is
	// guarded by pool.mu.
	awaited map[uint16]chan []byte
	waiting int // those of awaited that are not nil
	sent    int // queries so far
	replies int // so far
	closing *time.Timer
}

// streamQuery is a query that a connection carries.
type streamQuery struct {
	*upstreamStream
	a     *asked
	reply chan []byte // of capacity 1
	first bool        // the connection had carried no other
	heard int         // replies on the connection before
}

// exchange asks by TCP: on a connection that is open already, if there is one, and
// on one of its own if that ends before the reply.
func (p *upstreamStreams) exchange(ctx context.Context, server netip.AddrPort, a *asked) (*dns.Msg, error) {
	q, err := p.begin(server, a, true)
	if err != nil {
		return nil, err
	}
	m, err := q.exchange(ctx)
	if errors.Is(err, errStreamEnded) && !q.first && ctx.Err() == nil {
		if q, err = p.begin(server, a, false); err != nil {
			return nil, err
		}
		m, err = q.exchange(ctx)
	}
	return m, err
}

var (
	// errStreamEnded is of a connection that was open.
	errStreamEnded   = errors.New("the connection ended")
	errStreamsClosed = errors.New("closed")
	errTooMany       = errors.New("too many connections to servers are open")
)

// begin registers a query with a connection, which it makes if need be.
func (p *upstreamStreams) begin(server netip.AddrPort, a *asked, share bool) (*streamQuery, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errStreamsClosed
	}
	var s *upstreamStream
	if share {
		s = p.shared[server]
	}
	if s == nil {
		if !p.makeRoom() {
			return nil, errTooMany
		}
		s = p.dial(server)
		if share {
			p.shared[server] = s
		}
	}
	for {
		if _, taken := s.awaited[a.id()]; !taken {
			break
		}
		if err := a.newID(); err != nil {
			return nil, err
		}
	}
	q := &streamQuery{upstreamStream: s, a: a, reply: make(chan []byte, 1), first: s.sent == 0, heard: s.replies}
	s.awaited[a.id()] = q.reply
	s.waiting++
	s.sent++
	s.closing.Stop()
	if len(s.awaited) >= pipeline {
		s.retire()
	}
	return q, nil
}

// makeRoom closes a connection that waits for nothing, if there are as many as
// may be; mu must be held.
func (p *upstreamStreams) makeRoom() bool {
	if len(p.open) < p.most {
		return true
	}
	for s := range p.open {
		if s.waiting == 0 {
			s.retire()
			delete(p.open, s)
			return true
		}
	}
	return false
}

// dial begins a connection; mu must be held.
func (p *upstreamStreams) dial(server netip.AddrPort) *upstreamStream {
	ctx, cancel := context.WithCancel(p.ctx)
	s := &upstreamStream{
		pool: p, server: server, cancel: cancel,
		ready: make(chan struct{}), ended: make(chan struct{}), turn: make(chan struct{}, 1),
		awaited: map[uint16]chan []byte{},
	}
	s.closing = time.AfterFunc(p.idle, s.closeIdle)
	p.open[s] = struct{}{}
	p.m.connected.Inc()
	p.group.Go(func() {
		s.err = s.run(ctx)
		if s.conn != nil {
			s.err = fmt.Errorf("%w: %w", errStreamEnded, s.err)
		}
		p.mu.Lock()
		s.retire()
		s.closing.Stop()
		delete(p.open, s)
		p.mu.Unlock()
		cancel()
		close(s.ended)
	})
	return s
}

// run dials, and hands out what comes until the connection ends.
func (s *upstreamStream) run(ctx context.Context) error {
	var d net.Dialer
	dialing, cancel := context.WithTimeout(ctx, s.pool.timeout)
	conn, err := d.DialContext(dialing, network("tcp", s.server.Addr()), s.server.String())
	cancel()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // nothing is lost with it
	defer func() { _ = conn.Close() }()
	s.conn = conn
	close(s.ready)
	for {
		packet, err := readFrame(conn)
		if err != nil {
			return err
		}
		if !s.deliver(packet) {
			return errMismatch
		}
	}
}

func readFrame(conn net.Conn) ([]byte, error) {
	var prefix [2]byte
	if _, err := io.ReadFull(conn, prefix[:]); err != nil {
		return nil, fmt.Errorf("read the length of the reply: %w", err)
	}
	// The length is the server's word: memory grows with what really comes.
	packet, err := io.ReadAll(io.LimitReader(conn, int64(binary.BigEndian.Uint16(prefix[:]))))
	if err == nil && len(packet) < int(binary.BigEndian.Uint16(prefix[:])) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("read the reply: %w", err)
	}
	return packet, nil
}

// deliver gives packet to who waits for its ID; false if no query had it.
func (s *upstreamStream) deliver(packet []byte) bool {
	if len(packet) < headerLen {
		return false
	}
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	id := binary.BigEndian.Uint16(packet)
	reply, ok := s.awaited[id]
	if !ok {
		return false
	}
	delete(s.awaited, id)
	s.replies++
	if reply != nil {
		reply <- packet
		s.left()
	}
	return true
}

// exchange sends the query and waits for its reply.
func (q *streamQuery) exchange(ctx context.Context) (*dns.Msg, error) {
	select {
	case <-q.ready:
	case <-q.ended:
		return nil, q.err
	case <-ctx.Done():
		return nil, q.abandon(ctx)
	}
	if err := q.write(ctx); err != nil {
		return nil, err
	}
	select {
	case packet := <-q.reply:
		return q.read(packet)
	case <-q.ended:
	case <-ctx.Done():
		return nil, q.abandon(ctx)
	}
	select { // it may have been the last before the end
	case packet := <-q.reply:
		return q.read(packet)
	default:
		return nil, q.err
	}
}

// read is the reply in packet. A server that mixes up its replies is asked
// nothing more on this connection.
func (q *streamQuery) read(packet []byte) (*dns.Msg, error) {
	m, err := q.a.match(packet)
	if err != nil {
		q.pool.mu.Lock()
		q.retire()
		q.pool.mu.Unlock()
	}
	return m, err
}

// write sends the query. What ends in the middle of it ends the connection.
func (q *streamQuery) write(ctx context.Context) error {
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-q.ended:
		return q.err
	case <-ctx.Done():
		return q.abandon(ctx)
	}
	stop := context.AfterFunc(ctx, q.cancel)
	frame := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(q.a.packet)), uint16(len(q.a.packet)))
	_, err := q.conn.Write(append(frame, q.a.packet...))
	stop()
	if err == nil {
		return nil
	}
	q.cancel()
	<-q.ended
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return q.err
}

// abandon goes away from the query when ctx has ended. A connection on which
// nothing came until the time was out may be dead: no others join.
func (q *streamQuery) abandon(ctx context.Context) error {
	q.pool.mu.Lock()
	defer q.pool.mu.Unlock()
	if q.awaited[q.a.id()] == nil {
		return context.Cause(ctx) // the reply has just come
	}
	q.awaited[q.a.id()] = nil
	if q.replies == q.heard && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		q.retire()
	}
	q.left()
	return context.Cause(ctx)
}

// left notes that one waits less. A connection for which nobody waits is kept
// for a while, or closed if it takes no further queries; mu must be held.
func (s *upstreamStream) left() {
	s.waiting--
	switch {
	case s.waiting > 0:
	case s.pool.shared[s.server] == s:
		s.closing.Reset(s.pool.idle)
	default:
		s.cancel()
	}
}

// retire lets no further query join, and closes the connection if nobody waits;
// mu must be held.
func (s *upstreamStream) retire() {
	if s.pool.shared[s.server] == s {
		delete(s.pool.shared, s.server)
	}
	if s.waiting == 0 {
		s.cancel()
	}
}

// closeIdle closes a connection that nobody has used for a while.
func (s *upstreamStream) closeIdle() {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	if s.waiting == 0 {
		s.retire()
	}
}
