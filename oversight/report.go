package oversight

import "time"

// Report is what a verification found out, and what it could not look at.
type Report struct {
	At          time.Time          `json:"at"`
	Logs        []*LogReport       `json:"logs"`
	Publication *PublicationReport `json:"publication,omitempty"`
	Findings    []Finding          `json:"findings"`    // at most 1000, the gravest first
	Unreported  uint64             `json:"unreported"`  // findings past that
	NotChecked  []string           `json:"not_checked"` // sentences
	Missing     []string           `json:"missing"`     // logs of which there is no copy at all
}

// LogReport is what is known of one log.
type LogReport struct {
	Name        string    `json:"name"`
	Kind        string    `json:"kind"`
	Origin      string    `json:"origin"`
	Size        uint64    `json:"size"`        // leaves in the copy
	Root        string    `json:"root"`        // hexadecimal
	Checkpoints uint64    `json:"checkpoints"` // that were ever seen, each verified anew
	Since       time.Time `json:"since"`       // when the first of them was seen
	Mirrored    time.Time `json:"mirrored"`    // when the last look at the server that went well began

	Register *RegisterReport `json:"register,omitempty"`
	Audit    *AuditReport    `json:"audit,omitempty"`
}

// RegisterReport is what the register comes to.
type RegisterReport struct {
	Authority string         `json:"authority"`
	Procedure string         `json:"procedure"`
	Officers  int            `json:"officers"`
	Verified  uint64         `json:"verified"` // leaves that keep the rules, from the first
	Measures  int            `json:"measures"`
	States    map[string]int `json:"states"` // measures by state
	Lists     int            `json:"lists"`  // published
	Serial    uint64         `json:"serial"` // of the last; 0: none
	Entries   int            `json:"entries"`
	Published time.Time      `json:"published,omitzero"`
}

// AuditReport is what an audit log comes to.
type AuditReport struct {
	Records   uint64    `json:"records"`   // of the block log that leaves cover
	Decisions uint64    `json:"decisions"` // to block, as the tallies count them
	Events    uint64    `json:"events"`
	Next      uint64    `json:"next_seq"` // number after the last record covered
	Compared  uint64    `json:"compared"` // leaves whose raw records were held against them
	Removed   uint64    `json:"removed"`  // leaves whose raw records' retention has passed
	Lists     []InForce `json:"lists"`    // in force at the end of the log
}

// InForce is a list that a resolver enforces.
type InForce struct {
	List      string    `json:"list"` // name in the resolver's configuration
	Authority string    `json:"authority"`
	Serial    uint64    `json:"serial"`
	Since     time.Time `json:"since"`
}

// PublicationReport is what is known of the published lists.
type PublicationReport struct {
	Mirrored time.Time `json:"mirrored"`
	Kept     int       `json:"kept"`     // publications that verified from the pinned root on
	Compared int       `json:"compared"` // lists that were decrypted and compared with the register
}

// OK tells whether nothing was found that asks for something.
func (r *Report) OK() bool { return r.Count(Alarm) == 0 && r.Count(Warning) == 0 }

// Count is the number of findings of a severity.
func (r *Report) Count(s Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}
