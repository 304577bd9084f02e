package tlog

import (
	"errors"
	"fmt"
)

// DamageError is a file of the log that is not what the checkpoint binds.
type DamageError struct {
	Path   string  // file in the layout
	Leaf   *uint64 // index of the leaf that differs, where it is known
	Reason string
}

func (e *DamageError) Error() string {
	if e.Leaf != nil {
		return fmt.Sprintf("transparency log is damaged: leaf %d in %s: %s", *e.Leaf, e.Path, e.Reason)
	}
	return fmt.Sprintf("transparency log is damaged: %s: %s", e.Path, e.Reason)
}

// ErrForked: two checkpoints that the log's key signed cannot belong to one
// append-only log. A *ForkError holds both, which is the evidence.
var ErrForked = errors.New("transparency log shows two histories")

// ForkError is the evidence of ErrForked.
type ForkError struct {
	Older, Newer Checkpoint
	// Root is what the newer history has as root of its first Older.Size leaves;
	// zero when it has fewer.
	Root [hashSize]byte
}

func (e *ForkError) Error() string {
	if e.Newer.Size < e.Older.Size {
		return fmt.Sprintf("%v: %s was signed with %d leaves (root %x) and now has %d (root %x)",
			ErrForked, e.Older.Origin, e.Older.Size, e.Older.Root, e.Newer.Size, e.Newer.Root)
	}
	return fmt.Sprintf("%v: the first %d leaves of %s were signed with root %x; in its checkpoint of %d leaves (root %x) they have root %x",
		ErrForked, e.Older.Size, e.Older.Origin, e.Older.Root, e.Newer.Size, e.Newer.Root, e.Root)
}

// Is makes errors.Is(err, ErrForked) hold.
func (e *ForkError) Is(target error) bool { return target == ErrForked }
