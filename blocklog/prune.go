package blocklog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Prune removes the segments whose records are all sealed (numbers below
// sealed) and all older than before, oldest first, and returns their paths. The
// newest segment always stays. It may be called while the journal is in use.
func Prune(dir string, sealed uint64, before time.Time) (removed []string, err error) {
	firsts, err := segments(dir)
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(firsts); i++ {
		following := firsts[i+1]
		if following > sealed {
			break
		}
		// The first record after the segment is no older than its last one.
		end, err := firstTime(dir, following)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return removed, fmt.Errorf("prune block log: %w", err)
		}
		if !end.Before(before) {
			break
		}
		path := segmentPath(dir, firsts[i])
		if err := os.Remove(path); err != nil {
			return removed, fmt.Errorf("prune block log: %w", err)
		}
		removed = append(removed, path)
	}
	return removed, nil
}

// firstTime is the time of the first record of a segment; io.EOF when it has
// none yet.
func firstTime(dir string, first uint64) (time.Time, error) {
	r, err := OpenReader(dir, first)
	if err != nil {
		return time.Time{}, err
	}
	defer r.Close()
	rec, _, err := r.Next()
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(rec.Time, 0), nil
}
