package transport

import (
	"testing"
	"time"
)

// TestUDPWaitsOnlyWhenPacketsComeFast gives the pace windows of packets at a
// rate and asks how long it then waits.
func TestUDPWaitsOnlyWhenPacketsComeFast(t *testing.T) {
	for _, c := range []struct {
		name    string
		rate    int // packets a second
		ceiling time.Duration
		batch   int
		want    time.Duration
	}{
		{"below the rate at which it pays", paceFrom - 1000, time.Millisecond, 8, 0},
		{"at it, as long as the goal takes", 160_000, time.Millisecond, 8, 300 * time.Microsecond},
		{"at twice that rate, half as long", 320_000, time.Millisecond, 8, 150 * time.Microsecond},
		{"never longer than the ceiling", 160_000, 100 * time.Microsecond, 8, 100 * time.Microsecond},
		{"not behind a batch that is large already", 192_000, time.Millisecond, paceGoal, 0},
		{"not when it is turned off", 192_000, 0, 8, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Unix(1, 0)
			p := newPace(c.ceiling, func() time.Time { return now })
			for range 2 * paceWindow / c.batch {
				now = now.Add(time.Duration(c.batch) * time.Second / time.Duration(c.rate))
				p.after(c.batch)
			}
			if got := p.after(c.batch); got.Round(5*time.Microsecond) != c.want {
				t.Errorf("waits %v, want %v", got, c.want)
			}
			// One window of slow packets ends it.
			now = now.Add(time.Second)
			for range paceWindow / c.batch {
				p.after(c.batch)
			}
			if got := p.after(c.batch); got != 0 {
				t.Errorf("waits %v when packets come slowly again", got)
			}
		})
	}
}

func TestUDPLetsOthersRunOnceInAWindow(t *testing.T) {
	now := time.Unix(1, 0)
	p := newPace(time.Millisecond, func() time.Time { return now })
	longest, naps := 0, 0
	for range 10 * paceWindow {
		now = now.Add(8 * time.Second / 160_000)
		if p.after(8) == 0 {
			naps = 0
			continue
		}
		naps++
		longest = max(longest, naps)
	}
	if longest == 0 || longest > paceWindow/8 {
		t.Errorf("%d naps in a row", longest)
	}
}
