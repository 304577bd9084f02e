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

// flight is one upstream query and those who wait for it.
type flight struct {
	cancel context.CancelFunc
	done   chan struct{}
	msg    *dns.Msg // written before done is closed, read only afterwards
	err    error

	zone    string // that it counts against; "": none
	waiters int    // guarded by flights.mu
}

// flights coalesces equal queries in flight: a second one would double the
// chances of who guesses at replies (RFC 5452 §5). A waiter that goes away leaves
// the flight to the others; the last one ends it and waits until it has ended.
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
		// Not bound to ctx: other waiters may outlive this one.
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		fl = &flight{cancel: cancel, done: make(chan struct{}), zone: zone}
		f.running[k] = fl
		go func() {
			fl.msg, fl.err = run(own)
			f.end(k, fl)
			cancel()
			close(fl.done)
		}()
	}
	fl.waiters++
	f.mu.Unlock()

	select {
	case <-fl.done:
		return fl.msg, fl.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	fl.waiters--
	last := fl.waiters == 0
	if last && f.running[k] == fl {
		delete(f.running, k) // nobody may join what is being ended
	}
	f.mu.Unlock()
	if last {
		fl.cancel()
		<-fl.done
	}
	return nil, context.Cause(ctx)
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

// end takes a flight that has ended out of the count and of what can be joined.
func (f *flights) end(k flightKey, fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running[k] == fl {
		delete(f.running, k)
	}
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
