package iterate

import (
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
)

// Old answers are better than none when the servers cannot be reached (RFC 8767).
// What failed validation is no answer, and nothing old stands in for it.

// stalePatience is how long the servers have to answer where there is something
// old to give (RFC 8767 §5, "client response timer").
const stalePatience = 1800 * time.Millisecond

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
	s.TTL = t.r.config.StaleTTL
	s.Code, s.Text = dns.ExtendedErrorCodeStaleAnswer, "its zone does not answer any more"
	if s.Kind == cache.NXDomain {
		s.Code = dns.ExtendedErrorCodeStaleNXDOMAINAnswer
	}
	setTTL(&s)
	return fromEntry(q, s)
}
