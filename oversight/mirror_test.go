package oversight

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"cordon/audit"
	"cordon/audit/tlog"
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
	s := &small{t: t, source: filepath.Join(t.TempDir(), "served")}
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

func TestALogThatDoesNotContinueWhatWasSeenIsEvidence(t *testing.T) {
	t.Parallel()
	altered := leavesOf(0, 300)
	altered[270] = []byte("another")
	dropped := slices.Delete(leavesOf(0, 301), 40, 41)
	for _, test := range []struct {
		name   string
		leaves [][]byte
		code   string
		leaf   uint64
		what   string
	}{
		{"one leaf altered", altered, CodeForked, 270, "leaf 270 is the first that differs"},
		{"one leaf altered and more added", append(slices.Clone(altered), leavesOf(300, 310)...), CodeForked, 270, "leaf 270 is the first that differs"},
		{"one leaf dropped", dropped, CodeForked, 40, "leaf 40 is the first that differs"},
		{"rewritten from the start", [][]byte{[]byte("x"), []byte("y")}, CodeShrunk, 0, "leaf 0 is the first that differs"},
		{"cut", leavesOf(0, 290), CodeShrunk, 290, "the leaves from 290 on are gone, those before are the same"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSmall(t)
			s.grow(leavesOf(0, 300)...)
			s.updated()
			s.rewrite(test.leaves)
			f := s.found()
			if f.Code != test.code || f.Log != "isp" || f.Leaf == nil || *f.Leaf != test.leaf || !strings.Contains(f.What, test.what) ||
				!strings.Contains(f.What, "300 leaves") || !strings.Contains(f.What, fmt.Sprint(len(test.leaves))) {
				t.Fatalf("found %v", f)
			}
			s.found() // the same again is not kept again
			paths, err := s.m.conflicts()
			if err != nil || len(paths) != 1 {
				t.Fatalf("evidence: %v, %v", paths, err)
			}
			s.checkEvidence(paths[0], int(test.leaf) < len(test.leaves))
		})
	}
}

// checkEvidence checks evidence as an expert would, with nothing else at hand.
func (s *small) checkEvidence(path string, differs bool) {
	s.t.Helper()
	e, err := readConflict(path)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, side := range []history{e.Ours, e.Served} {
		cp, err := tlog.ParseCheckpoint([]byte(side.Checkpoint), s.m.verifier)
		if err != nil {
			s.t.Fatal(err)
		}
		if !differs {
			continue
		}
		leaf := tlog.Leaf{Index: *e.Finding.Leaf}
		leaf.Data, err = base64.StdEncoding.DecodeString(side.Leaf)
		if err != nil {
			s.t.Fatal(err)
		}
		var proof [][]byte
		for _, h := range side.Proof {
			b, err := base64.StdEncoding.DecodeString(h)
			if err != nil {
				s.t.Fatal(err)
			}
			proof = append(proof, b)
		}
		if err := tlog.VerifyInclusion(cp, leaf, proof); err != nil {
			s.t.Error(err)
		}
	}
	if differs && e.Ours.Leaf == e.Served.Leaf {
		s.t.Error("both sides have the same leaf")
	}
}

func TestARewrittenLogOfTheWorldIsReportedByVerifyForGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mirror()
	honest := w.leaves("isp")
	altered := slices.Clone(honest)
	altered[3] = tamper(t, altered[3], func(m map[string]any) { m["last_seq"] = 4 })
	w.rewrite("isp", altered)
	if _, err := w.desk().Mirror(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	w.rewrite("isp", append(honest, honest[7])) // the keeper repents
	w.mirror()
	f := only(t, w.verify())
	if f.Code != CodeForked || f.Leaf == nil || *f.Leaf != 3 || !strings.Contains(f.What, "the evidence is "+w.path("official/logs/isp/conflicts")) {
		t.Fatalf("found %v", f)
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

func TestACheckpointThatWasSeenBindsEvenIfItsLeavesNeverCame(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	s.grow(leavesOf(0, 300)...)
	if err := os.Remove(s.source + "/tile/entries/000"); err != nil {
		t.Fatal(err)
	}
	s.found()
	s.rewrite(leavesOf(1000, 1300))
	if f := s.found(); f.Code != CodeForked || !strings.Contains(f.What, "which leaves differ cannot be told") {
		t.Fatalf("found %v", f)
	}
}

// brittleDisk fails at one change, and may leave it half done.
type brittleDisk struct {
	lazyDisk
	left int // changes before the one that fails
	half bool
}

var errBrittle = errors.New("no space left on device")

func (d *brittleDisk) replace(path string, data []byte) error {
	if d.left--; d.left != -1 {
		return d.lazyDisk.replace(path, data)
	}
	if d.half {
		return errors.Join(errBrittle, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path+tempSuffix, data[:len(data)/2], 0o600))
	}
	return errBrittle
}

func (d *brittleDisk) extend(path string, line []byte) error {
	if d.left--; d.left != -1 {
		return d.lazyDisk.extend(path, line)
	}
	if !d.half {
		return errBrittle
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return errors.Join(errBrittle, os.MkdirAll(filepath.Dir(path), 0o700))
	}
	_, err = f.Write(line[:len(line)/2])
	return errors.Join(errBrittle, err, f.Close())
}

func (d *brittleDisk) remove(path string) error {
	if d.left--; d.left != -1 {
		return d.lazyDisk.remove(path)
	}
	return errBrittle
}

func TestAMirroringThatFailsAnywhereGoesOnFromThere(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	first := newSmall(t)
	first.skey, first.vkey = s.skey, s.vkey
	first.grow(leavesOf(0, 200)...)
	s.grow(leavesOf(0, 600)...)
	for _, half := range []bool{false, true} {
		for n := 0; ; n++ {
			s.m = s.mirror(filepath.Join(t.TempDir(), "copy"))
			s.m.disk = lazyDisk{}
			s.m.source = tlog.FolderSource(first.source)
			s.updated()
			s.m.source = tlog.FolderSource(s.source)
			s.m.disk = &brittleDisk{left: n, half: half}
			_, _, finding, err := s.m.update(t.Context())
			if finding != nil {
				t.Fatalf("change %d: found %v", n, finding)
			}
			s.m.disk = osDisk{}
			if err == nil {
				if n < 8 {
					t.Fatalf("only %d changes were made", n)
				}
				break
			}
			if !errors.Is(err, errBrittle) {
				t.Fatalf("change %d: %v", n, err)
			}
			s.untidy = strings.Contains(err.Error(), "superseded")
			s.updated()
			s.holds(600)
		}
	}
}

func TestABundleThatAKillLeftDamagedIsFetchedAnew(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	s.grow(leavesOf(0, 600)...)
	path := filepath.Join(s.m.dir, "tile/entries/001")
	if err := (osDisk{}).replace(path, []byte("damaged")); err != nil {
		t.Fatal(err)
	}
	s.updated()
	s.holds(600)
}

// mirrorUntilKilled is the child of the test below.
func mirrorUntilKilled(dir string) {
	v, err := tlog.ReadVerifier(filepath.Join(dir, "vkey"))
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		m := &mirror{name: "isp", dir: filepath.Join(dir, fmt.Sprint("copy", i)), verifier: v,
			source: tlog.FolderSource(filepath.Join(dir, "served")), disk: osDisk{}, clock: time.Now}
		fmt.Println(i)
		if _, _, finding, err := m.update(context.Background()); err != nil || finding != nil {
			fmt.Println("failed", finding, err)
			os.Exit(1)
		}
	}
}

func TestAKillLeavesACopyThatGoesOn(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	dir := filepath.Dir(s.source)
	s.grow(leavesOf(0, 1500)...)
	if err := os.WriteFile(filepath.Join(dir, "vkey"), []byte(s.vkey), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "CORDON_TEST_MIRROR_UNTIL_KILLED="+dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		last := ""
		for range 1 + mathrand.IntN(4) {
			if !lines.Scan() {
				break
			}
			last = lines.Text()
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			last = lines.Text()
		}
		c.Wait() // "signal: killed"
		s.m = s.mirror(filepath.Join(dir, "copy"+last))
		s.updated()
		s.holds(1500)
		copies, err := filepath.Glob(filepath.Join(dir, "copy*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range copies {
			if err := os.RemoveAll(c); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestATornLineOfTheListOfCheckpointsIsPassedOverAndReplaced(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	s.grow(leavesOf(0, 5)...)
	s.updated()
	f, err := os.OpenFile(s.m.seenPath(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"at":"2026-03-02T10:00:00Z","check`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s.grow(leavesOf(5, 9)...)
	s.updated()
	s.holds(9)
	var sizes []uint64
	for cp, err := range s.m.sightings() {
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, cp.Size)
	}
	if !slices.Equal(sizes, []uint64{5, 9}) {
		t.Errorf("seen: %v", sizes)
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

func TestAMirrorReadsFromAnAuditorThatAsksForACertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCertificates(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		h := audit.Handler(w.path("audit"), w.path("blocklog"), func() uint64 { return 9 }, slog.New(slog.DiscardHandler))
		served <- audit.Serve(ctx, l, h, c.server, slog.New(slog.DiscardHandler))
	}()
	defer func() {
		cancel()
		w.must(<-served)
	}()
	https := func(conf *Config) {
		conf.Logs[1].Source = "https://" + l.Addr().String() + "/"
		conf.Logs[1].Blocklog = conf.Logs[1].Source
		conf.Logs[1].CA, conf.Logs[1].Cert, conf.Logs[1].Key = c.ca, c.cert, c.key
	}
	d := w.desk(https)
	steps, err := d.Mirror(t.Context(), "")
	w.must(err)
	for _, s := range steps {
		if s.Err != nil || s.Finding != nil {
			t.Fatalf("%v, %v", s.Finding, s.Err)
		}
	}
	r, err := d.Verify(t.Context())
	w.must(err)
	if !r.OK() || r.Logs[1].Audit.Compared != 6 {
		t.Errorf("compared %d, found %v", r.Logs[1].Audit.Compared, r.Findings)
	}
	d.logs[1].client.CloseIdleConnections()

	// Without the certificate nothing is served; that is no finding.
	bare := w.desk(https, func(conf *Config) { conf.Logs[1].Cert, conf.Logs[1].Key = "", "" })
	steps, err = bare.Mirror(t.Context(), "isp")
	w.must(err)
	if steps[0].Err == nil || steps[0].Finding != nil {
		t.Errorf("without certificate: %+v", steps[0])
	}
	bare.logs[1].client.CloseIdleConnections()
	if r := w.verify(); !r.OK() || !strings.Contains(strings.Join(r.NotChecked, "\n"), "isp: what came after") {
		t.Errorf("verification says %v, %q", r.Findings, r.NotChecked)
	}
}

// certificates are those of a server and of the official, by one authority.
type certificates struct {
	server        *tls.Config
	ca, cert, key string // files
}

func newCertificates(t *testing.T) *certificates {
	t.Helper()
	dir := t.TempDir()
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		fail(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(err)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	fail(err)
	issue := func(name string, usage x509.ExtKeyUsage) (cert, key string) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		fail(err)
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
			NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{usage}}, ca, &k.PublicKey, caKey)
		fail(err)
		keyDER, err := x509.MarshalPKCS8PrivateKey(k)
		fail(err)
		return write(name+".pem", "CERTIFICATE", der), write(name+".key", "PRIVATE KEY", keyDER)
	}
	c := &certificates{ca: write("ca.pem", "CERTIFICATE", caDER)}
	serverCert, serverKey := issue("server", x509.ExtKeyUsageServerAuth)
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	fail(err)
	pool := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(caDER)
	fail(err)
	pool.AddCert(parsed)
	c.server = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool}
	c.cert, c.key = issue("official", x509.ExtKeyUsageClientAuth)
	return c
}

func FuzzTheListOfCheckpointsIsReadStrictly(f *testing.F) {
	s := newSmall(f)
	s.grow(leafNo(0))
	if _, _, finding, err := s.m.update(f.Context()); err != nil || finding != nil {
		f.Fatal(finding, err)
	}
	sound, err := os.ReadFile(s.m.seenPath())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sound)
	f.Add(append(slices.Clone(sound), "{"...))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		mine := *s
		mine.t = t
		m := mine.mirror(t.TempDir())
		if err := os.WriteFile(m.seenPath(), data, 0o600); err != nil {
			t.Fatal(err)
		}
		var last *seen
		var failed error
		for cp, err := range m.sightings() {
			if err != nil {
				failed = err
				break
			}
			if cp.Origin != auditOrigin || cp.Size != 1 {
				t.Fatalf("a checkpoint that nobody signed: %+v", cp)
			}
			last = &cp
		}
		anchor, ok, err := m.anchor()
		if failed == nil && (err != nil || ok != (last != nil) || ok && anchor.Root != last.Root) {
			t.Fatalf("the last is %+v, %v, %v; the list ends with %+v", anchor, ok, err, last)
		}
	})
}
