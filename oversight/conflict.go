package oversight

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cordon/audit/tlog"
)

// conflict is evidence that a log's key signed two histories. It can be checked
// without this program and without the log: both checkpoints are signed, and
// where both histories have the first leaf in which they differ, each leaf is
// proven to be in its own (RFC 6962 §2.1.1).
type conflict struct {
	Found   time.Time `json:"found"`
	Finding Finding   `json:"finding"`
	Ours    history   `json:"ours"`   // what was seen before, and is mirrored
	Served  history   `json:"served"` // what was served then
}

// history is one side of a conflict.
type history struct {
	Checkpoint string   `json:"checkpoint"`      // the signed note
	Leaf       string   `json:"leaf,omitempty"`  // first leaf that differs, base64
	Proof      []string `json:"proof,omitempty"` // of its inclusion, base64
}

// continues holds a checkpoint against the newest that was seen. A finding says
// that it does not continue it; then the copy is left alone and the evidence is
// kept.
func (m *mirror) continues(ctx context.Context, served *tlog.Reader, anchor, cp tlog.Checkpoint) (*Finding, error) {
	err := served.Consistent(ctx, anchor, cp)
	if err == nil {
		return nil, nil
	}
	if !errors.Is(err, tlog.ErrForked) {
		return m.damaged(err)
	}
	f := &Finding{Severity: Alarm, Code: CodeForked, Log: m.name}
	f.What = fmt.Sprintf("the log was rewritten: it was signed with %d leaves (root %x), and what is served now, signed by the same key with %d leaves (root %x), does not continue that",
		anchor.Size, anchor.Root, cp.Size, cp.Root)
	if cp.Size < anchor.Size {
		f.Code = CodeShrunk
		f.What = fmt.Sprintf("the log was cut: it was signed with %d leaves (root %x), and what is served now, signed by the same key, has %d (root %x)",
			anchor.Size, anchor.Root, cp.Size, cp.Root)
	}
	e := conflict{
		Found: m.clock().UTC().Truncate(time.Second),
		Ours:  history{Checkpoint: string(anchor.Raw)}, Served: history{Checkpoint: string(cp.Raw)},
	}
	m.locate(ctx, served, cp, f, &e)
	e.Finding = *f
	if err := m.keep(cp, e); err != nil {
		return f, fmt.Errorf("keep the evidence: %w", err)
	}
	return f, nil
}

// locate looks for the first leaf that differs, as far as both histories can be
// read. What cannot be read is said, and takes nothing from the finding.
func (m *mirror) locate(ctx context.Context, served *tlog.Reader, cp tlog.Checkpoint, f *Finding, e *conflict) {
	held, ok, err := m.held(ctx)
	if err != nil || !ok {
		f.What += "; which leaves differ cannot be told, since the copy here was never complete"
		return
	}
	first, err := m.local().FirstDifference(ctx, held, served, cp)
	if err != nil {
		f.What += fmt.Sprintf("; which leaves differ cannot be told: %v", err)
		return
	}
	switch {
	case first < held.Size && first < cp.Size:
		f.Leaf = at(first)
		f.What += fmt.Sprintf("; leaf %d is the first that differs", first)
		m.prove(ctx, m.local(), held, first, &e.Ours)
		e.Ours.Checkpoint = string(held.Raw) // the one that the proof is for
		m.prove(ctx, served, cp, first, &e.Served)
	case first == cp.Size:
		f.Leaf = at(first)
		f.What += fmt.Sprintf("; the leaves from %d on are gone, those before are the same", first)
	default:
		f.What += fmt.Sprintf("; the first %d leaves, which are all that the copy here holds, are the same", held.Size)
	}
}

// prove adds a leaf and the proof that it is in a history.
func (m *mirror) prove(ctx context.Context, r *tlog.Reader, cp tlog.Checkpoint, index uint64, into *history) {
	for leaf, err := range r.Leaves(ctx, cp, index) {
		if err != nil {
			return
		}
		proof, err := r.InclusionProof(ctx, cp, index)
		if err != nil {
			return
		}
		into.Leaf = base64.StdEncoding.EncodeToString(leaf.Data)
		for _, h := range proof {
			into.Proof = append(into.Proof, base64.StdEncoding.EncodeToString(h))
		}
		return
	}
}

// keep writes evidence down, once for each conflicting checkpoint.
func (m *mirror) keep(cp tlog.Checkpoint, e conflict) error {
	path := filepath.Join(m.conflictsDir(), fmt.Sprintf("%d-%x.json", cp.Size, cp.Root[:8]))
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err // nil: it is there
	}
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	return m.disk.replace(path, append(data, '\n'))
}

// readConflict reads evidence that was kept.
func readConflict(path string) (e conflict, err error) {
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &e)
	}
	if err != nil {
		return e, fmt.Errorf("evidence %s: %w", path, err)
	}
	return e, nil
}
