package tlog

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	flog "github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"
)

// Checkpoint is a verified C2SP tlog-checkpoint.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   [hashSize]byte
	Raw    []byte // the signed note
}

// Leaf is a leaf and its place.
type Leaf struct {
	Index uint64
	Data  []byte
}

// Reader reads and verifies one log. Its methods may be called from several
// goroutines where its source allows it.
type Reader struct {
	src      Source
	verifier note.Verifier
}

// NewReader reads from src; every checkpoint has to be signed by v, and has v's
// name as its origin.
func NewReader(src Source, v note.Verifier) *Reader { return &Reader{src: src, verifier: v} }

// ParseCheckpoint verifies a checkpoint that v signed.
func ParseCheckpoint(raw []byte, v note.Verifier) (Checkpoint, error) {
	cp, _, _, err := flog.ParseCheckpoint(raw, v.Name(), v)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint of %s: %w", v.Name(), err)
	}
	if len(cp.Hash) != hashSize {
		return Checkpoint{}, fmt.Errorf("checkpoint of %s: root of %d bytes", v.Name(), len(cp.Hash))
	}
	return Checkpoint{Origin: cp.Origin, Size: cp.Size, Root: [hashSize]byte(cp.Hash), Raw: raw}, nil
}

// Checkpoint fetches and verifies the log's checkpoint.
func (r *Reader) Checkpoint(ctx context.Context) (Checkpoint, error) {
	raw, err := r.src.Read(ctx, checkpointPath)
	if err != nil {
		return Checkpoint{}, err
	}
	return ParseCheckpoint(raw, r.verifier)
}

// Leaves yields the leaves [from, cp.Size) with their index; each has been
// verified against cp's root before it is yielded. It ends with the first
// error: a *DamageError where the log is not what cp binds.
func (r *Reader) Leaves(ctx context.Context, cp Checkpoint, from uint64) iter.Seq2[Leaf, error] {
	return func(yield func(Leaf, error) bool) {
		t := newTree(r.src, cp)
		if err := t.prove(ctx); err != nil {
			yield(Leaf{}, err)
			return
		}
		for from < cp.Size {
			entries, err := t.bundle(ctx, from/layout.EntryBundleWidth)
			if err != nil {
				yield(Leaf{}, err)
				return
			}
			for _, data := range entries[from%layout.EntryBundleWidth:] {
				if !yield(Leaf{Index: from, Data: data}, nil) {
					return
				}
				from++
			}
		}
	}
}

// bundle reads a bundle and verifies each of its leaves.
func (t *tree) bundle(ctx context.Context, index uint64) ([][]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	hashes, err := t.tile(ctx, 0, index)
	if err != nil {
		return nil, err
	}
	entries, name, err := readBundle(ctx, t.src, index, len(hashes))
	if err != nil {
		return nil, err
	}
	for i, entry := range entries {
		if leaf := index*layout.EntryBundleWidth + uint64(i); !bytes.Equal(rfc6962.DefaultHasher.HashLeaf(entry), hashes[i]) {
			return nil, &DamageError{Path: name, Leaf: &leaf, Reason: fmt.Sprintf("it is not the leaf that the checkpoint of %d leaves binds", t.cp.Size)}
		}
	}
	return entries, nil
}

// RootAt is the root that the first size leaves have in the log of cp, computed
// from tiles that are proven against cp.
func (r *Reader) RootAt(ctx context.Context, cp Checkpoint, size uint64) ([hashSize]byte, error) {
	if size > cp.Size {
		return [hashSize]byte{}, fmt.Errorf("root of %d leaves: the checkpoint has %d", size, cp.Size)
	}
	if size == 0 {
		return [hashSize]byte(rfc6962.DefaultHasher.EmptyRoot()), nil
	}
	t := newTree(r.src, cp)
	// Every subtree of the smaller tree is complete, so it is one in the larger
	// tree too, and computed from the same tiles.
	var hashes [][]byte
	for _, id := range compact.RangeNodes(0, size, nil) {
		h, err := t.node(ctx, id)
		if err != nil {
			return [hashSize]byte{}, err
		}
		hashes = append(hashes, h)
	}
	whole, err := ranges.NewRange(0, size, hashes)
	if err != nil {
		return [hashSize]byte{}, fmt.Errorf("root of %d leaves: %w", size, err)
	}
	root, err := whole.GetRootHash(nil)
	if err != nil {
		return [hashSize]byte{}, fmt.Errorf("root of %d leaves: %w", size, err)
	}
	return [hashSize]byte(root), nil
}

// node is the hash of a complete subtree.
func (t *tree) node(ctx context.Context, id compact.NodeID) ([]byte, error) {
	level, index, within, at := layout.NodeCoordsToTileAddress(uint64(id.Level), id.Index)
	hashes, err := t.tile(ctx, level, index)
	if err != nil {
		return nil, err
	}
	first, end := at<<within, (at+1)<<within
	if end > uint64(len(hashes)) {
		return nil, fmt.Errorf("subtree %v is not complete in a tree of %d leaves", id, t.cp.Size)
	}
	return subtree(hashes[first:end]), nil
}

// Consistent verifies that newer is an append-only continuation of older. The
// reader reads the newer log, from wherever it is served or from one's own
// mirror. A *ForkError (ErrForked) holds both where it is not; a *DamageError
// says that the files are not what newer binds, so nothing can be told.
func (r *Reader) Consistent(ctx context.Context, older, newer Checkpoint) error {
	if older.Origin != newer.Origin {
		return fmt.Errorf("checkpoints of two logs, %q and %q, cannot be compared", older.Origin, newer.Origin)
	}
	if newer.Size < older.Size {
		return &ForkError{Older: older, Newer: newer}
	}
	if newer.Size == older.Size {
		if newer.Root != older.Root {
			return &ForkError{Older: older, Newer: newer, Root: newer.Root}
		}
		return nil
	}
	root, err := r.RootAt(ctx, newer, older.Size)
	if err != nil {
		return err
	}
	if root != older.Root {
		return &ForkError{Older: older, Newer: newer, Root: root}
	}
	return nil
}

// FirstDifference is the index of the first leaf that two histories of a log do
// not share, for instance one's own mirror (r at cp) and what is served now
// (other at its checkpoint). It is the smaller size where one continues the
// other.
func (r *Reader) FirstDifference(ctx context.Context, cp Checkpoint, other *Reader, otherCP Checkpoint) (uint64, error) {
	a, b := newTree(r.src, cp), newTree(other.src, otherCP)
	size := min(cp.Size, otherCP.Size)
	for index := uint64(0); index*layout.TileWidth < size; index++ {
		here, err := a.tile(ctx, 0, index)
		if err != nil {
			return 0, err
		}
		there, err := b.tile(ctx, 0, index)
		if err != nil {
			return 0, err
		}
		for i := range min(len(here), len(there)) {
			if !bytes.Equal(here[i], there[i]) {
				return index*layout.TileWidth + uint64(i), nil
			}
		}
	}
	return size, nil
}

// InclusionProof proves that the leaf at index is in the log of cp (RFC 6962
// §2.1.1), for someone who has no access to the tiles.
func (r *Reader) InclusionProof(ctx context.Context, cp Checkpoint, index uint64) ([][]byte, error) {
	b, err := r.proofs(ctx, cp)
	if err != nil {
		return nil, err
	}
	p, err := b.InclusionProof(ctx, index)
	if err != nil {
		return nil, fmt.Errorf("inclusion proof for leaf %d: %w", index, err)
	}
	return p, nil
}

// ConsistencyProof proves that the log of cp continues that of the first size
// leaves (RFC 6962 §2.1.2), which is what a witness asks for.
func (r *Reader) ConsistencyProof(ctx context.Context, cp Checkpoint, size uint64) ([][]byte, error) {
	b, err := r.proofs(ctx, cp)
	if err != nil {
		return nil, err
	}
	p, err := b.ConsistencyProof(ctx, size, cp.Size)
	if err != nil {
		return nil, fmt.Errorf("consistency proof from %d leaves: %w", size, err)
	}
	return p, nil
}

// proofs builds proofs from proven tiles.
func (r *Reader) proofs(ctx context.Context, cp Checkpoint) (*client.ProofBuilder, error) {
	t := newTree(r.src, cp)
	return client.NewProofBuilder(ctx, cp.Size, func(ctx context.Context, level, index uint64, _ uint8) ([]byte, error) {
		hashes, err := t.tile(ctx, level, index)
		if err != nil {
			return nil, err
		}
		return api.HashTile{Nodes: hashes}.MarshalText()
	})
}

// VerifyInclusion checks an inclusion proof for a leaf's data.
func VerifyInclusion(cp Checkpoint, leaf Leaf, p [][]byte) error {
	hash := rfc6962.DefaultHasher.HashLeaf(leaf.Data)
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, leaf.Index, cp.Size, hash, p, cp.Root[:]); err != nil {
		return fmt.Errorf("leaf %d is not proven to be in the log of %d leaves: %w", leaf.Index, cp.Size, err)
	}
	return nil
}

// VerifyConsistency checks a consistency proof.
func VerifyConsistency(older, newer Checkpoint, p [][]byte) error {
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, older.Size, newer.Size, p, older.Root[:], newer.Root[:]); err != nil {
		return fmt.Errorf("the log of %d leaves is not proven to continue that of %d: %w", newer.Size, older.Size, err)
	}
	return nil
}
