package blocklist

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// A change is passed on when nothing more has changed for settleQuiet, or after
	// settleMost: whoever publishes writes several files, and what comes half-written
	// should be whole when it is looked at.
	settleQuiet = 100 * time.Millisecond
	settleMost  = 500 * time.Millisecond
)

// folder tells when something changes in a publication folder. It watches the
// metadata folder, the publication folder (in which metadata may be a link that
// is swapped), and the nearest folder above that exists (in which the publication
// may appear, or be a link that is swapped). It may miss changes, on network file
// systems above all: whoever depends on them asks from time to time as well.
type folder struct {
	dir   string // absolute
	watch *fsnotify.Watcher
	armed []string
}

// watchFolder begins to watch; what changes from here on is told by follow. dir
// need not exist.
func watchFolder(dir string) (*folder, error) {
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	f := &folder{dir: filepath.Clean(dir), watch: watch}
	if err := f.arm(); err != nil {
		return nil, errors.Join(err, watch.Close())
	}
	return f, nil
}

// arm watches what is there now. A path may lead to another folder than it did
// before, so all is watched anew.
func (f *folder) arm() error {
	for _, path := range f.armed {
		// It may be gone, and its watch with it.
		_ = f.watch.Remove(path)
	}
	f.armed = f.armed[:0]
	above := filepath.Dir(f.dir)
	for {
		if _, err := os.Stat(above); err == nil || above == filepath.Dir(above) {
			break
		}
		above = filepath.Dir(above)
	}
	// From above to below: what appears while this runs is seen by one or the other.
	for _, path := range []string{above, f.dir, filepath.Join(f.dir, "metadata")} {
		err := f.watch.Add(path)
		switch {
		case err == nil:
			f.armed = append(f.armed, path)
		case !errors.Is(err, os.ErrNotExist) || path == above:
			return err
		}
	}
	return nil
}

// concerns tells whether an event may mean a new publication.
func (f *folder) concerns(e fsnotify.Event) bool {
	if e.Op == fsnotify.Chmod {
		return false
	}
	// Above the publication folder only what lies on the way to it counts.
	return e.Name == f.dir || strings.HasPrefix(e.Name, f.dir+string(filepath.Separator)) ||
		strings.HasPrefix(f.dir, e.Name+string(filepath.Separator))
}

// follow sends on news after changes until ctx ends. A change that finds the
// channel full is covered by the one that waits in it.
func (f *folder) follow(ctx context.Context, news chan<- struct{}, log *slog.Logger) {
	defer func() { _ = f.watch.Close() }() // nothing was written through it
	for {
		if !f.wait(ctx) {
			return
		}
		f.settle(ctx)
		if err := f.arm(); err != nil {
			log.Warn("changes of the folder may not be told, it is still asked", "folder", f.dir, "error", err)
		}
		select {
		case news <- struct{}{}:
		default:
		}
	}
}

// wait returns true after a change, false when ctx ends.
func (f *folder) wait(ctx context.Context) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case e := <-f.watch.Events:
			if f.concerns(e) {
				return true
			}
		case <-f.watch.Errors:
			// Events were lost, most likely: the same as a change.
			return true
		}
	}
}

// settle returns when changes pause.
func (f *folder) settle(ctx context.Context) {
	most := time.NewTimer(settleMost)
	defer most.Stop()
	quiet := time.NewTimer(settleQuiet)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-most.C:
			return
		case <-quiet.C:
			return
		case e := <-f.watch.Events:
			if f.concerns(e) {
				quiet.Reset(settleQuiet)
			}
		case <-f.watch.Errors:
		}
	}
}
