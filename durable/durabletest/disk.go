// Package durabletest breaks disks, for tests of what is written with package
// durable.
package durabletest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"cordon/durable"
)

// ErrDown is what the call returns at which a [Disk] goes down, and each call after
// it.
var ErrDown = errors.New("the machine is off")

// How says what becomes of the call at which a disk goes down.
type How int

// What becomes of that call.
const (
	Before How = iota // it does not happen
	Half              // a write gets half of its bytes out; other calls do not happen
	After             // it happens, and nobody is told
)

// Loss says what goes down with the machine.
type Loss int

// What is lost.
const (
	Killed   Loss = iota // the process alone: what the kernel was told holds
	Names                // power: names and contents that were not synced
	Contents             // power: contents that were not synced, while their names happened to be written
)

// Disk goes down at one call and stays so. It works on the real file system, and
// takes back there what would be lost. Syncs are noted and not waited for.
//
// Count the calls with a disk that never goes down, then run the case once for
// each of them:
//
//	for at := 1; at <= calls; at++ { run(durabletest.New(at, durabletest.Half, durabletest.Names)) }
//
// It may be used by several goroutines.
type Disk struct {
	at   int // the call at which it goes down, from 1; 0 for never
	how  How
	loss Loss

	mu       sync.Mutex
	calls    int
	down     bool
	unsynced map[string]bool     // files whose contents were not synced
	undo     map[string][]func() // by folder: what takes back changes of names
}

// New gives a disk that goes down at one call, counted from 1; never where at is 0.
func New(at int, how How, loss Loss) *Disk {
	return &Disk{at: at, how: how, loss: loss, unsynced: map[string]bool{}, undo: map[string][]func(){}}
}

// Calls is how many calls there were, the one included at which it went down.
func (d *Disk) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// Down tells whether it has gone down.
func (d *Disk) Down() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.down
}

// PowerOff takes the disk down between two calls.
func (d *Disk) PowerOff() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.die()
}

func (d *Disk) die() {
	if d.down {
		return
	}
	d.down = true
	if d.loss == Killed {
		return
	}
	for path := range d.unsynced {
		_ = os.Truncate(path, 0) // it may be gone
	}
	if d.loss == Names {
		for _, undo := range d.undo {
			for _, u := range slices.Backward(undo) {
				u()
			}
		}
	}
}

// step does one call, or goes down with it.
func (d *Disk) step(do, half func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down {
		return ErrDown
	}
	if d.calls++; d.calls != d.at {
		return do()
	}
	var err error
	switch {
	case d.how == After:
		err = do()
	case d.how == Half && half != nil:
		err = half()
	}
	d.die()
	return errors.Join(ErrDown, err)
}

// changes notes how to take back that a name changes.
func (d *Disk) changes(path string) {
	old, err := os.ReadFile(path)
	dir := filepath.Dir(path)
	d.undo[dir] = append(d.undo[dir], func() {
		if err != nil {
			_ = os.Remove(path) // it may be gone
		} else {
			_ = os.WriteFile(path, old, 0o600)
		}
	})
}

// Create implements [durable.Disk].
func (d *Disk) Create(path string, perm fs.FileMode) (durable.File, error) {
	var f durable.File
	err := d.step(func() (err error) {
		if f, err = (durable.OS{}).Create(path, perm); err != nil {
			return err
		}
		dir := filepath.Dir(path)
		d.undo[dir] = append(d.undo[dir], func() { _ = os.Remove(path) })
		d.unsynced[path] = true
		return nil
	}, nil)
	if err != nil {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
		return nil, err
	}
	return &file{disk: d, path: path, File: f}, nil
}

// Rename implements [durable.Disk].
func (d *Disk) Rename(from, to string) error {
	return d.step(func() error {
		d.changes(to)
		if d.unsynced[from] {
			delete(d.unsynced, from)
			d.unsynced[to] = true
		}
		return os.Rename(from, to)
	}, nil)
}

// Remove implements [durable.Disk].
func (d *Disk) Remove(path string) error {
	return d.step(func() error {
		if _, err := os.Lstat(path); err != nil {
			return err
		}
		d.changes(path)
		return os.Remove(path)
	}, nil)
}

// SyncDir implements [durable.Disk].
func (d *Disk) SyncDir(dir string) error {
	return d.step(func() error {
		delete(d.undo, dir)
		return nil
	}, nil)
}

type file struct {
	durable.File
	disk *Disk
	path string
}

func (f *file) Write(b []byte) (n int, err error) {
	err = f.disk.step(func() error {
		n, err = f.File.Write(b)
		return err
	}, func() error {
		n, err = f.File.Write(b[:len(b)/2])
		return err
	})
	return n, err
}

func (f *file) Sync() error {
	return f.disk.step(func() error {
		delete(f.disk.unsynced, f.path)
		return nil
	}, nil)
}

// Close closes the file in any case: what a process holds open ends with it.
func (f *file) Close() error {
	return errors.Join(f.File.Close(), f.disk.step(func() error { return nil }, nil))
}

// Quick is the file system without waiting for the platter, for tests of
// everything else.
type Quick struct{ durable.OS }

// Create implements [durable.Disk].
func (q Quick) Create(path string, perm fs.FileMode) (durable.File, error) {
	f, err := q.OS.Create(path, perm)
	if err != nil {
		return nil, err
	}
	return quickFile{f}, nil
}

// SyncDir implements [durable.Disk], and does nothing.
func (Quick) SyncDir(string) error { return nil }

type quickFile struct{ durable.File }

func (quickFile) Sync() error { return nil }
