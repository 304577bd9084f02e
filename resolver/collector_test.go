package resolver

import "testing"

func TestTheCollectorHasRoomInASmallHeapAndAShareOfALargeOne(t *testing.T) {
	const mib = 1 << 20
	var said []int
	c := &collector{percent: 100, set: func(p int) int { said = append(said, p); return 0 }}
	for _, step := range []struct {
		live uint64
		want int // percent in force afterwards
		sets int // how often it was set up to here
	}{
		{0, 800, 1}, // not known yet
		{40 * mib, 320, 2},
		{42 * mib, 320, 2}, // nearly the same: left alone
		{128 * mib, 100, 3},
		{2048 * mib, 50, 4},
		{4096 * mib, 50, 4},
		{64 * mib, 200, 5}, // flushed
	} {
		if c.follow(step.live); c.percent != step.want || len(said) != step.sets {
			t.Errorf("%d MiB in use: %d %%, set %d times; want %d %%, %d times", step.live/mib, c.percent, len(said), step.want, step.sets)
		}
	}
}
