// Package audit is the transparency log of what a resolver blocks: sealing of
// the block log into it, serving it read-only to the oversight official, and its
// verification.
//
// The leaves are canonical JSON objects with a "type" (C2SP tlog-tiles carries
// them, see package tlog). Every record of the block log is covered by exactly
// one leaf: decisions by a tallied range, events one by one as they stand. What
// is missing from the block log is covered by a gap leaf, which is a finding.
package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"cordon/blocklog"
)

// Types of the leaves that are no events of the block log.
const (
	TypeDecisions = "decisions"
	TypeStarted   = "auditor.started"
	TypeStopped   = "auditor.stopped"
	TypeGap       = "auditor.gap"
)

// Reasons of a gap.
const (
	// GapDamaged: a record of the block log is damaged.
	GapDamaged = "damaged"
	// GapRemoved: records were removed before they were sealed.
	GapRemoved = "removed"
	// GapRewritten: the block log no longer holds what was sealed, or ends
	// before it; sealing goes on after the last range that it still holds.
	GapRewritten = "rewritten"
)

// Leaf is any leaf, with the fields of its type: First and Last delimit the
// records that a decisions leaf or an event covers, Next is the number that the
// following leaf has to begin with.
type Leaf struct {
	Type        string
	First, Last uint64
	Next        uint64

	Decisions *Decisions
	Event     *Event
	Gap       *Gap
	Mark      *Mark
}

// Decisions seals a range of decisions.
type Decisions struct {
	Type     string    `json:"type"` // TypeDecisions
	FirstSeq uint64    `json:"first_seq"`
	LastSeq  uint64    `json:"last_seq"`
	From     time.Time `json:"from"`   // time of the earliest record, to the second, UTC
	To       time.Time `json:"to"`     // time of the latest record
	SHA256   Digest    `json:"sha256"` // of the raw records, as in the segment files, concatenated
	Bytes    uint64    `json:"bytes"`  // length of the raw records
	Tally    []Line    `json:"tally"`
	Other    []Other   `json:"other,omitempty"`
}

// Line counts the equal decisions of a range.
type Line struct {
	List      string           `json:"list"`
	Serial    uint64           `json:"serial"`
	Entry     string           `json:"entry"`
	Name      string           `json:"name"`  // presentation form, no trailing dot
	Qtype     string           `json:"qtype"` // mnemonic or TYPE65400
	Transport string           `json:"transport"`
	Action    string           `json:"action"`
	Count     uint64           `json:"count"`
	Also      []blocklog.Match `json:"also,omitempty"` // entries of other lists that covered the name too
}

// Other counts the decisions by one entry that have no line of their own: on
// names past the first MaxNames below the entry.
type Other struct {
	List   string `json:"list"`
	Serial uint64 `json:"serial"`
	Entry  string `json:"entry"`
	Count  uint64 `json:"count"`
}

// Event seals an event of the block log.
type Event struct {
	Type   string          `json:"type"` // as in the block log
	Seq    uint64          `json:"seq"`
	At     time.Time       `json:"at"`
	Data   json.RawMessage `json:"data"`
	SHA256 Digest          `json:"sha256"` // of the raw record
}

// Gap says that the block log does not go on where the sealing had come to.
type Gap struct {
	Type     string    `json:"type"` // TypeGap
	At       time.Time `json:"at"`
	Expected uint64    `json:"expected_seq"` // number of the record that should have come
	Resume   uint64    `json:"resume_seq"`   // number of the record that sealing goes on with; lower when it is sealed anew
	Reason   string    `json:"reason"`       // GapDamaged, ...
	Detail   string    `json:"detail"`
}

// Mark is the auditor's own start or end.
type Mark struct {
	Type    string    `json:"type"` // TypeStarted or TypeStopped
	At      time.Time `json:"at"`
	Version string    `json:"version"`
	NextSeq uint64    `json:"next_seq"`
}

// Digest is a SHA-256, in lower-case hexadecimal.
type Digest [32]byte

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != 64 || strings.ToLower(string(text)) != string(text) {
		return fmt.Errorf("%q is not a SHA-256 of 64 lower-case hexadecimal digits", text)
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// ParseLeaf reads a leaf strictly: it has to be canonical JSON with the fields
// of its type and no others.
func ParseLeaf(data []byte) (Leaf, error) {
	canonical, err := blocklog.Canonical(json.RawMessage(data))
	if err != nil {
		return Leaf{}, fmt.Errorf("audit leaf: %w", err)
	}
	if !bytes.Equal(canonical, data) {
		return Leaf{}, errors.New("audit leaf: it is not canonical JSON")
	}
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(data, &kind); err != nil {
		return Leaf{}, fmt.Errorf("audit leaf: %w", err)
	}
	l := Leaf{Type: kind.Type}
	switch l.Type {
	case "":
		return Leaf{}, errors.New("audit leaf: it has no type")
	case TypeDecisions:
		l.Decisions = &Decisions{}
		err = decode(data, l.Decisions)
		l.First, l.Last = l.Decisions.FirstSeq, l.Decisions.LastSeq
		l.Next = l.Last + 1
	case TypeStarted, TypeStopped:
		l.Mark = &Mark{}
		err = decode(data, l.Mark)
		l.Next = l.Mark.NextSeq
	case TypeGap:
		l.Gap = &Gap{}
		err = decode(data, l.Gap)
		l.Next = l.Gap.Resume
	default:
		l.Event = &Event{}
		err = decode(data, l.Event)
		l.First, l.Last = l.Event.Seq, l.Event.Seq
		l.Next = l.Last + 1
	}
	switch {
	case err != nil:
		return Leaf{}, fmt.Errorf("audit leaf of type %q: %w", l.Type, err)
	case l.Last < l.First || l.Next == 0 || l.covers() && l.First == 0:
		return Leaf{}, fmt.Errorf("audit leaf of type %q: records %d to %d, next %d", l.Type, l.First, l.Last, l.Next)
	}
	return l, nil
}

// covers tells whether the leaf seals records.
func (l Leaf) covers() bool { return l.Decisions != nil || l.Event != nil }

// digest is what the leaf binds its records with.
func (l Leaf) digest() Digest {
	if l.Decisions != nil {
		return l.Decisions.SHA256
	}
	return l.Event.SHA256
}

// decode is strict: no unknown field, and every field of v there, which holds
// when v is written back the same.
func decode(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	again, err := blocklog.Canonical(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, data) {
		return errors.New("a field is missing, or not written as it has to be")
	}
	return nil
}

// second is a record's time as it stands in a leaf.
func second(unix int64) time.Time { return time.Unix(unix, 0).UTC() }
