package anchors

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// The file is lines of words with single spaces between them, in one spelling:
// what is read writes itself again byte for byte, or is refused. The last line
// is a SHA-256 of all before, so that a changed or cut file is noticed before a
// changed key is.

// origin is where the configured anchors came from.
type origin string

const (
	builtIn  origin = "built-in"
	fromFile origin = "file"
)

// state is what the file says.
type state struct {
	written time.Time
	origin  origin
	points  []*point
}

const preamble = `; Trust anchors as cordon-resolver follows them (RFC 5011). The program writes this file. To begin anew from the
; configured anchors, stop it and remove the file. key: state, since, seconds seen while pending, tag, and the DNSKEY record.
cordon-anchors 1
`

// maxFile is more than any state takes, in bytes.
const maxFile = 1 << 20

// load reads the file at path; one that is not there is an empty state.
func load(path string) (state, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("read the state of the trust anchors: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return state{}, fmt.Errorf("read the state of the trust anchors: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return state{}, fmt.Errorf("%s: mode %o lets others write what is to be trusted; make it 600", path, info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return state{}, fmt.Errorf("read the state of the trust anchors: %w", err)
	}
	s, err := parse(data)
	if err != nil {
		return state{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// encode is s as a file.
func encode(s state) []byte {
	var b bytes.Buffer
	b.WriteString(preamble)
	fmt.Fprintf(&b, "written %s\norigin %s\n", stamp(s.written), s.origin)
	for _, p := range s.points {
		fmt.Fprintf(&b, "zone %s seen %s\n", p.zone, stamp(p.seen))
		for _, rr := range p.configured {
			fmt.Fprintf(&b, "configured %s\n", text(rr))
		}
		for _, k := range p.keys {
			fmt.Fprintf(&b, "key %s %s %d %d %s\n", k.State, stamp(k.Since), k.Held/time.Second, k.Record.KeyTag(), text(k.Record))
		}
	}
	return seal(b.Bytes())
}

func seal(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append(body, "sum "+hex.EncodeToString(sum[:])+"\n"...)
}

// never is how a time that there is none of is written.
const never = "never"

func stamp(t time.Time) string {
	if t.IsZero() {
		return never
	}
	return t.UTC().Format(time.RFC3339)
}

// text is an anchor as the file has it.
func text(rr dns.RR) string {
	switch a := rr.(type) {
	case *dns.DS:
		return fmt.Sprintf("DS %d %d %d %s", a.KeyTag, a.Algorithm, a.DigestType, strings.ToUpper(a.Digest))
	case *dns.DNSKEY:
		return fmt.Sprintf("DNSKEY %d %d %d %s", a.Flags, a.Protocol, a.Algorithm, a.PublicKey)
	}
	return ""
}

// parse reads a file; errors name the line.
func parse(data []byte) (state, error) {
	if len(data) > maxFile {
		return state{}, fmt.Errorf("longer than %d bytes", maxFile)
	}
	last := bytes.LastIndexByte(bytes.TrimSuffix(data, []byte("\n")), '\n') + 1
	if !bytes.Equal(data, seal(slices.Clone(data[:last]))) {
		return state{}, fmt.Errorf("line %d: the sum does not fit: the file is cut short or was changed", bytes.Count(data[:last], []byte("\n"))+1)
	}
	body, ok := strings.CutPrefix(string(data[:last]), preamble)
	if !ok {
		return state{}, errors.New("line 1: not a state of trust anchors that this program knows")
	}
	var s state
	n := strings.Count(preamble, "\n")
	for line := range strings.Lines(body) {
		n++
		if err := s.parseLine(n, strings.Split(strings.TrimSuffix(line, "\n"), " ")); err != nil {
			return state{}, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if len(s.points) == 0 {
		return state{}, fmt.Errorf("line %d: no zone", n)
	}
	// Whatever the lines say alone, together they must be what would be written.
	if !bytes.Equal(encode(s), data) {
		return state{}, errors.New("not as this program writes it")
	}
	return s, nil
}

func (s *state) parseLine(n int, words []string) (err error) {
	first := strings.Count(preamble, "\n") + 1
	switch {
	case n == first:
		if len(words) != 2 || words[0] != "written" {
			return errors.New("the time of writing is missing")
		}
		s.written, err = parseStamp(words[1])
	case n == first+1:
		if len(words) != 2 || words[0] != "origin" || words[1] != string(builtIn) && words[1] != string(fromFile) {
			return errors.New("the origin is missing")
		}
		s.origin = origin(words[1])
	case words[0] == "zone" && len(words) == 4 && words[2] == "seen":
		if _, ok := dns.IsDomainName(words[1]); !ok || dns.CanonicalName(words[1]) != words[1] {
			return fmt.Errorf("%q is no name of a zone", words[1])
		}
		p := &point{zone: words[1]}
		if i := len(s.points); i > 0 && s.points[i-1].zone >= p.zone {
			return errors.New("the zones are not in order")
		}
		s.points = append(s.points, p)
		p.seen, err = parseStamp(words[3])
	case len(s.points) == 0:
		return errors.New("no zone before it")
	case words[0] == "configured":
		p := s.points[len(s.points)-1]
		rr, err := parseAnchor(p.zone, words[1:])
		if err != nil {
			return err
		}
		p.configured = append(p.configured, rr)
	case words[0] == "key" && len(words) > 5:
		return s.points[len(s.points)-1].parseKey(words[1:])
	default:
		return fmt.Errorf("%q is not known, or has too few words", words[0])
	}
	return err
}

// parseKey reads state, since, seconds held, tag and record.
func (p *point) parseKey(words []string) error {
	k := Key{State: State(max(slices.Index(stateNames[:], words[0]), 0))} // #nosec G115 -- an index of five
	if k.State == 0 {
		return fmt.Errorf("%q is no state", words[0])
	}
	var err error
	if k.Since, err = parseStamp(words[1]); err != nil {
		return err
	}
	held, err := strconv.ParseUint(words[2], 10, 32)
	if err != nil || k.State != Pending && held != 0 {
		return fmt.Errorf("%q is no number of seconds for which a key was seen", words[2])
	}
	k.Held = time.Duration(held) * time.Second // #nosec G115 -- 32 bits
	rr, err := parseAnchor(p.zone, words[4:])
	if err != nil {
		return err
	}
	record, ok := rr.(*dns.DNSKEY)
	if !ok || record.Flags&dns.REVOKE != 0 || strconv.Itoa(int(record.KeyTag())) != words[3] {
		return fmt.Errorf("no DNSKEY record with the tag %s", words[3])
	}
	if p.find(record) != nil {
		return fmt.Errorf("the key %s stands there twice", words[3])
	}
	k.Record = record
	p.keys = append(p.keys, k)
	return nil
}

func parseAnchor(zone string, words []string) (dns.RR, error) {
	if len(words) != 5 || words[0] != "DS" && words[0] != "DNSKEY" {
		return nil, errors.New("no DS or DNSKEY record")
	}
	rr, err := dns.NewRR(zone + " 0 IN " + strings.Join(words, " "))
	if err != nil || rr == nil || text(rr) != strings.Join(words, " ") || rr.Header().Name != zone {
		return nil, fmt.Errorf("no %s record", words[0])
	}
	// What cannot be packed cannot be compared with what comes from the network.
	if _, err := dns.PackRR(rr, make([]byte, dns.Len(rr)+1), 0, nil, false); err != nil {
		return nil, fmt.Errorf("no %s record: %w", words[0], err)
	}
	return rr, nil
}

func parseStamp(word string) (time.Time, error) {
	if word == never {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, word)
	if err != nil || stamp(t) != word {
		return time.Time{}, fmt.Errorf("%q is no time such as 2030-01-02T15:04:05Z", word)
	}
	return t, nil
}
