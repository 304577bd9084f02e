package oversight

import (
	"bytes"
	"os"
	"slices"
	"testing"
)

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
		read := 0
		for cp, err := range s.m.readSightings(bytes.NewReader(data)) {
			if err != nil {
				break
			}
			if read++; cp.Origin != auditOrigin || cp.Size != 1 || cp.line != read {
				t.Fatalf("a checkpoint that nobody signed: %+v", cp)
			}
		}
		if whole := bytes.Count(data, []byte("\n")); read > whole {
			t.Fatalf("%d checkpoints in %d lines", read, whole)
		}
	})
}
