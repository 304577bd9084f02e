package iterate

import (
	"slices"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
	"cordon/resolver/dnssec"
)

// replyKind is what a reply says about the question.
type replyKind uint8

const (
	answer   replyKind = iota + 1
	alias              // a CNAME at the name
	redirect           // a DNAME above the name
	noData
	noName
	referral
)

// reply is what is left of a server's message after scrubbing: only what belongs
// to the zone asked (RFC 2181 §5.4.1, RFC 5452 §6) and to the question.
type reply struct {
	kind      replyKind
	q         Question
	answer    []dnssec.Set
	authority []dnssec.Set
	glue      []dns.RR // addresses of the additional section; judged when used
	// doubtful: not from authority but from a resolver's cache, it seems, or from
	// a server that knows nothing. Better than no reply at all.
	doubtful bool
	agent    string // who wants to be told of errors, or ""
}

// maxTTLField: larger ones count as 0 (RFC 2181 §8).
const maxTTLField = 1<<31 - 1

// read is readReply for a message of z's servers. Resolvers answer without
// authority, and refer to nobody.
func (t *task) read(z *zone, q Question, msg *dns.Msg) (*reply, string) {
	bailiwick := z.name
	if t.r.credulous {
		bailiwick = "."
	}
	if !z.forward {
		r, why := readReply(z.name, bailiwick, q, msg)
		if r != nil {
			r.agent = agentOf(msg)
		}
		return r, why
	}
	own := *msg // is shared
	own.Authoritative = true
	r, why := readReply(z.name, bailiwick, q, &own)
	if r != nil && r.kind == referral {
		return nil, "refers elsewhere instead of resolving"
	}
	return r, why
}

// readReply scrubs and classifies msg, which a server of zone gave for q, and may
// only speak for what is at or below bailiwick, which is zone. A nil reply means
// that the server is of no use for this zone, and why.
func readReply(zone, bailiwick string, q Question, msg *dns.Msg) (*reply, string) {
	switch msg.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError, dns.RcodeYXDomain:
	default:
		return nil, "answered " + dns.RcodeToString[msg.Rcode]
	}
	if msg.Truncated {
		return nil, "answered truncated over TCP"
	}
	r := &reply{q: q, doubtful: msg.RecursionAvailable && !msg.Authoritative}
	r.answer = collect(bailiwick, msg.Answer, nil)
	if q.Type == dns.TypeRRSIG {
		r.answer = bareSignatures(q.Name, msg.Answer)
	}
	for _, s := range r.answer {
		if len(s.RRs) > maxRecords {
			return nil, tooManyRecords
		}
	}
	strangers := false
	r.authority = collect(bailiwick, msg.Ns, &strangers)
	if r.kind = r.positive(); r.kind != 0 && (msg.Rcode != dns.RcodeYXDomain || r.kind == redirect) {
		r.answer = r.chain()
		if zone == "." && q.Type == dns.TypeNS {
			r.glue = addresses(msg.Extra) // priming (RFC 9609 §4)
		}
		return r, ""
	}
	soa := r.soa()
	switch {
	case msg.Rcode == dns.RcodeNameError && (soa != nil || msg.Authoritative && !strangers):
		r.kind = noName
	case msg.Rcode != dns.RcodeSuccess:
		return nil, "answered " + dns.RcodeToString[msg.Rcode] + " without authority"
	case soa != nil && (q.Type != dns.TypeDS || soa.Name != q.Name || q.Name == "."):
		r.kind = noData
	case r.cut(zone) != nil:
		r.kind, r.doubtful = referral, false
		r.glue = addresses(msg.Extra)
	case soa == nil && len(r.answer) == 0 && msg.Authoritative && !strangers && r.refersNowhere(zone):
		r.kind = noData // without SOA (RFC 2308 §2.2, type 3)
	case msg.Rcode == dns.RcodeSuccess && !strangers && r.saysNothing():
		r.kind, r.doubtful = noData, true
	default:
		return nil, "is not authoritative"
	}
	return r, ""
}

// refersNowhere: there are no NS records but those of the zone itself.
func (r *reply) refersNowhere(zone string) bool {
	ns := r.set(r.authority, dns.TypeNS, "")
	return ns == nil || ns.Name == zone
}

// saysNothing: there is neither an answer nor word of a zone.
func (r *reply) saysNothing() bool {
	return r.set(r.answer, dns.TypeCNAME, r.q.Name) == nil &&
		r.set(r.authority, dns.TypeNS, "") == nil && r.set(r.authority, dns.TypeSOA, "") == nil
}

// bareSignatures are the RRSIG records of name, when they are what was asked for.
// They belong to no RRset and cannot be validated (RFC 4035 §3.2.4).
func bareSignatures(name string, section []dns.RR) []dnssec.Set {
	s := dnssec.Set{Name: name, Type: dns.TypeRRSIG}
	for _, rr := range section {
		if sig, ok := rr.(*dns.RRSIG); ok && sig.Hdr.Class == dns.ClassINET && dns.CanonicalName(sig.Hdr.Name) == name {
			rr = dns.Copy(rr)
			rr.Header().Name = name
			s.RRs = append(s.RRs, rr)
		}
	}
	if len(s.RRs) == 0 {
		return nil
	}
	return []dnssec.Set{s}
}

func addresses(section []dns.RR) []dns.RR {
	var rrs []dns.RR
	for _, rr := range section {
		if t := rr.Header().Rrtype; t == dns.TypeA || t == dns.TypeAAAA {
			rrs = append(rrs, rr)
		}
	}
	return rrs
}

// positive finds what the answer section has for the question. A DNAME comes
// first, since the CNAME beside it was made from it.
func (r *reply) positive() replyKind {
	for _, s := range r.answer {
		switch {
		case s.Type == dns.TypeDNAME && strictlyBelow(s.Name, r.q.Name):
			return redirect
		case s.Name != r.q.Name:
		case s.Type == r.q.Type || r.q.Type == dns.TypeANY:
			return answer
		case s.Type == dns.TypeCNAME && len(s.RRs) == 1 && r.dname() == nil:
			return alias
		}
	}
	return 0
}

// dname is the DNAME set above the name asked.
func (r *reply) dname() *dnssec.Set {
	for i, s := range r.answer {
		if s.Type == dns.TypeDNAME && strictlyBelow(s.Name, r.q.Name) {
			return &r.answer[i]
		}
	}
	return nil
}

// chain keeps of the answer section what the question leads to, in order.
func (r *reply) chain() []dnssec.Set {
	var kept []dnssec.Set
	name := r.q.Name
	for range len(r.answer) + 1 {
		next := ""
		for _, s := range r.answer {
			switch {
			case s.Name == name && (s.Type == r.q.Type || s.Type == dns.TypeCNAME || r.q.Type == dns.TypeANY):
				kept = append(kept, s)
				if c, ok := s.RRs[0].(*dns.CNAME); ok && r.q.Type != dns.TypeCNAME {
					next = dns.CanonicalName(c.Target)
				}
			case s.Type == dns.TypeDNAME && strictlyBelow(s.Name, name):
				kept = append(kept, s)
			}
		}
		if next == "" || r.q.Type == dns.TypeANY {
			break
		}
		name = next
	}
	return kept
}

// set finds a set by type and name; 0 and "" stand for any.
func (r *reply) set(section []dnssec.Set, t uint16, name string) *dnssec.Set {
	for i := range section {
		if s := &section[i]; (t == 0 || s.Type == t) && (name == "" || s.Name == name) {
			return s
		}
	}
	return nil
}

// soa is the SOA of the zone that denies, which must enclose the name asked.
func (r *reply) soa() *dnssec.Set {
	s := r.set(r.authority, dns.TypeSOA, "")
	if s == nil || !below(s.Name, r.q.Name) {
		return nil
	}
	return s
}

// cut is the NS set of a referral: strictly below the zone asked, and on the way
// to the name; for DS above it, since the parent answers for DS (RFC 4035 §3.1.4.1).
func (r *reply) cut(zone string) *dnssec.Set {
	s := r.set(r.authority, dns.TypeNS, "")
	if s == nil || !strictlyBelow(zone, s.Name) || !below(s.Name, r.q.Name) {
		return nil
	}
	if r.q.Type == dns.TypeDS && s.Name == r.q.Name {
		return nil
	}
	return s
}

// collect sorts the records of a section into RRsets. Those not at or below zone
// are left out, and strangers told; so are other classes and OPT.
func collect(zone string, section []dns.RR, strangers *bool) []dnssec.Set {
	var sets []dnssec.Set
	type id struct {
		name string
		t    uint16
	}
	index := map[id]int{}
	at := func(name string, t uint16) *dnssec.Set {
		i, ok := index[id{name, t}]
		if !ok {
			i = len(sets)
			index[id{name, t}] = i
			sets = append(sets, dnssec.Set{Name: name, Type: t})
		}
		return &sets[i]
	}
	for _, rr := range section {
		h := rr.Header()
		if h.Class != dns.ClassINET || h.Rrtype == dns.TypeOPT {
			continue
		}
		name := dns.CanonicalName(h.Name)
		if !below(zone, name) {
			if strangers != nil && (h.Rrtype == dns.TypeSOA || h.Rrtype == dns.TypeNS) {
				*strangers = true
			}
			continue
		}
		if n, ok := rr.(*dns.NSEC); ok && !below(zone, dns.CanonicalName(n.NextDomain)) {
			continue // would speak of another zone
		}
		rr = dns.Copy(rr) // the message is shared with other tasks
		h = rr.Header()
		h.Name = name
		if h.Ttl > maxTTLField {
			h.Ttl = 0
		}
		if sig, ok := rr.(*dns.RRSIG); ok {
			if s := at(name, sig.TypeCovered); len(s.Sigs) < maxSigs {
				s.Sigs = append(s.Sigs, sig)
			}
			continue
		}
		s := at(name, h.Rrtype)
		// Equal records are one (RFC 2181 §5); looked for in sets of a sane size.
		same := func(have dns.RR) bool { return dns.IsDuplicate(have, rr) }
		if len(s.RRs) > maxRecords {
			continue // enough to be refused for
		}
		if len(s.RRs) > 64 || !slices.ContainsFunc(s.RRs, same) {
			s.RRs = append(s.RRs, rr)
		}
	}
	kept := sets[:0]
	for _, s := range sets {
		if len(s.RRs) > 0 {
			kept = append(kept, s)
		}
	}
	return kept
}

// maxSigs bounds the signatures of one set that are looked at and passed on. Two
// keys of each of two algorithms make four (CVE-2023-50387).
const maxSigs = 8

// maxRecords bounds the records of one set, since each question about it pays for
// them all (CVE-2024-1737). An answer with more is not taken.
const maxRecords = 256

// tooManyRecords is said of a server that gave such an answer. It is a matter of
// that name: the server is as good as any for others.
const tooManyRecords = "gives more records of one type than are taken"

// ttlOf is the one TTL of a set: its lowest (RFC 2181 §5.2).
func ttlOf(s dnssec.Set) time.Duration {
	ttl := s.RRs[0].Header().Ttl
	for _, rr := range s.RRs {
		ttl = min(ttl, rr.Header().Ttl)
	}
	return time.Duration(ttl) * time.Second
}

// entry is s as the cache keeps it; with no status or TTL yet.
func entry(s dnssec.Set) cache.RRset {
	return cache.RRset{Name: s.Name, Type: s.Type, RRs: s.RRs, Sigs: signatures(s), Rank: cache.RankAnswer}
}

func signatures(s dnssec.Set) []dns.RR {
	var rrs []dns.RR
	for _, sig := range s.Sigs {
		rrs = append(rrs, sig)
	}
	return rrs
}

// setTTL gives every record of e the TTL of the whole.
func setTTL(e *cache.RRset) {
	ttl := uint32(max(e.TTL, 0) / time.Second) // #nosec G115 -- clamped by the caller
	for _, section := range [][]dns.RR{e.RRs, e.Sigs, e.Proof} {
		for _, rr := range section {
			rr.Header().Ttl = ttl
		}
	}
}
