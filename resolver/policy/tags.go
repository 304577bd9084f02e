package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cordon/blocklist"
)

// tags hold what an answer and its record need of each entry, its category and its
// identifier, apart from the entries: a place of tagSize bytes for each, in their
// order. An entry is large, its identifier lies elsewhere, and with a long list
// neither is in the processor's cache; a blocked question costs one miss here
// instead of three there. All of it is one string, in which the garbage collector
// has nothing to follow.
type tags struct {
	places     string
	categories []string // by number, sorted
}

// A place is the number of the category, the length of the identifier, and the
// identifier, at most maxTagged bytes. A longer one is left to the entry: its
// length is 0 here.
const (
	tagSize   = 32
	tagHead   = 2
	maxTagged = tagSize - tagHead
)

// newTags fails for an entry whose category the list does not have; a list that
// blocklist.Parse accepted has none.
func newTags(list *blocklist.List) (*tags, error) {
	t := &tags{categories: slices.Sorted(maps.Keys(list.Categories))}
	if len(t.categories) > 256 {
		return nil, fmt.Errorf("%d categories; at most 256 are possible", len(t.categories))
	}
	number := make(map[string]byte, len(t.categories))
	for i, category := range t.categories {
		number[category] = byte(i)
	}
	var b strings.Builder
	b.Grow(tagSize * len(list.Entries))
	for i := range list.Entries {
		e := &list.Entries[i]
		n, ok := number[e.Category]
		if !ok {
			return nil, fmt.Errorf("entry %s: category %q is not one of the list's: %s", e.ID, e.Category, strings.Join(t.categories, ", "))
		}
		id := e.ID
		if len(id) > maxTagged {
			id = ""
		}
		b.WriteByte(n)
		b.WriteByte(byte(len(id)))
		b.WriteString(id)
		b.WriteString(emptyTag[tagHead+len(id):])
	}
	t.places = b.String()
	return t, nil
}

const emptyTag = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// category is the number of an entry's category in categories.
func (t *tags) category(entry uint32) int { return int(t.places[tagSize*int(entry)]) }

// id is an entry's identifier; "" for one that is too long for its place.
func (t *tags) id(entry uint32) string {
	at := tagSize * int(entry)
	return t.places[at+tagHead : at+tagHead+int(t.places[at+1])]
}
