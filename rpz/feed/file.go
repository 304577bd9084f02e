package feed

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/miekg/dns"
)

// readZone reads a zone file (RFC 1035 §5) and gives its records in order. path is
// for errors, which name the line. $INCLUDE is not followed: a feed is one file.
func readZone(in io.Reader, path, origin string, limits Limits, to func(dns.RR) error) error {
	bounded := &io.LimitedReader{R: in, N: limits.Bytes + 1}
	z := dns.NewZoneParser(bounded, origin, path)
	z.SetDefaultTTL(defaultTTL)
	n := 0
	for rr, ok := z.Next(); ok; rr, ok = z.Next() {
		if n++; n > limits.Records {
			return fmt.Errorf("%s: more than %d records", path, limits.Records)
		}
		if err := to(rr); err != nil {
			return fmt.Errorf("%s: %s: %w", path, rr.Header().Name, err)
		}
	}
	if bounded.N <= 0 {
		return fmt.Errorf("%s: more than %d bytes", path, limits.Bytes)
	}
	if err := z.Err(); err != nil {
		// "path: dns: what: \"value\" at line: 3:7"
		return errors.New(strings.Replace(err.Error(), "dns: ", "", 1))
	}
	return nil
}

// defaultTTL is that of records in files that say none, in seconds.
const defaultTTL = 60

// stamp tells when a file is to be read.
type stamp struct {
	seen os.FileInfo // at the last look; nil: there was none
	read os.FileInfo // when it was read last
}

// look reports whether the file at path has changed since it was read and rests: it
// is as it was at the last look, so that most likely nobody is writing it.
func (s *stamp) look(path string) (fresh bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		s.seen, s.read = nil, nil // whatever comes is new
		return false, err
	}
	rests := s.seen != nil && same(s.seen, info)
	s.seen = info
	return rests && (s.read == nil || !same(s.read, info)), nil
}

func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// CheckFile reads the file of a feed and says what would keep it from being put in
// force.
func CheckFile(c Config) error {
	f, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	k, err := newCompiler(c.Name, dns.CanonicalName(c.Zone), anywhere{})
	if err != nil {
		return err
	}
	if err := readZone(f, c.File, dns.CanonicalName(c.Zone), Limits{}.orDefault(), k.add); err != nil {
		return err
	}
	if _, err := judge(k); err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	return nil
}

// anywhere is where no stop page is known.
type anywhere struct{}

func (anywhere) StopPageAddress(netip.Addr) bool { return false }
func (anywhere) StopPageName([]byte) bool        { return false }
