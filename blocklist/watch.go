package blocklist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"cordon/signing"
)

// Recorder writes what happens to a list into the resolver's journal
// (implemented by *blocklog.Journal). kind is one of the event types of
// DESIGN.md ("list.applied", "list.refused", ...).
type Recorder interface {
	Event(kind string, data any) error
}

// Config of a Watcher. All fields are needed where nothing else is said.
type Config struct {
	Name       string         // of the list in the resolver's configuration; label of metrics, name in records
	PinnedRoot []byte         // TUF root metadata that the operator has pinned
	Source     signing.Source // where the authority publishes
	WatchDir   string         // the folder behind Source, to be told of changes in it; empty where there is none
	Poll       time.Duration  // how often to ask the source, a folder too (NFS tells of nothing); default 1 minute
	Target     string         // the list's name in the publication; default that of signing
	Identity   string         // age identity to which the list is encrypted; secret
	Limits     Limits
	Store      *Store // of this list alone
	Guard      *Guard
	Clock      func() time.Time
	Recorder   Recorder
	Metrics    *Metrics     // may be nil
	Logger     *slog.Logger // may be nil

	// Apply puts a list in force, wholly or, with an error, not at all. It is
	// called by one goroutine, with each list once.
	Apply func(*Loaded) error
}

const (
	defaultPoll  = time.Minute
	firstRetry   = time.Second // after a failure; doubled each time, up to Poll
	repeatRecord = time.Hour   // a refusal that goes on is recorded again after this
	maxDetail    = 1024        // bytes of a refusal's text in a record
)

// Watcher brings one list in: it fetches, verifies, decrypts, parses, guards,
// hands over, stores and records, and keeps the running list when any of that
// fails. Lists have a watcher each and share nothing.
//
// A list is handed over before it is stored, since blocking is without delay,
// and confirmed to the client last. A process killed in between starts with the
// list that is stored, is given the newer one again, and goes the rest of the
// way.
type Watcher struct {
	c      Config
	log    *slog.Logger
	opener opener
	client *signing.Client

	// All below belongs to the goroutine of Restore and Run.

	restored bool
	running  *Loaded   // in force; nil before the first
	recorded *Loaded   // the last list that the journal knows to be in force
	overdue  bool      // running is past its valid_until, and this was said
	failures int       // in a row
	told     told      // the last refusal in the journal
	toldAt   time.Time // when
}

// told tells refusals apart. Their text is not part of it: it may name ports and
// times that change where the reason does not.
type told struct {
	reason string
	serial uint64
	target string
}

// NewWatcher checks the configuration and loads what the client has seen before;
// it does not touch the network.
func NewWatcher(c Config) (*Watcher, error) {
	switch {
	case !listName.MatchString(c.Name):
		return nil, fmt.Errorf("list %s: write its name with 1 to 32 of a-z, 0-9, hyphen and underscore", quote(c.Name))
	case c.Source == nil || c.Store == nil || c.Guard == nil || c.Clock == nil || c.Recorder == nil || c.Apply == nil:
		return nil, fmt.Errorf("list %s: source, store, guard, clock, recorder and apply are needed", c.Name)
	case c.Poll < 0:
		return nil, fmt.Errorf("list %s: poll of %v", c.Name, c.Poll)
	}
	if c.Poll == 0 {
		c.Poll = defaultPoll
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	log := c.Logger.With("list", c.Name)
	if c.Metrics == nil {
		var err error
		if c.Metrics, err = NewMetrics(nil); err != nil {
			return nil, err
		}
	}
	if c.WatchDir != "" {
		dir, err := filepath.Abs(c.WatchDir)
		if err != nil {
			return nil, fmt.Errorf("list %s: folder to watch: %w", c.Name, err)
		}
		c.WatchDir = dir
	}
	client, err := signing.NewClient(signing.ClientConfig{
		Root: c.PinnedRoot, Dir: filepath.Join(c.Store.Dir(), "client"), Target: c.Target,
		Source: c.Source, Clock: c.Clock, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", c.Name, err)
	}
	c.Metrics.announce(c.Name)
	return &Watcher{
		c: c, log: log, client: client,
		opener: opener{name: c.Name, root: c.PinnedRoot, identity: c.Identity, limits: c.Limits, guard: c.Guard},
	}, nil
}

// Run follows the source until ctx ends, and returns nil. It is called once,
// after Restore or without it. Nothing that is wrong with a list ends it.
func (w *Watcher) Run(ctx context.Context) error {
	w.Restore()
	var news chan struct{} // never, where no folder is watched
	if w.c.WatchDir != "" {
		// Before the first look at it, so that no change falls between.
		f, err := watchFolder(w.c.WatchDir)
		if err != nil {
			w.log.Warn("changes of the folder are not told, it is only asked", "folder", w.c.WatchDir, "every", w.c.Poll, "error", err)
		} else {
			news = make(chan struct{}, 1)
			var following sync.WaitGroup
			following.Go(func() { f.follow(ctx, news, w.log) })
			defer following.Wait()
		}
	}
	for {
		err := w.refresh(ctx)
		if ctx.Err() != nil {
			return nil
		}
		wait := w.next(err)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-news:
		}
		timer.Stop()
	}
}

// Restore puts the stored list in force, before the network is asked. The caller
// calls it before it answers the first question; Run does it otherwise. It is
// done once.
func (w *Watcher) Restore() {
	if w.restored {
		return
	}
	w.restored = true
	l, a, err := w.c.Store.Load(func(a *signing.Accepted) (*Loaded, error) { return w.opener.open(a, OriginStore, nil) })
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
	if err := w.c.Apply(l); err != nil {
		w.refuse(&refusal{reason: "policy", serial: l.List.Serial, target: l.TargetSHA256, err: fmt.Errorf("apply stored list: %w", err)})
		return
	}
	w.inForce(l)
	if err := w.settle(a); err != nil {
		w.log.Error("stored list is in force, but not wholly accounted for; this is tried again", "serial", l.List.Serial, "error", err)
	}
}

// refresh asks the source once. A nil error means that the newest list is in
// force, stored and recorded.
func (w *Watcher) refresh(ctx context.Context) error {
	defer w.checkOverdue()
	a, err := w.client.Update(ctx)
	switch {
	case errors.Is(err, signing.ErrUnchanged):
		w.current()
		return nil
	case ctx.Err() != nil:
		return ctx.Err() // a shutdown says nothing of the list
	case err != nil:
		w.refuse(err)
		return err
	}
	var inForce *List
	if w.running != nil {
		inForce = w.running.List
	}
	l, err := w.opener.open(a, OriginFetch, inForce)
	if err != nil {
		w.refuse(err)
		return err
	}
	stored, err := w.c.Store.Newest()
	if err != nil {
		return w.unstored(l, err)
	}
	if err := notBehind(l, w.running, stored); err != nil {
		w.refuse(err)
		return err
	}
	// A publication may be signed anew and hold the same list.
	if w.running == nil || w.running.ListSHA256 != l.ListSHA256 {
		if err := w.c.Apply(l); err != nil {
			err = &refusal{reason: "policy", serial: l.List.Serial, target: l.TargetSHA256, err: fmt.Errorf("apply list: %w", err)}
			w.refuse(err)
			return err
		}
		w.inForce(l)
		w.c.Metrics.update(w.c.Name, resultApplied)
	}
	if err := w.c.Store.Save(l.List.Serial, a); err != nil {
		return w.unstored(l, err)
	}
	if err := w.settle(a); err != nil {
		w.log.Error("list is in force and stored, but not wholly accounted for; this is tried again", "serial", l.List.Serial, "error", err)
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

// inForce notes that a list has been handed over.
func (w *Watcher) inForce(l *Loaded) {
	w.running = l
	w.c.Metrics.inForce(l)
	w.log.Info("list in force", "serial", l.List.Serial, "entries", len(l.List.Entries), "from", l.Origin,
		"authority", l.List.Authority, "issued", l.List.Issued, "valid_until", l.List.ValidUntil)
	w.checkOverdue()
}

// current notes that the source holds the list in force and nothing newer.
func (w *Watcher) current() {
	w.told = told{}
	w.c.Metrics.checked.WithLabelValues(w.c.Name).Set(float64(w.c.Clock().Unix()))
}

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

// settle records the list in force and then confirms its publication to the
// client. Until both are done the client gives the publication again.
func (w *Watcher) settle(a *signing.Accepted) error {
	if l := w.running; w.recorded != l {
		err := w.c.Recorder.Event("list.applied", Applied{
			List: l.Name, Authority: l.List.Authority, Serial: l.List.Serial, Entries: len(l.List.Entries),
			ListSHA256: l.ListSHA256, TargetSHA256: l.TargetSHA256, From: l.Origin,
		})
		if err != nil {
			return fmt.Errorf("record list.applied: %w", err)
		}
		w.recorded = l
	}
	return w.client.Confirm(a)
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

// checkOverdue raises the alarm when the list in force is past its valid_until.
// It stays in force: what is blocked by law does not become free because somebody
// withholds the newer list.
func (w *Watcher) checkOverdue() {
	overdue := w.running != nil && !w.c.Clock().Before(w.running.List.ValidUntil)
	if overdue && !w.overdue {
		w.log.Error("list is overdue: it is still enforced, but the authority has to publish", "serial", w.running.List.Serial, "valid_until", w.running.List.ValidUntil)
	}
	w.overdue = overdue
	value := 0.0
	if overdue {
		value = 1
	}
	w.c.Metrics.overdue.WithLabelValues(w.c.Name).Set(value)
}

// next is how long to wait after a refresh: a poll, less after a failure, and not
// past the moment at which the list becomes overdue. Each wait is shortened by
// chance, up to a half after a failure and a tenth else, so that resolvers that
// failed together do not ask together.
func (w *Watcher) next(err error) time.Duration {
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
	return wait
}

// clip keeps at most most bytes of a text for a record, as valid UTF-8.
func clip(s string, most int) string {
	if len(s) > most {
		s = s[:most-3] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
