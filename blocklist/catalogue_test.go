package blocklist

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// generation makes a list with an index, some of it set aside and some pending.
func generation(t testing.TB, random *rand.Rand, serial uint64) *Loaded {
	t.Helper()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	l := &List{Header: Header{Serial: serial}}
	for id := range 12 {
		if random.IntN(3) == 0 {
			continue
		}
		e := Entry{ID: fmt.Sprint(id), Name: fmt.Sprintf("n%d.example", random.IntN(6)), Scope: ScopeHost, Category: []string{"a", "b"}[random.IntN(2)],
			InForce: now.Add(time.Duration(random.IntN(2)*2-1) * time.Hour), ReviewBy: DateOf(now.AddDate(0, 0, random.IntN(4)-2))}
		if slices.ContainsFunc(l.Entries, func(o Entry) bool { return o.Name == e.Name }) {
			continue
		}
		l.Entries = append(l.Entries, e)
	}
	l.Sort()
	var aside []Aside
	for i, e := range l.Entries {
		if guard := []string{"", "", guardProtected, guardPerson}[random.IntN(4)]; guard != "" {
			aside = append(aside, Aside{uint32(i), SetAside{ID: e.ID, Guard: guard}})
		}
	}
	built, err := (&Loaded{Name: "french", List: l}).build(t.Context(), aside, now)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// TestTheCatalogueShowsTheListInForce asks random lists and compares with plain
// loops.
func TestTheCatalogueShowsTheListInForce(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	line := func(all []Item) string {
		var b strings.Builder
		slices.SortFunc(all, func(a, b Item) int { return strings.Compare(a.ID, b.ID) })
		for _, i := range all {
			fmt.Fprintf(&b, "%s %s %s %s %s %v; ", i.ID, i.Name, i.Category, i.ReviewBy, i.State, i.Aside != nil)
		}
		return b.String()
	}
	for serial := range uint64(500) {
		l := generation(t, random, serial)
		c := Catalogue{l}
		if c.Serial() != serial {
			t.Fatalf("shows %d", c.Serial())
		}
		var want []Item
		for n, e := range l.List.Entries {
			i := Item{Entry: e, State: l.state(n)}
			if a := l.aside(uint32(n)); a != nil {
				i.Aside = &a.SetAside
			}
			want = append(want, i)
		}
		day := DateOf(l.AsOf)
		for _, q := range []Query{
			{}, {Name: "n1.example"}, {Holds: "n2"}, {Category: "b"}, {State: Enforced}, {State: Quarantined}, {State: Overridden}, {State: Pending, Category: "a"},
			{ReviewBy: day}, {ReviewBy: day, State: Quarantined}, {Name: "n1.example", Category: "a"}, {Name: "1.example"},
		} {
			var fits []Item
			for _, i := range want {
				if (q.Name == "" || i.Name == q.Name) && strings.Contains(i.Name, q.Holds) && (q.Category == "" || i.Category == q.Category) &&
					(q.State == "" || i.State == q.State) && (q.ReviewBy.IsZero() || !i.ReviewBy.After(day.Time)) {
					fits = append(fits, i)
				}
			}
			got, total := c.Find(q)
			if total != len(fits) || line(got) != line(fits) {
				t.Fatalf("serial %d, %+v:\ngot  %s\nwant %s", serial, q, line(got), line(fits))
			}
		}
		for id := range 12 {
			got, ok := c.Get(fmt.Sprint(id))
			if there := slices.ContainsFunc(want, func(i Item) bool { return i.ID == fmt.Sprint(id) }); there != ok || ok && got.ID != fmt.Sprint(id) {
				t.Fatalf("id %d is there: %v, %v", id, ok, got)
			}
		}
	}
}

func TestTheCatalogueBoundsWhatItGives(t *testing.T) {
	l := parse(t, frenchText(t))
	built, err := (&Loaded{List: l}).build(t.Context(), nil, l.Issued)
	if err != nil {
		t.Fatal(err)
	}
	c := Catalogue{built}
	if got, total := c.Find(Query{Limit: 2}); len(got) != 2 || total != 5 {
		t.Errorf("%d of %d", len(got), total)
	}
	if n := c.Overdue(time.Date(2026, 5, 27, 1, 0, 0, 0, time.UTC)); n != 2 {
		t.Errorf("%d overdue", n)
	}
	if got, total := c.Find(Query{ReviewBy: Date{time.Date(2026, 5, 26, 0, 0, 0, 0, time.UTC)}}); total != 2 || got[0].ReviewBy.After(got[1].ReviewBy.Time) {
		t.Errorf("%d by review date", total)
	}
}

func TestTheCatalogueIsEmptyBeforeTheFirstList(t *testing.T) {
	var c Catalogue
	_, there := c.Get("1")
	if got, total := c.Find(Query{}); there || got != nil || total != 0 || c.Serial() != 0 || c.Overdue(time.Now()) != 0 {
		t.Errorf("%v, %d, %v", got, total, there)
	}
}

// TestTheCatalogueShowsOrdersAtOnce holds that what a person orders shows in it.
func TestTheCatalogueShowsOrdersAtOnce(t *testing.T) {
	config := usual()
	config.Protected = guardedBy(protecting(t, "google.fr"))
	a := found(t)
	a.publish(42, adding("google.fr"))
	r := enforcing(a, guarding(t, config)).refreshed()
	shows := func(id string, want State) {
		t.Helper()
		if i, ok := r.Catalogue().Get(id); !ok || i.State != want {
			t.Fatalf("%s is %v, want %v", id, i.State, want)
		}
	}
	shows("slip-0", Quarantined)
	shows("2026-0001", Enforced)
	if err := r.Release([]string{"slip-0"}, someone); err != nil {
		t.Fatal(err)
	}
	shows("slip-0", Enforced)
	if err := r.Hold([]string{"2026-0001"}, someone); err != nil {
		t.Fatal(err)
	}
	shows("2026-0001", Overridden)
}

// BenchmarkFind looks through a million entries, as people's questions do.
func BenchmarkFind(b *testing.B) {
	l := &List{Entries: manyEntries(1_000_000)}
	for i := range l.Entries {
		l.Entries[i].ID = fmt.Sprint("2026-", i)
	}
	l.Sort()
	c := Catalogue{&Loaded{List: l}}
	for name, ask := range map[string]func() int{
		"text":    func() int { _, n := c.Find(Query{Holds: "site-77", Limit: 100}); return n },
		"state":   func() int { _, n := c.Find(Query{State: Enforced, Limit: 100}); return n },
		"id":      func() int { _, ok := c.Get("2026-999999"); return map[bool]int{true: 1}[ok] },
		"overdue": func() int { return c.Overdue(time.Date(2026, 5, 27, 1, 0, 0, 0, time.UTC)) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if ask() == 0 {
					b.Fatal("found nothing")
				}
			}
		})
	}
}
