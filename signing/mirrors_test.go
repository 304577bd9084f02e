package signing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

var errUnplugged = fmt.Errorf("no route to host: %w", ErrSource)

// dead is a mirror that is not there.
type dead struct{ asked *int }

func (d dead) Fetch(context.Context, string, int64) ([]byte, error) {
	*d.asked++
	return nil, errUnplugged
}

// mirrored gives a client of several mirrors, and what it was told of them.
func (r *resolver) mirrored(sources ...Source) map[int]error {
	told := map[int]error{}
	r.config.Mirrors = sources[1:]
	r.config.Told = func(number int, err error) { told[number] = err }
	r.from(sources[0])
	return told
}

func TestABadMirrorCostsNothingAndIsTold(t *testing.T) {
	a := found(t)
	a.list("first")
	stale := a.copyOf() // a mirror that was frozen here
	r := a.resolver()
	r.takes("first")
	a.list("second")

	unplugged := 0
	for name, c := range map[string]struct {
		bad    Source
		reason error
	}{
		"dead":   {dead{&unplugged}, ErrSource},
		"frozen": {NewFolderSource(stale), ErrRollback},
		"a lie in the timestamp": {changed{NewFolderSource(a.folder), func(path string, raw []byte) ([]byte, error) {
			if path != timestampPath {
				return raw, nil
			}
			before, after, _ := strings.Cut(string(raw), `"expires"`)
			return []byte(before + `"expires"` + strings.Replace(after, "20", "29", 1)), nil
		}}, ErrSignature},
		"a lie in the list": {changed{NewFolderSource(a.folder), func(path string, raw []byte) ([]byte, error) {
			if strings.HasPrefix(path, "targets/") {
				raw = []byte("SECOND")
			}
			return raw, nil
		}}, ErrIncomplete},
	} {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, asked first %v", name, first), func(t *testing.T) {
				again := *r
				again.t, again.config.Dir = t, t.TempDir()
				sources, bad := []Source{c.bad, NewFolderSource(a.folder)}, 0
				if !first {
					sources[0], sources[1], bad = sources[1], sources[0], 1
				}
				told := again.mirrored(sources...)
				again.takes("second")
				if err, there := told[1-bad]; !there || err != nil {
					t.Errorf("of the good one it was told %v, %v", err, there)
				}
				// What is verified already is not fetched again: then it cannot lie.
				harmless := !first && name == "a lie in the list"
				if err := told[bad]; !harmless && !errors.Is(err, c.reason) && Reason(err) != "mismatch" || harmless && err != nil {
					t.Errorf("of the bad one it was told %v, want %v", err, c.reason)
				}
				again.refuses(ErrUnchanged)
			})
		}
	}
}

func TestTheNewestOfSeveralMirrorsWins(t *testing.T) {
	a := found(t)
	a.list("first")
	r := a.resolver()
	r.takes("first")
	a.list("second")
	second := a.copyOf()
	a.list("third")
	for _, sources := range [][]Source{
		{NewFolderSource(second), NewFolderSource(a.folder)}, {NewFolderSource(a.folder), NewFolderSource(second)},
	} {
		again := *r
		again.t, again.config.Dir = t, t.TempDir()
		again.mirrored(sources...)
		again.takes("third")
	}
}

func TestWithoutAnyMirrorTheErrorNamesThemAll(t *testing.T) {
	a := found(t)
	a.list("first")
	r := a.resolver()
	r.takes("first")
	var n, m int
	told := r.mirrored(dead{&n}, dead{&m})
	err := r.refuses(ErrSource)
	if len(told) != 2 || !strings.Contains(err.Error(), "source 1: ") || !strings.Contains(err.Error(), "source 2: ") {
		t.Errorf("%v; told %v", err, told)
	}
}

// A mirror that fails is left alone for longer and longer, while another has an
// answer; and is asked all the same where none has.
func TestADeadMirrorIsLeftAloneWhileAnotherAnswers(t *testing.T) {
	a := found(t)
	a.list("first")
	r := a.resolver()
	r.takes("first")
	asked := 0
	told := r.mirrored(dead{&asked}, NewFolderSource(a.folder))
	start := a.now
	for a.now.Sub(start) < 30*time.Minute {
		r.refuses(ErrUnchanged)
		a.now = a.now.Add(10 * time.Second)
	}
	if asked < 4 || asked > 12 {
		t.Errorf("in 180 polls it was asked %d times", asked)
	}
	r.Client.mirrors[1].source = dead{new(int)}
	before := asked
	if _, err := r.Update(t.Context()); !errors.Is(err, ErrSource) || asked != before+1 {
		t.Errorf("it was asked %d times more, %v", asked-before, err)
	}
	r.Client.mirrors[0].source = NewFolderSource(a.folder)
	r.refuses(ErrUnchanged)
	if told[0] != nil || !errors.Is(told[1], ErrSource) {
		t.Errorf("told %v", told)
	}
}
