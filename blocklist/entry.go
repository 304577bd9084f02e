// Package blocklist holds the list that an authority signs and a resolver
// enforces: its entries, its file format cordon-list/1, the index that the
// query path reads, the guards that an update has to pass, the store that
// survives a restart, and the watcher that brings updates in.
//
// The package knows nothing of the resolver; names in its hot path are plain
// wire-format bytes (RFC 1035 §3.1, uncompressed, lower case).
package blocklist

import (
	"net/netip"
	"time"
)

// Format is the name and version of the list's file format, the first field of
// its header line.
const Format = "cordon-list/1"

// Scope says which names an entry covers.
type Scope uint8

const (
	// ScopeHost covers the entry's name alone.
	ScopeHost Scope = iota + 1
	// ScopeDomain covers the entry's name and every name below it.
	ScopeDomain
)

// Date is a calendar day in UTC, written "2006-01-02" in the list: the legal
// clocks that it carries (the quarterly re-check) run in days.
type Date struct{ time.Time }

// Entry is one measure as the operator has to enforce it.
type Entry struct {
	ID         string    `json:"id"`          // the authority's number of the measure, unique in the list
	Name       string    `json:"name"`        // A-labels, lower case, no trailing dot (RFC 5890 §2.3.2.1)
	Scope      Scope     `json:"scope"`       // "host" or "domain"
	Category   string    `json:"category"`    // a key of Header.Categories
	LegalBasis string    `json:"legal_basis"` // e.g. "LCEN 6-1; CP 421-2-5"
	Decision   string    `json:"decision"`    // reference of the decision, shown to people who appeal
	Notified   time.Time `json:"notified"`    // when the operator is held to be notified; RFC 3339, UTC, seconds
	InForce    time.Time `json:"in_force"`    // from when the measure applies
	ReviewBy   Date      `json:"review_by"`   // day by which it has to be re-checked
}

// StopPage is where people who ask for a listed name of one category are led.
type StopPage struct {
	IPv4 []netip.Addr `json:"ipv4"` // A records of the forged answer; may be empty
	IPv6 []netip.Addr `json:"ipv6"` // AAAA records of the forged answer; may be empty
	Page string       `json:"page"` // address (URL) of the information page, EDE EXTRA-TEXT
}

// Header is the first line of a list.
type Header struct {
	Format     string              `json:"format"`
	Authority  string              `json:"authority"`   // name of the authority that signs
	Serial     uint64              `json:"serial"`      // grows by at least one with each publication
	Issued     time.Time           `json:"issued"`      // RFC 3339, UTC, seconds
	ValidUntil time.Time           `json:"valid_until"` // after this the list is overdue: still enforced, and an alarm
	Entries    int                 `json:"entries"`     // number of lines that follow
	AnswerTTL  uint32              `json:"answer_ttl"`  // seconds; TTL of forged answers
	Categories map[string]StopPage `json:"categories"`
}

// List is a whole list: a header and its entries, sorted by name.
type List struct {
	Header
	Entries []Entry
}
