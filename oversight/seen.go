package oversight

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"cordon/audit/tlog"
)

// sighting is a checkpoint and when this mirror first saw it, by the official's
// own clock. It is written down before anything is mirrored on its strength, so
// that the log's keeper cannot take it back.
type sighting struct {
	At         time.Time `json:"at"`
	Checkpoint string    `json:"checkpoint"` // the signed note
}

const (
	seenFile = "seen"
	// maxSighting bounds a line, in bytes: a checkpoint has at most 64 KiB, which
	// JSON may make longer.
	maxSighting = 512 << 10
)

func (m *mirror) seenPath() string { return filepath.Join(m.dir, seenFile) }

// saw writes a checkpoint down.
func (m *mirror) saw(cp tlog.Checkpoint) error {
	line, err := json.Marshal(sighting{At: m.clock().UTC().Truncate(time.Second), Checkpoint: string(cp.Raw)})
	if err != nil {
		return err
	}
	if err := m.disk.extend(m.seenPath(), append(line, '\n')); err != nil {
		return fmt.Errorf("write the checkpoint down: %w", err)
	}
	return nil
}

// anchor is the newest checkpoint that was seen; false where there is none.
func (m *mirror) anchor() (tlog.Checkpoint, bool, error) {
	line, err := lastLine(m.seenPath())
	if err != nil || line == nil {
		return tlog.Checkpoint{}, false, err
	}
	cp, _, err := m.parseSighting(line)
	if err != nil {
		return tlog.Checkpoint{}, false, fmt.Errorf("%s: last line: %w; it is this folder's own record and must not be changed", m.seenPath(), err)
	}
	return cp, true, nil
}

func (m *mirror) parseSighting(line []byte) (tlog.Checkpoint, time.Time, error) {
	var s sighting
	if err := json.Unmarshal(line, &s); err != nil {
		return tlog.Checkpoint{}, time.Time{}, err
	}
	cp, err := tlog.ParseCheckpoint([]byte(s.Checkpoint), m.verifier)
	return cp, s.At, err
}

// sightings yields every checkpoint that was seen, verified, in the order in
// which they were seen; it ends with the first error.
func (m *mirror) sightings() iter.Seq2[seen, error] {
	return func(yield func(seen, error) bool) {
		f, err := os.Open(m.seenPath())
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				yield(seen{}, err)
			}
			return
		}
		defer f.Close()
		for s, err := range m.readSightings(f) {
			if err != nil {
				err = fmt.Errorf("%s:%d: %w", m.seenPath(), s.line, err)
			}
			if !yield(s, err) {
				return
			}
		}
	}
}

// readSightings is sightings for a file at hand. What follows the last line feed
// was never acknowledged and is passed over.
func (m *mirror) readSightings(r io.Reader) iter.Seq2[seen, error] {
	return func(yield func(seen, error) bool) {
		lines := bufio.NewReaderSize(r, maxSighting)
		for n := 1; ; n++ {
			line, err := lines.ReadSlice('\n')
			if errors.Is(err, io.EOF) {
				return
			}
			s := seen{line: n}
			if err == nil {
				s.Checkpoint, s.at, err = m.parseSighting(line)
			}
			if !yield(s, err) || err != nil {
				return
			}
		}
	}
}

// seen is a checkpoint, when it was seen, and where that is written down.
type seen struct {
	tlog.Checkpoint
	at   time.Time
	line int
}

// lastLine reads the last whole line of a file; nil where there is none.
func lastLine(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	end, err := wholeLines(f)
	if err != nil || end == 0 {
		return nil, err
	}
	from := max(0, end-maxSighting)
	tail := make([]byte, end-from)
	if _, err := io.ReadFull(io.NewSectionReader(f, from, end-from), tail); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	tail = bytes.TrimSuffix(tail, []byte("\n"))
	if i := bytes.LastIndexByte(tail, '\n'); i >= 0 {
		tail = tail[i+1:]
	} else if from > 0 {
		return nil, fmt.Errorf("%s: its last line is longer than %d bytes", path, maxSighting)
	}
	return tail, nil
}

// attempt is how the last look at a server went.
type attempt struct {
	At      time.Time `json:"at"`                // when it began
	Good    time.Time `json:"good,omitzero"`     // when the last one began that went well
	Error   string    `json:"error,omitempty"`   // why nothing could be told
	Finding *Finding  `json:"finding,omitempty"` // what was wrong with what was served
}

func attemptPath(dir string) string { return filepath.Join(dir, "attempt.json") }

// readAttempt gives the zero value where there was no attempt.
func readAttempt(dir string) (a attempt, err error) {
	data, err := os.ReadFile(attemptPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return attempt{}, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &a)
	}
	if err != nil {
		return attempt{}, fmt.Errorf("%s: %w", attemptPath(dir), err)
	}
	return a, nil
}

// writeAttempt remembers how a look that began at a time went.
func writeAttempt(d disk, dir string, began time.Time, finding *Finding, failed error) error {
	before, err := readAttempt(dir)
	if err != nil {
		before = attempt{} // it is of use only until the next attempt
	}
	a := attempt{At: began.UTC(), Good: before.Good, Finding: finding}
	switch {
	case failed != nil:
		a.Error = failed.Error()
	case finding == nil:
		a.Good = a.At
	}
	data, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	if err := d.replace(attemptPath(dir), append(data, '\n')); err != nil {
		return fmt.Errorf("note how the mirroring went: %w", err)
	}
	return nil
}
