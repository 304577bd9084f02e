package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"syscall"
	"testing"
	"time"

	"cordon/test/await"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// parts are the files of an edition, in the order in which they are fetched.
var parts = []string{"root", "timestamp", "snapshot", "targets", "target"}

// seeded gives randomness that a failed test tells how to repeat:
// CORDON_SEED=N go test ...
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("CORDON_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("CORDON_SEED: %v", err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("to repeat this: CORDON_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// A byte changed in any of the published files is refused, or changes nothing:
// signatures cover what metadata means, so that its spelling may change where no
// hash is over it.
func TestAChangedByteInEachPublishedFile(t *testing.T) {
	t.Parallel()
	s := newSiege(t)
	random := seeded(t)
	taken := 0
	for _, part := range parts {
		s.under(t, part, func(t *testing.T) {
			for _, c := range []struct {
				where func(raw []byte) int
				mask  byte
			}{
				{func([]byte) int { return 0 }, 1},
				{func(raw []byte) int { return len(raw) / 2 }, 1},
				{func(raw []byte) int { return len(raw) - 1 }, 1},
				// The case of a letter in a field's name, and white space.
				{func(raw []byte) int { return max(0, bytes.Index(raw, []byte(`"version"`))+1) }, 0x20},
				{func(raw []byte) int { return max(0, bytes.LastIndexByte(raw, '\n')) }, '\n' ^ ' '},
				{func(raw []byte) int { return random.IntN(len(raw)) }, 1 << random.IntN(8)},
				{func(raw []byte) int { return random.IntN(len(raw)) }, byte(1 + random.IntN(255))},
			} {
				honest := s.edition()
				if part == "root" { // one that nobody has fetched yet
					honest = s.rotate(func() {})
				}
				f := s.forge(honest)
				before := f.bytes(honest, part)
				after := bytes.Clone(before)
				at := c.where(after)
				after[at] ^= c.mask
				f.put(part, after)
				what := fmt.Sprintf("%s, byte %d of %d, mask %#x", part, at, len(after), c.mask)

				counted := s.r.metrics()
				s.show(f.dir)
				if part == "target" || !sameMeaning(part, before, after) {
					t.Log(what)
					s.refuses(counted, "incomplete", "signature")
				} else {
					// Whether it is taken is for those who read it; if so, for what it means.
					await.Nil(t, what+" is taken or refused", func() error {
						refused := `cordon_list_updates_total{list="national",result="refused"}`
						if s.r.metrics()[refused] == counted[refused] && s.inForce() != honest.serial {
							return fmt.Errorf("neither")
						}
						return nil
					})
					if hashed := part == "snapshot" || part == "targets"; s.inForce() == honest.serial && hashed {
						t.Errorf("%s: it was taken, though a hash is over it", what)
					} else if s.inForce() == honest.serial {
						taken++
					}
				}
				s.show(honest.dir)
				s.takes()
				s.news()
			}
		})
	}
	if taken == 0 {
		t.Error("no change of the spelling alone was taken: are these changes what they are meant to be?")
	}
	s.sealsEverything()
}

// inForce is the serial that is enforced.
func (s *siege) inForce() uint64 {
	s.t().Helper()
	return uint64(s.r.metrics()[`cordon_list_serial{list="national"}`])
}

// sameMeaning tells whether two files of metadata say the same and bear the same
// signatures, as the specification's reference reads them.
func sameMeaning(part string, a, b []byte) bool {
	switch part {
	case "root":
		return same(metadata.Root(), metadata.Root(), a, b)
	case "timestamp":
		return same(metadata.Timestamp(), metadata.Timestamp(), a, b)
	case "snapshot":
		return same(metadata.Snapshot(), metadata.Snapshot(), a, b)
	default:
		return same(metadata.Targets(), metadata.Targets(), a, b)
	}
}

func same[T metadata.Roles](x, y *metadata.Metadata[T], a, b []byte) bool {
	if !json.Valid(a) || !json.Valid(b) {
		return false
	}
	if _, err := x.FromBytes(a); err != nil {
		return false
	}
	if _, err := y.FromBytes(b); err != nil {
		return false
	}
	return reflect.DeepEqual(x, y)
}

// Files that are cut or without end, and things in their place that are no files:
// nothing hangs, nothing falls, nothing is taken.
func TestAttacksOnTheFolder(t *testing.T) {
	t.Parallel()
	s := newSiege(t)
	outside := s.world.path("outside")
	s.check(os.WriteFile(outside, bytes.Repeat([]byte("x"), 1000), 0o600))
	replace := func(put func(f *forger, path string)) func(*forger, string) {
		return func(f *forger, part string) {
			f.check(os.Remove(f.path(part)))
			put(f, f.path(part))
		}
	}
	link := func(to string) func(*forger, string) {
		return replace(func(f *forger, path string) { f.check(os.Symlink(to, path)) })
	}
	damages := []struct {
		name    string
		damage  func(f *forger, part string)
		reasons []string
	}{
		{"empty", func(f *forger, part string) { f.check(os.Truncate(f.path(part), 0)) }, []string{"incomplete"}},
		{"one byte long", func(f *forger, part string) { f.check(os.Truncate(f.path(part), 1)) }, []string{"incomplete"}},
		{"cut in the middle", func(f *forger, part string) {
			f.check(os.Truncate(f.path(part), int64(len(f.bytes(f.edition, part))/2)))
		}, []string{"incomplete"}},
		{"four gigabytes long", func(f *forger, part string) { f.check(os.Truncate(f.path(part), 4<<30)) }, []string{"too-large"}},
		{"a folder", replace(func(f *forger, path string) { f.check(os.Mkdir(path, 0o700)) }), []string{"source"}},
		{"a pipe that nobody writes to", replace(func(f *forger, path string) { f.check(syscall.Mkfifo(path, 0o600)) }), []string{"source"}},
		{"a socket", replace(func(f *forger, path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(s.world.dir, "socket"), Net: "unix"})
			f.check(err)
			l.SetUnlinkOnClose(false)
			f.check(l.Close())
			f.check(os.Rename(filepath.Join(s.world.dir, "socket"), path))
		}), []string{"source"}},
		{"a link to what never ends", link("/dev/zero"), []string{"source"}},
		{"a link out of the folder", link(outside), []string{"source"}},
		{"a link to itself", replace(func(f *forger, path string) { f.check(os.Symlink(filepath.Base(path), path)) }), []string{"source"}},
		{"a link to nothing", link("nothing"), []string{"incomplete"}},
	}
	if os.Geteuid() != 0 { // who may read everything is not kept out
		damages = append(damages, struct {
			name    string
			damage  func(f *forger, part string)
			reasons []string
		}{"readable by nobody", func(f *forger, part string) { f.check(os.Chmod(f.path(part), 0)) }, []string{"source"}})
	}
	for _, part := range parts {
		for _, d := range damages {
			s.under(t, part+" is "+d.name, func(t *testing.T) {
				honest := s.edition()
				if part == "root" { // one that nobody has fetched yet
					honest = s.rotate(func() {})
				}
				f := s.forge(honest)
				d.damage(f, part)
				if part == "root" && d.name == "a link to nothing" {
					// The same as no root at all, so that the rest is taken: it is signed by
					// the keys of the root before.
					s.show(f.dir)
					s.takes()
					s.recovers()
					return
				}
				s.attack(f.dir, d.reasons...)
			})
		}
	}
	s.under(t, "rubbish around the files", func(t *testing.T) { s.rubbish(seeded(t)) })
	s.under(t, "files that change all the time", func(t *testing.T) { s.storm() })
	s.sealsEverything()
}

// rubbish fills the folder with things of all kinds that nobody asked for: what
// is right in it is taken all the same.
func (s *siege) rubbish(random *rand.Rand) {
	s.t().Helper()
	f := s.forge(s.edition())
	for n := range 200 {
		name := make([]byte, 1+random.IntN(40))
		for i := range name {
			for name[i] == 0 || name[i] == '/' {
				name[i] = byte(random.Uint32())
			}
		}
		path := filepath.Join(f.dir, []string{".", "metadata", "targets"}[n%3], fmt.Sprintf("%d%s", n, name))
		content := make([]byte, random.IntN(5000))
		for i := range content {
			content[i] = byte(random.Uint32())
		}
		switch n % 5 {
		case 0:
			s.check(os.Mkdir(path, 0o700))
		case 1:
			s.check(syscall.Mkfifo(path, 0o600))
		case 2:
			s.check(os.Symlink("/dev/zero", path))
		default:
			s.check(os.WriteFile(path, content, 0o600))
		}
	}
	// Names that look like something.
	for _, name := range []string{"999999999999999999.root.json", "-1.root.json", "00.root.json", "root.json", "targets.json", "timestamp.json.tmp", "mirrors.json"} {
		s.check(os.WriteFile(filepath.Join(f.dir, "metadata", name), []byte(`{"signed":{},"signatures":[]}`), 0o600))
	}
	s.show(f.dir)
	s.takes()
	s.recovers()
}

// storm writes into the folder without a pause, as fast as it can, while the
// resolver answers, and takes the next edition.
func (s *siege) storm() {
	s.t().Helper()
	f := s.forge(s.edition())
	s.show(f.dir)
	s.takes()
	dir := filepath.Join(f.dir, "metadata")
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.tmp", n%50)), nil, 0o600); err != nil {
				stopped <- err
				return
			}
			time.Sleep(100 * time.Microsecond) // else the machine, not the resolver, is what is tried
		}
	}()
	defer func() {
		close(stop)
		s.check(<-stopped)
	}()
	if err := s.holds(s.serial); err != nil {
		s.t().Error(err)
	}
	// Into the same folder, so that the watch stays where it is.
	next, shown := s.edition(), f.dir
	f.edition = next
	f.dir = shown
	for _, part := range []string{"target", "targets", "snapshot", "timestamp"} {
		f.put(part, f.bytes(next, part))
	}
	s.takes()
}
