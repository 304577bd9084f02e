package blocklist

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of values, in bytes where not said otherwise. They are far above what
// a procedure needs; what is shown to people or sent in an answer stays small.
const (
	maxID         = 64
	maxCategory   = 32
	maxText       = 1024 // authority, legal basis, decision
	maxPage       = 255  // goes into the EXTRA-TEXT of an extended DNS error
	maxCategories = 64   // in number
	maxAddresses  = 8    // in number, per family: a forged answer stays one small packet
	maxAnswerTTL  = 86400
)

// ParseError says why a list was refused, or would be: where, what, and what to
// write instead.
type ParseError struct {
	Line    int    // from 1, the header; 0 where no line is to blame
	Field   string // e.g. "name" or "categories.terrorism.page"; may be empty
	Value   string // as it was found; may be empty
	Problem string // e.g. "has upper-case letters"
	Remedy  string // e.g. `write "foo.example"`
}

func (e *ParseError) Error() string {
	var b strings.Builder
	b.WriteString("list")
	if e.Line > 0 {
		fmt.Fprintf(&b, " line %d", e.Line)
	}
	b.WriteString(": ")
	if e.Field != "" {
		fmt.Fprintf(&b, "%s ", e.Field)
	}
	if e.Value != "" {
		fmt.Fprintf(&b, "%s ", quote(e.Value))
	}
	b.WriteString(e.Problem)
	if e.Remedy != "" {
		fmt.Fprintf(&b, "; %s", e.Remedy)
	}
	return b.String()
}

// check looks at the header's values, the count of entries excepted.
func (h *Header) check() *ParseError {
	bad := func(field, value, problem, remedy string) *ParseError {
		return &ParseError{Field: field, Value: value, Problem: problem, Remedy: remedy}
	}
	if h.Format != Format {
		return bad("format", h.Format, "is not known here", fmt.Sprintf("this program reads %q", Format))
	}
	if err := checkText("authority", h.Authority, maxText); err != nil {
		return err
	}
	if h.Serial == 0 {
		return bad("serial", "0", "is no serial", "serials start at 1")
	}
	if err := checkTime("issued", h.Issued); err != nil {
		return err
	}
	if err := checkTime("valid_until", h.ValidUntil); err != nil {
		return err
	}
	if !h.ValidUntil.After(h.Issued) {
		return bad("valid_until", h.ValidUntil.Format(time.RFC3339), "is not after issued",
			"issued is "+h.Issued.Format(time.RFC3339))
	}
	if h.AnswerTTL < 1 || h.AnswerTTL > maxAnswerTTL {
		return bad("answer_ttl", fmt.Sprint(h.AnswerTTL), "is out of bounds", fmt.Sprintf("write 1 to %d seconds", maxAnswerTTL))
	}
	if n := len(h.Categories); n == 0 || n > maxCategories {
		return bad("categories", "", fmt.Sprintf("has %d members", n), fmt.Sprintf("write 1 to %d", maxCategories))
	}
	for _, key := range slices.Sorted(maps.Keys(h.Categories)) {
		field := "categories." + key
		if !isKey(key, maxCategory, "") {
			return bad("categories", key, "is no category key",
				fmt.Sprintf("write 1 to %d of a-z, 0-9, hyphen and underscore", maxCategory))
		}
		page := h.Categories[key]
		if err := page.check(field); err != nil {
			return err
		}
	}
	return nil
}

func (p *StopPage) check(field string) *ParseError {
	if len(p.IPv4)+len(p.IPv6) == 0 {
		return &ParseError{Field: field, Problem: "has no stop page address", Remedy: "name at least one in ipv4 or ipv6"}
	}
	if err := checkAddresses(field+".ipv4", p.IPv4, netip.Addr.Is4); err != nil {
		return err
	}
	is6 := func(a netip.Addr) bool { return a.Is6() && !a.Is4In6() && a.Zone() == "" }
	if err := checkAddresses(field+".ipv6", p.IPv6, is6); err != nil {
		return err
	}
	return checkPage(field+".page", p.Page)
}

func checkAddresses(field string, addrs []netip.Addr, family func(netip.Addr) bool) *ParseError {
	if len(addrs) > maxAddresses {
		return &ParseError{Field: field, Problem: fmt.Sprintf("has %d addresses", len(addrs)), Remedy: fmt.Sprintf("write at most %d", maxAddresses)}
	}
	for i, a := range addrs {
		problem := ""
		switch {
		case !a.IsValid() || !family(a):
			problem = "is not an address of this family"
		case a.IsUnspecified():
			problem = "is the unspecified address"
		case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			problem = "is a multicast or broadcast address"
		case slices.Contains(addrs[:i], a):
			problem = "is there twice"
		default:
			continue
		}
		return &ParseError{Field: field, Value: a.String(), Problem: problem, Remedy: "name the addresses at which the stop page answers"}
	}
	return nil
}

// checkPage accepts absolute http and https URLs that can stand in a DNS answer
// and in a log as they are.
func checkPage(field, page string) *ParseError {
	bad := func(problem string) *ParseError {
		return &ParseError{Field: field, Value: page, Problem: problem, Remedy: "write the information page's address, such as https://stop.example/terrorism"}
	}
	if len(page) > maxPage {
		return bad(fmt.Sprintf("is longer than %d bytes", maxPage))
	}
	for i := range len(page) {
		if page[i] <= ' ' || page[i] > '~' {
			return bad(fmt.Sprintf("has the byte %q", page[i]))
		}
	}
	u, err := url.Parse(page)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return bad("is not an http or https URL")
	}
	if u.User != nil || u.Fragment != "" {
		return bad("has a user or a fragment")
	}
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if problem, _ := nameProblem(host); problem != "" {
		return bad("has a host that " + problem)
	}
	return nil
}

// check looks at the entry's values; whether it fits its neighbours is looked at
// by order.
func (e *Entry) check(h *Header) *ParseError {
	if !isKey(e.ID, maxID, "ABCDEFGHIJKLMNOPQRSTUVWXYZ.:/") {
		return &ParseError{Field: "id", Value: e.ID, Problem: "is no entry id",
			Remedy: fmt.Sprintf("write 1 to %d of A-Z, a-z, 0-9 and - _ . : /", maxID)}
	}
	if problem, remedy := nameProblem(e.Name); problem != "" {
		return &ParseError{Field: "name", Value: e.Name, Problem: problem, Remedy: remedy}
	}
	if e.Scope != ScopeHost && e.Scope != ScopeDomain {
		return &ParseError{Field: "scope", Value: e.Scope.String(), Problem: "is not known", Remedy: `write "host" or "domain"`}
	}
	if _, ok := h.Categories[e.Category]; !ok {
		return &ParseError{Field: "category", Value: e.Category, Problem: "is not in the header",
			Remedy: "the header has " + strings.Join(slices.Sorted(maps.Keys(h.Categories)), ", ")}
	}
	if err := checkText("legal_basis", e.LegalBasis, maxText); err != nil {
		return err
	}
	if err := checkText("decision", e.Decision, maxText); err != nil {
		return err
	}
	if err := checkTime("notified", e.Notified); err != nil {
		return err
	}
	if err := checkTime("in_force", e.InForce); err != nil {
		return err
	}
	if !DateOf(e.ReviewBy.Time).Equal(e.ReviewBy.Time) {
		return &ParseError{Field: "review_by", Value: e.ReviewBy.Time.String(), Problem: "is not the start of a day in UTC", Remedy: "make it with DateOf"}
	}
	return checkTime("review_by", e.ReviewBy.Time)
}

// checkText accepts one line of readable text: no control characters, nothing
// that changes the direction of writing or cannot be seen, since it is shown to
// the people who decide on it.
func checkText(field, s string, most int) *ParseError {
	bad := func(problem string) *ParseError {
		return &ParseError{Field: field, Value: s, Problem: problem, Remedy: fmt.Sprintf("write 1 to %d bytes of readable text", most)}
	}
	switch {
	case s == "":
		return bad("is empty")
	case len(s) > most:
		return bad("is too long")
	case !utf8.ValidString(s):
		return bad("is not UTF-8")
	case strings.TrimSpace(s) != s:
		return bad("starts or ends with white space")
	}
	for _, r := range s {
		if !unicode.IsGraphic(r) || r == unicode.ReplacementChar {
			return bad(fmt.Sprintf("has the character %U", r))
		}
	}
	return nil
}

func checkTime(field string, t time.Time) *ParseError {
	if y := t.UTC().Year(); y < 1970 || y > 9999 || t.Nanosecond() != 0 {
		return &ParseError{Field: field, Value: t.UTC().Format(time.RFC3339Nano), Problem: "is not a whole second from 1970 to 9999",
			Remedy: "write a time such as 2026-01-02T15:04:05Z"}
	}
	return nil
}

// isKey tells whether s is 1 to most bytes of a-z, 0-9, hyphen, underscore and
// the bytes of more.
func isKey(s string, most int, more string) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		case strings.IndexByte(more, c) >= 0:
		default:
			return false
		}
	}
	return true
}
