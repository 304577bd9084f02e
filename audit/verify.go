package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"cordon/audit/tlog"
	"cordon/blocklog"
)

// Kinds of finding.
const (
	FindingDamaged = "damaged" // the audit log is not what its checkpoint binds; the walk ends there
	FindingLeaf    = "leaf"    // a leaf is not of a form that the auditor writes
	FindingHole    = "hole"    // records that no leaf covers
	FindingOverlap = "overlap" // records that two leaves cover
	FindingGap     = "gap"     // the auditor itself recorded that the block log did not go on
	FindingDigest  = "digest"  // the raw records are not those that were sealed
	FindingTally   = "tally"   // a leaf does not say what its records say
	FindingRecords = "records" // raw records cannot be had, though their retention has not passed
)

// maxFindings bounds a report; what is past it is counted.
const maxFindings = 1000

// Finding is one thing that is not as it should be, and where.
type Finding struct {
	Kind   string `json:"kind"`
	Leaf   uint64 `json:"leaf"`            // index in the audit log
	First  uint64 `json:"first,omitempty"` // records concerned
	Last   uint64 `json:"last,omitempty"`
	Detail string `json:"detail"`
}

// String is the finding as a sentence.
func (f Finding) String() string {
	where := fmt.Sprintf("leaf %d", f.Leaf)
	switch {
	case f.First != 0 && f.First == f.Last:
		where += fmt.Sprintf(", record %d", f.First)
	case f.First != 0:
		where += fmt.Sprintf(", records %d to %d", f.First, f.Last)
	}
	return f.Kind + " at " + where + ": " + f.Detail
}

// Report is what Verify found out.
type Report struct {
	Checkpoint tlog.Checkpoint `json:"-"`
	Leaves     uint64          `json:"leaves"`    // verified
	Decisions  uint64          `json:"decisions"` // counted in tallies
	Records    uint64          `json:"records"`   // covered by leaves
	Events     uint64          `json:"events"`
	Next       uint64          `json:"next_seq"`   // number after the last record covered
	Compared   uint64          `json:"compared"`   // leaves whose raw records were at hand
	Removed    uint64          `json:"removed"`    // leaves whose raw records' retention has passed
	Findings   []Finding       `json:"findings"`   // at most 1000
	Unreported uint64          `json:"unreported"` // findings past that
}

// OK tells whether nothing was found.
func (r *Report) OK() bool { return len(r.Findings) == 0 }

// Verify walks every leaf of the log that cp binds. It checks that each is in
// the log, that the leaves cover the sequence of records without hole or overlap,
// and, where raw is not nil, that the digests and tallies are those of the raw
// records. What is wrong is in the report; the error says why the walk could not
// be made.
//
// Whether cp continues what was seen before is for [tlog.Reader.Consistent].
func Verify(ctx context.Context, log *tlog.Reader, cp tlog.Checkpoint, raw Records) (*Report, error) {
	v := verification{ctx: ctx, raw: raw, report: &Report{Checkpoint: cp, Next: 1, Findings: []Finding{}}}
	for l, err := range log.Leaves(ctx, cp, 0) {
		var damage *tlog.DamageError
		switch {
		case errors.As(err, &damage):
			at := v.report.Leaves
			if damage.Leaf != nil {
				at = *damage.Leaf
			}
			v.find(FindingDamaged, at, 0, 0, "%v", damage)
			return v.report, nil
		case err != nil:
			return nil, fmt.Errorf("verify audit log: %w", err)
		}
		v.report.Leaves++
		if err := v.leaf(l); err != nil {
			return nil, fmt.Errorf("verify audit log: leaf %d: %w", l.Index, err)
		}
	}
	return v.report, nil
}

type verification struct {
	ctx    context.Context
	raw    Records
	report *Report
}

func (v *verification) find(kind string, leaf, first, last uint64, format string, args ...any) {
	if len(v.report.Findings) == maxFindings {
		v.report.Unreported++
		return
	}
	v.report.Findings = append(v.report.Findings, Finding{kind, leaf, first, last, fmt.Sprintf(format, args...)})
}

// leaf checks one leaf and its place.
func (v *verification) leaf(l tlog.Leaf) error {
	leaf, err := ParseLeaf(l.Data)
	if err != nil {
		v.find(FindingLeaf, l.Index, 0, 0, "%v", err)
		return nil
	}
	begins := leaf.First
	switch {
	case leaf.Gap != nil:
		begins = leaf.Gap.Expected
		v.find(FindingGap, l.Index, min(leaf.Gap.Expected, leaf.Gap.Resume), max(leaf.Gap.Expected, leaf.Gap.Resume)-1,
			"the auditor expected record %d and went on with %d (%s): %s", leaf.Gap.Expected, leaf.Gap.Resume, leaf.Gap.Reason, leaf.Gap.Detail)
	case leaf.Mark != nil:
		begins = leaf.Mark.NextSeq
	}
	switch next := v.report.Next; {
	case begins > next:
		v.find(FindingHole, l.Index, next, begins-1, "no leaf before this one covers them")
	case begins < next:
		v.find(FindingOverlap, l.Index, begins, next-1, "a leaf before this one covers them already")
	}
	v.report.Next = leaf.Next
	switch {
	case leaf.Decisions != nil:
		v.report.Records += leaf.Last - leaf.First + 1
		for _, line := range leaf.Decisions.Tally {
			v.report.Decisions += line.Count
		}
		for _, other := range leaf.Decisions.Other {
			v.report.Decisions += other.Count
		}
	case leaf.Event != nil:
		v.report.Records++
		v.report.Events++
	default:
		return nil
	}
	if v.raw == nil {
		return nil
	}
	return v.compare(l.Index, leaf)
}

// compare holds a leaf against its raw records.
func (v *verification) compare(index uint64, leaf Leaf) error {
	if leaf.Last-leaf.First > maxRange { // a record has more than one byte
		v.find(FindingTally, index, leaf.First, leaf.Last, "no leaf seals so many records")
		return nil
	}
	raw, err := v.raw.Records(v.ctx, leaf.First, leaf.Last)
	switch {
	case v.ctx.Err() != nil:
		return v.ctx.Err()
	case errors.Is(err, blocklog.ErrRemoved):
		v.report.Removed++
		return nil
	case err != nil:
		v.find(FindingRecords, index, leaf.First, leaf.Last, "%v", err)
		return nil
	}
	v.report.Compared++
	if got, want := Digest(sha256.Sum256(raw)), leaf.digest(); got != want {
		v.find(FindingDigest, index, leaf.First, leaf.Last, "the block log's records have SHA-256 %x, sealed were %x", got, want)
		return nil
	}
	if err := matches(leaf, raw); err != nil {
		v.find(FindingTally, index, leaf.First, leaf.Last, "%v", err)
	}
	return nil
}

// matches tells whether a leaf says of its raw records what the auditor would.
func matches(leaf Leaf, raw []byte) error {
	t := newTally()
	for next, rest := leaf.First, raw; next <= leaf.Last; next++ {
		r, n, err := blocklog.Decode(rest)
		if err != nil {
			return fmt.Errorf("record %d: %w", next, err)
		}
		if r.Seq != next {
			return fmt.Errorf("record %d stands where %d should be", r.Seq, next)
		}
		if (r.Event != nil) != (leaf.Event != nil) {
			return fmt.Errorf("record %d is of another kind than the leaf", next)
		}
		if r.Event != nil {
			return sameLeaf(sealEvent(r, rest[:n]), *leaf.Event)
		}
		fits, err := t.add(r, rest[:n])
		if err != nil {
			return err
		}
		if !fits {
			return fmt.Errorf("records up to %d fill a leaf already", next-1)
		}
		rest = rest[n:]
		if next == leaf.Last && len(rest) > 0 {
			return fmt.Errorf("%d bytes follow the last record", len(rest))
		}
	}
	want, err := t.leaf().normal()
	if err != nil {
		return err
	}
	got, err := leaf.Decisions.normal()
	if err != nil {
		return err
	}
	return sameLeaf(want, got)
}

// sameLeaf compares what should stand in a leaf with what does.
func sameLeaf(want, got any) error {
	w, err := blocklog.Canonical(want)
	if err != nil {
		return err
	}
	g, err := blocklog.Canonical(got)
	if err != nil {
		return err
	}
	if string(w) == string(g) {
		return nil
	}
	at := 0
	for at < min(len(w), len(g)) && w[at] == g[at] {
		at++
	}
	return fmt.Errorf("the records say …%.120s, the leaf …%.120s", w[max(0, at-20):], g[max(0, at-20):])
}
