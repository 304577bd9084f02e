package oversight

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"cordon/audit/tlog"
)

// Verify checks the copies, each alone and against each other:
//
//   - of each log, that every checkpoint ever seen is signed and belongs to one
//     history that only grows, and that every leaf is in it;
//   - of the register, that every statement was signed by an officer who might,
//     and that every list holds what was approved and nothing else;
//   - of each published list at hand, that it is the one in the register, entry
//     by entry;
//   - of each audit log, that it covers the resolver's records without a hole,
//     that what it says of them is so where they can be had, that each list
//     applied was published, and that each block was by an entry of it.
//
// It trusts no server: only raw records are asked for, and held against their
// digests. What is wrong is in the report; a log that was never mirrored is named
// there as missing. The error says why no report could be made (ErrNotMirrored
// where there is no copy of anything).
func (d *Desk) Verify(ctx context.Context) (*Report, error) {
	unlock, err := d.shared(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	v := &verification{desk: d, broken: map[string]bool{}, report: &Report{
		At: d.around.Clock().UTC().Truncate(time.Second), Logs: []*LogReport{}, Findings: []Finding{}, NotChecked: []string{}, Missing: []string{},
	}}
	var register *registerView
	if m := d.register(); m != nil {
		if register, err = v.register(ctx, m); err != nil {
			return nil, err
		}
	} else {
		v.notChecked("The authority's register is not followed: whether lists and blocks go back to decisions was not looked at.")
	}
	if err := v.publication(ctx, register); err != nil {
		return nil, err
	}
	for _, m := range d.audits() {
		if err := v.audit(ctx, m, register); err != nil {
			return nil, err
		}
	}
	if len(d.audits()) == 0 {
		v.notChecked("No audit log is followed: what resolvers do with the lists was not looked at.")
	}
	if len(v.report.Missing) == len(d.logs) {
		return nil, fmt.Errorf("log %s: %w", strings.Join(v.report.Missing, ", "), ErrNotMirrored)
	}
	v.found.flush()
	v.report.Findings = append(v.report.Findings, v.found.all...)
	v.report.Unreported += v.found.unreported
	slices.SortStableFunc(v.report.Findings, func(a, b Finding) int { return cmp.Compare(gravity(a.Severity), gravity(b.Severity)) })
	return v.report, nil
}

func gravity(s Severity) int { return slices.Index([]Severity{Alarm, Warning, Notice}, s) }

// verification makes one report.
type verification struct {
	desk   *Desk
	report *Report
	found  findings
	broken map[string]bool // logs whose copy was found damaged
}

func (v *verification) notChecked(format string, args ...any) {
	v.report.NotChecked = append(v.report.NotChecked, fmt.Sprintf(format, args...))
}

// missing notes that there is no copy of a log.
func (v *verification) missing(m *mirror, err error) error {
	if !errors.Is(err, ErrNotMirrored) {
		return err
	}
	v.report.Missing = append(v.report.Missing, m.name)
	v.notChecked("%s: this log was never mirrored, so nothing of it was looked at.", m.name)
	return nil
}

// log checks what every log has to hold, and begins its report. ErrNotMirrored
// where there is no copy.
func (v *verification) log(ctx context.Context, m *mirror) (tlog.Checkpoint, *LogReport, *timeline, error) {
	fail := func(err error) (tlog.Checkpoint, *LogReport, *timeline, error) {
		return tlog.Checkpoint{}, nil, nil, err
	}
	cp, err := m.copied(ctx)
	if err != nil {
		return fail(err)
	}
	l := &LogReport{Name: m.name, Kind: m.kind, Origin: cp.Origin, Size: cp.Size, Root: hex.EncodeToString(cp.Root[:])}
	v.report.Logs = append(v.report.Logs, l)
	if err := v.lastAttempt(m.name, m.dir, &l.Mirrored); err != nil {
		return fail(err)
	}
	evidence, err := m.conflicts()
	if err != nil {
		return fail(err)
	}
	for _, path := range evidence {
		e, err := readConflict(path)
		if err != nil {
			return fail(err)
		}
		e.Finding.What += fmt.Sprintf(". Found on %s; the evidence is %s", day(e.Found), path)
		v.found.add(e.Finding)
	}
	times, err := v.history(ctx, m, cp, l)
	if err != nil {
		return fail(err)
	}
	return cp, l, times, nil
}

// lastAttempt says what came of the last look at a server.
func (v *verification) lastAttempt(name, dir string, good *time.Time) error {
	a, err := readAttempt(dir)
	if err != nil {
		return err
	}
	*good = a.Good
	switch {
	case a.Error != "" && a.Good.IsZero():
		v.notChecked("%s: the server could never be read; the last attempt on %s failed: %s", name, minute(a.At), a.Error)
	case a.Error != "":
		v.notChecked("%s: what came after %s is not in the copy; the last attempt on %s failed: %s", name, minute(a.Good), minute(a.At), a.Error)
	case a.Finding != nil && a.Finding.Code != CodeForked && a.Finding.Code != CodeShrunk: // those are kept as evidence
		f := *a.Finding
		f.What += fmt.Sprintf(" (on %s, when the server was looked at last)", minute(a.At))
		v.found.add(f)
	}
	return nil
}

// timeline says when the official first had a checkpoint that covers a leaf.
type timeline struct {
	sizes []uint64 // ascending
	times []time.Time
}

func (t *timeline) of(leaf uint64) time.Time {
	i, _ := slices.BinarySearch(t.sizes, leaf+1)
	if i == len(t.times) {
		return time.Time{}
	}
	return t.times[i]
}

// history holds the tree that the leaves make, as it grows, against every
// checkpoint that was ever seen.
func (v *verification) history(ctx context.Context, m *mirror, cp tlog.Checkpoint, l *LogReport) (*timeline, error) {
	next, stop := iter.Pull2(m.local().Leaves(ctx, cp, 0))
	defer stop()
	times, tree := &timeline{}, ranges.NewEmptyRange(0)
	for s, err := range m.sightings() {
		if err != nil {
			v.damaged(m.name, nil, "the list of checkpoints seen is damaged, and has to be put back from a backup: %v", err)
			break
		}
		if s.Size > cp.Size {
			v.notChecked("%s: a checkpoint of %d leaves was seen, and only %d are in the copy: run \"cordon-oversight mirror\" again.", m.name, s.Size, cp.Size)
			break
		}
		for tree.End() < s.Size {
			leaf, err, _ := next()
			if err == nil {
				err = tree.Append(rfc6962.DefaultHasher.HashLeaf(leaf.Data), nil)
			}
			if stop, err := v.walkError(m.name, err); stop {
				return times, err
			}
		}
		root, err := treeRoot(tree)
		if err != nil {
			return nil, err
		}
		if root != s.Root || s.Size < tree.End() {
			v.damaged(m.name, nil, "line %d of the list of checkpoints seen (%d leaves, root %x) does not belong to the copy, whose first %d leaves have root %x",
				s.line, s.Size, s.Root, tree.End(), root)
			break
		}
		if l.Checkpoints++; l.Checkpoints == 1 {
			l.Since = s.at
		}
		times.sizes, times.times = append(times.sizes, s.Size), append(times.times, s.at)
	}
	return times, nil
}

func treeRoot(tree *compact.Range) (root [hashSize]byte, err error) {
	if tree.End() == 0 {
		return [hashSize]byte(rfc6962.DefaultHasher.EmptyRoot()), nil
	}
	b, err := tree.GetRootHash(nil)
	if err != nil {
		return root, fmt.Errorf("hash the log: %w", err)
	}
	return [hashSize]byte(b), nil
}

// damaged finds that a copy is damaged, once for each log.
func (v *verification) damaged(name string, leaf *uint64, format string, args ...any) {
	if v.broken[name] {
		return
	}
	v.broken[name] = true
	v.found.add(Finding{Severity: Alarm, Code: CodeMirror, Log: name, Leaf: leaf, What: fmt.Sprintf(format, args...)})
}

// walkError tells whether a walk over a copy ends: with an error, or, where the
// copy is damaged, with a finding.
func (v *verification) walkError(name string, err error) (stop bool, _ error) {
	var damage *tlog.DamageError
	if errors.As(err, &damage) {
		v.damaged(name, damage.Leaf, "the official's own copy is damaged (%s: %s): move it away, keep it, and mirror anew", damage.Path, damage.Reason)
		return true, nil
	}
	return err != nil, err
}

func day(t time.Time) string    { return t.UTC().Format("2 January 2006") }
func minute(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }
