package blocklist

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"cordon/durable/durabletest"
)

// guarding gives a resolver's watcher guards with these settings.
func guarding(t testing.TB, c GuardConfig) func(*Config) {
	t.Helper()
	g, err := NewGuard(c)
	if err != nil {
		t.Fatal(err)
	}
	return func(w *Config) { w.Guard = g }
}

// usual are the bounds of the resolver's own defaults.
func usual() GuardConfig {
	return GuardConfig{
		PopularPerMillion: 100, PopularLeast: 1000,
		Additions: Bound{Least: 500, Percent: 25}, Removals: Bound{Least: 100, Percent: 25},
	}
}

// adding puts entries on a list, ids "slip-0" and on.
func adding(names ...string) func(*List) {
	return func(l *List) {
		for i, e := range listed(names...) {
			like := l.Entries[0]
			like.ID, like.Name, like.Scope = fmt.Sprintf("slip-%d", i), e.Name, e.Scope
			l.Entries = append(l.Entries, like)
		}
		l.Sort()
	}
}

func many(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("site%d.example/", i))
	}
	return names
}

// orange are the names of 17 October 2016 and of 19 October 2024.
var orange = []string{"google.fr/", "fr.wikipedia.org/", "ovh.com/", "drive.usercontent.google.com/"}

var someone = Ruling{Name: "Alice Martin", Reason: "the authority confirmed it by telephone", Account: "alice"}

// blocks tells whether the list in force leads a name to the stop page.
func (r *resolver) blocks(name string) bool {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.applied) == 0 {
		return false
	}
	_, ok := r.applied[len(r.applied)-1].Index.Lookup(wireOf(name))
	return ok
}

func (r *resolver) wantBlocked(blocked bool, names ...string) {
	r.t.Helper()
	for _, name := range names {
		name = strings.TrimSuffix(name, "/")
		for _, n := range []string{name, "www." + name} {
			if r.blocks(n) != blocked {
				r.t.Errorf("%s is blocked: %v", n, !blocked)
			}
		}
	}
}

// wantEvent wants exactly n events that hold all of these texts.
func (r *resolver) wantEvents(n int, texts ...string) {
	r.t.Helper()
	r.journal.mu.Lock()
	defer r.journal.mu.Unlock()
	got := 0
	for _, e := range r.journal.events {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(e, text) }) {
			got++
		}
	}
	if got != n {
		r.t.Errorf("%d events with %q, want %d; there are %q", got, texts, n, r.journal.events)
	}
}

func (r *resolver) gauge(of func(*Metrics) float64) float64 { return of(r.metrics) }

func quarantined(m *Metrics) float64 {
	return testutil.ToFloat64(m.quarantined.WithLabelValues("french"))
}
func heldSerial(m *Metrics) float64 { return testutil.ToFloat64(m.held.WithLabelValues("french")) }
func heldUpdates(m *Metrics) float64 {
	return testutil.ToFloat64(m.updates.WithLabelValues("french", resultHeld))
}

// TestOrange is the day that must not come again, with real signatures: a
// correctly signed list names what half the country uses.
func TestOrange(t *testing.T) {
	starter := func(c *GuardConfig) {
		p := NewProtected()
		c.Protected = func() *Protected { return p }
		if err := p.AddStarter(); err != nil {
			t.Fatal(err)
		}
	}
	traffic := func(c *GuardConfig) {
		// An empty file of protected names, and a day of questions.
		c.Protected = guardedBy(protecting(t))
		p, _ := sketch()
		tally := p.Tally()
		for range 2000 {
			for _, name := range orange {
				tally.Observe(wireOf("www." + strings.TrimSuffix(name, "/")))
			}
			tally.Observe(wireOf("other.example"))
		}
		tally.Flush()
		c.Traffic = p
	}
	for _, c := range []struct {
		name  string
		setup func(*GuardConfig)
		guard string
		why   string
	}{
		{"the names are protected", starter, "protected", "protected name"},
		{"only traffic tells", traffic, "popular", "is popular: about 2000 of the last 10000 questions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := usual()
			c.setup(&config)
			a := found(t)
			a.publish(42)
			r := enforcing(a, guarding(t, config)).refreshed()
			r.wantBlocked(true, "propagande.example")

			a.publish(43, adding(append(slices.Clone(orange), "new.example/")...))
			r.refreshed().wantInForce(43, OriginFetch)
			r.wantBlocked(false, orange...)
			r.wantBlocked(true, "propagande.example", "new.example") // the rest of the list is enforced
			if got := r.gauge(quarantined); got != 4 {
				t.Errorf("cordon_list_quarantined is %v", got)
			}
			r.wantEvents(1, "guard.held", `"guard":"`+c.guard+`"`, "google.fr", "ovh.com", "fr.wikipedia.org", "drive.usercontent.google.com", c.why)
			for _, say := range []string{"google.fr", c.why, "cordon-resolver list release french slip-0 --name NAME --reason REASON"} {
				if !strings.Contains(r.logged.String(), say) {
					t.Errorf("the log does not say %s", say)
				}
			}

			// 8,000 names at once, as in Denmark: none of them is enforced.
			names := many(8000)
			a.publish(44, adding(append(slices.Clone(orange), names...)...))
			r.refreshed().wantInForce(43, OriginFetch)
			r.wantBlocked(false, orange...)
			r.wantBlocked(false, names[:10]...)
			if got := r.gauge(heldSerial); got != 44 {
				t.Errorf("cordon_list_held is %v", got)
			}
			const why = "adds 8000 entries to 10, where at most 500 are added at once"
			r.wantEvents(1, "guard.held", `"guard":"size"`, `"serial":44`, why, `"added":8000`, `"removed":1`)
			if !strings.Contains(r.logged.String(), why) || !strings.Contains(r.logged.String(), "list release french --update 44") {
				t.Errorf("the log does not say why: %s", r.logged)
			}
			if v := r.View(); v.Held == nil || v.Held.Because != why || v.HeldList == nil || len(v.Running.Aside) != 4 {
				t.Errorf("the view is %+v", v)
			}
			// It does not wear off, and is not said again.
			r.refreshed().refreshed().wantInForce(43, OriginFetch)
			r.wantEvents(1, "guard.held", `"guard":"size"`)
			if got := r.gauge(heldUpdates); got != 1 {
				t.Errorf("%v updates held", got)
			}

			// Nor at a restart, when all traffic is forgotten.
			config.Traffic = nil
			r = r.start(a, guarding(t, config))
			r.Restore(t.Context())
			r.wantInForce(43, OriginStore)
			r.wantBlocked(false, orange...)
			r.wantBlocked(true, "propagande.example", "new.example")
			r.refreshed().wantInForce(43, OriginStore)
			r.wantEvents(0, "guard.held")
			if got := r.gauge(quarantined); got != 4 {
				t.Errorf("cordon_list_quarantined is %v after a restart", got)
			}

			// One command with a reason releases it, but not the four.
			if err := r.ReleaseUpdate(44, someone); err != nil {
				t.Fatal(err)
			}
			r.wantInForce(44, OriginFetch)
			r.wantBlocked(true, names[:10]...)
			r.wantBlocked(false, orange...)
			r.wantEvents(1, "guard.released", `"action":"release-update"`, `"serial":44`, someone.Name, someone.Reason, `"account":"alice"`)
			r.wantEvents(1, "list.applied", `"serial":44`)
			r.refreshed() // and the client learns of it
			if got := r.gauge(heldSerial); got != 0 {
				t.Errorf("cordon_list_held is %v", got)
			}

			if err := r.Release([]string{"slip-2"}, someone); err != nil {
				t.Fatal(err)
			}
			r.wantBlocked(true, "ovh.com")
			r.wantBlocked(false, "google.fr", "fr.wikipedia.org", "drive.usercontent.google.com")
			r.wantEvents(1, "guard.released", `"action":"release"`, "slip-2", "ovh.com", someone.Reason)

			r = r.start(a, guarding(t, config))
			r.Restore(t.Context())
			r.wantInForce(44, OriginStore)
			r.wantBlocked(true, "ovh.com", names[17])
			r.wantBlocked(false, "google.fr", "fr.wikipedia.org", "drive.usercontent.google.com")
		})
	}
}

func TestAnUpdateThatRemovesTooMuchIsHeld(t *testing.T) {
	a := found(t)
	a.publish(42, adding(many(300)...))
	r := enforcing(a, guarding(t, usual())).refreshed()
	a.publish(43, func(l *List) { l.Entries = nil })
	r.refreshed().wantInForce(42, OriginFetch)
	r.wantBlocked(true, "propagande.example")
	r.wantEvents(1, "guard.held", "removes 305 entries of 305, where at most 100 are removed at once")
	// A newer list of plausible size takes the place of the one that is held.
	a.publish(44, adding(many(290)...))
	r.refreshed().wantInForce(44, OriginFetch)
	if v := r.View(); v.Held != nil {
		t.Errorf("still held: %+v", v.Held)
	}
}

func TestTheFirstListIsBoundToo(t *testing.T) {
	config := usual()
	a := found(t)
	a.publish(1, adding(many(600)...))
	r := enforcing(a, guarding(t, config)).refreshed()
	if _, _, n := r.inForce(); n != 0 {
		t.Error("it came into force")
	}
	r.wantEvents(1, "guard.held", "adds 605 entries to 0", "set accept_first")
	if err := r.ReleaseUpdate(2, someone); err == nil || !strings.Contains(err.Error(), "serial 2 is not held") {
		t.Errorf("got %v", err)
	}
	config.AcceptFirst = true
	enforcing(a, guarding(t, config)).refreshed().wantInForce(1, OriginFetch)
}

func TestAReleaseIsBoundToTheEntrysWords(t *testing.T) {
	config := usual()
	config.Protected = guardedBy(protecting(t, "google.fr"))
	a := found(t)
	a.publish(42, adding("google.fr"))
	r := enforcing(a, guarding(t, config)).refreshed()
	if err := r.Release([]string{"slip-0"}, someone); err != nil {
		t.Fatal(err)
	}
	if !r.blocks("google.fr") {
		t.Fatal("not released")
	}
	a.publish(43, adding("google.fr"))
	r.refreshed()
	if !r.blocks("google.fr") {
		t.Error("set aside again, in the same words")
	}
	a.publish(44, adding("google.fr/"))
	r.refreshed()
	if r.blocks("google.fr") {
		t.Error("the release went on for another scope")
	}
}

// TestAnEnforcedNameIsNotSetAsideByItsOldTraffic holds that what people asked for
// before a name was listed, or while its entry was released, does not count
// against the next list.
func TestAnEnforcedNameIsNotSetAsideByItsOldTraffic(t *testing.T) {
	config := usual()
	config.Traffic, _ = sketch()
	a := found(t)
	a.publish(42)
	r := enforcing(a, guarding(t, config)).refreshed()
	tally := config.Traffic.Tally()
	for range 5000 {
		tally.Observe(wireOf("propagande.example"))
	}
	tally.Flush()
	a.publish(43, adding("new.example"))
	r.refreshed()
	if !r.blocks("propagande.example") {
		t.Error("an entry in force was set aside")
	}
}

func TestAPersonHoldsAnEntryAndReleasesIt(t *testing.T) {
	a := found(t)
	a.publish(42)
	r := enforcing(a, guarding(t, usual())).refreshed()
	if err := r.Hold([]string{"2026-0001"}, someone); err != nil {
		t.Fatal(err)
	}
	if r.blocks("www.propagande.example") {
		t.Error("still enforced")
	}
	if !r.blocks("propagande.example") { // by 2026-0004, scope host
		t.Error("another entry went with it")
	}
	r.wantEvents(1, "override", `"action":"hold"`, "2026-0001", someone.Name, someone.Reason)
	a.publish(43)
	r.refreshed()
	if r.blocks("www.propagande.example") {
		t.Error("the next list enforces it again")
	}
	r = r.start(a, guarding(t, usual()))
	r.Restore(t.Context())
	if r.blocks("www.propagande.example") {
		t.Error("a restart enforces it again")
	}
	if err := r.Hold([]string{"2026-0001"}, someone); err == nil || !strings.Contains(err.Error(), "set aside already") {
		t.Errorf("held twice: %v", err)
	}
	if err := r.Release([]string{"2026-0001"}, someone); err != nil {
		t.Fatal(err)
	}
	if !r.blocks("www.propagande.example") {
		t.Error("not released")
	}
}

func TestOrdersThatCannotBeGiven(t *testing.T) {
	a := found(t)
	r := enforcing(a)
	if err := r.Release([]string{"x"}, someone); err == nil || !strings.Contains(err.Error(), "no list is in force") {
		t.Errorf("got %v", err)
	}
	a.publish(42)
	r.refreshed()
	for _, c := range []struct {
		name string
		ids  []string
		by   Ruling
		says string
	}{
		{"no entry", nil, someone, "name 1 to 50 entries"},
		{"too many", make([]string, 51), someone, "name 1 to 50 entries"},
		{"an entry that is not there", []string{"nobody"}, someone, `serial 42 has no entry "nobody"`},
		{"an entry that is enforced", []string{"2026-0001"}, someone, "entry 2026-0001 is not set aside"},
	} {
		if err := r.Release(c.ids, c.by); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, c := range []struct{ name, reason, says string }{
		{"", "because", "name"}, {"Alice", "", "reason"}, {"Alice", "two\nlines", "reason"}, {"Alice", strings.Repeat("x", 2000), "reason"},
	} {
		if err := r.Hold([]string{"2026-0001"}, Ruling{Name: c.name, Reason: c.reason, Account: "alice"}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q, %q: %v", c.name, c.reason, err)
		}
	}
	r.wantEvents(0, "override")
	if _, err := r.RollBack(someone); err == nil || !strings.Contains(err.Error(), "no list before serial 42 is stored") {
		t.Errorf("got %v", err)
	}
}

func TestRollback(t *testing.T) {
	a := found(t)
	a.publish(42)
	r := enforcing(a, guarding(t, usual())).refreshed()
	a.publish(43, adding("slip.example"))
	r.refreshed()
	to, err := r.RollBack(someone)
	if err != nil || to != 42 {
		t.Fatalf("went back to %d, %v", to, err)
	}
	check := func(r *resolver) {
		t.Helper()
		if s, _, _ := r.inForce(); s != 42 || r.blocks("slip.example") || !r.blocks("propagande.example") {
			t.Errorf("serial %d is in force", s)
		}
		if testutil.ToFloat64(r.metrics.rolledBack.WithLabelValues("french")) != 1 || r.View().Rollback == nil {
			t.Error("it is not seen")
		}
	}
	check(r)
	r.wantEvents(1, "override", `"action":"rollback"`, `"serial":43`, `"to":42`, someone.Name, someone.Reason)
	r.wantEvents(2, "list.applied", `"serial":42`)
	if _, err := r.RollBack(someone); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("went back twice: %v", err)
	}

	// It outlasts polls, the same list signed anew, and a restart.
	check(r.refreshed())
	_, err = a.repo.RestageTarget(a.clock.now().AddDate(0, 2, 0))
	a.must(err)
	a.release()
	check(r.refreshed())
	r = r.start(a, guarding(t, usual()))
	r.Restore(t.Context())
	check(r)
	check(r.refreshed().refreshed())

	// A newer list ends it.
	a.publish(44, adding("next.example"))
	r.refreshed().wantInForce(44, OriginFetch)
	if r.View().Rollback != nil || testutil.ToFloat64(r.metrics.rolledBack.WithLabelValues("french")) != 0 {
		t.Error("the rollback goes on")
	}
	r = r.start(a, guarding(t, usual()))
	r.Restore(t.Context())
	r.wantInForce(44, OriginStore)
}

// TestAnOrderIsOnRecordBeforeItHasAnEffect fails each step of an order, and
// starts again.
func TestAnOrderIsOnRecordBeforeItHasAnEffect(t *testing.T) {
	config := usual()
	config.Protected = guardedBy(protecting(t, "google.fr"))
	start := func(t *testing.T) (*authority, *resolver) {
		a := found(t)
		a.publish(42, adding("google.fr"))
		return a, enforcing(a, guarding(t, config)).refreshed()
	}
	release := func(r *resolver) error { return r.Release([]string{"slip-0"}, someone) }

	t.Run("the journal is full", func(t *testing.T) {
		a, r := start(t)
		r.journal.failWith(errors.New("disk full"))
		if err := release(r); err == nil || !strings.Contains(err.Error(), "has no effect") {
			t.Fatalf("got %v", err)
		}
		r.journal.failWith(nil)
		again := r.start(a, guarding(t, config))
		again.Restore(t.Context())
		if r.blocks("google.fr") || again.blocks("google.fr") {
			t.Error("released without a record")
		}
		again.wantEvents(0, "guard.released")
	})
	for call := 1; call <= 16; call++ {
		for said, how := range map[string]durabletest.How{"before": durabletest.Before, "half": durabletest.Half} {
			t.Run(fmt.Sprintf("power fails %s disk call %d", said, call), func(t *testing.T) {
				a, r := start(t)
				r.c.Store.disk = durabletest.New(call, how, durabletest.Killed)
				err := release(r)
				recorded := strings.Contains(strings.Join(r.journal.events, "\n"), "guard.released")
				if blocked := r.blocks("google.fr"); blocked && !recorded || err == nil != blocked {
					t.Errorf("blocked %v, recorded %v, %v", blocked, recorded, err)
				}
				again := r.start(a, guarding(t, config))
				again.Restore(t.Context())
				recorded = recorded || strings.Contains(strings.Join(again.journal.events, "\n"), "guard.released")
				if again.blocks("google.fr") && !recorded {
					t.Error("a restart released it without a record")
				}
				if err == nil && !again.blocks("google.fr") {
					t.Error("what took effect was forgotten")
				}
			})
		}
	}
}

// TestAQuarantineIsDurableBeforeTheList fails each call of an update with
// quarantine, and starts again without traffic: the name is never enforced.
func TestAQuarantineIsDurableBeforeTheList(t *testing.T) {
	for call := 1; call <= 14; call++ {
		for said, how := range map[string]durabletest.How{"before": durabletest.Before, "half": durabletest.Half} {
			config := usual()
			config.Traffic, _ = sketch()
			tally := config.Traffic.Tally()
			for range 5000 {
				tally.Observe(wireOf("google.fr"))
			}
			tally.Flush()
			a := found(t)
			a.publish(42)
			r := enforcing(a, guarding(t, config)).refreshed()
			a.publish(43, adding("google.fr"))
			r.c.Store.disk = durabletest.New(call, how, durabletest.Killed)
			_ = r.refresh(t.Context())
			config.Traffic = nil
			again := r.start(a, guarding(t, config))
			again.Restore(t.Context())
			if r.blocks("google.fr") || again.blocks("google.fr") {
				t.Errorf("%s call %d: google.fr is blocked, before %v, after %v", said, call, r.blocks("google.fr"), again.blocks("google.fr"))
			}
		}
	}
}

func TestADamagedStandingIsToldAndKept(t *testing.T) {
	config := usual()
	config.Protected = guardedBy(protecting(t, "google.fr"))
	a := found(t)
	a.publish(42, adding("google.fr"))
	r := enforcing(a, guarding(t, config)).refreshed()
	path := filepath.Join(r.c.Store.Dir(), standingFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	a.must(os.WriteFile(path, []byte(`{"format":"cordon-standing/1","list":"french","aside":[`), 0o600))
	r = r.start(a, guarding(t, config))
	r.Restore(t.Context())
	if r.blocks("google.fr") || !r.blocks("propagande.example") {
		t.Error("the guards that need no memory do not hold")
	}
	r.wantEvents(1, "list.refused", `"reason":"store"`, standingBad)
	if _, err := os.Stat(filepath.Join(r.c.Store.Dir(), standingBad)); err != nil {
		t.Error(err)
	}
}

func FuzzStanding(f *testing.F) {
	f.Add([]byte(`{"format":"cordon-standing/1","list":"french","aside":[{"id":"1","sha256":"ab","name":"a.example","scope":"host","guard":"popular","because":"x","serial":1,"since":"2026-03-01T09:30:00Z","said":true}],"released":[],"rollback":{"from":2,"to":1,"ruling":{"name":"a","reason":"b","account":"c","at":"2026-03-01T09:30:00Z"}}}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"format":"cordon-standing/1"} x`))
	l := &List{Entries: listed("a.example", "b.example")}
	g := guardOf(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		st, err := parseStanding(raw)
		if err != nil {
			return
		}
		// Whatever stands there, it can only take entries away.
		if st.Order != nil {
			st.obey(st.Order)
		}
		aside, err := st.review(t.Context(), g, l, nil, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range aside {
			if int(a.Entry) >= len(l.Entries) || l.Entries[a.Entry].ID != a.ID {
				t.Fatalf("set aside %d, %s", a.Entry, a.ID)
			}
		}
	})
}

// TestEntriesComeIntoForceWhenTheirTimeHasCome: see docs/decisions/0011.
func TestEntriesComeIntoForceWhenTheirTimeHasCome(t *testing.T) {
	a := found(t)
	a.publish(42, func(l *List) {
		for i := range l.Entries {
			if l.Entries[i].ID == "2026-0005" {
				l.Entries[i].InForce = a.clock.now().Add(time.Hour)
			}
		}
	})
	r := enforcing(a).refreshed()
	const name = "xn--rsum-bpad.example"
	if r.blocks(name) || !r.blocks("propagande.example") {
		t.Error("before its time")
	}
	if got := testutil.ToFloat64(r.metrics.pending.WithLabelValues("french")); got != 1 {
		t.Errorf("cordon_list_pending is %v", got)
	}
	if wait := r.next(nil); wait > time.Hour {
		t.Errorf("the next look is in %v", wait)
	}
	a.clock.advance(time.Hour - time.Second)
	r.ripen(t.Context())
	if r.blocks(name) {
		t.Error("a second too early")
	}
	a.clock.advance(time.Second)
	r.ripen(t.Context())
	if !r.blocks(name) {
		t.Error("not in force when its time has come")
	}
	if got := testutil.ToFloat64(r.metrics.pending.WithLabelValues("french")); got != 0 {
		t.Errorf("cordon_list_pending is %v", got)
	}
	r.wantEvents(1, "list.applied")
}

// TestChangeAgainstSets compares the walk with sets of name and scope.
func TestChangeAgainstSets(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	pick := func() *List {
		l := new(List)
		for _, name := range []string{"a.example", "b.example", "b.a.example", "c.example", "z"} {
			for _, scope := range []string{"", "/"} {
				if random.IntN(2) == 0 {
					e := listed(name + scope)[0]
					e.ID = fmt.Sprint(random.IntN(1000), name, scope)
					l.Entries = append(l.Entries, e)
				}
			}
		}
		l.Sort()
		return l
	}
	set := func(l *List) map[string]bool {
		m := make(map[string]bool)
		for _, e := range l.Entries {
			m[e.Name+e.Scope.String()] = true
		}
		return m
	}
	for range 5000 {
		before, after := pick(), pick()
		was, is := set(before), set(after)
		var want Change
		for key := range is {
			if !was[key] {
				want.Added++
			}
		}
		for key := range was {
			if !is[key] {
				want.Removed++
			}
		}
		if got := changeOf(before, after); got != want {
			t.Fatalf("%v, want %v: %v to %v", got, want, before.Entries, after.Entries)
		}
		if same, n := Diff(before, before, 10); n != 0 || len(same) != 0 {
			t.Fatalf("%d differences to itself", n)
		}
	}
	if got := changeOf(nil, &List{Entries: listed("a.example")}); got != (Change{Added: 1}) {
		t.Errorf("against nothing: %v", got)
	}
}
