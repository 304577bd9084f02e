package blocklist

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	iradix "github.com/hashicorp/go-immutable-radix"
	"github.com/hashicorp/go-memdb"
)

// lookup is a way to find what covers a name, for comparison.
type lookup interface {
	covers(name []byte) bool
}

type ours struct{ *Index }

func (o ours) covers(name []byte) bool { _, ok := o.Lookup(name); return ok }

// hashed is a Go map by the hash of each ending of a name. It never compares the
// names themselves: a name that is not listed is taken for one that is when 64 bits
// collide. It is what there is to be fast, not what could be used.
type hashed struct {
	seed maphash.Seed
	m    map[uint64]uint32
}

func newHashed(entries []Entry) hashed {
	h := hashed{maphash.MakeSeed(), make(map[uint64]uint32, len(entries))}
	for i := range entries {
		h.m[maphash.Bytes(h.seed, appendWire(nil, entries[i].Name))] = uint32(i)
	}
	return h
}

func (h hashed) covers(name []byte) bool {
	for at := 0; name[at] != 0; at += int(name[at]) + 1 {
		if _, ok := h.m[maphash.Bytes(h.seed, name[at:])]; ok {
			return true
		}
	}
	return false
}

// tree is go-immutable-radix over reversed labels.
type tree struct{ t *iradix.Tree }

func newTree(entries []Entry) tree {
	txn := iradix.New().Txn()
	for i := range entries {
		txn.Insert(reversed(nil, appendWire(nil, entries[i].Name)), uint32(i))
	}
	return tree{txn.Commit()}
}

// reversed appends the labels of a name, the top one first, each with its length.
func reversed(into, name []byte) []byte {
	var at [maxLabels]int
	n := 0
	for i := 0; name[i] != 0; i += int(name[i]) + 1 {
		at[n] = i
		n++
	}
	for n--; n >= 0; n-- {
		into = append(into, name[at[n]:at[n]+int(name[at[n]])+1]...)
	}
	return into
}

func (t tree) covers(name []byte) bool {
	var room [maxWireName]byte
	_, _, ok := t.t.Root().LongestPrefix(reversed(room[:0], name))
	return ok
}

const (
	items = "items"
	byID  = "id" // memdb wants it under this name
)

// table is go-memdb with an index on the name, asked for each ending.
type table struct{ db *memdb.MemDB }

func newTable(b testing.TB, entries []Entry) table {
	db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: map[string]*memdb.TableSchema{items: {Name: items, Indexes: map[string]*memdb.IndexSchema{
		byID: {Name: byID, Unique: true, Indexer: &memdb.StringFieldIndex{Field: "Name"}},
	}}}})
	if err != nil {
		b.Fatal(err)
	}
	txn := db.Txn(true)
	for i := range entries {
		if err := txn.Insert(items, &entries[i]); err != nil {
			b.Fatal(err)
		}
	}
	txn.Commit()
	return table{db}
}

func (t table) covers(name []byte) bool {
	text, err := TextName(name)
	if err != nil {
		return false
	}
	txn := t.db.Txn(false)
	for ; text != ""; text = parentOf(text) {
		if raw, err := txn.First(items, byID, text); err == nil && raw != nil {
			return true
		}
	}
	return false
}

var structures = []struct {
	name string
	make func(b testing.TB, entries []Entry) lookup
}{
	{"cordon", func(b testing.TB, entries []Entry) lookup {
		x, err := NewIndex(entries)
		if err != nil {
			b.Fatal(err)
		}
		return ours{x}
	}},
	{"go-map", func(_ testing.TB, entries []Entry) lookup { return newHashed(entries) }},
	{"go-immutable-radix", func(_ testing.TB, entries []Entry) lookup { return newTree(entries) }},
	{"go-memdb", func(b testing.TB, entries []Entry) lookup { return newTable(b, entries) }},
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkCompare sets the index side by side with what could be in its place:
// look-ups of names that are listed, below one, beside one, and elsewhere.
func BenchmarkCompare(b *testing.B) {
	for _, size := range []int{1_000_000} {
		entries := manyEntries(size)
		r := rand.New(rand.NewPCG(1, 1))
		ask := func(format string) [][]byte {
			// In one piece, as a packet is in the cache when its name is looked up.
			var text []byte
			names := make([][]byte, 1<<16)
			for i := range names {
				start := len(text)
				text = append(text, wireOf(fmt.Sprintf(format, entries[r.IntN(size)].Name))...)
				names[i] = text[start:len(text):len(text)]
			}
			return names
		}
		questions := []struct {
			name  string
			names [][]byte
			want  bool
		}{{"listed", ask("%s"), true}, {"below", ask("www.cdn.%s"), true}, {"beside", ask("x%s"), false}, {"elsewhere", ask("%s.example"), false}}
		for _, s := range structures {
			before := heap()
			l := s.make(b, entries)
			held := float64(heap()-before) / float64(size)
			for _, q := range questions {
				b.Run(fmt.Sprintf("%s/%d/%s", s.name, size, q.name), func(b *testing.B) {
					b.ReportAllocs()
					report := cpu(b)
					i := 0
					for b.Loop() {
						if l.covers(q.names[i&(1<<16-1)]) != q.want {
							b.Fatal("wrong answer")
						}
						i++
					}
					report()
					b.ReportMetric(held, "heldB/name")
				})
			}
			runtime.KeepAlive(l)
		}
	}
}

// BenchmarkBuild sets side by side what it takes to build them.
func BenchmarkBuild(b *testing.B) {
	entries := manyEntries(1_000_000)
	for _, s := range structures {
		b.Run(s.name, func(b *testing.B) {
			report := cpu(b)
			for b.Loop() {
				runtime.KeepAlive(s.make(b, entries))
			}
			report()
		})
	}
}

// TestTheComparedAgree keeps the comparison honest.
func TestTheComparedAgree(t *testing.T) {
	entries := manyEntries(1000)
	var all []lookup
	for _, s := range structures {
		all = append(all, s.make(t, entries))
	}
	for _, e := range entries[:100] {
		for _, name := range [][]byte{wireOf(e.Name), wireOf("a.b." + e.Name), wireOf("x" + e.Name), wireOf(e.Name + ".example")} {
			want := all[0].covers(bytes.Clone(name))
			if slices.ContainsFunc(all, func(l lookup) bool { return l.covers(name) != want }) {
				t.Fatalf("%q: they do not agree", name)
			}
		}
	}
}
