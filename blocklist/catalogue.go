package blocklist

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-memdb"
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

// Catalogue is the list in force as people and tools ask for it: by id, name,
// category, review date and state. The query path does not know it. It follows the
// list that is in force, a moment later, and takes in the difference alone. Its
// readers see one list or the other, never something between. Safe for concurrent
// use; one goroutine follows.
type Catalogue struct {
	db     *memdb.MemDB
	shows  *Loaded       // of the goroutine that follows
	serial atomic.Uint64 // of the list that it shows
}

const (
	items      = "items"
	byID       = "id"
	byName     = "name"
	byCategory = "category"
	byReview   = "review"
	byState    = "state"
)

// field is an index over one text of an item. (memdb's own go by reflection.)
type field func(*Item) string

var errArguments = errors.New("catalogue: one string is wanted")

// FromObject implements memdb.SingleIndexer; an empty text is not indexed.
func (f field) FromObject(raw any) (bool, []byte, error) {
	text := f(raw.(*Item))
	if text == "" {
		return false, nil, nil
	}
	// The zero byte keeps one text from being the beginning of another.
	return true, append([]byte(text), 0), nil
}

// FromArgs implements memdb.Indexer.
func (f field) FromArgs(args ...any) ([]byte, error) {
	if len(args) != 1 {
		return nil, errArguments
	}
	s, ok := args[0].(string)
	if !ok {
		return nil, errArguments
	}
	return append([]byte(s), 0), nil
}

// NewCatalogue makes an empty one.
func NewCatalogue() (*Catalogue, error) {
	index := func(name string, f field) *memdb.IndexSchema {
		return &memdb.IndexSchema{Name: name, Unique: name == byID, Indexer: f}
	}
	db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: map[string]*memdb.TableSchema{items: {
		Name: items,
		Indexes: map[string]*memdb.IndexSchema{
			byID:       index(byID, func(i *Item) string { return i.ID }),
			byName:     index(byName, func(i *Item) string { return i.Name }),
			byCategory: index(byCategory, func(i *Item) string { return i.Category }),
			byReview:   index(byReview, func(i *Item) string { return i.ReviewBy.String() }),
			// Most entries are enforced, and nobody looks for them by that.
			byState: {Name: byState, AllowMissing: true, Indexer: field(func(i *Item) string {
				if i.State == Enforced {
					return ""
				}
				return string(i.State)
			})},
		},
	}}})
	if err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	return &Catalogue{db: db}, nil
}

// follow takes in what is different in next from what is shown, in one
// transaction.
func (c *Catalogue) follow(next *Loaded) error {
	txn := c.db.Txn(true)
	defer txn.Abort()
	var old []Entry
	if c.shows != nil {
		old = c.shows.List.Entries
	}
	// First what goes: an id may come back under another name.
	err := walkEntries(old, next.List.Entries, func(was, is int) error {
		if is >= 0 {
			return nil
		}
		// By its id: that is all that the index goes by.
		return txn.Delete(items, &Item{Entry: old[was], State: c.shows.state(was)})
	})
	if err == nil {
		err = walkEntries(old, next.List.Entries, func(was, is int) error {
			if is < 0 {
				return nil
			}
			e, aside := &next.List.Entries[is], next.aside(uint32(is))
			if was >= 0 && old[was] == *e && sameAside(c.shows.aside(uint32(was)), aside) && c.shows.state(was) == next.state(is) {
				return nil
			}
			// A copy: a pointer into the list would keep the whole of it in memory.
			item := &Item{Entry: *e, State: next.state(is)}
			if aside != nil {
				s := aside.SetAside
				item.Aside = &s
			}
			return txn.Insert(items, item)
		})
	}
	if err != nil {
		return fmt.Errorf("catalogue: serial %d: %w", next.List.Serial, err)
	}
	txn.Commit()
	c.shows = next
	c.serial.Store(next.List.Serial)
	return nil
}

// sameAside tells whether an entry is set aside in the same way.
func sameAside(a, b *Aside) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Guard == b.Guard && a.Because == b.Because && a.Since.Equal(b.Since)
}

// walkEntries calls each with the positions of entries that have the same name and
// id, and with -1 for the one that is not there. Both are sorted as in a list.
func walkEntries(old, next []Entry, each func(was, is int) error) error {
	var err error
	for i, j := 0, 0; err == nil && (i < len(old) || j < len(next)); {
		order := 0
		switch {
		case i == len(old):
			order = 1
		case j == len(next):
			order = -1
		default:
			order = compareEntries(old[i], next[j])
		}
		switch {
		case order < 0:
			err = each(i, -1)
			i++
		case order > 0:
			err = each(-1, j)
			j++
		default:
			err = each(i, j)
			i++
			j++
		}
	}
	return err
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

// Serial is that of the list that is shown; 0 before the first.
func (c *Catalogue) Serial() uint64 { return c.serial.Load() }

// Get gives the entry with an id; nil if there is none.
func (c *Catalogue) Get(id string) (*Item, error) {
	raw, err := c.db.Txn(false).First(items, byID, id)
	if err != nil || raw == nil {
		return nil, err
	}
	return raw.(*Item), nil
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

// Find gives the entries that are wanted, and how many there are in all. By
// review date they come the earliest first, else in order of the index that is
// used.
func (c *Catalogue) Find(q Query) (found []*Item, total int, err error) {
	txn := c.db.Txn(false)
	var rows memdb.ResultIterator
	switch {
	case q.Name != "":
		rows, err = txn.Get(items, byName, q.Name)
	case q.State != "" && q.State != Enforced:
		rows, err = txn.Get(items, byState, string(q.State))
	case !q.ReviewBy.IsZero():
		rows, err = txn.LowerBound(items, byReview, "")
	case q.Category != "":
		rows, err = txn.Get(items, byCategory, q.Category)
	default:
		rows, err = txn.LowerBound(items, byName, "")
	}
	if err != nil {
		return nil, 0, fmt.Errorf("catalogue: %w", err)
	}
	for raw := rows.Next(); raw != nil; raw = rows.Next() {
		i := raw.(*Item)
		if q.Holds != "" && !strings.Contains(i.Name, q.Holds) || q.Category != "" && i.Category != q.Category ||
			q.State != "" && i.State != q.State || q.Name != "" && i.Name != q.Name {
			continue
		}
		if !q.ReviewBy.IsZero() && i.ReviewBy.After(q.ReviewBy.Time) {
			continue
		}
		total++
		if q.Limit == 0 || len(found) < q.Limit {
			found = append(found, i)
		}
	}
	return found, total, nil
}

// Overdue counts the entries that were to be re-checked before the day of now.
func (c *Catalogue) Overdue(now time.Time) (int, error) {
	_, n, err := c.Find(Query{ReviewBy: Date{DateOf(now).AddDate(0, 0, -1)}, Limit: 1})
	return n, err
}
