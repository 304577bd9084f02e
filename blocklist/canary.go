package blocklist

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"cordon/signing"
)

// Canary is how a new list is tried on a part of the traffic before it is in force
// for all: a list that blocks far more of what is asked for than the one in force
// is held.
type Canary struct {
	For    time.Duration // how long a list is tried
	Factor float64       // the share of blocked answers may grow by this
	Least  uint64        // questions on trial below which nothing is said of the share

	// Node says whether this node of a fleet tries the list with a serial; nil for
	// always. The nodes that do not hold it back for Wait, so that a person hears of a
	// trial that went badly elsewhere before it is in force here.
	Node func(serial uint64) bool
	Wait time.Duration

	// Try puts a list in force for the part; End ends that, and gives what was
	// asked and blocked meanwhile there and elsewhere. Both are called by one
	// goroutine at a time.
	Try func(*Loaded) error
	End func() (part, rest Share)
}

// Share is how many questions were asked and how many of them were blocked.
type Share struct{ Asked, Blocked uint64 }

func (s Share) of() float64 {
	if s.Asked == 0 {
		return 0
	}
	return float64(s.Blocked) / float64(s.Asked)
}

// jumped says why a trial went badly; "" where it went well. What is blocked now is
// taken for one in Least at least, so that the first blocks of all are no jump.
func (c *Canary) jumped(part, rest Share) string {
	if part.Asked < c.Least || part.Asked == 0 {
		return ""
	}
	usual := max(rest.of(), 1/float64(max(c.Least, 1)))
	if part.of() <= c.Factor*usual {
		return ""
	}
	return fmt.Sprintf("blocked %.2f %% of the %d questions on which it was tried, where %.2f %% of %d are blocked now", 100*part.of(), part.Asked, 100*rest.of(), rest.Asked)
}

// trying is a list on trial, or one that waits while other nodes try it.
type trying struct {
	list     *Loaded // without an index
	accepted *signing.Accepted
	until    time.Time
	waits    bool
}

// Chosen says whether a node of a fleet tries a list: one node in oneIn does, by a
// hash of its name and the list's, another one with each serial. Nodes need not
// hear of each other for that. As long as a serial is not out nobody can tell whose
// turn it is without the names of the nodes.
func Chosen(node, list string, serial, oneIn uint64) bool {
	sum := sha256.Sum256(fmt.Appendf(nil, "cordon-canary/1\n%s\n%s\n%d\n", node, list, serial))
	return binary.BigEndian.Uint64(sum[:])%oneIn == 0
}

// tries tells whether a list is still on trial. When the time is up it may turn
// out to be held.
func (w *Watcher) tries(ctx context.Context, l *Loaded, a *signing.Accepted) (on bool, err error) {
	c := w.c.Canary
	h := w.standing.Held
	if c == nil || w.running == nil || h != nil && h.ListSHA256 == l.ListSHA256 && h.Released != nil {
		w.endTrial()
		return false, nil
	}
	now := w.c.Clock()
	if t := w.trying; t == nil || t.list.ListSHA256 != l.ListSHA256 {
		w.endTrial()
		if c.Node != nil && !c.Node(l.List.Serial) {
			w.trying = &trying{list: l, accepted: a, until: now.Add(c.Wait), waits: true}
			w.log.Info("list waits while other nodes try it", "serial", l.List.Serial, "for", c.Wait)
			return true, nil
		}
		built, err := l.reviewed(ctx, w.standing.clone(), w.c.Guard, w.running, now)
		if err == nil {
			err = c.Try(built)
		}
		if err != nil {
			return false, &refusal{reason: "policy", serial: l.List.Serial, target: l.TargetSHA256, err: fmt.Errorf("try list: %w", err)}
		}
		w.trying = &trying{list: l, accepted: a, until: now.Add(c.For)}
		w.log.Info("list is tried on a part of the traffic", "serial", l.List.Serial, "for", c.For)
		return true, nil
	}
	if now.Before(w.trying.until) {
		return true, nil
	}
	if w.trying.waits {
		w.endTrial()
		return false, nil
	}
	part, rest := w.endTrial()
	because := c.jumped(part, rest)
	if because == "" {
		w.log.Info("list has been tried", "serial", l.List.Serial, "asked", part.Asked, "blocked", part.Blocked)
		return false, nil
	}
	w.holdWhole(l, a, guardCanary, because, changeOf(w.running.List, l.List))
	return true, nil
}

// endTrial ends a trial, if there is one.
func (w *Watcher) endTrial() (part, rest Share) {
	t := w.trying
	w.trying = nil
	if t == nil || t.waits {
		return part, rest
	}
	return w.c.Canary.End()
}
