package iterate

import (
	"context"
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

	waiters int // guarded by flights.mu
}

// flights coalesces equal queries in flight: a second one would double the
// chances of who guesses at replies (RFC 5452 §5). A waiter that goes away leaves
// the flight to the others; the last one ends it and waits until it has ended.
type flights struct {
	mu      sync.Mutex
	running map[flightKey]*flight
}

// do returns what run returns, or the cause of ctx's end. run is given timeout.
func (f *flights) do(ctx context.Context, k flightKey, timeout time.Duration, run func(context.Context) (*dns.Msg, error)) (*dns.Msg, error) {
	f.mu.Lock()
	fl, ok := f.running[k]
	if !ok {
		// Not bound to ctx: other waiters may outlive this one.
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		fl = &flight{cancel: cancel, done: make(chan struct{})}
		f.running[k] = fl
		go func() {
			fl.msg, fl.err = run(own)
			f.forget(k, fl)
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

func (f *flights) forget(k flightKey, fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running[k] == fl {
		delete(f.running, k)
	}
}
