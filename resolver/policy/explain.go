package policy

import (
	"bytes"
	"encoding/json"

	"github.com/miekg/dns"

	"cordon/blocklog"
	"cordon/resolver/wire"
)

// Explanation is what a provider adds to a structured error.
type Explanation struct {
	Contact  []string // where to complain: mailto:, tel:, sips: or https: URIs; none: the stop page's address
	Language string   // of the authority's texts, such as "fr" (RFC 5646); empty: not said
}

// structured is a structured error (draft-ietf-dnsop-structured-dns-error §4)
// with the filtering incident (draft-nottingham-dnsop-censorship-transparency).
type structured struct {
	Contact       []string   `json:"c"`
	Language      string     `json:"l,omitempty"`
	Justification string     `json:"j,omitempty"`
	Organization  string     `json:"o,omitempty"`
	Incidents     []incident `json:"fdbs,omitempty"`
}

// incident is a decision, and the list whose entry it stands behind.
type incident struct {
	Database string `json:"db"`
	ID       string `json:"id"`
}

// AppendExplained is AppendReply for a client that can read a structured error:
// NODATA for every type, and the reason as JSON in the text of EDE 16. No
// address is forged for it, so there is never an EDE 4 (structured-dns-error
// §5.2). When space is short, the texts j and o go first, since l, c and the
// decision's reference are what a person can act on.
func (h Hit) AppendExplained(dst []byte, q *wire.Query, limit int, e *Explanation) ([]byte, blocklog.Action) {
	a := h.answer()
	var b wire.Builder
	b.Start(dst, q, limit)
	b.Authority(0, dns.TypeSOA, a.ttl, a.soa)
	const edeHeader = 6
	text := h.explain(e, b.Room()-edeHeader)
	return b.Finish(dns.RcodeSuccess, false, wire.EDE{Code: dns.ExtendedErrorCodeCensored, Text: text}), blocklog.Explained
}

// explain is the JSON in at most room bytes; empty if not even the contact fits.
func (h Hit) explain(e *Explanation, room int) string {
	entry := h.Entry()
	s := structured{
		Contact: e.Contact, Language: e.Language, Justification: entry.LegalBasis, Organization: h.by.header.Authority,
		Incidents: []incident{{Database: h.by.name, ID: entry.Decision}},
	}
	if len(s.Contact) == 0 {
		s.Contact = []string{h.by.header.Categories[entry.Category].Page}
	}
	if entry.Decision == "" {
		s.Incidents = nil
	}
	for _, shorten := range []func(){
		func() {},
		func() { s.Justification = "" },
		func() { s.Organization, s.Language = "", "" }, // no text is left that has a language
		func() { s.Incidents = nil },
		func() { s.Contact = s.Contact[:1] },
	} {
		shorten()
		if text := encode(s); len(text) <= room {
			return text
		}
	}
	return ""
}

// encode writes JSON on one line, with the characters of addresses as they are.
func encode(s structured) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return "" // cannot be: all of it is texts
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}
