package durable_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"cordon/durable"
	"cordon/durable/durabletest"
)

var (
	hows = map[string]durabletest.How{
		"before the call": durabletest.Before, "half-way": durabletest.Half, "after the call": durabletest.After,
	}
	losses = map[string]durabletest.Loss{
		"killed": durabletest.Killed, "power lost, names too": durabletest.Names, "power lost, contents only": durabletest.Contents,
	}
)

// eachFault runs a case with each of its calls failing in each manner, and last
// with the power failing right after it has returned.
func eachFault(t *testing.T, least int, run func(t *testing.T, d *durabletest.Disk)) {
	for said, how := range hows {
		for lost, loss := range losses {
			for at := 1; ; at++ {
				d := durabletest.New(at, how, loss)
				t.Run(said+", "+lost, func(t *testing.T) { run(t, d) })
				if d.Calls() < at {
					if d.Calls() < least {
						t.Errorf("%s, %s: only %d calls", said, lost, d.Calls())
					}
					break
				}
			}
		}
	}
}

// All that cordon keeps is built on this.
func TestAFileThatIsReplacedHoldsTheOldContentOrTheNewWhole(t *testing.T) {
	const before, after = "the old content", "the new content, which is longer"
	eachFault(t, 7, func(t *testing.T, d *durabletest.Disk) {
		path := filepath.Join(t.TempDir(), "file")
		must(t, os.WriteFile(path, []byte(before), 0o600))
		err := durable.Replace(d, path, []byte(after), 0o600)
		if (err != nil) != d.Down() {
			t.Fatalf("down %v, and Replace says %v", d.Down(), err)
		}
		d.PowerOff()
		raw, rerr := os.ReadFile(path)
		if rerr != nil || string(raw) != after && (err == nil || string(raw) != before) {
			t.Errorf("at call %d (%v) it holds %q, %v", d.Calls(), err, raw, rerr)
		}

		// Who starts again clears the folder, and writes.
		must(t, durable.RemoveTemp(durable.OS{}, filepath.Dir(path)))
		if left := names(t, filepath.Dir(path)); !slices.Equal(left, []string{"file"}) {
			t.Errorf("left behind: %v", left)
		}
		must(t, durable.Replace(durable.OS{}, path, []byte("newer"), 0o600))
	})
}

func TestANewFileThatIsReportedIsThere(t *testing.T) {
	eachFault(t, 5, func(t *testing.T, d *durabletest.Disk) {
		path := filepath.Join(t.TempDir(), "key")
		err := durable.WriteNew(d, path, []byte("a whole key"), 0o600)
		if (err != nil) != d.Down() {
			t.Fatalf("down %v, and WriteNew says %v", d.Down(), err)
		}
		d.PowerOff()
		if raw, _ := os.ReadFile(path); err == nil && string(raw) != "a whole key" {
			t.Errorf("%q is there", raw)
		}
	})
}

func TestARemovalThatIsReportedHolds(t *testing.T) {
	eachFault(t, 2, func(t *testing.T, d *durabletest.Disk) {
		path := filepath.Join(t.TempDir(), "file")
		must(t, os.WriteFile(path, []byte("content"), 0o600))
		err := durable.Remove(d, path)
		d.PowerOff()
		if _, there := os.Lstat(path); err == nil && !errors.Is(there, fs.ErrNotExist) {
			t.Errorf("it is there again: %v", there)
		}
	})
}

func TestWhatFailsToBeWrittenChangesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	must(t, os.WriteFile(path, []byte("old"), 0o600))
	wrong := errors.New("the content ends here")
	err := durable.ReplaceBy(durable.OS{}, path, 0o600, func(w io.Writer) error {
		_, err := io.WriteString(w, "half of")
		return errors.Join(err, wrong)
	})
	if raw, _ := os.ReadFile(path); !errors.Is(err, wrong) || string(raw) != "old" || len(names(t, dir)) != 1 {
		t.Errorf("%v; it holds %q, beside it are %v", err, raw, names(t, dir))
	}
	if err := durable.WriteNew(durable.OS{}, path, []byte("new"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a file that is there was written over: %v", err)
	}
}

func TestTheUmaskDoesNotDecideWhoReads(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	path := filepath.Join(t.TempDir(), "file")
	must(t, durable.Replace(durable.OS{}, path, []byte("x"), 0o644))
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestFoldersAreMadeWithThoseAbove(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b", "c")
	for _, syncs := range []int{3, 2} {
		d := durabletest.New(0, durabletest.Before, durabletest.Names)
		must(t, durable.MakeDir(d, dir, 0o700))
		if info, err := os.Stat(dir); err != nil || info.Mode() != fs.ModeDir|0o700 || d.Calls() != syncs {
			t.Errorf("mode %v, %v, after %d syncs of the folders above, want %d", info.Mode(), err, d.Calls(), syncs)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "d"), nil, 0o600))
	if err := durable.MakeDir(durable.OS{}, filepath.Join(dir, "d"), 0o700); err == nil {
		t.Error("a file was taken for a folder")
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
