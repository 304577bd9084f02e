package oversight

import (
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"cordon/audit/tlog"
)

func TestALogThatDoesNotContinueWhatWasSeenIsEvidence(t *testing.T) {
	t.Parallel()
	altered := leavesOf(0, 300)
	altered[270] = []byte("another")
	dropped := slices.Delete(leavesOf(0, 301), 40, 41)
	for _, test := range []struct {
		name   string
		leaves [][]byte
		code   string
		leaf   uint64
		what   string
	}{
		{"one leaf altered", altered, CodeForked, 270, "leaf 270 is the first that differs"},
		{"one leaf altered and more added", append(slices.Clone(altered), leavesOf(300, 310)...), CodeForked, 270, "leaf 270 is the first that differs"},
		{"one leaf dropped", dropped, CodeForked, 40, "leaf 40 is the first that differs"},
		{"rewritten from the start", [][]byte{[]byte("x"), []byte("y")}, CodeShrunk, 0, "leaf 0 is the first that differs"},
		{"cut", leavesOf(0, 290), CodeShrunk, 290, "the leaves from 290 on are gone, those before are the same"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSmall(t)
			s.grow(leavesOf(0, 300)...)
			s.updated()
			s.rewrite(test.leaves)
			f := s.found()
			if f.Code != test.code || f.Log != "isp" || f.Leaf == nil || *f.Leaf != test.leaf || !strings.Contains(f.What, test.what) ||
				!strings.Contains(f.What, "300 leaves") || !strings.Contains(f.What, fmt.Sprint(len(test.leaves))) {
				t.Fatalf("found %v", f)
			}
			s.found() // the same again is not kept again
			paths, err := s.m.conflicts()
			if err != nil || len(paths) != 1 {
				t.Fatalf("evidence: %v, %v", paths, err)
			}
			s.checkEvidence(paths[0], int(test.leaf) < len(test.leaves))
		})
	}
}

// checkEvidence checks evidence as an expert would, with nothing else at hand.
func (s *small) checkEvidence(path string, differs bool) {
	s.t.Helper()
	e, err := readConflict(path)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, side := range []history{e.Ours, e.Served} {
		cp, err := tlog.ParseCheckpoint([]byte(side.Checkpoint), s.m.verifier)
		if err != nil {
			s.t.Fatal(err)
		}
		if !differs {
			continue
		}
		leaf := tlog.Leaf{Index: *e.Finding.Leaf}
		leaf.Data, err = base64.StdEncoding.DecodeString(side.Leaf)
		if err != nil {
			s.t.Fatal(err)
		}
		var proof [][]byte
		for _, h := range side.Proof {
			b, err := base64.StdEncoding.DecodeString(h)
			if err != nil {
				s.t.Fatal(err)
			}
			proof = append(proof, b)
		}
		if err := tlog.VerifyInclusion(cp, leaf, proof); err != nil {
			s.t.Error(err)
		}
	}
	if differs && e.Ours.Leaf == e.Served.Leaf {
		s.t.Error("both sides have the same leaf")
	}
}

func TestARewrittenLogOfTheWorldIsReportedByVerifyForGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mirror()
	honest := w.leaves("isp")
	altered := slices.Clone(honest)
	altered[3] = tamper(t, altered[3], func(m map[string]any) { m["last_seq"] = 4 })
	w.rewrite("isp", altered)
	if _, err := w.desk().Mirror(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	w.rewrite("isp", append(honest, honest[7])) // the keeper repents
	w.mirror()
	f := only(t, w.verify())
	if f.Code != CodeForked || f.Leaf == nil || *f.Leaf != 3 || !strings.Contains(f.What, "the evidence is "+w.path("official/logs/isp/conflicts")) {
		t.Fatalf("found %v", f)
	}
}

func TestACheckpointThatWasSeenBindsEvenIfItsLeavesNeverCame(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	s.grow(leavesOf(0, 300)...)
	if err := os.Remove(s.source + "/tile/entries/000"); err != nil {
		t.Fatal(err)
	}
	s.found()
	s.rewrite(leavesOf(1000, 1300))
	if f := s.found(); f.Code != CodeForked || !strings.Contains(f.What, "which leaves differ cannot be told") {
		t.Fatalf("found %v", f)
	}
}
