package blocklog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The header of a segment, integers big-endian:
//
//	magic    8 bytes  "blocklog"
//	version  uint32   1
//	first    uint64   number of the first record, as in the file's name
//	crc      uint32   CRC32C of the above
const (
	magic      = "blocklog"
	version    = 1
	headerSize = 8 + 4 + 8 + 4

	extension = ".blog"
	lockName  = ".lock"
)

// DamageError is a place in the journal where a whole record should be and is
// not. The journal never passes over it by itself; see [Reader.Skip].
type DamageError struct {
	Path   string // segment
	Offset int64  // bytes from its start
	Seq    uint64 // number of the record that should be there
	Reason string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("block log is damaged: %s at offset %d, where record %d should be: %s", e.Path, e.Offset, e.Seq, e.Reason)
}

func segmentName(first uint64) string { return fmt.Sprintf("%020d", first) + extension }

func segmentHeader(first uint64) []byte {
	h := append(make([]byte, 0, headerSize), magic...)
	h = binary.BigEndian.AppendUint32(h, version)
	h = binary.BigEndian.AppendUint64(h, first)
	return binary.BigEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
}

// checkHeader compares the start of a segment with what its name promises;
// errShort when it is the beginning of a header.
func checkHeader(h []byte, first uint64) error {
	want := segmentHeader(first)
	if len(h) < headerSize {
		if bytes.HasPrefix(want, h) {
			return errShort
		}
		return fmt.Errorf("%w: segment header is cut short", errDamaged)
	}
	h = h[:headerSize]
	if bytes.Equal(h, want) {
		return nil
	}
	sum := binary.BigEndian.Uint32(h[headerSize-4:])
	if v := binary.BigEndian.Uint32(h[len(magic):]); string(h[:len(magic)]) == magic && v > version &&
		sum == crc32.Checksum(h[:headerSize-4], castagnoli) {
		return fmt.Errorf("segment of version %d was written by a newer cordon; this one reads version %d", v, version)
	}
	return fmt.Errorf("%w: segment header does not match", errDamaged)
}

// segments lists the numbers of the first records of the segments in dir, in
// order.
func segments(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list segments of the block log: %w", err)
	}
	var firsts []uint64
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), extension)
		if !ok || len(digits) != 20 {
			continue
		}
		if first, err := strconv.ParseUint(digits, 10, 64); err == nil && first > 0 {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, nil
}

// window reads a segment forwards, through a buffer. What does not decode from
// the buffer is read anew before it is judged, so bytes that the writer took
// back and wrote again are never mixed with older ones.
type window struct {
	f     io.ReaderAt
	start int64 // offset of buf in the file
	buf   []byte
}

const windowSize = 256 << 10 // holds MaxRecord several times

// record decodes the record at off and gives its raw bytes, which are valid
// until the next call. errShort also stands for "nothing there".
func (w *window) record(off int64) (Record, []byte, error) {
	if b := w.have(off); len(b) > 0 {
		if r, n, err := Decode(b); err == nil {
			return r, b[:n], nil
		}
	}
	b, err := w.read(off)
	if err != nil {
		return Record{}, nil, err
	}
	r, n, err := Decode(b)
	if err != nil {
		return Record{}, nil, err
	}
	return r, b[:n], nil
}

// at gives what stands at off: at least MaxRecord bytes, or all there are.
func (w *window) at(off int64) ([]byte, error) {
	if b := w.have(off); len(b) >= MaxRecord {
		return b, nil
	}
	return w.read(off)
}

// have gives what the buffer holds from off on.
func (w *window) have(off int64) []byte {
	if off < w.start || off > w.start+int64(len(w.buf)) {
		return nil
	}
	return w.buf[off-w.start:]
}

// read fills the buffer from off on.
func (w *window) read(off int64) ([]byte, error) {
	if w.buf == nil {
		w.buf = make([]byte, windowSize)
	}
	w.buf = w.buf[:cap(w.buf)]
	n, err := w.f.ReadAt(w.buf, off)
	w.start, w.buf = off, w.buf[:n]
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read segment of the block log: %w", err)
	}
	return w.buf, nil
}

// findRecord looks for the next whole record at or after off with a number of
// at least seq. found is its offset, -1 when there is none.
func findRecord(w *window, off int64, seq uint64) (found int64, number uint64, err error) {
	for {
		b, err := w.at(off)
		if err != nil {
			return -1, 0, err
		}
		if len(b) < frameSize+minBody {
			return -1, 0, nil
		}
		// The number first: the checksum of every possible length would be slow.
		if n := frameSeq(b); n >= seq && n-seq < 1<<40 {
			if r, _, err := Decode(b); err == nil {
				return off, r.Seq, nil
			}
		}
		off++
	}
}

// tail is what a look through the newest segment found.
type tail struct {
	end     int64        // offset after the last record that is in order
	next    uint64       // number after the last record
	size    int64        // bytes of the file
	damage  *DamageError // whole records follow a place that is none
	missing bool         // there is no whole header
}

// examine reads the segment that begins with record first to its end.
func examine(path string, first uint64) (tail, error) {
	f, err := os.Open(path)
	if err != nil {
		return tail{}, fmt.Errorf("open segment of the block log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return tail{}, fmt.Errorf("open segment of the block log: %w", err)
	}
	t := tail{next: first, size: info.Size()}
	w := &window{f: f}
	b, err := w.at(0)
	if err != nil {
		return tail{}, err
	}
	if err := checkHeader(b, first); err == nil {
		t.end = headerSize
	} else if errors.Is(err, errShort) || errors.Is(err, errDamaged) {
		t.missing = true
	} else {
		return tail{}, fmt.Errorf("segment %s: %w", path, err)
	}
	reason := "segment header does not match"
	for !t.missing && t.end < t.size {
		r, raw, err := w.record(t.end)
		if errors.Is(err, errShort) || errors.Is(err, errDamaged) {
			reason = err.Error()
			break
		}
		if err != nil {
			return tail{}, err
		}
		if r.Seq != t.next {
			reason = fmt.Sprintf("record %d stands there", r.Seq)
			break
		}
		t.end += int64(len(raw))
		t.next++
	}
	if t.end == t.size && !t.missing {
		return t, nil
	}
	// What follows is a torn tail, unless there are whole records in it.
	for off := t.end; ; off++ {
		found, seq, err := findRecord(w, off, t.next)
		if err != nil {
			return tail{}, err
		}
		if found < 0 {
			return t, nil
		}
		if t.damage == nil {
			t.damage = &DamageError{Path: path, Offset: t.end, Seq: t.next, Reason: reason}
		}
		off, t.next = found, seq+1
	}
}

func segmentPath(dir string, first uint64) string { return filepath.Join(dir, segmentName(first)) }
