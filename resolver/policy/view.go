package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"cordon/blocklist"
)

// Summary is what a person wants to know of a list in force.
type Summary struct {
	Name       string    `json:"name"`
	Authority  string    `json:"authority"`
	Serial     uint64    `json:"serial"`
	Entries    int       `json:"entries"`
	Issued     time.Time `json:"issued"`
	ValidUntil time.Time `json:"valid_until"` // past this the list is overdue, and still enforced
}

// Lists sums up the loaded lists, in order of precedence.
func (g *Generation) Lists() []Summary {
	all := make([]Summary, 0, len(g.lists))
	for _, l := range g.lists {
		all = append(all, Summary{
			Name: l.name, Authority: l.header.Authority, Serial: l.serial, Entries: len(l.entries),
			Issued: l.header.Issued, ValidUntil: l.header.ValidUntil,
		})
	}
	return all
}

// Covering is an entry that covers a name, and the list it stands in.
type Covering struct {
	List   string          `json:"list"`
	Serial uint64          `json:"serial"`
	Entry  blocklist.Entry `json:"entry"`
}

// Covering gives the entries that cover name (wire form, lower case); the first
// is the one that is enforced.
func (g *Generation) Covering(name []byte) []Covering {
	all := []Covering{}
	for _, l := range g.lists {
		if n, ok := l.index.Lookup(name); ok {
			all = append(all, Covering{List: l.name, Serial: l.serial, Entry: l.entries[n]})
		}
	}
	return all
}

// Would says in words what a question for name (wire form, lower case) gets; "" where
// nothing covers it.
func (g *Generation) Would(name []byte) string {
	h, ok := g.Match(name)
	if !ok {
		return ""
	}
	page := h.by.header.Categories[h.Category()]
	say := func(addrs []netip.Addr) string {
		if len(addrs) == 0 {
			return "NODATA"
		}
		texts := make([]string, len(addrs))
		for i, a := range addrs {
			texts[i] = a.String()
		}
		return strings.Join(texts, " ")
	}
	return fmt.Sprintf("A %s, AAAA %s, all else NODATA, TTL %d s, page %s", say(page.IPv4), say(page.IPv6), h.by.header.AnswerTTL, page.Page)
}
