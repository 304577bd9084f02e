package tlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
)

const hashSize = 32

var ranges = compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

// tree gives the tiles of the log at one checkpoint, each proven to belong under
// its root. It is used by one goroutine.
//
// A tree of n leaves has, at each tile level k, at most one partial tile: the
// last one, with (n / 256^k) mod 256 hashes. Together these partial tiles are
// the edge, and their hashes, each the root of 256^k leaves, from the highest
// level down, make up the tree: one computation proves them all. Every full tile
// hashes to one entry of its parent tile, and so on up to the edge.
type tree struct {
	src   Source
	cp    Checkpoint
	edge  map[uint64][][]byte // proven partial tiles by level; nil before prove
	kept  map[uint64]keptTile // by level: the full tile that was proven last
	names []string            // paths of the edge
}

type keptTile struct {
	index  uint64
	hashes [][]byte
}

func newTree(src Source, cp Checkpoint) *tree {
	return &tree{src: src, cp: cp, kept: map[uint64]keptTile{}}
}

// tile gives the hashes of a tile, as many as it has at this checkpoint.
func (t *tree) tile(ctx context.Context, level, index uint64) ([][]byte, error) {
	if err := t.prove(ctx); err != nil {
		return nil, err
	}
	if p := layout.PartialTileSize(level, index, t.cp.Size); p > 0 {
		return t.edge[level], nil
	}
	if k, ok := t.kept[level]; ok && k.index == index {
		return k.hashes, nil
	}
	hashes, name, err := t.read(ctx, level, index, 0)
	if err != nil {
		return nil, err
	}
	parent, err := t.tile(ctx, level+1, index/layout.TileWidth)
	if err != nil {
		return nil, err
	}
	i := index % layout.TileWidth
	if i >= uint64(len(parent)) {
		return nil, fmt.Errorf("tile %s is not below a checkpoint of %d leaves", name, t.cp.Size)
	}
	if !bytes.Equal(subtree(hashes), parent[i]) {
		return nil, &DamageError{Path: name, Reason: fmt.Sprintf("it does not hash to what the checkpoint of %d leaves binds", t.cp.Size)}
	}
	t.kept[level] = keptTile{index, hashes}
	return hashes, nil
}

// prove reads the edge and compares it with the checkpoint's root.
func (t *tree) prove(ctx context.Context) error {
	if t.edge != nil {
		return nil
	}
	edge := map[uint64][][]byte{}
	whole := ranges.NewEmptyRange(0)
	t.names = nil
	for level := t.top(); ; level-- {
		width := uint64(1) << (layout.TileHeight * level) // leaves below one hash
		count := t.cp.Size / width
		if p := count % layout.TileWidth; p > 0 {
			hashes, name, err := t.read(ctx, level, count/layout.TileWidth, uint8(p))
			if err != nil {
				return err
			}
			edge[level] = hashes
			t.names = append(t.names, name)
			for _, h := range hashes {
				one, err := ranges.NewRange(whole.End(), whole.End()+width, [][]byte{h})
				if err == nil {
					err = whole.AppendRange(one, nil)
				}
				if err != nil {
					return fmt.Errorf("hash the edge of the tree: %w", err)
				}
			}
		}
		if level == 0 {
			break
		}
	}
	root, err := whole.GetRootHash(nil)
	if err != nil {
		return fmt.Errorf("hash the edge of the tree: %w", err)
	}
	if t.cp.Size == 0 {
		root = rfc6962.DefaultHasher.EmptyRoot()
	}
	if !bytes.Equal(root, t.cp.Root[:]) {
		return t.locate(ctx, edge)
	}
	t.edge = edge
	return nil
}

// top is the highest tile level of the tree.
func (t *tree) top() uint64 {
	top := uint64(0)
	for n := t.cp.Size; n >= layout.TileWidth; n /= layout.TileWidth {
		top++
	}
	return top
}

// locate looks for the place where an edge that does not hash to the root
// contradicts what lies below it. Where there is none, all the files agree with
// one another and not with the checkpoint.
func (t *tree) locate(ctx context.Context, edge map[uint64][][]byte) error {
	for level := t.top(); level > 0; level-- {
		hashes := edge[level]
		first := t.cp.Size >> (layout.TileHeight * level) / layout.TileWidth * layout.TileWidth
		for i, h := range hashes {
			child := first + uint64(i)
			below, name, err := t.read(ctx, level-1, child, 0)
			if err != nil {
				return err
			}
			if !bytes.Equal(subtree(below), h) {
				return &DamageError{Path: name, Reason: fmt.Sprintf("it does not hash to entry %d of %s, nor that to the checkpoint", i, layout.TilePath(level, child/layout.TileWidth, uint8(len(hashes))))}
			}
		}
	}
	if hashes := edge[0]; hashes != nil {
		index := t.cp.Size / layout.TileWidth
		entries, name, err := readBundle(ctx, t.src, index, len(hashes))
		if err != nil {
			return err
		}
		for i, entry := range entries {
			if leaf := index*layout.TileWidth + uint64(i); !bytes.Equal(rfc6962.DefaultHasher.HashLeaf(entry), hashes[i]) {
				return &DamageError{Path: name, Leaf: &leaf, Reason: "it is not the leaf whose hash is in " + layout.TilePath(0, index, uint8(len(hashes))) + ", nor does that hash to the checkpoint"}
			}
		}
	}
	return &DamageError{
		Path:   checkpointPath,
		Reason: fmt.Sprintf("the tiles at the edge of the tree (%v) do not hash to the root %x of its %d leaves", t.names, t.cp.Root, t.cp.Size),
	}
}

// read reads a tile of width p (0 means full), unproven.
func (t *tree) read(ctx context.Context, level, index uint64, p uint8) ([][]byte, string, error) {
	raw, name, err := readPartial(ctx, t.src, func(p uint8) string { return layout.TilePath(level, index, p) }, p)
	if err != nil {
		return nil, name, err
	}
	want := int(p)
	if p == 0 {
		want = layout.TileWidth
	}
	var tile api.HashTile
	if err := tile.UnmarshalText(raw); err != nil || len(tile.Nodes) < want {
		return nil, name, &DamageError{Path: name, Reason: fmt.Sprintf("%d bytes are not a tile of %d hashes", len(raw), want)}
	}
	return tile.Nodes[:want], name, nil
}

// subtree is the root over the hashes of a full tile.
func subtree(hashes [][]byte) []byte {
	r := ranges.NewEmptyRange(0)
	for _, h := range hashes {
		if err := r.Append(h, nil); err != nil {
			return nil // equals no hash
		}
	}
	root, err := r.GetRootHash(nil)
	if err != nil {
		return nil
	}
	return root
}

// readBundle reads the entries of a bundle of width n, unproven.
func readBundle(ctx context.Context, src Source, index uint64, n int) ([][]byte, string, error) {
	raw, name, err := readPartial(ctx, src, func(p uint8) string { return layout.EntriesPath(index, p) }, uint8(n%layout.EntryBundleWidth))
	if err != nil {
		var damage *DamageError
		if errors.As(err, &damage) {
			first := index * layout.EntryBundleWidth
			damage.Leaf = &first
		}
		return nil, name, err
	}
	var bundle api.EntryBundle
	err = bundle.UnmarshalText(raw)
	if err == nil && len(bundle.Entries) < n {
		err = fmt.Errorf("it holds %d leaves of %d", len(bundle.Entries), n)
	}
	if err != nil {
		leaf := index*layout.EntryBundleWidth + uint64(len(bundle.Entries))
		return nil, name, &DamageError{Path: name, Leaf: &leaf, Reason: err.Error()}
	}
	return bundle.Entries[:n], name, nil
}
