package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// streamServer serves each connection, side by side, until the test ends.
func streamServer(t *testing.T, serve func(c *serverConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	n := 0
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n++
			c := &serverConn{Conn: conn, number: n}
			all.Go(func() {
				defer func() { _ = conn.Close() }()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// serverConn is a connection, the number-th from 1 on.
type serverConn struct {
	net.Conn
	number int
}

// query is the next query; nil at the end.
func (c *serverConn) query() []byte {
	var prefix [2]byte
	if _, err := io.ReadFull(c, prefix[:]); err != nil {
		return nil
	}
	query := make([]byte, binary.BigEndian.Uint16(prefix[:]))
	if _, err := io.ReadFull(c, query); err != nil {
		return nil
	}
	return query
}

func (c *serverConn) reply(packet []byte) {
	_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...))
}

// honestly answers each query when it comes.
func honestly(c *serverConn) {
	for q := c.query(); q != nil; q = c.query() {
		c.reply(honest(q))
	}
}

// queryFor is a query that no other has the name of.
func queryFor(i int) *dns.Msg {
	m := exampleQuery()
	m.Question[0].Name = fmt.Sprintf("w%d.example.", i)
	return m
}

// answered asks by TCP and wants the reply to that very query.
func answered(t *testing.T, u *Upstream, server netip.AddrPort, i int) {
	t.Helper()
	query := queryFor(i)
	reply, err := u.Exchange(t.Context(), server, query, true)
	if err != nil || reply.Question[0] != query.Question[0] || len(reply.Answer) != 1 || reply.Answer[0].Header().Name != query.Question[0].Name {
		t.Errorf("query %d: reply %v, %v", i, reply, err)
	}
}

func connections(u *Upstream) float64 { return testutil.ToFloat64(u.m.connected) }

func TestUpstreamAsksManyQuestionsOnOneConnection(t *testing.T) {
	server := streamServer(t, honestly)
	u := newUpstream(t, UpstreamConfig{StreamIdle: time.Hour})
	for i := range 200 {
		answered(t, u, server, i)
	}
	if n := connections(u); n != 1 {
		t.Errorf("%v connections for one question after the other", n)
	}
}

func TestUpstreamTakesRepliesInAnyOrder(t *testing.T) {
	const most = pipeline - 1
	server := streamServer(t, func(c *serverConn) {
		var queries [][]byte
		for range most {
			q := c.query()
			if q == nil {
				return
			}
			queries = append(queries, q)
		}
		for i := range queries {
			c.reply(honest(queries[most-1-i]))
		}
		c.query() // until it is closed
	})
	u := newUpstream(t, UpstreamConfig{StreamTimeout: time.Minute})
	var all sync.WaitGroup
	for i := range most {
		all.Go(func() { answered(t, u, server, i) })
	}
	all.Wait()
	if n := connections(u); n != 1 {
		t.Errorf("%v connections", n)
	}
}

func TestUpstreamOpensMoreConnectionsThanOneForMoreThanItCarries(t *testing.T) {
	const queries = 3 * pipeline
	var came atomic.Int64
	goOn := make(chan struct{})
	server := streamServer(t, func(c *serverConn) {
		var replies [][]byte
		for range pipeline {
			q := c.query()
			if q == nil {
				return
			}
			replies = append(replies, honest(q))
			if came.Add(1) == queries {
				close(goOn)
			}
		}
		<-goOn
		for _, r := range replies {
			c.reply(r)
		}
		c.query()
	})
	u := newUpstream(t, UpstreamConfig{StreamTimeout: time.Minute})
	var all sync.WaitGroup
	for i := range queries {
		all.Go(func() { answered(t, u, server, i) })
	}
	all.Wait()
	if n := connections(u); n != 3 {
		t.Errorf("%v connections", n)
	}
}

func TestUpstreamDoesNotMindAServerThatCloses(t *testing.T) {
	for name, serve := range map[string]func(c *serverConn){
		"after each reply":              func(c *serverConn) { c.reply(honest(c.query())) },
		"when a second question comes":  func(c *serverConn) { c.reply(honest(c.query())); c.query() },
		"in the middle of a second one": func(c *serverConn) { c.reply(honest(c.query())); _, _ = c.Read(make([]byte, 1)) },
		"in the middle of a second reply": func(c *serverConn) {
			c.reply(honest(c.query()))
			_, _ = c.Write(append([]byte{0, 200}, honest(c.query())...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := streamServer(t, serve)
			u := newUpstream(t, UpstreamConfig{StreamTimeout: time.Minute})
			for i := range 20 {
				answered(t, u, server, i)
			}
			if failed := testutil.ToFloat64(u.m.tcp.failures); failed != 0 {
				t.Errorf("%v failures", failed)
			}
		})
	}
}

func TestUpstreamGivesUpOnAServerThatAlwaysCloses(t *testing.T) {
	server := streamServer(t, func(c *serverConn) { c.query() })
	u := newUpstream(t, UpstreamConfig{StreamTimeout: time.Minute})
	if _, err := u.Exchange(t.Context(), server, exampleQuery(), true); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
	if n := connections(u); n != 1 {
		t.Errorf("%v connections for one question", n)
	}
}

func TestUpstreamClosesAConnectionThatIsIdle(t *testing.T) {
	closed := make(chan struct{})
	server := streamServer(t, func(c *serverConn) { honestly(c); close(closed) })
	u := newUpstream(t, UpstreamConfig{StreamIdle: time.Millisecond})
	answered(t, u, server, 1)
	<-closed
	u.streams.mu.Lock()
	defer u.streams.mu.Unlock()
	if len(u.streams.shared) > 0 {
		t.Error("it would be used still")
	}
}

func TestUpstreamDoesNotStayWithAConnectionThatIsSilent(t *testing.T) {
	server := streamServer(t, func(c *serverConn) {
		if c.number == 1 {
			c.reply(honest(c.query()))
			for c.query() != nil { // and nothing more
			}
			return
		}
		honestly(c)
	})
	u := newUpstream(t, UpstreamConfig{StreamTimeout: time.Minute})
	answered(t, u, server, 1)
	brief, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := u.Exchange(brief, server, queryFor(2), true); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	answered(t, u, server, 3)
}

func TestUpstreamTakesNoReplyThatNobodyAwaits(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func([]byte) []byte
		want string
	}{
		"another ID":       {func(p []byte) []byte { p[0] ^= 1; return p }, "not a reply to this query"},
		"another question": {func(p []byte) []byte { p[headerLen+1] ^= 1; return p }, "not a reply to this query"},
		"a stump":          {func(p []byte) []byte { return p[:5] }, "not a reply to this query"},
		"the query itself": {func(p []byte) []byte { p[2] &^= 0x80; return p }, "not a reply to this query"},
	} {
		t.Run(name, func(t *testing.T) {
			server := streamServer(t, func(c *serverConn) {
				if c.number > 1 {
					honestly(c)
					return
				}
				c.reply(forged(c.query(), tt.edit))
				c.query()
			})
			u := newUpstream(t, UpstreamConfig{StreamTimeout: time.Minute})
			if _, err := u.Exchange(t.Context(), server, queryFor(1), true); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v", err)
			}
			answered(t, u, server, 2)
			if n := connections(u); n != 2 {
				t.Errorf("%v connections: it went on with the one that mixes up replies", n)
			}
		})
	}
}

func TestUpstreamGivesQueriesOnAConnectionDifferentIDs(t *testing.T) {
	server := streamServer(t, honestly)
	u := newUpstream(t, UpstreamConfig{})
	seen := map[uint16]bool{}
	for range pipeline - 1 {
		a, err := newAsked(exampleQuery(), false)
		if err != nil {
			t.Fatal(err)
		}
		copy(a.packet, "\x12\x34") // as if by chance
		if _, err := u.streams.begin(server, a, true); err != nil {
			t.Fatal(err)
		}
		if seen[a.id()] {
			t.Fatalf("ID %d twice", a.id())
		}
		seen[a.id()] = true
	}
}

func TestUpstreamBoundsItsConnections(t *testing.T) {
	release := make(chan struct{})
	waits := func(c *serverConn) {
		q := c.query()
		if bytes.Contains(q, []byte("\x02w1")) {
			<-release
		}
		c.reply(honest(q))
		c.query()
	}
	a, b, c := streamServer(t, waits), streamServer(t, waits), streamServer(t, waits)
	u := newUpstream(t, UpstreamConfig{Streams: 2, StreamTimeout: time.Minute, StreamIdle: time.Hour})
	answered(t, u, a, 2)
	answered(t, u, b, 2)
	answered(t, u, c, 2) // one that is idle makes room
	u.streams.mu.Lock()
	if n := len(u.streams.open); n > 2 {
		t.Errorf("%d are open", n)
	}
	for s := range u.streams.open { // start anew
		s.retire()
	}
	u.streams.mu.Unlock()
	var busy sync.WaitGroup
	for _, server := range []netip.AddrPort{a, b} {
		before := connections(u)
		busy.Go(func() { answered(t, u, server, 1) })
		for connections(u) == before {
			time.Sleep(time.Millisecond)
		}
	}
	if _, err := u.Exchange(t.Context(), c, queryFor(2), true); !errors.Is(err, errTooMany) {
		t.Errorf("a third: %v", err)
	}
	close(release)
	busy.Wait()
}

func TestUpstreamCloseEndsWhatIsUnderWay(t *testing.T) {
	asked := make(chan struct{})
	server := streamServer(t, func(c *serverConn) {
		c.query()
		close(asked)
		c.query()
	})
	u := newUpstream(t, UpstreamConfig{StreamTimeout: time.Hour})
	failed := make(chan error)
	go func() {
		_, err := u.Exchange(context.Background(), server, exampleQuery(), true)
		failed <- err
	}()
	<-asked
	u.Close()
	if err := <-failed; err == nil {
		t.Error("a reply after Close")
	}
	if _, err := u.Exchange(t.Context(), server, exampleQuery(), true); !errors.Is(err, errStreamsClosed) {
		t.Errorf("asked after Close: %v", err)
	}
	if len(u.streams.open) > 0 {
		t.Errorf("%d connections are left", len(u.streams.open))
	}
}
