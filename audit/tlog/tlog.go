// Package tlog is a transparency log in a folder, in the C2SP tlog-tiles layout:
// appended to by one process (Tessera does the work), read by anyone from the
// folder or over HTTPS, and verified without trust in whoever serves it.
//
// The audit log and the authority's register are both such logs.
package tlog

import (
	"context"
	"iter"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Options of a log that is written.
type Options struct {
	CheckpointInterval time.Duration // default 1 s
	BatchSize          uint          // leaves integrated at once; default 256
	BatchAge           time.Duration // longest wait for a batch to fill; default 50 ms
}

// Log is the writing side. One process at a time holds it (our own flock).
type Log struct{}

// Open opens or creates the log in dir. signer's name is the log's origin.
func Open(ctx context.Context, dir string, signer note.Signer, o Options) (*Log, error) {
	panic("not built")
}

// Append adds leaves in order and returns the index of the first when all are
// durable. A leaf is at most 65,535 bytes.
func (l *Log) Append(ctx context.Context, leaves ...[]byte) (uint64, error) { panic("not built") }

// Published waits until a checkpoint covers index.
func (l *Log) Published(ctx context.Context, index uint64) error { panic("not built") }

// Close publishes a checkpoint that covers every leaf and releases the lock.
func (l *Log) Close(ctx context.Context) error { panic("not built") }

// Checkpoint is a verified C2SP tlog-checkpoint.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   [32]byte
	Raw    []byte // the signed note
}

// Source gives the bytes of a file of the log by its path in the layout
// ("checkpoint", "tile/0/000", "tile/entries/000.p/5").
type Source interface {
	Read(ctx context.Context, path string) ([]byte, error) // fs.ErrNotExist where there is none
}

// Reader reads and verifies one log.
type Reader struct{}

// NewReader reads from src; every checkpoint has to be signed by v.
func NewReader(src Source, v note.Verifier) *Reader { panic("not built") }

// Checkpoint fetches and verifies the log's checkpoint.
func (r *Reader) Checkpoint(ctx context.Context) (Checkpoint, error) { panic("not built") }

// Leaves yields the leaves [from, cp.Size) with their index; each has been
// verified against cp's root before it is yielded.
func (r *Reader) Leaves(ctx context.Context, cp Checkpoint, from uint64) iter.Seq2[Leaf, error] {
	panic("not built")
}

// Consistent verifies that newer is an append-only continuation of older.
func (r *Reader) Consistent(ctx context.Context, older, newer Checkpoint) error { panic("not built") }

// Leaf is a leaf and its place.
type Leaf struct {
	Index uint64
	Data  []byte
}
