package transport

import "time"

const (
	// paceFrom is the rate in packets a second from which a wait pays, for one
	// socket (docs/performance.md).
	paceFrom = 150_000
	// paceGoal is how many packets a wait is to gather; past that a larger batch
	// saves next to nothing.
	paceGoal = 48
	// paceWindow is over how many packets the rate is measured.
	paceWindow = 256
)

// pace says how long to wait after a batch, so that the next one is larger: a
// system call for many packets costs less than many calls for a few. That pays
// only while packets come fast; at lower rates it would add latency and nothing
// else.
type pace struct {
	ceiling time.Duration // longest wait; 0: never
	clock   func() time.Time

	packets int // of the running window
	since   time.Time
	wait    time.Duration // after a batch, by the rate of the last window
}

func newPace(ceiling time.Duration, clock func() time.Time) *pace {
	return &pace{ceiling: ceiling, clock: clock, since: clock()}
}

// fast reports whether packets come so fast that a wait pays.
func (p *pace) fast() bool { return p.wait > 0 }

// after is told of a batch and says how long to wait before the next. Once in a
// window it is not at all, so that the reader runs dry and other goroutines have
// their turn.
func (p *pace) after(n int) time.Duration {
	if p.ceiling <= 0 {
		return 0
	}
	if p.packets += n; p.packets >= paceWindow {
		p.measure()
		return 0
	}
	if n >= paceGoal {
		return 0 // more has come than a wait would gather
	}
	return p.wait
}

func (p *pace) measure() {
	now := p.clock()
	took := now.Sub(p.since)
	n := time.Duration(p.packets)
	p.packets, p.since, p.wait = 0, now, 0
	if took > 0 && n*time.Second >= paceFrom*took {
		p.wait = min(p.ceiling, paceGoal*took/n)
	}
}
