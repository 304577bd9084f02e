package cache

// RRsets is the cache that recursion works from; the answer-level cache of this
// package is a layer above it and shares nothing with it.

import (
	"hash/maphash"
	"strings"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// Use keeps apart what must never stand in for one another: a delegation from
// the parent is no answer (RFC 2181 §5.4.1, RFC 9471), a failure no data, and
// what was fetched without validation is for those alone who asked for it so.
type Use uint8

const (
	Data       Use = iota // answers and denials, validated or insecure
	Unchecked             // as Data, but for CD=1 only (RFC 4035 §3.2.2)
	Delegation            // NS, DS and glue as the parent gave them
	Failure               // why a question cannot be answered now (RFC 9520)
	Child                 // NS of a zone as the zone itself has them
)

// Kind says what an entry asserts.
type Kind uint8

const (
	Positive Kind = iota
	NoData        // the name has no such type (RFC 2308 §2.2)
	NXDomain      // there is no such name; kept per name, for all types (RFC 2308 §5)
	Broken        // resolution failed; only under Use Failure
)

// Rank is how far an entry is to be trusted (RFC 2181 §5.4.1), lowest first.
type Rank uint8

const (
	RankReferral  Rank = iota + 1 // the parent's NS and glue
	RankAuthority                 // authority section of an authoritative reply
	RankAnswer                    // answer section of an authoritative reply
)

// RRset is one entry: records of one name and type, or their absence.
type RRset struct {
	Name   string // canonical: fully qualified, lower case
	Type   uint16 // not significant for NXDomain
	Use    Use
	Kind   Kind
	Rank   Rank
	Status dnssec.Status
	// TTL is the time left; Get also sets it in every record.
	TTL time.Duration

	RRs   []dns.RR // the set; of a delegation, its NS records
	Sigs  []dns.RR // RRSIG over RRs
	Proof []dns.RR // SOA and NSEC(3) of a denial; NSEC(3) of a wildcard answer; DS of a delegation
	Glue  []dns.RR // addresses that came with a delegation

	// Granted is until when the parent granted a delegation. It may be later than
	// TTL ends, since what is known of its security may have to be renewed before.
	Granted time.Time
	// Cut marks a NoData for DS at a name that is, or may be, an unsigned
	// delegation.
	Cut bool
	// Code and Text say why Status is not Secure, or what is Broken (RFC 8914).
	Code uint16
	Text string
}

// Bounds on how long anything is kept. A day is the longest common bound (RFC
// 8767 §4 allows a week); three hours is what RFC 2308 §5 calls sensible for
// denials; RFC 9520 §3.2 sets one second to five minutes for failures.
const (
	MaxTTL         = 24 * time.Hour
	MaxNegativeTTL = 3 * time.Hour
	MaxFailureTTL  = 5 * time.Minute
	MinFailureTTL  = time.Second
)

// RRsets is a cache bounded in bytes. Safe for concurrent use.
type RRsets struct {
	clock  func() time.Time
	seed   maphash.Seed
	shards []*rrsetShard
	stale  time.Duration // for how long data is kept past its TTL
}

// shardCount spreads lock contention; each shard has an equal part of the bound.
const shardCount = 16

// NewRRsets returns an empty cache that holds at most the given number of bytes:
// records, names, indices and bookkeeping.
func NewRRsets(bytes int64, clock func() time.Time) *RRsets {
	c := &RRsets{clock: clock, seed: maphash.MakeSeed(), shards: make([]*rrsetShard, shardCount)}
	for i := range c.shards {
		c.shards[i] = newRRsetShard(bytes / shardCount)
	}
	return c
}

// KeepStale makes the cache keep answers and denials for d longer than their TTL,
// for Stale alone (RFC 8767). It is to be called before the cache is used.
func (c *RRsets) KeepStale(d time.Duration) { c.stale = d }

// Put keeps s for s.TTL, within the bounds above. It returns false, and leaves
// the cache as it was, when s has no TTL, is too large, or would replace an
// entry of higher rank that is still alive.
func (c *RRsets) Put(s RRset) bool {
	ttl := clampTTL(s)
	if ttl < time.Second {
		return false
	}
	packed, err := pack(s)
	if err != nil {
		return false
	}
	if s.Kind == NXDomain {
		s.Type = dns.TypeNone
	}
	now := c.clock()
	// A clone, since a name is often the tail of a longer one and would keep it.
	k := rrsetKey{name: strings.Clone(s.Name), typ: s.Type, use: s.Use}
	e := &rrsetEntry{
		rrsetKey: k, packed: packed, expires: now.Add(ttl), stale: c.staleFor(s.Use), granted: never,
		kind: s.Kind, rank: s.Rank, status: s.Status, cut: s.Cut, code: s.Code, text: strings.Clone(s.Text),
	}
	if !s.Granted.IsZero() {
		e.granted = s.Granted.Sub(e.expires)
	}
	return c.shard(k).put(e, now)
}

// Get returns the entry for a name and type with the time it has left. A
// question of Use Data or Unchecked for a type of a name that does not exist
// gets the NXDomain entry of the name. The records are the caller's own.
func (c *RRsets) Get(use Use, name string, t uint16) (RRset, bool) {
	if s, ok := c.get(rrsetKey{name: name, typ: t, use: use}); ok {
		return s, true
	}
	if use == Data || use == Unchecked {
		return c.get(rrsetKey{name: name, typ: dns.TypeNone, use: use})
	}
	return RRset{}, false
}

func (c *RRsets) get(k rrsetKey) (RRset, bool) {
	now := c.clock()
	e, ok := c.shard(k).get(k, now)
	if !ok {
		return RRset{}, false
	}
	s := e.entry(e.expires.Sub(now))
	if err := unpack(e.packed, &s); err != nil {
		return RRset{}, false // cannot happen: pack made it
	}
	return s, true
}

// Stale is Get for Use Data and an entry whose TTL has ended, no longer than
// KeepStale ago. Its TTL is 0.
func (c *RRsets) Stale(name string, t uint16) (RRset, bool) {
	now := c.clock()
	for _, k := range []rrsetKey{{name: name, typ: t, use: Data}, {name: name, typ: dns.TypeNone, use: Data}} {
		if e, ok := c.shard(k).getStale(k, now); ok {
			s := e.entry(0)
			return s, unpack(e.packed, &s) == nil
		}
	}
	return RRset{}, false
}

func (c *RRsets) staleFor(u Use) time.Duration {
	if u != Data {
		return 0
	}
	return c.stale
}

// entry is e without its records.
func (e *rrsetEntry) entry(ttl time.Duration) RRset {
	s := RRset{
		Name: e.name, Type: e.typ, Use: e.use, Kind: e.kind, Rank: e.rank, Status: e.status,
		Cut: e.cut, Code: e.code, Text: e.text, TTL: ttl,
	}
	if e.granted != never {
		s.Granted = e.expires.Add(e.granted)
	}
	return s
}

// Remove drops the entry for a name, type and use.
func (c *RRsets) Remove(use Use, name string, t uint16) {
	k := rrsetKey{name: name, typ: t, use: use}
	c.shard(k).remove(k)
}

// Flush drops the entries of every use for a name, with below also those for the
// names below it, and returns how many. A type other than 0 leaves what is of
// other types; a delegation is of NS and DS. That the name does not exist goes in
// any case, be it said of a name above. It looks at every entry.
func (c *RRsets) Flush(name string, below bool, t uint16) int {
	dropped := 0
	for _, s := range c.shards {
		dropped += s.flush(func(e *rrsetEntry) bool {
			if e.kind == NXDomain && dns.IsSubDomain(e.name, name) {
				return true
			}
			if e.name != name && !(below && dns.IsSubDomain(name, e.name)) {
				return false
			}
			return t == 0 || e.typ == t || e.kind == NXDomain || t == dns.TypeDS && e.use == Delegation
		})
	}
	return dropped
}

// Len is the number of entries, expired ones included until they are met.
func (c *RRsets) Len() int {
	n := 0
	for _, s := range c.shards {
		n += s.len()
	}
	return n
}

// Bytes is what the entries take, by the same measure as the bound.
func (c *RRsets) Bytes() int64 {
	var n int64
	for _, s := range c.shards {
		n += s.size()
	}
	return n
}

func (c *RRsets) shard(k rrsetKey) *rrsetShard {
	return c.shards[maphash.Comparable(c.seed, k)%uint64(len(c.shards))]
}

func clampTTL(s RRset) time.Duration {
	switch {
	case s.Kind == Broken:
		return min(max(s.TTL, MinFailureTTL), MaxFailureTTL)
	case s.Kind != Positive:
		return min(s.TTL, MaxNegativeTTL)
	}
	return min(s.TTL, MaxTTL)
}
