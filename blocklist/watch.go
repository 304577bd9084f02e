package blocklist

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
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
	Name       string           // of the list in the resolver's configuration; label of metrics, name in records
	PinnedRoot []byte           // TUF root metadata that the operator has pinned
	Source     signing.Source   // where the authority publishes
	Mirrors    []signing.Source // of the same publication, asked after Source; see signing.Client
	WatchDirs  []string         // the folders behind these, to be told of changes in them
	Poll       time.Duration    // how often to ask the source, a folder too (NFS tells of nothing); default 1 minute
	Target     string           // the list's name in the publication; default that of signing
	Identity   string           // age identity to which the list is encrypted; secret
	Limits     Limits
	Store      *Store // of this list alone
	Guard      *Guard
	Clock      func() time.Time
	Recorder   Recorder
	Metrics    *Metrics     // may be nil
	Logger     *slog.Logger // may be nil

	// Apply puts a list in force, wholly or, with an error, not at all. It is
	// called by one goroutine at a time; with the same list again where more or less
	// of it is to be enforced.
	Apply func(*Loaded) error

	// Canary tries each new list on a part of the traffic first; nil for not.
	Canary *Canary

	// Making, if not nil, is called before a list that was fetched is opened, and
	// what it returns when the list is in force or refused: what comes between
	// keeps a processor busy, for seconds where a list is long.
	Making func() (made func())
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
	client *signing.Client // of the goroutine of Restore and Run

	view atomic.Pointer[View] // for those who only look

	mu       sync.Mutex // held while a list is reviewed, put in force and stored; guards all below and Config.Store
	restored bool
	running  *Loaded   // in force; nil before the first
	recorded string    // digest of the last list that the journal knows to be in force
	standing *standing // as it is saved, or better where that failed; see unsaved
	unsaved  bool      // the standing has changed since it was saved
	held     *held     // a list that waits for a person's word; nil if none, or not fetched again since the start
	trying   *trying   // a list that is on trial; nil if none
	overdue  bool      // running is past its valid_until, and this was said
	counted  counted   // overdue reviews
	failures int       // in a row
	told     told      // the last refusal in the journal
	toldAt   time.Time // when
}

// held is a list that a guard holds as a whole, at hand for the moment at which it
// is released.
type held struct {
	list     *Loaded // without an index
	accepted *signing.Accepted
}

// View is what there is to see of a list. It does not change.
type View struct {
	Name     string
	Running  *Loaded     // nil before the first
	Held     *HeldUpdate // nil if there is none
	HeldList *List       // the list itself; nil where it has not been fetched again since the start
	Released []Released
	Rollback *Rollback
}

// View gives what there is to see now.
func (w *Watcher) View() *View { return w.view.Load() }

// show lets View see what has changed.
func (w *Watcher) show() {
	st := w.standing
	v := &View{Name: w.c.Name, Running: w.running, Held: st.Held, Released: st.Released, Rollback: st.Rollback}
	if w.held != nil {
		v.HeldList = w.held.list.List
	}
	before := w.view.Swap(v)
	w.c.Metrics.standing(v)
	if w.running != nil && (before == nil || before.Running == nil || before.Running.List != w.running.List) {
		giveBack(w.running.List)
	}
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
	case c.Canary != nil && (c.Canary.Try == nil || c.Canary.End == nil):
		return nil, fmt.Errorf("list %s: a canary has to be able to try", c.Name)
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
	c.WatchDirs = slices.Clone(c.WatchDirs)
	for i, dir := range c.WatchDirs {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("list %s: folder to watch: %w", c.Name, err)
		}
		c.WatchDirs[i] = dir
	}
	client, err := signing.NewClient(signing.ClientConfig{
		Root: c.PinnedRoot, Dir: filepath.Join(c.Store.Dir(), "client"), Target: c.Target,
		Source: c.Source, Mirrors: c.Mirrors, Clock: c.Clock, Log: log, Told: sourceAlarm(c.Name, c.Metrics, log),
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", c.Name, err)
	}
	c.Metrics.announce(c.Name)
	w := &Watcher{
		c: c, log: log, client: client,
		opener:   opener{name: c.Name, root: c.PinnedRoot, identity: c.Identity, limits: c.Limits, guard: c.Guard},
		standing: newStanding(c.Name),
	}
	w.show()
	return w, nil
}

// sourceAlarm says of each source when it fails and when it has an answer again.
func sourceAlarm(list string, m *Metrics, log *slog.Logger) func(int, error) {
	failing := make(map[int]bool)
	return func(number int, err error) {
		label := strconv.Itoa(number + 1)
		m.source.WithLabelValues(list, label).Set(map[bool]float64{true: 1}[err != nil])
		switch {
		case err != nil && !failing[number]:
			log.Warn("a source of the list fails or is behind", "source", number+1, "error", err)
		case err == nil && failing[number]:
			log.Info("a source of the list has an answer again", "source", number+1)
		}
		failing[number] = err != nil
	}
}

// Run follows the source until ctx ends, and returns nil. It is called once,
// after Restore or without it. Nothing that is wrong with a list ends it.
func (w *Watcher) Run(ctx context.Context) error {
	w.Restore(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	news := make(chan struct{}, 1)
	for _, dir := range w.c.WatchDirs {
		// Before the first look at it, so that no change falls between.
		f, err := watchFolder(dir)
		if err != nil {
			w.log.Warn("changes of the folder are not told, it is only asked", "folder", dir, "every", w.c.Poll, "error", err)
			continue
		}
		background.Go(func() { f.follow(ctx, news, w.log) })
	}
	for {
		w.ripen(ctx)
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
