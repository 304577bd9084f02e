package fairuse

import (
	"math"
	"net/netip"
	"sync/atomic"
	"time"
)

// lately is the time constant with which work that is done is forgotten.
const lately = 2 * time.Second

// Work shares the places for resolutions among client networks. Each may have as
// many as are left free: its resolutions under way, with those of the last
// seconds by the time that they took, are held against what is free. So a network
// alone gets half of the places; with n that flood, each gets its part of n+1,
// and the last part stays free for those who have used little. The busier it
// is, the less a network may have used lately. Safe for concurrent use.
type Work struct {
	places int64
	taken  atomic.Int64
	table  *table[used]
}

// used is what a network uses, in places.
type used struct {
	underWay int
	recent   float64 // places times seconds, forgotten with lately
	at       int64   // Unix time in ns of recent
}

// NewWork shares so many places.
func NewWork(places int) *Work { return &Work{places: int64(places), table: newTable[used]()} }

// Begin takes a place for a client's network, and says whether it may have it.
// If so, the caller gives it back by End.
func (w *Work) Begin(client netip.Addr, now time.Time) (_ Place, ok bool) {
	free := w.places - w.taken.Add(1) + 1
	known := w.table.with(client, spare, func(u *used) {
		if ok = float64(u.underWay)+u.lately(now.UnixNano()) < float64(free); ok {
			u.underWay++
		}
	})
	if !known { // all that share its set are at work, which is no fault of its own
		ok = free > 0
	}
	if !ok {
		w.taken.Add(-1)
	}
	return Place{work: w, client: client, begun: now, known: known}, ok
}

// Place is a place that is taken.
type Place struct {
	work   *Work
	client netip.Addr
	begun  time.Time
	known  bool
}

// End gives the place back, once.
func (p Place) End(now time.Time) {
	p.work.taken.Add(-1)
	if !p.known {
		return
	}
	p.work.table.with(p.client, spare, func(u *used) {
		u.underWay--
		at := now.UnixNano()
		u.recent = u.decayed(at) + max(0, now.Sub(p.begun).Seconds())
		u.at = at
	})
}

// decayed is what is left of recent.
func (u *used) decayed(at int64) float64 {
	if u.recent == 0 {
		return 0
	}
	return u.recent * math.Exp(-max(0, float64(at-u.at)/float64(lately)))
}

// lately is how many places the network had on average in the last seconds.
func (u *used) lately(at int64) float64 { return u.decayed(at) / lately.Seconds() }

// spare: a network with resolutions under way stays; of the others goes the one
// that has used least.
func spare(u *used) float64 {
	if u.underWay > 0 {
		return -1
	}
	return 1 / (1 + u.recent)
}
