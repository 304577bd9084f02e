package transport

import (
	"context"
	"sync"
	"sync/atomic"
)

// workers bounds the resolutions under way. There is no queue behind them: a
// query that finds no place is the newest, and is shed.
type workers struct {
	ctx   context.Context // of all resolutions
	slots chan struct{}
	group sync.WaitGroup

	// A goroutine that has ended a resolution waits for another one: its stack has
	// grown by then, and growing one costs as much as half of what is sent.
	next    chan func(context.Context)
	waiting atomic.Int32
	ended   chan struct{}
}

// maxWaiting is how many goroutines wait for work.
const maxWaiting = 64

func newWorkers(ctx context.Context, most int) *workers {
	return &workers{
		ctx: ctx, slots: make(chan struct{}, most),
		next: make(chan func(context.Context)), ended: make(chan struct{}),
	}
}

// start runs f on a goroutine that does nothing else; false if there is no place.
func (w *workers) start(f func(context.Context)) bool {
	select {
	case w.slots <- struct{}{}:
	default:
		return false
	}
	select {
	case w.next <- f:
	default:
		w.group.Go(func() { w.run(f) })
	}
	return true
}

// run runs f and what follows.
func (w *workers) run(f func(context.Context)) {
	for f != nil {
		w.do(f)
		if f = nil; w.waiting.Add(1) <= maxWaiting {
			select {
			case f = <-w.next:
			case <-w.ended:
			}
		}
		w.waiting.Add(-1)
	}
}

func (w *workers) do(f func(context.Context)) {
	defer func() { <-w.slots }()
	f(w.ctx)
}

// busy reports whether any resolution is under way.
func (w *workers) busy() bool { return len(w.slots) > 0 }

// wait returns when all have ended; none may be started any more. It is called
// once.
func (w *workers) wait() {
	close(w.ended)
	w.group.Wait()
}
