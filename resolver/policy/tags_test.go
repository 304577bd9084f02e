package policy

import (
	"fmt"
	"strings"
	"testing"

	"cordon/blocklist"
)

// TestTheQueryPathReadsWhatTheEntriesSay holds the places that answers are made from
// against the entries, for identifiers of every length that a list can have.
func TestTheQueryPathReadsWhatTheEntriesSay(t *testing.T) {
	var entries []blocklist.Entry
	for n := 1; n <= 64; n++ {
		category := []string{"terrorism", "minors"}[n%2]
		entries = append(entries, entry(strings.Repeat("x", n), fmt.Sprintf("listed%d.example", n), blocklist.ScopeHost, category))
	}
	g := enforcing(t, entries...).Current()
	for _, e := range entries {
		name := wireName(t, e.Name)
		hit, ok := g.Match(name)
		if !ok {
			t.Fatalf("%s is not listed", e.Name)
		}
		matches := g.AppendMatches(nil, hit, name)
		if hit.Entry().ID != e.ID || hit.Category() != e.Category || len(matches) != 1 || matches[0].Entry != e.ID {
			t.Errorf("%s: entry %q of category %s, recorded as %v", e.Name, hit.Entry().ID, hit.Category(), matches)
		}
	}
}

func TestAnEntryOfNoCategoryIsRefusedAndTheListInForceStays(t *testing.T) {
	p := enforcing(t, entry("e1", "propagande.example", blocklist.ScopeDomain, "terrorism"))
	l, x := listOf(t, 8, entry("e2", "images.example", blocklist.ScopeHost, "unheard-of"))
	for what, err := range map[string]error{"apply": p.Apply("national", l, x), "try": p.Try("national", l, x)} {
		if err == nil || !strings.Contains(err.Error(), "unheard-of") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := p.Current().Serials()["national"]; got != 7 || p.Trial() != nil {
		t.Errorf("serial %d in force, trial %v", got, p.Trial())
	}
}
