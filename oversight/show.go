package oversight

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"cordon/audit"
	"cordon/authority"
)

// ListChange is a list that was published: what came and went with it, and when
// the resolvers put it in force.
type ListChange struct {
	Serial    uint64    `json:"serial"`
	Published time.Time `json:"published,omitzero"` // as the register says; zero: the register is not followed, or does not know it
	Entries   int       `json:"entries"`
	Added     []Change  `json:"added"`
	Lifted    []Change  `json:"lifted"`
	Applied   []Put     `json:"applied"`
	Authority string    `json:"authority"`
}

// Change is an entry that came onto a list or went off it.
type Change struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Scope    string `json:"scope"`
	Category string `json:"category"`
	Decision string `json:"decision"`
	Ground   string `json:"ground,omitempty"` // why it was lifted; empty: it ended by a clock
}

// Put is that a resolver put a list in force.
type Put struct {
	Log  string    `json:"log"`
	List string    `json:"list"` // in the resolver's configuration
	At   time.Time `json:"at"`
}

// Lists gives every change of the list, the oldest first, from the copies. Where
// logs were never mirrored, the error (ErrNotMirrored) names them, and the rest
// is there; so it is with Decisions and Events.
func (d *Desk) Lists(ctx context.Context) ([]ListChange, error) {
	unlock, err := d.shared(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	type key struct {
		authority string
		serial    uint64
	}
	changes := map[key]*ListChange{}
	change := func(authority string, serial uint64) *ListChange {
		k := key{authority, serial}
		if changes[k] == nil {
			changes[k] = &ListChange{Serial: serial, Authority: authority, Added: []Change{}, Lifted: []Change{}, Applied: []Put{}}
		}
		return changes[k]
	}
	var missing []error
	if m := d.register(); m != nil {
		r, err := m.replay(ctx)
		if errors.Is(err, ErrNotMirrored) {
			missing, r = append(missing, err), &authority.Register{}
		} else if err != nil {
			return nil, err
		}
		for _, p := range r.Publications { // none where there is no copy
			c := change(r.Founded.Authority, p.Serial)
			c.Published, c.Entries = p.At, p.Entries
			for _, id := range p.Added {
				c.Added = append(c.Added, changeOf(r, id))
			}
			for _, id := range p.Removed {
				c.Lifted = append(c.Lifted, changeOf(r, id))
			}
		}
	}
	err = d.each(&missing, func(m *mirror) error {
		return m.events(ctx, func(_ uint64, e *audit.Event) error {
			if e.Type != "list.applied" {
				return nil
			}
			var a Applied
			if err := json.Unmarshal(e.Data, &a); err != nil {
				return fmt.Errorf("record %d: %w", e.Seq, err)
			}
			c := change(a.Authority, a.Serial)
			c.Entries = max(c.Entries, a.Entries)
			if !slices.ContainsFunc(c.Applied, func(p Put) bool { return p.Log == m.name && p.List == a.List }) {
				c.Applied = append(c.Applied, Put{Log: m.name, List: a.List, At: e.At}) // the first time counts
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	all := make([]ListChange, 0, len(changes))
	for _, c := range changes {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b ListChange) int {
		return cmp.Or(cmp.Compare(a.Authority, b.Authority), cmp.Compare(a.Serial, b.Serial))
	})
	return all, errors.Join(missing...)
}

// each calls do for each audit log, and gathers those that were never mirrored.
func (d *Desk) each(missing *[]error, do func(*mirror) error) error {
	for _, m := range d.audits() {
		err := do(m)
		if errors.Is(err, ErrNotMirrored) {
			*missing = append(*missing, err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func changeOf(r *authority.Register, id string) Change {
	c := Change{ID: id}
	m, err := r.Find(id, time.Time{})
	if err != nil {
		return c // Replay lets no publication name what was not proposed
	}
	c.Name, c.Scope, c.Category, c.Decision = m.Proposed.Name, m.Proposed.Scope.String(), m.Proposed.Category, m.Proposed.Decision
	if m.Lift != nil {
		c.Ground = m.Lift.Ground
	}
	return c
}

// replay gives the register as far as its rules are kept.
func (m *mirror) replay(ctx context.Context) (*authority.Register, error) {
	cp, err := m.copied(ctx)
	if err != nil {
		return nil, err
	}
	r, err := authority.Replay(m.local().Leaves(ctx, cp, 0))
	if r.Founded == nil {
		if err == nil {
			err = errors.New("it is empty")
		}
		return nil, fmt.Errorf("log %s: %w", m.name, err)
	}
	return r, nil // what breaks a rule is for "verify" to say
}

// leaves calls do for each leaf that is of the auditor's form.
func (m *mirror) leaves(ctx context.Context, do func(index uint64, l audit.Leaf) error) error {
	cp, err := m.copied(ctx)
	if err != nil {
		return err
	}
	for raw, err := range m.local().Leaves(ctx, cp, 0) {
		if err != nil {
			return fmt.Errorf("log %s: %w", m.name, err)
		}
		l, err := audit.ParseLeaf(raw.Data)
		if err != nil {
			continue // "verify" says what it is
		}
		if err := do(raw.Index, l); err != nil {
			return fmt.Errorf("log %s: leaf %d: %w", m.name, raw.Index, err)
		}
	}
	return nil
}

func (m *mirror) events(ctx context.Context, do func(index uint64, e *audit.Event) error) error {
	return m.leaves(ctx, func(index uint64, l audit.Leaf) error {
		if l.Event == nil {
			return nil
		}
		return do(index, l.Event)
	})
}

// Filter narrows decisions down; zero fields let everything through.
type Filter struct {
	Entry string
	Day   time.Time // UTC
}

// Decisions counts the blocks of a day by an entry, by name and in all.
type Decisions struct {
	Day   string      `json:"day"` // UTC; a range that spans midnight counts for the day on which it begins
	Log   string      `json:"log"`
	List  string      `json:"list"` // in the resolver's configuration
	Entry string      `json:"entry"`
	Count uint64      `json:"count"`
	Names []NameCount `json:"names"`
	Other uint64      `json:"other"` // on further names, which a flood of names has counted together
}

// NameCount is how often a name was blocked.
type NameCount struct {
	Name  string `json:"name"`
	Count uint64 `json:"count"`
}

// Decisions counts the blocks in the audit logs, sorted by day, log and entry.
func (d *Desk) Decisions(ctx context.Context, f Filter) ([]Decisions, error) {
	unlock, err := d.shared(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	type key struct{ day, log, list, entry string }
	type sum struct {
		names map[string]uint64
		other uint64
	}
	sums := map[key]*sum{}
	of := func(k key) *sum {
		if sums[k] == nil {
			sums[k] = &sum{names: map[string]uint64{}}
		}
		return sums[k]
	}
	wanted := f.Day.UTC().Format(time.DateOnly)
	var missing []error
	err = d.each(&missing, func(m *mirror) error {
		return m.leaves(ctx, func(_ uint64, l audit.Leaf) error {
			if l.Decisions == nil {
				return nil
			}
			on := l.Decisions.From.UTC().Format(time.DateOnly)
			if !f.Day.IsZero() && on != wanted {
				return nil
			}
			for _, line := range l.Decisions.Tally {
				if f.Entry == "" || f.Entry == line.Entry {
					of(key{on, m.name, line.List, line.Entry}).names[line.Name] += line.Count
				}
			}
			for _, o := range l.Decisions.Other {
				if f.Entry == "" || f.Entry == o.Entry {
					of(key{on, m.name, o.List, o.Entry}).other += o.Count
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	all := make([]Decisions, 0, len(sums))
	for k, s := range sums {
		row := Decisions{Day: k.day, Log: k.log, List: k.list, Entry: k.entry, Count: s.other, Names: []NameCount{}, Other: s.other}
		for _, name := range sorted(s.names) {
			row.Names = append(row.Names, NameCount{name, s.names[name]})
			row.Count += s.names[name]
		}
		all = append(all, row)
	}
	slices.SortFunc(all, func(a, b Decisions) int {
		return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(a.Log, b.Log), cmp.Compare(a.Entry, b.Entry), cmp.Compare(a.List, b.List))
	})
	return all, errors.Join(missing...)
}

// Happening is an event of a resolver or of its auditor.
type Happening struct {
	At   time.Time       `json:"at"`
	Log  string          `json:"log"`
	Leaf uint64          `json:"leaf"`
	Seq  uint64          `json:"seq,omitempty"` // record of the block log; 0: the auditor's own
	Type string          `json:"type"`
	What string          `json:"what"` // a sentence
	Data json.RawMessage `json:"data,omitempty"`
}

// Events gives what happened besides decisions, sorted by time.
func (d *Desk) Events(ctx context.Context) ([]Happening, error) {
	unlock, err := d.shared(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	all := []Happening{}
	var missing []error
	err = d.each(&missing, func(m *mirror) error {
		return m.leaves(ctx, func(index uint64, l audit.Leaf) error {
			if h, ok := happening(m.name, index, l); ok {
				all = append(all, h)
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b Happening) int { return a.At.Compare(b.At) })
	return all, errors.Join(missing...)
}

// happening is a leaf as an event; false for decisions.
func happening(log string, index uint64, l audit.Leaf) (Happening, bool) {
	h := Happening{Log: log, Leaf: index, Type: l.Type}
	switch {
	case l.Event != nil:
		h.At, h.Seq, h.Data = l.Event.At, l.Event.Seq, l.Event.Data
		h.What = eventText(l.Event)
	case l.Gap != nil:
		h.At = l.Gap.At
		h.What = fmt.Sprintf("record %d was expected, the block log went on with %d (%s)", l.Gap.Expected, l.Gap.Resume, l.Gap.Reason)
	case l.Mark != nil:
		h.At = l.Mark.At
		h.What = fmt.Sprintf("auditor %s, next record %d", l.Mark.Version, l.Mark.NextSeq)
	default:
		return h, false
	}
	return h, true
}

// eventText says what the data of an event says, as far as this program knows
// its type.
func eventText(e *audit.Event) string {
	var d struct {
		List      string   `json:"list"`
		Lists     []string `json:"lists"`
		Authority string   `json:"authority"`
		Serial    uint64   `json:"serial"`
		Entries   int      `json:"entries"`
		From      string   `json:"from"`
		Reason    string   `json:"reason"`
		Detail    string   `json:"detail"`
		Version   string   `json:"version"`
		Weaker    []string `json:"weaker"`
	}
	if json.Unmarshal(e.Data, &d) != nil {
		return string(e.Data)
	}
	switch e.Type {
	case "list.applied":
		return fmt.Sprintf("%s: list %d in force, %s, from %s", d.List, d.Serial, count(uint64(d.Entries), "entry"), d.From)
	case "list.refused":
		return fmt.Sprintf("%s: update refused (%s): %s", d.List, d.Reason, d.Detail)
	case "started":
		text := fmt.Sprintf("resolver %s, lists %v", d.Version, d.Lists)
		for _, w := range d.Weaker {
			text += "; " + w
		}
		return text
	case "stopped":
		return "in order"
	}
	return string(e.Data)
}
