package fairuse

import (
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// lately is the time constant with which work that is done is forgotten.
	lately = 2 * time.Second
	// leftFree is the part of the processors below which nobody is refused: what
	// work costs is an estimate, and who asks little must not suffer for it.
	leftFree = 1.0 / 64
	// nobody is how many processors others used lately if there are none: who is
	// alone may have all the processor time.
	nobody = 1e-6
	// unknown is what a resolution is taken to cost before the network's first
	// has ended.
	unknown = 500 * time.Microsecond
)

// Work shares among client networks what resolutions take: places, since they
// wait, and processor time, since some of them compute. Of each a network may use
// as much as is left free: its resolutions under way, with those of the last
// seconds, are held against what is free. So a network alone gets half; with n
// that flood, each gets its part of n+1, and the last part stays free for those
// who have used little. The busier it is, the less a network may have used
// lately. Processor time cannot be kept: while no other network asks, one may use
// all of it. Safe for concurrent use.
//
// What a resolution costs is known when it has ended; until then it is taken to
// cost what the network's last ones did.
type Work struct {
	places     int64
	taken      atomic.Int64
	processors float64
	table      *table[used]

	mu    sync.Mutex
	spent average // processor time of all; guarded by mu
}

// used is what a network uses.
type used struct {
	underWay int
	places   average // places held by resolutions that have ended
	spent    average // processor time of these
	each     float64 // processor seconds that one costs; 0: not known
}

// NewWork shares so many places, and the time of so many processors.
func NewWork(places, processors int) *Work {
	return &Work{places: int64(places), processors: float64(processors), table: newTable[used]()}
}

// Begin takes a place for a client's network, and says whether it may have it.
// If so, the caller gives it back by End.
func (w *Work) Begin(client netip.Addr, now time.Time) (_ Place, ok bool) {
	at := now.UnixNano()
	free := w.places - w.taken.Add(1) + 1
	all := w.busy(at)
	idle := max(w.processors-all, w.processors*leftFree)
	known := w.table.with(client, spare, func(u *used) {
		alone := all-u.spent.rate(at) < nobody
		if ok = float64(u.underWay)+u.places.rate(at) < float64(free) && (alone || u.busy(at) < idle); ok {
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

// busy is how many processors resolutions kept busy lately.
func (w *Work) busy(at int64) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.spent.rate(at)
}

// Place is a place that is taken.
type Place struct {
	work   *Work
	client netip.Addr
	begun  time.Time
	known  bool
}

// End gives the place back, once, and says how much processor time its resolution
// has cost.
func (p Place) End(now time.Time, cost time.Duration) {
	w, at, seconds := p.work, now.UnixNano(), cost.Seconds()
	w.taken.Add(-1)
	w.mu.Lock()
	w.spent.add(at, seconds)
	w.mu.Unlock()
	if !p.known {
		return
	}
	w.table.with(p.client, spare, func(u *used) {
		u.underWay--
		u.places.add(at, max(0, now.Sub(p.begun).Seconds()))
		u.spent.add(at, seconds)
		if u.each == 0 {
			u.each = seconds
		}
		u.each += (seconds - u.each) / 8
	})
}

// busy is how many processors the network keeps busy: had lately, with what those
// under way will take.
func (u *used) busy(at int64) float64 {
	each := u.each
	if each == 0 {
		each = unknown.Seconds()
	}
	return u.spent.rate(at) + float64(u.underWay)*each/lately.Seconds()
}

// average is an amount a second, over the last seconds.
type average struct {
	sum float64 // forgotten with lately
	at  int64   // Unix time in ns of sum
}

func (a *average) add(at int64, amount float64) { a.sum, a.at = a.left(at)+amount, at }

// left is what is left of sum.
func (a *average) left(at int64) float64 {
	if a.sum == 0 {
		return 0
	}
	return a.sum * math.Exp(-max(0, float64(at-a.at)/float64(lately)))
}

func (a *average) rate(at int64) float64 { return a.left(at) / lately.Seconds() }

// spare: a network with resolutions under way stays; of the others goes the one
// that has used least.
func spare(u *used) float64 {
	if u.underWay > 0 {
		return -1
	}
	return 1 / (1 + u.places.sum + u.spent.sum)
}
