package blocklist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cordon/durable/durabletest"
	"cordon/signing"
)

// publicationOf makes a publication as the store's own tests understand it: its
// target is the list's text, with a serial.
func publicationOf(t testing.TB, serial uint64) *signing.Accepted {
	t.Helper()
	l := parse(t, frenchText(t))
	l.Serial = serial
	return &signing.Accepted{
		Roots:     [][]byte{[]byte("root 2"), []byte("root 3")},
		Timestamp: []byte("timestamp"), Snapshot: nil, Targets: []byte("targets"),
		Name: "list", Target: []byte(encode(t, l)),
	}
}

// openText opens what publicationOf makes.
func openText(_ context.Context, a *signing.Accepted) (*Loaded, error) {
	l, err := Parse(bytes.NewReader(a.Target), Limits{})
	if err != nil {
		return nil, err
	}
	return &Loaded{Name: "french", List: l}, nil
}

func storeIn(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := openStore(dir, "french", durabletest.Quick{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func save(t testing.TB, s *Store, serials ...uint64) {
	t.Helper()
	for _, serial := range serials {
		if err := s.Save(serial, publicationOf(t, serial)); err != nil {
			t.Fatal(err)
		}
	}
}

func files(t testing.TB, s *Store) []string {
	t.Helper()
	entries, err := os.ReadDir(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestStoreGivesBackWhatWasSaved(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenStore(filepath.Join(dir, "lists"), "french")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Load(t.Context(), openText); !errors.Is(err, ErrNoList) {
		t.Errorf("an empty store gives %v", err)
	}
	if newest, err := s.Newest(); newest != 0 || err != nil {
		t.Errorf("Newest() = %d, %v", newest, err)
	}
	want := publicationOf(t, 7)
	if err := s.Save(7, want); err != nil {
		t.Fatal(err)
	}
	again, err := OpenStore(filepath.Join(dir, "lists"), "french")
	if err != nil {
		t.Fatal(err)
	}
	l, a, err := again.Load(t.Context(), openText)
	if err != nil || l.List.Serial != 7 {
		t.Fatalf("got %+v, %v", l, err)
	}
	want.Snapshot = []byte{} // nil and empty are one on disk
	if len(a.Snapshot) == 0 {
		a.Snapshot = []byte{}
	}
	if !reflect.DeepEqual(a, want) {
		t.Errorf("got %q, want %q", a, want)
	}
}

func TestStoreIsClosedToOthers(t *testing.T) {
	s := storeIn(t, t.TempDir())
	save(t, s, 1)
	for path, want := range map[string]fs.FileMode{s.Dir(): 0o700 | fs.ModeDir, s.path(1): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	if err := os.Chmod(s.Dir(), 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(filepath.Dir(s.Dir()), "french"); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a folder that others can read: %v", err)
	}
}

func TestStoreKeepsTheLastTwo(t *testing.T) {
	s := storeIn(t, t.TempDir())
	save(t, s, 1, 2, 5, 5, 9)
	want := []string{"00000000000000000005.tar", "00000000000000000009.tar"}
	if got := files(t, s); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStoreRefusesToGoBack(t *testing.T) {
	s := storeIn(t, t.TempDir())
	save(t, s, 9)
	if err := s.Save(8, publicationOf(t, 8)); !errors.Is(err, signing.ErrRollback) {
		t.Errorf("got %v", err)
	}
	if l, _, err := s.Load(t.Context(), openText); err != nil || l.List.Serial != 9 {
		t.Errorf("got %+v, %v", l, err)
	}
}

func TestStoreFallsBackLoudly(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(path string) error
		says string
	}{
		{"cut", func(path string) error { return os.Truncate(path, 700) }, "unexpected EOF"},
		{"empty", func(path string) error { return os.Truncate(path, 0) }, "unexpected EOF"},
		{"overwritten", func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("x", 2000)), 0o600) }, "invalid tar header"},
		{"a changed byte in the list", func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, bytes.Replace(b, []byte("propagande"), []byte("prøpagand"), 1), 0o600)
		}, "line 4"},
		{"another serial's content", func(path string) error {
			return os.Rename(filepath.Join(filepath.Dir(path), "00000000000000000008.tar"), path)
		}, "holds serial 8"},
		{"a folder in its place", func(path string) error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
		}, "is a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := storeIn(t, t.TempDir())
			save(t, s, 7, 8)
			newest := s.path(9)
			if err := s.write(9, publicationOf(t, 9)); err != nil { // without removing 7
				t.Fatal(err)
			}
			if err := c.harm(newest); err != nil {
				t.Fatal(err)
			}
			l, a, err := s.Load(t.Context(), openText)
			if l == nil || a == nil || l.List.Serial > 8 || l.List.Serial < 7 {
				t.Fatalf("got %+v, %v", l, err)
			}
			if err == nil || !strings.Contains(err.Error(), newest) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error is %v, want ...%s...%s...", err, newest, c.says)
			}
			if floor, err := s.Newest(); floor != 9 || err != nil {
				t.Errorf("Newest() = %d, %v", floor, err)
			}
		})
	}
}

func TestStoreWithNothingUsableSaysSo(t *testing.T) {
	s := storeIn(t, t.TempDir())
	save(t, s, 1, 2)
	for _, serial := range []uint64{1, 2} {
		if err := os.Truncate(s.path(serial), 100); err != nil {
			t.Fatal(err)
		}
	}
	l, a, err := s.Load(t.Context(), openText)
	if l != nil || a != nil || err == nil || errors.Is(err, ErrNoList) {
		t.Errorf("got %v, %v, %v", l, a, err)
	}
	// The list that comes next has the serial of the damaged one, most likely.
	save(t, s, 2)
	if l, _, err := s.Load(t.Context(), openText); err != nil || l.List.Serial != 2 {
		t.Errorf("after the next Save: %v, %v", l, err)
	}
}

func TestOpenStoreRefusesNamesThatAreNone(t *testing.T) {
	for _, name := range []string{"", ".", "..", "../x", "a/b", "A", "é", "-x", strings.Repeat("a", 33)} {
		if _, err := OpenStore(t.TempDir(), name); err == nil {
			t.Errorf("accepted %q", name)
		}
	}
}

func TestStoreSurvivesPowerFailureAtEachStep(t *testing.T) {
	for _, next := range []uint64{9, 8} { // the next list; the same once more
		for said, how := range map[string]durabletest.How{"before": durabletest.Before, "half": durabletest.Half, "after": durabletest.After} {
			for lost, loss := range map[string]durabletest.Loss{"nothing": durabletest.Killed, "names": durabletest.Names, "contents": durabletest.Contents} {
				t.Run(fmt.Sprintf("serial %d, %s, %s lost", next, said, lost), func(t *testing.T) {
					for at := 1; ; at++ {
						d := durabletest.New(at, how, loss)
						if failing(t, d, next); d.Calls() < at {
							if at < 8 {
								t.Fatalf("Save made only %d calls", at-1)
							}
							return
						}
					}
				})
			}
		}
	}
}

// failing saves a list over others with a power failure at one call, or right
// after the last, and looks at what a restart finds.
func failing(t *testing.T, d *durabletest.Disk, next uint64) {
	t.Helper()
	dir := t.TempDir()
	save(t, storeIn(t, dir), 7, 8)
	s := &Store{dir: filepath.Join(dir, "french"), disk: d}
	saved := s.Save(next, publicationOf(t, next))
	if d.Down() != errors.Is(saved, durabletest.ErrDown) || !d.Down() && saved != nil {
		t.Fatalf("at call %d, Save returned %v", d.Calls(), saved)
	}
	d.PowerOff()

	again := storeIn(t, dir)
	l, _, err := again.Load(t.Context(), openText)
	if err != nil {
		t.Fatalf("after a failure at call %d: %v", d.Calls(), err)
	}
	if got := l.List.Serial; got != next && (saved == nil || got != 8) {
		t.Fatalf("after a failure at call %d, serial %d is there", d.Calls(), got)
	}
	save(t, again, next, next+1)
	if got := files(t, again); len(got) != storeKeep {
		t.Fatalf("after a failure at call %d and further lists, there is %q", d.Calls(), got)
	}
}

func FuzzUnpack(f *testing.F) {
	var b bytes.Buffer
	if err := pack(&b, publicationOf(f, 1)); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:1000])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := unpack(bytes.NewReader(data))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := pack(&b, a); err != nil {
			t.Skip(err) // a target's name that no archive can hold
		}
		again, err := unpack(&b)
		if err != nil || !reflect.DeepEqual(again, a) {
			t.Fatalf("got %q, %v; want %q", again, err, a)
		}
	})
}
