package iterate

import (
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
	"cordon/resolver/dnssec"
)

// Aggressive use of NSEC and NSEC3 (RFC 8198): what a signed zone once proved not
// to hold answers for names that were never asked for, and a flood of random
// names ends here.

// deduceHashes is how many names one request may hash to deduce something, apart
// from what validation may: a long name is to cost no more than its asking.
const deduceHashes = 48

// rememberSpans keeps the records that verified in d, and the SOA that came with
// them and verified too.
func (t *task) rememberSpans(zone string, d *dnssec.Denial, soa *dnssec.Set) {
	if t.cd {
		return
	}
	if soa != nil && soa.Name == zone {
		ttl := min(negativeTTL(*soa), t.r.config.MaxNegativeTTL)
		t.r.denials.PutSOA(zone, cache.Span{RRs: withSignatures(*soa), TTL: ttl})
	}
	// No NSEC outlives what its SOA says of denials, whatever its own TTL (RFC
	// 9077 §3).
	most := t.r.config.MaxNegativeTTL
	if known, ok := t.r.denials.SOA(zone); ok {
		if s, ok := known.RRs[0].(*dns.SOA); ok {
			most = min(most, time.Duration(s.Minttl)*time.Second)
		}
	}
	if soa != nil {
		most = min(most, negativeTTL(*soa))
	}
	for _, s := range d.Verified() {
		if len(s.RRs) != 1 {
			continue
		}
		span := cache.Span{RRs: withSignatures(s), TTL: min(ttlOf(s), d.TTL(), most), Shown: min(ttlOf(s), d.TTL())}
		switch x := s.RRs[0].(type) {
		case *dns.NSEC:
			span.From, span.To = cache.OrderKey(s.Name), cache.OrderKey(x.NextDomain)
			t.r.denials.PutNSEC(zone, span)
		case *dns.NSEC3:
			hash, _, _ := strings.Cut(s.Name, ".")
			span.From, span.To = strings.ToUpper(hash), strings.ToUpper(x.NextDomain)
			if x.Iterations <= dnssec.MaxIterations {
				t.r.denials.PutNSEC3(zone, chainOf(x), span)
			}
		}
	}
}

// chainOf names the parameters of an NSEC3 chain.
func chainOf(x *dns.NSEC3) string {
	return strconv.Itoa(int(x.Hash)) + " " + strconv.Itoa(int(x.Iterations)) + " " + strings.ToUpper(x.Salt)
}

func withSignatures(s dnssec.Set) []dns.RR {
	return append(append([]dns.RR{}, s.RRs...), signatures(s)...)
}

// deduce answers q from the spans that are known of the closest zone that has
// any, or gives nil. The proof must hold without exception: nothing is deduced
// from opt-out spans (RFC 8198 §5.4).
func (t *task) deduce(q Question) *found {
	if t.cd || t.deducer.Work.Exhausted || q.Type == dns.TypeANY || q.Type == dns.TypeRRSIG || q.Type == dns.TypeNSEC {
		return nil
	}
	n := q.Name
	if q.Type == dns.TypeDS && n != "." {
		n = parent(n)
	}
	for ; ; n = parent(n) {
		if t.r.denials.Knows(n) {
			if f := t.expand(n, q); f != nil {
				return f
			}
			return t.deny(n, q)
		}
		// Whatever has another origin of trust or of data here is not the zone's.
		if n == "." || t.knownZone(n) != nil || t.r.configured[n] != nil || t.r.hasAnchors(n) || t.r.distrusted(n, t.today()) {
			return nil
		}
	}
}

// deny answers q by what the zone does not hold.
func (t *task) deny(zone string, q Question) *found {
	soa, ok := t.r.denials.SOA(zone)
	if !ok {
		return nil
	}
	for _, spans := range [][]cache.Span{t.nsecSpans(zone, q.Name), t.nsec3Spans(zone, q.Name)} {
		if len(spans) == 0 {
			continue
		}
		d := t.deducer.Known(setsOf(zone, spans), zone)
		e := cache.RRset{Name: q.Name, Type: q.Type, Kind: cache.NoData, Rank: cache.RankAnswer, Status: dnssec.Secure}
		if d.NXDOMAIN(q.Name).Status == dnssec.Secure {
			e.Kind = cache.NXDomain
		} else if d.NODATA(q.Name, q.Type).Status != dnssec.Secure {
			continue
		} else if q.Type == dns.TypeDS {
			e.Cut = d.NoDS(q.Name).Cut
		}
		e.TTL, e.Proof = soa.TTL, append(e.Proof, soa.RRs...)
		for _, s := range spans {
			e.TTL = min(e.TTL, s.TTL)
			e.Proof = append(e.Proof, s.RRs...)
		}
		return fromEntry(q, e)
	}
	return nil
}

// expand answers q from a wildcard that is known, if nothing closer can exist
// (RFC 8198 §5.3).
func (t *task) expand(zone string, q Question) *found {
	for n := q.Name; strictlyBelow(zone, n); {
		n = parent(n)
		e, ok := t.wildcard(n, q.Type)
		if !ok {
			continue
		}
		for _, cover := range t.covers(zone, q.Name, lastLabels(q.Name, dns.CountLabel(n)+1)) {
			if t.deducer.Known(setsOf(zone, []cache.Span{cover}), zone).NoCloser(q.Name, n).Status != dnssec.Secure {
				continue
			}
			e.Name, e.Proof, e.TTL = q.Name, cover.RRs, min(e.TTL, cover.TTL)
			for _, section := range [][]dns.RR{e.RRs, e.Sigs} {
				for _, rr := range section {
					rr.Header().Name = q.Name
				}
			}
			setTTL(&e)
			return fromEntry(q, e)
		}
	}
	return nil
}

// wildcard is what the wildcard below encloser holds for a question for typ.
func (t *task) wildcard(encloser string, typ uint16) (cache.RRset, bool) {
	for _, typ := range []uint16{typ, dns.TypeCNAME} {
		e, ok := t.r.cache.Get(cache.Data, wildcardOf(encloser), typ)
		if ok && e.Kind == cache.Positive && e.Status == dnssec.Secure {
			return e, true
		}
	}
	return cache.RRset{}, false
}

// covers are the spans that may cover name, by NSEC, or nextCloser, by NSEC3.
func (t *task) covers(zone, name, nextCloser string) []cache.Span {
	var spans []cache.Span
	if s, ok := t.r.denials.NSEC(zone, cache.OrderKey(name)); ok {
		spans = append(spans, s)
	}
	if s, _, ok := t.nsec3Span(zone, nextCloser); ok {
		spans = append(spans, s)
	}
	return spans
}

// rememberWildcard keeps what was expanded from the wildcard below encloser under
// the wildcard's own name. What came for a minimised question nobody asked for.
func (t *task) rememberWildcard(e cache.RRset, encloser string) {
	if t.probing {
		return
	}
	e.Name, e.Proof = wildcardOf(encloser), nil
	for _, section := range []*[]dns.RR{&e.RRs, &e.Sigs} {
		own := make([]dns.RR, len(*section))
		for i, rr := range *section {
			own[i] = dns.Copy(rr)
			own[i].Header().Name = e.Name
		}
		*section = own
	}
	t.keep(e)
}

func wildcardOf(encloser string) string { return "*." + strings.TrimPrefix(encloser, ".") }

func setsOf(zone string, spans []cache.Span) []dnssec.Set {
	var sets []dnssec.Set
	for _, s := range spans {
		sets = append(sets, collect(zone, s.RRs, nil)...)
	}
	return sets
}

// nsecSpans are the span around name, and the one around the wildcard that could
// stand in for it.
func (t *task) nsecSpans(zone, name string) []cache.Span {
	first, ok := t.r.denials.NSEC(zone, cache.OrderKey(name))
	if !ok {
		return nil
	}
	spans := []cache.Span{first}
	encloser, ok := t.deducer.Known(setsOf(zone, spans), zone).ClosestEncloser(name)
	if !ok {
		return spans
	}
	if wild, ok := t.r.denials.NSEC(zone, cache.OrderKey(wildcardOf(encloser))); ok && wild.From != first.From {
		spans = append(spans, wild)
	}
	return spans
}

// nsec3Spans are the span that matches name; or the one that matches the closest
// encloser that is known of, with those around the name below it and around the
// wildcard (RFC 5155 §8.3).
func (t *task) nsec3Spans(zone, name string) []cache.Span {
	next, match, ok := t.nsec3Span(zone, name)
	if match {
		return []cache.Span{next}
	}
	for n := name; ok && strictlyBelow(zone, n); {
		n = parent(n)
		var s cache.Span
		if s, match, ok = t.nsec3Span(zone, n); match {
			spans := []cache.Span{s}
			if next.From != s.From {
				spans = append(spans, next)
			}
			if wild, _, ok := t.nsec3Span(zone, wildcardOf(n)); ok && wild.From != s.From && wild.From != next.From {
				spans = append(spans, wild)
			}
			return spans
		}
		next = s
	}
	return nil
}

// nsec3Span is the span at or before the hash of name, and whether it starts
// there.
func (t *task) nsec3Span(zone, name string) (s cache.Span, match, ok bool) {
	any, ok := t.r.denials.NSEC3(zone, "")
	if !ok {
		return s, false, false
	}
	params, ok := any.RRs[0].(*dns.NSEC3)
	if !ok {
		return s, false, false
	}
	hash := t.deducer.Hash(name, params)
	if hash == "" {
		return s, false, false
	}
	s, ok = t.r.denials.NSEC3(zone, hash)
	return s, ok && s.From == hash, ok
}
