package resolver

import (
	"context"
	"fmt"
	"os"
	"time"

	"cordon/blocklist"
)

// protected reads the names that no list takes down without a person's word.
func (g *GuardConfig) protected() (*blocklist.Protected, error) {
	p := blocklist.NewProtected()
	if g.Starter {
		if err := p.AddStarter(); err != nil {
			return nil, err
		}
	}
	read := func(path string, add func(*os.File) error) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return add(f)
	}
	for _, path := range g.Protected {
		if err := read(path, func(f *os.File) error { return p.AddFile(f, path) }); err != nil {
			return nil, fmt.Errorf("protected: %w", err)
		}
	}
	if path := g.Ranking.File; path != "" {
		if err := read(path, func(f *os.File) error { return p.AddRanking(f, path, g.Ranking.Top) }); err != nil {
			return nil, fmt.Errorf("ranking: %w", err)
		}
	}
	return p, nil
}

// files are those that the names come from.
func (g *GuardConfig) files() []string {
	files := append([]string(nil), g.Protected...)
	if g.Ranking.File != "" {
		files = append(files, g.Ranking.File)
	}
	return files
}

// protectedPoll is how often it is looked whether the files have changed. They are
// asked, not watched: a file behind a link that is swapped, or on NFS, is noticed
// too, and nobody waits for it.
const protectedPoll = 10 * time.Second

// followProtected reads the protected names anew when a file of theirs changes,
// until ctx ends. What cannot be read leaves the names in force that were, with an
// alarm. The guards look at the next list with what is in force then.
func (r *Resolver) followProtected(ctx context.Context) {
	files := r.config.Guard.files()
	if len(files) == 0 {
		return
	}
	known := look(files)
	every(ctx, protectedPoll, func() {
		if now := look(files); !same(now, known) {
			known = now
			r.rereadProtected()
		}
	})
}

// rereadProtected puts in force what the files hold now.
func (r *Resolver) rereadProtected() {
	p, err := r.config.Guard.protected()
	r.protectedStale.Store(err != nil)
	if err != nil {
		r.log.Error("the protected names cannot be read anew: those that were read before stay in force", "error", fmt.Errorf("guard.%w", err))
		return
	}
	r.protected.Store(p)
	r.log.Info("protected names read anew; they hold from the next list on")
}

// look notes what tells one state of the files from another; nil for a file that
// is not there.
func look(files []string) []os.FileInfo {
	all := make([]os.FileInfo, len(files))
	for i, path := range files {
		if info, err := os.Stat(path); err == nil {
			all[i] = info
		}
	}
	return all
}

func same(a, b []os.FileInfo) bool {
	for i := range a {
		if (a[i] == nil) != (b[i] == nil) {
			return false
		}
		if a[i] != nil && (!os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime())) {
			return false
		}
	}
	return true
}
