package blocklist

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// listed makes entries out of "name" (scope host) and "name/" (scope domain).
func listed(names ...string) []Entry {
	var entries []Entry
	for i, name := range names {
		e := Entry{ID: fmt.Sprint(i), Name: name, Scope: ScopeHost}
		if domain, ok := strings.CutSuffix(name, "/"); ok {
			e.Name, e.Scope = domain, ScopeDomain
		}
		entries = append(entries, e)
	}
	return entries
}

func indexOf(t testing.TB, entries []Entry) *Index {
	t.Helper()
	x, err := NewIndex(entries)
	if err != nil {
		t.Fatal(err)
	}
	if x.Len() != len(entries) {
		t.Fatalf("Len() = %d for %d entries", x.Len(), len(entries))
	}
	return x
}

// wire makes wire format of any labels, however odd.
func wire(labels ...string) []byte {
	var b []byte
	for _, l := range labels {
		b = append(append(b, byte(len(l))), l...)
	}
	return append(b, 0)
}

func wireOf(name string) []byte { return wire(strings.Split(name, ".")...) }

func TestLookup(t *testing.T) {
	long := strings.Repeat("a", 63)
	longest := strings.Repeat(long+".", 3) + long[:61]
	for _, c := range []struct {
		name   string
		listed []string
		ask    []byte
		want   string // as listed; empty for none
	}{
		{"an empty list covers nothing", nil, wireOf("a.example"), ""},
		{"scope host covers the name", []string{"a.example"}, wireOf("a.example"), "a.example"},
		{"scope host covers nothing below", []string{"a.example"}, wireOf("b.a.example"), ""},
		{"scope host covers nothing above", []string{"b.a.example"}, wireOf("a.example"), ""},
		{"scope domain covers the name", []string{"a.example/"}, wireOf("a.example"), "a.example/"},
		{"scope domain covers what is below", []string{"a.example/"}, wireOf("d.c.b.a.example"), "a.example/"},
		{"scope domain covers nothing beside", []string{"a.example/"}, wireOf("b.example"), ""},
		{"scope domain covers nothing above", []string{"a.example/"}, wireOf("example"), ""},
		{"labels are matched whole, from the left", []string{"a.example/"}, wireOf("xa.example"), ""},
		{"labels are matched whole, from the right", []string{"a.example/"}, wireOf("ax.example"), ""},
		{"the root is never covered", []string{"example/"}, []byte{0}, ""},
		{"a deeper domain comes first", []string{"a.example/", "b.a.example/"}, wireOf("c.b.a.example"), "b.a.example/"},
		{"a deeper host comes first", []string{"a.example/", "b.a.example"}, wireOf("b.a.example"), "b.a.example"},
		{"a host entry leaves what is below it to the domain above", []string{"a.example/", "b.a.example"}, wireOf("c.b.a.example"), "a.example/"},
		{"the host entry of a name comes before its domain entry", []string{"a.example/", "a.example"}, wireOf("a.example"), "a.example"},
		{"the domain entry of a name covers what is below its host entry", []string{"a.example/", "a.example"}, wireOf("b.a.example"), "a.example/"},

		// StevenBlack/hosts #451; RFC 4592 closest encloser.
		{"a deeper entry does not free a sibling", []string{"example.org/", "a.b.example.org"}, wireOf("c.b.example.org"), "example.org/"},
		{"a deeper entry does not free the name between", []string{"example.org/", "a.b.example.org"}, wireOf("b.example.org"), "example.org/"},
		{"a deeper entry does not free a sibling of the name between", []string{"example.org/", "a.b.example.org"}, wireOf("c.example.org"), "example.org/"},
		{"a deeper entry does not free what is below it", []string{"example.org/", "a.b.example.org"}, wireOf("x.a.b.example.org"), "example.org/"},

		{"a label with a dot is one label", []string{"a.example/"}, wire("b.a", "example"), ""},
		{"a label that looks like a name below is not", []string{"a.example/"}, wire("a.example"), ""},
		{"a label with a dot below a listed name", []string{"a.example/"}, wire("x.y", "a", "example"), "a.example/"},
		{"a binary label below a listed name", []string{"a.example/"}, wire("\x00\xff\x03", "a", "example"), "a.example/"},
		{"a binary label that spells a listed name's wire form", []string{"a.example"}, wire("a\x07example"), ""},
		{"an A-label", []string{"xn--rsum-bpad.example/"}, wireOf("www.xn--rsum-bpad.example"), "xn--rsum-bpad.example/"},
		{"a label of 63 bytes", []string{long + ".example/"}, wireOf("x." + long + ".example"), long + ".example/"},
		{"a label of 63 bytes that differs in the last", []string{long + ".example/"}, wireOf(long[:62] + "b.example"), ""},
		{"a name of 255 bytes", []string{longest}, wireOf(longest), longest},
		{"127 labels", []string{strings.Repeat("a.", 126) + "a"}, wireOf(strings.Repeat("a.", 126) + "a"), strings.Repeat("a.", 126) + "a"},
		{"127 labels below one", []string{"a/"}, wireOf(strings.Repeat("a.", 126) + "a"), "a/"},
		{"upper case is the caller's business", []string{"a.example"}, wireOf("A.example"), ""},

		// What is no name.
		{"no bytes", []string{"a.example/"}, nil, ""},
		{"no root label", []string{"a.example/"}, []byte("\x01a\x07example"), ""},
		{"bytes after the root label", []string{"a.example/"}, []byte("\x01a\x07example\x00\x00"), ""},
		{"a label past the end", []string{"a.example/"}, []byte("\x01a\x09example\x00"), ""},
		{"a compression pointer", []string{"a.example/"}, []byte("\x01a\xc0\x0c\x00"), ""},
		{"more than 255 bytes", []string{"a/"}, wireOf(strings.Repeat("a.", 127) + "a"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := indexOf(t, listed(c.listed...))
			entry, ok := x.Lookup(c.ask)
			if c.want == "" {
				if ok {
					t.Errorf("covered by %q", c.listed[entry])
				}
				if all := x.Covering(nil, c.ask); len(all) != 0 {
					t.Errorf("Covering gives %v", all)
				}
				return
			}
			if !ok || c.listed[entry] != c.want {
				t.Errorf("got %d, %v; want %q", entry, ok, c.want)
			}
		})
	}
}

func TestCoveringGivesAllFromTheMostSpecific(t *testing.T) {
	names := []string{"example/", "a.example", "b.a.example/", "a.example/", "b.a.example", "c.b.a.example"}
	x := indexOf(t, listed(names...))
	for _, c := range []struct {
		ask  string
		want []string
	}{
		{"b.a.example", []string{"b.a.example", "b.a.example/", "a.example/", "example/"}},
		{"x.b.a.example", []string{"b.a.example/", "a.example/", "example/"}},
		{"a.example", []string{"a.example", "a.example/", "example/"}},
		{"z.example", []string{"example/"}},
		{"z.test", nil},
	} {
		kept := []uint32{7}
		got := x.Covering(kept, wireOf(c.ask))
		if got[0] != 7 {
			t.Errorf("%s: what was in the slice is gone", c.ask)
		}
		var text []string
		for _, e := range got[1:] {
			text = append(text, names[e])
		}
		if !slices.Equal(text, c.want) {
			t.Errorf("%s: got %q, want %q", c.ask, text, c.want)
		}
	}
}

func TestNewIndexRefuses(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries []Entry
		says    string
	}{
		{"one name twice with scope host", listed("a.example", "b.example", "a.example"), "same name and scope host"},
		{"one name twice with scope domain", listed("a.example/", "a.example/"), "same name and scope domain"},
		{"a name that is not canonical", listed("A.example"), "upper-case"},
		{"the root", listed(""), "is empty"},
		{"no scope", []Entry{{ID: "1", Name: "a.example"}}, "scope(0)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := NewIndex(c.entries); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want ...%s...", err, c.says)
			}
		})
	}
}

// naive is the Index as one would write it without a thought to speed.
func naive(entries []Entry, name []byte) []uint32 {
	type hit struct {
		length int
		scope  Scope
		entry  uint32
	}
	var hits []hit
	for i, e := range entries {
		own := wireOf(e.Name)
		covered := bytes.Equal(own, name)
		if e.Scope == ScopeDomain {
			for rest := name; len(rest) > 1 && !covered; rest = rest[1+rest[0]:] {
				covered = bytes.Equal(own, rest)
			}
		}
		if covered {
			hits = append(hits, hit{len(own), e.Scope, uint32(i)})
		}
	}
	slices.SortFunc(hits, func(a, b hit) int {
		if a.length != b.length {
			return b.length - a.length
		}
		return int(a.scope) - int(b.scope)
	})
	var out []uint32
	for _, h := range hits {
		out = append(out, h.entry)
	}
	return out
}

func sameAsNaive(t *testing.T, x *Index, entries []Entry, name []byte) {
	t.Helper()
	want := naive(entries, name)
	got := x.Covering(nil, name)
	entry, ok := x.Lookup(name)
	if !slices.Equal(got, want) || ok != (len(want) > 0) || (ok && entry != want[0]) {
		t.Fatalf("%q among %v: Covering %v, Lookup %d %v; naive %v", name, entries, got, entry, ok, want)
	}
}

// randomName draws from few labels, so that names meet.
func randomName(r *rand.Rand, labels []string) string {
	var parts []string
	for range 1 + r.IntN(6) {
		parts = append(parts, labels[r.IntN(len(labels))])
	}
	return strings.Join(parts, ".")
}

func TestIndexAgreesWithTheNaiveModel(t *testing.T) {
	labels := []string{"a", "b", "ab", "aa", "xn--rsum-bpad", strings.Repeat("z", 63), "_x", "0a"}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		some := labels[:1+r.IntN(len(labels))]
		var entries []Entry
		seen := map[string]bool{}
		for range r.IntN(60) {
			e := Entry{Name: randomName(r, some), Scope: ScopeHost + Scope(r.IntN(2))}
			if CheckName(e.Name) == nil && !seen[e.Name+e.Scope.String()] {
				seen[e.Name+e.Scope.String()] = true
				entries = append(entries, e)
			}
		}
		x := indexOf(t, entries)
		for _, e := range entries {
			sameAsNaive(t, x, entries, wireOf(e.Name))
			sameAsNaive(t, x, entries, wireOf("below." + e.Name)[:])
			if _, above, ok := strings.Cut(e.Name, "."); ok {
				sameAsNaive(t, x, entries, wireOf(above))
			}
		}
		for range 100 {
			if name := wireOf(randomName(r, labels)); len(name) <= maxWireName {
				sameAsNaive(t, x, entries, name)
			}
		}
	}
}

// A long list is where the buckets have to be right: at their ends, and for names
// that are not there.
func TestIndexFindsEveryNameOfALongList(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10, 1000, 50000} {
		x := indexOf(t, manyEntries(n))
		for i, e := range manyEntries(n) {
			if got, ok := x.Lookup(wireOf(e.Name)); !ok || int(got) != i {
				t.Fatalf("%d entries: %q gives %d, %v; want %d", n, e.Name, got, ok, i)
			}
			if got, ok := x.Lookup(wireOf("not" + e.Name)); ok {
				t.Fatalf("%d entries: not%s gives %d", n, e.Name, got)
			}
		}
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	x := indexOf(t, manyEntries(10000))
	hit, miss := wireOf("a.b.c."+manyEntries(10000)[77].Name), wireOf("www.not-listed.example")
	room := make([]uint32, 0, 8)
	var found bool
	n := testing.AllocsPerRun(100, func() {
		_, found = x.Lookup(hit)
		_, _ = x.Lookup(miss)
		_ = x.Covering(room, hit)
	})
	if n != 0 || !found {
		t.Errorf("%v allocations, found %v", n, found)
	}
}

func FuzzLookup(f *testing.F) {
	f.Add("a.example/ b.a.example example.org/ a.b.example.org", []byte("\x01c\x01b\x07example\x03org\x00"))
	f.Add("a/", []byte("\x01a\x00"))
	f.Add("a.example", []byte("\x01a\xc0\x0c"))
	f.Add("a.example", []byte("\x09a\x07example\x00"))
	f.Fuzz(func(t *testing.T, names string, name []byte) {
		entries := listed(strings.Fields(names)...)
		x, err := NewIndex(entries)
		if err != nil {
			return
		}
		if _, err := TextName(name); err != nil {
			if _, ok := x.Lookup(name); ok {
				t.Fatalf("%q is no name, and covered", name)
			}
			return
		}
		sameAsNaive(t, x, entries, name)
	})
}

// manyEntries gives n different entries like those of a real list, all of scope
// domain, most below one of a few top-level domains, a tenth of them deeper.
func manyEntries(n int) []Entry {
	tlds := []string{"com", "com", "com", "net", "org", "ru", "co.uk", "info", "xyz", "top"}
	entries := make([]Entry, n)
	for i := range entries {
		name := fmt.Sprintf("site-%x.%s", uint32(i)*2654435761, tlds[i%len(tlds)])
		if i%10 == 9 {
			name = "www." + name
		}
		entries[i] = Entry{Name: name, Scope: ScopeDomain}
	}
	return entries
}

var sizes = []struct {
	name string
	n    int
}{{"1e5", 100_000}, {"1e6", 1_000_000}}

func BenchmarkLookup(b *testing.B) {
	for _, size := range sizes {
		entries := manyEntries(size.n)
		x := indexOf(b, entries)
		r := rand.New(rand.NewPCG(1, 1))
		ask := func(format string) [][]byte {
			// In one piece, as a packet is in the cache when its name is looked up.
			var text []byte
			names := make([][]byte, 1<<16)
			for i := range names {
				start := len(text)
				text = append(text, wireOf(fmt.Sprintf(format, entries[r.IntN(size.n)].Name))...)
				names[i] = text[start:len(text):len(text)]
			}
			return names
		}
		for _, c := range []struct {
			name  string
			names [][]byte
			want  bool
		}{
			{"listed", ask("%s"), true},
			{"below", ask("www.cdn.%s"), true},
			{"beside", ask("x%s"), false},
			{"elsewhere", ask("%s.example"), false},
		} {
			b.Run(size.name+"/"+c.name, func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if _, ok := x.Lookup(c.names[i&(1<<16-1)]); ok != c.want {
						b.Fatal("wrong answer")
					}
					i++
				}
			})
		}
	}
}

func BenchmarkNewIndex(b *testing.B) {
	for _, size := range sizes {
		entries := manyEntries(size.n)
		b.Run(size.name, func(b *testing.B) {
			b.ReportAllocs()
			var x *Index
			for b.Loop() {
				x = indexOf(b, entries)
			}
			held := cap(x.records) + cap(x.buckets)*8
			b.ReportMetric(float64(held)/float64(size.n), "heldB/name")
			runtime.KeepAlive(x)
		})
	}
}

func BenchmarkParse(b *testing.B) {
	l := parse(b, frenchText(b))
	one := l.Entries[1]
	l.Entries = nil
	for i, e := range manyEntries(100_000) {
		one.ID, one.Name = fmt.Sprint(i), e.Name
		l.Entries = append(l.Entries, one)
	}
	text := encode(b, l)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		parse(b, text)
	}
}
