package stage

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	if err := l.Prepare(3, Signed|Zone); err != nil {
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
