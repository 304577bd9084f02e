package blocklist

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// State is what becomes of an entry of a list in force.
type State string

// The states, as people and tools see them.
const (
	Enforced    State = "enforced"
	Quarantined State = "quarantined" // set aside by a guard
	Overridden  State = "overridden"  // set aside by a person
	Pending     State = "pending"     // its in_force lies ahead
)

// ParseState reads a state; "" is none.
func ParseState(s string) (State, error) {
	switch state := State(s); state {
	case "", Enforced, Quarantined, Overridden, Pending:
		return state, nil
	}
	return "", fmt.Errorf("state %s is not known: write enforced, quarantined, overridden or pending", quote(s))
}

// Item is an entry in the Catalogue.
type Item struct {
	Entry
	State State     `json:"state"`
	Aside *SetAside `json:"aside,omitempty"` // why it is quarantined or overridden
}

// Catalogue is a list in force as people and tools ask for it: by id, name,
// category, review date and state. The query path does not know it.
//
// It is the list itself, and looks through it: a million entries take a tenth of a
// second, where indexes over them took 2 GiB and held each swap up by 17
// seconds of processor time (docs/decisions/0038). So it costs nothing, never
// stays behind what is in force, and does not change under its reader. The zero
// Catalogue is empty.
type Catalogue struct{ list *Loaded }

// Catalogue of the list in force; empty before the first.
func (w *Watcher) Catalogue() Catalogue { return Catalogue{w.View().Running} }

// Serial is that of the list; 0 before the first.
func (c Catalogue) Serial() uint64 {
	if c.list == nil {
		return 0
	}
	return c.list.List.Serial
}

// Get gives the entry with an id.
func (c Catalogue) Get(id string) (Item, bool) {
	if c.list == nil {
		return Item{}, false
	}
	number := slices.IndexFunc(c.list.List.Entries, func(e Entry) bool { return e.ID == id })
	if number < 0 {
		return Item{}, false
	}
	return c.list.item(number), true
}

// Query says which entries are wanted; a field that is empty wants all.
type Query struct {
	Name     string // canonical: that name
	Holds    string // text that the name holds
	Category string
	State    State
	ReviewBy Date // to be re-checked by that day or earlier
	Limit    int  // at most so many; 0 for all
}

// Find gives the entries that are wanted, and how many there are in all: by review
// date, the earliest first, where that is asked for, else by name.
func (c Catalogue) Find(q Query) (found []Item, total int) {
	if c.list == nil {
		return nil, 0
	}
	from, to := 0, len(c.list.List.Entries)
	if q.Name != "" {
		from, to = c.list.List.named(q.Name)
	}
	var numbers []int
	for number := from; number < to; number++ {
		if c.list.wanted(number, &q) {
			numbers = append(numbers, number)
		}
	}
	if !q.ReviewBy.IsZero() {
		slices.SortStableFunc(numbers, func(a, b int) int {
			return c.list.List.Entries[a].ReviewBy.Compare(c.list.List.Entries[b].ReviewBy.Time)
		})
	}
	total = len(numbers)
	if q.Limit > 0 {
		numbers = numbers[:min(total, q.Limit)]
	}
	for _, number := range numbers {
		found = append(found, c.list.item(number))
	}
	return found, total
}

// Overdue counts the entries that were to be re-checked before the day of now.
func (c Catalogue) Overdue(now time.Time) (n int) {
	if c.list == nil {
		return 0
	}
	today := DateOf(now)
	for i := range c.list.List.Entries {
		if c.list.List.Entries[i].ReviewBy.Before(today.Time) {
			n++
		}
	}
	return n
}

// wanted asks for the state last, since that costs the most.
func (l *Loaded) wanted(number int, q *Query) bool {
	e := &l.List.Entries[number]
	return (q.Holds == "" || strings.Contains(e.Name, q.Holds)) &&
		(q.Category == "" || e.Category == q.Category) &&
		(q.ReviewBy.IsZero() || !e.ReviewBy.After(q.ReviewBy.Time)) &&
		(q.State == "" || l.state(number) == q.State)
}

// named gives the range of the entries with a name.
func (l *List) named(name string) (from, to int) {
	from, _ = slices.BinarySearchFunc(l.Entries, name, func(e Entry, name string) int { return strings.Compare(e.Name, name) })
	for to = from; to < len(l.Entries) && l.Entries[to].Name == name; to++ {
	}
	return from, to
}

func (l *Loaded) item(number int) Item {
	i := Item{Entry: l.List.Entries[number], State: l.state(number)}
	if a := l.aside(uint32(number)); a != nil {
		i.Aside = &a.SetAside
	}
	return i
}

// state of an entry by its number.
func (l *Loaded) state(number int) State {
	if a := l.aside(uint32(number)); a != nil {
		if a.Guard == guardPerson {
			return Overridden
		}
		return Quarantined
	}
	if l.List.Entries[number].InForce.After(l.AsOf) {
		return Pending
	}
	return Enforced
}

// Covering gives the entries that cover a name (canonical), set aside or pending as
// they may be; the nearest first.
func (l *Loaded) Covering(name string) (all []Item) {
	for above := name; above != ""; above = parentOf(above) {
		from, to := l.List.named(above)
		for number := from; number < to; number++ {
			if above == name || l.List.Entries[number].Scope == ScopeDomain {
				all = append(all, l.item(number))
			}
		}
	}
	return all
}
