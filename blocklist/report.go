package blocklist

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Applied is the data of the event "list.applied".
type Applied struct {
	List         string `json:"list"`
	Authority    string `json:"authority"`
	Serial       uint64 `json:"serial"`
	Entries      int    `json:"entries"`
	ListSHA256   string `json:"list_sha256"`
	TargetSHA256 string `json:"target_sha256"`
	From         Origin `json:"from"`
}

// settle puts the list in force on record, and what the guards have set aside of
// it.
func (w *Watcher) settle() error {
	if l := w.running; w.recorded != l.ListSHA256 {
		err := w.c.Recorder.Event("list.applied", Applied{
			List: l.Name, Authority: l.List.Authority, Serial: l.List.Serial, Entries: len(l.List.Entries),
			ListSHA256: l.ListSHA256, TargetSHA256: l.TargetSHA256, From: l.Origin,
		})
		if err != nil {
			return fmt.Errorf("record list.applied: %w", err)
		}
		w.recorded = l.ListSHA256
	}
	if err := w.sayAside(); err != nil {
		return err
	}
	return w.saveStanding()
}

// Stopped is the data of the event "guard.held": entries of a list in force that a
// guard has set aside, or a list that it holds as a whole.
type Stopped struct {
	List       string         `json:"list"`
	Guard      string         `json:"guard"` // "protected", "popular", "size" or "canary"
	Serial     uint64         `json:"serial"`
	ListSHA256 string         `json:"list_sha256,omitempty"` // of a list held as a whole
	Because    string         `json:"because,omitempty"`     // for a list held as a whole
	Change     *Change        `json:"change,omitempty"`      // of a list held as a whole
	Entries    []StoppedEntry `json:"entries,omitempty"`     // set aside
	Unnamed    int            `json:"unnamed,omitempty"`     // entries set aside besides, too many to be named here
}

// StoppedEntry is one of the entries of Stopped and Ordered.
type StoppedEntry struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Scope   Scope  `json:"scope"`
	Because string `json:"because"`
}

const (
	maxNamed      = 50   // entries in one event, which has a bound
	maxNamedInAll = 1000 // entries named at all for one list and guard
)

// sayAside puts on record what guards have set aside and is not there yet.
func (w *Watcher) sayAside() error {
	for _, guard := range []string{guardProtected, guardPopular} {
		var entries []*SetAside
		for i := range w.standing.Aside {
			if s := &w.standing.Aside[i]; !s.Said && s.Guard == guard {
				entries = append(entries, s)
			}
		}
		named := min(len(entries), maxNamedInAll)
		for from := 0; from < named; from += maxNamed {
			to := min(from+maxNamed, named)
			event := Stopped{List: w.c.Name, Guard: guard, Serial: entries[from].Serial}
			if to == named {
				event.Unnamed = len(entries) - named
			}
			for _, s := range entries[from:to] {
				event.Entries = append(event.Entries, s.named())
			}
			if err := w.c.Recorder.Event("guard.held", event); err != nil {
				return fmt.Errorf("record guard.held: %w", err)
			}
			for _, s := range entries[from:to] {
				s.Said, w.unsaved = true, true
			}
		}
		for _, s := range entries[named:] {
			s.Said, w.unsaved = true, true
		}
	}
	return nil
}

func (s *SetAside) named() StoppedEntry {
	return StoppedEntry{ID: s.ID, Name: s.Name, Scope: s.Scope, Because: s.Because}
}

// Refused is the data of the event "list.refused".
type Refused struct {
	List         string `json:"list"`
	Reason       string `json:"reason"` // see Reason
	Detail       string `json:"detail"`
	Serial       uint64 `json:"serial,omitempty"`
	TargetSHA256 string `json:"target_sha256,omitempty"`
}

// refuse counts, logs and records that a list did not come into force. What
// repeats unchanged is recorded once an hour.
func (w *Watcher) refuse(err error) {
	event := Refused{List: w.c.Name, Reason: Reason(err), Detail: clip(err.Error(), maxDetail)}
	var r *refusal
	if errors.As(err, &r) {
		event.Serial, event.TargetSHA256 = r.serial, r.target
	}
	var inForce uint64
	if w.running != nil {
		inForce = w.running.List.Serial
	}
	w.c.Metrics.update(w.c.Name, resultRefused)
	w.log.Error("list refused; the list in force stays", "reason", event.Reason, "serial_in_force", inForce, "error", err)
	key, now := told{event.Reason, event.Serial, event.TargetSHA256}, w.c.Clock()
	if key == w.told && now.Sub(w.toldAt) < repeatRecord {
		return
	}
	if err := w.c.Recorder.Event("list.refused", event); err != nil {
		w.log.Error("refusal of a list cannot be recorded; this is tried again with the next one", "error", err)
		return
	}
	w.told, w.toldAt = key, now
}

// current notes that the source was asked and gave nothing that is not known.
func (w *Watcher) current() {
	w.told = told{}
	w.c.Metrics.checked.WithLabelValues(w.c.Name).Set(float64(w.c.Clock().Unix()))
}

// checkOverdue raises the alarm when the list in force is past its valid_until.
// It stays in force: what is blocked by law does not become free because somebody
// withholds the newer list.
func (w *Watcher) checkOverdue() {
	now := w.c.Clock()
	overdue := w.running != nil && !now.Before(w.running.List.ValidUntil)
	if overdue && !w.overdue {
		w.log.Error("list is overdue: it is still enforced, but the authority has to publish", "serial", w.running.List.Serial, "valid_until", w.running.List.ValidUntil)
	}
	w.overdue = overdue
	value := 0.0
	if overdue {
		value = 1
	}
	w.c.Metrics.overdue.WithLabelValues(w.c.Name).Set(value)
	// Reviews are due by the day, and to count them is to walk the whole list.
	if c := (counted{w.running, now.UTC().Truncate(24 * time.Hour)}); c != w.counted {
		w.counted = c
		w.c.Metrics.reviews.WithLabelValues(w.c.Name).Set(float64(Catalogue{w.running}.Overdue(now)))
	}
}

// counted is when, and of which list, the overdue reviews were counted.
type counted struct {
	list *Loaded
	day  time.Time
}

// next is how long to wait after a refresh: a poll, less after a failure, and not
// past the moment at which the list becomes overdue or more of it comes into force. Each wait is shortened by
// chance, up to a half after a failure and a tenth else, so that resolvers that
// failed together do not ask together.
func (w *Watcher) next(err error) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	wait, chance := w.c.Poll, w.c.Poll/10
	if err == nil {
		w.failures = 0
	} else {
		wait = min(w.c.Poll, firstRetry<<min(w.failures, 20))
		chance = wait / 2
		w.failures++
	}
	wait -= rand.N(chance + 1)
	if w.running != nil && !w.overdue {
		wait = min(wait, max(0, w.running.List.ValidUntil.Sub(w.c.Clock())))
	}
	if w.running != nil && !w.running.Ripe.IsZero() {
		wait = min(wait, max(0, w.running.Ripe.Sub(w.c.Clock())))
	}
	if w.trying != nil {
		wait = min(wait, max(0, w.trying.until.Sub(w.c.Clock())))
	}
	return wait
}

// clip keeps at most most bytes of a text for a record, as valid UTF-8.
func clip(s string, most int) string {
	if len(s) > most {
		s = s[:most-3] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
