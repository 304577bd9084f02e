package audit

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"cordon/audit/tlog"
	"cordon/blocklog"
)

// forge writes an audit log of given leaves with the auditor's own key, as who
// has taken the auditor over could.
func (s *site) forge(leaves [][]byte) {
	s.t.Helper()
	if err := os.RemoveAll(s.log); err != nil {
		s.t.Fatal(err)
	}
	l := s.open()
	if _, err := l.Append(s.t.Context(), leaves...); err != nil {
		s.t.Fatal(err)
	}
	if err := l.Close(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) raw() [][]byte {
	s.t.Helper()
	r, cp := s.reader()
	var all [][]byte
	for l, err := range r.Leaves(s.t.Context(), cp, 0) {
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, slices.Clone(l.Data))
	}
	return all
}

func TestWhatIsWrongWithALogIsFoundAndPlaced(t *testing.T) {
	replace := func(leaf int, old, new string) func(*testing.T, *site) {
		return func(t *testing.T, s *site) {
			leaves := s.raw()
			changed := strings.Replace(string(leaves[leaf]), old, new, 1)
			if changed == string(leaves[leaf]) {
				t.Fatalf("%q is not in %s", old, leaves[leaf])
			}
			leaves[leaf] = []byte(changed)
			s.forge(leaves)
		}
	}
	sealed := newSite(t) // on, started 1, decisions 2-3, list.applied 4, decisions 5-5, off
	sealed.event("started", struct{}{})
	sealed.block("a.example", "a.example")
	sealed.event("list.applied", map[string]any{"list": "ofac", "serial": 8})
	sealed.block("b.example")
	sealed.seal()
	for _, c := range []struct {
		name string
		do   func(t *testing.T, s *site)
		want []Finding // Kind, Leaf, First, Last
	}{
		{"nothing", func(*testing.T, *site) {}, nil},
		{"a leaf is left out", func(_ *testing.T, s *site) { s.forge(slices.Delete(s.raw(), 3, 4)) },
			[]Finding{{Kind: FindingHole, Leaf: 3, First: 4, Last: 4}}},
		{"a leaf is there twice", func(_ *testing.T, s *site) {
			l := s.raw()
			s.forge(slices.Insert(l, 3, l[2]))
		}, []Finding{{Kind: FindingOverlap, Leaf: 3, First: 2, Last: 3}}},
		{"a count is made smaller", replace(2, `"count":2`, `"count":1`),
			[]Finding{{Kind: FindingTally, Leaf: 2, First: 2, Last: 3}}},
		{"a name is changed", replace(4, `b.example`, `c.example`),
			[]Finding{{Kind: FindingTally, Leaf: 4, First: 5, Last: 5}}},
		{"a line is added", replace(4, `"tally":[`, `"tally":[{"action":"nodata","count":1,"entry":"E","list":"l","name":"z","qtype":"A","serial":1,"transport":"udp"},`),
			[]Finding{{Kind: FindingTally, Leaf: 4, First: 5, Last: 5}}},
		{"an event says something else", replace(3, `"serial":8`, `"serial":9`),
			[]Finding{{Kind: FindingTally, Leaf: 3, First: 4, Last: 4}}},
		{"a digest is changed", replace(3, `"sha256":"`, `"sha256":"0000`), []Finding{{Kind: FindingLeaf, Leaf: 3}, {Kind: FindingHole, Leaf: 4, First: 4, Last: 4}}},
		{"a type is written by its number", replace(4, `"qtype":"A"`, `"qtype":"TYPE1"`), nil},
		{"the auditor leaves a range out of its start", replace(0, `"next_seq":1`, `"next_seq":3`),
			[]Finding{{Kind: FindingHole, Leaf: 0, First: 1, Last: 2}, {Kind: FindingOverlap, Leaf: 1, First: 1, Last: 2}}},
		{"a record of the block log is changed", func(t *testing.T, s *site) {
			path, offset := s.at(5)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			// The same record with another name, and a right checksum.
			forged := newSite(t)
			forged.block("a.example", "b.example", "c.example", "d.example", "x.example")
			other, from := forged.at(5)
			o, err := os.ReadFile(other)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, append(b[:offset:offset], o[from:]...), 0o640); err != nil {
				t.Fatal(err)
			}
		}, []Finding{{Kind: FindingDigest, Leaf: 4, First: 5, Last: 5}}},
		{"a record of the block log is damaged", func(t *testing.T, s *site) {
			path, offset := s.at(3)
			flipByte(t, path, offset+30)
		}, []Finding{{Kind: FindingRecords, Leaf: 2, First: 2, Last: 3}}},
		{"the block log is gone", func(t *testing.T, s *site) {
			if err := os.RemoveAll(s.blocklog); err != nil {
				t.Fatal(err)
			}
		}, []Finding{{Kind: FindingRecords, Leaf: 1, First: 1, Last: 1}, {Kind: FindingRecords, Leaf: 2, First: 2, Last: 3},
			{Kind: FindingRecords, Leaf: 3, First: 4, Last: 4}, {Kind: FindingRecords, Leaf: 4, First: 5, Last: 5}}},
		{"a leaf is altered in its file", func(t *testing.T, s *site) {
			path := s.log + "/tile/entries/000.p/6"
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(string(b), "b.example", "x.example", 1)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, []Finding{{Kind: FindingDamaged, Leaf: 4}}},
		{"a leaf that is nothing", func(_ *testing.T, s *site) { s.forge(append(s.raw(), []byte("nothing"))) },
			[]Finding{{Kind: FindingLeaf, Leaf: 6}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := sealed.copy(t)
			c.do(t, s)
			report := s.verify()
			got := slices.Clone(report.Findings)
			for i := range got {
				if got[i].Detail == "" || !strings.Contains(got[i].String(), got[i].Kind) {
					t.Errorf("a finding without words: %+v", got[i])
				}
				got[i].Detail = ""
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("found %v", report.Findings)
			}
			if _, err := json.Marshal(report); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRangesWhoseRetentionHasPassedAreCountedAndNoFinding(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for range 3 {
		s.block(many(60)...)
		s.seal()
	}
	removed, err := blocklog.Prune(s.blocklog, 121, noon.AddDate(0, 0, 1))
	if err != nil || len(removed) == 0 {
		t.Fatalf("removed %v, %v", removed, err)
	}
	r := s.verify()
	if !r.OK() || r.Removed == 0 || r.Compared == 0 || r.Removed+r.Compared != 3 {
		t.Errorf("report is %+v", r)
	}
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.block("a.example")
	s.seal()
	r, cp := s.reader()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if report, err := Verify(ctx, r, cp, nil); err == nil {
		t.Errorf("report is %+v", report)
	}
}

func TestALogRewrittenWithTheAuditorsKeyIsToldByAnEarlierCheckpoint(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.block("a.example", "b.example")
	s.seal()
	_, held := s.reader()
	leaves := s.raw()
	leaves[1] = []byte(strings.Replace(string(leaves[1]), "a.example", "x.example", 1))
	s.forge(append(leaves, leaves[2]))
	r, now := s.reader()
	if err := r.Consistent(t.Context(), held, now); !strings.Contains(err.Error(), tlog.ErrForked.Error()) {
		t.Errorf("comparing gave %v", err)
	}
}
