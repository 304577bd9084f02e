package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"cordon/audit"
	"cordon/audit/tlog"
	"cordon/blocklist"
	"cordon/blocklog"
	"cordon/test/await"
)

// asked is a question as both logs name it.
type asked struct{ name, qtype, transport string }

func (q asked) String() string { return q.name + " " + q.qtype + " over " + q.transport }

// blocklog reads the block log from its first record to its last, without a
// hole.
func (w *world) blocklog() []blocklog.Record {
	w.t.Helper()
	r, err := blocklog.OpenReader(w.path("resolver/blocklog"), 1)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	var all []blocklog.Record
	for {
		_, raw, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			w.t.Fatal(err)
		}
		record, _, err := blocklog.Decode(raw)
		if err != nil {
			w.t.Fatal(err)
		}
		if record.Seq != uint64(len(all))+1 {
			w.t.Fatalf("the block log has record %d after record %d", record.Seq, len(all))
		}
		all = append(all, record)
	}
}

// recorded is what a log holds.
type recorded struct {
	decisions map[asked]uint64 // by question
	others    uint64           // of the audit log: counted without their names, in a flood
	events    []string         // "KIND DATA", in order
	next      uint64           // number after the last record
}

// of gives the data of the events of a kind, in order.
func (r recorded) of(kind string) (data []string) {
	for _, e := range r.events {
		if d, ok := strings.CutPrefix(e, kind+" "); ok {
			data = append(data, d)
		}
	}
	return data
}

// written is what the block log holds.
func (w *world) written() recorded {
	w.t.Helper()
	all := recorded{decisions: map[asked]uint64{}, next: 1}
	for _, r := range w.blocklog() {
		if d := r.Decision; d != nil {
			all.decisions[asked{blocklog.NameText(d.Name), blocklog.TypeText(d.Type), d.Transport.String()}] += uint64(d.Count)
		} else {
			all.events = append(all.events, r.Event.Kind+" "+string(r.Event.Data))
		}
		all.next = r.Seq + 1
	}
	return all
}

// applied is what the block log says of lists that came into force, in order.
func (w *world) applied() (all []blocklist.Applied) {
	w.t.Helper()
	for _, data := range w.written().of("list.applied") {
		var a blocklist.Applied
		if err := json.Unmarshal([]byte(data), &a); err != nil {
			w.t.Fatalf("list.applied %s: %v", data, err)
		}
		all = append(all, a)
	}
	return all
}

// sealed is what the audit log holds, after its signature, its tree, each of
// its leaves and the records that they seal were verified.
func (w *world) sealed() (recorded, error) {
	w.t.Helper()
	none := recorded{}
	verifier, err := tlog.ReadVerifier(w.path("keys/audit.vkey"))
	if err != nil {
		return none, err
	}
	ctx := context.Background()
	reader := tlog.NewReader(tlog.FolderSource(w.path("audit")), verifier)
	checkpoint, err := reader.Checkpoint(ctx)
	if err != nil {
		return none, err
	}
	raw := audit.NewFolderRecords(w.path("resolver/blocklog"))
	defer raw.Close()
	report, err := audit.Verify(ctx, reader, checkpoint, raw)
	if err != nil {
		return none, err
	}
	if !report.OK() {
		w.t.Fatalf("the audit log does not verify: %v", report.Findings)
	}
	all := recorded{decisions: map[asked]uint64{}, next: report.Next}
	for l, err := range reader.Leaves(ctx, checkpoint, 0) {
		if err != nil {
			return none, err
		}
		leaf, err := audit.ParseLeaf(l.Data)
		if err != nil {
			return none, err
		}
		switch {
		case leaf.Event != nil:
			all.events = append(all.events, leaf.Event.Type+" "+string(leaf.Event.Data))
		case leaf.Decisions != nil:
			for _, other := range leaf.Decisions.Other {
				all.others += other.Count
			}
			for _, line := range leaf.Decisions.Tally {
				all.decisions[asked{line.Name, line.Qtype, line.Transport}] += line.Count
			}
		}
	}
	return all, nil
}

// sealsEverything waits until the audit log covers the block log, which does
// not grow meanwhile, and compares the two.
func (w *world) sealsEverything() {
	w.t.Helper()
	written := w.written()
	var sealed recorded
	await.Nil(w.t, fmt.Sprintf("the audit log covers the block log up to record %d", written.next-1), func() (err error) {
		if sealed, err = w.sealed(); err == nil && sealed.next != written.next {
			err = fmt.Errorf("it covers those up to %d", sealed.next-1)
		}
		return err
	})
	if sealed.others == 0 {
		w.sameDecisions("the audit log", sealed.decisions, written.decisions)
	} else if got, want := sum(sealed.decisions)+sealed.others, sum(written.decisions); got != want {
		w.t.Errorf("the audit log holds %d decisions, the block log %d", got, want)
	}
	if !slices.Equal(sealed.events, written.events) {
		w.t.Errorf("the audit log's events are\n%s\nthe block log's are\n%s", strings.Join(sealed.events, "\n"), strings.Join(written.events, "\n"))
	}
}

// sameDecisions compares what a log counts with what it should.
func (w *world) sameDecisions(log string, got, want map[asked]uint64) {
	w.t.Helper()
	both := maps.Clone(want)
	maps.Copy(both, got)
	for _, q := range sorted(both) {
		if got[q] != want[q] {
			w.t.Errorf("%s holds %v %d times, not %d times", log, q, got[q], want[q])
		}
	}
}

func sorted(counts map[asked]uint64) []asked {
	return slices.SortedFunc(maps.Keys(counts), func(a, b asked) int { return strings.Compare(a.String(), b.String()) })
}

func sum(counts map[asked]uint64) (n uint64) {
	for c := range maps.Values(counts) {
		n += c
	}
	return n
}
