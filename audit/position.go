package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"cordon/audit/tlog"
	"cordon/blocklog"
)

// position is how far the audit log says that sealing has come.
type position struct {
	next   uint64 // first record that is not sealed
	sealed *Leaf  // last leaf that covers records; nil when there is none
}

// position reads the audit log's last leaves.
func (s *Sealer) position(ctx context.Context) (position, error) {
	size, err := s.c.Log.Size(ctx)
	if err != nil {
		return position{}, err
	}
	s.m.size.Set(float64(size))
	if size == 0 {
		return position{next: 1}, nil
	}
	publishing, cancel := context.WithTimeout(ctx, 30*time.Second) // a full disk is a failure, not a silence
	defer cancel()
	if err := s.c.Log.Published(publishing, size-1); err != nil {
		return position{}, err
	}
	r := tlog.NewReader(tlog.FolderSource(s.c.LogDir), s.c.Verifier)
	cp, err := r.Checkpoint(ctx)
	if err != nil {
		return position{}, err
	}
	var p position
	const step = 256 // a bundle is read whole anyhow
	for end := cp.Size; p.sealed == nil && end > 0; {
		from := (end - 1) / step * step
		for l, err := range r.Leaves(ctx, cp, from) {
			if err != nil {
				return position{}, fmt.Errorf("find the end of the audit log: %w", err)
			}
			if l.Index >= end {
				break
			}
			leaf, err := ParseLeaf(l.Data)
			if err != nil {
				return position{}, fmt.Errorf("find the end of the audit log: leaf %d: %w", l.Index, err)
			}
			if l.Index == cp.Size-1 {
				p.next = leaf.Next
			}
			if leaf.covers() {
				p.sealed = &leaf
			}
		}
		end = from
	}
	return p, nil
}

// awaitBlocklog waits until there is a segment. A folder that is missing or
// empty may be one that is not mounted yet, or a resolver that never ran: it is
// an alarm, and not yet a gap.
func (s *Sealer) awaitBlocklog(ctx context.Context) error {
	defer s.m.waiting.Set(0)
	for told := false; ; {
		entries, err := os.ReadDir(s.c.Blocklog)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read block log: %w", err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".blog") {
				return nil
			}
		}
		if !told {
			s.m.waiting.Set(1)
			s.c.Logger.Warn("there is no block log yet; waiting for the resolver", "blocklog", s.c.Blocklog)
			told = true
		}
		if s.wait(ctx, s.c.Poll); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// agree makes sure that the block log still holds what was sealed last, and goes
// on from there. Where it does not, that is on record before anything else is
// sealed.
func (s *Sealer) agree(ctx context.Context, p position) error {
	oldest, end, err := blocklog.Bounds(s.c.Blocklog)
	var damage *blocklog.DamageError
	if err != nil && !errors.As(err, &damage) { // damage is met when it is read
		return err
	}
	if oldest > p.next {
		return s.gap(ctx, oldest, GapRemoved, fmt.Sprintf("the oldest record in the block log is %d", oldest))
	}
	reason := ""
	switch {
	case end < p.next:
		reason = fmt.Sprintf("the block log ends before record %d", end)
	case p.sealed != nil && p.sealed.First >= oldest && p.sealed.Last < p.next:
		same, err := s.holds(ctx, *p.sealed)
		if err != nil {
			return err
		}
		if !same {
			reason = fmt.Sprintf("records %d to %d are not those that were sealed", p.sealed.First, p.sealed.Last)
		}
	}
	if reason == "" {
		return nil
	}
	resume, err := s.lastAgreement(ctx, oldest, end)
	if err != nil {
		return err
	}
	return s.gap(ctx, resume, GapRewritten, reason)
}

// holds tells whether the block log has the records that a leaf binds.
func (s *Sealer) holds(ctx context.Context, leaf Leaf) (bool, error) {
	f := NewFolderRecords(s.c.Blocklog)
	defer f.Close()
	raw, err := f.Records(ctx, leaf.First, leaf.Last)
	var damage *blocklog.DamageError
	switch {
	case errors.As(err, &damage), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, ErrTooLong), errors.Is(err, blocklog.ErrRemoved):
		return false, nil
	case err != nil:
		return false, err
	}
	return sha256.Sum256(raw) == leaf.digest(), nil
}

// lastAgreement is the first record after the last sealed range that the block
// log still holds; its oldest record where it holds none.
func (s *Sealer) lastAgreement(ctx context.Context, oldest, end uint64) (uint64, error) {
	r := tlog.NewReader(tlog.FolderSource(s.c.LogDir), s.c.Verifier)
	cp, err := r.Checkpoint(ctx)
	if err != nil {
		return 0, err
	}
	var sealed []Leaf // only First, Last and digest are kept
	for l, err := range r.Leaves(ctx, cp, 0) {
		if err != nil {
			return 0, fmt.Errorf("compare the block log with the audit log: %w", err)
		}
		leaf, err := ParseLeaf(l.Data)
		if err != nil {
			return 0, fmt.Errorf("compare the block log with the audit log: leaf %d: %w", l.Index, err)
		}
		if leaf.covers() && leaf.First >= oldest && leaf.Last < end {
			sealed = append(sealed, Leaf{First: leaf.First, Last: leaf.Last, Event: &Event{SHA256: leaf.digest()}})
		}
	}
	for i := len(sealed) - 1; i >= 0; i-- {
		same, err := s.holds(ctx, sealed[i])
		if err != nil {
			return 0, err
		}
		if same {
			return sealed[i].Last + 1, nil
		}
	}
	return oldest, nil
}
