// Package policy is the answer that a listed name gets: which entries of which
// lists cover a name, and the reply that leads to the stop page or says that
// there is nothing (DESIGN.md "The way of a query").
//
// What is enforced at one moment is a Generation, immutable and reached through
// one atomic pointer: the indexes, the prebuilt answers and the serials of all
// lists. A new list makes a new generation beside the live one.
package policy

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"cordon/blocklist"
	"cordon/blocklog"
)

// Policy holds the generation in force and makes the next one when a list
// changes. Safe for concurrent use.
type Policy struct {
	current atomic.Pointer[Generation]
	trial   atomic.Pointer[Generation] // see Trial

	mu     sync.Mutex           // held while a generation is made and swapped in
	trials map[string]*enforced // lists on trial, by name; guarded by mu
	order  []string             // names of the configured lists; immutable
	must   []string             // lists without which nothing is answered; immutable
}

// List names a configured list.
type List struct {
	Name     string
	Required bool // no answer before this list is loaded (Promise 2)
}

// New returns a policy that enforces nothing yet. On overlap the first list in
// the given order answers.
func New(lists []List) (*Policy, error) {
	p := &Policy{trials: make(map[string]*enforced)}
	seen := make(map[string]bool)
	for _, l := range lists {
		if l.Name == "" || seen[l.Name] {
			return nil, fmt.Errorf("list name %q: give each list a name of its own", l.Name)
		}
		seen[l.Name] = true
		p.order = append(p.order, l.Name)
		if l.Required {
			p.must = append(p.must, l.Name)
		}
	}
	p.current.Store(&Generation{ready: len(p.must) == 0})
	return p, nil
}

// Current is the generation in force. A packet is answered by one generation
// from its first to its last check.
func (p *Policy) Current() *Generation { return p.current.Load() }

// Trial is the generation on trial: the one in force with the lists of Try in place
// of theirs; nil where nothing is on trial.
func (p *Policy) Trial() *Generation { return p.trial.Load() }

// Apply puts a list in force in place of the one of the same name and leaves
// all others as they are. The entries are not copied and must not change.
func (p *Policy) Apply(name string, list *blocklist.List, index *blocklist.Index) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.order, name) {
		return fmt.Errorf("apply list %q: no such list is configured", name)
	}
	e, err := newEnforced(name, list, index)
	if err != nil {
		return fmt.Errorf("apply list %q: %w", name, err)
	}
	delete(p.trials, name)
	p.current.Store(p.with(map[string]*enforced{name: e}))
	p.setTrial()
	return nil
}

// Try puts a list on trial, until EndTrial or until a list of that name is applied.
func (p *Policy) Try(name string, list *blocklist.List, index *blocklist.Index) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.order, name) {
		return fmt.Errorf("try list %q: no such list is configured", name)
	}
	e, err := newEnforced(name, list, index)
	if err != nil {
		return fmt.Errorf("try list %q: %w", name, err)
	}
	p.trials[name] = e
	p.setTrial()
	return nil
}

// EndTrial ends the trial of a list.
func (p *Policy) EndTrial(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.trials, name)
	p.setTrial()
}

func (p *Policy) setTrial() {
	if len(p.trials) == 0 {
		p.trial.Store(nil)
		return
	}
	p.trial.Store(p.with(p.trials))
}

// with makes the generation in force with other lists in place of some.
func (p *Policy) with(other map[string]*enforced) *Generation {
	old := p.current.Load()
	g := &Generation{number: old.number + 1, ready: true}
	for _, n := range p.order {
		l := other[n]
		if l == nil {
			l = old.list(n)
		}
		if l != nil {
			g.lists = append(g.lists, l)
		}
	}
	for _, n := range p.must {
		g.ready = g.ready && g.list(n) != nil
	}
	return g
}

// Generation is what is enforced at one moment. Immutable.
type Generation struct {
	number uint64
	ready  bool
	lists  []*enforced // loaded lists, in configuration order
}

// enforced is one list as the query path reads it.
type enforced struct {
	name    string
	serial  uint64
	header  blocklist.Header
	index   *blocklist.Index
	tags    *tags
	answers []*answer         // by number of the category
	pages   pages             // that its names lead to
	entries []blocklist.Entry // for people: the query path reads tags
}

func newEnforced(name string, list *blocklist.List, index *blocklist.Index) (*enforced, error) {
	t, err := newTags(list)
	if err != nil {
		return nil, err
	}
	e := &enforced{
		name:    name,
		serial:  list.Serial,
		header:  list.Header,
		index:   index,
		tags:    t,
		pages:   newPages(list.Categories),
		entries: list.Entries,
	}
	for _, category := range t.categories {
		e.answers = append(e.answers, newAnswer(list.Categories[category], list.AnswerTTL, list.Serial))
	}
	return e, nil
}

// match is an entry as the block log names it.
func (l *enforced) match(entry uint32) blocklog.Match {
	id := l.tags.id(entry)
	if id == "" {
		id = l.entries[entry].ID
	}
	return blocklog.Match{List: l.name, Serial: l.serial, Entry: id}
}

// Ready reports whether every required list is loaded.
func (g *Generation) Ready() bool { return g.ready }

// Number grows by one with each change of any list.
func (g *Generation) Number() uint64 { return g.number }

// Serials gives the serial in force of each loaded list, by its name.
func (g *Generation) Serials() map[string]uint64 {
	m := make(map[string]uint64, len(g.lists))
	for _, l := range g.lists {
		m[l.name] = l.serial
	}
	return m
}

func (g *Generation) list(name string) *enforced {
	for _, l := range g.lists {
		if l.name == name {
			return l
		}
	}
	return nil
}

// Hit is a name that is listed. The zero Hit is none.
type Hit struct {
	by    *enforced // the list that is enforced
	after int       // where in Generation.lists the search for others goes on
	entry uint32    // its number
}

// Match finds what covers name (wire form, lower case). It does not allocate.
func (g *Generation) Match(name []byte) (Hit, bool) {
	for i, l := range g.lists {
		if n, ok := l.index.Lookup(name); ok {
			return Hit{by: l, after: i + 1, entry: n}, true
		}
	}
	return Hit{}, false
}

// Entry is the entry that is enforced.
func (h Hit) Entry() *blocklist.Entry { return &h.by.entries[h.entry] }

// Category is the category of the entry that is enforced.
func (h Hit) Category() string { return h.by.tags.categories[h.by.tags.category(h.entry)] }

// answer is what the names of the hit's category get.
func (h Hit) answer() *answer { return h.by.answers[h.by.tags.category(h.entry)] }

// List is the name of the list whose entry is enforced.
func (h Hit) List() string { return h.by.name }

// AppendMatches appends the enforced entry, then the entries of other lists
// that cover name as well, in configuration order.
func (g *Generation) AppendMatches(dst []blocklog.Match, h Hit, name []byte) []blocklog.Match {
	dst = append(dst, h.by.match(h.entry))
	for _, l := range g.lists[h.after:] {
		if n, ok := l.index.Lookup(name); ok {
			dst = append(dst, l.match(n))
		}
	}
	return dst
}
