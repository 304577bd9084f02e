package blocklist

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
)

// Encode writes the list's text: the one spelling that Format describes, which
// Parse reads back to an equal list. The entries may be in any order; the header's
// format and count are filled in. A list that Parse would refuse is not
// written: the error is then a *ParseError, and what went to w is of no use.
func (l *List) Encode(w io.Writer) error {
	sorted := List{Header: l.Header, Entries: l.Entries}
	if !slices.IsSortedFunc(l.Entries, compareEntries) {
		sorted.Entries = slices.Clone(l.Entries)
	}
	sorted.Sort()
	if err := sorted.Header.check(); err != nil {
		err.Line = 1
		return err
	}
	out := bufio.NewWriter(w)
	line := newSpelling()
	text, err := line.header(&sorted.Header)
	if err != nil {
		return fmt.Errorf("encode list header: %w", err)
	}
	_, _ = out.Write(text) // bufio keeps the first error for Flush
	between := newOrder()
	for i := range sorted.Entries {
		e := &sorted.Entries[i]
		perr := e.check(&sorted.Header)
		if perr == nil {
			perr = between.check(sorted.Entries, i)
		}
		if perr != nil {
			perr.Line = lineOf(i)
			return perr
		}
		text, err := line.entry(e)
		if err != nil {
			return fmt.Errorf("encode list line %d: %w", lineOf(i), err)
		}
		_, _ = out.Write(text)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write list: %w", err)
	}
	return nil
}

// spelling writes lines in the one spelling of the format, which is that of
// encoding/json without its escapes for HTML. Its buffer is used again and
// again: a line is good until the next one.
type spelling struct {
	buf bytes.Buffer
	enc *json.Encoder
}

func newSpelling() *spelling {
	s := new(spelling)
	s.enc = json.NewEncoder(&s.buf)
	s.enc.SetEscapeHTML(false)
	return s
}

func (s *spelling) header(h *Header) ([]byte, error) {
	c := *h
	c.Issued, c.ValidUntil = h.Issued.UTC(), h.ValidUntil.UTC()
	c.Categories = make(map[string]StopPage, len(h.Categories))
	for key, page := range h.Categories {
		// An absent family is an empty array, never null.
		page.IPv4 = append([]netip.Addr{}, page.IPv4...)
		page.IPv6 = append([]netip.Addr{}, page.IPv6...)
		c.Categories[key] = page
	}
	return s.line(&c)
}

func (s *spelling) entry(e *Entry) ([]byte, error) {
	c := *e
	c.Notified, c.InForce = e.Notified.UTC(), e.InForce.UTC()
	return s.line(&c)
}

func (s *spelling) line(v any) ([]byte, error) {
	s.buf.Reset()
	if err := s.enc.Encode(v); err != nil {
		return nil, err
	}
	return s.buf.Bytes(), nil
}
