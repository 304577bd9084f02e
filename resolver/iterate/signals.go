package iterate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// A zone's holder who changes keys wants to know whether resolvers have learned of
// it. Whenever the keys of a zone with trust anchors are fetched, its servers are
// told which of them are trusted here, in the name of a question (RFC 8145 §5.1).
// The name says nothing of any client.

// signals remembers when each zone was last told.
type signals struct {
	mu   sync.Mutex
	last map[string]time.Time // by zone; guarded by mu
}

// signalEvery is the least time between two signals to one zone; its keys may be
// fetched for several reasons.
const signalEvery = time.Hour

// maxSignalled is how many tags fit into a label.
const maxSignalled = 12

// signal tells the servers of zone, in the background.
func (r *Resolver) signal(zone string) {
	if !r.config.SignalAnchors || !r.hasAnchors(zone) {
		return
	}
	now := r.config.Clock()
	r.signals.mu.Lock()
	last, ok := r.signals.last[zone]
	due := !ok || now.Sub(last) >= signalEvery || now.Before(last)
	if due {
		r.signals.last[zone] = now // zones with anchors are few
	}
	r.signals.mu.Unlock()
	if !due {
		return
	}
	q := Question{signalName(zone, (*r.anchors.Load())[zone]), dns.TypeNULL}
	r.background.start(r.background.errands, func(ctx context.Context) {
		ctx, cancel := context.WithTimeoutCause(ctx, r.config.Limits.Time, errOutOfTime)
		defer cancel()
		// Past the cache: what is known of the name is no matter (RFC 8145 §5.3).
		t := r.newTask(true)
		z, err := t.zoneAt(ctx, zone)
		if err != nil {
			return // it will be told when its keys are fetched again
		}
		_, _ = t.ask(ctx, t.cursor(z), q) // the question was the message
	})
}

// signalName is _ta-, and the tags in hexadecimal from low to high, below zone.
func signalName(zone string, anchors []dns.RR) string {
	var tags []string
	for _, rr := range anchors {
		tag := fmt.Sprintf("%04x", tagOf(rr))
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return "_ta-" + strings.Join(tags[:min(len(tags), maxSignalled)], "-") + "." + strings.TrimPrefix(zone, ".")
}

// tagOf is the key tag of a trust anchor.
func tagOf(rr dns.RR) uint16 {
	switch a := rr.(type) {
	case *dns.DS:
		return a.KeyTag
	case *dns.DNSKEY:
		return a.KeyTag()
	}
	return 0
}
