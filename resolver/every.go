package resolver

import (
	"context"
	"time"
)

// every calls do at each interval until ctx ends, the first time when one has
// passed.
func every(ctx context.Context, interval time.Duration, do func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do()
		}
	}
}
