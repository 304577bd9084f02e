package rpz

import (
	"bytes"
	"encoding/binary"
	"iter"
	"net"
	"slices"

	"github.com/miekg/dns"
)

// policy is what a name gets: the addresses of a stop page, and for how long. Two
// that are equal say the same, whichever list and category they come from. The
// zero policy is none.
type policy struct {
	ttl  uint32 // seconds
	a    string // addresses, 4 bytes each
	aaaa string // addresses, 16 bytes each
}

func (p policy) records() int { return len(p.a)/net.IPv4len + len(p.aaaa)/net.IPv6len }

// node is a name with what it gets, and what the names below it get (its
// wildcard).
type node struct {
	key          []byte // see keyOf; of the cursor, until it moves
	exact, below policy
}

// nodes are names in canonical order (RFC 4034 §6.1), packed: a million of them
// take some 20 MB, and no pointer that the garbage collector follows. Records are
// made from them as they are sent.
//
// A name is, packed: how many bytes of its key it shares with the one before, how
// many follow, these, and the numbers of its two policies.
type nodes struct {
	policies []policy // by number; the first is none
	packed   []byte
	length   int
	records  int

	number map[policy]int // while it is written
	last   []byte         // key of the last node; while it is written
}

// add appends a node, which comes after all that are there.
func (n *nodes) add(key []byte, exact, below policy) {
	if n.number == nil {
		n.number = map[policy]int{{}: 0}
		n.policies = []policy{{}}
	}
	shared := 0
	for shared < min(len(key), len(n.last)) && key[shared] == n.last[shared] {
		shared++
	}
	n.packed = append(n.packed, byte(shared), byte(len(key)-shared))
	n.packed = append(n.packed, key[shared:]...)
	for _, p := range []policy{exact, below} {
		number, known := n.number[p]
		if !known {
			number = len(n.policies)
			n.number[p] = number
			n.policies = append(n.policies, p)
		}
		n.packed = binary.AppendUvarint(n.packed, uint64(number))
		n.records += p.records()
	}
	n.last = append(n.last[:0], key...)
	n.length++
}

// put is add for a node that says something.
func (n *nodes) put(key []byte, what node) {
	if what.exact != (policy{}) || what.below != (policy{}) {
		n.add(key, what.exact, what.below)
	}
}

// done gives back what only writing needed.
func (n *nodes) done() {
	n.number, n.last = nil, nil
	n.packed = slices.Clip(n.packed)
}

// cursor goes through nodes in order.
type cursor struct {
	of   *nodes
	rest []byte
	key  []byte
	node node
}

func (n *nodes) cursor() *cursor { return &cursor{of: n, rest: n.packed} }

// next moves to the next node, and tells whether there is one.
func (c *cursor) next() bool {
	if len(c.rest) == 0 {
		c.node = node{}
		return false
	}
	shared, more := int(c.rest[0]), int(c.rest[1])
	c.key = append(c.key[:shared], c.rest[2:2+more]...)
	c.rest = c.rest[2+more:]
	c.node = node{key: c.key, exact: c.policy(), below: c.policy()}
	return true
}

func (c *cursor) policy() policy {
	number, size := binary.Uvarint(c.rest)
	c.rest = c.rest[size:]
	return c.of.policies[number]
}

// all gives the resource records of the nodes as they stand in a zone, in
// canonical order: a wildcard comes right after its own name, since "*" is before
// every byte that a listed name may hold.
func (n *nodes) all(zone string) iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		for c := n.cursor(); c.next(); {
			owner := ownerOf(c.node.key, zone)
			if !c.node.exact.each(owner, yield) || !c.node.below.each("*."+owner, yield) {
				return
			}
		}
	}
}

// each gives the records of a policy.
func (p policy) each(owner string, yield func(dns.RR) bool) bool {
	for a := p.a; a != ""; a = a[net.IPv4len:] {
		if !yield(&dns.A{Hdr: p.header(owner, dns.TypeA), A: net.IP(a[:net.IPv4len])}) {
			return false
		}
	}
	for a := p.aaaa; a != ""; a = a[net.IPv6len:] {
		if !yield(&dns.AAAA{Hdr: p.header(owner, dns.TypeAAAA), AAAA: net.IP(a[:net.IPv6len])}) {
			return false
		}
	}
	return true
}

func (p policy) header(owner string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: p.ttl}
}

// endOfLabel ends each label of a key. No listed name holds it, and it is before
// all that a name may hold: keys compared byte by byte are in canonical order, and
// the keys of the names below a name begin with its key.
const endOfLabel = 0

// appendKey appends the key of a listed name: its labels from the last to the
// first, each with its end. It is as long as the name on the wire without the
// root's label.
func appendKey(key []byte, name string) []byte {
	for end := len(name); end >= 0; {
		start := end
		for start > 0 && name[start-1] != '.' {
			start--
		}
		key = append(key, name[start:end]...)
		key = append(key, endOfLabel)
		end = start - 1
	}
	return key
}

// ownerOf is the owner name that stands for a key in a zone.
func ownerOf(key []byte, zone string) string {
	owner := make([]byte, 0, len(key)+len(zone))
	for end := len(key) - 1; end >= 0; {
		start := bytes.LastIndexByte(key[:end], endOfLabel) + 1
		owner = append(owner, key[start:end]...)
		owner = append(owner, '.')
		end = start - 1
	}
	return string(append(owner, zone...))
}
