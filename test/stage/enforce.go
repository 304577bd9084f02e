package stage

import (
	"context"
	"fmt"
	"time"
)

// TakesEditions tells whether the server can take an edition while it runs.
func (k *Kind) TakesEditions() bool { return k.Form() == Signed || k.reload != nil }

// Form is that in which the server takes a list.
func (k *Kind) Form() Form {
	if k.Can.DoQ { // cordon
		return Signed
	}
	return Zone
}

// Enforced tells when a server had an edition in force.
type Enforced struct {
	At   time.Time     // of the publication
	Took time.Duration // from there to the first blocked answer
	CPU  time.Duration // that the server spent meanwhile
}

// Enforce publishes the next edition, has the server read it where it does not by
// itself, and asks until a name that is new in it leads to the stop page. Questions
// are pause apart, and each is for another name, so that no cache of answers and no
// guard of popular names plays a part.
func (v *Server) Enforce(ctx context.Context, s *Stage, l *List, pause time.Duration) (e Enforced, err error) {
	before, err := v.Usage()
	if err != nil {
		return e, err
	}
	if e.At, err = l.Next(); err != nil {
		return e, err
	}
	reloaded := make(chan error, 1)
	go func() { reloaded <- v.Reload(s) }() // some answer while they read, some do not
	err = v.until(ctx, l, pause, e.At)
	e.Took = time.Since(e.At)
	if fault := <-reloaded; fault != nil {
		return e, fault
	}
	if err != nil {
		return e, err
	}
	after, err := v.Usage()
	e.CPU = after.CPU - before.CPU
	return e, err
}

// EnforcePublished makes, signs and publishes the next edition, and gives the time
// from there to its first blocked answer.
func (v *Server) EnforcePublished(ctx context.Context, l *List) (time.Duration, error) {
	if err := l.Publish(); err != nil {
		return 0, err
	}
	at := time.Now()
	err := v.until(ctx, l, 5*time.Millisecond, at)
	return time.Since(at), err
}

// enforcesWithin is what an edition may take.
const enforcesWithin = 3 * time.Minute

func (v *Server) until(ctx context.Context, l *List, pause time.Duration, since time.Time) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for n := 0; ; n++ {
		err := v.Leads(ctx, fmt.Sprintf("p%d-%d.%s", l.serial, n, l.Mark(n)), StopPage)
		if err == nil {
			return nil
		}
		if err := v.Alive(); err != nil {
			return err
		}
		if time.Since(since) > enforcesWithin {
			return fmt.Errorf("the edition is not enforced after %v: %w", enforcesWithin, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Idle waits until the server has nothing more to do: a second in which it used
// less than a hundredth of a core.
func (v *Server) Idle(ctx context.Context) error {
	deadline := time.Now().Add(time.Minute)
	before, err := v.Usage()
	for err == nil && time.Now().Before(deadline) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
		var now Usage
		if now, err = v.Usage(); now.CPU-before.CPU < 10*time.Millisecond {
			return err
		}
		before = now
	}
	return err
}
