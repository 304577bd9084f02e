package rpz

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"cordon/durable"
	"cordon/durable/durabletest"
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

// TestASerialThatWasGivenOutlivesEveryFailure lets the machine go down at each step of
// keeping a serial. What peers may have seen must not come again for another zone.
func TestASerialThatWasGivenOutlivesEveryFailure(t *testing.T) {
	a, b := zone(t, 0, list(t, "host a.example minors")), zone(t, 0, list(t, "host b.example minors"))
	now := time.Unix(1_800_000_000, 0) // for all: the clock is of no help
	numbers := func(path string, d durable.Disk, zones ...*Zone) (given []uint32, err error) {
		i, err := openIdentity(path, d)
		if err != nil {
			return nil, err
		}
		for _, z := range zones {
			numbered, err := i.Number(z, now)
			if err != nil {
				return given, err
			}
			given = append(given, numbered.Serial())
		}
		return given, nil
	}
	whole := durabletest.New(0, durabletest.Before, durabletest.Killed)
	if _, err := numbers(filepath.Join(t.TempDir(), "rpz.json"), whole, a, b); err != nil {
		t.Fatal(err)
	}
	for at := 1; at <= whole.Calls(); at++ {
		for _, how := range []durabletest.How{durabletest.Before, durabletest.Half, durabletest.After} {
			for _, loss := range []durabletest.Loss{durabletest.Killed, durabletest.Names, durabletest.Contents} {
				path := filepath.Join(t.TempDir(), "rpz.json")
				given, err := numbers(path, durabletest.New(at, how, loss), a, b)
				if err == nil {
					t.Fatalf("step %d: nothing failed", at)
				}
				after, err := numbers(path, durable.OS{}, a, b)
				if err != nil {
					t.Fatalf("step %d, %v, %v: %v", at, how, loss, err)
				}
				if len(given) == 2 {
					t.Fatalf("step %d: both were given", at)
				}
				// The first may come again, as it is the same zone; the second must come after all.
				if len(given) == 1 && (after[0] != given[0] && int32(after[0]-given[0]) <= 0 || int32(after[1]-given[0]) <= 0) {
					t.Errorf("step %d, %v, %v: given %v, then %v", at, how, loss, given, after)
				}
			}
		}
	}
}
