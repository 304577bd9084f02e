// Package cache holds what was resolved, bounded in bytes: whole replies ready to
// be patched for a client (Answers), and the RRsets they were made from (RRsets).
package cache

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/wire"
)

// Answer is a whole reply as it was stored. It does not change any more and may
// be used after it was evicted.
type Answer struct {
	*wire.Stored
	stored  time.Time
	ttl     time.Duration // from then on
	claimed atomic.Bool   // somebody renews it
}

// An answer that is asked for in the last tenth of its life is worth renewing
// before it ends, unless that is so short that little is gained.
const (
	lastPart     = 10
	leastRenewed = 10 * time.Second
)

// Due says, once, that the answer is asked for shortly before it expires. Who is
// told so renews it.
func (a *Answer) Due(now time.Time) bool {
	left := a.Left(now)
	return left > 0 && left <= a.ttl/lastPart && a.ttl >= leastRenewed && a.Rcode != dns.RcodeServerFailure && !a.claimed.Swap(true)
}

// Left is for how long the answer can still be given.
func (a *Answer) Left(now time.Time) time.Duration { return a.ttl - now.Sub(a.stored) }

// Age is for how many whole seconds the answer has been stored; what wire.Patch
// takes off its TTLs.
func (a *Answer) Age(now time.Time) uint32 {
	return uint32(max(0, now.Sub(a.stored)/time.Second))
}

// AnswersStats counts since the start, but for Entries and Bytes, which are as
// of now.
type AnswersStats struct {
	Entries, Bytes                int64
	Hits, Misses, Stored, Evicted uint64
}

// Answers keeps whole replies by question and by the flags that change them: DO
// and CD (pitfall: an answer that a CD=1 query saw must not be seen by others,
// RFC 4035 §3.2.2). Class is IN. It is bounded in bytes and safe for concurrent
// use; the time is passed in by the caller.
//
// Eviction is S3-FIFO (Yang et al., SOSP 2023): a new answer waits in a small
// queue and moves to the main one only if it was asked for again, so that a
// flood of names asked once passes through a tenth of the cache.
type Answers struct {
	seed   maphash.Seed
	shards []answerShard
}

// NewAnswers returns an empty cache of at most maxBytes, the memory of names,
// index and allocator included.
func NewAnswers(maxBytes int64) *Answers {
	// A shard is large enough to hold a few of the largest replies, and there
	// are enough of them that readers on many cores rarely meet.
	n := 1
	for n < 256 && maxBytes/int64(2*n) >= 512<<10 {
		n *= 2
	}
	c := &Answers{seed: maphash.MakeSeed(), shards: make([]answerShard, n)}
	for i := range c.shards {
		c.shards[i].init(maxBytes / int64(n))
	}
	return c
}

// Get returns the answer that is stored for the question and has not expired.
// name is in wire form, lower case, and is not kept.
func (c *Answers) Get(name []byte, qtype uint16, do, cd bool, now time.Time) (*Answer, bool) {
	v := answerVariant(qtype, do, cd)
	s, h := c.shard(name, v)
	return s.get(h, name, v, now)
}

// Put stores a reply for ttl; with ttl 0 or less, or if it is too large for the
// cache, it does nothing. name is copied.
func (c *Answers) Put(name []byte, qtype uint16, do, cd bool, reply *wire.Stored, ttl time.Duration, now time.Time) {
	if ttl <= 0 {
		return
	}
	v := answerVariant(qtype, do, cd)
	s, h := c.shard(name, v)
	s.put(h, string(name), v, &Answer{Stored: reply, stored: now, ttl: ttl})
}

// Flush drops the answers for a name, or that lead to it, with below also those
// for the names below it, and returns how many. A type other than 0 leaves the
// answers for other types. Everything is below the root. It looks at every entry:
// an operator's command, not for the query path.
func (c *Answers) Flush(name []byte, below bool, qtype uint16) int {
	dropped := 0
	for i := range c.shards {
		dropped += c.shards[i].flush(string(name), below, qtype)
	}
	return dropped
}

// Stats adds up the counters of all shards.
func (c *Answers) Stats() AnswersStats {
	var sum AnswersStats
	for i := range c.shards {
		c.shards[i].addStats(&sum)
	}
	return sum
}

// variant is the part of the key besides the name: type, DO and CD.
type variant uint32

func answerVariant(qtype uint16, do, cd bool) variant {
	v := variant(qtype)
	if do {
		v |= 1 << 16
	}
	if cd {
		v |= 1 << 17
	}
	return v
}

// shard returns the part of the cache for a key, and the key's hash. The seed
// is random, so that nobody can aim at one shard or make hashes collide.
func (c *Answers) shard(name []byte, v variant) (*answerShard, uint64) {
	h := maphash.Bytes(c.seed, name) ^ uint64(v)*0x9e3779b97f4a7c15
	return &c.shards[h>>40&uint64(len(c.shards)-1)], h
}
