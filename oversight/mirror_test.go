package oversight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"cordon/audit/tlog"
	"cordon/audit/tlog/tlogtest"
)

// small is a log without meaning and its mirror.
type small struct {
	t          testing.TB
	skey, vkey string
	source     string
	m          *mirror
	leaves     [][]byte
	untidy     bool // removing what is superseded failed
}

func newSmall(t testing.TB) *small {
	t.Helper()
	s := &small{t: t, source: filepath.Join(tlogtest.Dir(t), "served")}
	var err error
	if s.skey, s.vkey, err = tlog.GenerateKey(auditOrigin); err != nil {
		t.Fatal(err)
	}
	s.m = s.mirror(filepath.Join(t.TempDir(), "copy"))
	return s
}

func (s *small) mirror(dir string) *mirror {
	s.t.Helper()
	v, err := note.NewVerifier(s.vkey)
	if err != nil {
		s.t.Fatal(err)
	}
	return &mirror{name: "isp", kind: KindAudit, dir: dir, verifier: v, source: tlog.FolderSource(s.source), disk: osDisk{}, clock: func() time.Time { return start }}
}

func leafNo(i int) []byte { return fmt.Appendf(nil, "leaf %d", i) }

func leavesOf(from, to int) [][]byte {
	var all [][]byte
	for i := from; i < to; i++ {
		all = append(all, leafNo(i))
	}
	return all
}

// grow adds leaves to the log.
func (s *small) grow(leaves ...[]byte) {
	s.t.Helper()
	s.rewrite(append(s.leaves, leaves...))
}

// rewrite puts another log in its place.
func (s *small) rewrite(leaves [][]byte) {
	s.t.Helper()
	if err := os.RemoveAll(s.source); err != nil {
		s.t.Fatal(err)
	}
	s.leaves = leaves
	writeLog(s.t, s.source, s.skey, leaves)
}

// updated updates the mirror and expects nothing to be wrong.
func (s *small) updated() uint64 {
	s.t.Helper()
	_, to, finding, err := s.m.update(s.t.Context())
	if err != nil || finding != nil {
		s.t.Fatalf("update: %v, %v", finding, err)
	}
	return to
}

// found updates the mirror and expects something to be wrong, and the copy to
// stay as it is.
func (s *small) found() *Finding {
	s.t.Helper()
	before := files(s.t, s.m.dir)
	_, _, finding, err := s.m.update(s.t.Context())
	if err != nil || finding == nil {
		s.t.Fatalf("update: %v, %v", finding, err)
	}
	after := files(s.t, s.m.dir)
	for path, data := range before {
		if !bytes.Equal(after[path], data) {
			s.t.Errorf("%s was changed", path)
		}
	}
	return finding
}

// files reads a folder.
func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == dir {
			return nil // nothing was written yet
		}
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		all[name] = data
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// holds checks that a copy has the first n leaves and not a file too many.
func (s *small) holds(n int) {
	s.t.Helper()
	cp, ok, err := s.m.held(s.t.Context())
	if err != nil || !ok || cp.Size != uint64(n) {
		s.t.Fatalf("the copy holds %d, %v, %v; want %d", cp.Size, ok, err, n)
	}
	i := 0
	for leaf, err := range s.m.local().Leaves(s.t.Context(), cp, 0) {
		if err != nil {
			s.t.Fatal(err)
		}
		if !bytes.Equal(leaf.Data, leafNo(i)) {
			s.t.Fatalf("leaf %d is %q", i, leaf.Data)
		}
		i++
	}
	served := files(s.t, s.source)
	for path, data := range files(s.t, s.m.dir) {
		if s.untidy && strings.Contains(path, ".p/") && served[path] == nil {
			continue
		}
		if strings.HasPrefix(path, "tile") && !bytes.Equal(served[path], data) {
			s.t.Errorf("%s is not as it is served, or is left over", path)
		}
	}
}

func TestAMirrorGrowsWithItsLogAndHoldsTheSameFiles(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	size := 0
	// Around the edges of tiles, where partial ones become full.
	for _, next := range []int{1, 2, 255, 256, 257, 511, 512, 700, 700} {
		if next > size {
			appendWithTessera(t, s.source, s.skey, leavesOf(size, next))
		}
		size = next
		if got := s.updated(); got != uint64(size) {
			t.Fatalf("mirrored %d of %d", got, size)
		}
		s.holds(size)
	}
	n := 0
	for cp, err := range s.m.sightings() {
		if err != nil {
			t.Fatal(err)
		}
		n = max(n, cp.line)
	}
	if n != 8 {
		t.Errorf("%d checkpoints are written down, want 8", n)
	}
}

// appendWithTessera appends to a log as its keeper does.
func appendWithTessera(t *testing.T, dir, skey string, leaves [][]byte) {
	t.Helper()
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tlog.Open(t.Context(), dir, signer, tlog.Options{BatchAge: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), leaves...); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAMirrorOfManyTilesMakesTheTilesAboveThem(t *testing.T) {
	if testing.Short() {
		t.Skip("65,000 leaves")
	}
	t.Parallel()
	dir := t.TempDir()
	grown, err := resumeTiles(t.Context(), dir, lazyDisk{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Two levels up from the leaves a tile becomes full; what is written in one go
	// and in two has to be the same.
	const size, cut = 256*256 + 300, 256*200 + 17
	for i := 0; i < size; i += 256 {
		if err := grown.bundle(leavesOf(i, min(i+256, size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := grown.finish(); err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	for _, span := range [][2]int{{0, cut}, {cut, size}} {
		half, err := resumeTiles(t.Context(), again, lazyDisk{}, uint64(span[0]))
		if err != nil {
			t.Fatal(err)
		}
		for i := span[0] / 256 * 256; i < span[1]; i += 256 {
			if err := half.bundle(leavesOf(i, min(i+256, span[1]))); err != nil {
				t.Fatal(err)
			}
		}
		if err := half.finish(); err != nil {
			t.Fatal(err)
		}
	}
	if err := tidy(again, osDisk{}, cut, size); err != nil {
		t.Fatal(err)
	}
	want, got := files(t, dir), files(t, again)
	if len(want) != len(got) || want["tile/2/000.p/1"] == nil || want["tile/1/000"] == nil {
		t.Fatalf("%d files and %d", len(want), len(got))
	}
	for path := range want {
		if !bytes.Equal(want[path], got[path]) {
			t.Errorf("%s differs", path)
		}
	}
}

func TestTheCopyIsClosedToOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mirror()
	err := filepath.WalkDir(w.path("official"), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	w.must(err)
	w.must(os.Chmod(w.path("official"), 0o755))
	if _, err := Open(w.config(), Surroundings{Clock: time.Now}); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a folder open to others: %v", err)
	}
}

func TestWhatIsServedAndNotBoundIsNotTakenOver(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		spoil func(s *small) error
		code  string
		leaf  int64 // -1: none
	}{
		{"a leaf altered", func(s *small) error {
			path := s.source + "/tile/entries/001.p/44"
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, bytes.Replace(b, []byte("leaf 290"), []byte("leaf 291"), 1), 0o600)
		}, CodeServed, 290},
		{"a leaf missing at the end", func(s *small) error {
			path := s.source + "/tile/entries/001.p/44"
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, b[:len(b)-10], 0o600)
		}, CodeServed, 299},
		{"a file missing", func(s *small) error { return os.Remove(s.source + "/tile/entries/000") }, CodeServed, 0},
		{"a tile altered", func(s *small) error {
			return os.WriteFile(s.source+"/tile/0/000", make([]byte, 256*32), 0o600)
		}, CodeServed, -1},
		{"a checkpoint of another key", func(s *small) error {
			other := newSmall(s.t)
			other.grow(leafNo(0))
			b, err := os.ReadFile(other.source + "/checkpoint")
			if err != nil {
				return err
			}
			return os.WriteFile(s.source+"/checkpoint", b, 0o600)
		}, CodeCheckpoint, -1},
		{"a checkpoint without signature", func(s *small) error {
			return os.WriteFile(s.source+"/checkpoint", []byte(auditOrigin+"\n1\nAAAA\n"), 0o600)
		}, CodeCheckpoint, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSmall(t)
			s.grow(leavesOf(0, 300)...)
			sound := files(t, s.source)
			if err := test.spoil(s); err != nil {
				t.Fatal(err)
			}
			f := s.found()
			if f.Code != test.code || (f.Leaf == nil) != (test.leaf < 0) || f.Leaf != nil && *f.Leaf != uint64(test.leaf) {
				t.Fatalf("found %v", f)
			}
			if _, ok, err := s.m.held(t.Context()); ok || err != nil {
				t.Fatalf("the copy holds something: %v", err)
			}
			// Served as it should be, it is taken over.
			for path, data := range sound {
				if err := os.WriteFile(filepath.Join(s.source, path), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s.updated()
			s.holds(300)
		})
	}
}

func TestTwoCommandsOnOneFolderWaitForEachOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	unlock, err := w.desk().exclusive(t.Context())
	w.must(err)
	waits := make(chan string, 1)
	d, err := Open(w.config(), Surroundings{Clock: func() time.Time { return w.now }, Waiting: func(lock string) { waits <- lock }})
	w.must(err)
	done := make(chan error, 1)
	go func() {
		_, err := d.Mirror(t.Context(), "")
		done <- err
	}()
	if lock := <-waits; lock != w.path("official/lock") {
		t.Errorf("waits for %s", lock)
	}
	w.must(unlock())
	w.must(<-done)

	// One that is told to stop does not wait on.
	unlock, err = w.desk().shared(t.Context())
	w.must(err)
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := d.Mirror(ctx, "")
		done <- err
	}()
	<-waits
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
