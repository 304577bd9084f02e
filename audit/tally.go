package audit

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"slices"

	"cordon/blocklog"
)

const (
	// MaxNames is how many names below one entry have lines of their own in one
	// range. A flood of random names below a listed one is counted together past
	// it; the digest still binds each record.
	MaxNames = 200

	// A range is sealed before its leaf grows past maxTally, which leaves room
	// for the other fields below tlog.MaxLeaf, or its raw records past maxRaw, so
	// that what may be demanded and checked in one piece is bounded.
	maxTally = 60 << 10
	maxRaw   = 16 << 20
	// A line longer than this (names of lists and entries full of odd bytes) is
	// counted with the others.
	maxLine = 8 << 10
)

// tally counts the decisions of a range as they come. Sealing and verification
// both use it, so they cannot differ in what a range amounts to.
type tally struct {
	first, last uint64 // sequence numbers; 0 when empty
	from, to    int64  // seconds since the epoch
	bytes       uint64
	hash        hash.Hash
	lines       map[string]*Line
	names       map[entry]map[string]bool
	other       map[entry]uint64
	size        int // bytes that the lines can take in the leaf
}

type entry struct {
	list   string
	serial uint64
	id     string
}

func newTally() *tally {
	return &tally{
		hash: sha256.New(), lines: map[string]*Line{},
		names: map[entry]map[string]bool{}, other: map[entry]uint64{},
	}
}

func (t *tally) empty() bool { return t.first == 0 }

// add counts a decision; false when it does not fit and the range has to be
// sealed without it. The first decision always fits.
func (t *tally) add(r blocklog.Record, raw []byte) (bool, error) {
	if !t.empty() && t.bytes+uint64(len(raw)) > maxRaw {
		return false, nil
	}
	d := r.Decision
	key := lineKey(d)
	e := entry{d.Matches[0].List, d.Matches[0].Serial, d.Matches[0].Entry}
	if line := t.lines[key]; line != nil {
		line.Count += uint64(d.Count)
	} else if fits, err := t.addLine(key, e, d); err != nil || !fits {
		return false, err
	}
	if t.empty() {
		t.first, t.from, t.to = r.Seq, r.Time, r.Time
	}
	t.last, t.from, t.to = r.Seq, min(t.from, r.Time), max(t.to, r.Time)
	t.bytes += uint64(len(raw))
	t.hash.Write(raw)
	return true, nil
}

// addLine makes a line for a decision, or counts it with the others of its entry.
func (t *tally) addLine(key string, e entry, d *blocklog.Decision) (fits bool, err error) {
	names := t.names[e]
	if names == nil {
		names = map[string]bool{}
	}
	line := Line{
		List: e.list, Serial: e.serial, Entry: e.id,
		Name: blocklog.NameText(d.Name), Qtype: blocklog.TypeText(d.Type),
		Transport: d.Transport.String(), Action: d.Action.String(),
		Count: math.MaxUint64, Also: d.Matches[1:],
	}
	size, err := length(line)
	if err != nil {
		return false, err
	}
	if size > maxLine || len(names) >= MaxNames && !names[string(d.Name)] {
		if t.other[e] == 0 {
			size, err := length(Other{e.list, e.serial, e.id, math.MaxUint64})
			if err != nil {
				return false, err
			}
			if !t.empty() && t.size+size > maxTally {
				return false, nil
			}
			t.size += size
		}
		t.other[e] += uint64(d.Count)
		return true, nil
	}
	if !t.empty() && t.size+size > maxTally {
		return false, nil
	}
	t.size += size
	line.Count = uint64(d.Count)
	t.lines[key] = &line
	names[string(d.Name)] = true
	t.names[e] = names
	return true, nil
}

// length is the most bytes that v takes in a leaf, with its comma.
func length(v any) (int, error) {
	b, err := blocklog.Canonical(v)
	return len(b) + 1, err
}

// lineKey is equal for decisions that are counted in one line.
func lineKey(d *blocklog.Decision) string {
	b := make([]byte, 0, 128)
	b = binary.BigEndian.AppendUint16(b, d.Type)
	b = append(b, byte(d.Transport), byte(d.Action), byte(len(d.Name)))
	b = append(b, d.Name...)
	for _, m := range d.Matches {
		b = append(b, byte(len(m.List)))
		b = append(b, m.List...)
		b = binary.BigEndian.AppendUint64(b, m.Serial)
		b = append(b, byte(len(m.Entry)))
		b = append(b, m.Entry...)
	}
	return string(b)
}

// leaf is the leaf for the range.
func (t *tally) leaf() Decisions {
	l := Decisions{
		Type: TypeDecisions, FirstSeq: t.first, LastSeq: t.last,
		From: second(t.from), To: second(t.to),
		SHA256: Digest(t.hash.Sum(nil)), Bytes: t.bytes,
		Tally: make([]Line, 0, len(t.lines)),
	}
	for _, line := range t.lines {
		l.Tally = append(l.Tally, *line)
	}
	slices.SortFunc(l.Tally, compareLines)
	for e, n := range t.other {
		l.Other = append(l.Other, Other{e.list, e.serial, e.id, n})
	}
	slices.SortFunc(l.Other, func(a, b Other) int {
		return cmp.Or(cmp.Compare(a.List, b.List), cmp.Compare(a.Serial, b.Serial), cmp.Compare(a.Entry, b.Entry))
	})
	return l
}

func compareLines(a, b Line) int {
	return cmp.Or(
		cmp.Compare(a.List, b.List), cmp.Compare(a.Serial, b.Serial), cmp.Compare(a.Entry, b.Entry),
		cmp.Compare(a.Name, b.Name), cmp.Compare(a.Qtype, b.Qtype),
		cmp.Compare(a.Transport, b.Transport), cmp.Compare(a.Action, b.Action),
		slices.CompareFunc(a.Also, b.Also, func(a, b blocklog.Match) int {
			return cmp.Or(cmp.Compare(a.List, b.List), cmp.Compare(a.Serial, b.Serial), cmp.Compare(a.Entry, b.Entry))
		}),
	)
}

// normal is a leaf with question types as numbers: a type that had no mnemonic
// when it was sealed may have one when it is verified.
func (d Decisions) normal() (Decisions, error) {
	d.Tally = slices.Clone(d.Tally)
	for i := range d.Tally {
		t, err := blocklog.ParseType(d.Tally[i].Qtype)
		if err != nil {
			return Decisions{}, err
		}
		d.Tally[i].Qtype = fmt.Sprint(t)
	}
	slices.SortFunc(d.Tally, compareLines)
	return d, nil
}

// sealEvent is the leaf for an event.
func sealEvent(r blocklog.Record, raw []byte) Event {
	return Event{
		Type: r.Event.Kind, Seq: r.Seq, At: second(r.Time),
		Data: slices.Clone(r.Event.Data), SHA256: sha256.Sum256(raw),
	}
}
