package signing

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// disk is what a durable write asks of the file system. The tests put one in its
// place that fails at each call in turn and forgets what was not synced, as
// power failure does.
type disk interface {
	// Create makes a new file with exactly this mode; fs.ErrExist if it is there.
	Create(path string, perm fs.FileMode) (diskFile, error)
	Rename(from, to string) error
	Remove(path string) error
	SyncDir(dir string) error
}

type diskFile interface {
	io.Writer
	Sync() error
	Close() error
}

// tempSuffix marks files that a kill may leave behind; see removeTemp.
const tempSuffix = ".tmp"

// writeNew makes a file that was not there, durable when it returns.
func writeNew(d disk, path string, data []byte, perm fs.FileMode) error {
	f, err := d.Create(path, perm)
	if err != nil {
		return err
	}
	if err := fill(d, f, path, data); err != nil {
		return err
	}
	return d.SyncDir(filepath.Dir(path))
}

// replace puts data in the place of a file, or makes it. Whatever happens on the
// way, the path holds the old content or the new, whole. The order is what makes
// it so: write, sync the file, rename, sync the folder.
func replace(d disk, path string, data []byte, perm fs.FileMode) error {
	tmp := path + tempSuffix
	if err := d.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.Create(tmp, perm)
	if err != nil {
		return err
	}
	if err := fill(d, f, tmp, data); err != nil {
		return err
	}
	if err := d.Rename(tmp, path); err != nil {
		return errors.Join(err, d.Remove(tmp))
	}
	return d.SyncDir(filepath.Dir(path))
}

// fill writes, syncs and closes f, and removes it where that fails.
func fill(d disk, f diskFile, path string, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), d.Remove(path))
	}
	return nil
}

// makeDir makes a folder and those above it, and makes the last two durable.
func makeDir(d disk, dir string, perm fs.FileMode) error {
	if err := os.MkdirAll(dir, perm); err != nil {
		return err
	}
	for _, above := range []string{filepath.Dir(dir), filepath.Dir(filepath.Dir(dir))} {
		if err := d.SyncDir(above); err != nil {
			return err
		}
	}
	return nil
}

// remove is durable too, and content with a file that is not there.
func remove(d disk, path string) error {
	if err := d.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return d.SyncDir(filepath.Dir(path))
}

// removeTemp clears what a kill in the middle of replace left in dir.
func removeTemp(d disk, dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "*"+tempSuffix))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := remove(d, path); err != nil {
			return err
		}
	}
	return nil
}

// osDisk is the file system itself.
type osDisk struct{}

func (osDisk) Create(path string, perm fs.FileMode) (diskFile, error) {
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

func (osDisk) Rename(from, to string) error { return os.Rename(from, to) }

func (osDisk) Remove(path string) error { return os.Remove(path) }

func (osDisk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
