package oversight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"cordon/durable"
)

// disk makes changes that survive a power failure. The tests put one in its
// place that fails at each change in turn and leaves it half done.
type disk interface {
	// replace puts data in the place of a file, or makes it, with the folders
	// above; the path holds the old content or the new, whole.
	replace(path string, data []byte) error
	// extend appends a line, which ends in a line feed. What a kill left behind
	// the last line feed goes first: it was never acknowledged.
	extend(path string, line []byte) error
	// remove is content with a file that is not there.
	remove(path string) error
}

type osDisk struct{}

func (osDisk) replace(path string, data []byte) error {
	if err := makeDirs(filepath.Dir(path)); err != nil {
		return err
	}
	return durable.Replace(durable.OS{}, path, data, 0o600)
}

func (osDisk) extend(path string, line []byte) error {
	if err := makeDirs(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	end, err := wholeLines(f)
	if err != nil {
		return fmt.Errorf("append to %s: %w", path, err)
	}
	if err := f.Truncate(end); err != nil {
		return err
	}
	if _, err := f.WriteAt(line, end); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return durable.OS{}.SyncDir(filepath.Dir(path))
}

func (osDisk) remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// wholeLines is where the last whole line of a file ends.
func wholeLines(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	const step = 64 << 10
	buf := make([]byte, step)
	for end := info.Size(); end > 0; {
		from := max(0, end-step)
		n, err := f.ReadAt(buf[:end-from], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		end = from
	}
	return 0, nil
}

// makeDirs makes a folder and those above it, closed to others, durably. It is
// asked before each write, and costs nothing where the folder is there.
func makeDirs(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	return durable.MakeDir(durable.OS{}, dir, 0o700)
}

// takeLock waits for a lock until ctx ends. It is asked for again and again,
// since flock(2) itself knows no context.
func takeLock(ctx context.Context, path string, exclusive bool, waiting func(string)) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for told := false; ; told = true {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return f.Close, nil // closing the file releases its lock
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		if !told && waiting != nil {
			waiting(path)
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for %s: %w", path, ctx.Err()), f.Close())
		case <-tick.C:
		}
	}
}
