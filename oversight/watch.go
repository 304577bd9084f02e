package oversight

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"cordon/audit"
	"cordon/authority"
)

// Watch mirrors, and verifies where something changed, every interval until ctx
// ends; it returns nil then. It logs a line for each change and for each finding
// that is new. Nothing that is found, and no server that fails, ends it. ready is
// called after the first round.
func (d *Desk) Watch(ctx context.Context, interval time.Duration, log *slog.Logger, ready func()) error {
	w := &watch{desk: d, log: log, said: map[string]bool{}}
	for {
		w.round(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if ready != nil {
			ready()
			ready = nil
		}
		t := time.NewTimer(interval)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

type watch struct {
	desk     *Desk
	log      *slog.Logger
	said     map[string]bool // findings that were logged and still hold
	problems string          // what was wrong in the last round, of servers and of verifying
	verified bool            // nothing has changed since the last verification
}

// round is one look at everything.
func (w *watch) round(ctx context.Context) {
	steps, err := w.desk.Mirror(ctx, "")
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		steps = []Step{{Err: err}}
	}
	var problems []string
	for _, s := range steps {
		if s.To != s.From || len(s.Lists) > 0 {
			w.verified = false
			w.changes(ctx, s)
		}
		if s.Finding != nil {
			problems = append(problems, s.Finding.String())
		}
		if s.Err != nil {
			problems = append(problems, s.Err.Error())
			if !strings.Contains(w.problems, s.Err.Error()) {
				w.log.Warn("cannot be mirrored; trying again each round", "log", s.Name, "error", s.Err)
			}
		}
	}
	if now := strings.Join(problems, "\n"); now != w.problems {
		w.problems, w.verified = now, false
	}
	if !w.verified {
		w.verify(ctx)
	}
}

// verify verifies, and says what is new.
func (w *watch) verify(ctx context.Context) {
	r, err := w.desk.Verify(ctx)
	if ctx.Err() != nil {
		return
	}
	w.verified = true // until something changes
	if err != nil {
		w.log.Warn("cannot be verified; trying again when something changes", "error", err)
		return
	}
	said := map[string]bool{}
	for _, f := range r.Findings {
		key := f.String()
		said[key] = true
		if !w.said[key] {
			w.finding(f)
		}
	}
	w.said = said
	w.log.Info("verified", "alarms", r.Count(Alarm), "warnings", r.Count(Warning), "notices", r.Count(Notice), "not_checked", len(r.NotChecked))
}

func (w *watch) finding(f Finding) {
	level := map[Severity]slog.Level{Alarm: slog.LevelError, Warning: slog.LevelWarn}[f.Severity] // a notice is info
	w.log.Log(context.Background(), level, "found", "severity", f.Severity, "code", f.Code, "where", f.Where(), "what", f.What)
}

// maxSaid bounds the lines about one log in one round.
const maxSaid = 50

// changes says what is new in a log, a line for each leaf. Names on the list are
// confidential and stay out of the program's log: an entry's id stands for them.
func (w *watch) changes(ctx context.Context, s Step) {
	for _, version := range s.Lists {
		w.log.Info("publication verified", "targets_version", version)
	}
	if s.To == s.From {
		return
	}
	m, err := w.desk.log(s.Name)
	if err != nil {
		return
	}
	w.log.Info("log grew", "log", s.Name, "from", s.From, "size", s.To)
	from := s.From
	if s.To-from > maxSaid {
		from = s.To - maxSaid // "show" shows all
	}
	unlock, err := w.desk.shared(ctx)
	if err != nil {
		return
	}
	defer unlock()
	cp, err := m.copied(ctx)
	if err != nil {
		return // verification says why
	}
	for leaf, err := range m.local().Leaves(ctx, cp, from) {
		if err != nil {
			return
		}
		kind, what := describe(m, leaf.Index, leaf.Data)
		w.log.Info("leaf", "log", s.Name, "leaf", leaf.Index, "type", kind, "what", what)
	}
}

// describe says in a few words what a leaf is.
func describe(m *mirror, index uint64, data []byte) (kind, what string) {
	if m.kind == KindRegister {
		leaf, err := authority.ParseLeaf(data)
		if err != nil {
			return "unknown", err.Error()
		}
		return registerText(leaf)
	}
	leaf, err := audit.ParseLeaf(data)
	if err != nil {
		return "unknown", err.Error()
	}
	if h, ok := happening(m.name, index, leaf); ok {
		return leaf.Type, h.What
	}
	entries := map[string]uint64{}
	for _, line := range leaf.Decisions.Tally {
		entries[line.Entry] += line.Count
	}
	for _, o := range leaf.Decisions.Other {
		entries[o.Entry] += o.Count
	}
	var by []string
	for _, entry := range sorted(entries)[:min(maxSaid, len(entries))] {
		by = append(by, count(entries[entry], "block")+" by "+entry)
	}
	return leaf.Type, fmt.Sprintf("records %d to %d: %s", leaf.First, leaf.Last, strings.Join(by, ", "))
}

func registerText(leaf authority.Leaf) (kind, what string) {
	switch l := leaf.(type) {
	case *authority.Founded:
		return l.Type, l.Authority
	case *authority.Proposed:
		return l.Type, fmt.Sprintf("%s (%s), decision %s, by %s", l.ID, l.Category, l.Decision, l.By)
	case *authority.Stated:
		return l.Type, fmt.Sprintf("%s by %s", l.ID, l.By)
	case *authority.Published:
		return l.Type, fmt.Sprintf("list %d, %s, adds %v, removes %v", l.Serial, count(uint64(l.Entries), "entry"), l.Added, l.Removed)
	}
	return "unknown", ""
}
