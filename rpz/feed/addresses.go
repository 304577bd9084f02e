package feed

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// addresses holds the rules of a zone that go by addresses. Prefixes are laid
// out side by side as they cover one another, so that one binary search finds
// the longest that covers an address (§5 of the draft: the longest wins).
type addresses struct {
	prefixes []prefixRule // sorted by address, the shorter first
	spans    []span       // sorted; each ends where the next begins
}

type prefixRule struct {
	prefix netip.Prefix
	rule   rule
}

// span begins at an address of 128 bits and goes by a prefix.
type span struct {
	from   key
	prefix int32 // in addresses.prefixes; -1: none
}

// key is an address as a number. IPv4 addresses are those of ::ffff:0:0/96, as
// §4.1.1 of the draft has it; what covers more than those is IPv6 alone.
type key struct{ high, low uint64 }

func keyOf(a netip.Addr) key {
	b := a.As16()
	return key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (k key) compare(o key) int {
	return cmp.Or(cmp.Compare(k.high, o.high), cmp.Compare(k.low, o.low))
}

// after is the key behind the last of a prefix of that many bits (of 128) that
// begins at k; false where there is none.
func (k key) after(bits int) (key, bool) {
	switch {
	case bits == 0:
		return key{}, false
	case bits <= 64:
		high := k.high + 1<<(64-bits)
		return key{high, 0}, high != 0
	}
	low := k.low + 1<<(128-bits)
	if low != 0 {
		return key{k.high, low}, true
	}
	return key{k.high + 1, 0}, k.high+1 != 0
}

// longest finds the longest prefix that covers an address. It does not allocate.
func (t *addresses) longest(a netip.Addr) (prefixRule, bool) {
	if len(t.spans) == 0 {
		return prefixRule{}, false
	}
	k := keyOf(a)
	low, high := 0, len(t.spans) // the last span that begins at or before k
	for low < high {
		if middle := int(uint(low+high) >> 1); t.spans[middle].from.compare(k) <= 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == 0 || t.spans[low-1].prefix < 0 {
		return prefixRule{}, false
	}
	p := t.prefixes[t.spans[low-1].prefix]
	if p.prefix.Addr().Is4() != a.Unmap().Is4() {
		return prefixRule{}, false // ::/0 is not about IPv4
	}
	return p, true
}

// bitsOf is the length of a prefix among 128 bits.
func bitsOf(p netip.Prefix) int {
	if p.Addr().Is4() {
		return 96 + p.Bits()
	}
	return p.Bits()
}

// newAddresses lays out prefixes, of which no two are equal. It takes the slice.
func newAddresses(all []prefixRule) addresses {
	slices.SortFunc(all, func(a, b prefixRule) int {
		return cmp.Or(keyOf(a.prefix.Addr()).compare(keyOf(b.prefix.Addr())), cmp.Compare(bitsOf(a.prefix), bitsOf(b.prefix)))
	})
	t := addresses{prefixes: all}
	var open []int32 // prefixes that cover the place at hand, the longest last
	// begin says by which prefix it goes from an address on.
	begin := func(from key, prefix int32) {
		if n := len(t.spans); n > 0 && t.spans[n-1].from == from {
			t.spans[n-1].prefix = prefix
			return
		}
		t.spans = append(t.spans, span{from, prefix})
	}
	// end ends the prefixes that end at or before an address, or all.
	end := func(k key, all bool) {
		for len(open) > 0 {
			p := t.prefixes[open[len(open)-1]].prefix
			behind, more := keyOf(p.Addr()).after(bitsOf(p))
			if !all && (!more || behind.compare(k) > 0) {
				return
			}
			open = open[:len(open)-1]
			if !more {
				continue
			}
			outer := int32(-1)
			if len(open) > 0 {
				outer = open[len(open)-1]
			}
			begin(behind, outer)
		}
	}
	for i := range t.prefixes {
		from := keyOf(t.prefixes[i].prefix.Addr())
		end(from, false)
		begin(from, int32(i))
		open = append(open, int32(i))
	}
	end(key{}, true)
	t.spans = slices.Clip(t.spans)
	return t
}
