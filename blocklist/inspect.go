package blocklist

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"cordon/signing"
)

// Inspection says against what a publication is looked at.
type Inspection struct {
	Root     []byte // pinned
	Identity string // age; secret
	Limits   Limits
	Guard    *Guard
	Clock    func() time.Time
}

// Inspect verifies a publication that lies at path, as a resolver would that has
// nothing in force, and gives what it would enforce of it: either the folder that an
// authority publishes, or a file of a resolver's list store (SERIAL.tar). It
// changes nothing.
func (in Inspection) Inspect(ctx context.Context, name, path string) (*Loaded, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	take := readStored
	origin := OriginStore
	if info.IsDir() {
		take, origin = in.fetch, OriginFetch
	}
	a, err := take(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	o := opener{name: name, root: in.Root, identity: in.Identity, limits: in.Limits, guard: in.Guard}
	l, err := o.open(a, origin)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l.build(newStanding(name).review(in.Guard, l.List, nil, in.Clock()), in.Clock())
}

func readStored(_ context.Context, path string) (*signing.Accepted, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return unpack(bufio.NewReader(f))
}

func (in Inspection) fetch(ctx context.Context, path string) (*signing.Accepted, error) {
	dir, err := os.MkdirTemp("", "cordon-verify-") // 0700
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	client, err := signing.NewClient(signing.ClientConfig{Root: in.Root, Dir: dir, Source: signing.NewFolderSource(path), Clock: in.Clock})
	if err != nil {
		return nil, err
	}
	return client.Update(ctx)
}

// Generation gives a list that the watcher has at hand besides the one in force:
// the one that is held, or one that is stored; verified anew. nil without an error
// is none.
func (w *Watcher) Generation(serial uint64) (*List, error) {
	v := w.View()
	switch {
	case v.Running != nil && v.Running.List.Serial == serial:
		return v.Running.List, nil
	case v.HeldList != nil && v.HeldList.Serial == serial:
		return v.HeldList, nil
	}
	// A file that a rename replaces or removes is read as it was, or is not there.
	l, _, err := w.c.Store.load(serial, w.opener.reopen)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return l.List, nil
}

// Verdict is what a list would do with a name.
type Verdict struct {
	Name  string `json:"name"`
	Was   string `json:"was,omitempty"` // id of the entry that blocks it now
	Would string `json:"would,omitempty"`
}

// DryRun compares for each name what the list in force does with what next would
// do, as the guards stand now, and gives at most most of the names with another
// verdict, and how many there are.
func (w *Watcher) DryRun(next *List, names []string, most int) (changed []Verdict, total int, err error) {
	w.mu.Lock()
	st, running := w.standing.clone(), w.running
	w.mu.Unlock()
	would, err := (&Loaded{Name: w.c.Name, List: next}).build(st.review(w.c.Guard, next, running, w.c.Clock()), w.c.Clock())
	if err != nil {
		return nil, 0, err
	}
	id := func(l *Loaded, wire []byte) string {
		if l == nil {
			return ""
		}
		if n, ok := l.Index.Lookup(wire); ok {
			return l.List.Entries[n].ID
		}
		return ""
	}
	for _, name := range names {
		canonical, err := CanonicalName(name)
		if err != nil {
			continue // no list can hold it
		}
		wire := appendWire(nil, canonical)
		v := Verdict{Name: canonical, Was: id(running, wire), Would: id(would, wire)}
		if (v.Was == "") == (v.Would == "") {
			continue
		}
		total++
		if len(changed) < most {
			changed = append(changed, v)
		}
	}
	return changed, total, nil
}

// Covering gives the entries of the list in force that cover a name (canonical),
// set aside or pending as they may be, with their state; the nearest first.
func (l *Loaded) Covering(name string) (all []Item) {
	for above := name; above != ""; above = parentOf(above) {
		i, _ := slices.BinarySearchFunc(l.List.Entries, above, func(e Entry, name string) int { return strings.Compare(e.Name, name) })
		for ; i < len(l.List.Entries) && l.List.Entries[i].Name == above; i++ {
			e := &l.List.Entries[i]
			if above != name && e.Scope != ScopeDomain {
				continue
			}
			item := Item{Entry: *e, State: l.state(i)}
			if a := l.aside(uint32(i)); a != nil {
				item.Aside = &a.SetAside
			}
			all = append(all, item)
		}
	}
	return all
}
