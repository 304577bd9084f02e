package blocklist

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// trial is the part of a resolver on which lists are tried.
type trial struct {
	on         *Loaded
	tried      int
	part, rest Share
}

func (p *trial) canary() *Canary {
	return &Canary{For: time.Minute, Factor: 3, Least: 1000,
		Try: func(l *Loaded) error { p.on = l; p.tried++; return nil },
		End: func() (Share, Share) { p.on = nil; return p.part, p.rest },
	}
}

func TestANewListIsTriedFirst(t *testing.T) {
	for _, c := range []struct {
		name       string
		part, rest Share
		held       string // empty where it comes into force
	}{
		{"all is as before", Share{10000, 110}, Share{90000, 900}, ""},
		{"nobody asked", Share{}, Share{90000, 900}, ""},
		{"too few asked to tell", Share{999, 999}, Share{90000, 900}, ""},
		{"the first blocks of all", Share{10000, 30}, Share{90000, 0}, ""},
		{"a popular name is blocked", Share{10000, 400}, Share{90000, 900}, "blocked 4.00 % of the 10000 questions on which it was tried, where 1.00 % of 90000 are blocked now"},
		{"and nothing was before", Share{10000, 400}, Share{90000, 0}, "where 0.00 % of 90000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &trial{part: c.part, rest: c.rest}
			a := found(t)
			a.publish(42)
			r := enforcing(a, func(w *Config) { w.Canary = p.canary() }).refreshed()
			r.wantInForce(42, OriginFetch) // the first list has nothing to be compared with
			if p.tried != 0 {
				t.Error("the first list was tried")
			}
			a.publish(43, adding("new.example"))
			r.refreshed()
			if p.on == nil || p.on.List.Serial != 43 || r.blocks("new.example") {
				t.Fatal("serial 43 is not on trial, or in force already")
			}
			if wait := r.next(nil); wait > time.Minute {
				t.Errorf("the next look is in %v", wait)
			}
			a.clock.advance(59 * time.Second)
			r.refreshed()
			if p.on == nil || p.tried != 1 || r.blocks("new.example") {
				t.Fatal("a second too early")
			}
			a.clock.advance(time.Second)
			r.refreshed()
			if p.on != nil || r.blocks("new.example") != (c.held == "") {
				t.Fatalf("in force: %v", r.blocks("new.example"))
			}
			if c.held == "" {
				r.wantInForce(43, OriginFetch)
				return
			}
			r.wantEvents(1, "guard.held", `"guard":"canary"`, `"serial":43`, c.held)
			if !strings.Contains(r.logged.String(), c.held) {
				t.Error("the log does not say why")
			}
			r.refreshed().refreshed()
			r.wantEvents(1, "guard.held")
			if p.tried != 1 {
				t.Error("it was tried again")
			}
			again := r.start(a, func(w *Config) { w.Canary = p.canary() })
			again.Restore(t.Context())
			if again.refreshed(); again.blocks("new.example") || p.tried != 1 {
				t.Error("a restart forgot that it is held")
			}
			if err := again.ReleaseUpdate(43, someone); err != nil || !again.blocks("new.example") {
				t.Errorf("not released: %v", err)
			}
		})
	}
}

func TestATrialEndsWithTheNextList(t *testing.T) {
	p := new(trial)
	a := found(t)
	a.publish(42)
	r := enforcing(a, guarding(t, usual()), func(w *Config) { w.Canary = p.canary() }).refreshed()
	a.publish(43, adding("new.example"))
	r.refreshed()
	a.publish(44, adding("newer.example"))
	r.refreshed()
	if p.on == nil || p.on.List.Serial != 44 || p.tried != 2 {
		t.Error("serial 44 is not on trial in place of 43")
	}
	a.publish(45, adding(many(600)...))
	r.refreshed()
	if p.on != nil {
		t.Error("the trial goes on, though the source has another list, which is held")
	}
	r.wantInForce(42, OriginFetch)
}

// TestOneNodeInSoManyTriesAList holds that the share is right, and that the turn
// goes round.
func TestOneNodeInSoManyTriesAList(t *testing.T) {
	const nodes, serials, oneIn = 200, 50, 10
	chosen, turns := 0, map[int]bool{}
	for node := range nodes {
		for serial := range uint64(serials) {
			if Chosen(fmt.Sprint("node", node), "french", serial, oneIn) {
				chosen++
				turns[node] = true
			}
		}
	}
	if want := nodes * serials / oneIn; chosen < want*8/10 || chosen > want*12/10 || len(turns) < nodes*9/10 {
		t.Errorf("chosen %d times of %d, want about %d; %d of %d nodes had a turn", chosen, nodes*serials, want, len(turns), nodes)
	}
}

// waiting is a canary of a node whose turn it is not.
func (p *trial) waiting() *Canary {
	c := p.canary()
	c.Node, c.Wait = func(uint64) bool { return false }, time.Hour
	return c
}

func TestANodeWhoseTurnItIsNotWaits(t *testing.T) {
	p := &trial{part: Share{10000, 9000}}
	a := found(t)
	a.publish(42)
	r := enforcing(a, func(w *Config) { w.Canary = p.waiting() }).refreshed()
	a.publish(43, adding("new.example"))
	r.refreshed()
	a.clock.advance(time.Hour - time.Second)
	r.refreshed()
	if p.tried != 0 || r.blocks("new.example") {
		t.Fatal("it is tried or in force before others have tried it")
	}
	a.clock.advance(time.Second)
	r.refreshed()
	if p.tried != 0 {
		t.Error("it was tried all the same")
	}
	r.wantInForce(43, OriginFetch)
}

// TestAPersonHoldsWhatWaits is what is done when a trial went badly elsewhere.
func TestAPersonHoldsWhatWaits(t *testing.T) {
	p := new(trial)
	a := found(t)
	a.publish(42)
	r := enforcing(a, func(w *Config) { w.Canary = p.waiting() }).refreshed()
	if err := r.HoldUpdate(43, someone); err == nil || !strings.Contains(err.Error(), "neither on trial nor waiting") {
		t.Errorf("a list that is not there: %v", err)
	}
	a.publish(43, adding("new.example"))
	r.refreshed()
	if err := r.HoldUpdate(43, someone); err != nil {
		t.Fatal(err)
	}
	r.wantEvents(1, "override", `"action":"hold-update"`, `"serial":43`)
	if h := r.View().Held; h == nil || h.Serial != 43 || h.Added != 1 || r.View().HeldList == nil {
		t.Errorf("held is %+v", h)
	}
	a.clock.advance(2 * time.Hour)
	r.refreshed()
	again := r.start(a, func(w *Config) { w.Canary = p.waiting() })
	again.Restore(t.Context())
	if again.refreshed(); r.blocks("new.example") || again.blocks("new.example") {
		t.Fatal("it came into force")
	}
	if err := again.ReleaseUpdate(43, someone); err != nil || !again.blocks("new.example") {
		t.Errorf("not released: %v", err)
	}
}
