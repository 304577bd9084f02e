package iterate

import (
	"context"
	"sync"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
)

// Old answers are better than none when the servers cannot be reached (RFC 8767).
// What failed validation is no answer, and nothing old stands in for it.
//
// A question whose answer is at hand, if old, is looked up in the background. Who
// asks waits for that a moment, and not at all where it has failed lately; the
// look-up goes on without him, so that the next finds what it brings.

// stalePatience is how long the servers have to answer where there is something
// old to give (RFC 8767 §5, "client response timer").
const stalePatience = 1800 * time.Millisecond

// renewals are the questions that are looked up in the background, each once.
type renewals struct {
	mu    sync.Mutex
	under map[Question]chan struct{} // closed at the end; guarded by mu
}

// oldAnswer is the answer that the cache gives by itself, if something old is part
// of it; else nil.
func (r *Resolver) oldAnswer(ctx context.Context, q Request) *Result {
	if r.config.ServeStale <= 0 || q.CheckingDisabled || q.Renew > 0 {
		return nil
	}
	t := r.newTask(false)
	t.offline, t.quiet = true, true
	res := t.run(ctx, q)
	if t.aged == 0 || res.Rcode == dns.RcodeServerFailure {
		return nil
	}
	return res
}

// renew looks q up in the background and gives what comes of it, or old.
func (r *Resolver) renew(ctx context.Context, q Request, old *Result) *Result {
	done := r.startRenewal(q)
	if done == nil { // no place there: the same at the client's expense
		return r.resolve(ctx, q, stalePatience)
	}
	patience := time.NewTimer(stalePatience)
	defer patience.Stop()
	select {
	case <-done:
		return r.resolve(ctx, q, stalePatience) // from the cache, by now
	case <-patience.C:
	case <-ctx.Done():
	}
	// The renewal goes on, and is not to wait for the end of a TTL.
	old.TTL = min(old.TTL, failureTTL)
	return old
}

// startRenewal gives what is closed when q has been looked up; nil if there is no
// place for that.
func (r *Resolver) startRenewal(q Request) <-chan struct{} {
	n := &r.renewals
	n.mu.Lock()
	defer n.mu.Unlock()
	if done := n.under[q.Question]; done != nil {
		return done
	}
	done := make(chan struct{})
	if !r.background.start(r.background.renewals, func(ctx context.Context) {
		r.resolve(ctx, q, r.config.Limits.Time)
		n.mu.Lock()
		delete(n.under, q.Question)
		n.mu.Unlock()
		close(done)
	}) {
		return nil
	}
	n.under[q.Question] = done
	return done
}

// staleFor is the old entry for q.
func (r *Resolver) staleFor(q Question) (cache.RRset, bool) {
	if r.config.ServeStale <= 0 || q.Type == dns.TypeANY {
		return cache.RRset{}, false
	}
	if s, ok := r.cache.Stale(q.Name, q.Type); ok {
		return s, true
	}
	s, ok := r.cache.Stale(q.Name, dns.TypeCNAME)
	return s, ok && s.Kind == cache.Positive
}

// stale is the old answer to q, if f is a reason to give it.
func (t *task) stale(q Question, f *failure) *found {
	if t.cd || f.kind == bogusData || f.kind == cancelled {
		return nil
	}
	s, ok := t.r.staleFor(q)
	if !ok {
		return nil
	}
	t.aged++
	s.TTL = t.r.config.StaleTTL
	s.Code, s.Text = dns.ExtendedErrorCodeStaleAnswer, "its zone does not answer any more"
	if s.Kind == cache.NXDomain {
		s.Code = dns.ExtendedErrorCodeStaleNXDOMAINAnswer
	}
	setTTL(&s)
	return fromEntry(q, s)
}

// errOffline is why a task that asks nobody does not know something.
var errOffline = &failure{kind: unreachable, code: dns.ExtendedErrorCodeNoReachableAuthority, text: "not in the cache"}
