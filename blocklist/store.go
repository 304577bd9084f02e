package blocklist

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cordon/durable"
	"cordon/signing"
)

// ErrNoList: nothing has been stored yet.
var ErrNoList = errors.New("no list is stored")

// Store keeps the last verified publication of one list on disk, as it was
// signed and encrypted, so that a resolver that starts can verify it anew and
// enforce it before it asks the network; and the one before it, should the last
// be damaged.
//
// A publication is one file, DIR/NAME/SERIAL.tar, mode 0600: small in number, so
// that one rename replaces it. A Store is used by one goroutine at a time.
type Store struct {
	dir  string
	disk durable.Disk
}

const (
	storeSuffix = ".tar"
	storeKeep   = 2 // publications

	// Bounds for reading, in bytes. What is stored was accepted within the limits
	// of signing.Client; these only keep a damaged file from eating the memory.
	maxStoredPart = 1 << 30
	maxStoredRoot = 1024 // root files
)

var (
	storedFile = regexp.MustCompile(`^[0-9]{20}\.tar$`) // as many digits as 2^64 has
	listName   = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)
)

// OpenStore opens the store of one list below dir, and makes both if they are
// not there. The list's folder must be closed to others (0700).
func OpenStore(dir, name string) (*Store, error) { return openStore(dir, name, durable.OS{}) }

func openStore(dir, name string, d durable.Disk) (*Store, error) {
	if !listName.MatchString(name) {
		return nil, fmt.Errorf("list store: list name %s: write 1 to 32 of a-z, 0-9, hyphen and underscore", quote(name))
	}
	s := &Store{dir: filepath.Join(dir, name), disk: d}
	if err := durable.MakeDir(d, s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("list store: %w", err)
	}
	info, err := os.Stat(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list store: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("list store %s is open to others (%v): run chmod 700 on it", s.dir, info.Mode().Perm())
	}
	if err := durable.RemoveTemp(d, s.dir); err != nil {
		return nil, fmt.Errorf("list store: %w", err)
	}
	return s, nil
}

// Dir is the store's folder.
func (s *Store) Dir() string { return s.dir }

// Save makes a verified publication the one to start with. When it returns nil
// that survives a power failure; when it does not, the store holds what it held
// before or the new one, whole. A serial behind that of the newest stored is
// refused (signing.ErrRollback); the same serial is written over.
//
// What is no longer needed is removed only when the new one is durable.
func (s *Store) Save(serial uint64, a *signing.Accepted) error {
	newest, err := s.Newest()
	if err != nil {
		return err
	}
	if serial < newest {
		return fmt.Errorf("store list serial %d: %w: serial %d is stored", serial, signing.ErrRollback, newest)
	}
	if err := s.write(serial, a); err != nil {
		return fmt.Errorf("store list serial %d in %s: %w", serial, s.dir, err)
	}
	stored, err := s.serials()
	if err != nil {
		return err
	}
	for _, old := range stored[min(storeKeep, len(stored)):] {
		if err := s.disk.Remove(s.path(old)); err != nil {
			return fmt.Errorf("remove stored list: %w", err)
		}
	}
	return nil
}

func (s *Store) write(serial uint64, a *signing.Accepted) error {
	return durable.ReplaceBy(s.disk, s.path(serial), 0o600, func(w io.Writer) error { return pack(w, a) })
}

// Load gives the newest stored publication that open accepts, and what open made
// of it. ErrNoList if nothing is stored.
//
// Where the newest is damaged and one before it is not, Load gives that one AND
// an error that says what is wrong with the newest: the caller goes on with the
// list, and raises the alarm.
func (s *Store) Load(ctx context.Context, open func(context.Context, *signing.Accepted) (*Loaded, error)) (*Loaded, *signing.Accepted, error) {
	stored, err := s.serials()
	if err != nil {
		return nil, nil, err
	}
	if len(stored) == 0 {
		return nil, nil, ErrNoList
	}
	var damage []error
	for _, serial := range stored {
		l, a, err := s.load(ctx, serial, open)
		if ctx.Err() != nil {
			return nil, nil, ctx.Err() // the list is none the worse for it
		}
		if err == nil {
			return l, a, errors.Join(damage...)
		}
		damage = append(damage, fmt.Errorf("stored list %s cannot be used: %w", s.path(serial), err))
	}
	return nil, nil, errors.Join(damage...)
}

func (s *Store) load(ctx context.Context, serial uint64, open func(context.Context, *signing.Accepted) (*Loaded, error)) (*Loaded, *signing.Accepted, error) {
	f, err := os.Open(s.path(serial))
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	a, err := unpack(bufio.NewReader(f))
	if err != nil {
		return nil, nil, err
	}
	l, err := open(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	if l.List.Serial != serial {
		return nil, nil, fmt.Errorf("it holds serial %d", l.List.Serial)
	}
	return l, a, nil
}

// Newest is the highest serial that is stored, readable or not; 0 if there is
// none. No list behind it is ever stored.
func (s *Store) Newest() (uint64, error) {
	stored, err := s.serials()
	if err != nil || len(stored) == 0 {
		return 0, err
	}
	return stored[0], nil
}

// serials gives what is stored, the newest first.
func (s *Store) serials() ([]uint64, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list store: %w", err)
	}
	var serials []uint64
	for _, e := range entries {
		if !storedFile.MatchString(e.Name()) {
			continue // the client's folder, what a kill left behind
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(e.Name(), storeSuffix), 10, 64)
		if err == nil {
			serials = append(serials, n)
		}
	}
	slices.Sort(serials)
	slices.Reverse(serials)
	return serials, nil
}

func (s *Store) path(serial uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%020d%s", serial, storeSuffix))
}

// The parts of a stored publication, in this order. The root files come first,
// in order of version, any number of them.
const (
	partRoot      = "root.json"
	partTimestamp = "timestamp.json"
	partSnapshot  = "snapshot.json"
	partTargets   = "targets.json"
	partTarget    = "target/" // and the target's name
)

// pack writes a publication as a tar archive, so that a person can look into it
// with what is at hand.
func pack(w io.Writer, a *signing.Accepted) error {
	out := bufio.NewWriterSize(w, 1<<20)
	t := tar.NewWriter(out)
	put := func(name string, data []byte) error {
		if err := t.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o600}); err != nil {
			return err
		}
		_, err := t.Write(data)
		return err
	}
	for _, root := range a.Roots {
		if err := put(partRoot, root); err != nil {
			return err
		}
	}
	for _, part := range []struct {
		name string
		data []byte
	}{
		{partTimestamp, a.Timestamp}, {partSnapshot, a.Snapshot}, {partTargets, a.Targets}, {partTarget + a.Name, a.Target},
	} {
		if err := put(part.name, part.data); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return out.Flush()
}

// unpack undoes pack. Whether the parts belong together and are whole is for
// signing.VerifyAccepted to say.
func unpack(r io.Reader) (*signing.Accepted, error) {
	a := new(signing.Accepted)
	t := tar.NewReader(r)
	next := func() (string, []byte, error) {
		h, err := t.Next()
		if err != nil {
			return "", nil, fmt.Errorf("stored publication: %w", unexpected(err))
		}
		if h.Size > maxStoredPart {
			return "", nil, fmt.Errorf("stored publication: %s is %d bytes long", quote(h.Name), h.Size)
		}
		// Memory is given as bytes arrive: the size is a claim.
		var data bytes.Buffer
		if _, err := io.Copy(&data, t); err != nil {
			return "", nil, fmt.Errorf("stored publication: %s: %w", quote(h.Name), unexpected(err))
		}
		return h.Name, data.Bytes(), nil
	}
	name, data, err := next()
	for err == nil && name == partRoot {
		if len(a.Roots) == maxStoredRoot {
			return nil, errors.New("stored publication: too many root files")
		}
		a.Roots = append(a.Roots, data)
		name, data, err = next()
	}
	for _, part := range []struct {
		name string
		data *[]byte
	}{
		{partTimestamp, &a.Timestamp}, {partSnapshot, &a.Snapshot}, {partTargets, &a.Targets},
	} {
		if err == nil && name != part.name {
			err = fmt.Errorf("stored publication: %s stands where %s belongs", quote(name), part.name)
		}
		if err != nil {
			return nil, err
		}
		*part.data = data
		name, data, err = next()
	}
	if err != nil {
		return nil, err
	}
	target, ok := strings.CutPrefix(name, partTarget)
	if !ok {
		return nil, fmt.Errorf("stored publication: %s stands where the target belongs", quote(name))
	}
	a.Name, a.Target = target, data
	if _, err := t.Next(); !errors.Is(err, io.EOF) {
		return nil, errors.New("stored publication: more follows the target")
	}
	return a, nil
}

// unexpected keeps an end of file in the middle from looking like one at the
// end.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
