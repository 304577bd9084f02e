package resolver

import (
	"context"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
	"cordon/resolver/iterate"
	"cordon/resolver/policy"
	"cordon/resolver/transport"
	"cordon/resolver/wire"
)

// maxStored is the longest that a whole answer is kept (RFC 8767 §4 leaves the
// bound to us; a day is what others use).
const maxStored = 24 * time.Hour

// Resolve implements transport.Handler: it answers a packet that had to wait.
func (r *Resolver) Resolve(ctx context.Context, packet []byte, from transport.Meta) []byte {
	place, ok := r.fair.work.Begin(from.Peer.Addr(), r.clock())
	if !ok {
		return r.overWorked(packet, from)
	}
	cost := priceOfAQuestion
	defer func() { place.End(r.clock(), cost) }()
	ctx, cancel := context.WithTimeout(ctx, r.config.Recursion.Timeout)
	defer cancel()
	s := r.sessions.Get().(*session)
	defer r.sessions.Put(s)
	// The pool may let a session go, and what it has counted with it.
	defer s.tally.Flush()

	// While the packet waited for a worker the list may have changed and another
	// worker may have resolved the same question.
	reply, verdict := s.Answer(nil, packet, from)
	if verdict == transport.Later {
		s.spent = iterate.Spent{}
		reply = s.resolve(ctx, from)
		cost += price(s.spent)
	}
	if err := s.Commit(); err != nil {
		r.log.Error("a block decision could not be written down; its answer is withheld", "error", err)
		return nil
	}
	return reply
}

// resolve goes to the authoritative servers for the session's query, which is
// neither listed nor in the cache.
func (s *session) resolve(ctx context.Context, from transport.Meta) []byte {
	q := &s.query
	limit := q.Limit(from.Stream())
	if s.feeds != nil && s.screened.alias.Action() != 0 {
		return s.follow(ctx, from, limit)
	}
	stop, exempt := s.listed, s.exempt.covers(from)
	if exempt {
		stop = nil
	}
	for range 3 {
		result := s.iterator.Resolve(ctx, iterate.Request{
			Question:         iterate.Question{Name: wire.NameText(q.Name()), Type: q.Type},
			CheckingDisabled: q.CD,
			Stop:             stop,
			Quiet:            exempt,
		})
		s.spent.Add(result.Spent)
		lists := s.policy.Current()
		if result.Stopped == "" {
			return s.finish(ctx, result, lists, from, limit)
		}
		target, err := wire.ParseName(result.Stopped)
		if err != nil {
			break
		}
		if hit, listed := lists.Match(target); listed {
			return s.block(nil, lists, hit, target, from, limit)
		}
		// The entry at which the chain was stopped has been lifted since: go on.
	}
	return wire.AppendError(nil, q, dns.RcodeServerFailure, limit)
}

// finish stores what was resolved for those who ask next and makes the reply.
func (s *session) finish(ctx context.Context, result *iterate.Result, lists *policy.Generation, from transport.Meta, limit int) []byte {
	q := &s.query
	stored, err := wire.Store(outcome(q.Name(), q.Type, q.DO, q.CD, result))
	if err != nil {
		s.log.Warn("an answer cannot be packed", "error", err)
		return wire.AppendError(nil, q, dns.RcodeServerFailure, limit)
	}
	if s.feeds != nil {
		s.serversOf(ctx, s.screened.set, q.Name(), stored)
	}
	s.answers.Put(q.Name(), q.Type, q.DO, q.CD, stored, min(result.TTL, maxStored), s.clock())
	if s.exempt.covers(from) {
		return wire.Patch(nil, stored, q, 0, limit)
	}
	if hit, target := firstListed(lists, stored.Targets); target != nil {
		return s.block(nil, lists, hit, target, from, limit)
	}
	if s.feeds != nil {
		switch reply, verdict, done := s.screenAnswer(nil, lists, stored, from, limit); {
		case done && verdict == transport.Later:
			return s.follow(ctx, from, limit)
		case done:
			return reply
		}
	}
	s.tally.Observe(q.Name())
	return wire.Patch(nil, stored, q, 0, limit)
}

// listed tells the iterator where to stop: what a listed name resolves to is
// nobody's business.
func (r *Resolver) listed(target string) bool {
	name, err := wire.ParseName(target)
	if err != nil {
		return false // a name that cannot be written in wire form is in no list
	}
	_, hit := r.policy.Current().Match(name)
	return hit
}

// outcome is what the iterator brought, as wire.Store takes it.
func outcome(name []byte, qtype uint16, do, cd bool, result *iterate.Result) wire.Outcome {
	o := wire.Outcome{
		Name:      name,
		Type:      qtype,
		Rcode:     result.Rcode,
		Answer:    result.Answer,
		Authority: result.Authority,
		DO:        do,
		Secure:    result.Status == dnssec.Secure && !cd, // unchecked is not vouched for (RFC 6840 §5.9)
	}
	for _, e := range result.EDE {
		o.EDE = append(o.EDE, wire.EDE{Code: e.Code, Text: e.Text})
	}
	return o
}
