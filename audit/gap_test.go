package audit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cordon/blocklog"
)

// segmentsOf lists the segment files, oldest first.
func (s *site) segmentsOf() []string {
	s.t.Helper()
	all, err := filepath.Glob(filepath.Join(s.blocklog, "*.blog"))
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// many gives n different names.
func many(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("n%d.example", i)
	}
	return out
}

// at is where a record stands: its segment and the offset in it.
func (s *site) at(seq uint64) (path string, offset int) {
	s.t.Helper()
	for _, path := range s.segmentsOf() {
		b, err := os.ReadFile(path)
		if err != nil {
			s.t.Fatal(err)
		}
		const header = 24
		for rest := b[header:]; len(rest) > 0; {
			r, length, err := blocklog.Decode(rest)
			if err != nil {
				s.t.Fatal(err)
			}
			if r.Seq == seq {
				return path, len(b) - len(rest)
			}
			rest = rest[length:]
		}
	}
	s.t.Fatalf("record %d is nowhere", seq)
	return "", 0
}

func flipByte(t *testing.T, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 1
	if err := os.WriteFile(path, b, 0o640); err != nil {
		t.Fatal(err)
	}
}

func TestWhatBecomesOfTheBlockLogBehindTheAuditorsBackIsOnRecord(t *testing.T) {
	sealed := newSite(t)
	sealed.block(many(60)...)
	sealed.seal()
	for _, c := range []struct {
		name  string
		do    func(s *site)
		story string // after "on, decisions 1-60, off, on"; what follows a ">" at the end is not looked at
	}{
		{"a damaged record that was not sealed yet", func(s *site) {
			s.block("x.example", "y.example", "z.example")
			path, offset := s.at(62)
			flipByte(s.t, path, offset+30)
		}, "decisions 61-61, gap damaged 62>63, decisions 63-63, off"},

		{"segments removed before they were sealed", func(s *site) {
			s.block(many(60)...)
			segments := s.segmentsOf()
			for _, path := range segments[:len(segments)-1] {
				if err := os.Remove(path); err != nil {
					s.t.Fatal(err)
				}
			}
		}, "gap removed 61>"},

		{"nothing is wrong with segments that retention took", func(s *site) {
			if removed, err := blocklog.Prune(s.blocklog, 61, noon.AddDate(0, 0, 1)); err != nil || len(removed) == 0 {
				s.t.Fatalf("removed %v, %v", removed, err)
			}
			s.block("x.example")
		}, "decisions 61-61, off"},

		{"the log was thrown away and begun anew", func(s *site) {
			if err := os.RemoveAll(s.blocklog); err != nil {
				s.t.Fatal(err)
			}
			s.block("x.example", "y.example")
		}, "gap rewritten 61>1, decisions 1-2, off"},

		{"begun anew, and grown past what was sealed", func(s *site) {
			if err := os.RemoveAll(s.blocklog); err != nil {
				s.t.Fatal(err)
			}
			s.block(slices.Repeat([]string{"x.example"}, 70)...)
		}, "gap rewritten 61>1, decisions 1-70, off"},

		{"the newest segment was cut back", func(s *site) {
			path, offset := s.at(60)
			if err := os.Truncate(path, int64(offset)); err != nil {
				s.t.Fatal(err)
			}
			s.block("x.example")
			s.block("y.example")
		}, "gap rewritten 61>1, decisions 1-61, off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := sealed.copy(t)
			c.do(s)
			s.seal()
			before := "on, decisions 1-60, off, on, "
			got := s.story()
			if len(got) < len(before) || got[:len(before)] != before {
				t.Fatalf("leaves are %s", got)
			}
			got = got[len(before):]
			if c.story[len(c.story)-1] == '>' {
				got = got[:min(len(got), len(c.story))]
			}
			if got != c.story {
				t.Errorf("leaves are\n%s, want\n%s", got, c.story)
			}
			gap := strings.Contains(got, "gap")
			report := s.verify()
			if found := slices.ContainsFunc(report.Findings, func(f Finding) bool { return f.Kind == FindingGap }); found != gap {
				t.Errorf("findings: %v", report.Findings)
			}
			if alarm := s.metric("cordon_audit_gaps_total") > 0; alarm != gap {
				t.Errorf("alarm is %v", alarm)
			}
			// And it goes on from there without another word.
			before = s.story()
			s.block("later.example")
			s.seal()
			if after := strings.TrimPrefix(s.story(), before); strings.Contains(after, "gap") || !strings.HasPrefix(after, ", on, decisions ") {
				t.Errorf("it went on with %s", after)
			}
			if again := s.verify(); len(again.Findings) != len(report.Findings) {
				t.Errorf("findings became %v", again.Findings)
			}
		})
	}
}

func TestABlockLogReplacedUnderARunningAuditorIsOnRecord(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.block("a.example", "b.example")
	l := s.open()
	sealer := s.sealer(l)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- sealer.Run(ctx) }()
	s.event("guard.held", struct{}{}) // sealed at once: the auditor is at the end
	if err := l.Published(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.blocklog); err != nil {
		t.Fatal(err)
	}
	s.event("started", struct{}{})
	if err := l.Published(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := s.story(), "on, decisions 1-2, guard.held 3, gap rewritten 4>1, started 1, off"; got != want {
		t.Errorf("leaves are\n%s, want\n%s", got, want)
	}
}
