package blocklist

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// What a person may tell a watcher to do. Each call returns when the order is
// saved, on record and in effect, or with an error that says how far it came; no
// context ends one in the middle. None
// of them can make a name lead to the stop page that the authority has not signed
// for.

// Ordered is the data of the events "guard.released" (for Release and
// ReleaseUpdate) and "override" (for Hold and RollBack).
type Ordered struct {
	List       string         `json:"list"`
	Action     Action         `json:"action"`
	Serial     uint64         `json:"serial"` // of the list in force; of the other one for ReleaseUpdate and HoldUpdate
	ListSHA256 string         `json:"list_sha256,omitempty"`
	To         uint64         `json:"to,omitempty"` // serial, for RollBack
	Entries    []StoppedEntry `json:"entries,omitempty"`
	Name       string         `json:"name"`
	Reason     string         `json:"reason"`
	Account    string         `json:"account"`
}

// maxOrdered bounds the entries of one order: each of them stands in its record.
const maxOrdered = maxNamed

// Release lets entries of the list in force be enforced that were set aside.
func (w *Watcher) Release(ids []string, r Ruling) error {
	return w.rule(Release, ids, r, func(e *Entry, a *Aside) (*SetAside, error) {
		if a == nil {
			return nil, fmt.Errorf("entry %s is not set aside", e.ID)
		}
		return &a.SetAside, nil
	})
}

// Hold sets entries of the list in force aside. The law wants them enforced: who
// holds one answers for it.
func (w *Watcher) Hold(ids []string, r Ruling) error {
	line := newSpelling()
	return w.rule(Hold, ids, r, func(e *Entry, a *Aside) (*SetAside, error) {
		if a != nil {
			return nil, fmt.Errorf("entry %s is set aside already: it %s", e.ID, a.Because)
		}
		return &SetAside{
			ID: e.ID, SHA256: e.digest(line), Name: e.Name, Scope: e.Scope, Guard: guardPerson,
			Because: "is held by " + r.Name + ": " + r.Reason, Since: w.now(), Ruling: &r, Said: true,
		}, nil
	})
}

// rule carries out an order that concerns entries of the list in force.
func (w *Watcher) rule(action Action, ids []string, r Ruling, take func(*Entry, *Aside) (*SetAside, error)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.At = w.now()
	switch {
	case w.running == nil:
		return fmt.Errorf("list %s: no list is in force", w.c.Name)
	case len(ids) == 0 || len(ids) > maxOrdered:
		return fmt.Errorf("list %s: name 1 to %d entries at a time", w.c.Name, maxOrdered)
	}
	o := &Order{Action: action, Serial: w.running.List.Serial, Ruling: r}
	for i := range w.running.List.Entries {
		e := &w.running.List.Entries[i]
		if !slices.Contains(ids, e.ID) {
			continue
		}
		s, err := take(e, w.running.aside(uint32(i)))
		if err != nil {
			return fmt.Errorf("list %s: %w", w.c.Name, err)
		}
		one := *s // the list in force is read by others, and does not change
		one.Serial = o.Serial
		o.Entries = append(o.Entries, one)
	}
	for _, id := range ids {
		if !slices.ContainsFunc(o.Entries, func(s SetAside) bool { return s.ID == id }) {
			return fmt.Errorf("list %s: serial %d has no entry %s", w.c.Name, o.Serial, quote(id))
		}
	}
	if err := w.give(o); err != nil {
		return err
	}
	// The standing says now what is set aside, whatever the guards would.
	var aside []Aside
	known := make(map[string]*SetAside, len(w.standing.Aside))
	for i := range w.standing.Aside {
		known[w.standing.Aside[i].ID] = &w.standing.Aside[i]
	}
	line := newSpelling()
	for i := range w.running.List.Entries {
		e := &w.running.List.Entries[i]
		if s := known[e.ID]; s != nil && s.SHA256 == e.digest(line) {
			aside = append(aside, Aside{Entry: uint32(i), SetAside: *s})
		}
	}
	if err := w.rebuild(context.Background(), aside); err != nil {
		return fmt.Errorf("the order is on record, but cannot be carried out before the next start: %w", err)
	}
	return nil
}

// ReleaseUpdate lets the list with that serial come into force that is held as a
// whole.
func (w *Watcher) ReleaseUpdate(serial uint64, r Ruling) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.At = w.now()
	h := w.standing.Held
	if h == nil || h.Serial != serial {
		return fmt.Errorf("list %s: serial %d is not held", w.c.Name, serial)
	}
	if err := w.give(&Order{Action: ReleaseUpdate, Serial: serial, SHA256: h.ListSHA256, Ruling: r}); err != nil {
		return err
	}
	defer w.show()
	if w.held == nil || w.held.list.ListSHA256 != h.ListSHA256 {
		return nil // it comes into force when the source gives it again
	}
	l, a := w.held.list, w.held.accepted
	if err := w.enforce(context.Background(), l); err != nil {
		w.refuse(err)
		return err
	}
	w.c.Metrics.update(w.c.Name, resultApplied)
	// The client is the goroutine of Run's, and confirms it at the next poll.
	if err := w.saveStanding(); err != nil {
		return nil // it is in force; the next poll saves and stores it
	}
	if err := w.c.Store.Save(l.List.Serial, a); err != nil {
		_ = w.unstored(l, err) // likewise
		return nil
	}
	if err := w.settle(); err != nil {
		w.log.Error("list is in force and stored, but not wholly accounted for; this is tried again", "serial", serial, "error", err)
	}
	return nil
}

// HoldUpdate holds the list with that serial as a whole, which is on trial or waits
// while other nodes try it. Others come into force meanwhile as ever.
func (w *Watcher) HoldUpdate(serial uint64, r Ruling) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.At = w.now()
	t := w.trying
	if t == nil || t.list.List.Serial != serial {
		return fmt.Errorf("list %s: serial %d is neither on trial nor waiting here", w.c.Name, serial)
	}
	if err := w.give(&Order{Action: HoldUpdate, Serial: serial, SHA256: t.list.ListSHA256, Ruling: r}); err != nil {
		return err
	}
	w.endTrial()
	w.held = &held{list: t.list, accepted: t.accepted}
	h := *w.standing.Held
	h.Entries, h.Change = len(t.list.List.Entries), changeOf(w.running.List, t.list.List)
	w.standing.Held, w.unsaved = &h, true
	w.c.Metrics.update(w.c.Name, resultHeld)
	w.show()
	// Where this fails the next poll saves it; the order is saved already.
	_ = w.saveStanding()
	return nil
}

// RollBack puts the last list that was in force before this one in force again,
// from the store and verified anew, until a newer one than both comes.
func (w *Watcher) RollBack(r Ruling) (to uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.At = w.now()
	if w.running == nil {
		return 0, fmt.Errorf("list %s: no list is in force", w.c.Name)
	}
	serial := w.running.List.Serial
	if w.standing.Rollback != nil {
		return 0, fmt.Errorf("list %s: serial %d is in force by a rollback already", w.c.Name, serial)
	}
	stored, err := w.c.Store.serials()
	if err != nil {
		return 0, err
	}
	var back *Loaded
	var damage []error
	for _, s := range stored {
		if s >= serial {
			continue
		}
		l, _, err := w.c.Store.load(context.Background(), s, w.opener.reopen)
		if err == nil {
			back = l
			break
		}
		damage = append(damage, fmt.Errorf("serial %d cannot be used: %w", s, err))
	}
	if back == nil {
		return 0, errors.Join(append(damage, fmt.Errorf("list %s: no list before serial %d is stored", w.c.Name, serial))...)
	}
	if err := w.give(&Order{Action: RollBack, Serial: serial, To: back.List.Serial, Ruling: r}); err != nil {
		return 0, err
	}
	defer w.show()
	if err := w.enforce(context.Background(), back); err != nil {
		w.refuse(err)
		return 0, err
	}
	if err := w.settle(); err != nil {
		w.log.Error("list is in force again, but not wholly accounted for; this is tried again", "serial", back.List.Serial, "error", err)
	}
	return back.List.Serial, nil
}

// give saves an order and carries it out.
func (w *Watcher) give(o *Order) error {
	if err := o.Ruling.check(); err != nil {
		return fmt.Errorf("list %s: %w", w.c.Name, err)
	}
	st := w.standing.clone()
	st.Order = o
	if err := w.c.Store.saveStanding(st); err != nil {
		return fmt.Errorf("the order cannot be saved, and has no effect: %w", err)
	}
	w.standing = st
	return w.carryOut(o)
}

// carryOut puts an order on record and changes the standing as it says.
func (w *Watcher) carryOut(o *Order) error {
	kind := "override"
	if o.Action == Release || o.Action == ReleaseUpdate {
		kind = "guard.released"
	}
	event := Ordered{
		List: w.c.Name, Action: o.Action, Serial: o.Serial, ListSHA256: o.SHA256, To: o.To,
		Name: o.Ruling.Name, Reason: o.Ruling.Reason, Account: o.Ruling.Account,
	}
	for i := range o.Entries {
		event.Entries = append(event.Entries, o.Entries[i].named())
	}
	st := w.standing.clone()
	if err := w.c.Recorder.Event(kind, event); err != nil {
		st.Order = nil
		w.standing, w.unsaved = st, true
		return errors.Join(fmt.Errorf("the order cannot be recorded, and has no effect: %w", err), w.saveStanding())
	}
	st.obey(o)
	w.standing, w.unsaved = st, true
	w.log.Warn("a person has overruled", "action", o.Action, "serial", o.Serial, "to", o.To, "entries", len(o.Entries),
		"name", o.Ruling.Name, "reason", o.Ruling.Reason, "account", o.Ruling.Account)
	// Where this fails the saved order is carried out at the next start.
	_ = w.saveStanding()
	return nil
}
