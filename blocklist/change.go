package blocklist

// Change counts how two lists differ in what they block: an entry is the same
// where name and scope are.
type Change struct {
	Added   int `json:"added"`
	Removed int `json:"removed"`
}

// changeOf compares two lists; before may be nil. Both are sorted by name.
func changeOf(before, after *List) (c Change) {
	walkChange(before, after, func(was, is *Entry) {
		switch {
		case was == nil:
			c.Added++
		case is == nil:
			c.Removed++
		}
	})
	return c
}

// walkChange calls each with the entries of two lists that have the same name and
// scope, and with nil for the one that is not there. before may be nil.
func walkChange(before, after *List, each func(was, is *Entry)) {
	var old []Entry
	if before != nil {
		old = before.Entries
	}
	next := after.Entries
	for len(old) > 0 || len(next) > 0 {
		switch {
		case len(next) == 0 || len(old) > 0 && old[0].Name < next[0].Name:
			each(&old[0], nil)
			old = old[1:]
		case len(old) == 0 || next[0].Name < old[0].Name:
			each(nil, &next[0])
			next = next[1:]
		default:
			was, is := sameName(old), sameName(next)
			for i := range was {
				each(&was[i], find(is, was[i].Scope))
			}
			for i := range is {
				if find(was, is[i].Scope) == nil {
					each(nil, &is[i])
				}
			}
			old, next = old[len(was):], next[len(is):]
		}
	}
}

// sameName gives the entries at the start that have one name: one or two, by
// scope.
func sameName(entries []Entry) []Entry {
	n := 1
	for n < len(entries) && entries[n].Name == entries[0].Name {
		n++
	}
	return entries[:n]
}

func find(entries []Entry, scope Scope) *Entry {
	for i := range entries {
		if entries[i].Scope == scope {
			return &entries[i]
		}
	}
	return nil
}

// Difference is an entry that two lists do not have in common, or not in the same
// words.
type Difference struct {
	Was *Entry `json:"was,omitempty"`
	Is  *Entry `json:"is,omitempty"`
}

// Diff gives at most most of the differences of two lists, before may be nil, and
// how many there are in all. An entry whose words alone changed has both sides.
func Diff(before, after *List, most int) (some []Difference, total int) {
	walkChange(before, after, func(was, is *Entry) {
		if was != nil && is != nil && *was == *is {
			return
		}
		total++
		if len(some) < most {
			some = append(some, Difference{Was: was, Is: is})
		}
	})
	return some, total
}
