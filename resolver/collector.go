package resolver

import (
	"context"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

const (
	// collectorRoom is how much the heap may always grow before it is collected,
	// in bytes: with less, resolutions would have what little is in use walked
	// many times a second.
	collectorRoom = 128 << 20
	// collectorShare is by how much a large heap may grow, in percent of what is in
	// use. Nearly all of that is caches, which change slowly: to walk them twice as
	// often as is usual in Go costs little, and saves a quarter of the memory.
	collectorShare = 50
	collectorEvery = time.Second
)

// collector sets when the garbage collector runs (GOGC) by how much memory is in
// use.
type collector struct {
	set     func(percent int) (before int)
	percent int // that was set last
}

// newCollector gives nil where somebody has set GOGC: then that holds.
func newCollector() *collector {
	const usual = 100
	c := &collector{set: debug.SetGCPercent, percent: usual}
	if before := c.set(usual); before != usual {
		c.set(before)
		return nil
	}
	return c
}

func (c *collector) run(ctx context.Context) error {
	if c == nil {
		return nil
	}
	defer c.set(100)
	live := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
	look := func() {
		runtimemetrics.Read(live)
		c.follow(live[0].Value.Uint64())
	}
	look()
	every(ctx, collectorEvery, look)
	return nil
}

// follow sets the share for so many bytes in use, if it is another than before:
// to set it stops all goroutines for a moment.
func (c *collector) follow(live uint64) {
	const inUse = 16 << 20                                                  // below it the figure says nothing: the program has just begun
	percent := max(collectorShare, int(100*collectorRoom/max(live, inUse))) // #nosec G115 -- at most 800
	if d := percent - c.percent; d > c.percent/10 || -d > c.percent/10 {
		c.set(percent)
		c.percent = percent
	}
}
