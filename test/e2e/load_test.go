package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cordon/test/await"

	"github.com/miekg/dns"
)

// load is a number of clients that ask all the time, whether or not there is
// somebody to answer, and count by question what they sent and which answers
// they got.
type load struct {
	w       *world
	stop    context.CancelFunc
	clients sync.WaitGroup
	blocked atomic.Uint64              // answers received that block
	fitting [len(loaded)]atomic.Uint64 // fitting answers to each of these questions

	mu    sync.Mutex
	total tally
}

// tally is what clients counted.
type tally struct {
	sent    map[asked]uint64 // of listed names
	blocked map[asked]uint64 // answers that came and block
	others  uint64           // answers that came to questions for names that are not listed
	lost    uint64           // questions without an answer
	wrong   map[string]int   // answers that nobody may get
}

func newTally() tally {
	return tally{sent: map[asked]uint64{}, blocked: map[asked]uint64{}, wrong: map[string]int{}}
}

// loaded are the questions of a load: listed names on both transports, one
// through an alias, and names that are not listed.
var loaded = [...]struct {
	name   string
	qtype  uint16
	tcp    bool
	listed bool
	alias  bool // resolved before it is blocked
}{
	{name: "propagande.example", qtype: dns.TypeA, listed: true},
	{name: "www.propagande.example", qtype: dns.TypeA, listed: true},
	{name: "www.propagande.example", qtype: dns.TypeAAAA, listed: true, tcp: true},
	{name: "www.libre.example", qtype: dns.TypeA},
	{name: "video.propagande.example", qtype: dns.TypeMX, listed: true},
	{name: "alias.libre.example", qtype: dns.TypeA, listed: true, alias: true},
	{name: "a.b.c.propagande.example", qtype: dns.TypeTXT, listed: true, tcp: true},
	{name: "www.libre.example", qtype: dns.TypeA, tcp: true},
}

// ofNobody is how long a client waits for an answer. It does not bound the
// resolver: what comes later was not received, and may be on record all the same.
const ofNobody = 500 * time.Millisecond

// load starts clients: some that ask one question after another, in every way,
// and some that flood it with questions below a listed name, each asked once.
func (w *world) load(clients, floods int) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{w: w, stop: stop, total: newTally()}
	start := func(client func() tally) {
		l.clients.Go(func() {
			t := client()
			l.mu.Lock()
			defer l.mu.Unlock()
			l.total.add(t)
		})
	}
	for i := range clients {
		start(func() tally { return l.ask(ctx, i) })
	}
	for i := range floods {
		start(func() tally { return l.flood(ctx, i, i%2 == 1) })
	}
	w.t.Cleanup(func() { l.end() })
	return l
}

// covers waits until clients have had a fitting answer to each question.
func (l *load) covers() {
	l.w.t.Helper()
	await.Nil(l.w.t, "clients have had an answer to each question", func() error {
		for i, q := range loaded {
			if l.fitting[i].Load() == 0 {
				return fmt.Errorf("none to %v", q)
			}
		}
		return nil
	})
}

// end stops the clients and gives what they counted. It may be called twice.
func (l *load) end() tally {
	l.stop()
	l.clients.Wait()
	return l.total
}

func (t *tally) add(other tally) {
	for q, n := range other.sent {
		t.sent[q] += n
	}
	for q, n := range other.blocked {
		t.blocked[q] += n
	}
	for what, n := range other.wrong {
		t.wrong[what] += n
	}
	t.others += other.others
	t.lost += other.lost
}

// ask is one client.
func (l *load) ask(ctx context.Context, client int) tally {
	t := newTally()
	addr := netip.AddrFrom4([4]byte{127, 77, 2, byte(1 + client)})
	for i := client; ctx.Err() == nil; i++ {
		q := loaded[i%len(loaded)]
		ways := []way{from(addr)}
		key := asked{q.name, dns.TypeToString[q.qtype], "udp"}
		if q.tcp {
			ways, key.transport = append(ways, overTCP), "tcp"
		}
		if q.listed {
			t.sent[key]++
		}
		reply, err := newAsking(q.name, q.qtype, ways...).exchange(l.w.dns, ofNobody)
		if err != nil {
			t.lost++
			if errors.Is(err, syscall.ECONNREFUSED) {
				// Nobody is there. Not so long that the first moment after a
				// start would be missed.
				time.Sleep(time.Millisecond)
			}
			continue
		}
		if what := l.w.judge(reply, q.listed, q.alias); what != "" {
			t.wrong[fmt.Sprintf("%v: %s", key, what)]++
			continue
		}
		if q.listed == isBlocked(reply) && reply.Rcode == dns.RcodeSuccess {
			l.fitting[i%len(loaded)].Add(1)
		}
		if isBlocked(reply) {
			t.blocked[key]++
			l.blocked.Add(1)
		} else {
			t.others++
		}
	}
	return t
}

// window is how many questions of a flood wait for their answers at one time.
// With so many the resolver is never idle, and a kill meets it at work.
const window = 32

// flood is one client that sends questions in pulses, all for different names:
// an answer that is not on record cannot hide behind another.
func (l *load) flood(ctx context.Context, client int, tcp bool) tally {
	t := newTally()
	network, transport := "udp", "udp"
	if tcp {
		network, transport = "tcp", "tcp"
	}
	asks := 0
	for ctx.Err() == nil {
		dialed, err := net.DialTimeout(network, l.w.dns.String(), ofNobody)
		if err != nil {
			time.Sleep(time.Millisecond) // as in ask
			continue
		}
		c := dns.Conn{Conn: dialed}
		for err == nil && ctx.Err() == nil {
			waiting := map[string]bool{}
			if err = c.SetDeadline(time.Now().Add(ofNobody)); err != nil {
				break
			}
			for range window {
				asks++
				name := fmt.Sprintf("%d.flood%d.propagande.example", asks, client)
				t.sent[asked{name, "A", transport}]++
				waiting[dns.Fqdn(name)] = true
				if err = c.WriteMsg(newAsking(name, dns.TypeA).query); err != nil {
					break
				}
			}
			for err == nil && len(waiting) > 0 {
				var reply *dns.Msg
				if reply, err = c.ReadMsg(); err != nil {
					break
				}
				name := reply.Question[0].Name
				what := l.w.judge(reply, true, false)
				if !waiting[name] {
					what = "an answer to nothing that waits for one"
				}
				if what != "" {
					t.wrong["in a flood: "+what]++
					continue
				}
				delete(waiting, name)
				t.blocked[asked{strings.TrimSuffix(name, "."), "A", transport}]++
				l.blocked.Add(1)
			}
			t.lost += uint64(len(waiting))
		}
		c.Close()
		time.Sleep(time.Millisecond)
	}
	return t
}

// pulse lets many questions queue up in front of the resolver, so that it
// answers them in one batch, and kills it when the first answer of the batch
// has arrived: while it sends the others, or just after.
func (l *load) pulse(r *resolver, number int) {
	l.w.t.Helper()
	t := newTally()
	dialed, err := net.Dial("udp", l.w.dns.String())
	if err != nil {
		l.w.t.Fatal(err)
	}
	c := dns.Conn{Conn: dialed}
	defer c.Close()
	r.signal(syscall.SIGSTOP)
	for i := range 2 * window {
		name := fmt.Sprintf("%d.pulse%d.propagande.example", i, number)
		t.sent[asked{name, "A", "udp"}]++
		if err := c.WriteMsg(newAsking(name, dns.TypeA).query); err != nil {
			l.w.t.Fatal(err)
		}
	}
	r.signal(syscall.SIGCONT)
	for patient := patience; ; patient = ofNobody {
		// Only the first one is waited for: when the resolver is dead, all that
		// it has sent is there.
		if err := c.SetReadDeadline(time.Now().Add(patient)); err != nil {
			l.w.t.Fatal(err)
		}
		reply, err := c.ReadMsg()
		if !r.over {
			r.kill9()
		}
		if err != nil {
			break
		}
		if what := l.w.judge(reply, true, false); what != "" {
			t.wrong["in a pulse: "+what]++
			continue
		}
		t.blocked[asked{strings.TrimSuffix(reply.Question[0].Name, "."), "A", "udp"}]++
	}
	if len(t.blocked) == 0 {
		l.w.t.Error("a pulse had no answer")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total.add(t)
}

// judge says what is wrong with an answer that comes while a list is in force,
// stored or fetched: a listed name is blocked and nothing else, at once; nobody
// is told that the resolver is not ready.
func (w *world) judge(reply *dns.Msg, listed, alias bool) string {
	if _, notReady := extended(reply)[dns.ExtendedErrorCodeNotReady]; notReady {
		return "it is not ready"
	}
	// What has to be resolved may fail; it may not come out otherwise.
	failed := reply.Rcode == dns.RcodeServerFailure && len(reply.Answer) == 0
	switch {
	case listed && alias && failed, !listed && failed:
		return ""
	case listed:
		if err := w.blocked(reply, "terrorism"); err != nil {
			return err.Error()
		}
	case !slices.Equal(addresses(reply), []string{"192.0.2.10"}):
		return fmt.Sprintf("the answer is %v", reply.Answer)
	}
	return ""
}

// check compares what the clients counted with what a log holds: each blocked
// answer that was received is there, and nothing is that was not asked.
func (t tally) check(w *world, log string, recorded map[asked]uint64) {
	w.t.Helper()
	for what, n := range t.wrong {
		w.t.Errorf("%d times: %s", n, what)
	}
	for _, q := range sorted(t.sent) {
		if recorded[q] < t.blocked[q] || recorded[q] > t.sent[q] {
			w.t.Errorf("%s holds %v %d times; clients asked it %d times and received %d blocked answers", log, q, recorded[q], t.sent[q], t.blocked[q])
		}
	}
	for q := range recorded {
		if _, ok := t.sent[q]; !ok {
			w.t.Errorf("%s holds %v, which nobody asked", log, q)
		}
	}
}

func (t tally) String() string {
	return fmt.Sprintf("clients received %d blocked answers and %d others, and lost %d questions", sum(t.blocked), t.others, t.lost)
}
