package iterate

import (
	"context"
	"sync"
)

// background is the work that no client waits for, or not to its end. It belongs
// to Run: nothing is begun before Run or after it, and Run waits for all of it.
type background struct {
	errands  chan struct{} // a place each for signals and reports
	renewals chan struct{} // and for old answers that are looked up anew

	mu  sync.Mutex
	ctx context.Context // of Run, while it runs; guarded by mu
	all sync.WaitGroup  // Add is called with mu held, and only while ctx is there
}

// How much may be under way at a time.
const (
	maxErrands  = 8
	maxRenewals = 256
)

func newBackground() *background {
	return &background{errands: make(chan struct{}, maxErrands), renewals: make(chan struct{}, maxRenewals)}
}

// start begins job if there is one of the places left, and says whether it did.
func (b *background) start(places chan struct{}, job func(context.Context)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	ctx := b.ctx
	if ctx == nil || ctx.Err() != nil {
		return false
	}
	select {
	case places <- struct{}{}:
	default:
		return false
	}
	b.all.Go(func() {
		defer func() { <-places }()
		job(ctx)
	})
	return true
}

// Run allows for work in the background until ctx ends: signals of trust anchors,
// error reports, and the renewal of what is answered from old data. It returns
// when all of that has ended. Without it none of these is done.
func (r *Resolver) Run(ctx context.Context) error {
	b := r.background
	b.mu.Lock()
	b.ctx = ctx
	b.mu.Unlock()
	<-ctx.Done()
	b.mu.Lock()
	b.ctx = nil
	b.mu.Unlock()
	b.all.Wait()
	return ctx.Err()
}
