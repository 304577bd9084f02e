package stage

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cordon/blocklist"
)

func TestNamesAreDifferentAndAHundredthChangesWithTheEdition(t *testing.T) {
	l := &List{Entries: 20_000}
	seen := map[string]bool{}
	changed := 0
	for i := range l.Entries {
		one, two := l.name(i, 1), l.name(i, 2)
		if seen[one] || seen[two] {
			t.Fatalf("%s or %s stands there twice", one, two)
		}
		seen[one], seen[two] = true, true
		if one != two {
			changed++
		}
		if one != l.name(i, 3) {
			t.Fatalf("editions 1 and 3 differ in entry %d", i)
		}
	}
	if changed != l.Entries/100 {
		t.Errorf("%d names change, want %d", changed, l.Entries/100)
	}
}

func TestAMarkIsNewAndAStableNameStays(t *testing.T) {
	dir := t.TempDir()
	l, err := NewList(filepath.Join(dir, "list"), 300)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Prepare(t.Context(), 3, Signed|Zone); err != nil {
		t.Fatal(err)
	}
	before := zoneNames(t, l)
	if !before[l.Mark(7)] || !before[l.Stable(100)] {
		t.Fatal("the edition in place lacks its own names")
	}
	for range 2 {
		stamp, err := os.ReadFile(l.timestamp())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Next(); err != nil {
			t.Fatal(err)
		}
		now := zoneNames(t, l)
		if before[l.Mark(7)] || !now[l.Mark(7)] || !now[l.Stable(100)] || len(now) != len(before) {
			t.Errorf("mark %s: before %v, now %v; %d names, before %d", l.Mark(7), before[l.Mark(7)], now[l.Mark(7)], len(now), len(before))
		}
		after, err := os.ReadFile(l.timestamp())
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(stamp, after) {
			t.Error("the publication is the same as before")
		}
		before = now
	}
	if _, err := l.Next(); err == nil {
		t.Error("there is an edition that was not prepared")
	}
}

// zoneNames are the names of the zone file in place, without wildcards.
func zoneNames(t *testing.T, l *List) map[string]bool {
	t.Helper()
	f, err := os.Open(l.RPZ)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, _, _ := strings.Cut(lines.Text(), " "); strings.Contains(name, ".") && !strings.HasPrefix(name, "*") {
			all[name] = true
		}
	}
	return all
}

func TestEditionsAreListsAsTheFormatWantsThem(t *testing.T) {
	l, err := NewList(filepath.Join(t.TempDir(), "list"), 60_000) // longer than a window of its compression
	if err != nil {
		t.Fatal(err)
	}
	for serial := uint64(1); serial <= 3; serial++ { // the third takes its entries from the first
		text, err := l.text(serial)
		if err != nil {
			t.Fatal(err)
		}
		list, err := blocklist.Decode(bytes.NewReader(text), blocklist.Limits{})
		if err != nil {
			t.Fatalf("edition %d: %v", serial, err)
		}
		if list.Serial != serial || len(list.Entries) != l.Entries {
			t.Errorf("edition %d has serial %d and %d entries", serial, list.Serial, len(list.Entries))
		}
		if !slices.ContainsFunc(list.Entries, func(e blocklist.Entry) bool { return e.Name == l.name(200, serial) }) {
			t.Errorf("edition %d lacks the names of its set", serial)
		}
	}
}
