package blocklist

import "context"

// Recorder writes what happens to a list into the resolver's journal
// (implemented by *blocklog.Journal). kind is one of the event types of
// DESIGN.md ("list.applied", "list.refused", ...).
type Recorder interface {
	Event(kind string, data any) error
}

// Watcher brings one list in: it fetches, verifies, decrypts, parses, guards,
// hands over, stores and records, and keeps the running list when any of that
// fails.
type Watcher struct{}

// Run applies the stored list, then follows the source until ctx ends.
func (w *Watcher) Run(ctx context.Context) error { panic("not built") }
