package oversight

import (
	"fmt"
	"strings"
)

// Severity says what a finding asks of the official.
type Severity string

// The severities.
const (
	// Alarm: something is not as it was signed for. There is no innocent course of
	// events that leads to it short of a defect of the software.
	Alarm Severity = "alarm"
	// Warning: something is irregular and has to be explained.
	Warning Severity = "warning"
	// Notice: in order, and worth knowing.
	Notice Severity = "notice"
)

// Codes of findings: stable words, explained one by one in docs/oversight.md.
const (
	CodeCheckpoint    = "checkpoint"     // a checkpoint that the log's key did not sign
	CodeForked        = "log-forked"     // a log that does not continue what was seen
	CodeShrunk        = "log-shrunk"     // a log that has fewer leaves than were seen
	CodeServed        = "log-served"     // a file that is not what the checkpoint binds
	CodeMirror        = "mirror"         // the official's own copy is damaged
	CodeOrigin        = "origin"         // a register that stands in another's log
	CodeRegister      = "register-rule"  // a leaf that the register's rules do not allow
	CodeLeaf          = "leaf-form"      // a leaf that the auditor does not write
	CodeHole          = "sequence-hole"  // records that no leaf covers
	CodeOverlap       = "sequence-twice" // records that two leaves cover
	CodeGap           = "gap"            // a gap that the auditor or the resolver put on record
	CodeRawDigest     = "raw-digest"     // raw records that are not those sealed
	CodeRawTally      = "raw-tally"      // a leaf that does not say what its records say
	CodeRawRecords    = "raw-records"    // raw records that cannot be had
	CodeListUnknown   = "list-unknown"   // a resolver applied a list that was not published
	CodeListOther     = "list-other"     // a resolver applied another list under a published serial
	CodeListBack      = "list-back"      // a resolver went back to an older list
	CodeEntry         = "entry-unlisted" // a block by an entry that the list did not hold
	CodeListMissing   = "list-not-ours"  // a block by a list that was not in force
	CodeListStale     = "list-stale"     // a block by a list that had been replaced
	CodeUnregistered  = "unregistered"   // a signed list that the register does not know
	CodeUnapproved    = "unapproved"     // a published list that is not what was approved
	CodeUnreadable    = "unreadable"     // a published list that the official cannot open
	CodePublication   = "publication"    // a publication that does not verify
	CodeExpired       = "expired"        // a publication that nobody renews, or that is withheld
	CodeAlias         = "alias"          // names blocked because they lead to a listed one
	CodeWeaker        = "weaker"         // a setting of the resolver that weakens a promise
	CodeRefused       = "list-refused"   // updates that a resolver refused
	CodeIntervention  = "intervention"   // guards, overrides and exemptions
	CodeUnknownRecord = "event-unknown"  // an event that this program does not know
)

// Finding is one thing that was found, and where.
type Finding struct {
	Severity Severity `json:"severity"`
	Code     string   `json:"code"`
	Log      string   `json:"log,omitempty"`       // name of the log
	Leaf     *uint64  `json:"leaf,omitempty"`      // index in it
	First    uint64   `json:"first_seq,omitempty"` // records of the block log; 0: none
	Last     uint64   `json:"last_seq,omitempty"`
	Serial   uint64   `json:"serial,omitempty"` // of the list; 0: none
	What     string   `json:"what"`             // a sentence
}

// Where says where in a few words.
func (f Finding) Where() string {
	var parts []string
	if f.Log != "" {
		parts = append(parts, f.Log)
	}
	if f.Leaf != nil {
		parts = append(parts, fmt.Sprintf("leaf %d", *f.Leaf))
	}
	switch {
	case f.First != 0 && f.First == f.Last:
		parts = append(parts, fmt.Sprintf("record %d", f.First))
	case f.First != 0:
		parts = append(parts, fmt.Sprintf("records %d to %d", f.First, f.Last))
	}
	if f.Serial != 0 {
		parts = append(parts, fmt.Sprintf("list %d", f.Serial))
	}
	return strings.Join(parts, ", ")
}

// String is the finding in one line.
func (f Finding) String() string {
	s := fmt.Sprintf("%s %s", f.Severity, f.Code)
	if where := f.Where(); where != "" {
		s += " (" + where + ")"
	}
	return s + ": " + f.What
}

// at is a leaf's index as a Finding has it.
func at(index uint64) *uint64 { return &index }

// maxFindings bounds a report; what is past it is counted.
const maxFindings = 1000

// findings collects what is found. What repeats is one finding that says how
// often and until where.
type findings struct {
	all        []Finding
	unreported uint64
	groups     map[string]*group
	order      []string
}

type group struct {
	finding Finding
	count   uint64
	last    uint64 // leaf
}

func (c *findings) add(f Finding) {
	if len(c.all) == maxFindings {
		c.unreported++
		return
	}
	c.all = append(c.all, f)
}

// grouped adds a finding at a leaf, once for each key.
func (c *findings) grouped(key string, leaf uint64, f Finding) {
	if g := c.groups[key]; g != nil {
		g.count++
		g.last = leaf
		return
	}
	if len(c.groups) == maxFindings {
		c.unreported++
		return
	}
	if c.groups == nil {
		c.groups = map[string]*group{}
	}
	f.Leaf = at(leaf)
	c.groups[key] = &group{finding: f, count: 1, last: leaf}
	c.order = append(c.order, key)
}

// flush moves the groups into the list.
func (c *findings) flush() {
	for _, key := range c.order {
		g := c.groups[key]
		if g.count > 1 {
			g.finding.What += fmt.Sprintf(" (%d times in all, the last in leaf %d)", g.count, g.last)
		}
		c.add(g.finding)
	}
	c.groups, c.order = nil, nil
}
