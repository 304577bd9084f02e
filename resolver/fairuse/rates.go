package fairuse

import (
	"net/netip"
	"time"
)

// Rates bounds how often something may be done for each client network: a token
// bucket for each. A nil Rates bounds nothing. Safe for concurrent use.
type Rates struct {
	perSecond, burst float64
	table            *table[bucket]
}

// bucket is how many times more at a moment.
type bucket struct {
	left float64
	at   int64 // Unix time in ns; 0: not used yet
}

// NewRates allows perSecond a second, and twice as many at once. 0 gives nil.
func NewRates(perSecond int) *Rates {
	if perSecond <= 0 {
		return nil
	}
	return &Rates{perSecond: float64(perSecond), burst: 2 * float64(perSecond), table: newTable[bucket]()}
}

// Allow takes one for a client's network, if there is one.
func (r *Rates) Allow(client netip.Addr, now time.Time) (ok bool) {
	if r == nil {
		return true
	}
	at := now.UnixNano()
	r.table.with(client, func(b *bucket) float64 { return r.fill(b, at) }, func(b *bucket) {
		left := r.fill(b, at)
		if ok = left >= 1; ok {
			left--
		}
		*b = bucket{left: left, at: max(at, b.at)}
	})
	return ok
}

// fill is what is in a bucket at a time. A full one tells nothing: it may go.
func (r *Rates) fill(b *bucket, at int64) float64 {
	if b.at == 0 {
		return r.burst
	}
	return min(r.burst, b.left+max(0, float64(at-b.at)/1e9*r.perSecond))
}
