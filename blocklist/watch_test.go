package blocklist

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"cordon/durable/durabletest"
	"cordon/signing"
)

func TestAPublishedListComesIntoForce(t *testing.T) {
	a := found(t)
	a.publish(42)
	r := enforcing(a)
	r.wantUpdates(0, 0) // there, at zero, before anything has happened
	r.refreshed()
	r.wantInForce(42, OriginFetch)
	r.wantUpdates(1, 0)

	l := r.applied[0]
	if e, ok := l.Index.Lookup(wireOf("www.propagande.example")); !ok || l.List.Entries[e].ID != "2026-0001" {
		t.Errorf("Lookup gives %d, %v", e, ok)
	}
	p, err := a.repo.Published()
	a.must(err)
	sum, err := l.List.SHA256()
	a.must(err)
	want := fmt.Sprintf(`list.applied {"list":"french","authority":"Office central de démonstration","serial":42,"entries":5,"list_sha256":"%x","target_sha256":"%s","from":"fetch"}`,
		sum, p.TargetSHA256)
	if got, n := r.journal.last(); got != want || n != 1 {
		t.Errorf("recorded %d, the last is %s\nwant %s", n, got, want)
	}
	if got := testutil.ToFloat64(r.metrics.entries.WithLabelValues("french")); got != 5 {
		t.Errorf("cordon_list_entries is %v", got)
	}
	if got := testutil.ToFloat64(r.metrics.checked.WithLabelValues("french")); got != float64(a.clock.now().Unix()) {
		t.Errorf("cordon_list_checked_seconds is %v", got)
	}

	// Nothing new: nothing happens, but the check counts.
	a.clock.advance(time.Minute)
	r.refreshed()
	if _, _, n := r.inForce(); n != 1 {
		t.Errorf("applied %d times", n)
	}
	r.wantUpdates(1, 0)
	if got := testutil.ToFloat64(r.metrics.checked.WithLabelValues("french")); got != float64(a.clock.now().Unix()) {
		t.Errorf("cordon_list_checked_seconds is %v after a check", got)
	}

	a.publish(43)
	r.refreshed().wantInForce(43, OriginFetch)
	r.wantUpdates(2, 0)
}

func TestTheSameListSignedAnewIsNotAppliedAgain(t *testing.T) {
	a := found(t)
	a.publish(42)
	r := enforcing(a).refreshed()
	_, err := a.repo.RestageTarget(a.clock.now().AddDate(0, 2, 0))
	a.must(err)
	a.release()
	r.refreshed()
	if _, n := r.journal.last(); n != 1 {
		t.Errorf("%d events", n)
	}
	r.wantUpdates(1, 0)
	if _, _, n := r.inForce(); n != 1 {
		t.Errorf("applied %d times", n)
	}
}

func TestAStoredListComesIntoForceWithoutTheNetwork(t *testing.T) {
	a := found(t)
	a.publish(42)
	r := enforcing(a).refreshed()
	a.must(os.RemoveAll(a.folder))
	a.clock.advance(365 * 24 * time.Hour) // all of it has expired
	r = r.start(a)
	r.Restore(t.Context())
	r.wantInForce(42, OriginStore)
	r.wantUpdates(0, 0)
	if got, n := r.journal.last(); n != 1 || !strings.Contains(got, `"from":"store"`) {
		t.Errorf("recorded %d, the last is %s", n, got)
	}
}

// TestRefusals publishes one bad thing after a good list, and then a good list
// again.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		harm   func(a *authority, r *resolver)
		undo   func(a *authority, r *resolver) // where the next publication does not do it
		reason string
		says   string
	}{
		{name: "an entry that is a public suffix", reason: "guard", says: `with scope domain is a public suffix`,
			harm: func(a *authority, _ *resolver) {
				a.publish(43, func(l *List) { l.Entries[0].Name, l.Entries[0].Scope = "co.uk", ScopeDomain })
			}},
		{name: "an entry that is a top-level domain", reason: "guard", says: `with scope host is a top-level domain`,
			harm: func(a *authority, _ *resolver) { a.publish(43, func(l *List) { l.Entries[0].Name = "com" }) }},
		{name: "an entry that covers the stop page", reason: "guard", says: "stop.example",
			harm: func(a *authority, _ *resolver) {
				a.publish(43, func(l *List) { l.Entries[0].Name = "stop.example" })
			}},
		{name: "an entry that covers the resolver", reason: "guard", says: "dns.isp.example",
			harm: func(a *authority, _ *resolver) {
				a.publish(43, func(l *List) { l.Entries[0].Name, l.Entries[0].Scope = "isp.example", ScopeDomain })
			}},
		{name: "a name that is not canonical", reason: "format", says: `line 4: name \"Propagande.example\" has upper-case letters; write \"propagande.example\"`,
			harm: func(a *authority, _ *resolver) {
				a.publishText(strings.Replace(frenchText(a.t), "propagande.example", "Propagande.example", 1))
			}},
		{name: "the root", reason: "format", says: "line 4: name",
			harm: func(a *authority, _ *resolver) {
				a.publishText(strings.Replace(frenchText(a.t), `"propagande.example"`, `"."`, 1))
			}},
		{name: "an entry twice", reason: "format", says: "is that of line 2 too",
			harm: func(a *authority, _ *resolver) {
				a.publishText(strings.Replace(frenchText(a.t), "2026-0005", "2026-0003", 1))
			}},
		{name: "no compressed list at all", reason: "format", says: "magic number mismatch",
			harm: func(a *authority, _ *resolver) { a.publishRaw([]byte("no list")) }},
		{name: "a list for others", reason: "recipient", says: "not a recipient",
			harm: func(a *authority, _ *resolver) {
				mine := a.to
				_, other, err := signing.GenerateIdentity()
				a.must(err)
				a.to = other
				a.publish(43)
				a.to = mine
			}},
		{name: "a serial that goes back, under newer metadata", reason: "rollback", says: "list serial 41",
			harm: func(a *authority, _ *resolver) { a.publish(41) }},
		{name: "another list under the same serial", reason: "rollback", says: "same serial",
			harm: func(a *authority, _ *resolver) { a.publish(42, func(l *List) { l.Entries[0].Decision = "other" }) }},
		{name: "a list that the policy will not take", reason: "policy", says: "no room",
			harm: func(a *authority, r *resolver) { a.publish(43); r.deny = errors.New("no room") },
			undo: func(_ *authority, r *resolver) { r.deny = nil }},
		{name: "an older publication", reason: "rollback", says: "older",
			harm: func(a *authority, r *resolver) {
				old := a.copyOf()
				a.publish(43)
				r.refreshed()
				r.bad = a.copyOf()
				a.put(old)
			},
			undo: func(a *authority, r *resolver) { a.put(r.bad) }},
		{name: "a publication that was withheld until it expired", reason: "expired", says: "expired",
			harm: func(a *authority, _ *resolver) { a.clock.advance(25 * time.Hour) }},
		{name: "another authority's publication", reason: "signature", says: "not signed by enough",
			harm: func(a *authority, r *resolver) {
				r.bad = a.copyOf()
				other := found(a.t)
				other.publish(50)
				a.put(other.folder)
			},
			undo: func(a *authority, r *resolver) { a.put(r.bad) }},
		{name: "a target that is missing", reason: "incomplete", says: "targets/",
			harm: func(a *authority, _ *resolver) { a.publish(43); a.must(os.Remove(a.target())) }},
		{name: "a target that is cut", reason: "incomplete", says: "length",
			harm: func(a *authority, _ *resolver) { a.publish(43); a.must(os.Truncate(a.target(), 100)) }},
		{name: "a target with a changed byte", reason: "incomplete", says: "hash",
			harm: func(a *authority, _ *resolver) {
				a.publish(43)
				b, err := os.ReadFile(a.target())
				a.must(err)
				b[len(b)/2] ^= 1
				a.must(os.WriteFile(a.target(), b, 0o644))
			}},
		{name: "a target that goes on for ever", reason: "too-large", says: "larger than allowed",
			harm: func(a *authority, _ *resolver) { a.publish(43); a.must(os.Truncate(a.target(), 1<<40)) }},
		{name: "a timestamp that is half-written", reason: "incomplete", says: "timestamp",
			harm: func(a *authority, r *resolver) {
				a.publish(43)
				r.bad = a.copyOf()
				a.must(os.Truncate(filepath.Join(a.folder, "metadata/timestamp.json"), 100))
			},
			undo: func(a *authority, r *resolver) { a.put(r.bad) }},
		{name: "a folder that is not mounted", reason: "source", says: "cannot be read",
			harm: func(a *authority, r *resolver) { r.bad = a.copyOf(); a.must(os.RemoveAll(a.folder)) },
			undo: func(a *authority, r *resolver) { a.put(r.bad) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := found(t)
			a.publish(42)
			r := enforcing(a).refreshed()
			c.harm(a, r)
			serial, _, count := r.inForce()
			_, events := r.journal.last()

			for range 2 { // it does not wear off
				err := r.refresh(t.Context())
				if err == nil || Reason(err) != c.reason {
					t.Fatalf("got reason %q (%v), want %q", Reason(err), err, c.reason)
				}
			}
			if s, _, n := r.inForce(); s != serial || n != count {
				t.Errorf("serial %d is in force, and was applied", s)
			}
			r.wantUpdates(float64(count), 2)
			event, n := r.journal.last()
			if n != events+1 {
				t.Errorf("%d events of a refusal that repeats", n-events)
			}
			if !strings.HasPrefix(event, `list.refused {"list":"french","reason":"`+c.reason+`","detail":"`) || !strings.Contains(event, c.says) {
				t.Errorf("recorded %s, want ...%s...", event, c.says)
			}
			if !strings.Contains(r.logged.String(), c.says) {
				t.Errorf("the log does not say ...%s...\n%s", c.says, r.logged)
			}

			// A restart in this state enforces what was in force.
			again := r.start(a)
			again.Restore(t.Context())
			if s, o, _ := again.inForce(); s != serial || o != OriginStore {
				t.Errorf("after a restart serial %d is in force, from %q", s, o)
			}

			if c.undo != nil {
				c.undo(a, r)
			}
			a.publish(60)
			r.refreshed().wantInForce(60, OriginFetch)
		})
	}
}

func TestARefusalIsRecordedAgainWhenItChangesAndAfterAnHour(t *testing.T) {
	a := found(t)
	a.publish(42)
	r := enforcing(a).refreshed()
	refused := func(want int, why string) {
		t.Helper()
		if err := r.refresh(t.Context()); err == nil {
			t.Fatal("not refused")
		}
		if _, n := r.journal.last(); n != want {
			t.Fatalf("%d events, want %d: %s", n, want, why)
		}
	}
	a.publishRaw([]byte("no list"))
	refused(2, "the first refusal")
	a.clock.advance(59 * time.Minute)
	refused(2, "the same within the hour")
	a.clock.advance(time.Minute)
	refused(3, "the same after an hour")
	a.publishRaw([]byte("no list either"))
	refused(4, "the same reason for another target")
	a.publish(41)
	refused(5, "another reason")
	r.wantUpdates(1, 5)

	r.journal.failWith(errors.New("disk full"))
	a.publish(40)
	refused(5, "the journal is full")
	r.journal.failWith(nil)
	refused(6, "what could not be recorded is recorded with the next")

	a.publish(43)
	r.refreshed()
	a.publish(40)
	refused(8, "the same again after all was well")
}

// TestKilledBetweenSteps stops an update after each step, by making the next one
// fail, and starts again from the disk alone.
func TestKilledBetweenSteps(t *testing.T) {
	down := errors.New("killed")
	for _, c := range []struct {
		name  string
		kill  func(r *resolver)
		found uint64 // what a restart finds in the store
	}{
		{"after fetch, before apply", func(r *resolver) { r.deny = down }, 42},
		{"after apply, before the store", func(r *resolver) {
			r.c.Store.disk = durabletest.New(1, durabletest.Before, durabletest.Killed)
		}, 42},
		{"in the middle of the store", func(r *resolver) {
			r.c.Store.disk = durabletest.New(3, durabletest.Half, durabletest.Killed)
		}, 42},
		{"after the rename of the store", func(r *resolver) {
			r.c.Store.disk = durabletest.New(7, durabletest.Before, durabletest.Killed)
		}, 43},
		{"after the store, before the record", func(r *resolver) { r.journal.failWith(down) }, 43},
		{"after all", func(*resolver) {}, 43},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := found(t)
			a.publish(42)
			r := enforcing(a).refreshed()
			a.publish(43)
			c.kill(r)
			if err := r.refresh(t.Context()); (err == nil) != (c.name == "after all") {
				t.Fatalf("got %v", err)
			}
			again := r.start(a)
			again.Restore(t.Context())
			again.wantInForce(c.found, OriginStore)
			again.refreshed()
			if s, _, _ := again.inForce(); s != 43 {
				t.Errorf("serial %d is in force after the next refresh", s)
			}
			if event, _ := again.journal.last(); !strings.Contains(event, `"serial":43`) {
				t.Errorf("the journal ends with %s", event)
			}
			if _, _, err := again.c.Store.Load(t.Context(), again.opener.reopen); err != nil {
				t.Errorf("the store says %v", err)
			}
			again.refreshed() // and is at rest
			if _, _, n := again.inForce(); n > 2 {
				t.Errorf("applied %d times", n)
			}
		})
	}
}

func TestAnUpdateThatCannotBeStoredOrRecordedIsInForceAndTriedAgain(t *testing.T) {
	a := found(t)
	a.publish(42)
	r := enforcing(a)
	good := r.c.Store.disk
	r.c.Store.disk = durabletest.New(1, durabletest.Before, durabletest.Killed)
	if err := r.refresh(t.Context()); !errors.Is(err, durabletest.ErrDown) {
		t.Fatalf("got %v", err)
	}
	r.wantInForce(42, OriginFetch)
	if got := testutil.ToFloat64(r.metrics.unstored.WithLabelValues("french")); got != 1 {
		t.Errorf("cordon_list_store_failures_total is %v", got)
	}
	r.c.Store.disk = good
	full := errors.New("journal full")
	r.journal.failWith(full)
	if err := r.refresh(t.Context()); !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
	r.journal.failWith(nil)
	r.refreshed()
	if _, _, n := r.inForce(); n != 1 {
		t.Errorf("applied %d times", n)
	}
	if event, n := r.journal.last(); n != 1 || !strings.HasPrefix(event, "list.applied") {
		t.Errorf("%d events, the last is %s", n, event)
	}
	r.wantUpdates(1, 0)
}

func TestADamagedStoreFallsBackAndRaisesTheAlarm(t *testing.T) {
	a := found(t)
	a.publish(42)
	r := enforcing(a).refreshed()
	a.publish(43)
	r.refreshed()
	newest := r.c.Store.path(43)
	b, err := os.ReadFile(newest)
	a.must(err)
	b[bytes.Index(b, []byte("age-encryption.org"))+2000] ^= 1 // within the target
	a.must(os.WriteFile(newest, b, 0o600))

	r = r.start(a)
	r.Restore(t.Context())
	r.wantInForce(42, OriginStore)
	r.wantUpdates(0, 1)
	if !strings.Contains(r.journal.events[0], `"reason":"store"`) || !strings.Contains(r.journal.events[0], newest) {
		t.Errorf("recorded %s", r.journal.events[0])
	}
	r.refreshed().wantInForce(43, OriginFetch)

	// Both gone: nothing is in force until the source gives it.
	for _, serial := range []uint64{42, 43} {
		a.must(os.Truncate(r.c.Store.path(serial), 10))
	}
	r = r.start(a)
	r.Restore(t.Context())
	if _, _, n := r.inForce(); n != 0 {
		t.Error("something was applied")
	}
	r.refreshed().wantInForce(43, OriginFetch)
}

func TestAStoreOfAnotherAuthorityIsNotEnforced(t *testing.T) {
	a, other := found(t), found(t)
	other.publish(42)
	r := enforcing(other).refreshed()
	a.must(os.RemoveAll(filepath.Join(r.c.Store.Dir(), "client")))
	r = r.start(a)
	r.Restore(t.Context())
	if _, _, n := r.inForce(); n != 0 {
		t.Error("it was applied")
	}
	if event, _ := r.journal.last(); !strings.Contains(event, `"reason":"store"`) {
		t.Errorf("recorded %s", event)
	}
}

func TestAnOverdueListIsEnforcedWithAnAlarm(t *testing.T) {
	a := found(t)
	a.publish(42)
	r := enforcing(a).refreshed()
	overdue := func() float64 { return testutil.ToFloat64(r.metrics.overdue.WithLabelValues("french")) }
	if overdue() != 0 {
		t.Error("overdue too early")
	}
	a.clock.advance(7*24*time.Hour - time.Second)
	_ = r.refresh(t.Context()) // the timestamp has expired long since
	if overdue() != 0 {
		t.Error("overdue a second too early")
	}
	if wait := r.next(nil); wait > time.Second {
		t.Errorf("the next look is in %v, not when it becomes overdue", wait)
	}
	a.clock.advance(time.Second)
	_ = r.refresh(t.Context())
	if overdue() != 1 {
		t.Error("not overdue after valid_until")
	}
	r.wantInForce(42, OriginFetch)
	if n := strings.Count(r.logged.String(), "list is overdue"); n != 1 {
		t.Errorf("said %d times", n)
	}
	a.publish(43, func(l *List) {
		l.Issued, l.ValidUntil = a.clock.now(), a.clock.now().Add(time.Hour)
	})
	r.refreshed()
	if overdue() != 0 {
		t.Error("overdue with the next list in force")
	}
}

func TestWaitsGrowAfterFailuresAndNeverPassThePoll(t *testing.T) {
	a := found(t)
	r := enforcing(a, func(c *Config) { c.Poll = time.Minute })
	failed := errors.New("failed")
	for _, most := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		most *= time.Second
		if wait := r.next(failed); wait < most/2 || wait > most {
			t.Errorf("%v is not between half of %v and it", wait, most)
		}
	}
	r.failures = 1 << 40
	if wait := r.next(failed); wait < 30*time.Second || wait > time.Minute {
		t.Errorf("%v after very many failures", wait)
	}
	if wait := r.next(nil); wait < 54*time.Second || wait > time.Minute {
		t.Errorf("%v when all is well", wait)
	}
	if wait := r.next(failed); wait > time.Second {
		t.Errorf("%v after the first failure", wait)
	}
}

func TestNewWatcherRefuses(t *testing.T) {
	a := found(t)
	for _, c := range []struct {
		name   string
		change func(*Config)
		says   string
	}{
		{"a name that is no label", func(c *Config) { c.Name = "The French" }, `list "The French"`},
		{"no source", func(c *Config) { c.Source = nil }, "source"},
		{"a root that is none", func(c *Config) { c.PinnedRoot = []byte("{}") }, "list french"},
		{"a negative poll", func(c *Config) { c.Poll = -1 }, "poll"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := Config{
				Name: "french", PinnedRoot: a.root, Source: signing.NewFolderSource(a.folder), Store: storeIn(t, t.TempDir()),
				Guard: guardOf(t), Clock: a.clock.now, Recorder: newJournal(), Apply: func(*Loaded) error { return nil },
			}
			c.change(&config)
			if _, err := NewWatcher(config); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want ...%s...", err, c.says)
			}
		})
	}
}
