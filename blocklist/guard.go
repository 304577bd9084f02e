package blocklist

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// Update is what a guard looks at.
type Update struct {
	Next *List // the list that wants to come into force; Parse has accepted it
}

// Finding is one entry that a guard objects to.
type Finding struct {
	Line    int    `json:"line"` // in the list's text
	ID      string `json:"id"`
	Name    string `json:"name"`
	Scope   Scope  `json:"scope"`
	Problem string `json:"problem"`
	Remedy  string `json:"remedy"`
}

// GuardError refuses an update as a whole.
type GuardError struct {
	Guard    string    // the guard that refused, e.g. "structure"
	Findings []Finding // the first maxFindings of them
	Total    int
}

// maxFindings bounds what is kept of a list that is wrong throughout.
const maxFindings = 20

func (e *GuardError) Error() string {
	f := e.Findings[0]
	text := fmt.Sprintf("guard %s: list line %d: entry %s, name %q with scope %v %s; %s",
		e.Guard, f.Line, f.ID, f.Name, f.Scope, f.Problem, f.Remedy)
	if e.Total > 1 {
		text += fmt.Sprintf(" (and %d more entries)", e.Total-1)
	}
	return text
}

// GuardConfig is what the guards of one list have to know. The zero value guards
// the structure alone.
type GuardConfig struct {
	// OwnNames are names that no entry may cover: those by which the resolver
	// itself is reached, and any other that its operator answers for. In the form
	// of CheckName.
	OwnNames []string

	// Elsewhere gives the host names that the stop pages of other lists have at this
	// moment, each to what it is ("the stop page of list x"): no entry may cover them.
	// May be nil.
	Elsewhere func() map[string]string

	// Protected gives the names that are set aside; asked for each list anew. May be
	// nil.
	Protected func() *Protected

	// Traffic tells which names are popular; nil where nothing is counted. An entry
	// is set aside when the names that it covers make up more than PopularPerMillion
	// of the recent questions, and more than PopularLeast in number.
	Traffic           *Popularity
	PopularPerMillion float64
	PopularLeast      float64

	// Additions and Removals bound what one update may change.
	Additions, Removals Bound
	// AcceptFirst lets the first list pass without regard to its size.
	AcceptFirst bool
}

// Bound is how much one update may change without a person's word: the larger of
// Least entries and Percent of the entries in force. The zero Bound bounds nothing.
type Bound struct {
	Least   int `yaml:"least"`
	Percent int `yaml:"percent"`
}

// passed tells whether n changes to a list of so many entries are too many, and
// what would not have been.
func (b Bound) passed(n, entries int) (allowed int, passed bool) {
	allowed = max(b.Least, entries*b.Percent/100)
	return allowed, b != Bound{} && n > allowed
}

// Guard is the row of guards between parsing and enforcement. Each list that is
// about to come into force passes it, from the network and from the store alike.
// It is immutable but for the traffic that it looks at.
//
// The guard of structure refuses the whole list (Check). Those of protected and
// of popular names set single entries aside (quarantine), and the one of size
// holds the update as a whole (see review in standing.go): what they stop a person
// can release.
type Guard struct {
	structure structureGuard
	c         GuardConfig
}

// The guards' names, as they stand in errors, records and metrics.
const (
	guardStructure = "structure"
	guardProtected = "protected"
	guardPopular   = "popular"
	guardSize      = "size"
	guardCanary    = "canary"
)

// NewGuard makes the row of guards. The error names the setting that is wrong.
func NewGuard(c GuardConfig) (*Guard, error) {
	for _, name := range c.OwnNames {
		if err := CheckName(name); err != nil {
			return nil, fmt.Errorf("guard: the resolver's own name: %w", err)
		}
	}
	c.OwnNames = slices.Clone(c.OwnNames)
	return &Guard{structure: structureGuard{own: c.OwnNames, elsewhere: c.Elsewhere}, c: c}, nil
}

// Check lets a list's structure pass (nil) or refuses it with a *GuardError; it ends
// with ctx.
func (g *Guard) Check(ctx context.Context, u Update) error {
	if u.Next == nil {
		return errors.New("guard: no list to look at")
	}
	refused := GuardError{Guard: guardStructure}
	err := g.structure.examine(ctx, u, func(entry int, problem, remedy string) {
		refused.Total++
		if len(refused.Findings) < maxFindings {
			e := &u.Next.Entries[entry]
			refused.Findings = append(refused.Findings, Finding{
				Line: lineOf(entry), ID: e.ID, Name: e.Name, Scope: e.Scope, Problem: problem, Remedy: remedy,
			})
		}
	})
	if err != nil {
		return err
	}
	if refused.Total > 0 {
		return &refused
	}
	return nil
}

// protected are the names that are protected at this moment.
func (g *Guard) protected() *Protected {
	if g.c.Protected == nil {
		return NewProtected()
	}
	return g.c.Protected()
}

// popular tells why an entry that is not enforced yet is set aside for the
// traffic to what it covers; "" where it is not. wire is room for a name.
func (g *Guard) popular(e *Entry, wire []byte) string {
	if g.c.Traffic == nil {
		return ""
	}
	n, of := g.c.Traffic.Estimate(appendWire(wire, e.Name))
	if n <= g.c.PopularLeast || n*1e6 <= g.c.PopularPerMillion*of {
		return ""
	}
	return fmt.Sprintf("is popular: about %.0f of the last %.0f questions were for it or below it", n, of)
}

// size tells why a change is too large to come into force without a person's
// word; "" where it is not.
func (g *Guard) size(c Change, entries int, first bool) string {
	if first && g.c.AcceptFirst {
		return ""
	}
	remedy := ""
	if first {
		remedy = "; it is the first list: set accept_first, or release it"
	}
	if allowed, passed := g.c.Additions.passed(c.Added, entries); passed {
		return fmt.Sprintf("adds %d entries to %d, where at most %d are added at once%s", c.Added, entries, allowed, remedy)
	}
	if allowed, passed := g.c.Removals.passed(c.Removed, entries); passed {
		return fmt.Sprintf("removes %d entries of %d, where at most %d are removed at once", c.Removed, entries, allowed)
	}
	return ""
}

// structureGuard objects to entries that no procedure can mean: they would take
// down a whole part of the name space, names that are not in the DNS, or the
// means by which people learn why a name is blocked.
type structureGuard struct {
	own       []string                 // names of the resolver
	elsewhere func() map[string]string // stop pages of other lists; may be nil
}

// specialUse are the names that IANA's registry of special-use domain names and
// ICANN take out of the public DNS: nobody publishes below them, and a resolver
// answers them by itself. "example" and "test" are left out on purpose: they are
// where laboratories and demonstrations list.
var specialUse = map[string]string{
	"localhost": "RFC 6761",
	"invalid":   "RFC 6761",
	"local":     "RFC 6762",
	"onion":     "RFC 7686",
	"alt":       "RFC 9476",
	"arpa":      "RFC 3172", // with home.arpa (RFC 8375) and resolver.arpa (RFC 9462)
	"internal":  "ICANN resolution 2024.07.29.06",
}

func (s *structureGuard) examine(ctx context.Context, u Update, object func(entry int, problem, remedy string)) error {
	owners := make(map[string]string, len(s.own))
	if s.elsewhere != nil {
		maps.Copy(owners, s.elsewhere())
	}
	for _, name := range s.own {
		owners[name] = "the resolver"
	}
	maps.Copy(owners, u.Next.PageHosts())
	above := make(map[string]string) // each name above one of owners, to that one
	for _, name := range slices.Sorted(maps.Keys(owners)) {
		for parent := parentOf(name); parent != ""; parent = parentOf(parent) {
			above[parent] = name
		}
	}
	for i := range u.Next.Entries {
		if err := ended(ctx, i); err != nil {
			return err
		}
		e := &u.Next.Entries[i]
		if problem, remedy := misplaced(e); problem != "" {
			object(i, problem, remedy)
		} else if owner, ok := owners[e.Name]; ok {
			object(i, "is the name of "+owner, "take the entry off the list, or move what has this name elsewhere")
		} else if name, ok := above[e.Name]; ok && e.Scope == ScopeDomain {
			object(i, fmt.Sprintf("covers %s, the name of %s", name, owners[name]), "use scope host, or names below it")
		}
	}
	return nil
}

// misplaced tells where in the name space an entry must not be.
func misplaced(e *Entry) (problem, remedy string) {
	name := e.Name
	if name == "" || name == "." {
		return "is the root", "list a registered name"
	}
	top := name[strings.LastIndexByte(name, '.')+1:]
	if source, ok := specialUse[top]; ok {
		return fmt.Sprintf("is at or below %q, a special-use name (%s)", top, source), "list a name of the public DNS"
	}
	if top == name {
		return "is a top-level domain", "list a registered name below it"
	}
	suffix, icann := publicsuffix.PublicSuffix(name)
	switch {
	// A suffix without a dot is a top-level domain, known or not.
	case suffix == name && icann:
		return "is a public suffix, below which anybody registers names", "list the registered name below it"
	case suffix == name && e.Scope == ScopeDomain:
		return "is a platform below which other people have names of their own (a public suffix)", "use scope host, or list the name below it"
	case e.Scope == ScopeDomain && allBelowAreSuffixes(name):
		return "has nothing but public suffixes below it", "list the registered name below one of them"
	}
	return "", ""
}

// allBelowAreSuffixes finds the rules "*.name" of the public suffix list.
func allBelowAreSuffixes(name string) bool {
	below := "x." + name
	suffix, _ := publicsuffix.PublicSuffix(below)
	return suffix == below
}

// PageHosts gives the host names of the list's stop pages, each to what it is.
func (l *List) PageHosts() map[string]string {
	hosts := make(map[string]string)
	for _, category := range slices.Sorted(maps.Keys(l.Categories)) {
		if host := pageHost(l.Categories[category].Page); host != "" {
			hosts[host] = "the stop page of category " + category
		}
	}
	return hosts
}

// pageHost is the host name in a stop page's address, or "" if it is an IP
// address.
func pageHost(page string) string {
	u, err := url.Parse(page)
	if err != nil {
		return "" // Parse and Encode let no such page pass
	}
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	return host
}

// parentOf is the name above, or "" above a top-level domain.
func parentOf(name string) string {
	_, parent, _ := strings.Cut(name, ".")
	return parent
}
