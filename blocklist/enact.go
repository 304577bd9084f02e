package blocklist

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"time"

	"cordon/signing"
)

// Restore puts the stored list in force, before the network is asked. The caller
// calls it before it answers the first question; Run does it otherwise. It is
// done once. Where ctx ends first nothing is in force.
func (w *Watcher) Restore(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.restored {
		return
	}
	w.restored = true
	w.resume()
	defer w.show()
	l, a, err := w.load(ctx)
	if ctx.Err() != nil {
		return
	}
	if errors.Is(err, ErrNoList) {
		w.log.Info("no list is stored yet")
		return
	}
	if err != nil {
		w.refuse(&refusal{reason: "store", err: err})
	}
	if l == nil {
		return
	}
	if err := w.enforce(ctx, l); err != nil {
		if ctx.Err() == nil {
			w.refuse(err)
		}
		return
	}
	if err := w.settle(); err != nil {
		w.log.Error("stored list is in force, but not wholly accounted for; this is tried again", "serial", l.List.Serial, "error", err)
		return
	}
	if w.standing.Rollback != nil {
		return // the newer one is what the client must not go behind
	}
	if err := w.client.Confirm(a); err != nil {
		w.log.Error("stored list is in force, but the client does not know; this is tried again", "serial", l.List.Serial, "error", err)
	}
}

// resume takes up the standing where the last run left it.
func (w *Watcher) resume() {
	st, err := w.c.Store.standing()
	w.standing = st
	if err != nil {
		w.refuse(&refusal{reason: "store", err: err})
		if err := w.c.Store.keepDamaged(); err != nil {
			w.log.Error("what was damaged cannot be kept", "error", err)
		}
	}
	if st.Order == nil {
		return
	}
	if err := w.carryOut(st.Order); err != nil {
		w.log.Error("what a person had ordered could not be recorded, and has no effect", "action", st.Order.Action, "error", err)
	}
}

// load takes from the store what is to be in force at the start: the newest, or
// the one to which a person went back.
func (w *Watcher) load(ctx context.Context) (*Loaded, *signing.Accepted, error) {
	back := w.standing.Rollback
	if back == nil {
		return w.c.Store.Load(ctx, w.opener.reopen)
	}
	if newest, err := w.c.Store.Newest(); err != nil || newest > back.From {
		w.endRollback(newest)
		return w.c.Store.Load(ctx, w.opener.reopen)
	}
	l, a, err := w.c.Store.load(ctx, back.To, w.opener.reopen)
	if err == nil {
		return l, a, nil
	}
	l, a, err2 := w.c.Store.Load(ctx, w.opener.reopen)
	return l, a, errors.Join(fmt.Errorf("the list to which a person went back cannot be used: %w", err), err2)
}

// refresh asks the source once. A nil error means that the newest list is in
// force, stored and recorded, or waits for a person.
func (w *Watcher) refresh(ctx context.Context) error {
	a, err := w.client.Update(ctx)
	var l *Loaded
	if err == nil {
		if l = w.heldAs(a); l == nil {
			if w.c.Making != nil {
				defer w.c.Making()()
			}
			l, err = w.opener.open(ctx, a, OriginFetch)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.checkOverdue()
	switch {
	case errors.Is(err, signing.ErrUnchanged):
		w.current()
		if w.running == nil {
			return nil
		}
		return w.settle() // what could not be recorded before
	case ctx.Err() != nil:
		return ctx.Err() // a shutdown says nothing of the list
	case err != nil:
		w.refuse(err)
		return err
	}
	defer w.show()
	return w.consider(ctx, l, a)
}

// heldAs gives the list of a publication that is held already, so that a long one
// is not opened anew at each poll.
func (w *Watcher) heldAs(a *signing.Accepted) *Loaded {
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := sha256.Sum256(a.Target)
	target := hex.EncodeToString(sum[:])
	switch {
	case w.held != nil && w.held.list.TargetSHA256 == target:
		return w.held.list
	case w.trying != nil && w.trying.list.TargetSHA256 == target:
		return w.trying.list
	}
	return nil
}

// consider decides what becomes of a list that verified.
func (w *Watcher) consider(ctx context.Context, l *Loaded, a *signing.Accepted) error {
	stored, err := w.c.Store.Newest()
	if err != nil {
		return w.unstored(l, err)
	}
	if back := w.standing.Rollback; back != nil && w.running != nil && w.running.List.Serial == back.To {
		if l.List.Serial <= back.From && l.List.Serial >= stored {
			w.current()
			return w.client.Confirm(a)
		}
	}
	if err := notBehind(l, w.running, stored); err != nil {
		w.refuse(err)
		return err
	}
	// A publication may be signed anew and hold the same list.
	if w.running == nil || w.running.ListSHA256 != l.ListSHA256 {
		if w.holds(l, a) {
			return w.sayHeld()
		}
		switch on, err := w.tries(ctx, l, a); {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			w.refuse(err)
			return err
		case on && w.held != nil && w.held.list == l:
			return w.sayHeld()
		case on:
			w.current()
			return nil
		}
		if err := w.enforce(ctx, l); err != nil {
			if ctx.Err() == nil {
				w.refuse(err)
			}
			return err
		}
		w.c.Metrics.update(w.c.Name, resultApplied)
	}
	return w.keep(a)
}

// holds tells whether a guard holds a list as a whole, and notes that.
func (w *Watcher) holds(l *Loaded, a *signing.Accepted) bool {
	was := w.standing.Held
	same := was != nil && was.ListSHA256 == l.ListSHA256
	switch {
	case same && was.Released != nil:
		return false
	case same && (was.Guard == guardCanary || was.Guard == guardPerson):
		w.held = &held{list: l, accepted: a}
		return true
	}
	var before *List
	entries := 0
	if w.running != nil {
		before, entries = w.running.List, len(w.running.List.Entries)
	}
	change := changeOf(before, l.List)
	because := w.c.Guard.size(change, entries, before == nil)
	if because == "" {
		return false
	}
	w.endTrial()
	if same {
		w.held = &held{list: l, accepted: a}
		return true
	}
	w.holdWhole(l, a, guardSize, because, change)
	return true
}

// holdWhole notes that a guard holds a list as a whole.
func (w *Watcher) holdWhole(l *Loaded, a *signing.Accepted, guard, because string, change Change) {
	w.held = &held{list: l, accepted: a}
	w.standing.Held = &HeldUpdate{
		Serial: l.List.Serial, ListSHA256: l.ListSHA256, Guard: guard, Because: because,
		Entries: len(l.List.Entries), Change: change, Since: w.now(),
	}
	w.unsaved = true
	w.c.Metrics.update(w.c.Name, resultHeld)
	var inForce uint64
	if w.running != nil {
		inForce = w.running.List.Serial
	}
	w.log.Error("list held as a whole; the list in force stays until a person releases it", "serial", l.List.Serial, "serial_in_force", inForce,
		"guard", guard, "because", because, "added", change.Added, "removed", change.Removed,
		"remedy", fmt.Sprintf("cordon-resolver list diff %s running held, then list release %s --update %d --name NAME --reason REASON, or tell the authority", w.c.Name, w.c.Name, l.List.Serial))
}

// sayHeld puts a held update on record, once.
func (w *Watcher) sayHeld() error {
	w.current()
	h := w.standing.Held
	if !h.Said {
		err := w.c.Recorder.Event("guard.held", Stopped{
			List: w.c.Name, Guard: h.Guard, Serial: h.Serial, ListSHA256: h.ListSHA256, Because: h.Because, Change: &h.Change,
		})
		if err != nil {
			return fmt.Errorf("record guard.held: %w", err)
		}
		said := *h // a view may hold what was
		said.Said = true
		w.standing.Held, w.unsaved = &said, true
	}
	return w.saveStanding()
}

// enforce reviews a list and puts it in force. The error is a *refusal; the
// standing is then as it was.
func (w *Watcher) enforce(ctx context.Context, l *Loaded) error {
	refused := func(reason string, err error) error {
		return &refusal{reason: reason, serial: l.List.Serial, target: l.TargetSHA256, err: err}
	}
	st := w.standing.clone()
	built, err := l.reviewed(ctx, st, w.c.Guard, w.running, w.c.Clock())
	if err != nil {
		return refused("format", err)
	}
	if st.Held != nil && st.Held.Serial <= l.List.Serial {
		st.Held = nil
	}
	if err := w.c.Apply(built); err != nil {
		return refused("policy", fmt.Errorf("apply list: %w", err))
	}
	w.unsaved = w.unsaved || !reflect.DeepEqual(st, w.standing)
	w.standing = st
	if w.standing.Held == nil {
		w.held = nil
	}
	if back := w.standing.Rollback; back != nil && l.List.Serial != back.To {
		w.endRollback(l.List.Serial)
	}
	w.inForce(built)
	for i := range w.standing.Aside {
		if s := &w.standing.Aside[i]; !s.Said && s.Guard != guardPerson {
			w.log.Error("entry set aside: it is not enforced until a person releases it", "serial", s.Serial, "entry", s.ID, "name", s.Name, "scope", s.Scope,
				"guard", s.Guard, "because", s.Because,
				"remedy", fmt.Sprintf("cordon-resolver list release %s %s --name NAME --reason REASON, or tell the authority", w.c.Name, s.ID))
		}
	}
	return nil
}

// long is how many entries a list has whose memory is worth giving back at once.
const long = 100_000

// giveBack returns the memory of the list that was in force before, where lists are
// long. Left to itself the garbage collector would let the next one come first, and
// keep what both had for a third.
func giveBack(l *List) {
	if len(l.Entries) >= long {
		debug.FreeOSMemory()
	}
}

func (w *Watcher) endRollback(serial uint64) {
	w.log.Warn("rollback ended: a newer list has come", "serial", serial, "from", w.standing.Rollback.From, "to", w.standing.Rollback.To)
	w.standing.Rollback, w.unsaved = nil, true
}

// inForce notes that a list has been handed over.
func (w *Watcher) inForce(l *Loaded) {
	w.running = l
	w.c.Metrics.inForce(l)
	w.log.Info("list in force", "serial", l.List.Serial, "entries", len(l.List.Entries), "set_aside", len(l.Aside), "not_yet_in_force", l.Pending, "from", l.Origin,
		"authority", l.List.Authority, "issued", l.List.Issued, "valid_until", l.List.ValidUntil)
	w.checkOverdue()
}

// keep stores the publication of the list in force, records it and confirms it to
// the client. Until all is done the client gives the publication again.
func (w *Watcher) keep(a *signing.Accepted) error {
	serial := w.running.List.Serial
	// What the guards have set aside must be known before a restart can find the
	// list.
	if err := w.saveStanding(); err != nil {
		return err
	}
	if err := w.c.Store.Save(serial, a); err != nil {
		return w.unstored(w.running, err)
	}
	err := w.settle()
	if err == nil {
		err = w.client.Confirm(a)
	}
	if err != nil {
		w.log.Error("list is in force and stored, but not wholly accounted for; this is tried again", "serial", serial, "error", err)
		return err
	}
	w.current()
	return nil
}

func (w *Watcher) unstored(l *Loaded, err error) error {
	w.c.Metrics.unstored.WithLabelValues(w.c.Name).Inc()
	w.log.Error("list cannot be stored: a restart would start with an older one; this is tried again", "serial", l.List.Serial, "error", err)
	return err
}

// saveStanding saves it if it has changed.
func (w *Watcher) saveStanding() error {
	if !w.unsaved {
		return nil
	}
	if err := w.c.Store.saveStanding(w.standing); err != nil {
		w.c.Metrics.unstored.WithLabelValues(w.c.Name).Inc()
		w.log.Error("what guards and people have said of the list cannot be stored; this is tried again", "error", err)
		return fmt.Errorf("store standing of list %s: %w", w.c.Name, err)
	}
	w.unsaved = false
	return nil
}

// ripen enforces what has come into force since the index was built.
func (w *Watcher) ripen(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.running
	if l == nil || l.Ripe.IsZero() || l.Ripe.After(w.c.Clock()) {
		return
	}
	if err := w.rebuild(ctx, l.Aside); err != nil {
		w.log.Error("entries whose time has come are not enforced; this is tried again", "error", err)
	}
}

// rebuild puts the running list in force again, with other entries set aside.
func (w *Watcher) rebuild(ctx context.Context, aside []Aside) error {
	built, err := w.running.build(ctx, aside, w.c.Clock())
	if err != nil {
		return err
	}
	if err := w.c.Apply(built); err != nil {
		return fmt.Errorf("apply list: %w", err)
	}
	w.inForce(built)
	w.show()
	return nil
}

func (w *Watcher) now() time.Time { return w.c.Clock().UTC().Truncate(time.Second) }
