package resolver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cordon/blocklog"
	"cordon/durable"
)

// oldBlocklog fills a block log with segments that are two years old, and gives
// the numbers of their first records.
func oldBlocklog(t *testing.T, dir string) (firsts []uint64) {
	t.Helper()
	old := time.Now().AddDate(-2, 0, 0)
	j, err := blocklog.Open(dir, blocklog.Options{SegmentBytes: 1024, Clock: func() time.Time { return old }})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 40 {
		if err := j.Event("list.applied", map[string]string{"filler": fmt.Sprint(n, strings.Repeat("x", 200))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.blog"))
	if err != nil || len(names) < 5 {
		entries, _ := os.ReadDir(dir)
		t.Fatalf("%v, %v in %v", names, err, entries)
	}
	for _, name := range names {
		var first uint64
		if _, err := fmt.Sscanf(filepath.Base(name), "%d", &first); err != nil {
			t.Fatal(err)
		}
		firsts = append(firsts, first)
	}
	return firsts
}

// TestNothingUnsealedIsEverRemoved gives the resolver every reason to remove what
// it must not.
func TestNothingUnsealedIsEverRemoved(t *testing.T) {
	p := newPublisher(t)
	p.publish(1, "propagande.example")
	dir := t.TempDir()
	config := p.config(dir, GuardConfig{})
	config.Blocklog.Keep, config.Blocklog.Sealed = 365*24*time.Hour, filepath.Join(dir, "sealed.json")
	firsts := oldBlocklog(t, config.Blocklog.Dir)
	o := operate(t, config)
	t.Cleanup(o.Close)
	oldest := func() uint64 {
		t.Helper()
		o.lookAtSealing()
		first, _, err := blocklog.Bounds(config.Blocklog.Dir)
		if err != nil {
			t.Fatal(err)
		}
		return first
	}
	says := func(next uint64, at time.Time) {
		t.Helper()
		if err := (blocklog.Sealed{Next: next, At: at}).Write(durable.OS{}, config.Blocklog.Sealed); err != nil {
			t.Fatal(err)
		}
	}
	next := o.journal.Stats().Next
	for name, prepare := range map[string]func(){
		"the auditor has said nothing": func() {},
		"what it said is damaged": func() {
			p.must(os.WriteFile(config.Blocklog.Sealed, []byte(`{"format":"cordon-sealed/1","next`), 0o600))
		},
		"it claims records that are not there": func() { says(next+1, time.Now()) },
		"it has not been heard of for long":    func() { says(next, time.Now().Add(-time.Hour)) },
		"a folder is in the place of the file": func() { p.must(os.Mkdir(config.Blocklog.Sealed, 0o700)) },
	} {
		_ = os.Remove(config.Blocklog.Sealed)
		if prepare(); oldest() != 1 {
			t.Fatalf("%s: records were removed", name)
		}
		if !o.retention.failing.Load() {
			t.Errorf("%s: no alarm", name)
		}
	}
	_ = os.Remove(config.Blocklog.Sealed)

	says(firsts[2]-1, time.Now()) // one record of the second segment is not sealed
	if got := oldest(); got != firsts[1] {
		t.Errorf("the oldest record is %d, want %d", got, firsts[1])
	}
	if o.retention.failing.Load() || o.retention.unsealed.Load() == 0 {
		t.Errorf("failing %v with %d not sealed", o.retention.failing.Load(), o.retention.unsealed.Load())
	}
	o.config.Blocklog.Keep = 3 * 365 * 24 * time.Hour
	says(o.journal.Stats().Next, time.Now())
	if got := oldest(); got != firsts[1] {
		t.Errorf("what is younger than its retention was removed, up to %d", got)
	}
	o.config.Blocklog.Keep = 365 * 24 * time.Hour
	if got := oldest(); got != firsts[len(firsts)-1] {
		t.Errorf("the oldest record is %d, want %d: all that is sealed and old is gone", got, firsts[len(firsts)-1])
	}
	if got := o.event(t, "blocklog.removed"); !strings.Contains(got, `"keep":"8760h0m0s"`) {
		t.Errorf("the removal is on record as %s", got)
	}
}

func TestRetentionNeedsToKnowWhatIsSealed(t *testing.T) {
	for _, c := range []struct{ setting, says string }{
		{"{dir: blocklog, keep: 8760h}", "sealed: missing"},
		{"{dir: blocklog, keep: 1h, sealed: x}", "24h or more"},
	} {
		if _, err := LoadConfig(write(t, strings.Replace(least, "{dir: blocklog}", c.setting, 1))); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.setting, err)
		}
	}
}
