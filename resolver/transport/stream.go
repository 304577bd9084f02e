package transport

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
)

// Bounds of the replies that a peer has not taken yet, in bytes per connection.
const (
	// pauseUnsent: no more queries are read, and none more put into a batch.
	pauseUnsent = 64 << 10
	// maxUnsent: what was resolved meanwhile has added up to so much that the
	// connection is given up.
	maxUnsent = 256 << 10
)

// Why a connection ended; labels of cordon_streams_closed_total.
const (
	closedByClient = "client"   // it closed, or the connection broke
	closedIdle     = "idle"     // no whole query in time
	closedSlow     = "slow"     // it did not take its replies
	closedProtocol = "protocol" // it sent what is no query
	closedWithheld = "withheld" // block decisions could not be written
	closedShutdown = "shutdown"

	// Before the first query:
	closedHandshake = "handshake" // no TLS handshake or PROXY header in time, or a bad one
	closedRefused   = "refused"   // a limit was reached when the client was known
)

// errTooLong: a message longer than maxQuery, which no honest client sends. The
// bound keeps the memory of a connection small while its peer is slow.
var errTooLong = errors.New("transport: query too long")

// stream is one connection: a goroutine that reads and answers what it can, and
// one that writes, so that a peer that does not read holds up nobody but
// itself. Replies leave in the order in which they are ready (RFC 7766 §7).
type stream struct {
	*streams
	counts  *transportMetrics
	conn    net.Conn
	meta    Meta
	session Session

	// places holds one token per query that is in work or whose reply has not
	// been written yet. replies has as much room, so that sending to it never
	// blocks: each chunk is at least one query.
	places  chan struct{}
	replies chan chunk
	pending sync.WaitGroup // resolutions under way
	broken  chan struct{}  // closed by the writer when it cannot write any more

	unsent atomic.Int64  // bytes handed to the writer and not yet written
	taken  chan struct{} // has a token after the writer has written something
	slow   atomic.Bool   // the peer does not take its replies

	mu      sync.Mutex // guards stopped, and the read deadline against it
	stopped bool
}

// chunk is framed replies to write together.
type chunk struct {
	frames  []byte
	queries int // places to give back; not all need have a reply
}

func newStream(s *streams, conn net.Conn, meta Meta) *stream {
	return &stream{
		streams: s,
		counts:  s.m.of(meta.Transport),
		conn:    conn,
		meta:    meta,
		session: s.handler.Session(),
		places:  make(chan struct{}, s.c.Pipeline),
		replies: make(chan chunk, s.c.Pipeline),
		broken:  make(chan struct{}),
		taken:   make(chan struct{}, 1),
	}
}

// run serves the connection until its end and says why it ended. When ctx ends
// it reads no more, and finishes what is under way.
func (st *stream) run(ctx context.Context) string {
	stop := context.AfterFunc(ctx, st.stopReading)
	defer stop()
	written := make(chan struct{})
	go func() {
		defer close(written)
		st.write()
	}()
	reason := st.read()
	st.pending.Wait()
	close(st.replies)
	<-written
	_ = st.conn.Close()
	if st.slow.Load() {
		return closedSlow
	}
	return reason
}

// read answers queries in batches: all that have come in whole, up to
// batchSize and to the free places. It returns why it ended.
func (st *stream) read() string {
	in := bufio.NewReaderSize(st.conn, 2+maxQuery)
	for {
		if !st.waitForPlace() {
			return closedByClient
		}
		if err := st.setReadDeadline(); err != nil {
			return st.readError(err)
		}
		var batch batch
		for {
			frame, err := peekFrame(in)
			if err != nil {
				return st.readError(err)
			}
			verdict := st.answer(&batch, frame[2:])
			_, _ = in.Discard(len(frame)) // what was peeked at is there
			if verdict == Drop {
				st.flush(&batch)
				return closedProtocol
			}
			full := batch.queries == batchSize || len(batch.frames) >= pauseUnsent
			if full || !wholeFrame(in) || !st.tryPlace() {
				break
			}
		}
		if !st.flush(&batch) {
			return closedWithheld
		}
	}
}

// batch is what read has answered and not yet committed.
type batch struct {
	frames  []byte
	replies int
	queries int
	count   [Later + 1]int
	shed    int
}

// answer answers one query, whose place is taken.
func (st *stream) answer(b *batch, query []byte) Verdict {
	b.queries++
	start := len(b.frames)
	frames, verdict := st.session.Answer(append(b.frames, 0, 0), query, st.meta)
	b.count[verdict]++
	switch verdict {
	case Reply:
		b.frames = frames
		binary.BigEndian.PutUint16(b.frames[start:], uint16(len(b.frames)-start-2))
		b.replies++
		return verdict
	case Later:
		if st.resolve(query) {
			return verdict
		}
		b.shed++
	}
	<-st.places // no reply will come that gives the place back
	return verdict
}

// flush commits the batch and hands its replies to the writer. When it fails
// they are withheld and it returns false.
func (st *stream) flush(b *batch) bool {
	st.counts.count(b.count, b.shed)
	if b.replies == 0 {
		return true
	}
	if err := st.session.Commit(); err != nil {
		st.counts.withheld.Add(float64(b.replies))
		return false
	}
	st.unsent.Add(int64(len(b.frames)))
	st.replies <- chunk{b.frames, b.replies}
	return true
}

// resolve hands a query to a worker; false if there is none free.
func (st *stream) resolve(query []byte) bool {
	query = bytes.Clone(query)
	st.pending.Add(1)
	started := st.workers.start(func(ctx context.Context) {
		defer st.pending.Done()
		c := chunk{queries: 1}
		if reply := st.handler.Resolve(ctx, query, st.meta); reply != nil {
			c.frames = binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reply)), uint16(len(reply)))
			c.frames = append(c.frames, reply...)
		}
		if st.unsent.Add(int64(len(c.frames))) > maxUnsent {
			st.slow.Store(true)
			st.cut()
		}
		st.replies <- c
	})
	if !started {
		st.pending.Done()
	}
	return started
}

// write writes what comes in replies until it is closed, as much as there is at
// a time. After a failure it goes on giving places back.
func (st *stream) write() {
	broken := false
	var ready [batchSize]chunk
	var frames [batchSize][]byte
	for first := range st.replies {
		ready[0] = first
		n := 1
		for more := true; more && n < batchSize; {
			select {
			case c, ok := <-st.replies:
				if more = ok; ok {
					ready[n] = c
					n++
				}
			default:
				more = false
			}
		}
		queries, size := 0, 0
		for i, c := range ready[:n] {
			frames[i] = c.frames
			queries += c.queries
			size += len(c.frames)
		}
		if !broken {
			if err := st.send(frames[:n]); err != nil {
				st.counts.sendErrors.Add(float64(queries))
				broken = true
				if errors.Is(err, os.ErrDeadlineExceeded) {
					st.slow.Store(true)
				}
				close(st.broken)
				st.cut()
			}
		}
		clear(ready[:n])
		for range queries {
			<-st.places
		}
		st.unsent.Add(-int64(size))
		select {
		case st.taken <- struct{}{}:
		default:
		}
	}
}

// send writes frames with one system call: over TCP as they are, over TLS as
// one record, if they fit, so that their number does not show.
func (st *stream) send(frames net.Buffers) error {
	if err := st.conn.SetWriteDeadline(st.c.Clock().Add(st.c.Write)); err != nil {
		return err
	}
	if st.meta.Encrypted() && len(frames) > 1 {
		_, err := st.conn.Write(slices.Concat(frames...))
		return err
	}
	_, err := frames.WriteTo(st.conn)
	return err
}

// cut ends the connection, its reader and its writer at once: TLS would wait for
// the peer to take its goodbye.
func (st *stream) cut() {
	if secure, ok := st.conn.(*tls.Conn); ok {
		_ = secure.NetConn().Close()
		return
	}
	_ = st.conn.Close()
}

// waitForPlace takes a place once one is free and the peer has taken enough of
// its replies; false if it never will.
func (st *stream) waitForPlace() bool {
	for st.unsent.Load() >= pauseUnsent {
		select {
		case <-st.taken:
		case <-st.broken:
			return false
		}
	}
	select {
	case st.places <- struct{}{}:
		return true
	case <-st.broken:
		return false
	}
}

// tryPlace takes a place if one is free.
func (st *stream) tryPlace() bool {
	select {
	case st.places <- struct{}{}:
		return true
	default:
		return false
	}
}

// setReadDeadline gives the peer time for one more query, unless reading has
// been stopped.
func (st *stream) setReadDeadline() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.stopped {
		return os.ErrDeadlineExceeded
	}
	return st.conn.SetReadDeadline(st.c.Clock().Add(st.c.Idle))
}

func (st *stream) stopReading() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.stopped = true
	_ = st.conn.SetReadDeadline(past) // fails only if closed
}

// readError says why a failed read ended the connection.
func (st *stream) readError(err error) string {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.stopped:
		return closedShutdown
	case errors.Is(err, errTooLong):
		return closedProtocol
	case errors.Is(err, os.ErrDeadlineExceeded):
		return closedIdle
	}
	return closedByClient
}

// peekFrame waits for a whole message and returns it with the length in front
// of it (RFC 1035 §4.2.2), without taking it from in.
func peekFrame(in *bufio.Reader) ([]byte, error) {
	prefix, err := in.Peek(2)
	if err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(prefix))
	if size > maxQuery {
		return nil, errTooLong
	}
	return in.Peek(2 + size)
}

// wholeFrame says whether a whole message can be read without waiting.
func wholeFrame(in *bufio.Reader) bool {
	if in.Buffered() < 2 {
		return false
	}
	prefix, err := in.Peek(2)
	return err == nil && in.Buffered() >= 2+int(binary.BigEndian.Uint16(prefix))
}
