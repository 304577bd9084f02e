package rpz

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// disk is what a durable write asks of the file system; the tests put one in its
// place that fails at each step.
type disk interface {
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

// replace puts what write writes in the place of a file, or makes it: whoever reads
// it finds the old content or the new, whole, whatever happens on the way. The order
// is what makes it so: write, sync the file, rename, sync the folder.
func replace(d disk, path string, perm fs.FileMode, write func(io.Writer) error) error {
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
	if err := d.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.Create(temp, perm)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), d.Remove(temp))
	}
	if err := d.Rename(temp, path); err != nil {
		return errors.Join(err, d.Remove(temp))
	}
	return d.SyncDir(filepath.Dir(path))
}

// WriteFile writes a zone into a file, whole or not at all. Whoever reads the file
// has the list: perm says who may.
func (z *Zone) WriteFile(path string, perm fs.FileMode) error {
	return z.writeFile(osDisk{}, path, perm)
}

func (z *Zone) writeFile(d disk, path string, perm fs.FileMode) error {
	return replace(d, path, perm, func(w io.Writer) error { _, err := z.WriteTo(w); return err })
}

// osDisk is the file system itself.
type osDisk struct{}

func (osDisk) Create(path string, perm fs.FileMode) (diskFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	// The umask must not decide who can read it.
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
