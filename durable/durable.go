// Package durable writes files so that a power failure leaves the old content or
// the new, whole, and never forgets what was reported as written.
//
// What makes it so is an order of system calls, which stands in one place here:
// write beside, sync the file, rename, sync the folder. It is not RFC matter but
// that of rename(2) and fsync(2): a rename is atomic, and neither a file's content
// nor its name is on the platter before each was synced.
//
// All of it goes through [Disk], so that tests can fail each call in turn and
// forget what was not synced; see package durabletest.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Disk is what a durable write asks of the file system.
type Disk interface {
	// Create makes a new file with exactly this mode, whatever the umask;
	// fs.ErrExist if it is there.
	Create(path string, perm fs.FileMode) (File, error)
	Rename(from, to string) error
	Remove(path string) error
	// SyncDir makes what was created, renamed and removed in a folder durable.
	SyncDir(dir string) error
}

// File is a file that is being written.
type File interface {
	io.Writer
	Sync() error
	Close() error
}

// TempSuffix marks files that a kill may leave behind; see [RemoveTemp].
const TempSuffix = ".tmp"

// Replace puts data in the place of a file, or makes it. Whatever happens on the
// way, the path holds the old content or the new, whole; after nil, the new, even
// if the power fails. One goroutine at a time may replace one path.
func Replace(d Disk, path string, data []byte, perm fs.FileMode) error {
	return ReplaceBy(d, path, perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// ReplaceBy is [Replace] with a function that writes the content, for what need
// not stand in memory as a whole. If write fails, so does ReplaceBy, and the path
// holds the old content.
func ReplaceBy(d Disk, path string, perm fs.FileMode, write func(io.Writer) error) error {
	temp := path + TempSuffix
	if err := d.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.Create(temp, perm)
	if err != nil {
		return err
	}
	if err := fill(d, f, temp, write); err != nil {
		return err
	}
	if err := d.Rename(temp, path); err != nil {
		return errors.Join(err, d.Remove(temp))
	}
	return d.SyncDir(filepath.Dir(path))
}

// WriteNew makes a file that was not there (else fs.ErrExist), durable when it
// returns nil. A kill in the middle may leave a part of it.
func WriteNew(d Disk, path string, data []byte, perm fs.FileMode) error {
	f, err := d.Create(path, perm)
	if err != nil {
		return err
	}
	err = fill(d, f, path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	return d.SyncDir(filepath.Dir(path))
}

// fill writes, syncs and closes f, and removes it where that fails.
func fill(d Disk, f File, path string, write func(io.Writer) error) error {
	err := write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), d.Remove(path))
	}
	return nil
}

// Remove removes a file or an empty folder for good, and is content where there
// is none.
func Remove(d Disk, path string) error {
	if err := d.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return d.SyncDir(filepath.Dir(path))
}

// RemoveTemp clears what a kill in the middle of [Replace] left in dir. Call it
// where a folder is opened, before anything is written there.
func RemoveTemp(d Disk, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != TempSuffix {
			continue
		}
		if err := Remove(d, filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// MakeDir makes a folder and those above it that are missing, with this mode less
// the umask, and makes the names of all of them durable; those of the last two in
// any case, since a kill may have come before that the last time. A folder that is
// there keeps its mode.
func MakeDir(d Disk, dir string, perm fs.FileMode) error {
	missing := 0
	for at := dir; at != filepath.Dir(at); at = filepath.Dir(at) {
		if _, err := os.Stat(at); err == nil {
			break
		}
		missing++
	}
	if err := os.MkdirAll(dir, perm); err != nil {
		return err
	}
	for range max(2, missing) {
		dir = filepath.Dir(dir)
		if err := d.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// OS is the file system itself.
type OS struct{}

// Create implements [Disk].
func (OS) Create(path string, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err
	}
	// The umask must not decide who can read a publication.
	if err := f.Chmod(perm); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return f, nil
}

// Rename implements [Disk].
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements [Disk].
func (OS) Remove(path string) error { return os.Remove(path) }

// SyncDir implements [Disk].
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
