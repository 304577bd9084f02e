package oversight

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cordon/audit"
)

// lines is a log whose lines can be waited for.
type lines struct {
	t  *testing.T
	ch chan map[string]any
}

func newLines(t *testing.T) *lines { return &lines{t: t, ch: make(chan map[string]any, 1000)} }

func (l *lines) Write(b []byte) (int, error) {
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return 0, err
	}
	l.ch <- m
	return len(b), nil
}

// until reads lines up to the first with a message, and gives them.
func (l *lines) until(msg string) (all []map[string]any) {
	l.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case m := <-l.ch:
			all = append(all, m)
			if m["msg"] == msg {
				return all
			}
		case <-deadline:
			l.t.Fatalf("no line %q after %v", msg, all)
		}
	}
}

func has(all []map[string]any, want map[string]any) bool {
	return slices.ContainsFunc(all, func(m map[string]any) bool {
		for k, v := range want {
			if text, ok := m[k].(string); m[k] != v && !(ok && strings.Contains(text, v.(string))) {
				return false
			}
		}
		return true
	})
}

func TestWatchSaysWhatChangesAndWhatIsFoundAndStopsWhenTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out := newLines(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ready := make(chan struct{})
	done := make(chan error, 1)
	d := w.desk()
	go func() {
		done <- d.Watch(ctx, 20*time.Millisecond, slog.New(slog.NewJSONHandler(out, nil)), func() { close(ready) })
	}()

	first := out.until("verified")
	<-ready
	for _, want := range []map[string]any{
		{"msg": "log grew", "log": "register", "size": 10.0},
		{"msg": "log grew", "log": "isp", "size": 8.0},
		{"msg": "leaf", "log": "register", "type": "published", "what": "list 2, 1 entry, adds [2026-0002], removes [2026-0001]"},
		{"msg": "leaf", "log": "isp", "type": "decisions", "what": "records 3 to 5: 3 blocks by 2026-0001"},
		{"msg": "publication verified"},
		{"msg": "found", "severity": "notice", "code": CodeAlias},
		{"msg": "verified", "alarms": 0.0, "warnings": 0.0},
	} {
		if !has(first, want) {
			t.Errorf("%v is missing in %v", want, first)
		}
	}
	if has(first, map[string]any{"msg": "leaf", "what": "propagande.example"}) {
		t.Error("a listed name stands in the program's log")
	}

	// A log is changed between two rounds, not in the middle of one.
	between := func(do func()) {
		t.Helper()
		unlock, err := w.desk().exclusive(t.Context())
		w.must(err)
		do()
		w.must(unlock())
	}

	// The log grows by a list that nobody published.
	applied := appliedOf(w.publications()[1])
	applied.Serial = 3
	between(func() {
		w.extend("isp", w.canonical(audit.Event{Type: "list.applied", Seq: 9, At: start, Data: w.canonical(applied)}))
	})
	second := out.until("verified")
	if !has(second, map[string]any{"msg": "leaf", "leaf": 8.0, "type": "list.applied"}) ||
		!has(second, map[string]any{"msg": "found", "level": "ERROR", "code": CodeListUnknown, "where": "isp, leaf 8, record 9, list 3"}) {
		t.Errorf("after a list that nobody published: %v", second)
	}
	if has(second, map[string]any{"code": CodeAlias}) {
		t.Errorf("what was said already is said again: %v", second)
	}

	// The log is rewritten.
	between(func() { w.rewrite("isp", w.leaves("isp")[:7]) })
	third := out.until("verified")
	if !has(third, map[string]any{"msg": "found", "level": "ERROR", "code": CodeShrunk}) {
		t.Errorf("after the log was cut: %v", third)
	}

	// The server is gone, which ends nothing.
	between(func() { w.must(os.RemoveAll(w.path("audit"))) })
	if fourth := out.until("verified"); !has(fourth, map[string]any{"msg": "cannot be mirrored; trying again each round", "log": "isp"}) {
		t.Errorf("after the server went: %v", fourth)
	}

	stop()
	if err := <-done; err != nil {
		t.Errorf("ended with %v", err)
	}
}
