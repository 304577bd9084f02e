package blocklog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"cordon/durable"
)

// Options of a journal; zero values mean the defaults.
type Options struct {
	SegmentBytes int64            // a segment is closed past this size; default 64 MiB
	SyncInterval time.Duration    // between fsyncs of what was written; default 1 s
	Clock        func() time.Time // default time.Now

	// SpoolBytes is how much waits in memory, in bytes, while the segment cannot
	// be written; 0: nothing does, and Append fails instead.
	SpoolBytes int64
	// Alarm is told at once when writing begins to fail, when the spool is full,
	// and when all is well again. It must not call the journal. nil: nobody is.
	Alarm func(Alarm)

	files files // for fault injection; default the operating system's
}

// ErrLocked: another process, or another Journal of this one, holds the
// journal.
var ErrLocked = errors.New("block log is in use by another process")

// Repair is what Open found at the end of the journal; the zero value when it
// was in order. It belongs into the record of the start.
type Repair struct {
	Path   string `json:"path"`   // segment
	Offset int64  `json:"offset"` // where the last whole record ended
	Bytes  int64  `json:"bytes"`  // bytes of a torn record that were removed; 0 when Damage is set
	Damage string `json:"damage"` // whole records follow a damaged one: the segment was left as it is and closed
}

// Stats counts since Open.
type Stats struct {
	Next         uint64 // number that the next record gets
	Waiting      uint64 // records in memory, since the segment cannot be written
	Missing      uint64 // questions that were blocked and will never be on record but as a gap
	Records      uint64 // written
	Bytes        uint64 // written
	FailedWrites uint64 // writes that failed, those tried again included
	FailedSyncs  uint64 // fsyncs that failed: records may not survive a power failure
}

// Journal is the writing side. One process at a time holds it (flock). All
// methods may be called from several goroutines.
type Journal struct {
	dir   string
	o     Options
	lock  *os.File
	seed  maphash.Seed
	stop  chan struct{} // closed by Close
	ended chan struct{} // closed by syncLoop when it ends

	repair  Repair // set by Open
	failing atomic.Bool

	mu    sync.Mutex
	file  file   // the newest segment; nil when closed
	size  int64  // bytes of file up to the last whole record
	torn  bool   // bytes of a failed write may follow size
	dirty bool   // written since the last fsync
	stats Stats  // Next is the number of the next record on disk
	spool spool  // what waits for the disk
	buf   []byte // the batch being encoded
	ends  []int  // ends of the records in buf
	batch batch  // decisions in buf
}

// Append writes the decisions with one write(2). When it returns nil they
// survive kill -9 of this process, unless the journal is failing: then they are
// in memory (Options.SpoolBytes) or, where that is full, counted for a gap event.
// Decisions are merged where all but Count is equal. The slice is not kept.
//
// After an error from the file, the records of the batch that stand whole on
// disk stay, since the auditor may have read them already; the rest waits or,
// without a spool, is taken back and its numbers go to the next records. So no
// number is lost or used twice.
func (j *Journal) Append(decisions []Decision) error {
	for i := range decisions {
		if err := decisions[i].check(); err != nil {
			return err
		}
	}
	if len(decisions) == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.reset()
	now := j.o.Clock().Unix()
	for i := range decisions {
		start := len(j.buf)
		j.buf = appendDecision(j.buf, j.next()+uint64(len(j.ends)), now, &decisions[i])
		if len(decisions) > 1 && j.merge(start) {
			j.buf = j.buf[:start]
			continue
		}
		j.ends = append(j.ends, len(j.buf))
	}
	return j.write()
}

// Event writes one event; data is marshalled to canonical JSON.
func (j *Journal) Event(kind string, data any) error {
	canonical, err := Canonical(data)
	if err != nil {
		return fmt.Errorf("event %s: %w", kind, err)
	}
	e := Event{Kind: kind, Data: canonical}
	if err := e.check(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.reset()
	j.buf = appendEvent(j.buf, j.next(), j.o.Clock().Unix(), &e)
	j.ends = append(j.ends, len(j.buf))
	if j.spool.failed != nil && j.o.SpoolBytes > 0 {
		return j.spoolEvent()
	}
	return j.write()
}

// Repaired says what Open had to repair.
func (j *Journal) Repaired() Repair { return j.repair }

// Stats returns the counts since Open.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.stats
	s.Waiting = uint64(len(j.spool.ends))
	s.Next += s.Waiting
	return s
}

// Close writes what waits, if the disk takes it, syncs and releases the lock. An
// error says what was lost.
func (j *Journal) Close() error {
	lost := j.abandon()
	j.mu.Lock()
	f, torn := j.file, j.torn
	j.file = nil
	j.mu.Unlock()
	if f == nil {
		return nil
	}
	close(j.stop)
	<-j.ended
	errs := []error{lost}
	if torn {
		errs = append(errs, f.Truncate(j.size))
	}
	errs = append(errs, f.Sync(), f.Close(), durable.Unlock(j.lock))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close block log %s: %w", j.dir, err)
	}
	return nil
}

func (j *Journal) reset() {
	j.buf, j.ends = j.buf[:0], j.ends[:0]
	j.batch.begin()
}

// merge adds the count of the decision at start to an equal one before it.
// Where two decisions have one hash, or the counts do not fit, both stay.
func (j *Journal) merge(start int) bool {
	key := j.buf[start+frameSize+keyOffset:]
	n, found := j.batch.find(maphash.Bytes(j.seed, key), len(j.ends))
	if !found {
		return false
	}
	other, end := 0, j.ends[n]
	if n > 0 {
		other = j.ends[n-1]
	}
	if !bytes.Equal(j.buf[other+frameSize+keyOffset:end], key) {
		return false
	}
	count := j.buf[other+frameSize+countOffset:]
	sum := uint64(binary.BigEndian.Uint32(count)) +
		uint64(binary.BigEndian.Uint32(j.buf[start+frameSize+countOffset:]))
	if sum > math.MaxUint32 {
		return false
	}
	binary.BigEndian.PutUint32(count, uint32(sum))
	return true
}

// write seals the records in buf and writes them behind the last whole record,
// or puts them behind those that wait.
func (j *Journal) write() error {
	if j.file == nil {
		return fmt.Errorf("write to block log %s: %w", j.dir, os.ErrClosed)
	}
	if j.spool.failed != nil && j.o.SpoolBytes > 0 {
		j.enqueue(0)
		return nil
	}
	for j.drainChunk() { // without a spool what waits is a gap event, which goes first
	}
	if err := j.spool.failed; err != nil {
		return fmt.Errorf("write to block log %s: %w", j.dir, err)
	}
	start := 0
	for i, end := range j.ends {
		setFrameSeq(j.buf[start:end], j.stats.Next+uint64(i))
		seal(j.buf[start:end])
		start = end
	}
	whole, err := j.put(j.buf, j.ends)
	if err != nil {
		return j.fail(whole, err)
	}
	return nil
}

// put writes sealed records and says how many of them stand whole on disk.
func (j *Journal) put(records []byte, ends []int) (whole int, err error) {
	n := 0
	if err = j.prepare(); err == nil {
		n, err = j.file.WriteAt(records, j.size)
	}
	if err == nil {
		j.written(ends)
		return len(ends), nil
	}
	for whole < len(ends) && ends[whole] <= n {
		whole++
	}
	j.written(ends[:whole])
	j.torn = true
	_ = j.cutBack() // best effort; the next write tries again first
	return whole, err
}

// written accounts for records that are on disk.
func (j *Journal) written(ends []int) {
	if len(ends) == 0 {
		return
	}
	size := ends[len(ends)-1]
	j.size += int64(size)
	j.stats.Next += uint64(len(ends))
	j.stats.Records += uint64(len(ends))
	j.stats.Bytes += uint64(size)
	j.dirty = true
}

// prepare makes the segment ready for a write: nothing behind the last whole
// record, and a new segment when this one is full.
func (j *Journal) prepare() error {
	if j.torn {
		if err := j.cutBack(); err != nil {
			return err
		}
	}
	if j.size < j.o.SegmentBytes || j.size == headerSize {
		return nil
	}
	return j.rotate()
}

// cutBack removes what a failed write left.
func (j *Journal) cutBack() error {
	if err := j.file.Truncate(j.size); err != nil {
		return err
	}
	j.torn = false
	return nil
}

// rotate closes the segment and begins the next. The old one is made durable
// first, so that a power failure never leaves a hole before a newer segment.
func (j *Journal) rotate() error {
	if err := j.file.Sync(); err != nil {
		j.stats.FailedSyncs++
	}
	f, err := createSegment(j.o.files, j.dir, j.stats.Next)
	if errors.Is(err, os.ErrExist) || errors.Is(err, errRemnant) {
		// Readers take it for the next segment: nothing may go into this one.
		return fmt.Errorf("begin segment: %w", err)
	}
	if err != nil {
		return nil // a segment that grows a little longer costs nothing; an answer withheld would
	}
	j.file.Close() // synced above; nothing is lost with it
	j.file, j.size, j.dirty = f, headerSize, false
	return nil
}

// syncLoop makes what was written durable and writes what waits, about once an
// interval.
func (j *Journal) syncLoop() {
	defer close(j.ended)
	t := time.NewTicker(j.o.SyncInterval)
	defer t.Stop()
	for {
		select {
		case <-j.stop:
			return
		case <-t.C:
		}
		j.drain()
		j.mu.Lock()
		f, dirty := j.file, j.dirty
		j.dirty = false
		j.mu.Unlock()
		if f == nil || !dirty {
			continue
		}
		// Outside the lock, so that answers do not wait for the disk. rotate may
		// close the file meanwhile; it has synced it then.
		if err := f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
			j.mu.Lock()
			j.stats.FailedSyncs++
			j.dirty = true
			j.mu.Unlock()
		}
	}
}
