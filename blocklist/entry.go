// Package blocklist holds the list that an authority signs and a resolver
// enforces: its entries, its file format cordon-list/1, the index that the
// query path reads, the guards that an update has to pass, the store that
// survives a restart, and the watcher that brings updates in.
//
// The package knows nothing of the resolver; names in its hot path are plain
// wire-format bytes (RFC 1035 §3.1, uncompressed, lower case).
package blocklist

import (
	"encoding"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Scope says which names an entry covers.
type Scope uint8

const (
	// ScopeHost covers the entry's name alone.
	ScopeHost Scope = iota + 1
	// ScopeDomain covers the entry's name and every name below it.
	ScopeDomain
)

var (
	_ encoding.TextMarshaler   = Scope(0)
	_ encoding.TextUnmarshaler = (*Scope)(nil)
	_ encoding.TextMarshaler   = Date{}
	_ encoding.TextUnmarshaler = (*Date)(nil)
)

// ParseScope reads a scope as it stands in a list.
func ParseScope(s string) (Scope, error) {
	switch s {
	case "host":
		return ScopeHost, nil
	case "domain":
		return ScopeDomain, nil
	}
	return 0, fmt.Errorf(`scope %q is not known: write "host" or "domain"`, s)
}

// String gives the scope as it stands in a list.
func (s Scope) String() string {
	switch s {
	case ScopeHost:
		return "host"
	case ScopeDomain:
		return "domain"
	}
	return fmt.Sprintf("scope(%d)", uint8(s))
}

// MarshalText is String, but fails for a value that is no scope.
func (s Scope) MarshalText() ([]byte, error) {
	if s != ScopeHost && s != ScopeDomain {
		return nil, fmt.Errorf("no such scope: %d", uint8(s))
	}
	return []byte(s.String()), nil
}

// UnmarshalText is ParseScope.
func (s *Scope) UnmarshalText(text []byte) (err error) {
	*s, err = ParseScope(string(text))
	return err
}

// Date is a calendar day in UTC, written "2006-01-02" in the list: the legal
// clocks that it carries (the quarterly re-check) run in days.
type Date struct{ time.Time }

// DateOf is the day in UTC on which t falls.
func DateOf(t time.Time) Date {
	y, m, d := t.UTC().Date()
	return Date{time.Date(y, m, d, 0, 0, 0, 0, time.UTC)}
}

// ParseDate reads a day as it stands in a list.
func ParseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return Date{}, fmt.Errorf("date %q is not of the form 2006-01-02", s)
	}
	return Date{t}, nil
}

// String gives the day as it stands in a list.
func (d Date) String() string { return d.UTC().Format(time.DateOnly) }

// MarshalText is String.
func (d Date) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// MarshalJSON is String in quotes. Without it the method of time.Time would be
// taken.
func (d Date) MarshalJSON() ([]byte, error) { return []byte(`"` + d.String() + `"`), nil }

// UnmarshalText is ParseDate.
func (d *Date) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDate(string(text))
	return err
}

// UnmarshalJSON is ParseDate for a string in quotes.
func (d *Date) UnmarshalJSON(b []byte) error {
	s, ok := strings.CutPrefix(string(b), `"`)
	s, ok2 := strings.CutSuffix(s, `"`)
	if !ok || !ok2 {
		return fmt.Errorf("date %s is not a string of the form 2006-01-02", b)
	}
	return d.UnmarshalText([]byte(s))
}

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
	IPv4 []netip.Addr `json:"ipv4"` // A records of the forged answer; may be empty if IPv6 is not
	IPv6 []netip.Addr `json:"ipv6"` // AAAA records of the forged answer; may be empty if IPv4 is not
	Page string       `json:"page"` // address (URL) of the information page, EDE EXTRA-TEXT
}

// Header is the first line of a list.
type Header struct {
	Format     string              `json:"format"`      // always Format
	Authority  string              `json:"authority"`   // name of the authority that signs
	Serial     uint64              `json:"serial"`      // 1 or more; grows by at least one with each publication
	Issued     time.Time           `json:"issued"`      // RFC 3339, UTC, seconds
	ValidUntil time.Time           `json:"valid_until"` // after this the list is overdue: still enforced, and an alarm
	Entries    int                 `json:"entries"`     // number of lines that follow
	AnswerTTL  uint32              `json:"answer_ttl"`  // seconds, 1 to 86400; TTL of forged answers
	Categories map[string]StopPage `json:"categories"`  // by the category's key
}

// List is a whole list: a header and its entries, sorted by name, then by id
// (both compared byte by byte).
type List struct {
	Header
	Entries []Entry
}

// Sort puts the entries into the order of the format and sets the header's
// format and count to fit, so that a list put together by hand can be encoded.
func (l *List) Sort() {
	slices.SortFunc(l.Entries, compareEntries)
	l.Header.Format = Format
	l.Header.Entries = len(l.Entries)
}

func compareEntries(a, b Entry) int {
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}
