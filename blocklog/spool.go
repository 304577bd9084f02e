package blocklog

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// While the segment cannot be written (a full disk, an error of the device),
// records wait in memory, numbered and dated as they were made: the spool. It
// is written in their order as soon as the disk takes it, tried once each
// SyncInterval. Where it is full, further decisions are counted, and a gap event
// with the exact count takes their place in the sequence. A process that is
// killed meanwhile loses its spool, which is why failing is an alarm.
const (
	// eventReserve is room for events in a spool that decisions have filled, in
	// bytes: list changes and gaps are rare, and what the official looks for first.
	eventReserve = 1 << 20
	// spoolChunk is how much of the spool is written at once, in bytes, since
	// answers wait meanwhile.
	spoolChunk = 256 << 10
)

// Gap is the data of a gap event: what is missing at its place in the sequence.
type Gap struct {
	Count   uint64    `json:"count"`   // questions that were blocked and are not on record
	Refused uint64    `json:"refused"` // listed questions that got SERVFAIL or nothing, since they could not be recorded
	From    time.Time `json:"from"`    // between these, to the second
	To      time.Time `json:"to"`
	Reason  string    `json:"reason"` // why the journal could not be written
}

// Alarm is a change for the worse or the better that a person has to know of.
type Alarm struct {
	Err     error  // why the journal cannot be written; nil: it is written again
	Full    bool   // the spool is full: decisions are counted, no more
	Records uint64 // with Err nil: records that had waited
	Missing uint64 // with Err nil: questions of the gap events since it began
}

// spool is what waits. All of it is guarded by the journal's lock.
type spool struct {
	buf      []byte // sealed records
	ends     []int  // ends of the records in buf
	failed   error  // of the write that began it; nil: not failing
	full     bool   // decisions are counted since
	missing  Gap    // not yet an event; From is zero when there is none
	gaps     uint64 // questions in all gap events since failed
	recorded uint64 // records that waited since failed
}

// next is the number that the next record gets.
func (j *Journal) next() uint64 { return j.stats.Next + uint64(len(j.spool.ends)) }

// Failing reports whether the journal could not be written lately. Without a
// spool nothing can be recorded then; what is not answered for it is to be told
// to Refuse.
func (j *Journal) Failing() bool { return j.failing.Load() }

// Refuse counts listed questions that got SERVFAIL or nothing because they could
// not be recorded, for the gap event.
func (j *Journal) Refuse(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.spool.failed == nil {
		j.spool.failed = errBefore
		j.failing.Store(true)
	}
	j.miss(0, uint64(n))
}

// errBefore is the reason of a gap that is told when all is well again.
var errBefore = errors.New("writing failed just before")

// fail begins the spool with the records of buf from the given one on, which
// could not be written. Without a spool they are taken back, and their numbers
// go to the next records.
func (j *Journal) fail(whole int, err error) error {
	began := j.spool.failed == nil
	j.stats.FailedWrites++
	if began {
		j.spool.failed = err
		j.failing.Store(true)
		j.alarm(Alarm{Err: err})
	}
	if j.o.SpoolBytes <= 0 {
		j.miss(0, 0)
		return fmt.Errorf("write to block log %s: %w", j.dir, err)
	}
	j.enqueue(whole)
	return nil
}

// enqueue puts the records of buf into the spool, from the given one on, as far
// as there is room. Numbers are given anew: they depend on what finds room.
func (j *Journal) enqueue(from int) {
	start := 0
	if from > 0 {
		start = j.ends[from-1]
	}
	for _, end := range j.ends[from:] {
		record := j.buf[start:end]
		start = end
		if kind := record[frameSize]; kind == kindDecision {
			if j.spool.full || int64(len(j.spool.buf)+len(record)) > j.o.SpoolBytes {
				if !j.spool.full {
					j.spool.full = true
					j.alarm(Alarm{Err: j.spool.failed, Full: true})
				}
				j.miss(uint64(frameCount(record)), 0)
				continue
			}
		}
		j.push(record)
	}
}

// push appends a record to the spool, with the next number.
func (j *Journal) push(record []byte) {
	start := len(j.spool.buf)
	j.spool.buf = append(j.spool.buf, record...)
	frame := j.spool.buf[start:]
	setFrameSeq(frame, j.next())
	seal(frame)
	j.spool.ends = append(j.spool.ends, len(j.spool.buf))
	j.spool.recorded++
}

// miss counts what will not be on record.
func (j *Journal) miss(count, refused uint64) {
	now := j.o.Clock().UTC().Truncate(time.Second)
	g := &j.spool.missing
	if g.From.IsZero() {
		*g = Gap{From: now, Reason: j.spool.failed.Error()}
	}
	g.Count += count
	g.Refused += refused
	g.To = now
	j.stats.Missing += count
}

// closeGap turns what is missing into an event at this place of the sequence.
func (j *Journal) closeGap() {
	g := &j.spool.missing
	if g.From.IsZero() {
		return
	}
	j.spool.gaps += g.Count
	data, err := Canonical(*g)
	if err != nil { // it is plain numbers, times and text
		data = json.RawMessage(fmt.Sprintf(`{"count":%d,"refused":%d}`, g.Count, g.Refused))
	}
	*g = Gap{}
	e := Event{Kind: "gap", Data: data}
	j.push(appendEvent(nil, j.next(), j.o.Clock().Unix(), &e))
}

// spoolEvent puts the event in buf into the spool, behind the gap before it.
func (j *Journal) spoolEvent() error {
	if j.file == nil {
		return fmt.Errorf("write to block log %s: %w", j.dir, os.ErrClosed)
	}
	if int64(len(j.spool.buf)+len(j.buf)) > j.o.SpoolBytes+eventReserve {
		return fmt.Errorf("write to block log %s: %w", j.dir, j.spool.failed)
	}
	j.closeGap()
	j.push(j.buf)
	return nil
}

// drain tries to write what waits, a chunk for each hold of the lock, and ends
// the spool when all of it is on disk.
func (j *Journal) drain() {
	for {
		j.mu.Lock()
		more := j.drainChunk()
		j.mu.Unlock()
		if !more {
			return
		}
	}
}

// drainChunk reports whether there is more to write, and the disk takes it.
func (j *Journal) drainChunk() (more bool) {
	s := &j.spool
	if s.failed == nil || j.file == nil {
		return false
	}
	last := len(s.ends) == 0 // nothing waits but what is missing
	if last {
		j.closeGap()
	}
	n := 0
	for n < len(s.ends) && (n == 0 || s.ends[n] <= spoolChunk) {
		n++
	}
	if n > 0 {
		whole, err := j.put(s.buf[:s.ends[n-1]], s.ends[:n])
		j.unspool(whole)
		if err != nil {
			j.stats.FailedWrites++
			s.failed = err
			return false
		}
	}
	if len(s.ends) > 0 || !s.missing.From.IsZero() {
		return true
	}
	j.alarm(Alarm{Records: s.recorded, Missing: s.gaps})
	*s = spool{}
	j.failing.Store(false)
	return false
}

// unspool takes the first n records, which are on disk, out of the spool.
func (j *Journal) unspool(n int) {
	if n == 0 {
		return
	}
	s := &j.spool
	cut := s.ends[n-1]
	s.buf = append(s.buf[:0], s.buf[cut:]...)
	s.ends = append(s.ends[:0], s.ends[n:]...)
	for i := range s.ends {
		s.ends[i] -= cut
	}
}

// abandon is called by Close: what still waits is lost with the process.
func (j *Journal) abandon() error {
	j.drain()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.spool.failed == nil {
		return nil
	}
	return fmt.Errorf("%d records that waited for the disk, and %d questions not on record, are lost: %w",
		len(j.spool.ends), j.spool.missing.Count, j.spool.failed)
}

func (j *Journal) alarm(a Alarm) {
	if j.o.Alarm != nil {
		j.o.Alarm(a)
	}
}
