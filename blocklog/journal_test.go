package blocklog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("CORDON_TEST_APPEND_UNTIL_KILLED"); dir != "" {
		appendUntilKilled(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func atNoon() time.Time { return noon }

// wire turns "www.example" into wire form.
func wire(name string) []byte {
	var b []byte
	for label := range strings.SplitSeq(name, ".") {
		b = append(b, byte(len(label)))
		b = append(b, label...)
	}
	return append(b, 0)
}

func decision(name string, count uint32) Decision {
	return Decision{
		Matches:   []Match{{List: "ofac", Serial: 7, Entry: "E-1"}},
		Name:      wire(name),
		Type:      1,
		Transport: UDP,
		Action:    StopPage,
		Count:     count,
	}
}

func open(t *testing.T, dir string, o Options) *Journal {
	t.Helper()
	if o.Clock == nil {
		o.Clock = atNoon
	}
	j, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func mustAppend(t *testing.T, j *Journal, d ...Decision) {
	t.Helper()
	if err := j.Append(d); err != nil {
		t.Fatal(err)
	}
}

// readAll reads from the record from on until io.EOF and checks that the
// numbers have no hole.
func readAll(t *testing.T, dir string, from uint64) []Record {
	t.Helper()
	r, err := OpenReader(dir, from)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return drain(t, r, from)
}

func drain(t *testing.T, r *Reader, next uint64) []Record {
	t.Helper()
	var all []Record
	for {
		rec, raw, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if rec.Seq != next {
			t.Fatalf("record %d follows %d", rec.Seq, next-1)
		}
		if again, n, err := Decode(raw); err != nil || n != len(raw) || again.Seq != rec.Seq {
			t.Fatalf("raw bytes of record %d are not its encoding: %v", rec.Seq, err)
		}
		next++
		all = append(all, rec)
	}
}

func names(records []Record) []string {
	var out []string
	for _, r := range records {
		if r.Decision != nil {
			out = append(out, fmt.Sprintf("%s×%d", NameText(r.Decision.Name), r.Decision.Count))
		} else {
			out = append(out, r.Event.Kind)
		}
	}
	return out
}

func TestDecisionsAndEventsAreReadBackInOneSequence(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	d := decision("www.propagande.example", 1)
	d.Matches = append(d.Matches, Match{List: "other", Serial: 1 << 40, Entry: "x"})
	d.Type, d.Transport, d.Action = 65, DoQ, Explained
	if err := j.Event("started", map[string]any{"version": "1", "lists": []string{"b", "a"}}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, d)
	if err := j.Event("stopped", struct{}{}); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, dir, 1)
	if want := []string{"started", "www.propagande.example×1", "stopped"}; !slices.Equal(names(got), want) {
		t.Fatalf("read %v, want %v", names(got), want)
	}
	if string(got[0].Event.Data) != `{"lists":["b","a"],"version":"1"}` {
		t.Errorf("data of the event is %s", got[0].Event.Data)
	}
	back := got[1].Decision
	if !slices.Equal(back.Matches, d.Matches) || back.Type != 65 || back.Transport != DoQ || back.Action != Explained {
		t.Errorf("decision came back as %+v", back)
	}
	if got[1].Time != noon.Unix() {
		t.Errorf("time is %d", got[1].Time)
	}
	if s := j.Stats(); s.Records != 3 || s.Next != 4 {
		t.Errorf("stats are %+v", s)
	}
}

func TestEqualDecisionsOfOneBatchAreMergedWithACount(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	a, b := decision("a.example", 1), decision("b.example", 2)
	aaaa := decision("a.example", 1)
	aaaa.Type = 28
	mustAppend(t, j, a, b, a, aaaa, b, a)
	mustAppend(t, j, a)
	big := decision("big.example", 1<<32-1)
	mustAppend(t, j, big, big) // the sum does not fit
	want := []string{"a.example×3", "b.example×4", "a.example×1", "a.example×1", "big.example×4294967295", "big.example×4294967295"}
	if got := names(readAll(t, dir, 1)); !slices.Equal(got, want) {
		t.Fatalf("read %v, want %v", got, want)
	}
}

func TestAppendRefusesWhatARecordCannotHold(t *testing.T) {
	j := open(t, t.TempDir(), Options{})
	for name, change := range map[string]func(*Decision){
		"no name":                func(d *Decision) { d.Name = nil },
		"upper case":             func(d *Decision) { d.Name = wire("A.example") },
		"name without end":       func(d *Decision) { d.Name = []byte("\x01a") },
		"bytes after the name":   func(d *Decision) { d.Name = append(wire("a"), 0) },
		"compressed name":        func(d *Decision) { d.Name = []byte{0xc0, 0x0c} },
		"name too long":          func(d *Decision) { d.Name = wire(strings.Repeat("abcdefg.", 32) + "a") },
		"no transport":           func(d *Decision) { d.Transport = 0 },
		"no action":              func(d *Decision) { d.Action = 9 },
		"no match":               func(d *Decision) { d.Matches = nil },
		"list without name":      func(d *Decision) { d.Matches[0].List = "" },
		"entry name of 256":      func(d *Decision) { d.Matches[0].Entry = strings.Repeat("e", 256) },
		"more matches than fit":  func(d *Decision) { d.Matches = slices.Repeat(d.Matches, MaxMatches+1) },
		"an unknown high action": func(d *Decision) { d.Action = 255 },
	} {
		d := decision("a.example", 1)
		change(&d)
		if err := j.Append([]Decision{decision("ok.example", 1), d}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := j.Event("Not A Kind", nil); err == nil {
		t.Error("an event type with spaces was accepted")
	}
	if err := j.Event("auditor.gap", struct{}{}); err == nil {
		t.Error("an event that passes for one of the auditor's was accepted")
	}
	if err := j.Event("x", []int{1}); err == nil {
		t.Error("event data that is not an object was accepted")
	}
	if err := j.Event("x", map[string]any{"v": 1.5}); err == nil {
		t.Error("event data with a fraction was accepted")
	}
	if err := j.Event("x", map[string]any{"v": strings.Repeat("v", MaxEventData)}); err == nil {
		t.Error("event data longer than a leaf was accepted")
	}
	if next := j.Stats().Next; next != 1 {
		t.Errorf("what was refused took %d numbers", next-1)
	}
}

func TestSegmentsRotateAndTheSequenceRunsOnOverRestarts(t *testing.T) {
	dir := t.TempDir()
	const restarts, each = 4, 25
	for range restarts {
		j, err := Open(dir, Options{SegmentBytes: 500, Clock: atNoon})
		if err != nil {
			t.Fatal(err)
		}
		if r := j.Repaired(); r != (Repair{}) {
			t.Fatalf("a journal in order was repaired: %+v", r)
		}
		for range each {
			mustAppend(t, j, decision("a.example", 1))
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := readAll(t, dir, 1); len(got) != restarts*each {
		t.Fatalf("read %d records, want %d", len(got), restarts*each)
	}
	for from := uint64(1); from <= restarts*each; from++ {
		if got := readAll(t, dir, from); len(got) != int(restarts*each-from+1) {
			t.Fatalf("reading from %d gave %d records", from, len(got))
		}
	}
	firsts, err := segments(dir)
	if err != nil || len(firsts) < 10 {
		t.Fatalf("segments are %v, %v", firsts, err)
	}
	info, err := os.Stat(segmentPath(dir, firsts[0]))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("segment has mode %v, %v; want 0640", info.Mode(), err)
	}
}

func TestASecondJournalOnTheSameFolderIsTold(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blocklog")
	j := open(t, dir, Options{})
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("second Open gave %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, Options{})
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("folder has mode %v, %v; want 0750", info.Mode(), err)
	}
}

func TestAClosedJournalTakesNothing(t *testing.T) {
	j := open(t, t.TempDir(), Options{})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Append([]Decision{decision("a.example", 1)}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Append gave %v", err)
	}
	if err := j.Close(); err != nil {
		t.Errorf("second Close gave %v", err)
	}
}

func TestConcurrentAppendsLeaveNoHole(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{SegmentBytes: 4000, SyncInterval: time.Millisecond})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				if err := j.Append([]Decision{decision(fmt.Sprintf("w%d-%d.example", w, i), 1)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := names(readAll(t, dir, 1))
	slices.Sort(got)
	if len(slices.Compact(got)) != 400 {
		t.Fatalf("%d different records, want 400", len(got))
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	j := open(t, t.TempDir(), Options{SyncInterval: time.Hour})
	batch := []Decision{decision("a.example", 1), decision("b.example", 1), decision("a.example", 1)}
	mustAppend(t, j, batch...) // grows the buffers
	allocs := testing.AllocsPerRun(100, func() {
		if err := j.Append(batch); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("Append allocates %v times", allocs)
	}
}

func TestATornTailIsCutAtOpenAndReported(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	mustAppend(t, j, decision("a.example", 1))
	mustAppend(t, j, decision("b.example", 1))
	j.Close()
	path := segmentPath(dir, 1)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, n, err := Decode(whole[headerSize:])
	if err != nil {
		t.Fatal(err)
	}
	afterFirst := headerSize + n
	for cut := range len(whole) {
		if err := os.WriteFile(path, whole[:cut], 0o640); err != nil {
			t.Fatal(err)
		}
		j, err := Open(dir, Options{Clock: atNoon})
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		mustAppend(t, j, decision("c.example", 1))
		j.Close()
		want, torn := []string{"c.example×1"}, cut-headerSize
		if cut < headerSize {
			torn = cut
		}
		if cut >= afterFirst {
			want, torn = []string{"a.example×1", "c.example×1"}, cut-afterFirst
		}
		if got := names(readAll(t, dir, 1)); !slices.Equal(got, want) {
			t.Fatalf("cut at %d: read %v, want %v", cut, got, want)
		}
		if r := j.Repaired(); r.Bytes != int64(torn) || r.Damage != "" {
			t.Fatalf("cut at %d: repair is %+v, want %d bytes", cut, r, torn)
		}
	}
}

func TestDamageBeforeTheTailIsKeptNamedAndNeverSkippedSilently(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	for _, n := range []string{"a.example", "b.example", "c.example"} {
		mustAppend(t, j, decision(n, 1))
	}
	j.Close()
	path := segmentPath(dir, 1)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, n, err := Decode(whole[headerSize:])
	if err != nil {
		t.Fatal(err)
	}
	second := headerSize + n
	whole[second+frameSize+keyOffset+7] ^= 1
	if err := os.WriteFile(path, whole, 0o640); err != nil {
		t.Fatal(err)
	}

	j = open(t, dir, Options{})
	if r := j.Repaired(); r.Path != path || r.Offset != int64(second) || r.Bytes != 0 || r.Damage == "" {
		t.Errorf("repair is %+v", r)
	}
	mustAppend(t, j, decision("d.example", 1))
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, whole) {
		t.Errorf("the damaged segment was changed (%v)", err)
	}

	r, err := OpenReader(dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if rec, _, err := r.Next(); err != nil || rec.Seq != 1 {
		t.Fatalf("first record: %v, %v", rec, err)
	}
	for range 2 { // it stays an error until skipped
		var damage *DamageError
		if _, _, err := r.Next(); !errors.As(err, &damage) || damage.Path != path || damage.Offset != int64(second) || damage.Seq != 2 {
			t.Fatalf("damage is reported as %v", err)
		}
	}
	if next, err := r.Skip(); err != nil || next != 3 {
		t.Fatalf("Skip went to %d, %v", next, err)
	}
	if got := names(drain(t, r, 3)); !slices.Equal(got, []string{"c.example×1", "d.example×1"}) {
		t.Fatalf("after the damage: %v", got)
	}
	// Who reads from behind it does not meet it; who asks for it does.
	if got := names(readAll(t, dir, 3)); !slices.Equal(got, []string{"c.example×1", "d.example×1"}) {
		t.Fatalf("from behind the damage: %v", got)
	}
	from2, err := OpenReader(dir, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer from2.Close()
	var damage *DamageError
	if _, _, err := from2.Next(); !errors.As(err, &damage) || damage.Seq != 2 {
		t.Fatalf("the damaged record was asked for: %v", err)
	}
}

func BenchmarkAppend(b *testing.B) {
	j, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	batch := []Decision{decision("www.propagande.example", 1)}
	b.ReportAllocs()
	for b.Loop() {
		if err := j.Append(batch); err != nil {
			b.Fatal(err)
		}
	}
}
