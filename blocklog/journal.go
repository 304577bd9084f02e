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
	"time"
)

// Options of a journal; zero values mean the defaults.
type Options struct {
	SegmentBytes int64            // a segment is closed past this size; default 64 MiB
	SyncInterval time.Duration    // between fsyncs of what was written; default 1 s
	Clock        func() time.Time // default time.Now

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
	Records      uint64 // written
	Bytes        uint64 // written
	FailedWrites uint64 // calls of Append or Event that returned an error from the file
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

	repair Repair // set by Open

	mu    sync.Mutex
	file  file           // the newest segment; nil when closed
	size  int64          // bytes of file up to the last whole record
	torn  bool           // bytes of a failed write may follow size
	dirty bool           // written since the last fsync
	stats Stats          // Next is the source of sequence numbers
	buf   []byte         // the batch being encoded
	ends  []int          // ends of the records in buf
	seen  map[uint64]int // hash of a decision in buf -> its start
}

// Append writes the decisions with one write(2). When it returns nil they
// survive kill -9 of this process. Decisions are merged where all but Count is
// equal. The slice is not kept.
//
// After an error from the file, the records of the batch that stand whole on
// disk stay, since the auditor may have read them already; the rest is taken
// back and its numbers go to the next records. So no number is lost or used
// twice.
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
		j.buf = appendDecision(j.buf, j.stats.Next+uint64(len(j.ends)), now, &decisions[i])
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
	j.buf = appendEvent(j.buf, j.stats.Next, j.o.Clock().Unix(), &e)
	j.ends = append(j.ends, len(j.buf))
	return j.write()
}

// Repaired says what Open had to repair.
func (j *Journal) Repaired() Repair { return j.repair }

// Stats returns the counts since Open.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stats
}

// Close writes nothing; it syncs and releases the lock.
func (j *Journal) Close() error {
	j.mu.Lock()
	f, torn := j.file, j.torn
	j.file = nil
	j.mu.Unlock()
	if f == nil {
		return nil
	}
	close(j.stop)
	<-j.ended
	var errs []error
	if torn {
		errs = append(errs, f.Truncate(j.size))
	}
	errs = append(errs, f.Sync(), f.Close(), j.lock.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close block log %s: %w", j.dir, err)
	}
	return nil
}

func (j *Journal) reset() {
	j.buf, j.ends = j.buf[:0], j.ends[:0]
	clear(j.seen)
}

// merge adds the count of the decision at start to an equal one before it.
// Where two decisions have one hash, or the counts do not fit, both stay.
func (j *Journal) merge(start int) bool {
	key := j.buf[start+frameSize+keyOffset:]
	hash := maphash.Bytes(j.seed, key)
	other, ok := j.seen[hash]
	if !ok {
		j.seen[hash] = start
		return false
	}
	end := start
	for _, e := range j.ends {
		if e > other {
			end = e
			break
		}
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

// write seals the records in buf and writes them behind the last whole record.
func (j *Journal) write() error {
	if j.file == nil {
		return fmt.Errorf("write to block log %s: %w", j.dir, os.ErrClosed)
	}
	start := 0
	for _, end := range j.ends {
		seal(j.buf[start:end])
		start = end
	}
	n, err := 0, j.prepare()
	if err == nil {
		n, err = j.file.WriteAt(j.buf, j.size)
	}
	if err == nil {
		j.written(len(j.ends))
		return nil
	}
	whole := 0
	for whole < len(j.ends) && j.ends[whole] <= n {
		whole++
	}
	j.written(whole)
	j.torn = true
	j.cutBack() // best effort; write tries again before it writes
	j.stats.FailedWrites++
	return fmt.Errorf("write to block log %s: %w", j.dir, err)
}

// written accounts for the first n records of buf.
func (j *Journal) written(n int) {
	if n == 0 {
		return
	}
	j.size += int64(j.ends[n-1])
	j.stats.Next += uint64(n)
	j.stats.Records += uint64(n)
	j.stats.Bytes += uint64(j.ends[n-1])
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

// syncLoop makes what was written durable, about once an interval.
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
