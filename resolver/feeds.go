package resolver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"cordon/blocklog"
	"cordon/resolver/iterate"
	"cordon/resolver/policy"
	"cordon/resolver/transport"
	"cordon/resolver/wire"
	"cordon/rpz/feed"
)

// The operator's own feeds (docs/decisions/0037-feeds.md). They come after the
// lists: a question is put to them when its name is not listed, and its answer
// when no name in it is. What they say is said again for each question, so that a
// new version holds at once, whatever is cached.

// feeds are the feeds, and the record of what they decide.
type feeds struct {
	*feed.Feeds
	log *feedLog
}

// stopPages tells feeds what they must not lead to, by the lists in force.
type stopPages struct{ r *Resolver }

// StopPageAddress implements feed.StopPages.
func (p stopPages) StopPageAddress(a netip.Addr) bool { return p.r.policy.Current().StopPageAddress(a) }

// StopPageName implements feed.StopPages.
func (p stopPages) StopPageName(name []byte) bool { return p.r.policy.Current().StopPageName(name) }

// openFeeds opens what the configuration names; without feeds r.feeds stays nil.
func (r *Resolver) openFeeds() error {
	c := &r.config.Feeds
	if len(c.Zones) == 0 {
		return nil
	}
	all, err := c.feeds()
	if err != nil {
		return err
	}
	log, err := r.openFeedLog()
	if err != nil {
		return fmt.Errorf("feeds.log: %w", err)
	}
	r.feeds = &feeds{log: log}
	dialer := &net.Dialer{}
	r.feeds.Feeds, err = feed.New(all, feed.Surroundings{
		Dir: c.Store, StopPages: stopPages{r}, Clock: r.clock, Dial: dialer.DialContext, Log: r.log,
	})
	if err != nil {
		return fmt.Errorf("feeds.%w", err)
	}
	r.registry.MustRegister(r.feeds.Collector())
	return nil
}

// extendedErrors are those of RESINFO: with feeds, also what these say.
func (c *Config) extendedErrors() []uint16 {
	if len(c.Feeds.Zones) == 0 {
		return extendedErrors
	}
	return append(slices.Clone(extendedErrors), blockedByFeed.Code)
}

// screened is what feeds have to say of the question at hand.
type screened struct {
	set   *feed.Set  // nil: nothing, or nothing more
	alias feed.Match // the rule whose alias is to be resolved; zero: none
}

// answered shows a stored answer to feeds (feed.Answer).
type answered struct {
	stored *wire.Stored
	at     int // records of the answer section before the next address
	passed int // addresses before that
}

// Target implements feed.Answer.
func (a *answered) Target(i int) []byte {
	if i >= len(a.stored.Targets) {
		return nil
	}
	return a.stored.Targets[i]
}

// Server implements feed.Answer.
func (a *answered) Server(i int) []byte {
	if i >= len(a.stored.Servers) {
		return nil
	}
	return a.stored.Servers[i]
}

// Address implements feed.Answer. Feeds ask for one after the other.
func (a *answered) Address(i int) (netip.Addr, bool) {
	if i < a.passed {
		a.at, a.passed = 0, 0
	}
	for {
		addr, is, ok := a.stored.Address(a.at)
		if !ok {
			return netip.Addr{}, false
		}
		a.at++
		if !is {
			continue
		}
		a.passed++
		if a.passed > i {
			return addr, true
		}
	}
}

// screen puts the session's question to the feeds, before the cache is asked. done
// says that reply and verdict are what becomes of it.
func (s *session) screen(dst []byte, lists *policy.Generation, from transport.Meta, limit int, exempt bool) (reply []byte, verdict transport.Verdict, done bool) {
	s.screened = screened{} // of the question before
	if exempt {
		return dst, 0, false
	}
	set := s.feeds.Current()
	s.screened.set = set
	m, final := set.Question(feed.Question{Name: s.query.Name(), Client: from.Peer.Addr()})
	if !final {
		return dst, 0, false // there is no rule, or the answer may trigger one that comes before it
	}
	return s.apply(dst, lists, m, from, limit)
}

// screenAnswer puts the question with its answer to the feeds; as screen.
func (s *session) screenAnswer(dst []byte, lists *policy.Generation, stored *wire.Stored, from transport.Meta, limit int) (reply []byte, verdict transport.Verdict, done bool) {
	set := s.screened.set
	if set == nil {
		return dst, 0, false
	}
	if set.NeedServers() && stored.Servers == nil {
		return dst, transport.Later, true // it was stored when no feed asked for them
	}
	s.answered = answered{stored: stored}
	m := set.Answer(feed.Question{Name: s.query.Name(), Client: from.Peer.Addr()}, &s.answered)
	if m.Action() == 0 {
		return dst, 0, false
	}
	return s.apply(dst, lists, m, from, limit)
}

// blockedByFeed is said with every answer of a feed (RFC 8914 §4.16). It is never
// one of those that speak of a list.
var blockedByFeed = wire.EDE{Code: dns.ExtendedErrorCodeBlocked}

// feedTTL bounds the TTL of what feeds answer, in seconds, as clients should
// follow a new version soon. It is the lists' default.
const feedTTL = 60

// apply does what a rule says.
func (s *session) apply(dst []byte, lists *policy.Generation, m feed.Match, from transport.Meta, limit int) (reply []byte, verdict transport.Verdict, done bool) {
	q := &s.query
	action := m.Action()
	switch action {
	case feed.Passthru:
		s.screened.set = nil // nothing is decided, so nothing is on record
		return dst, 0, false
	case feed.TCPOnly:
		if from.Stream() {
			s.screened.set = nil
			return dst, 0, false
		}
	case feed.LocalData:
		if m.Local().CName != nil {
			s.screened.alias = m // for a worker
			return dst, transport.Later, true
		}
		return s.ownRecords(dst, lists, &m, from, limit), transport.Reply, true
	}
	as, rcode := blocklog.NoData, dns.RcodeSuccess
	switch action {
	case feed.Drop:
		as = blocklog.Dropped
	case feed.TCPOnly:
		as = blocklog.TCPOnly
	case feed.NXDomain:
		as, rcode = blocklog.NXDomain, dns.RcodeNameError
	}
	if !s.feeds.log.write(q, &m, as, from) {
		return s.unrecordedFeed(dst, limit), transport.Reply, true
	}
	switch action {
	case feed.Drop:
		return dst, transport.Drop, true
	case feed.TCPOnly:
		return wire.AppendTruncated(dst, q, limit), transport.Reply, true
	}
	return s.empty(dst, &m, rcode, limit), transport.Reply, true
}

func (s *session) unrecordedFeed(dst []byte, limit int) []byte {
	return wire.AppendError(dst, &s.query, dns.RcodeServerFailure, limit, wire.EDE{Code: dns.ExtendedErrorCodeOther, Text: "the feeds' log cannot be written"})
}

// empty appends a negative answer. The SOA is made for the purpose and stands at the
// question's name, so that clients keep the answer (RFC 2308 §3) and do not learn
// which feeds there are.
func (s *session) empty(dst []byte, m *feed.Match, rcode, limit int) []byte {
	var b wire.Builder
	b.Start(dst, &s.query, limit)
	b.Authority(0, dns.TypeSOA, feedTTL, policy.SOA(uint64(m.Zone.SOA.Serial), feedTTL))
	return b.Finish(rcode, false, blockedByFeed)
}

// ownRecords appends the local data of a rule, or NODATA where it has none of the
// type or, by the lists of this moment, would lead to a stop page.
func (s *session) ownRecords(dst []byte, lists *policy.Generation, m *feed.Match, from transport.Meta, limit int) []byte {
	q := &s.query
	var b wire.Builder
	b.Start(dst, q, limit)
	as := blocklog.NoData
	for i := range m.Local().Records {
		r := &m.Local().Records[i]
		if r.Type != q.Type {
			continue
		}
		if r.Addr.IsValid() && lists.StopPageAddress(r.Addr) || r.Leads != nil && lists.StopPageName(r.Leads) {
			s.feeds.log.refused.Inc()
			continue
		}
		b.Answer(0, r.Type, min(r.TTL, feedTTL), r.Data)
		as = blocklog.LocalData
	}
	if !s.feeds.log.write(q, m, as, from) {
		return s.unrecordedFeed(dst, limit)
	}
	if as == blocklog.NoData {
		return s.empty(dst, m, dns.RcodeSuccess, limit)
	}
	return b.Finish(dns.RcodeSuccess, false, blockedByFeed)
}

// follow resolves the alias of the rule that holds, the ordinary way, and gives
// what it finds behind it. Rules are not applied again. What the alias leads to is
// subject to the lists like any name, but where one covers it there is no data and
// no stop page: a feed cannot lead there, by whatever name.
func (s *session) follow(ctx context.Context, from transport.Meta, limit int) []byte {
	q := &s.query
	m := s.screened.alias
	local := m.Local()
	target := local.CName
	if local.Prepend {
		target = slices.Concat(q.Name()[:len(q.Name())-1], target)
	}
	lists := s.policy.Current()
	none := func() []byte {
		if !s.feeds.log.write(q, &m, blocklog.NoData, from) {
			return s.unrecordedFeed(nil, limit)
		}
		return s.empty(nil, &m, dns.RcodeSuccess, limit)
	}
	if len(target) > wire.MaxName {
		return none()
	}
	if hit, listed := lists.Match(target); listed {
		return s.forbid(lists, hit, target, from, limit, none)
	}
	cname := &dns.CNAME{
		Hdr:    dns.RR_Header{Name: wire.NameText(q.Name()), Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: min(local.TTL, feedTTL)},
		Target: wire.NameText(target),
	}
	result := &iterate.Result{}
	if q.Type != dns.TypeCNAME {
		result = s.iterator.Resolve(ctx, iterate.Request{
			Question:         iterate.Question{Name: cname.Target, Type: q.Type},
			CheckingDisabled: q.CD,
			Stop:             s.listed,
		})
		s.spent.Add(result.Spent)
	}
	lists = s.policy.Current()
	if result.Stopped != "" {
		name, err := wire.ParseName(result.Stopped)
		if err != nil {
			return none()
		}
		if hit, listed := lists.Match(name); listed {
			return s.forbid(lists, hit, name, from, limit, none)
		}
		return wire.AppendError(nil, q, dns.RcodeServerFailure, limit) // lifted meanwhile: ask again
	}
	result.Answer = append([]dns.RR{cname}, result.Answer...)
	result.EDE = nil
	o := outcome(q.Name(), q.Type, q.DO, q.CD, result)
	o.Secure, o.MaxTTL, o.EDE = false, feedTTL, []wire.EDE{blockedByFeed}
	stored, err := wire.Store(o)
	if err != nil {
		s.log.Warn("an answer cannot be packed", "error", err)
		return wire.AppendError(nil, q, dns.RcodeServerFailure, limit)
	}
	if hit, name := firstListed(lists, stored.Targets); name != nil {
		return s.forbid(lists, hit, name, from, limit, none)
	}
	if leadsToPage(lists, stored) {
		s.feeds.log.refused.Inc()
		return none()
	}
	if !s.feeds.log.write(q, &m, blocklog.LocalData, from) {
		return s.unrecordedFeed(nil, limit)
	}
	return wire.Patch(nil, stored, q, 0, limit)
}

// leadsToPage reports whether an answer holds a name or an address of a stop page.
func leadsToPage(lists *policy.Generation, stored *wire.Stored) bool {
	for _, t := range stored.Targets {
		if lists.StopPageName(t) {
			return true
		}
	}
	for i := 0; ; i++ {
		addr, is, ok := stored.Address(i)
		if !ok {
			return false
		}
		if is && lists.StopPageAddress(addr) {
			return true
		}
	}
}

// forbid answers where a feed leads to a listed name: it has no data, by the list's
// entry, which is on record as for any question; without the stop page.
func (s *session) forbid(lists *policy.Generation, hit policy.Hit, name []byte, from transport.Meta, limit int, none func() []byte) []byte {
	if s.refused() {
		s.journal.Refuse(1)
		return wire.AppendError(nil, &s.query, dns.RcodeServerFailure, limit, unrecorded)
	}
	s.feeds.log.refused.Inc()
	s.note(lists, hit, name, from, blocklog.NoData)
	return none()
}

// FeedSays is what a feed would say to a question for a name, whoever asks and
// whatever its answer is.
type FeedSays struct {
	Feed   string `json:"feed"`
	Serial uint32 `json:"serial"`
	Rule   string `json:"rule"`
	Action string `json:"action"`
}

// feedsSay says it of each feed, in order of precedence: the first one's rule holds.
func (r *Resolver) feedsSay(name []byte) []FeedSays {
	all := []FeedSays{}
	if r.feeds == nil {
		return all
	}
	for _, m := range r.feeds.Current().Named(name) {
		all = append(all, FeedSays{Feed: m.Zone.Name, Serial: m.Zone.SOA.Serial, Rule: m.Entry(), Action: m.Action().String()})
	}
	return all
}

// notified answers a primary's word that a zone has changed (NOTIFY, RFC 1996
// §4.7), if it is one of a feed; else it is for others to answer.
func (s *session) notified(dst, packet []byte, from transport.Meta) ([]byte, bool) {
	var m dns.Msg
	if m.Unpack(packet) != nil || m.Opcode != dns.OpcodeNotify || len(m.Question) != 1 || m.Question[0].Qtype != dns.TypeSOA {
		return dst, false
	}
	if !s.feeds.Notified(m.Question[0].Name, from.Peer.Addr()) {
		return dst, false
	}
	var reply dns.Msg
	reply.SetReply(&m)
	reply.Authoritative = true
	raw, err := reply.Pack()
	return append(dst, raw...), err == nil
}

// serversOf keeps with an answer the names of the servers that gave it, where feeds
// go by them.
func (r *Resolver) serversOf(ctx context.Context, set *feed.Set, question []byte, stored *wire.Stored) {
	if set == nil || !set.NeedServers() {
		return
	}
	stored.Servers = [][]byte{}
	for _, name := range append([][]byte{question}, stored.Targets...) {
		for _, server := range r.iterator.ServerNames(ctx, wire.NameText(name)) {
			if n, err := wire.ParseName(server); err == nil && !slices.ContainsFunc(stored.Servers, func(o []byte) bool { return string(o) == string(n) }) {
				stored.Servers = append(stored.Servers, n)
			}
		}
	}
}
