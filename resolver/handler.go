package resolver

import (
	"github.com/miekg/dns"

	"cordon/blocklist"
	"cordon/blocklog"
	"cordon/resolver/cookie"
	"cordon/resolver/iterate"
	"cordon/resolver/policy"
	"cordon/resolver/transport"
	"cordon/resolver/wire"
)

// session answers the packets of one reading goroutine: whatever the lists, the
// local zones and the cache can tell without waiting.
type session struct {
	*Resolver
	query wire.Query
	tally *blocklist.Tally // of the questions that are not blocked

	spent   iterate.Spent // on the question at hand
	part    part          // which lists it answers by
	counted bool          // the question at hand counts for a trial

	screened screened // what feeds say of the question at hand
	answered answered // what they are shown

	options []byte // storage of query.Options
	slip    bool   // whether the last throttled UDP question got nothing

	// Decisions since the last Commit, and the storage that they point into.
	decisions  []blocklog.Decision
	categories []string // of the enforced entry of each decision
	matches    []blocklog.Match
	names      []byte
	counters   []counter // that were used before
}

// Session implements transport.Handler.
func (r *Resolver) Session() transport.Session {
	s := r.newSession()
	s.part = r.reader()
	return s
}

func (r *Resolver) newSession() *session { return &session{Resolver: r, tally: r.traffic.Tally()} }

// Answer implements transport.Session. It reads top down as a packet goes.
func (s *session) Answer(dst, packet []byte, from transport.Meta) ([]byte, transport.Verdict) {
	q := &s.query
	err := q.Parse(packet)
	rcode, reply := wire.Rcode(err)
	if !reply {
		return dst, transport.Drop
	}
	limit := q.Limit(from.Stream())
	has := s.addOptions(from)
	if reply, verdict, throttled := s.throttle(dst, from, has, limit); throttled {
		return reply, verdict
	}
	if err == nil && has == cookie.Malformed {
		rcode = dns.RcodeFormatError
	}
	if s.feeds != nil && rcode == dns.RcodeNotImplemented {
		if reply, taken := s.notified(dst, packet, from); taken {
			return reply, transport.Reply
		}
	}
	if rcode != dns.RcodeSuccess {
		return wire.AppendError(dst, q, rcode, limit), transport.Reply
	}
	if !s.allowed(from.Peer) {
		reply := wire.AppendError(dst, q, dns.RcodeRefused, limit, wire.EDE{Code: dns.ExtendedErrorCodeProhibited})
		reply[len(dst)+3] &^= 0x80 // RA: for this client recursion is not available (RFC 1035 §4.1.1)
		return reply, transport.Reply
	}

	// Policy before the cache, so that a new listing holds at once.
	lists := s.lists()
	exempt := s.exempt.covers(from)
	if q.Class == dns.ClassINET {
		if !lists.Ready() {
			return wire.AppendError(dst, q, dns.RcodeServerFailure, limit, notReady), transport.Reply
		}
		if hit, listed := lists.Match(q.Name()); listed && !exempt {
			return s.block(dst, lists, hit, q.Name(), from, limit), transport.Reply
		}
	}
	if answer, here := s.local.Lookup(q.Name(), q.Type, q.Class); here && !(q.Class == dns.ClassINET && s.elsewhere.has(q.Name())) {
		return answer.Append(dst, q, limit), transport.Reply
	}
	if reply, refused := refuse(dst, q, limit); refused {
		return reply, transport.Reply
	}

	if s.feeds != nil {
		if reply, verdict, done := s.screen(dst, lists, from, limit, exempt); done {
			return reply, verdict
		}
	}

	now := s.clock()
	cached, ok := s.answers.Get(q.Name(), q.Type, q.DO, q.CD, now)
	if !ok {
		return dst, transport.Later
	}
	if exempt {
		return wire.Patch(dst, cached.Stored, q, cached.Age(now), limit), transport.Reply
	}
	if hit, target := firstListed(lists, cached.Targets); target != nil {
		return s.block(dst, lists, hit, target, from, limit), transport.Reply
	}
	if s.feeds != nil {
		if reply, verdict, done := s.screenAnswer(dst, lists, cached.Stored, from, limit); done {
			return reply, verdict
		}
	}
	s.tally.Observe(q.Name())
	if cached.Due(now) {
		s.renewals.add(q, cached.Left(now))
	}
	return wire.Patch(dst, cached.Stored, q, cached.Age(now), limit), transport.Reply
}

// notReady is said before the first list is in force (RFC 8914 §4.15).
var notReady = wire.EDE{Code: dns.ExtendedErrorCodeNotReady}

// block appends the reply that leads to the stop page and notes the decision
// for Commit. name is the listed one: the question's or a target's.
func (s *session) block(dst []byte, lists *policy.Generation, hit policy.Hit, name []byte, from transport.Meta, limit int) []byte {
	q := &s.query
	if s.refused() {
		s.journal.Refuse(1)
		return wire.AppendError(dst, q, dns.RcodeServerFailure, limit, unrecorded)
	}
	if s.counted {
		s.shares[s.part].blocked.Add(1)
	}
	reply, action := s.lead(dst, hit, limit)
	s.note(lists, hit, name, from, action)
	return reply
}

// note keeps a decision for Commit.
func (s *session) note(lists *policy.Generation, hit policy.Hit, name []byte, from transport.Meta, action blocklog.Action) {
	q := &s.query
	first := len(s.matches)
	s.matches = lists.AppendMatches(s.matches, hit, name)
	at := len(s.names)
	s.names = append(s.names, q.Name()...)
	s.decisions = append(s.decisions, blocklog.Decision{
		Matches:   s.matches[first:len(s.matches):len(s.matches)],
		Name:      s.names[at:len(s.names):len(s.names)],
		Type:      q.Type,
		Transport: from.Transport,
		Action:    action,
		Count:     1,
	})
	s.categories = append(s.categories, hit.Category())
}

// lead appends the reply for a listed name: to the stop page, or with a
// structured error for a client that asks for one.
func (s *session) lead(dst []byte, hit policy.Hit, limit int) ([]byte, blocklog.Action) {
	c := &s.config.Policy.StructuredErrors
	if c.Option != 0 {
		if _, asked := s.query.Option(c.Option); asked {
			return hit.AppendExplained(dst, &s.query, limit, &s.explanation)
		}
	}
	return hit.AppendReply(dst, &s.query, limit)
}

// firstListed finds the first target of an answer that is listed.
func firstListed(lists *policy.Generation, targets [][]byte) (policy.Hit, []byte) {
	for _, t := range targets {
		if hit, listed := lists.Match(t); listed {
			return hit, t
		}
	}
	return policy.Hit{}, nil
}

// refuse answers what is not resolved for anyone: classes other than IN, zone
// transfers and other meta types (RFC 6895 §3.1), questions that ask for no
// recursion (they could only read out what others asked), and ANY, which gets
// the short answer of RFC 8482 §4.2.
func refuse(dst []byte, q *wire.Query, limit int) ([]byte, bool) {
	switch {
	case q.Class != dns.ClassINET, !q.RD:
		return wire.AppendError(dst, q, dns.RcodeRefused, limit, wire.EDE{Code: dns.ExtendedErrorCodeNotAuthoritative}), true
	case q.Type == dns.TypeANY:
		var b wire.Builder
		b.Start(dst, q, limit)
		b.Answer(0, dns.TypeHINFO, 3600, []byte("\x07RFC8482\x00"))
		return b.Finish(dns.RcodeSuccess, false), true
	case q.Type == 0, q.Type == dns.TypeOPT, q.Type >= dns.TypeTKEY && q.Type < dns.TypeANY:
		return wire.AppendError(dst, q, dns.RcodeNotImplemented, limit), true
	}
	return nil, false
}
