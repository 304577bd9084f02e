package local

import (
	"slices"

	"github.com/miekg/dns"

	"cordon/resolver/wire"
)

// record is a resource record without its owner.
type record struct {
	typ   uint16
	ttl   uint32 // seconds
	rdata []byte // names in it are not compressed
}

// zone is a zone served here.
type zone struct {
	soa   record
	names map[string][]record // records of each name that exists, by wire name; none for an empty one
	below []record            // records of every name below the apex that is not in names
	// anyName: every name below the apex exists. Otherwise those that are not
	// in names get NXDOMAIN.
	anyName bool
	// delegated: the parent delegates it for real, so DS is asked there.
	delegated bool
}

// answer answers a question for a name at or below the apex, which begins at
// offset apex of name.
func (z *zone) answer(name []byte, apex int, qtype uint16) Answer {
	records, ok := z.names[string(name)]
	if !ok {
		if !z.anyName {
			return Answer{Rcode: dns.RcodeNameError, soa: &z.soa, apex: apex}
		}
		records = z.below
	}
	if found := ofType(records, qtype); len(found) > 0 {
		return Answer{records: found}
	}
	return Answer{soa: &z.soa, apex: apex}
}

// ofType returns the RRset of a type; for ANY the first RRset (RFC 8482 §4.1).
// Records of one type stand together.
func ofType(records []record, qtype uint16) []record {
	if qtype == dns.TypeANY && len(records) > 0 {
		qtype = records[0].typ
	}
	is := func(r record) bool { return r.typ == qtype }
	from := slices.IndexFunc(records, is)
	if from < 0 {
		return nil
	}
	to := from + 1
	for to < len(records) && is(records[to]) {
		to++
	}
	return records[from:to]
}

// node is a label in the tree of zones.
type node struct {
	zone     *zone // nil: no zone begins here
	children map[string]*node
}

// find returns the deepest zone that name is in, and the offset of its apex in
// name; nil if there is none.
func (n *node) find(name []byte) (*zone, int) {
	if len(name) > wire.MaxName {
		return nil, 0
	}
	var labels [128]uint8 // offsets; a name has at most 127 labels
	count := 0
	for off := 0; off < len(name) && name[off] != 0 && count < len(labels); off += 1 + int(name[off]) {
		labels[count] = uint8(off)
		count++
	}
	var found *zone
	apex := 0
	end := len(name) - 1
	for count--; count >= 0; count-- {
		off := int(labels[count])
		if n = n.children[string(name[off:end])]; n == nil {
			break
		}
		if n.zone != nil {
			found, apex = n.zone, off
		}
		end = off
	}
	return found, apex
}

// add puts a zone into the tree.
func (n *node) add(apex []byte, z *zone) {
	var labels [][]byte
	for rest := apex; rest[0] != 0; rest = rest[1+rest[0]:] {
		labels = append(labels, rest[:1+rest[0]])
	}
	for _, label := range slices.Backward(labels) {
		child := n.children[string(label)]
		if child == nil {
			child = &node{}
			if n.children == nil {
				n.children = make(map[string]*node)
			}
			n.children[string(label)] = child
		}
		n = child
	}
	n.zone = z
}
