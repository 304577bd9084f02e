package cache

import (
	"slices"
	"sync"
	"time"
)

const (
	// answerOverhead is what an entry takes besides its name and reply, in
	// bytes: answerEntry, Answer, and its share of the index.
	answerOverhead = 80 + 48 + 48
	// answerSecondChances bounds how many entries one Put may spare before it
	// evicts whatever is next, so that its cost is bounded.
	answerSecondChances = 32
	// answerMaxFreq is how many later passes of eviction a popular entry is
	// spared for.
	answerMaxFreq = 3
)

// answerShard is one independent part of the cache.
type answerShard struct {
	mu      sync.Mutex // guards all below
	max     int64
	bytes   int64
	entries map[uint64]*answerEntry // by hash of the key; the entry holds the key itself
	small   answerQueue             // new entries; about a tenth of the bytes
	main    answerQueue             // entries that were asked for again
	ghosts  []uint32                // fingerprints of what left small lately, by hash
	stats   AnswersStats            // Entries and Bytes unused

	_ [64]byte // no two shards' locks on one cache line
}

// answerEntry is a key, its answer, and its place in a queue.
type answerEntry struct {
	hash       uint64
	name       string
	variant    variant
	freq       uint8 // hits since it was last spared, at most answerMaxFreq
	answer     *Answer
	cost       int64
	queue      *answerQueue
	prev, next *answerEntry
}

func (s *answerShard) init(maxBytes int64) {
	ghosts := int64(1)
	for ghosts < maxBytes/1024 {
		ghosts *= 2
	}
	s.max = maxBytes - 4*ghosts
	s.ghosts = make([]uint32, ghosts)
	s.entries = make(map[uint64]*answerEntry)
}

func (s *answerShard) get(hash uint64, name []byte, v variant, now time.Time) (*Answer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[hash]
	if e == nil || e.variant != v || e.name != string(name) {
		s.stats.Misses++
		return nil, false
	}
	if e.answer.Left(now) <= 0 {
		s.remove(e)
		s.stats.Misses++
		return nil, false
	}
	s.stats.Hits++
	e.freq = min(e.freq+1, answerMaxFreq)
	return e.answer, true
}

func (s *answerShard) put(hash uint64, name string, v variant, a *Answer) {
	cost := int64(len(name)+answerOverhead+a.Size()) * 9 / 8 // the allocator's size classes
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.entries[hash]; old != nil {
		if old.variant == v && old.name == name && cost <= s.max/8 {
			s.bytes += cost - old.cost
			old.queue.bytes += cost - old.cost
			old.answer, old.cost = a, cost
			s.stats.Stored++
			s.evict(a.stored)
			return
		}
		s.remove(old) // another key with the same hash, or grown too large
	}
	if cost > s.max/8 {
		return
	}
	e := &answerEntry{hash: hash, name: name, variant: v, answer: a, cost: cost}
	if s.wasGhost(hash) {
		s.main.push(e)
	} else {
		s.small.push(e)
	}
	s.entries[hash] = e
	s.bytes += cost
	s.stats.Stored++
	s.evict(a.stored)
}

// evict makes the shard fit its bound again.
func (s *answerShard) evict(now time.Time) {
	spared := 0
	for s.bytes > s.max {
		queue := &s.main
		if s.small.bytes > s.max/10 || s.main.last == nil {
			queue = &s.small
		}
		e := queue.last
		if e.freq > 0 && spared < answerSecondChances && e.answer.Left(now) > 0 {
			spared++
			queue.remove(e)
			if queue == &s.small {
				e.freq = 0 // it has to earn its stay in main anew
			} else {
				e.freq--
			}
			s.main.push(e)
			continue
		}
		if queue == &s.small {
			s.addGhost(e.hash)
		}
		s.remove(e)
		s.stats.Evicted++
	}
}

func (s *answerShard) remove(e *answerEntry) {
	e.queue.remove(e)
	delete(s.entries, e.hash)
	s.bytes -= e.cost
}

func (s *answerShard) flush(name string, below bool, qtype uint16) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	dropped := 0
	for _, e := range s.entries {
		if qtype != 0 && uint16(e.variant&0xffff) != qtype {
			continue
		}
		within := func(n string) bool { return n == name || below && isBelow(n, name) }
		if within(e.name) || slices.ContainsFunc(e.answer.Targets, func(t []byte) bool { return within(string(t)) }) {
			s.remove(e)
			dropped++
		}
	}
	return dropped
}

func (s *answerShard) addStats(sum *AnswersStats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum.Entries += int64(len(s.entries))
	sum.Bytes += s.bytes + 4*int64(len(s.ghosts))
	sum.Hits += s.stats.Hits
	sum.Misses += s.stats.Misses
	sum.Stored += s.stats.Stored
	sum.Evicted += s.stats.Evicted
}

// addGhost remembers that an entry left the small queue. An older one in the
// same place is forgotten.
func (s *answerShard) addGhost(hash uint64) {
	s.ghosts[hash&uint64(len(s.ghosts)-1)] = fingerprint(hash)
}

func (s *answerShard) wasGhost(hash uint64) bool {
	at := &s.ghosts[hash&uint64(len(s.ghosts)-1)]
	if *at != fingerprint(hash) {
		return false
	}
	*at = 0
	return true
}

func fingerprint(hash uint64) uint32 { return uint32(hash>>32) | 1 }

// isBelow says whether name lies below parent; both in wire form.
func isBelow(name, parent string) bool {
	for len(name) > len(parent) && int(name[0]) < len(name) {
		name = name[1+int(name[0]):]
	}
	return name == parent && len(parent) > 0
}

// answerQueue is a first-in-first-out list of entries. push adds in front, last
// is the oldest.
type answerQueue struct {
	first, last *answerEntry
	bytes       int64
}

func (q *answerQueue) push(e *answerEntry) {
	e.queue, e.prev, e.next = q, nil, q.first
	if q.first != nil {
		q.first.prev = e
	} else {
		q.last = e
	}
	q.first = e
	q.bytes += e.cost
}

func (q *answerQueue) remove(e *answerEntry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		q.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		q.last = e.prev
	}
	e.queue, e.prev, e.next = nil, nil, nil
	q.bytes -= e.cost
}
