package blocklist

import (
	"slices"
	"testing"
	"time"
)

// What other resolvers are given must be what this one enforces, no more and no less.
func TestWhatIsEnforcedIsWhatTheIndexCovers(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	l := &Loaded{List: &List{Entries: []Entry{
		{ID: "1", Name: "a.example", Scope: ScopeHost, InForce: now.Add(-time.Hour)},
		{ID: "2", Name: "a.example", Scope: ScopeDomain, InForce: now},
		{ID: "3", Name: "b.example", Scope: ScopeDomain, InForce: now.Add(time.Second)}, // not yet
		{ID: "4", Name: "c.example", Scope: ScopeHost, InForce: now.Add(-time.Hour)},    // set aside
		{ID: "5", Name: "d.example", Scope: ScopeHost, InForce: now.Add(time.Hour)},     // both
		{ID: "6", Name: "e.example", Scope: ScopeHost, InForce: now.Add(-time.Hour)},
	}}}
	built, err := l.build(t.Context(), []Aside{{Entry: 3}, {Entry: 4}}, now)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for e := range built.Enforced {
		got = append(got, e.ID)
	}
	if want := []string{"1", "2", "6"}; !slices.Equal(got, want) {
		t.Errorf("enforced are %v, want %v", got, want)
	}
	if built.Index.Len() != len(got) {
		t.Errorf("the index has %d entries", built.Index.Len())
	}
	for e := range built.Enforced {
		if e.ID != "1" {
			t.Errorf("went on to %s after it was told to stop", e.ID)
		}
		break
	}
}
