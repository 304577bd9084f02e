package transport

import (
	"context"
	"sync"
)

// workers bounds the resolutions under way. There is no queue behind them: a
// query that finds no place is the newest, and is shed.
type workers struct {
	ctx   context.Context // of all resolutions
	slots chan struct{}
	group sync.WaitGroup
}

func newWorkers(ctx context.Context, most int) *workers {
	return &workers{ctx: ctx, slots: make(chan struct{}, most)}
}

// start runs f on a goroutine of its own; false if there is no place.
func (w *workers) start(f func(context.Context)) bool {
	select {
	case w.slots <- struct{}{}:
	default:
		return false
	}
	w.group.Go(func() {
		defer func() { <-w.slots }()
		f(w.ctx)
	})
	return true
}

// busy reports whether any resolution is under way.
func (w *workers) busy() bool { return len(w.slots) > 0 }

// wait returns when all have ended; none may be started any more.
func (w *workers) wait() { w.group.Wait() }
