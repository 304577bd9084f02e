package blocklist

import (
	"fmt"
	"hash/maphash"
)

// order holds what has to be true between the entries of a list.
type order struct {
	ids    idTable
	scopes [ScopeDomain + 1]int // the lines that list the last name, by scope
}

func newOrder() *order { return &order{ids: newIDTable()} }

// check looks at an entry beside those before it, each of which has been looked at.
func (o *order) check(entries []Entry, number int) *ParseError {
	e, line := &entries[number], lineOf(number)
	if first, ok := o.ids.put(entries, number); ok {
		return &ParseError{Field: "id", Value: e.ID, Problem: fmt.Sprintf("is that of line %d too", lineOf(first)), Remedy: "give each entry an id of its own"}
	}
	var last *Entry
	if number > 0 {
		last = &entries[number-1]
	}
	if last == nil || last.Name != e.Name {
		o.scopes = [ScopeDomain + 1]int{}
	} else if first := o.scopes[e.Scope]; first != 0 {
		return &ParseError{Field: "name", Value: e.Name, Problem: fmt.Sprintf("is listed with scope %v on line %d too", e.Scope, first), Remedy: "keep one of the two"}
	}
	if last != nil && compareEntries(*last, *e) > 0 {
		return &ParseError{Field: "name", Value: e.Name, Problem: fmt.Sprintf("comes after %q", last.Name), Remedy: "sort the entries by name, then by id"}
	}
	o.scopes[e.Scope] = line
	return nil
}

// lineOf is where an entry stands in the text: the header is line 1.
func lineOf(number int) int { return number + 2 }

// idTable finds two entries with one id: an open table of the entries' numbers, by
// the hash of the id. A Go map of the ids takes ten times the memory, and leaves
// twice that behind while it grows.
type idTable struct {
	seed  maphash.Seed
	slots []uint32 // number of an entry and one; 0 for none
	used  int
}

func newIDTable() idTable { return idTable{seed: maphash.MakeSeed(), slots: make([]uint32, 1<<10)} }

// put adds an entry, or gives the one that has its id.
func (t *idTable) put(entries []Entry, number int) (first int, taken bool) {
	if t.used >= len(t.slots)/2 {
		old := t.slots
		t.slots = make([]uint32, 2*len(old))
		for _, slot := range old {
			if slot != 0 {
				at, _ := t.find(entries, entries[slot-1].ID)
				t.slots[at] = slot
			}
		}
	}
	at, taken := t.find(entries, entries[number].ID)
	if taken {
		return int(t.slots[at] - 1), true
	}
	t.slots[at] = uint32(number + 1)
	t.used++
	return 0, false
}

// find gives the slot of an id, or the free one where it belongs.
func (t *idTable) find(entries []Entry, id string) (at int, taken bool) {
	mask := len(t.slots) - 1
	for at = int(maphash.String(t.seed, id)) & mask; t.slots[at] != 0; at = (at + 1) & mask {
		if entries[t.slots[at]-1].ID == id {
			return at, true
		}
	}
	return at, false
}
