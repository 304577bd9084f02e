package iterate

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// flightKey is what makes two upstream queries equal.
type flightKey struct {
	server netip.AddrPort
	Question
	edns, cookie, stream, recurse bool
}

// flight is one upstream query. Whoever begins it carries it out; others who ask
// the same meanwhile wait for it.
type flight struct {
	zone string // that it counts against; "": none
	done chan struct{}
	// Written before done is closed, and read only afterwards.
	msg *dns.Msg
	err error

	// Guarded by flights.mu.
	begun   bool
	waiters int
	next    *flight // takes its place, since who began it went away and left others waiting
}

// flights coalesces equal queries in flight: a second one would double the
// chances of who guesses at replies (RFC 5452 §5). When one who began a flight goes
// away, the first of those who wait begins the next.
//
// How many there are is bounded for each zone and each server, so that one that
// is slow, and asked for ever new names, does not take all there is.
type flights struct {
	perZone, perServer int

	mu       sync.Mutex
	running  map[flightKey]*flight // guarded by mu, as all below
	ofZone   map[string]int
	ofServer map[netip.Addr]int
	refused  Refused
}

// Refused counts the queries that were not sent, since too many to the same
// zone or server were waiting for their replies.
type Refused struct{ Zone, Server uint64 }

var (
	errZoneBusy   = errors.New("too many queries for the zone wait for replies")
	errServerBusy = errors.New("too many queries to the server wait for replies")
)

func newFlights(perZone, perServer int) flights {
	return flights{
		perZone: perZone, perServer: perServer,
		running: map[flightKey]*flight{}, ofZone: map[string]int{}, ofServer: map[netip.Addr]int{},
	}
}

// errNoReply is the cause when a query's own time, and not its caller, ended it.
var errNoReply = errors.New("no reply in time")

// do returns what run returns, or the cause of ctx's end. run is given timeout. A
// new flight counts against zone and server, and is refused at once if there are
// too many; with zone "" against neither.
func (f *flights) do(ctx context.Context, k flightKey, zone string, timeout time.Duration, run func(context.Context) (*dns.Msg, error)) (*dns.Msg, error) {
	f.mu.Lock()
	fl, ok := f.running[k]
	if !ok {
		if err := f.begin(zone, k.server.Addr()); err != nil {
			f.mu.Unlock()
			return nil, err
		}
		fl = &flight{zone: zone, done: make(chan struct{})}
		f.running[k] = fl
	}
	for fl.begun {
		fl.waiters++
		f.mu.Unlock()
		select {
		case <-fl.done:
		case <-ctx.Done():
		}
		f.mu.Lock()
		fl.waiters--
		next := fl.next
		switch {
		case ctx.Err() != nil:
			if next != nil && !next.begun && fl.waiters == 0 {
				f.end(k, next) // nobody is left to begin it
			}
			f.mu.Unlock()
			return nil, context.Cause(ctx)
		case next == nil:
			f.mu.Unlock()
			return fl.msg, fl.err
		}
		fl = next
	}
	fl.begun = true
	f.mu.Unlock()
	return f.carry(ctx, k, fl, timeout, run)
}

// carry carries out fl, which is in running, for its beginner and who joins.
func (f *flights) carry(ctx context.Context, k flightKey, fl *flight, timeout time.Duration, run func(context.Context) (*dns.Msg, error)) (*dns.Msg, error) {
	left := true // also if run does not return
	defer func() {
		f.mu.Lock()
		if left && fl.waiters > 0 {
			fl.next = &flight{zone: fl.zone, done: make(chan struct{})}
			f.running[k] = fl.next
		} else {
			f.end(k, fl)
		}
		f.mu.Unlock()
		close(fl.done)
	}()
	own, cancel := context.WithTimeoutCause(ctx, timeout, errNoReply)
	defer cancel()
	fl.msg, fl.err = run(own)
	if left = fl.err != nil && ctx.Err() != nil; left {
		return nil, context.Cause(ctx)
	}
	return fl.msg, fl.err
}

// begin counts a flight, or says which bound it would pass; mu must be held.
func (f *flights) begin(zone string, server netip.Addr) error {
	switch {
	case zone == "":
	case f.ofZone[zone] >= f.perZone:
		f.refused.Zone++
		return errZoneBusy
	case f.ofServer[server] >= f.perServer:
		f.refused.Server++
		return errServerBusy
	default:
		f.ofZone[zone]++
		f.ofServer[server]++
	}
	return nil
}

// end takes a flight that has ended, or will not begin, out of the count and of what can be joined;
// mu must be held.
func (f *flights) end(k flightKey, fl *flight) {
	delete(f.running, k)
	if fl.zone != "" {
		subtract(f.ofZone, fl.zone)
		subtract(f.ofServer, k.server.Addr())
	}
}

func subtract[K comparable](counts map[K]int, k K) {
	if counts[k]--; counts[k] == 0 {
		delete(counts, k)
	}
}
