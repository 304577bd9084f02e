package rpz

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

func TestTheNameSaysNothingAndStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rpz.json")
	first, err := OpenIdentity(path)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^[a-z2-7]{16}\.invalid\.$`).MatchString(first.Name()) {
		t.Errorf("the name is %q", first.Name())
	}
	again, err := OpenIdentity(path)
	if err != nil || again.Name() != first.Name() {
		t.Errorf("%q became %q, %v", first.Name(), again.Name(), err)
	}
	other, err := OpenIdentity(filepath.Join(t.TempDir(), "rpz.json"))
	if err != nil || other.Name() == first.Name() {
		t.Errorf("two of the same name %q, %v", other.Name(), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestSerialsAlwaysGrow goes through what can happen to a list, to the clock and to
// the machine.
func TestSerialsAlwaysGrow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rpz.json")
	a, b := zone(t, 0, list(t, "host a.example minors")), zone(t, 0, list(t, "host b.example minors"))
	now := time.Unix(1_800_000_000, 0)
	var last uint32
	for _, step := range []struct {
		what    string
		zone    *Zone
		at      time.Time
		restart bool
		same    bool
	}{
		{"the first", a, now, false, false},
		{"the same", a, now.Add(time.Hour), false, true},
		{"another in the same second", b, now, false, false},
		{"a rollback", a, now.Add(time.Minute), false, false},
		{"a restart", a, now.Add(2 * time.Hour), true, true},
		{"a restart with another list", b, now.Add(3 * time.Hour), true, false},
		{"a clock that went back a year", a, now.AddDate(-1, 0, 0), true, false},
		{"a clock past the end of 32 bits", b, time.Unix(1<<32+5, 0), false, false},
		{"and on", a, time.Unix(1<<32+6, 0), true, false},
	} {
		i, err := OpenIdentity(path)
		if err != nil {
			t.Fatal(err)
		}
		z, err := i.Number(step.zone, step.at)
		if err != nil {
			t.Fatal(err)
		}
		if step.same != (z.Serial() == last) || (!step.same && last != 0 && !after(z.Serial(), last)) {
			t.Errorf("%s: serial %d after %d", step.what, z.Serial(), last)
		}
		if z.Serial() == 0 {
			t.Errorf("%s: serial 0", step.what)
		}
		last = z.Serial()
	}
}

func TestADamagedIdentityIsNotReplacedUnasked(t *testing.T) {
	for _, content := range []string{"", "{", `{"format":"cordon-rpz/2","name":"a.invalid."}`, `{"format":"cordon-rpz/1","name":"","more":1}`, `{"format":"cordon-rpz/1","name":"."}`} {
		path := filepath.Join(t.TempDir(), "rpz.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenIdentity(path); err == nil {
			t.Errorf("%q was taken", content)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("%q became %q, %v", content, got, err)
		}
	}
}

// brittle is a file system that fails at the nth step.
type brittle struct {
	osDisk
	left *int
}

var errBroken = errors.New("broken")

func (b brittle) step() error {
	if *b.left--; *b.left < 0 {
		return errBroken
	}
	return nil
}

func (b brittle) Create(path string, perm fs.FileMode) (diskFile, error) {
	if err := b.step(); err != nil {
		return nil, err
	}
	f, err := b.osDisk.Create(path, perm)
	return brittleFile{f, b}, err
}

func (b brittle) Rename(from, to string) error {
	if err := b.step(); err != nil {
		return err
	}
	return b.osDisk.Rename(from, to)
}

func (b brittle) SyncDir(dir string) error {
	if err := b.step(); err != nil {
		return err
	}
	return b.osDisk.SyncDir(dir)
}

type brittleFile struct {
	diskFile
	b brittle
}

func (f brittleFile) Write(p []byte) (int, error) {
	if err := f.b.step(); err != nil {
		n, _ := f.diskFile.Write(p[:len(p)/2])
		return n, err
	}
	return f.diskFile.Write(p)
}

func (f brittleFile) Sync() error {
	if err := f.b.step(); err != nil {
		return err
	}
	return f.diskFile.Sync()
}

// TestAFileHoldsTheOldOrTheNewWholeWhereverTheDiskFails breaks each step of writing
// in turn.
func TestAFileHoldsTheOldOrTheNewWholeWhereverTheDiskFails(t *testing.T) {
	for steps := 0; ; steps++ {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte("the old one"), 0o600); err != nil {
			t.Fatal(err)
		}
		left := steps
		err := replace(brittle{left: &left}, path, 0o640, func(w io.Writer) error { _, err := io.WriteString(w, "the new one"); return err })
		got, readErr := os.ReadFile(path)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if s := string(got); s != "the old one" && s != "the new one" {
			t.Fatalf("after %d steps it holds %q", steps, s)
		}
		if err == nil {
			if string(got) != "the new one" {
				t.Errorf("it was said to be written and holds %q", got)
			}
			if steps < 5 {
				t.Errorf("only %d steps could fail", steps)
			}
			return
		}
		if !errors.Is(err, errBroken) {
			t.Errorf("after %d steps: %v", steps, err)
		}
		// What was left behind is in nobody's way.
		if err := replace(osDisk{}, path, 0o640, func(w io.Writer) error { _, err := io.WriteString(w, "later"); return err }); err != nil {
			t.Errorf("after %d steps, again: %v", steps, err)
		}
	}
}

// A serial that peers have seen must not be used again for another zone, so it is
// kept before it is given.
func TestASerialIsNotGivenWhereItCannotBeKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rpz.json")
	i, err := OpenIdentity(path)
	if err != nil {
		t.Fatal(err)
	}
	z := zone(t, 0, list(t, "host a.example minors"))
	left := 0
	i.disk = brittle{left: &left}
	if got, err := i.Number(z, time.Unix(5, 0)); !errors.Is(err, errBroken) || got != nil {
		t.Errorf("given %v, %v", got, err)
	}
	i.disk = osDisk{}
	if got, err := i.Number(z, time.Unix(5, 0)); err != nil || got.Serial() != 5 {
		t.Errorf("given %v, %v", got, err)
	}
}
