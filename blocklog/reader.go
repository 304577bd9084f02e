package blocklog

// Reader reads a journal from a sequence number on, while another process may
// be writing it.
type Reader struct{}

// OpenReader starts at the record with number from (1 is the first).
func OpenReader(dir string, from uint64) (*Reader, error) { panic("not built") }

// Next returns the next whole record and its raw bytes as they stand in the
// segment (valid until the next call); io.EOF when there is none yet.
func (r *Reader) Next() (Record, []byte, error) { panic("not built") }

// Sync makes what Next has returned so far durable (fsync of the segment), so
// that nothing is sealed that a power failure could take back.
func (r *Reader) Sync() error { panic("not built") }

// Close releases the open segment.
func (r *Reader) Close() error { panic("not built") }
