package blocklog

import "time"

// Options of a journal; zero values mean the defaults.
type Options struct {
	SegmentBytes int64            // a segment is closed past this size; default 64 MiB
	Clock        func() time.Time // default time.Now
}

// Journal is the writing side. One process at a time holds it (flock).
type Journal struct{}

// Open opens or creates the journal in dir, repairs a torn tail, and takes the
// lock.
func Open(dir string, o Options) (*Journal, error) { panic("not built") }

// Append writes the decisions with one write(2). When it returns nil they
// survive kill -9 of this process. Decisions are merged where all but Count is
// equal. The slice is not kept.
func (j *Journal) Append(decisions []Decision) error { panic("not built") }

// Event writes one event; data is marshalled to canonical JSON.
func (j *Journal) Event(kind string, data any) error { panic("not built") }

// Close writes nothing; it syncs and releases the lock.
func (j *Journal) Close() error { panic("not built") }
