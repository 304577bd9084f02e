package feed

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
)

// names holds the rules of a zone that go by names. It is filled by put and
// then read by any number of goroutines.
//
// It is a hash table with open addressing over the names, which lie one behind
// the other in one slice: no pointer for the collector to follow, and at most a
// few places in memory for each ending of a name that could be there. A name
// has one place for both its rules, exact and wildcard, since most feeds have both.
type names struct {
	seed    maphash.Seed // new for each table, so that nobody outside can aim at it
	slots   []slot       // a power of two of them, at most three quarters in use
	records []byte       // see ruleSize
	used    int          // names
	exact   depths
	wild    depths
}

// slot says where a name lies. at is 1 more than that, so that 0 is free.
type slot struct{ hash, at uint32 }

// depths has bit n set where there is a rule at a name of n labels.
type depths [2]uint64

func (d *depths) set(n int)      { d[n>>6&1] |= 1 << (n & 63) }
func (d *depths) has(n int) bool { return d[n>>6&1]>>(n&63)&1 != 0 }

// A record is a byte for the length of the name, the name in wire form without
// the root's label, and the two rules, little-endian.
const (
	ruleSize = 4
	leastCap = 8
	// maxNameBytes keeps slot.at within its 32 bits.
	maxNameBytes = 1<<32 - 512
)

func newNames() *names {
	return &names{seed: maphash.MakeSeed(), slots: make([]slot, leastCap)}
}

// lookup finds the rule for a name in wire form, lower case: the one at the very
// name, else the wildcard closest above it. from is where in name the part
// begins that the rule names; a wildcard covers what is below it and not itself
// (RFC 4592 §2.1.1). It does not allocate. Bytes that are no name have no rule.
func (t *names) lookup(name []byte) (r rule, from int, wild bool) {
	if t.used == 0 {
		return 0, 0, false
	}
	labels := countLabels(name)
	if labels < 0 {
		return 0, 0, false
	}
	if t.exact.has(labels) {
		if r, _ := t.get(name[:len(name)-1]); r != 0 {
			return r, 0, false
		}
	}
	at := 0
	for labels > 0 {
		at += int(name[at]) + 1
		labels--
		if t.wild.has(labels) {
			if _, r := t.get(name[at : len(name)-1]); r != 0 {
				return r, at, true
			}
		}
	}
	return 0, 0, false
}

// countLabels counts the labels of a name in wire form without the root's; -1
// where it is not one.
func countLabels(name []byte) (labels int) {
	if len(name) == 0 || len(name) > 255 {
		return -1
	}
	last := len(name) - 1
	at := 0
	for at < last {
		n := int(name[at])
		if n == 0 || n > 63 {
			return -1
		}
		labels++
		at += n + 1
	}
	if at != last || name[last] != 0 {
		return -1
	}
	return labels
}

// get gives the rules at a name without the root's label.
func (t *names) get(name []byte) (exact, wild rule) {
	if at, ok := t.find(name, t.hash(name)); ok {
		rules := t.records[int(at)+1+len(name):]
		return rule(binary.LittleEndian.Uint32(rules)), rule(binary.LittleEndian.Uint32(rules[ruleSize:]))
	}
	return 0, 0
}

func (t *names) hash(name []byte) uint32 {
	h := maphash.Bytes(t.seed, name)
	return uint32(h) ^ uint32(h>>32)
}

// find gives the place of a name's record, or says that there is none.
func (t *names) find(name []byte, hash uint32) (at uint32, ok bool) {
	mask := uint32(len(t.slots) - 1)
	for i := hash & mask; t.slots[i].at != 0; i = (i + 1) & mask {
		if s := t.slots[i]; s.hash == hash {
			at := s.at - 1
			n := uint32(t.records[at])
			if string(t.records[at+1:at+1+n]) == string(name) {
				return at, true
			}
		}
	}
	return 0, false
}

// put sets the exact or the wildcard rule at a name (wire form with the root's
// label, lower case). It reports false, and changes nothing, where the name has
// a rule of that kind already or there is no more room.
func (t *names) put(name []byte, wild bool, r rule) bool {
	labels := countLabels(name)
	if labels < 0 {
		return false
	}
	name = name[:len(name)-1]
	hash := t.hash(name)
	at, there := t.find(name, hash)
	if !there {
		if len(t.records) > maxNameBytes {
			return false
		}
		at = t.add(name, hash)
	}
	place := t.records[int(at)+1+len(name):]
	if wild {
		place = place[ruleSize:]
	}
	if binary.LittleEndian.Uint32(place) != 0 {
		return false
	}
	binary.LittleEndian.PutUint32(place, uint32(r))
	if wild {
		t.wild.set(labels)
	} else {
		t.exact.set(labels)
	}
	return true
}

func (t *names) add(name []byte, hash uint32) (at uint32) {
	if (t.used+1)*4 > len(t.slots)*3 {
		t.grow()
	}
	at = uint32(len(t.records))
	t.records = append(t.records, byte(len(name)))
	t.records = append(t.records, name...)
	t.records = append(t.records, 0, 0, 0, 0, 0, 0, 0, 0)
	t.take(slot{hash, at + 1})
	t.used++
	return at
}

func (t *names) take(s slot) {
	mask := uint32(len(t.slots) - 1)
	i := s.hash & mask
	for t.slots[i].at != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = s
}

func (t *names) grow() {
	old := t.slots
	t.slots = make([]slot, 1<<bits.Len(uint(len(old))))
	for _, s := range old {
		if s.at != 0 {
			t.take(s)
		}
	}
}

// clip gives back the room that was kept for more names.
func (t *names) clip() {
	t.records = append(make([]byte, 0, len(t.records)), t.records...)
}

// bytes is the memory that the table takes.
func (t *names) bytes() int { return cap(t.records) + 8*cap(t.slots) }
