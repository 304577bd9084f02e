package resolver

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Signatures, lists and records are judged and dated by the time of day, which
// somebody sets: wrongly at a start without a battery, or in one step by hours. The
// lifetimes of what is cached go by the monotonic clock and notice nothing of it; an
// operator should.

const (
	lookAtClock = 10 * time.Second
	// leastStep is what counts as a step; a clock that is slewed differs by far less
	// between two looks (adjtime(3): half a thousandth).
	leastStep = time.Minute
	// slack is by how much the clocks of those who date things may differ, as for
	// signatures.
	slack = 5 * time.Minute
)

// clockWatch notices a clock that is stepped, and one that cannot be right.
type clockWatch struct {
	clock  func() time.Time
	steady func() time.Duration // since some start; nobody sets it
	// newest is the latest time at which something that is at hand was made, and
	// what that is.
	newest func() (time.Time, string)
	log    *slog.Logger
	steps  prometheus.Counter

	mu    sync.Mutex
	wall  time.Time     // at the last look; guarded by mu, as all below
	at    time.Duration // by steady
	doubt string        // why the time cannot be right, or ""
}

// newClockWatch takes the first look, which is no alarm yet: what the clock is to
// be compared with may have to be read first.
func newClockWatch(s Surroundings, newest func() (time.Time, string), reg prometheus.Registerer) *clockWatch {
	w := &clockWatch{
		clock: s.Clock, steady: s.Steady, newest: newest, log: s.Log,
		steps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cordon_clock_steps_total",
			Help: "Times that the clock was set by a minute or more.",
		}),
	}
	if w.steady == nil {
		start := s.Clock() // with a monotonic reading, if the clock is time.Now
		w.steady = func() time.Duration { return s.Clock().Sub(start) }
	}
	w.wall, w.at = wallTime(w.clock()), w.steady()
	reg.MustRegister(w.steps, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cordon_clock_doubtful",
		Help: "1 while the clock is earlier than what is at hand was made: it is wrong, and with it every judgement on dates.",
	}, func() float64 { return oneIf(w.doubted() != "") }))
	return w
}

// wallTime is t without its monotonic reading.
func wallTime(t time.Time) time.Time { return t.Round(0) }

// run looks at the clock from time to time, until ctx ends.
func (w *clockWatch) run(ctx context.Context) error {
	w.look()
	every(ctx, lookAtClock, w.look)
	return ctx.Err()
}

// look compares the clock with what passed since the last look, and with what
// is at hand.
func (w *clockWatch) look() {
	now, at := wallTime(w.clock()), w.steady()
	made, what := w.newest()
	w.mu.Lock()
	defer w.mu.Unlock()
	if step := now.Sub(w.wall) - (at - w.at); step.Abs() >= leastStep {
		w.steps.Inc()
		w.log.Warn("the clock was set; what is cached keeps its lifetime, and what is fetched from now on is judged by the new time. If the time before was wrong, use cordon-resolver flush --all",
			"by", step.Round(time.Second).String(), "now", now.UTC().Format(time.RFC3339))
	}
	w.wall, w.at = now, at
	before := w.doubt
	w.doubt = ""
	if now.Add(slack).Before(made) {
		w.doubt = fmt.Sprintf("the clock says %s, but %s is of %s", now.UTC().Format(time.RFC3339), what, made.UTC().Format(time.RFC3339))
	}
	switch {
	case w.doubt != "" && before == "":
		w.log.Error("the clock is wrong: signatures and deadlines are judged by it; set it right", "because", w.doubt)
	case w.doubt == "" && before != "":
		w.log.Info("the clock can be right again")
	}
}

// doubted says why the time cannot be right, or "".
func (w *clockWatch) doubted() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.doubt
}

// newestAtHand is the latest of the dates that this program and what it keeps bear.
func (r *Resolver) newestAtHand() (newest time.Time, what string) {
	take := func(t time.Time, of string) {
		if t.After(newest) {
			newest, what = t, of
		}
	}
	take(r.built, "this program")
	take(r.anchors.Newest(), "the state of the trust anchors")
	for _, l := range r.policy.Current().Lists() {
		take(l.Issued, "list "+l.Name)
	}
	return newest, what
}
