package blocklist

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// key is one entry while the index is built: its name's labels, reversed, in the
// builder's text.
type key struct {
	start  uint32
	entry  uint32
	length uint8
	scope  Scope
}

// group is a run of keys that share the labels of one node.
type group struct {
	low, high uint32 // keys[low:high]
	above     uint8  // bytes of those keys that the nodes above hold
	depth     uint8  // bytes that those and the node itself hold
}

// builder lays out an Index from sorted keys, level by level.
type builder struct {
	text []byte
	keys []key
	x    *Index

	children []child // of the node at hand, kept to be used again
}

type child struct {
	hash uint32
	group
}

func (b *builder) labels(k key) []byte { return b.text[k.start : k.start+uint32(k.length)] }

func (b *builder) build() (*Index, error) {
	// Each label begins with its length, so byte order keeps names with equal
	// endings together and puts a name before those below it.
	slices.SortFunc(b.keys, func(p, q key) int {
		if c := bytes.Compare(b.labels(p), b.labels(q)); c != 0 {
			return c
		}
		return cmp.Compare(p.scope, q.scope)
	})
	x := b.x
	root, err := b.node(group{high: uint32(len(b.keys))})
	if err != nil {
		return nil, err
	}
	x.root = root
	groups := b.groups(nil) // one for each of x.edges
	for i := 0; i < len(groups); i++ {
		n, err := b.node(groups[i])
		if err != nil {
			return nil, err
		}
		if uint64(len(x.nodes)) > math.MaxUint32 {
			return nil, errors.New("index: the list is too large for it")
		}
		x.edges[i].node = uint32(len(x.nodes))
		x.nodes = n.pack(x.nodes)
		groups = b.groups(groups)
	}
	x.edges, x.nodes = slices.Clip(x.edges), slices.Clip(x.nodes)
	return x, nil
}

// groups appends the node's children, which node has found, to those that wait
// to be laid out.
func (b *builder) groups(waiting []group) []group {
	for _, c := range b.children {
		waiting = append(waiting, c.group)
	}
	return waiting
}

// node makes the node of a group, and the edges to its children.
func (b *builder) node(g group) (node, error) {
	n := node{host: none, domain: none}
	if g.depth > 0 { // the root has no labels
		n.labels = b.labels(b.keys[g.low])[g.above:g.depth]
	}
	if err := b.own(&n, &g); err != nil {
		return n, err
	}
	b.split(g)
	n.first, n.count = uint32(len(b.x.edges)), uint32(len(b.children))
	for _, c := range b.children {
		b.x.edges = append(b.x.edges, edge{hash: c.hash})
	}
	return n, nil
}

// own takes the keys that end at the node off its group: its own entries.
func (b *builder) own(n *node, g *group) error {
	for ; g.low < g.high && b.keys[g.low].length == g.depth; g.low++ {
		k := b.keys[g.low]
		slot := &n.host
		if k.scope == ScopeDomain {
			slot = &n.domain
		}
		if *slot != none {
			return fmt.Errorf("index: entries %d and %d have the same name and scope %v", *slot, k.entry, k.scope)
		}
		*slot = k.entry
	}
	return nil
}

// split sets b.children to the groups that g falls into by the next label, sorted
// by the hash of that label.
func (b *builder) split(g group) {
	b.children = b.children[:0]
	for low := g.low; low < g.high; {
		text := b.labels(b.keys[low])
		label := text[g.depth : g.depth+1+text[g.depth]]
		shared := text[:int(g.depth)+len(label)]
		high := low + 1
		for high < g.high && bytes.HasPrefix(b.labels(b.keys[high]), shared) {
			high++
		}
		b.children = append(b.children, child{b.x.hash(label), group{low, high, g.depth, b.shared(low, high, len(shared))}})
		low = high
	}
	slices.SortFunc(b.children, func(p, q child) int { return cmp.Compare(p.hash, q.hash) })
}

// shared is the length of the whole labels that all of keys[low:high] begin with,
// of which length is known to be shared. Sorted as they are, the first and the
// last tell.
func (b *builder) shared(low, high uint32, length int) uint8 {
	first, last := b.labels(b.keys[low]), b.labels(b.keys[high-1])
	for length < len(first) {
		next := length + 1 + int(first[length])
		if len(last) < next || !bytes.Equal(first[length:next], last[length:next]) {
			break
		}
		length = next
	}
	return uint8(length)
}
