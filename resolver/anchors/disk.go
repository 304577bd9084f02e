package anchors

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// disk is what a durable write asks of the file system; the tests put one in its
// place that fails at each call in turn.
type disk interface {
	Create(path string) (diskFile, error) // truncates; 0600
	Rename(from, to string) error
	SyncDir(dir string) error
}

type diskFile interface {
	io.Writer
	Sync() error
	Close() error
}

const (
	tempSuffix    = ".new"     // of a file that is being written
	damagedSuffix = ".damaged" // of one that could not be used
)

// replace puts data in the place of the file at path. Whatever happens on the
// way, the path holds the old content or the new, whole. The order is what makes
// it so: write, sync the file, rename, sync the folder.
func replace(d disk, path string, data []byte) error {
	tmp := path + tempSuffix
	f, err := d.Create(tmp)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		if err = d.Rename(tmp, path); err == nil {
			err = d.SyncDir(filepath.Dir(path))
		}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// setAside keeps a file that cannot be used for a person to look at, out of the
// way of the next one.
func setAside(d disk, path string) error {
	if err := d.Rename(path, path+damagedSuffix); err != nil {
		return err
	}
	return d.SyncDir(filepath.Dir(path))
}

// osDisk is the file system itself.
type osDisk struct{}

func (osDisk) Create(path string) (diskFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o600); err != nil { // one that was left behind may have another
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (osDisk) Rename(from, to string) error { return os.Rename(from, to) }

func (osDisk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
