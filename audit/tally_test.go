package audit

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"cordon/audit/tlog"
	"cordon/audit/tlog/tlogtest"
	"cordon/blocklog"
)

// rawOf journals decisions and gives the records back as a reader sees them.
func rawOf(t *testing.T, decisions []blocklog.Decision) (records []blocklog.Record, raws [][]byte) {
	t.Helper()
	dir := tlogtest.Dir(t)
	j, err := blocklog.Open(dir, blocklog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range decisions {
		if err := j.Append(decisions[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := blocklog.OpenReader(dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range decisions {
		rec, raw, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		records, raws = append(records, rec), append(raws, append([]byte(nil), raw...))
	}
	return records, raws
}

// ranges seals decisions as a sealer without a clock would.
func ranges(t *testing.T, decisions []blocklog.Decision) []Decisions {
	t.Helper()
	records, raws := rawOf(t, decisions)
	var all []Decisions
	pending := newTally()
	for i := range records {
		fits, err := pending.add(records[i], raws[i])
		if err != nil {
			t.Fatal(err)
		}
		if !fits {
			all = append(all, pending.leaf())
			pending = newTally()
			if fits, err := pending.add(records[i], raws[i]); err != nil || !fits {
				t.Fatalf("record %d does not fit into an empty range: %v", records[i].Seq, err)
			}
		}
	}
	all = append(all, pending.leaf())
	next := 0
	for _, l := range all {
		text, err := blocklog.Canonical(l)
		if err != nil || len(text) > tlog.MaxLeaf {
			t.Fatalf("a leaf of %d bytes, %v", len(text), err)
		}
		if again, err := ParseLeaf(text); err != nil || again.First != l.FirstSeq || again.Last != l.LastSeq {
			t.Fatalf("the leaf is read back as %+v, %v", again, err)
		}
		hash := sha256.New()
		bytes := 0
		for l.FirstSeq <= uint64(next+1) && next < len(raws) && uint64(next+1) <= l.LastSeq {
			hash.Write(raws[next])
			bytes += len(raws[next])
			next++
		}
		if Digest(hash.Sum(nil)) != l.SHA256 || uint64(bytes) != l.Bytes {
			t.Fatalf("digest of records %d to %d is not over their raw bytes", l.FirstSeq, l.LastSeq)
		}
	}
	if next != len(raws) {
		t.Fatalf("leaves cover %d records of %d", next, len(raws))
	}
	return all
}

func TestTheTallyOfARangeMatchesACountByHand(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var decisions []blocklog.Decision
	byHand := map[string]uint64{}
	for range 2000 {
		d := decision(fmt.Sprintf("n%d.example", random.IntN(20)))
		d.Type = uint16(1 + random.IntN(2)*27)
		d.Transport = blocklog.Transport(1 + random.IntN(5))
		d.Action = blocklog.Action(1 + random.IntN(3))
		d.Count = uint32(1 + random.IntN(3))
		d.Matches[0].Entry = fmt.Sprintf("E-%d", random.IntN(2))
		if random.IntN(4) == 0 {
			d.Matches = append(d.Matches, blocklog.Match{List: "other", Serial: 1, Entry: "X"})
		}
		decisions = append(decisions, d)
		byHand[fmt.Sprintln(blocklog.NameText(d.Name), d.Type, d.Transport, d.Action, d.Matches)] += uint64(d.Count)
	}
	got := map[string]uint64{}
	for _, l := range ranges(t, decisions) {
		if len(l.Other) > 0 {
			t.Errorf("counted together: %v", l.Other)
		}
		for _, line := range l.Tally {
			qtype, err := blocklog.ParseType(line.Qtype)
			if err != nil {
				t.Fatal(err)
			}
			matches := append([]blocklog.Match{{List: line.List, Serial: line.Serial, Entry: line.Entry}}, line.Also...)
			got[fmt.Sprintln(line.Name, qtype, line.Transport, line.Action, matches)] += line.Count
		}
	}
	for k, n := range byHand {
		if got[k] != n {
			t.Errorf("%s: %d, want %d", k, got[k], n)
		}
	}
	if len(got) != len(byHand) {
		t.Errorf("%d lines, want %d", len(got), len(byHand))
	}
}

func TestAFloodOfRandomNamesBelowOneEntryIsCountedTogether(t *testing.T) {
	var decisions []blocklog.Decision
	for i := range 3000 {
		decisions = append(decisions, decision(fmt.Sprintf("r%d.flood.example", i)))
	}
	decisions = append(decisions, decision("r0.flood.example")) // has a line already
	quiet := decision("quiet.example")
	quiet.Matches[0].Entry = "E-2"
	decisions = append(decisions, quiet) // below another entry
	leaves := ranges(t, decisions)
	if len(leaves) != 1 {
		t.Fatalf("%d leaves", len(leaves))
	}
	l := leaves[0]
	if len(l.Tally) != MaxNames+1 {
		t.Errorf("%d lines, want %d", len(l.Tally), MaxNames+1)
	}
	if len(l.Other) != 1 || l.Other[0] != (Other{"ofac", 7, "E-1", 3000 - MaxNames}) {
		t.Errorf("counted together: %+v", l.Other)
	}
	for _, line := range l.Tally {
		if line.Name == "r0.flood.example" && line.Count != 2 {
			t.Errorf("a name that had a line was counted elsewhere: %+v", line)
		}
	}
}

func TestALeafThatWouldGrowTooLongIsSealedBefore(t *testing.T) {
	var decisions []blocklog.Decision
	for i := range 1500 { // an entry each, so no flood
		d := decision(fmt.Sprintf("%d.%s.example", i, strings.Repeat("a", 60)))
		d.Matches[0].Entry = fmt.Sprintf("E-%d", i)
		decisions = append(decisions, d)
	}
	if leaves := ranges(t, decisions); len(leaves) < 3 {
		t.Errorf("%d leaves", len(leaves))
	}
}

func TestOddNamesOfListsCannotMakeALeafTooLong(t *testing.T) {
	odd := strings.Repeat("\x01", 255)
	d := decision("a.example")
	d.Name = append(append([]byte{63}, strings.Repeat("\x00", 63)...), 0)
	d.Matches = nil
	for range blocklog.MaxMatches {
		d.Matches = append(d.Matches, blocklog.Match{List: odd, Serial: 1<<64 - 1, Entry: odd})
	}
	leaves := ranges(t, []blocklog.Decision{d, d, decision("b.example")})
	if len(leaves) != 1 || len(leaves[0].Tally) != 1 || len(leaves[0].Other) != 1 || leaves[0].Other[0].Count != 2 {
		t.Errorf("leaves are %+v", leaves)
	}
}

func FuzzParseLeaf(f *testing.F) {
	for _, s := range []string{
		`{"at":"2026-03-01T12:00:00Z","next_seq":1,"type":"auditor.started","version":"test"}`,
		`{"at":"2026-03-01T12:00:00Z","data":{"list":"ofac"},"seq":2,"sha256":"0000000000000000000000000000000000000000000000000000000000000000","type":"list.applied"}`,
		`{"at":"2026-03-01T12:00:00Z","detail":"x","expected_seq":5,"reason":"damaged","resume_seq":6,"type":"auditor.gap"}`,
		`{"bytes":90,"first_seq":1,"from":"2026-03-01T12:00:00Z","last_seq":1,"sha256":"0000000000000000000000000000000000000000000000000000000000000000","tally":[{"action":"stop-page","count":1,"entry":"E-1","list":"ofac","name":"a.example","qtype":"A","serial":7,"transport":"udp"}],"to":"2026-03-01T12:00:00Z","type":"decisions"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseLeaf(data)
		if err != nil {
			return
		}
		var v any = l.Event
		switch {
		case l.Decisions != nil:
			v = l.Decisions
		case l.Gap != nil:
			v = l.Gap
		case l.Mark != nil:
			v = l.Mark
		}
		if again, err := blocklog.Canonical(v); err != nil || string(again) != string(data) {
			t.Fatalf("%s is written back as %s, %v", data, again, err)
		}
	})
}

func TestLeavesOfOtherShapesAreRefused(t *testing.T) {
	const digest = `"sha256":"0000000000000000000000000000000000000000000000000000000000000000"`
	for name, text := range map[string]string{
		"no JSON":              `x`,
		"no object":            `[]`,
		"no type":              `{"seq":1}`,
		"white space":          `{ "at":"2026-03-01T12:00:00Z","next_seq":1,"type":"auditor.started","version":"test"}`,
		"an unknown field":     `{"at":"2026-03-01T12:00:00Z","extra":1,"next_seq":1,"type":"auditor.started","version":"test"}`,
		"a missing field":      `{"at":"2026-03-01T12:00:00Z","next_seq":1,"type":"auditor.started"}`,
		"a short digest":       `{"at":"2026-03-01T12:00:00Z","data":{},"seq":2,"sha256":"00","type":"x"}`,
		"a record 0":           `{"at":"2026-03-01T12:00:00Z","data":{},"seq":0,` + digest + `,"type":"x"}`,
		"a range backwards":    `{"bytes":9,"first_seq":2,"from":"2026-03-01T12:00:00Z","last_seq":1,` + digest + `,"tally":[],"to":"2026-03-01T12:00:00Z","type":"decisions"}`,
		"a time in a zone":     `{"at":"2026-03-01T12:00:00.10+01:00","next_seq":1,"type":"auditor.started","version":"test"}`,
		"the last number":      `{"at":"2026-03-01T12:00:00Z","data":{},"seq":18446744073709551615,` + digest + `,"type":"x"}`,
		"a digest in capitals": strings.Replace(`{"at":"2026-03-01T12:00:00Z","data":{},"seq":2,`+digest+`,"type":"x"}`, "00000", "ABCDE", 1),
	} {
		if l, err := ParseLeaf([]byte(text)); err == nil {
			t.Errorf("%s: accepted as %+v", name, l)
		}
	}
}
