package blocklog

import (
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"time"
)

func TestAReaderFollowsALiveWriterAcrossRotation(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{SegmentBytes: 300})
	r, err := OpenReader(dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	next := uint64(1)
	for round := range 30 {
		batch := []Decision{decision("a.example", 1), decision("b.example", 1), decision("c.example", 1)}[:1+round%3]
		mustAppend(t, j, batch...)
		got := drain(t, r, next)
		if len(got) != len(batch) {
			t.Fatalf("round %d: read %d records of %d", round, len(got), len(batch))
		}
		next += uint64(len(got))
		if r.At() != next {
			t.Fatalf("At is %d, want %d", r.At(), next)
		}
		if err := r.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if firsts, _ := segments(dir); len(firsts) < 5 {
		t.Fatalf("only %d segments", len(firsts))
	}
}

func TestATornRecordAtTheEndOfTheNewestSegmentIsNoError(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	mustAppend(t, j, decision("a.example", 1))
	j.Close()
	path := segmentPath(dir, 1)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		if err := os.WriteFile(path, whole[:cut], 0o640); err != nil {
			t.Fatal(err)
		}
		r, err := OpenReader(dir, 1)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if _, _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if err := os.WriteFile(path, whole, 0o640); err != nil { // same file, now complete
			t.Fatal(err)
		}
		if rec, _, err := r.Next(); err != nil || rec.Seq != 1 {
			t.Fatalf("cut at %d, then completed: %v", cut, err)
		}
		r.Close()
	}
}

func TestReadersOfAnEmptyOrPrunedJournal(t *testing.T) {
	dir := t.TempDir()
	r, err := OpenReader(dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Fatalf("empty folder: %v", err)
	}
	if oldest, next, err := Bounds(dir); oldest != 1 || next != 1 || err != nil {
		t.Fatalf("bounds of an empty folder: %d, %d, %v", oldest, next, err)
	}

	now := noon
	j := open(t, dir, Options{SegmentBytes: 1, Clock: func() time.Time { return now }})
	for range 5 {
		mustAppend(t, j, decision("a.example", 1))
		now = now.Add(time.Hour)
	}
	if got := drain(t, r, 1); len(got) != 5 {
		t.Fatalf("the reader of the empty folder read %d records", len(got))
	}

	removed, err := Prune(dir, 4, noon.Add(100*time.Hour)) // 1, 2 and 3 are sealed
	if err != nil || len(removed) != 3 {
		t.Fatalf("pruned %v, %v", removed, err)
	}
	if _, err := OpenReader(dir, 3); !errors.Is(err, ErrRemoved) {
		t.Errorf("a removed record was asked for: %v", err)
	}
	if oldest, next, err := Bounds(dir); oldest != 4 || next != 6 || err != nil {
		t.Errorf("bounds are %d, %d, %v", oldest, next, err)
	}
	if got := readAll(t, dir, 4); len(got) != 2 {
		t.Errorf("%d records are left, want 2", len(got))
	}
}

func TestPruneKeepsWhatIsYoungUnsealedOrNewest(t *testing.T) {
	for _, c := range []struct {
		name    string
		sealed  uint64
		before  time.Time
		removed int
	}{
		{"nothing sealed", 1, noon.Add(100 * time.Hour), 0},
		{"all sealed and old: the newest stays", 6, noon.Add(100 * time.Hour), 4},
		{"all sealed, two old enough", 6, noon.Add(2*time.Hour + time.Second), 2},
		{"a record at the very limit is kept", 6, noon.Add(time.Hour), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			now := noon
			j := open(t, dir, Options{SegmentBytes: 1, Clock: func() time.Time { return now }})
			for range 5 {
				mustAppend(t, j, decision("a.example", 1))
				now = now.Add(time.Hour)
			}
			removed, err := Prune(dir, c.sealed, c.before)
			if err != nil || len(removed) != c.removed {
				t.Errorf("removed %v, %v; want %d", removed, err, c.removed)
			}
			mustAppend(t, j, decision("b.example", 1))
			if got := readAll(t, dir, uint64(c.removed)+1); len(got) != 6-c.removed {
				t.Errorf("%d records are left", len(got))
			}
		})
	}
}

func TestDamageInClosedSegments(t *testing.T) {
	build := func(t *testing.T) string {
		dir := t.TempDir()
		j := open(t, dir, Options{SegmentBytes: 100}) // two records a segment
		for range 6 {
			mustAppend(t, j, decision("a.example", 1))
		}
		j.Close()
		if firsts, _ := segments(dir); !slices.Equal(firsts, []uint64{1, 3, 5}) {
			t.Fatalf("segments are %v", firsts)
		}
		return dir
	}
	rewrite := func(t *testing.T, path string, change func([]byte) []byte) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(b), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	size := len(appendDecision(nil, 1, 0, new(decision("a.example", 1))))
	for _, c := range []struct {
		name      string
		break_    func(t *testing.T, dir string)
		seq       uint64 // where damage is reported
		segment   uint64
		offset    int
		continue_ uint64 // where Skip goes on
	}{
		{"the tail of a closed segment is cut off", func(t *testing.T, dir string) {
			rewrite(t, segmentPath(dir, 3), func(b []byte) []byte { return b[:len(b)-1] })
		}, 4, 3, headerSize + size, 5},
		{"a whole record is cut off", func(t *testing.T, dir string) {
			rewrite(t, segmentPath(dir, 3), func(b []byte) []byte { return b[:len(b)-size] })
		}, 4, 3, headerSize + size, 5},
		{"a record is taken out of the middle", func(t *testing.T, dir string) {
			rewrite(t, segmentPath(dir, 3), func(b []byte) []byte { return slices.Delete(b, headerSize, headerSize+size) })
		}, 3, 3, headerSize, 4},
		{"a segment is gone", func(t *testing.T, dir string) {
			if err := os.Remove(segmentPath(dir, 3)); err != nil {
				t.Fatal(err)
			}
		}, 3, 1, headerSize + 2*size, 5},
		{"a header is overwritten", func(t *testing.T, dir string) {
			rewrite(t, segmentPath(dir, 3), func(b []byte) []byte { b[0] = 'X'; return b })
		}, 3, 3, 0, 3},
		{"bytes are added to a closed segment", func(t *testing.T, dir string) {
			rewrite(t, segmentPath(dir, 3), func(b []byte) []byte { return append(b, 0) })
		}, 5, 3, headerSize + 2*size, 5},
		{"a record is repeated", func(t *testing.T, dir string) {
			rewrite(t, segmentPath(dir, 3), func(b []byte) []byte { return append(b, b[headerSize:headerSize+size]...) })
		}, 5, 3, headerSize + 2*size, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := build(t)
			c.break_(t, dir)
			r, err := OpenReader(dir, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for {
				if _, _, err = r.Next(); err != nil {
					break
				}
			}
			var d *DamageError
			if !errors.As(err, &d) {
				t.Fatalf("reading ended with %v", err)
			}
			if d.Seq != c.seq || d.Path != segmentPath(dir, c.segment) || d.Offset != int64(c.offset) {
				t.Errorf("damage is %v; want record %d in segment %d at %d", d, c.seq, c.segment, c.offset)
			}
			next, err := r.Skip()
			if err != nil || next != c.continue_ {
				t.Fatalf("Skip went to %d, %v; want %d", next, err, c.continue_)
			}
			if got := drain(t, r, c.continue_); len(got) != int(6-c.continue_+1) {
				t.Errorf("%d records follow", len(got))
			}
		})
	}
}

func TestTheNewestSegmentCutBehindAReaderIsDamage(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	mustAppend(t, j, decision("a.example", 1))
	r, err := OpenReader(dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	drain(t, r, 1)
	if err := os.Truncate(segmentPath(dir, 1), headerSize); err != nil {
		t.Fatal(err)
	}
	var d *DamageError
	if _, _, err := r.Next(); !errors.As(err, &d) {
		t.Fatalf("the cut is reported as %v", err)
	}
}

func TestTheNewestSegmentReplacedUnderAReaderIsDamage(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	mustAppend(t, j, decision("a.example", 1))
	r, err := OpenReader(dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	drain(t, r, 1)
	j.Close()
	if err := os.Remove(segmentPath(dir, 1)); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, Options{}) // begins anew with record 1
	mustAppend(t, j, decision("b.example", 1))
	var d *DamageError
	if _, _, err := r.Next(); !errors.As(err, &d) {
		t.Fatalf("the replacement is reported as %v", err)
	}
	if _, err := r.Skip(); !errors.Is(err, io.EOF) {
		t.Fatalf("Skip gave %v", err)
	}
}

func TestASegmentOfANewerVersionIsRefusedByName(t *testing.T) {
	dir := t.TempDir()
	h := segmentHeader(1)
	h[11] = 2
	copy(h[headerSize-4:], crcOf(h[:headerSize-4]))
	if err := os.WriteFile(segmentPath(dir, 1), h, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil || errors.Is(err, errDamaged) {
		t.Fatalf("Open gave %v", err)
	}
}
