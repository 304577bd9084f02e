// Package fairuse keeps one client network from taking what others need: rates
// of queries, replies and handshakes (Rates), and resolutions (Work). A client
// network is an IPv4 /24 or an IPv6 /56, about what one party can pick addresses
// from.
//
// Tables have a fixed size and hold keyed hashes of networks, in memory alone;
// nothing here can be read out by address, logged or stored.
package fairuse

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"net/netip"
	"sync"
)

const (
	shards = 64                   // locks of a table
	sets   = 256                  // of each shard
	ways   = 4                    // networks that share a set
	Tracks = shards * sets * ways // networks that a table can tell apart at a time
)

// table holds a T for each of the client networks seen last. Safe for
// concurrent use.
type table[T any] struct {
	seed   maphash.Seed
	shards [shards]struct {
		mu   sync.Mutex // guards slots
		sets [sets][ways]slot[T]
	}
}

type slot[T any] struct {
	key   uint64 // 0: free
	state T
}

func newTable[T any]() *table[T] { return &table[T]{seed: maphash.MakeSeed()} }

// with calls f with the state of the client's network, under its lock. A network
// that is not known takes a free place, or that of the one that is missed least;
// where none may go (spare is negative), f is not called and with returns false.
func (t *table[T]) with(client netip.Addr, spare func(*T) float64, f func(*T)) bool {
	key := t.key(client)
	shard := &t.shards[key%shards]
	set := &shard.sets[key/shards%sets]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	best, most := -1, 0.0
	for i := range set {
		switch s := &set[i]; {
		case s.key == key:
			f(&s.state)
			return true
		case s.key == 0:
			best, most = i, math.Inf(1)
		default:
			if r := spare(&s.state); r >= 0 && (best < 0 || r > most) {
				best, most = i, r
			}
		}
	}
	if best < 0 {
		return false
	}
	set[best] = slot[T]{key: key}
	f(&set[best].state)
	return true
}

// key is a keyed hash of the client's network, never 0.
func (t *table[T]) key(client netip.Addr) uint64 {
	client = client.Unmap()
	var network [8]byte
	if client.Is4() {
		a := client.As4()
		copy(network[1:], a[:3])
	} else {
		a := client.As16()
		copy(network[:], a[:7])
		network[7] = 6
	}
	h := maphash.Comparable(t.seed, binary.BigEndian.Uint64(network[:]))
	return max(h, 1)
}
