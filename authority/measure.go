package authority

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"cordon/blocklist"
)

// State is where a measure stands.
type State string

// The states of a measure.
const (
	StateProposed State = "proposed" // approvals are missing
	StateApproved State = "approved" // enough approvals, not published yet
	StateListed   State = "listed"   // in the last published list
	StateLifted   State = "lifted"   // ended by an officer
	StateEnded    State = "ended"    // ended by a clock
)

// State tells where a measure stands at a time.
func (r *Register) State(m *Measure, at time.Time) State {
	switch {
	case m.Lift != nil:
		return StateLifted
	case r.over(m, Ends, at):
		return StateEnded
	case m.InList():
		return StateListed
	case !m.approvedAt.IsZero():
		return StateApproved
	}
	return StateProposed
}

// InList tells whether the last published list holds the measure.
func (m *Measure) InList() bool { return !m.notifiedAt.IsZero() && m.withdrawnAt.IsZero() }

// live: neither lifted nor ended.
func (r *Register) live(m *Measure, at time.Time) bool {
	return m.Lift == nil && !r.over(m, Ends, at)
}

// Find gives the measure of an id, or the one of a name: the live one, or the
// only one there ever was.
func (r *Register) Find(idOrName string, at time.Time) (*Measure, error) {
	if m := r.byID[idOrName]; m != nil {
		return m, nil
	}
	all := r.byName[idOrName]
	var live []*Measure
	for _, m := range all {
		if r.live(m, at) {
			live = append(live, m)
		}
	}
	switch {
	case len(live) == 1:
		return live[0], nil
	case len(all) == 1:
		return all[0], nil
	case len(all) == 0:
		return nil, fmt.Errorf("there is no measure %s: \"list --all\" shows all", idOrName)
	}
	var known []string
	for _, m := range all {
		known = append(known, m.Proposed.ID)
	}
	return nil, fmt.Errorf("%s has several measures: name one of %s", idOrName, strings.Join(known, ", "))
}

// NextID gives the id for a measure proposed at a time: the year and a number.
func (r *Register) NextID(at time.Time) string {
	for n := 1; ; n++ {
		if id := fmt.Sprintf("%d-%04d", at.Year(), n); r.byID[id] == nil {
			return id
		}
	}
}

// LastPublication is nil before the first.
func (r *Register) LastPublication() *Publication {
	if len(r.Publications) == 0 {
		return nil
	}
	return r.Publications[len(r.Publications)-1]
}

// always is the bound of event for the register as it stands.
const always = math.MaxUint64

// times gives when something happened to a measure, as the register knew before
// leaf number before; none where it has not.
func (m *Measure) times(event string, before uint64) []time.Time {
	one := func(index uint64, t time.Time) []time.Time {
		if t.IsZero() || index >= before {
			return nil
		}
		return []time.Time{t}
	}
	var all []time.Time
	switch event {
	case EventRequested:
		if m.Proposed.Request != nil {
			return []time.Time{m.Proposed.Request.At}
		}
	case EventProposed:
		return []time.Time{m.Proposed.At}
	case EventApproved:
		return one(m.approvedIndex, m.approvedAt)
	case EventNotified:
		return one(m.notifiedIndex, m.notifiedAt)
	case EventReviewed:
		for _, s := range m.Reviews {
			all = append(all, one(s.Index, s.At)...)
		}
	case EventLifted:
		if m.Lift != nil {
			return one(m.Lift.Index, m.Lift.At)
		}
	case EventWithdrawn:
		return one(m.withdrawnIndex, m.withdrawnAt)
	case EventEnds:
		if !m.Proposed.Ends.IsZero() {
			return []time.Time{m.Proposed.Ends.AddDate(0, 0, 1)}
		}
	default:
		for _, s := range m.Notes {
			if s.Event == event {
				all = append(all, one(s.Index, s.Happened)...)
			}
		}
	}
	return all
}

// ClockState is a clock of a measure that has started.
type ClockState struct {
	Clock *Clock
	Start time.Time
	Due   time.Time
	Met   time.Time // when it was met; zero: not yet
}

// Over tells whether the clock ran out unmet by then.
func (c ClockState) Over(at time.Time) bool {
	return !at.Before(c.Due) && (c.Met.IsZero() || c.Met.After(c.Due))
}

// Clocks gives the clocks of a measure that have started, in the procedure's
// order. Of a lifted measure only those that the lift, or what follows it,
// started.
func (r *Register) Clocks(m *Measure) []ClockState {
	var all []ClockState
	for i := range r.Procedure.Clocks {
		s, ok := m.clock(&r.Procedure.Clocks[i], always)
		if !ok || m.Lift != nil && s.Met.IsZero() && s.Start.Before(m.Lift.At) {
			continue
		}
		all = append(all, s)
	}
	return all
}

func (m *Measure) clock(c *Clock, before uint64) (ClockState, bool) {
	s := ClockState{Clock: c}
	for _, e := range c.From {
		for _, t := range m.times(e, before) {
			if t.After(s.Start) {
				s.Start = t
			}
		}
	}
	if s.Start.IsZero() {
		return s, false
	}
	s.Due = c.Lasts.After(s.Start)
	for _, e := range c.Until {
		for _, t := range m.times(e, before) {
			if !t.Before(s.Start) && (s.Met.IsZero() || t.Before(s.Met)) {
				s.Met = t
			}
		}
	}
	return s, true
}

// over tells whether a clock of that effect has run out for a measure.
func (r *Register) over(m *Measure, effect Effect, at time.Time) bool {
	for i := range r.Procedure.Clocks {
		c := &r.Procedure.Clocks[i]
		if c.OnExpiry != effect {
			continue
		}
		if s, ok := m.clock(c, always); ok && s.Over(at) {
			return true
		}
	}
	return false
}

// listable tells whether a list issued at a time holds the measure.
func (r *Register) listable(m *Measure, at time.Time) bool {
	return m.Lift == nil && !m.approvedAt.IsZero() && !r.over(m, Ends, at) && r.waits(m, at) == nil
}

// waits gives the clock that does not let a measure be listed yet, or any more.
func (r *Register) waits(m *Measure, at time.Time) *ClockState {
	for i := range r.Procedure.Clocks {
		c := &r.Procedure.Clocks[i]
		if c.OnExpiry != Permits {
			continue
		}
		if s, ok := m.clock(c, always); ok && !s.Over(at) {
			return &s
		}
	}
	return nil
}

// Withheld says why a measure is not listed at a time; nil: it is.
func (r *Register) Withheld(m *Measure, at time.Time) error {
	switch {
	case r.listable(m, at):
		return nil
	case m.Lift != nil:
		return fmt.Errorf("measure %s (%s) was lifted", m.Proposed.ID, m.Proposed.Name)
	case m.approvedAt.IsZero():
		return fmt.Errorf("measure %s (%s) has %d of %d approvals: run \"approve %s\"",
			m.Proposed.ID, m.Proposed.Name, len(m.Approvals), r.Procedure.Approvals.Number, m.Proposed.ID)
	case r.over(m, Ends, at):
		return fmt.Errorf("measure %s (%s) has ended", m.Proposed.ID, m.Proposed.Name)
	}
	s := r.waits(m, at)
	if !s.Met.IsZero() && !s.Met.After(s.Due) {
		return fmt.Errorf("measure %s (%s) may not be listed: clock %s was met on %s", m.Proposed.ID, m.Proposed.Name, s.Clock.ID, s.Met.Format(time.RFC3339))
	}
	return fmt.Errorf("measure %s (%s) may be listed from %s on (clock %s)", m.Proposed.ID, m.Proposed.Name, s.Due.Format(time.RFC3339), s.Clock.ID)
}

// Listed gives the measures that a list issued at a time has to hold, sorted by
// name.
func (r *Register) Listed(at time.Time) []*Measure {
	var listed []*Measure
	for _, m := range r.Measures {
		if r.listable(m, at) {
			listed = append(listed, m)
		}
	}
	slices.SortFunc(listed, func(a, b *Measure) int { return cmp.Compare(a.Proposed.Name, b.Proposed.Name) })
	return listed
}

// Ready tells whether anything may be published at a time: a listed measure
// whose re-check is overdue, or whose category has ended, stops it. The error
// names each, and what to do.
func (r *Register) Ready(at time.Time) error {
	var problems []error
	for _, m := range r.Listed(at) {
		if err := r.checkCategory(m.Proposed.Category, at); err != nil {
			problems = append(problems, fmt.Errorf("measure %s (%s): %w: run \"lift %s\"", m.Proposed.ID, m.Proposed.Name, err, m.Proposed.ID))
		}
		for i := range r.Procedure.Clocks {
			c := &r.Procedure.Clocks[i]
			if s, ok := m.clock(c, always); ok && c.OnExpiry == Holds && s.Over(at) {
				problems = append(problems, fmt.Errorf("measure %s (%s): clock %s ran out on %s: run \"review %s\" to confirm it, or \"lift %s\"",
					m.Proposed.ID, m.Proposed.Name, c.ID, s.Due.Format(time.RFC3339), m.Proposed.ID, m.Proposed.ID))
			}
		}
	}
	return errors.Join(problems...)
}

// Changes compares what is to be listed with the last published list: the ids
// that come and those that go, each sorted.
func (r *Register) Changes(listed []*Measure) (added, removed []string) {
	added, removed = []string{}, []string{}
	stays := map[*Measure]bool{}
	for _, m := range listed {
		stays[m] = true
		if !m.InList() {
			added = append(added, m.Proposed.ID)
		}
	}
	for _, m := range r.Measures {
		if m.InList() && !stays[m] {
			removed = append(removed, m.Proposed.ID)
		}
	}
	slices.Sort(added)
	slices.Sort(removed)
	return added, removed
}

// Entries gives the entries of a list issued at a time from the register as it
// stands.
func (r *Register) Entries(issued time.Time) []blocklist.Entry {
	return r.entries(r.Listed(issued), issued, always)
}

// EntriesOf gives the entries that a published list has to hold. The official
// compares them with the list that was signed.
func (r *Register) EntriesOf(p *Publication) []blocklist.Entry {
	in := map[*Measure]bool{}
	for _, q := range r.Publications {
		if q.Index > p.Index {
			break
		}
		for _, id := range q.Added {
			in[r.byID[id]] = true
		}
		for _, id := range q.Removed {
			delete(in, r.byID[id])
		}
	}
	var listed []*Measure
	for m := range in {
		listed = append(listed, m)
	}
	slices.SortFunc(listed, func(a, b *Measure) int { return cmp.Compare(a.Proposed.Name, b.Proposed.Name) })
	return r.entries(listed, p.Issued, p.Index)
}

// CheckList tells whether a list, as it was received, is the one that the
// register says was published under its serial, and says what was approved.
func (r *Register) CheckList(l *blocklist.List) error {
	at := slices.IndexFunc(r.Publications, func(p *Publication) bool { return p.Serial == l.Serial })
	if at < 0 {
		return fmt.Errorf("list %d: the register knows of no such publication", l.Serial)
	}
	p := r.Publications[at]
	sum, err := digest(l)
	if err != nil {
		return err
	}
	if sum != p.ListSHA256 {
		return fmt.Errorf("list %d: its SHA-256 is %s, the register says %s", l.Serial, sum, p.ListSHA256)
	}
	want := blocklist.List{Header: l.Header, Entries: r.EntriesOf(p)}
	want.Authority, want.Issued, want.ValidUntil, want.AnswerTTL = r.Founded.Authority, p.Issued, p.ValidUntil, r.Procedure.List.AnswerTTL
	if err := compare(l, &want); err != nil {
		return fmt.Errorf("list %d is not what was approved: %w", l.Serial, err)
	}
	return nil
}

// entries writes the measures as entries of a list issued at a time, as the
// register stood before leaf number before.
func (r *Register) entries(listed []*Measure, issued time.Time, before uint64) []blocklist.Entry {
	review, _ := r.Procedure.Clock(r.Procedure.List.ReviewBy)
	list := make([]blocklist.Entry, 0, len(listed))
	for _, m := range listed {
		p := m.Proposed
		notified, due := issued, review.Lasts.After(issued)
		if told := m.times(EventNotified, before); len(told) > 0 {
			notified = told[0]
			if s, ok := m.clock(review, before); ok {
				due = s.Due
			}
		}
		by := lastDay(due)
		if !p.Ends.IsZero() && p.Ends.Before(by) {
			by = p.Ends.Time
		}
		list = append(list, blocklist.Entry{
			ID: p.ID, Name: p.Name, Scope: p.Scope, Category: p.Category, LegalBasis: p.LegalBasis, Decision: p.Decision,
			Notified: notified, InForce: notified, ReviewBy: blocklist.Date{Time: by},
		})
	}
	return list
}
