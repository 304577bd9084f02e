package feed

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/miekg/dns"

	"cordon/durable"
)

// store keeps the last good version of each feed on disk, so that a resolver that
// starts has it before it asks anyone, and so that a difference can be applied. A
// version is one file, DIR/NAME.zone, 0600: a line that says what it is, the records
// in wire form, each with its length in front, a length of 0, and the SHA-256 of all
// before it. The file's time of change is when its source last confirmed it.
type store struct {
	dir  string
	disk durable.Disk
}

const (
	storeHead   = "cordon-feed/1 "
	storeSuffix = ".zone"
)

// errNothing: nothing is stored.
var errNothing = errors.New("nothing is stored")

func openStore(dir string, disk durable.Disk) (*store, error) {
	if err := durable.MakeDir(disk, dir, 0o700); err != nil {
		return nil, err
	}
	if err := durable.RemoveTemp(disk, dir); err != nil {
		return nil, err
	}
	return &store{dir, disk}, nil
}

func (s *store) path(feed string) string { return filepath.Join(s.dir, feed+storeSuffix) }

// save puts a version in the place of the one before. records gives it record by
// record. If it fails, the one before stays.
func (s *store) save(feed, origin string, records func(to func(dns.RR) error) error) error {
	err := durable.ReplaceBy(s.disk, s.path(feed), 0o600, func(w io.Writer) error {
		out := bufio.NewWriterSize(w, 1<<20)
		sum := sha256.New()
		both := io.MultiWriter(out, sum)
		if _, err := io.WriteString(both, storeHead+origin+"\n"); err != nil {
			return err
		}
		buf := make([]byte, 4, 4+dns.MaxMsgSize)
		if err := records(func(rr dns.RR) error { return writeRecord(both, buf, rr) }); err != nil {
			return err
		}
		if _, err := both.Write([]byte{0, 0, 0, 0}); err != nil {
			return err
		}
		if _, err := out.Write(sum.Sum(nil)); err != nil {
			return err
		}
		return out.Flush()
	})
	if err != nil {
		return &keepError{fmt.Errorf("keep the feed in %s: %w", s.path(feed), err)}
	}
	return nil
}

// keepError: a version could not be kept on disk.
type keepError struct{ err error }

func (k *keepError) Error() string { return k.err.Error() }
func (k *keepError) Unwrap() error { return k.err }

func writeRecord(w io.Writer, buf []byte, rr dns.RR) error {
	buf = buf[:cap(buf)]
	off, err := dns.PackRR(rr, buf, 4, nil, false)
	if err != nil {
		return fmt.Errorf("pack %s: %w", rr.Header().Name, err)
	}
	binary.BigEndian.PutUint32(buf, uint32(off-4))
	_, err = w.Write(buf[:off])
	return err
}

// load gives the stored version record by record, and when it was confirmed. What
// was given is void if load fails. errNothing if there is none.
func (s *store) load(feed, origin string, to func(dns.RR) error) (confirmed time.Time, err error) {
	f, err := os.Open(s.path(feed))
	if errors.Is(err, fs.ErrNotExist) {
		return confirmed, errNothing
	}
	if err != nil {
		return confirmed, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return confirmed, err
	}
	sum := sha256.New()
	in := &summed{bufio.NewReaderSize(f, 1<<20), sum}
	if err := readStored(in, origin, to); err != nil {
		return confirmed, fmt.Errorf("%s: %w", s.path(feed), unexpected(err))
	}
	var end [sha256.Size]byte
	if _, err := io.ReadFull(in.r, end[:]); err != nil || string(end[:]) != string(sum.Sum(nil)) {
		return confirmed, fmt.Errorf("%s: its checksum is wrong: it is fetched anew", s.path(feed))
	}
	return info.ModTime(), nil
}

func readStored(in io.Reader, origin string, to func(dns.RR) error) error {
	head := make([]byte, len(storeHead)+len(origin)+1)
	if _, err := io.ReadFull(in, head); err != nil {
		return err
	}
	if string(head) != storeHead+origin+"\n" {
		return fmt.Errorf("it does not hold the zone %s", origin)
	}
	for {
		var length [4]byte
		if _, err := io.ReadFull(in, length[:]); err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(length[:])
		if n == 0 {
			return nil
		}
		if n > dns.MaxMsgSize {
			return fmt.Errorf("a record of %d bytes", n)
		}
		raw := make([]byte, n)
		if _, err := io.ReadFull(in, raw); err != nil {
			return err
		}
		rr, off, err := dns.UnpackRR(raw, 0)
		if err != nil || off != len(raw) {
			return fmt.Errorf("a record that is none: %w", err)
		}
		if err := to(rr); err != nil {
			return err
		}
	}
}

// confirm notes that the source has nothing newer. Where that is lost, the version
// looks older than it is.
func (s *store) confirm(feed string, at time.Time) error {
	if err := os.Chtimes(s.path(feed), time.Time{}, at); err != nil {
		return &keepError{fmt.Errorf("keep when the feed was confirmed: %w", err)}
	}
	return nil
}

// summed is a reader that keeps a checksum of what was read.
type summed struct {
	r   io.Reader
	sum hash.Hash
}

func (s *summed) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	s.sum.Write(b[:n])
	return n, err
}
