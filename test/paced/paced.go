// Package paced is a UDP client that asks at a fixed rate, whatever the server
// does (an open loop), and tells how the latencies are distributed. Questions come
// at random times around the rate (a Poisson process, the same in each run).
//
// A latency is from just before the send call to the moment at which the kernel
// has the answer (SO_TIMESTAMPNS), so that a client which is late with reading does
// not count it to the server. The loop spins: it wants a core of its own, and a
// process of its own, which [Command] makes of a program's.
package paced

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Load is what is to be asked.
type Load struct {
	Server    netip.AddrPort
	Questions string        // file of "name type" lines
	Rate      float64       // questions a second
	Sockets   int           // that take turns
	Time      time.Duration // 0: until told to stop
	Timeout   time.Duration // after which a question is lost
	Site      string        // end of the names that are not listed
	StopPage  netip.Addr    // answers for all others must hold it
}

// Result is what came of it. Latencies are in µs.
type Result struct {
	Sent       int            `json:"sent"`
	Answered   int            `json:"answered"`
	Lost       int            `json:"lost"`
	Unfiltered int            `json:"unfiltered"` // answers for listed names without the stop page
	Rcodes     map[string]int `json:"rcodes"`
	Seconds    float64        `json:"seconds"`
	Median     float64        `json:"median_us"`
	P99        float64        `json:"p99_us"`
	P999       float64        `json:"p999_us"`
	Max        float64        `json:"max_us"`
	// Busy is the share of the time in which the client had something to do; near 1 it
	// is the client that is measured.
	Busy float64 `json:"busy"`
	// Slipped is the share of the time in which the client had no core: questions
	// that fell into it were not asked.
	Slipped float64 `json:"slipped"`
}

// Rate is what was reached.
func (r *Result) Rate() float64 { return float64(r.Sent) / r.Seconds }

// Command runs a load in this process, as args and standard input say, and writes
// the result to standard output as JSON. Without -time the load goes on until
// standard input ends.
func Command(args []string) error {
	var l Load
	f := flag.NewFlagSet("paced", flag.ContinueOnError)
	server := f.String("server", "", "address and port")
	f.StringVar(&l.Questions, "questions", "", "file of questions")
	f.Float64Var(&l.Rate, "rate", 50_000, "questions a second")
	f.IntVar(&l.Sockets, "sockets", 250, "sockets that take turns")
	f.DurationVar(&l.Time, "time", 0, "length; 0: until standard input ends")
	f.DurationVar(&l.Timeout, "timeout", 2*time.Second, "after which a question is lost")
	f.StringVar(&l.Site, "site", "", "end of the names that are not listed")
	stopPage := f.String("stop-page", "", "address that answers for all others must hold")
	err := f.Parse(args)
	if err == nil {
		l.Server, err = netip.ParseAddrPort(*server)
	}
	if err == nil && *stopPage != "" {
		l.StopPage, err = netip.ParseAddr(*stopPage)
	}
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	if l.Time == 0 {
		go func() { // ends with the process
			_, _ = io.Copy(io.Discard, os.Stdin)
			close(stop)
		}()
	}
	r, err := l.Run(stop)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// question is one in wire form; its ID is set as it is sent.
type question struct {
	wire   []byte
	listed bool
}

func (l *Load) questions() (all []question, err error) {
	b, err := os.ReadFile(l.Questions)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		name, kind, _ := strings.Cut(strings.TrimSpace(line), " ")
		code, ok := dns.StringToType[kind]
		if !ok {
			return nil, fmt.Errorf("%s: type %q is not known", l.Questions, kind)
		}
		m := new(dns.Msg)
		m.SetQuestion(dns.Fqdn(name), code)
		wire, err := m.Pack()
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", l.Questions, name, err)
		}
		all = append(all, question{wire: wire, listed: l.Site != "" && !strings.HasSuffix(name, l.Site)})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no question", l.Questions)
	}
	return all, nil
}

// Run asks until the load's time is over or stop is closed, and waits for the last
// answers.
func (l *Load) Run(stop <-chan struct{}) (*Result, error) {
	if l.Rate <= 0 || l.Sockets < 1 || l.Timeout <= 0 {
		return nil, errors.New("rate, sockets and timeout have to be above 0")
	}
	questions, err := l.questions()
	if err != nil {
		return nil, err
	}
	wires, err := openSockets(l.Server, l.Sockets)
	if err != nil {
		return nil, err
	}
	defer wires.close()
	// What is under way is found by socket and ID: room for all that can be within the timeout.
	room := 64
	for float64(room) < 2*l.Rate*l.Timeout.Seconds()/float64(l.Sockets) && room < 1<<16 {
		room *= 2
	}
	c := &client{load: l, wires: wires, questions: questions, room: uint64(room), open: make([]asked, room*l.Sockets),
		page: l.StopPage.AsSlice(), random: rand.New(rand.NewPCG(3, 4))}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	c.run(stop)
	return c.result(), nil
}

// asked is a question under way.
type asked struct {
	at     int64 // 0: free
	id     uint16
	listed bool
}

// client is the state of the loop; one thread's.
type client struct {
	load      *Load
	wires     *sockets
	questions []question
	room      uint64
	open      []asked
	page      []byte
	random    *rand.Rand

	sent, answered, unfiltered uint64
	rcodes                     [16]int
	latencies                  [][]uint32 // in units of 10 ns, so that 32 bits hold 42 s
	began, ended               int64
	busy, slipped              int64
}

const (
	// slip: a client that comes so late had no core, and does not ask in a burst what it
	// missed: the server would be blamed for it.
	slip  = int64(time.Millisecond)
	chunk = 1 << 20
)

func (c *client) run(stop <-chan struct{}) {
	gap := 1e9 / c.load.Rate
	c.began = now()
	next, end := float64(c.began), c.began+int64(c.load.Time)
	for turn := 0; ; turn++ {
		t := now()
		if c.load.Time > 0 && t >= end {
			break
		}
		if c.load.Time == 0 && turn%1024 == 0 && closed(stop) {
			break
		}
		if late := t - int64(next); late > slip {
			c.slipped += late
			next = float64(t)
		}
		worked := false
		for burst := 0; burst < 16 && int64(next) <= t; burst++ {
			c.ask()
			next += gap * c.random.ExpFloat64()
			worked = true
		}
		if c.wires.receive(c.take) || worked {
			c.busy += now() - t
		}
	}
	c.ended = now()
	for last := c.ended + int64(c.load.Timeout); c.answered < c.sent && now() < last; {
		c.wires.receive(c.take)
	}
}

// ask sends the next question from the next socket.
func (c *client) ask() {
	n := c.sent
	c.sent++
	socket, id := n%uint64(c.load.Sockets), uint16(n/uint64(c.load.Sockets))
	q := &c.questions[n%uint64(len(c.questions))]
	binary.BigEndian.PutUint16(q.wire, id)
	c.open[socket*c.room+uint64(id)%c.room] = asked{at: now(), id: id, listed: q.listed}
	c.wires.send(int(socket), q.wire)
}

// take takes an answer that came at a time.
func (c *client) take(socket int, reply []byte, at int64) {
	if len(reply) < 12 {
		return
	}
	id := binary.BigEndian.Uint16(reply)
	a := &c.open[uint64(socket)*c.room+uint64(id)%c.room]
	took := at - a.at
	if a.at == 0 || a.id != id || took > int64(c.load.Timeout) {
		return // too late, or twice
	}
	a.at = 0
	c.answered++
	c.rcodes[reply[3]&15]++
	if a.listed && !bytes.Contains(reply, c.page) {
		c.unfiltered++
	}
	if k := len(c.latencies); k == 0 || len(c.latencies[k-1]) == chunk {
		c.latencies = append(c.latencies, make([]uint32, 0, chunk))
	}
	k := len(c.latencies) - 1
	c.latencies[k] = append(c.latencies[k], uint32(max(took, 0)/10))
}

func (c *client) result() *Result {
	all := slices.Concat(c.latencies...)
	slices.Sort(all)
	at := func(share float64) float64 {
		if len(all) == 0 {
			return 0
		}
		return float64(all[min(int(share*float64(len(all))), len(all)-1)]) / 100
	}
	total := float64(c.ended - c.began)
	r := &Result{Sent: int(c.sent), Answered: int(c.answered), Lost: int(c.sent - c.answered), Unfiltered: int(c.unfiltered),
		Rcodes: map[string]int{}, Seconds: total / 1e9, Median: at(.5), P99: at(.99), P999: at(.999), Max: at(1),
		Busy: float64(c.busy) / total, Slipped: float64(c.slipped) / total}
	for code, n := range c.rcodes {
		if n > 0 {
			r.Rcodes[dns.RcodeToString[code]] = n
		}
	}
	return r
}

// now is the clock of the kernel's time stamps, in ns.
func now() int64 { return time.Now().UnixNano() }

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
