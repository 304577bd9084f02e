package blocklog

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"cordon/durable"
)

// file is what the writer needs of a segment.
type file interface {
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Close() error
}

// files is what the writer needs of the file system. Tests put faults in.
type files interface {
	create(path string) (file, error) // new, 0640
	open(path string) (file, error)   // existing, for writing
	remove(path string) error
	syncDir(dir string) error
}

// Open opens or creates the journal in dir, repairs a torn tail, and takes the
// lock (ErrLocked when it is held). Where whole records follow a damaged one in
// the newest segment, nothing is removed: that segment is closed as it stands
// and the next one begins after its last record. [Journal.Repaired] tells.
func Open(dir string, o Options) (*Journal, error) {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.SyncInterval <= 0 {
		o.SyncInterval = time.Second
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.files == nil {
		o.files = osFiles{}
	}
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("create block log: %w", err)
	}
	lock, err := takeLock(dir)
	if err != nil {
		return nil, err
	}
	j := &Journal{
		dir: dir, o: o, lock: lock,
		seed:  maphash.MakeSeed(),
		stop:  make(chan struct{}),
		ended: make(chan struct{}),
	}
	if err := j.openNewest(); err != nil {
		_ = durable.Unlock(lock)
		return nil, err
	}
	go j.syncLoop()
	return j, nil
}

// makeDir makes a missing folder that the auditor's group can read, whatever the
// umask. A folder that is there keeps its mode.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	return os.Chmod(dir, 0o750)
}

// takeLock locks the journal for as long as the returned file is open.
func takeLock(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock block log: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is locked; each resolver needs a block log folder of its own", ErrLocked, path)
		}
		return nil, fmt.Errorf("lock block log: %s: %w", path, err)
	}
	return f, nil
}

// openNewest finds the end of the sequence and opens the segment to write to.
func (j *Journal) openNewest() error {
	firsts, err := segments(j.dir)
	if err != nil {
		return err
	}
	if len(firsts) == 0 {
		return j.begin(1)
	}
	first := firsts[len(firsts)-1]
	path := segmentPath(j.dir, first)
	t, err := examine(path, first)
	if err != nil {
		return err
	}
	switch {
	case t.damage != nil:
		j.repair = Repair{Path: path, Offset: t.damage.Offset, Damage: t.damage.Error()}
		return j.begin(t.next)
	case t.missing:
		// Killed while the segment was made: it holds no record.
		if err := j.o.files.remove(path); err != nil {
			return fmt.Errorf("repair block log: %w", err)
		}
		j.repair = Repair{Path: path, Bytes: t.size}
		return j.begin(first)
	}
	f, err := j.o.files.open(path)
	if err != nil {
		return fmt.Errorf("open segment of the block log: %w", err)
	}
	j.file, j.size, j.stats.Next = f, t.end, t.next
	if t.end == t.size {
		return nil
	}
	if err := errors.Join(f.Truncate(t.end), f.Sync()); err != nil {
		f.Close()
		return fmt.Errorf("repair block log: cut %s to %d bytes: %w", path, t.end, err)
	}
	j.repair = Repair{Path: path, Offset: t.end, Bytes: t.size - t.end}
	return nil
}

// begin makes a segment for the records from first on.
func (j *Journal) begin(first uint64) error {
	f, err := createSegment(j.o.files, j.dir, first)
	if err != nil {
		return fmt.Errorf("create segment of the block log: %w", err)
	}
	j.file, j.size, j.stats.Next = f, headerSize, first
	return nil
}

// createSegment writes the header and makes file and name durable, before any
// record can stand in it: a segment without a whole header holds none.
func createSegment(fs files, dir string, first uint64) (file, error) {
	f, err := fs.create(segmentPath(dir, first))
	if err != nil {
		return nil, err
	}
	_, err = f.WriteAt(segmentHeader(first), 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = fs.syncDir(dir)
	}
	if err != nil {
		f.Close()
		if removeErr := fs.remove(segmentPath(dir, first)); removeErr != nil {
			err = errors.Join(err, fmt.Errorf("%w: %w", errRemnant, removeErr))
		}
		return nil, err
	}
	return f, nil
}

// errRemnant: a segment that could not be made could not be removed either.
var errRemnant = errors.New("an unfinished segment is left")

type osFiles struct{}

func (osFiles) create(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, err
	}
	// Whatever the umask: the auditor reads through the group.
	if err := f.Chmod(0o640); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (osFiles) open(path string) (file, error) { return os.OpenFile(path, os.O_WRONLY, 0) }

func (osFiles) remove(path string) error { return os.Remove(path) }

func (osFiles) syncDir(dir string) error { return durable.OS{}.SyncDir(dir) }
