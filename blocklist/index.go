package blocklist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
)

// Index is the immutable radix over reversed labels that the query path reads.
// It is built beside the live one and never changed afterwards, so any number
// of goroutines may read it.
//
// A node stands for a name that entries share as an ending or have as a whole;
// the edge that leads to it from its parent carries one label or several. The
// edges to the children of a node are neighbours in one slice, sorted by a hash
// of their first label. The hash is spread evenly, so a child is found close to
// where its hash says, whether its parent has two children or two million.
// Nothing in it is a pointer: the garbage collector has nothing to follow,
// however long the list. What bounds a Lookup in a long list is memory that is
// not in the processor's cache, so all there is to know of a node lies in one
// place.
type Index struct {
	seed   maphash.Seed
	root   node
	edges  []edge // level by level
	nodes  []byte // see node
	length int    // entries
}

// edge leads to a node.
type edge struct {
	hash uint32 // of its first label
	node uint32 // offset in Index.nodes
}

// node is a node of an Index, unpacked. Packed it is a byte of the flags below,
// a byte for the length of labels, labels, and for each flag that is set its
// numbers, little-endian.
type node struct {
	labels []byte // of the edge that leads here, in wire form, the top one first
	host   uint32 // number of the entry with scope host at this very name, or none
	domain uint32 // number of the entry with scope domain, or none
	first  uint32 // the edges to its children are Index.edges[first : first+count]
	count  uint32
}

const (
	hasHost = 1 << iota
	hasDomain
	hasChildren // first and count
)

// none stands for no entry.
const none = math.MaxUint32

// pack appends the packed node to b.
func (n *node) pack(b []byte) []byte {
	flags := len(b)
	b = append(b, 0, byte(len(n.labels)))
	b = append(b, n.labels...)
	if n.host != none {
		b[flags] |= hasHost
		b = binary.LittleEndian.AppendUint32(b, n.host)
	}
	if n.domain != none {
		b[flags] |= hasDomain
		b = binary.LittleEndian.AppendUint32(b, n.domain)
	}
	if n.count != 0 {
		b[flags] |= hasChildren
		b = binary.LittleEndian.AppendUint32(b, n.first)
		b = binary.LittleEndian.AppendUint32(b, n.count)
	}
	return b
}

// unpackLabels and unpackNumbers undo pack in two steps, since most nodes that
// are looked at turn out to be the one in question, but not all.
func unpackLabels(b []byte) []byte { return b[2 : 2+int(b[1])] }

func (n *node) unpackNumbers(b []byte) {
	flags, b := b[0], b[2+int(b[1]):]
	n.host, n.domain, n.first, n.count = none, none, 0, 0
	if flags&hasHost != 0 {
		n.host, b = binary.LittleEndian.Uint32(b), b[4:]
	}
	if flags&hasDomain != 0 {
		n.domain, b = binary.LittleEndian.Uint32(b), b[4:]
	}
	if flags&hasChildren != 0 {
		n.first, n.count = binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	}
}

// Len is the number of entries.
func (x *Index) Len() int { return x.length }

// Lookup finds the most specific entry that covers name, which is in
// uncompressed wire form and lower case. An entry for the very name comes before
// one for a name above, and among the two for the very name the one with scope
// host before the one with scope domain. An entry's number is its position in
// what NewIndex was given. Lookup does not allocate. Bytes that are no name are
// covered by nothing.
func (x *Index) Lookup(name []byte) (entry uint32, ok bool) {
	var w walk
	if !w.start(x, name) {
		return 0, false
	}
	entry = none
	for w.step(x) {
		if w.domain != none {
			entry = w.domain
		}
		if w.depth == 0 && w.host != none {
			entry = w.host
		}
	}
	return entry, entry != none
}

// Covering appends the numbers of all entries that cover name to entries, the
// most specific first: the first is the one that Lookup gives. It allocates only
// where entries has no room.
func (x *Index) Covering(entries []uint32, name []byte) []uint32 {
	var w walk
	if !w.start(x, name) {
		return entries
	}
	from := len(entries)
	for w.step(x) {
		if w.domain != none {
			entries = append(entries, w.domain)
		}
		if w.depth == 0 && w.host != none {
			entries = append(entries, w.host)
		}
	}
	slices.Reverse(entries[from:])
	return entries
}

// walk goes down an Index along a name, from the top label to the first.
type walk struct {
	node                   // where it stands; labels is not set
	name  []byte           // that is looked up
	depth int              // how many labels of name are not matched yet
	at    [maxLabels]uint8 // where the labels of name start
}

// start finds the labels of name; false if it is not a name in wire form, or the
// root, which nothing covers.
func (w *walk) start(x *Index, name []byte) bool {
	if len(name) < 3 || len(name) > maxWireName {
		return false
	}
	at := 0
	for {
		n := int(name[at])
		if n == 0 {
			break
		}
		if n > maxLabel || at+n+1 >= len(name) {
			return false
		}
		w.at[w.depth] = uint8(at)
		w.depth++
		at += n + 1
	}
	w.name, w.node = name, x.root
	return at == len(name)-1
}

// step goes to the next node on the way; false when there is none.
func (w *walk) step(x *Index) bool {
	if w.depth == 0 || w.count == 0 {
		return false
	}
	label := w.next()
	packed, ok := x.child(&w.node, label)
	if !ok {
		return false
	}
	// The rest of the edge, label by label.
	labels := unpackLabels(packed)
	for labels = labels[len(label):]; len(labels) > 0; labels = labels[len(label):] {
		if w.depth == 0 {
			return false
		}
		if label = w.next(); !bytes.HasPrefix(labels, label) {
			return false
		}
	}
	w.unpackNumbers(packed)
	return true
}

// next takes the next label from the top, with its length byte.
func (w *walk) next() []byte {
	w.depth--
	at := int(w.at[w.depth])
	return w.name[at : at+1+int(w.name[at])]
}

// child finds the child of a node whose edge begins with label, and gives it
// packed.
func (x *Index) child(n *node, label []byte) ([]byte, bool) {
	hash := x.hash(label)
	siblings := x.edges[n.first : n.first+n.count]
	for i := seek(siblings, hash); i < len(siblings) && siblings[i].hash == hash; i++ {
		packed := x.nodes[siblings[i].node:]
		if bytes.HasPrefix(unpackLabels(packed), label) {
			return packed, true
		}
	}
	return nil, false
}

// hash is seeded anew for each index, so that nobody outside can aim at it.
func (x *Index) hash(label []byte) uint32 {
	return uint32(maphash.Bytes(x.seed, label) >> 32)
}

// seek finds the first of the edges, one at least, whose hash is not below hash.
// Hashes are spread evenly over 32 bits, so the search starts where the value
// says and widens from there; its worst case is that of binary search.
func seek(edges []edge, hash uint32) int {
	guess := int(uint64(hash) * uint64(len(edges)) >> 32)
	// One of n hashes lies off its place by the square root of n, many cache
	// lines for a large n. What is found there tells where to look instead.
	off := (int64(hash) - int64(edges[guess].hash)) * int64(len(edges)) >> 32
	guess = min(max(guess+int(off), 0), len(edges)-1)

	low, high := 0, len(edges) // everything before low is below hash, nothing from high on
	if edges[guess].hash < hash {
		low = guess + 1
		for step := 1; guess+step < high; step *= 2 {
			if edges[guess+step].hash >= hash {
				high = guess + step
				break
			}
			low = guess + step + 1
		}
	} else {
		high = guess
		for step := 1; guess-step >= low; step *= 2 {
			if edges[guess-step].hash < hash {
				low = guess - step + 1
				break
			}
			high = guess - step
		}
	}
	for low < high {
		middle := int(uint(low+high) / 2)
		if edges[middle].hash < hash {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

// NewIndex indexes the entries of a list. An entry's number is its position in
// entries. It fails for names that are not canonical and for two entries with
// the same name and scope; a list that Parse accepted has neither.
func NewIndex(entries []Entry) (*Index, error) {
	return newIndex(entries, func(int) bool { return true })
}

// newIndex is NewIndex over those of the entries whose number enforced takes; it
// is asked once for each, in order. Their numbers stay.
func newIndex(entries []Entry, enforced func(number int) bool) (*Index, error) {
	if uint64(len(entries)) >= none {
		return nil, fmt.Errorf("index: %d entries are more than it can number", len(entries))
	}
	keys := make([]key, 0, len(entries))
	var text []byte
	for i := range entries {
		e := &entries[i]
		if err := CheckName(e.Name); err != nil {
			return nil, fmt.Errorf("index entry %d (%s): %w", i, e.ID, err)
		}
		if e.Scope != ScopeHost && e.Scope != ScopeDomain {
			return nil, fmt.Errorf("index entry %d (%s): no such %v", i, e.ID, e.Scope)
		}
		if !enforced(i) {
			continue
		}
		start := len(text)
		text = appendReversed(text, e.Name)
		if uint64(len(text)) > math.MaxUint32 {
			return nil, errors.New("index: the names are longer than 4 GiB in all")
		}
		keys = append(keys, key{start: uint32(start), length: uint8(len(text) - start), scope: e.Scope, entry: uint32(i)})
	}
	b := builder{text: text, keys: keys, x: &Index{seed: maphash.MakeSeed(), length: len(keys)}}
	return b.build()
}

// appendReversed appends the labels of a canonical name, each with its length,
// the top one first, without the root.
func appendReversed(text []byte, name string) []byte {
	for end := len(name); end > 0; {
		dot := end - 1
		for dot >= 0 && name[dot] != '.' {
			dot--
		}
		text = append(text, byte(end-dot-1))
		text = append(text, name[dot+1:end]...)
		end = dot
	}
	return text
}
