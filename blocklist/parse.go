package blocklist

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Parse reads a list's text, line by line, and accepts nothing but the one
// spelling that Format describes: a list is refused as a whole, with a
// *ParseError that names the line and the remedy, for the first thing that is
// wrong with it. For every text that Parse accepts, Encode gives that same text
// back.
func Parse(r io.Reader, limits Limits) (*List, error) {
	p := newParser(r, limits.withDefaults())
	l, err := p.list()
	var perr *ParseError
	if errors.As(err, &perr) && perr.Line == 0 {
		perr.Line = p.line
	}
	return l, err
}

// parser reads one list. It is used by one goroutine, once.
type parser struct {
	limits   Limits
	in       *bufio.Reader
	left     int64 // bytes that may still be read
	line     int   // number of the line that is being read
	spelling *spelling
	quick    *quickReader
}

func newParser(r io.Reader, limits Limits) *parser {
	return &parser{
		limits: limits,
		// A line that does not fit into the buffer is too long.
		in:       bufio.NewReaderSize(r, limits.MaxLine),
		left:     limits.MaxBytes,
		spelling: newSpelling(),
		quick:    newQuickReader(),
	}
}

func (p *parser) list() (*List, error) {
	text, err := p.next()
	if errors.Is(err, io.EOF) {
		return nil, &ParseError{Problem: "is missing", Field: "header", Remedy: "the first line is the header"}
	}
	if err != nil {
		return nil, err
	}
	l := new(List)
	if err := p.header(text, &l.Header); err != nil {
		return nil, err
	}
	if n := l.Header.Entries; n > p.limits.MaxEntries {
		return nil, &ParseError{Field: "entries", Value: strconv.Itoa(n), Problem: "is more than this program takes",
			Remedy: fmt.Sprintf("the limit is set to %d", p.limits.MaxEntries)}
	}
	between := newOrder()
	for {
		text, err := p.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(l.Entries) == l.Header.Entries {
			return nil, p.wrongCount(l, "more")
		}
		l.grow()
		l.Entries = append(l.Entries, Entry{})
		if err := p.entry(text, &l.Entries[len(l.Entries)-1], &l.Header); err != nil {
			return nil, err
		}
		if err := between.check(l.Entries, len(l.Entries)-1); err != nil {
			return nil, err
		}
	}
	if len(l.Entries) != l.Header.Entries {
		return nil, p.wrongCount(l, "fewer")
	}
	return l, nil
}

// grow makes room for one more entry. The header's count is a claim: memory is
// given as lines arrive, and for all that are claimed once a sixteenth has come. So
// a long list is not copied again and again, nor has room to spare.
func (l *List) grow() {
	n := len(l.Entries)
	if n < cap(l.Entries) {
		return
	}
	room := max(1024, 2*n)
	if n >= l.Header.Entries/16 {
		room = l.Header.Entries
	}
	l.Entries = append(make([]Entry, 0, min(room, l.Header.Entries)), l.Entries...)
}

func (p *parser) wrongCount(l *List, how string) *ParseError {
	return &ParseError{Line: 1, Field: "entries", Value: strconv.Itoa(l.Header.Entries),
		Problem: fmt.Sprintf("is not the number of entries: line %d shows that there are %s", p.line, how),
		Remedy:  "count the lines after the header"}
}

// next gives the next line with its line feed; io.EOF after the last.
func (p *parser) next() ([]byte, error) {
	text, err := p.in.ReadSlice('\n')
	p.left -= int64(len(text))
	if len(text) > 0 || err == nil {
		p.line++
	}
	switch {
	case p.left < 0:
		return nil, &ParseError{Problem: fmt.Sprintf("goes past the limit of %d bytes in all", p.limits.MaxBytes), Remedy: "raise the limit if the list is meant to be so large"}
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, &ParseError{Problem: "is too long", Remedy: fmt.Sprintf("the limit is %d bytes", p.limits.MaxLine)}
	case errors.Is(err, io.EOF) && len(text) > 0:
		return nil, &ParseError{Problem: "does not end in a line feed", Remedy: "the file may be cut: fetch it anew"}
	case err == io.EOF:
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("read list after line %d: %w", p.line, err)
	case !utf8.Valid(text):
		// encoding/json would put U+FFFD in its place.
		return nil, &ParseError{Problem: "is not UTF-8", Remedy: "write the list in UTF-8 without a byte order mark"}
	}
	return text, nil
}

func (p *parser) header(text []byte, h *Header) error {
	v := newValue(text)
	err := v.object(headerFields, func(key string) error {
		switch key {
		case "format":
			return v.text(&h.Format)
		case "authority":
			return v.text(&h.Authority)
		case "serial":
			return v.number(64, &h.Serial)
		case "issued":
			return v.time(&h.Issued)
		case "valid_until":
			return v.time(&h.ValidUntil)
		case "entries":
			var n uint64
			err := v.number(31, &n)
			h.Entries = int(n)
			return err
		case "answer_ttl":
			var n uint64
			err := v.number(32, &n)
			h.AnswerTTL = uint32(n)
			return err
		default: // "categories"
			h.Categories = make(map[string]StopPage)
			return v.object(nil, func(category string) error {
				var page StopPage
				err := v.stopPage(&page)
				h.Categories[category] = page
				return err
			})
		}
	})
	if err != nil {
		return err
	}
	if err := v.end(); err != nil {
		return err
	}
	if err := h.check(); err != nil {
		return err
	}
	want, err := p.spelling.header(h)
	if err != nil {
		return fmt.Errorf("spell list header: %w", err)
	}
	return sameSpelling(text, want)
}

func (p *parser) entry(text []byte, e *Entry, h *Header) error {
	quick := p.quick.read(text, e)
	if !quick {
		if err := readEntry(text, e); err != nil {
			return err
		}
	}
	if err := e.check(h); err != nil {
		return err
	}
	if quick {
		return nil // it has no other spelling
	}
	want, err := p.spelling.entry(e)
	if err != nil {
		return fmt.Errorf("spell list line %d: %w", p.line, err)
	}
	return sameSpelling(text, want)
}

// readEntry reads an entry in any spelling, and says what is wrong with it.
func readEntry(text []byte, e *Entry) error {
	*e = Entry{}
	v := newValue(text)
	err := v.object(entryFields, func(key string) error {
		switch key {
		case "id":
			return v.text(&e.ID)
		case "name":
			return v.text(&e.Name)
		case "scope":
			return v.scope(&e.Scope)
		case "category":
			return v.text(&e.Category)
		case "legal_basis":
			return v.text(&e.LegalBasis)
		case "decision":
			return v.text(&e.Decision)
		case "notified":
			return v.time(&e.Notified)
		case "in_force":
			return v.time(&e.InForce)
		default: // "review_by"
			return v.date(&e.ReviewBy)
		}
	})
	if err != nil {
		return err
	}
	return v.end()
}

// sameSpelling compares a line with what Encode would write for its values.
func sameSpelling(text, want []byte) error {
	if bytes.Equal(text, want) {
		return nil
	}
	at := 0
	for at < len(text) && at < len(want) && text[at] == want[at] {
		at++
	}
	rest := func(b []byte) string { return string(b[at:min(at+32, len(b))]) }
	return &ParseError{Value: rest(text), Problem: fmt.Sprintf("at byte %d is not the one spelling of the format", at+1),
		Remedy: fmt.Sprintf("write %q there", rest(want))}
}

var (
	headerFields = []string{"format", "authority", "serial", "issued", "valid_until", "entries", "answer_ttl", "categories"}
	entryFields  = []string{"id", "name", "scope", "category", "legal_basis", "decision", "notified", "in_force", "review_by"}
	pageFields   = []string{"ipv4", "ipv6", "page"}
)

// value reads the JSON of one line by tokens, so that unknown, missing and
// repeated keys, null and numbers in disguise are seen, which encoding/json
// lets through.
type value struct {
	dec  *json.Decoder
	path []string // keys that lead to the value being read
}

func newValue(text []byte) *value {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	return &value{dec: dec}
}

func (v *value) bad(found, problem, remedy string) *ParseError {
	return &ParseError{Field: strings.Join(v.path, "."), Value: found, Problem: problem, Remedy: remedy}
}

func (v *value) token() (json.Token, error) {
	t, err := v.dec.Token()
	if err != nil {
		return nil, v.bad("", fmt.Sprintf("is not JSON (%v, at byte %d)", err, v.dec.InputOffset()), "write one JSON object a line")
	}
	return t, nil
}

// show gives a token as it stood in the text, more or less.
func show(t json.Token) string {
	if t == nil {
		return "null"
	}
	return fmt.Sprint(t)
}

// object reads an object. fields are its keys, all of them; nil where the keys
// are data. member reads the value of one key.
func (v *value) object(fields []string, member func(key string) error) error {
	t, err := v.token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return v.bad(show(t), "is not an object", "write {...}")
	}
	var seen []string
	for v.dec.More() {
		t, err := v.token()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok {
			return v.bad(show(t), "is not a key", "write keys in quotes")
		}
		v.path = append(v.path, key)
		switch {
		case fields != nil && !slices.Contains(fields, key):
			return v.bad("", "is not known", "the format has "+strings.Join(fields, ", "))
		case slices.Contains(seen, key):
			return v.bad("", "is there twice", "keep one of the two")
		case len(seen) == maxCategories:
			return v.bad("", "is one key too many", fmt.Sprintf("write at most %d", maxCategories))
		}
		seen = append(seen, key)
		if err := member(key); err != nil {
			return err
		}
		v.path = v.path[:len(v.path)-1]
	}
	if _, err := v.token(); err != nil {
		return err
	}
	for _, key := range fields {
		if !slices.Contains(seen, key) {
			v.path = append(v.path, key)
			return v.bad("", "is missing", "write it, even if its value seems plain")
		}
	}
	return nil
}

// end makes sure that nothing follows the object but the line feed.
func (v *value) end() error {
	if _, err := v.dec.Token(); !errors.Is(err, io.EOF) {
		return v.bad("", "is followed by more on the same line", "write one JSON object a line")
	}
	return nil
}

func (v *value) text(s *string) error {
	t, err := v.token()
	if err != nil {
		return err
	}
	text, ok := t.(string)
	if !ok {
		return v.bad(show(t), "is not a string", "write it in quotes")
	}
	*s = text
	return nil
}

// number reads an unsigned integer of so many bits.
func (v *value) number(bits int, n *uint64) error {
	t, err := v.token()
	if err != nil {
		return err
	}
	text, ok := t.(json.Number)
	if ok {
		*n, err = strconv.ParseUint(text.String(), 10, bits)
	}
	if !ok || err != nil {
		return v.bad(show(t), "is not an unsigned integer that fits", "write digits alone, without quotes")
	}
	return nil
}

func (v *value) time(when *time.Time) error {
	var text string
	if err := v.text(&text); err != nil {
		return err
	}
	t, err := parseTime(text)
	if err != nil || t.Format(time.RFC3339) != text {
		return v.bad(text, "is not a time in UTC to the second", "write it as 2026-01-02T15:04:05Z (RFC 3339)")
	}
	*when = t
	return nil
}

// parseTime admits no offset; it does admit a fraction of a second, which is no
// spelling of the format.
func parseTime(text string) (time.Time, error) { return time.Parse("2006-01-02T15:04:05Z", text) }

func (v *value) date(day *Date) error {
	var text string
	if err := v.text(&text); err != nil {
		return err
	}
	d, err := ParseDate(text)
	if err != nil || d.String() != text {
		return v.bad(text, "is not a day", "write it as 2026-01-02")
	}
	*day = d
	return nil
}

func (v *value) scope(s *Scope) error {
	var text string
	if err := v.text(&text); err != nil {
		return err
	}
	scope, err := ParseScope(text)
	if err != nil {
		return v.bad(text, "is not known", `write "host" or "domain"`)
	}
	*s = scope
	return nil
}

func (v *value) stopPage(page *StopPage) error {
	return v.object(pageFields, func(key string) error {
		switch key {
		case "ipv4":
			return v.addresses(&page.IPv4)
		case "ipv6":
			return v.addresses(&page.IPv6)
		default: // "page"
			return v.text(&page.Page)
		}
	})
}

func (v *value) addresses(addrs *[]netip.Addr) error {
	t, err := v.token()
	if err != nil {
		return err
	}
	if t != json.Delim('[') {
		return v.bad(show(t), "is not an array", "write [] for none")
	}
	for v.dec.More() {
		var text string
		if err := v.text(&text); err != nil {
			return err
		}
		a, err := netip.ParseAddr(text)
		if err != nil {
			return v.bad(text, "is not an IP address", "write it without a port or a prefix length")
		}
		*addrs = append(*addrs, a)
	}
	_, err = v.token()
	return err
}
