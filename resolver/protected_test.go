package resolver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestProtectedFilesAreReadAnew changes the file of protected names while the
// resolver runs: the next list is held to what stands there now, and a file that
// cannot be read changes nothing.
func TestProtectedFilesAreReadAnew(t *testing.T) {
	p := newPublisher(t)
	p.publish(1, "propagande.example")
	names := p.path("names")
	p.must(os.WriteFile(names, []byte("before.example\n"), 0o600))
	o := operate(t, p.config(t.TempDir(), GuardConfig{Protected: []string{names}}))
	running(t, o.Resolver)
	o.until("/status", `"serial": 1`)

	p.must(os.WriteFile(names, []byte("before.example\nafterwards.example\n"), 0o600))
	o.rereadProtected()
	p.publish(2, "propagande.example", "afterwards.example")
	o.until("/list/held", "afterwards.example")

	p.must(os.WriteFile(names, []byte("not a name!\n"), 0o600))
	o.rereadProtected()
	if !o.protectedStale.Load() {
		t.Error("a file that cannot be read is no alarm")
	}
	p.publish(3, "propagande.example", "afterwards.example", "before.example")
	if held := o.until("/list/held", "before.example"); !strings.Contains(held, "afterwards.example") {
		t.Errorf("held are %s", held)
	}
	p.must(os.WriteFile(names, []byte("before.example\n"), 0o600))
	o.rereadProtected()
	if o.protectedStale.Load() {
		t.Error("the alarm stays on")
	}
}

// TestAChangedFileIsNoticed holds the ways in which files are changed.
func TestAChangedFileIsNoticed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "names")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string, age time.Duration) {
		full := filepath.Join(dir, name)
		must(os.WriteFile(full, []byte(text), 0o600))
		when := time.Now().Add(-age)
		must(os.Chtimes(full, when, when))
	}
	for name, change := range map[string]func(){
		"written over": func() { write("names", "b", time.Hour) },
		"replaced by one of the same size and age": func() { write("new", "b", 2*time.Hour); must(os.Rename(filepath.Join(dir, "new"), path)) },
		"removed": func() { must(os.Remove(path)) },
		"a link that is swapped": func() {
			write("data", "b", 2*time.Hour)
			must(os.Symlink("data", filepath.Join(dir, "link")))
			must(os.Rename(filepath.Join(dir, "link"), path))
		},
	} {
		_ = os.Remove(path)
		write("names", "a", 2*time.Hour)
		before := look([]string{path})
		if !same(before, look([]string{path})) {
			t.Errorf("%s: it was taken for changed before it was", name)
		}
		change()
		if same(before, look([]string{path})) {
			t.Errorf("%s: not noticed", name)
		}
	}
}

func TestStopPagesOfOtherListsAreKnown(t *testing.T) {
	p := newPublisher(t)
	p.publish(1, "propagande.example")
	o := operate(t, p.config(t.TempDir(), GuardConfig{}))
	running(t, o.Resolver)
	o.until("/list/held", `"serial": 1`)
	if pages := o.pagesOfOthers("belgian")(); pages["stop.example"] != "the stop page of category terrorism of list national" {
		t.Errorf("another list's guard knows of %v", pages)
	}
	if pages := o.pagesOfOthers("national")(); len(pages) != 0 {
		t.Errorf("its own guard takes for another's %v", pages)
	}
}
