package main

import (
	"container/heap"
	"context"
	"crypto/tls"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cordon/test/stage"
)

// replay is one run of a number of clients against one server.
type replay struct {
	options   *options
	transport *transport
	server    netip.AddrPort
	questions [][]byte
	tls       *tls.Config
	paths     []*quicPath // of DoQ
	began     time.Time
	links     sync.WaitGroup // of all their goroutines
	over      atomic.Bool    // no more connections; set before the clients' links are stopped

	tally
}

// tally counts the questions that fall into the measured time.
type tally struct {
	asked, answered, late, failed atomic.Int64
	opened, resumed, refused      atomic.Int64 // connections of the whole run
	took                          [1024]atomic.Int64
	behind                        atomic.Int64 // most ns that the client itself was behind its plan
}

// question is one on its way.
type question struct {
	wire    []byte
	due     time.Duration // since the begin
	counts  bool          // it falls into the measured time
	retried bool
}

// link is a client's connection.
type link interface {
	// ask sends, or keeps until the connection is there. It is false where the
	// connection has ended.
	ask(question) bool
	// stop ends the connection.
	stop()
}

// client is one device with one connection at a time.
type client struct {
	number int
	schedule
	session session

	mu   sync.Mutex
	link link // guarded by mu; nil before the first question
}

// result is what a run showed.
type result struct {
	clients                       int
	asked, answered, late, failed int64
	opened, resumed, refused      int64
	median, p99                   time.Duration
	behind                        time.Duration
	clientShare, serverShare      float64 // of a core
	perSecond                     float64 // questions
	memory                        int     // of the server, KiB
}

// bad is the share of questions without a good answer in time.
func (r *result) bad() float64 {
	if r.asked == 0 {
		return 1
	}
	return float64(r.asked-r.answered+r.late) / float64(r.asked)
}

// bounded tells whether the client itself was at its limit, so that the run says
// little of the server.
func (r *result) bounded() bool { return r.clientShare > 0.9 || r.behind > 100*time.Millisecond }

// process is the server as it is watched.
type process interface {
	Usage() (stage.Usage, error)
	Alive() error
}

// run has n clients ask. Questions of the warm-up are asked and not counted.
func (o *options) run(ctx context.Context, t *transport, s process, at netip.AddrPort, questions [][]byte, n int, conf *tls.Config) (*result, error) {
	r := &replay{options: o, transport: t, server: at, questions: questions, tls: conf}
	if t.quic {
		var err error
		if r.paths, err = openPaths(); err != nil {
			return nil, err
		}
		defer closePaths(r.paths)
	}
	clients := make(queue, n)
	for i := range clients {
		clients[i] = &client{number: i, schedule: newSchedule(&usual, o.seed, i)}
	}
	every := slices.Clone(clients)
	heap.Init(&clients)
	r.began = time.Now()
	var before, after reading
	var err error
	end := o.warm + o.time
	for at := time.Duration(0); ; {
		if ctx.Err() != nil {
			break
		}
		next := clients[0].next
		if next >= end {
			break
		}
		at = time.Since(r.began)
		if next > at {
			time.Sleep(next - at)
			continue
		}
		c := clients[0]
		counts := next >= o.warm
		if counts {
			if before.at == 0 {
				if before, err = read(s, r.began); err != nil {
					return nil, err
				}
			}
			r.asked.Add(1)
			r.behind.Store(max(r.behind.Load(), int64(at-next)))
		}
		r.ask(c, question{wire: r.questions[c.pick(len(r.questions))], due: next, counts: counts})
		c.advance()
		heap.Fix(&clients, 0)
	}
	if err := ctx.Err(); err == nil {
		if after, err = read(s, r.began); err != nil {
			return nil, err
		}
		r.waitForAnswers()
	}
	r.over.Store(true)
	for _, c := range every {
		c.mu.Lock()
		l := c.link
		c.mu.Unlock()
		if l != nil {
			l.stop()
		}
	}
	r.links.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return r.result(n, before, after), s.Alive()
}

// waitForAnswers gives the last questions as long as all others have.
func (r *replay) waitForAnswers() {
	for end := time.Now().Add(r.options.timeout); time.Now().Before(end) && r.answered.Load()+r.failed.Load() < r.asked.Load(); {
		time.Sleep(10 * time.Millisecond)
	}
}

// ask sends a question over the client's connection, or a new one.
func (r *replay) ask(c *client, q question) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.over.Load() || c.link != nil && c.link.ask(q) {
		return
	}
	c.link = r.transport.open(r, c)
	c.link.ask(q) // a new one takes it
}

// lost is called with questions whose connection has ended before the answer: as
// RFC 7766 §6.2.4 has it they are asked again, once.
func (r *replay) lost(c *client, all ...question) {
	for _, q := range all {
		if !q.retried && time.Since(r.began)-q.due < r.options.timeout {
			q.retried = true
			r.ask(c, q)
		}
	}
}

// take counts the answer to a question; good is one with NOERROR.
func (r *replay) take(q question, good bool) {
	took := time.Since(r.began) - q.due
	if !q.counts || took > r.options.timeout {
		return
	}
	if !good {
		r.failed.Add(1)
		return
	}
	r.answered.Add(1)
	if took > r.options.late {
		r.late.Add(1)
	}
	r.took[bucket(took)].Add(1)
}

// bucket has eight steps for each power of two of µs.
func bucket(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 8))
	top := bits.Len64(us) - 1
	return min(top*8+int(us>>(top-3)&7), 1023)
}

// value is the lower end of a bucket.
func value(bucket int) time.Duration {
	return time.Duration((8+uint64(bucket%8))<<(bucket/8-3)) * time.Microsecond
}

func (r *replay) result(n int, before, after reading) *result {
	out := &result{clients: n, asked: r.asked.Load(), answered: r.answered.Load(), late: r.late.Load(), failed: r.failed.Load(),
		opened: r.opened.Load(), resumed: r.resumed.Load(), refused: r.refused.Load(), behind: time.Duration(r.behind.Load()), memory: after.memory}
	over := float64(after.at - before.at)
	out.clientShare, out.serverShare = float64(after.client-before.client)/over, float64(after.server-before.server)/over
	out.perSecond = float64(out.asked) / time.Duration(over).Seconds()
	at := func(share float64) time.Duration {
		seen := int64(0)
		for b := range r.took {
			if seen += r.took[b].Load(); seen > 0 && float64(seen) >= share*float64(out.answered) {
				return value(b)
			}
		}
		return 0
	}
	out.median, out.p99 = at(.5), at(.99)
	return out
}

// reading of the processes' CPU time.
type reading struct {
	at, client, server time.Duration
	memory             int
}

func read(s process, began time.Time) (r reading, err error) {
	u, err := s.Usage()
	if err != nil {
		return r, err
	}
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return r, fmt.Errorf("own CPU time: %w", err)
	}
	return reading{at: time.Since(began), client: time.Duration(self.Utime.Nano() + self.Stime.Nano()), server: u.CPU, memory: u.Memory}, nil
}

// address is a client's own: its network is its own too, and there are ports
// enough for all that are closed and not forgotten yet.
func (c *client) address() net.IP {
	n := c.number
	return net.IPv4(127, byte(128+n>>14&127), byte(n>>7), byte(1+n&127))
}

// queue is a heap of clients by the time of their next question.
type queue []*client

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].next < q[j].next }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(any)          { panic("the clients are a fixed number") }
func (q *queue) Pop() any          { panic("the clients are a fixed number") }
