package cache

import (
	"hash/maphash"
	"math"
	"sync"
	"time"
	"unsafe"

	"cordon/resolver/dnssec"
)

// A shard evicts by S3-FIFO: newcomers wait in a small queue and reach the main
// queue only when asked for again, so that a flood of names asked once flows
// through the small queue and leaves the rest alone. A ghost list of the
// fingerprints of what left the small queue lets a returning name straight in.

type rrsetKey struct {
	name string
	typ  uint16
	use  Use
}

type rrsetEntry struct {
	rrsetKey
	packed  []byte
	expires time.Time
	stale   time.Duration // for how long it is kept after that
	granted time.Duration // until when, after expires; never: nothing was granted
	kind    Kind
	rank    Rank
	status  dnssec.Status
	cut     bool
	code    uint16

	// Guarded by the shard's lock.
	hits       uint8 // times asked for since it was last moved, at most maxHits
	main       bool  // which queue it is in
	prev, next *rrsetEntry

	text string
}

const never = time.Duration(math.MinInt64)

// dropped says whether nothing may be made of e any more; before that, when it
// has expired, it is stale.
func (e *rrsetEntry) dropped(now time.Time) bool { return now.Sub(e.expires) >= e.stale }

const (
	maxHits = 3
	// mapCost is what an entry costs in the index besides itself: a key, a
	// pointer, and the share of empty slots of a Go map at its worst load.
	mapCost = int64(unsafe.Sizeof(rrsetKey{})+unsafe.Sizeof((*rrsetEntry)(nil))) * 9 / 4
	// ghostCost is one fingerprint, in the ring and in its map.
	ghostCost = 8 + 8*9/4
	// maxMoves bounds the work of one eviction.
	maxMoves = 16
)

// cost is the bytes that e takes, allocation rounding included.
func (e *rrsetEntry) cost() int64 {
	return round(int64(unsafe.Sizeof(*e))) + round(int64(len(e.packed))) +
		round(int64(len(e.name))) + round(int64(len(e.text))) + mapCost
}

// round is n as the allocator rounds it: its size classes waste at most an
// eighth.
func round(n int64) int64 {
	if n == 0 {
		return 0
	}
	return (n+n/8)/16*16 + 16
}

// queue is a list with the newest entry first.
type rrsetQueue struct {
	root  rrsetEntry // sentinel: root.next is the newest, root.prev the oldest
	bytes int64
}

func (q *rrsetQueue) init() { q.root.prev, q.root.next = &q.root, &q.root }

func (q *rrsetQueue) push(e *rrsetEntry) {
	e.prev, e.next = &q.root, q.root.next
	e.prev.next, e.next.prev = e, e
	q.bytes += e.cost()
}

func (q *rrsetQueue) remove(e *rrsetEntry) {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
	q.bytes -= e.cost()
}

func (q *rrsetQueue) oldest() *rrsetEntry {
	if q.root.prev == &q.root {
		return nil
	}
	return q.root.prev
}

type rrsetShard struct {
	bound int64
	seed  maphash.Seed

	mu          sync.Mutex
	index       map[rrsetKey]*rrsetEntry // guarded by mu, as all below
	small, main rrsetQueue
	ghosts      map[uint64]struct{}
	ghostRing   []uint64
	ghostNext   int
}

func newRRsetShard(bound int64) *rrsetShard {
	s := &rrsetShard{bound: bound, seed: maphash.MakeSeed(), index: map[rrsetKey]*rrsetEntry{}, ghosts: map[uint64]struct{}{}}
	s.small.init()
	s.main.init()
	// As many ghosts as there is room for middling entries, at most a
	// thirty-second of the bound.
	s.ghostRing = make([]uint64, max(1, bound/32/ghostCost))
	return s
}

func (s *rrsetShard) size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used()
}

func (s *rrsetShard) used() int64 {
	return s.small.bytes + s.main.bytes + int64(len(s.ghostRing))*ghostCost
}

func (s *rrsetShard) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.index)
}

func (s *rrsetShard) get(k rrsetKey, now time.Time) (*rrsetEntry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.index[k]
	if !ok {
		return nil, false
	}
	if e.dropped(now) {
		s.drop(e)
		return nil, false
	}
	if !now.Before(e.expires) {
		return nil, false
	}
	e.hits = min(e.hits+1, maxHits)
	return e, true // immutable but for what get's caller does not read
}

// getStale gives an entry that has expired and is still kept.
func (s *rrsetShard) getStale(k rrsetKey, now time.Time) (*rrsetEntry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.index[k]
	if !ok || now.Before(e.expires) || e.dropped(now) {
		return nil, false
	}
	e.hits = min(e.hits+1, maxHits)
	return e, true
}

func (s *rrsetShard) put(e *rrsetEntry, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.cost() > (s.bound-int64(len(s.ghostRing))*ghostCost)/4 {
		return false // would push out a quarter of the shard
	}
	if old, ok := s.index[e.rrsetKey]; ok {
		if e.rank < old.rank && now.Before(old.expires) {
			return false
		}
		e.hits, e.main = old.hits, old.main
		s.drop(old)
	} else {
		h := s.fingerprint(e.rrsetKey)
		_, e.main = s.ghosts[h]
	}
	s.queueOf(e).push(e)
	s.index[e.rrsetKey] = e
	for s.used() > s.bound {
		s.evict()
	}
	return true
}

func (s *rrsetShard) remove(k rrsetKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.index[k]; ok {
		s.drop(e)
	}
}

func (s *rrsetShard) flush(what func(*rrsetEntry) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	dropped := 0
	for _, e := range s.index {
		if what(e) {
			s.drop(e)
			dropped++
		}
	}
	return dropped
}

func (s *rrsetShard) queueOf(e *rrsetEntry) *rrsetQueue {
	if e.main {
		return &s.main
	}
	return &s.small
}

func (s *rrsetShard) drop(e *rrsetEntry) {
	s.queueOf(e).remove(e)
	delete(s.index, e.rrsetKey)
}

// evict drops one entry after at most maxMoves others were moved.
func (s *rrsetShard) evict() {
	for moves := 0; ; moves++ {
		q := &s.main
		if s.small.bytes > s.bound/10 || s.main.oldest() == nil {
			q = &s.small
		}
		e := q.oldest()
		if e.hits == 0 || moves >= maxMoves {
			s.drop(e)
			if q == &s.small {
				s.remember(e.rrsetKey)
			}
			return
		}
		q.remove(e)
		if e.main {
			e.hits--
		} else {
			e.hits, e.main = 0, true
		}
		s.main.push(e)
	}
}

// remember puts k on the ghost list, in the place of the oldest ghost.
func (s *rrsetShard) remember(k rrsetKey) {
	h := s.fingerprint(k)
	delete(s.ghosts, s.ghostRing[s.ghostNext])
	s.ghostRing[s.ghostNext] = h
	s.ghosts[h] = struct{}{}
	s.ghostNext = (s.ghostNext + 1) % len(s.ghostRing)
}

func (s *rrsetShard) fingerprint(k rrsetKey) uint64 { return maphash.Comparable(s.seed, k) }
