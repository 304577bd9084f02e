package blocklog

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrRemoved: the records asked for are older than the oldest segment.
var ErrRemoved = errors.New("records are no longer in the block log")

// Reader reads a journal from a sequence number on, while another process may
// be writing it. It needs read permission only. One goroutine at a time.
type Reader struct {
	dir      string
	from     uint64 // records below are passed over
	f        *os.File
	w        window
	first    uint64 // number in the name of f
	off      int64  // of the next record in f
	next     uint64 // number of the next record
	unsynced bool   // Next has returned records of f since the last Sync
}

// OpenReader starts at the record with number from (1 is the first). Where
// that one is not written yet, Next gives io.EOF until it is; where its segment
// is gone, ErrRemoved.
func OpenReader(dir string, from uint64) (*Reader, error) {
	r := &Reader{dir: dir, from: max(from, 1)}
	firsts, err := segments(dir)
	if err != nil {
		return nil, err
	}
	if len(firsts) == 0 {
		r.next = 1
		return r, nil
	}
	if firsts[0] > r.from {
		return nil, fmt.Errorf("%w: record %d was asked for, the oldest in %s is %d", ErrRemoved, r.from, dir, firsts[0])
	}
	start := firsts[0]
	for _, first := range firsts {
		if first <= r.from {
			start = first
		}
	}
	if err := r.open(start); err != nil {
		return nil, err
	}
	return r, nil
}

// open moves to the segment whose first record has the number first.
func (r *Reader) open(first uint64) error {
	f, err := os.Open(segmentPath(r.dir, first))
	if err != nil {
		return fmt.Errorf("open segment of the block log: %w", err)
	}
	if r.f != nil {
		r.f.Close()
	}
	r.f, r.w, r.first = f, window{f: f, buf: r.w.buf[:0]}, first
	r.off, r.next = 0, first
	return nil
}

// Next returns the next whole record and its raw bytes as they stand in the
// segment (valid until the next call); io.EOF when there is none yet. Anything
// else than a whole record where one has to be is a *DamageError, and stays it
// until Skip. Only at the end of the newest segment, where the writer may be
// about to write or to repair, it is io.EOF.
func (r *Reader) Next() (Record, []byte, error) {
	for {
		rec, raw, err := r.step()
		var damage *DamageError
		if errors.As(err, &damage) && r.next < r.from {
			// Damage within what is passed over anyhow does not matter.
			found, seq, findErr := findRecord(&r.w, r.off, r.next)
			if findErr != nil {
				return Record{}, nil, findErr
			}
			if found >= 0 && seq <= r.from {
				r.off, r.next = found, seq
				continue
			}
		}
		if err != nil {
			return Record{}, nil, err
		}
		if rec.Seq >= r.from {
			r.unsynced = true
			return rec, raw, nil
		}
	}
}

// step reads one record, whichever segment it is in.
func (r *Reader) step() (Record, []byte, error) {
	if r.f == nil { // the journal was empty
		if err := r.advance(); err != nil {
			return Record{}, nil, err
		}
	}
	for {
		rec, raw, err := r.here()
		if !errors.Is(err, errShort) && !errors.Is(err, errDamaged) {
			return rec, raw, err
		}
		newest, newestErr := r.newest()
		if newestErr != nil {
			return Record{}, nil, newestErr
		}
		if newest {
			return Record{}, nil, r.atTail(err)
		}
		// A newer segment exists, so this one is complete. Look again: the writer
		// may have written to it between the two looks.
		rec, raw, err = r.here()
		if !errors.Is(err, errShort) && !errors.Is(err, errDamaged) {
			return rec, raw, err
		}
		if err := r.leave(err); err != nil {
			return Record{}, nil, err
		}
	}
}

// here takes the record at off. errShort also stands for "nothing there".
func (r *Reader) here() (Record, []byte, error) {
	if r.off == 0 {
		b, err := r.w.read(0)
		if err != nil {
			return Record{}, nil, err
		}
		if err := checkHeader(b, r.first); err != nil {
			return Record{}, nil, err
		}
		r.off = headerSize
	}
	rec, raw, err := r.peek()
	if err != nil {
		return Record{}, nil, err
	}
	r.off += int64(len(raw))
	r.next++
	return rec, raw, nil
}

// peek is here without taking it.
func (r *Reader) peek() (Record, []byte, error) {
	rec, raw, err := r.w.record(r.off)
	if err == nil && rec.Seq != r.next {
		err = fmt.Errorf("%w: record %d stands there", errDamaged, rec.Seq)
	}
	return rec, raw, err
}

// newest tells whether no segment follows the one that is open.
func (r *Reader) newest() (bool, error) {
	firsts, err := segments(r.dir)
	if err != nil {
		return false, err
	}
	return len(firsts) == 0 || firsts[len(firsts)-1] <= r.first, nil
}

// atTail decides what a missing record at the end of the newest segment is:
// io.EOF, or damage when the file was cut or replaced or whole records follow.
func (r *Reader) atTail(cause error) error {
	info, err := r.f.Stat()
	if err != nil {
		return fmt.Errorf("read segment of the block log: %w", err)
	}
	if info.Size() < r.off {
		return r.damage(fmt.Sprintf("the file ends at %d", info.Size()))
	}
	if named, err := os.Stat(segmentPath(r.dir, r.first)); err != nil || !os.SameFile(named, info) {
		return r.damage("the file was replaced or removed while it was read")
	}
	if !errors.Is(cause, errDamaged) {
		return io.EOF
	}
	found, _, err := findRecord(&r.w, r.off, r.next)
	if err != nil {
		return err
	}
	if found < 0 {
		return io.EOF
	}
	if r.off > 0 {
		if _, _, err := r.peek(); err == nil {
			return io.EOF // written meanwhile
		}
	}
	return r.damage(cause.Error())
}

// leave goes on to the next segment from the end of a complete one.
func (r *Reader) leave(cause error) error {
	info, err := r.f.Stat()
	if err != nil {
		return fmt.Errorf("read segment of the block log: %w", err)
	}
	if r.off == 0 || info.Size() != r.off {
		return r.damage(cause.Error())
	}
	if r.unsynced {
		if err := r.Sync(); err != nil {
			return err
		}
	}
	return r.advance()
}

// advance opens the segment after the present one.
func (r *Reader) advance() error {
	following, err := r.following()
	if err != nil {
		return err
	}
	if following == 0 {
		return io.EOF
	}
	if following != r.next {
		return r.damage(fmt.Sprintf("the next segment begins with record %d", following))
	}
	return r.open(following)
}

// following is the number of the segment after the present one, 0 when there is
// none.
func (r *Reader) following() (uint64, error) {
	firsts, err := segments(r.dir)
	if err != nil {
		return 0, err
	}
	for _, first := range firsts {
		if first > r.first {
			return first, nil
		}
	}
	return 0, nil
}

func (r *Reader) damage(reason string) error {
	return &DamageError{Path: segmentPath(r.dir, r.first), Offset: r.off, Seq: r.next, Reason: reason}
}

// At is the number of the record that is read next: the end of the sequence
// after io.EOF, even when OpenReader was given a higher number.
func (r *Reader) At() uint64 { return r.next }

// Skip passes over the place of a *DamageError, to the next whole record. The
// records between the error's Seq and the returned number are lost; the caller
// puts that on record. io.EOF when there is nothing after the damage yet.
func (r *Reader) Skip() (uint64, error) {
	if r.f != nil {
		info, err := r.f.Stat()
		if err != nil {
			return 0, fmt.Errorf("read segment of the block log: %w", err)
		}
		if r.off < info.Size() {
			found, seq, err := findRecord(&r.w, r.off, r.next)
			if err != nil {
				return 0, err
			}
			if found >= 0 {
				r.off, r.next = found, seq
				return seq, nil
			}
		}
		if r.unsynced {
			if err := r.Sync(); err != nil {
				return 0, err
			}
		}
	}
	following, err := r.following()
	if err != nil {
		return 0, err
	}
	if following == 0 {
		return 0, io.EOF
	}
	return following, r.open(following)
}

// Sync makes what Next has returned so far durable (fsync of the segment), so
// that nothing is sealed that a power failure could take back. Segments that
// Next has left are durable already.
func (r *Reader) Sync() error {
	if r.f == nil || !r.unsynced {
		return nil
	}
	if err := r.f.Sync(); err != nil {
		return fmt.Errorf("sync segment %s of the block log: %w", segmentName(r.first), err)
	}
	r.unsynced = false
	return nil
}

// Close releases the open segment.
func (r *Reader) Close() error {
	if r.f == nil {
		return nil
	}
	return r.f.Close()
}

// Bounds gives the numbers of the oldest record in the journal and of the one
// that comes next; both are 1 when it is empty. A *DamageError when the newest
// segment is damaged.
func Bounds(dir string) (oldest, next uint64, err error) {
	firsts, err := segments(dir)
	if err != nil {
		return 0, 0, err
	}
	if len(firsts) == 0 {
		return 1, 1, nil
	}
	newest := firsts[len(firsts)-1]
	t, err := examine(segmentPath(dir, newest), newest)
	if err != nil {
		return 0, 0, err
	}
	if t.damage != nil {
		return firsts[0], t.next, t.damage
	}
	return firsts[0], t.next, nil
}
