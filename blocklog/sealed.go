package blocklog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"cordon/durable"
)

// Sealed is what the auditor tells the resolver of its work: a file that it
// replaces while it seals. It is all that passes that way, and all that the
// resolver does by it is to remove what is sealed and old enough ([Prune]), and to
// tell its operator when sealing falls behind.
type Sealed struct {
	Format string    `json:"format"`   // SealedFormat
	Next   uint64    `json:"next_seq"` // number of the first record that is not sealed
	At     time.Time `json:"at"`       // when the auditor last looked; UTC, seconds
}

// SealedFormat is the name and version of the file's format.
const SealedFormat = "cordon-sealed/1"

const maxSealed = 4 << 10 // bytes of the file

// Write replaces the file at path, durably, and makes its folder if it is missing.
// Everybody may read it: it holds a number and a time.
func (s Sealed) Write(d durable.Disk, path string) error {
	s.Format = SealedFormat
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		if err := durable.MakeDir(d, filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("tell what is sealed: %w", err)
		}
	}
	if err := durable.Replace(d, path, append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("tell what is sealed: %w", err)
	}
	return nil
}

// ReadSealed reads what Write wrote. Whoever wrote it need not be trusted further
// than that: see [Sealed].
func ReadSealed(path string) (Sealed, error) {
	f, err := os.Open(path)
	if err != nil {
		return Sealed{}, fmt.Errorf("what is sealed: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxSealed))
	if err != nil {
		return Sealed{}, fmt.Errorf("what is sealed: %w", err)
	}
	s, err := parseSealed(raw)
	if err != nil {
		return Sealed{}, fmt.Errorf("what is sealed: %s: %w", path, err)
	}
	return s, nil
}

func parseSealed(raw []byte) (s Sealed, err error) {
	if err := json.Unmarshal(raw, &s); err != nil {
		return Sealed{}, err
	}
	if s.Format != SealedFormat || s.Next == 0 || s.At.IsZero() {
		return Sealed{}, errors.New("it is not a file of format " + SealedFormat)
	}
	return s, nil
}
