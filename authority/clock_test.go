package authority

import (
	"slices"
	"testing"
	"time"
)

func listedNames(o *office) []string {
	var names []string
	for _, m := range o.Listed(o.now) {
		names = append(names, m.Proposed.Name)
	}
	return names
}

func TestARemovalRequestIsWaitedFor(t *testing.T) {
	o := newOffice(t, example(t, "france"))
	p := o.proposal("asked.example")
	p.Request = &Request{At: o.now.Add(-time.Hour), To: "host of asked.example"}
	o.must(o.add(o.sign(p, "alice")))
	m := o.Measures[0]
	o.must(o.state(LeafApproved, m, "bruno"))
	o.must(o.state(LeafApproved, m, "chloe"))
	if got := listedNames(o); len(got) != 0 {
		t.Fatalf("listed an hour after the request: %v", got)
	}
	refused(t, o.Withheld(m, o.now), "may be listed from 2026-03-03T09:00:00Z on (clock removal)")
	o.now = o.now.Add(23 * time.Hour)
	if got := listedNames(o); !slices.Equal(got, []string{"asked.example"}) {
		t.Fatalf("listed 24 hours after the request: %v", got)
	}
}

func TestWhatWasRemovedInTimeIsNotListed(t *testing.T) {
	o := newOffice(t, example(t, "france"))
	p := o.proposal("asked.example")
	p.Request = &Request{At: o.now, To: "host of asked.example"}
	o.must(o.add(o.sign(p, "alice")))
	m := o.Measures[0]
	o.must(o.state(LeafApproved, m, "bruno"))
	o.must(o.state(LeafApproved, m, "chloe"))
	o.now = o.now.Add(12 * time.Hour)
	o.must(o.state(LeafNoted, m, "alice", func(s *Stated) { s.Event, s.Happened = "removed", o.now.Add(-time.Hour) }))
	o.now = o.now.AddDate(0, 0, 7)
	refused(t, o.Withheld(m, o.now), "clock removal was met")

	// A second removal, long after, gives no leave to list.
	o.must(o.state(LeafNoted, m, "alice", func(s *Stated) { s.Event, s.Happened = "removed", o.now }))
	refused(t, o.Withheld(m, o.now), "clock removal was met")
}

func TestAnOverdueReCheckStopsPublicationUntilItIsConfirmedOrLifted(t *testing.T) {
	o := newOffice(t, example(t, "france"))
	old, older := o.list("old.example"), o.list("older.example")
	o.publish()
	o.now = time.Date(2026, 6, 2, 23, 59, 59, 0, time.UTC)
	o.must(o.Ready(o.now))
	o.now = o.now.Add(time.Second)
	refused(t, o.Ready(o.now), `measure 2026-0001 (old.example): clock quarter ran out on 2026-06-03T00:00:00Z: run "review 2026-0001" to confirm it, or "lift 2026-0001"`)
	refused(t, o.add(o.publication()), "older.example")

	o.must(o.state(LeafReviewed, old, "chloe"))
	o.must(o.state(LeafLifted, older, "chloe"))
	o.publish()
	if got := o.Entries(o.now)[0].ReviewBy; got != date(2026, 8, 3) {
		t.Errorf("after the re-check the next is due by %s", got)
	}
}

func TestACourtOrderLeavesTheListOnItsDay(t *testing.T) {
	o := newOffice(t, example(t, "court"))
	p := o.proposal("judged.example")
	p.Category, p.LegalBasis = "copyright", "CPI L. 336-2"
	refused(t, o.add(o.sign(p, "alice")), "asks for an end date")
	p.Ends = Day{date(2026, 3, 10).Time}
	o.must(o.add(o.sign(p, "alice")))
	m := o.Measures[0]
	o.must(o.state(LeafApproved, m, "bruno"))
	o.publish()
	if got := o.Entries(o.now)[0].ReviewBy; got != date(2026, 3, 10) {
		t.Errorf("review date %s is past the end", got)
	}
	o.now = time.Date(2026, 3, 11, 0, 0, 0, 0, time.UTC)
	if got := o.State(m, o.now); got != StateEnded {
		t.Errorf("after its last day the measure is %s", got)
	}
	refused(t, o.state(LeafReviewed, m, "bruno"), "has ended: propose it anew")
	if p := o.publish(); p.Entries != 0 || len(p.Removed) != 1 {
		t.Errorf("the list after it: %+v", p.Published)
	}
}

func TestACategoryThatEndsStopsPublicationUntilItsMeasuresAreLifted(t *testing.T) {
	p := example(t, "france")
	c, _ := p.Category("terrorism")
	until := "from: 2015-02-05\n    until: 2026-04-01\n"
	text := p.text
	text = replaceFirst(t, text, "from: 2015-02-05\n", until)
	p, err := ParseProcedure("p.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	o := newOffice(t, p)
	m := o.list("a.example")
	o.publish()
	o.now = time.Date(2026, 4, 2, 0, 0, 0, 0, time.UTC)
	refused(t, o.add(o.publication()), "category terrorism ended on 2026-04-01: run \"lift 2026-0001\"")
	refused(t, o.add(o.sign(o.proposal("b.example"), "alice")), "category "+c.ID+" ended")
	o.must(o.state(LeafLifted, m, "bruno"))
	o.publish()
}

func TestClocksOfALiftAreShownAfterIt(t *testing.T) {
	o := newOffice(t, example(t, "france"))
	m := o.list("a.example")
	o.publish()
	names := func() (all []string) {
		for _, c := range o.Clocks(m) {
			all = append(all, c.Clock.ID)
		}
		return all
	}
	if got := names(); !slices.Equal(got, []string{"block", "delisting", "recheck", "quarter"}) {
		t.Errorf("clocks of a listed measure: %v", got)
	}
	o.now = o.now.Add(time.Hour)
	o.must(o.state(LeafLifted, m, "bruno"))
	o.publish()
	if got := names(); !slices.Equal(got, []string{"restore"}) {
		t.Fatalf("clocks of a lifted measure: %v", got)
	}
	restore := o.Clocks(m)[0]
	if restore.Over(o.now) || !restore.Over(o.now.Add(24*time.Hour)) {
		t.Errorf("24 hours to restore: %+v", restore)
	}
	o.now = o.now.Add(30 * time.Hour)
	o.must(o.state(LeafNoted, m, "alice", func(s *Stated) { s.Event, s.Happened = "restored", o.now.Add(-10*time.Hour) }))
	if restore = o.Clocks(m)[0]; restore.Over(o.now) {
		t.Errorf("restored within 24 hours, noted later: %+v", restore)
	}
}
