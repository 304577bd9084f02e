package iterate

import (
	"context"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
	"cordon/resolver/dnssec"
)

// accept validates what r, from z's servers, says to its question, and keeps it.
func (t *task) accept(ctx context.Context, z *zone, r *reply) (*found, error) {
	switch r.kind {
	case answer:
		return t.acceptAnswer(ctx, z, r)
	case alias:
		e, err := t.acceptSet(ctx, z, r, *r.set(r.answer, dns.TypeCNAME, r.q.Name))
		if err != nil {
			return nil, err
		}
		t.keep(e)
		t.acceptRest(ctx, z, r)
		return fromEntry(r.q, e), nil
	case redirect:
		e, err := t.acceptDNAME(ctx, z, r)
		if err != nil {
			return nil, err
		}
		return dnameFound(r.q, e), nil
	}
	return t.acceptDenial(ctx, z, r)
}

// acceptAnswer takes the set asked for; to ANY, all sets of the name, which are
// not kept since they may not be all.
func (t *task) acceptAnswer(ctx context.Context, z *zone, r *reply) (*found, error) {
	f := &found{}
	for _, s := range r.answer {
		if s.Name != r.q.Name || s.Type != r.q.Type && r.q.Type != dns.TypeANY {
			continue
		}
		if s.Type == dns.TypeRRSIG { // nobody vouches for it, and it is not kept
			e := entry(s)
			e.Status, e.TTL = dnssec.Insecure, t.lifetime(ttlOf(s))
			t.finish(z, &e)
			return &found{sets: []cache.RRset{e}}, nil
		}
		e, err := t.acceptSet(ctx, z, r, s)
		if err != nil {
			return nil, err
		}
		if e.Kind == cache.NoData { // nothing of it may be told
			t.keep(e)
			return fromEntry(r.q, e), nil
		}
		if r.q.Type != dns.TypeANY {
			t.keep(e)
		}
		f.sets = append(f.sets, e)
	}
	return f, nil
}

// acceptRest keeps what else of an alias chain the reply holds and z may speak
// for, so that following the chain finds it in the cache. What does not validate
// is left for its own look-up to say so.
func (t *task) acceptRest(ctx context.Context, z *zone, r *reply) {
	for _, s := range r.answer {
		if s.Name == r.q.Name || s.Type == dns.TypeDNAME || t.cutBetween(z.name, s.Name) {
			continue
		}
		e, err := t.acceptSet(ctx, z, r, s)
		if err != nil {
			return
		}
		t.keep(e)
	}
}

// cutBetween says whether a zone cut is known below zone and at or above name.
func (t *task) cutBetween(zone, name string) bool {
	for n := name; strictlyBelow(zone, n); n = parent(n) {
		if t.knownZone(n) != nil {
			return true
		}
	}
	return false
}

// acceptDNAME takes the DNAME above the name asked. The CNAME beside it is made
// anew from the DNAME; one that says otherwise shows that the reply was tampered
// with (RFC 6672 §5.3.1).
func (t *task) acceptDNAME(ctx context.Context, z *zone, r *reply) (cache.RRset, error) {
	invalid := func(what string) error {
		return &failure{kind: bogusData, code: dns.ExtendedErrorCodeInvalidData, text: what + " at " + r.q.Name}
	}
	s := r.dname()
	if len(s.RRs) != 1 {
		return cache.RRset{}, invalid("several DNAME records")
	}
	e, err := t.acceptSet(ctx, z, r, *s)
	if err != nil {
		return e, err
	}
	t.keep(e) // good by itself, whatever comes with it
	_, target, ok := synthesise(r.q.Name, e)
	if c := r.set(r.answer, dns.TypeCNAME, r.q.Name); ok && c != nil {
		if given := c.RRs[0].(*dns.CNAME); dns.CanonicalName(given.Target) != target {
			return e, invalid("CNAME that its DNAME does not make")
		}
	}
	return e, nil
}

// acceptSet validates one set and gives it its status and lifetime.
func (t *task) acceptSet(ctx context.Context, z *zone, r *reply, s dnssec.Set) (cache.RRset, error) {
	e := entry(s)
	e.TTL = t.lifetime(ttlOf(s))
	if t.cd {
		if s.Expanded() { // the client, which checks for itself, wants the proof
			e.Proof = proofs(nil, r.authority)
			e.TTL = min(e.TTL, denialTTL(r.authority))
		}
		t.finish(z, &e)
		return e, nil
	}
	keys, err := t.judges(ctx, z, s, &e)
	if err != nil {
		return e, err
	}
	if keys != nil {
		signed := t.v.VerifyRRset(s, keys)
		if signed.Status == dnssec.Bogus {
			return e, bogusFailure(signed.Verdict)
		}
		e.Status, e.TTL = dnssec.Secure, min(e.TTL, signed.TTL)
		if signed.Wildcard != "" {
			if err := t.acceptWildcard(r, keys, signed.Wildcard, &e); err != nil {
				return e, err
			}
			if e.Status == dnssec.Secure {
				t.rememberWildcard(e, signed.Wildcard)
			}
		}
	}
	t.finish(z, &e)
	return e, nil
}

// finish makes e ready to be kept and given out. What a parent takes back ends
// with its delegation (ghost domains): until then e is kept at most.
func (t *task) finish(z *zone, e *cache.RRset) {
	t.r.config.withholdPrivate(e)
	setTTL(e)
	e.TTL = min(e.TTL, z.left(t.now()))
}

// judges gives the keys that must have signed s; nil, with the status in e, when
// s needs no signature.
func (t *task) judges(ctx context.Context, z *zone, s dnssec.Set, e *cache.RRset) (*dnssec.KeySet, error) {
	by, err := t.authority(ctx, z, s.Name, s.Type, s.Sigs)
	if err != nil {
		return nil, err
	}
	keys, err := t.zoneKeys(ctx, by)
	if err != nil {
		return nil, err
	}
	if by.status == dnssec.Bogus {
		return nil, &failure{kind: bogusData, code: by.code, text: by.text}
	}
	if by.status != dnssec.Secure {
		e.Status, e.Code, e.Text = by.status, by.code, by.text
		return nil, nil
	}
	return keys, nil
}

// acceptWildcard wants the proof that nothing closer than the wildcard exists
// (RFC 4035 §5.3.4).
func (t *task) acceptWildcard(r *reply, keys *dnssec.KeySet, encloser string, e *cache.RRset) error {
	d := t.v.Denial(r.authority, keys)
	p := d.NoCloser(e.Name, encloser)
	if p.Status == dnssec.Bogus {
		return bogusFailure(p.Verdict)
	}
	t.rememberSpans(keys.Zone, d, nil)
	e.Status, e.Code, e.Text = p.Status, p.Code, p.Text
	e.Proof = proofs(nil, r.authority)
	e.TTL = min(e.TTL, d.TTL(), denialTTL(r.authority))
	return nil
}

// acceptDenial takes a negative answer (RFC 2308), proven where the zone is
// signed (RFC 4035 §5.4).
func (t *task) acceptDenial(ctx context.Context, z *zone, r *reply) (*found, error) {
	e := cache.RRset{Name: r.q.Name, Type: r.q.Type, Kind: cache.NoData, Rank: cache.RankAnswer}
	if r.kind == noName {
		e.Kind = cache.NXDomain
	}
	soa := r.soa()
	e.TTL = failureTTL // without SOA it says not for how long (RFC 2308 §5): as with a failure
	if soa != nil {
		e.TTL = min(t.lifetime(negativeTTL(*soa)), t.r.config.MaxNegativeTTL)
	}
	e.Proof = proofs(soa, r.authority)
	if !t.cd {
		if err := t.proveDenial(ctx, z, r, soa, &e); err != nil {
			return nil, err
		}
	}
	t.capProof(e.Proof, soa)
	e.TTL = min(e.TTL, z.left(t.now()))
	t.keep(e)
	return fromEntry(r.q, e), nil
}

// capProof bounds the TTL of each record of a denial; the whole is kept for the
// lowest. The SOA says for how long a denial is true (RFC 2308 §3).
func (t *task) capProof(proof []dns.RR, soa *dnssec.Set) {
	for _, rr := range proof {
		h := rr.Header()
		ttl := time.Duration(h.Ttl) * time.Second
		if soa != nil && h.Name == soa.Name && (h.Rrtype == dns.TypeSOA || covers(rr, dns.TypeSOA)) {
			ttl = negativeTTL(*soa)
		}
		h.Ttl = uint32(min(t.lifetime(ttl), t.r.config.MaxNegativeTTL) / time.Second) // #nosec G115 -- at most three hours
	}
}

// covers says whether rr is a signature over typ.
func covers(rr dns.RR, typ uint16) bool {
	sig, ok := rr.(*dns.RRSIG)
	return ok && sig.TypeCovered == typ
}

func (t *task) proveDenial(ctx context.Context, z *zone, r *reply, soa *dnssec.Set, e *cache.RRset) error {
	// Whoever signed the SOA denies; without SOA, whoever signed the proof; else
	// the name asked may still be below an unsigned delegation.
	denies := dnssec.Set{Name: r.q.Name, Type: r.q.Type}
	if soa != nil {
		denies = *soa
	} else if n := r.signedDenial(); n != nil {
		denies.Sigs = n.Sigs
	}
	keys, err := t.judges(ctx, z, denies, e)
	if err != nil || keys == nil {
		return err
	}
	if soa != nil {
		signed := t.v.VerifyRRset(*soa, keys)
		if signed.Status == dnssec.Bogus {
			return bogusFailure(signed.Verdict)
		}
		e.TTL = min(e.TTL, signed.TTL)
	}
	d := t.v.Denial(r.authority, keys)
	var p dnssec.Proof
	switch {
	case r.kind == noName:
		p = d.NXDOMAIN(r.q.Name)
	case r.q.Type == dns.TypeDS:
		p = d.NoDS(r.q.Name)
	default:
		p = d.NODATA(r.q.Name, r.q.Type)
	}
	if r.kind == noName && p.Status == dnssec.Bogus && !p.Exhausted {
		// Some servers say NXDOMAIN for an empty non-terminal; what is proven counts.
		if n := d.NODATA(r.q.Name, r.q.Type); n.Status != dnssec.Bogus {
			p, e.Kind = n, cache.NoData
		}
	}
	if p.Status == dnssec.Bogus {
		return bogusFailure(p.Verdict)
	}
	t.rememberSpans(keys.Zone, d, soa)
	e.Status, e.Code, e.Text, e.Cut = p.Status, p.Code, p.Text, p.Cut
	e.TTL = min(e.TTL, d.TTL(), denialTTL(r.authority))
	return nil
}

// signedDenial is the first NSEC or NSEC3 set with a signature.
func (r *reply) signedDenial() *dnssec.Set {
	for i, s := range r.authority {
		if (s.Type == dns.TypeNSEC || s.Type == dns.TypeNSEC3) && len(s.Sigs) > 0 {
			return &r.authority[i]
		}
	}
	return nil
}

// lifetime bounds ttl as the configuration has it.
func (t *task) lifetime(ttl time.Duration) time.Duration {
	return min(max(ttl, t.r.config.MinTTL), t.r.config.MaxTTL)
}

// keep puts e where it belongs: apart, if it was not validated.
func (t *task) keep(e cache.RRset) {
	if t.cd {
		e.Use = cache.Unchecked
	}
	t.r.cache.Put(e)
}

// negativeTTL is the lower of the SOA's TTL and its MINIMUM (RFC 2308 §5).
func negativeTTL(soa dnssec.Set) time.Duration {
	ttl := ttlOf(soa)
	if s, ok := soa.RRs[0].(*dns.SOA); ok && s.Minttl <= maxTTLField {
		ttl = min(ttl, time.Duration(s.Minttl)*time.Second)
	}
	return ttl
}

// denialTTL is the lowest TTL of the denial records (RFC 9077 §3).
func denialTTL(section []dnssec.Set) time.Duration {
	ttl := cache.MaxTTL
	for _, s := range section {
		if s.Type == dns.TypeNSEC || s.Type == dns.TypeNSEC3 {
			ttl = min(ttl, ttlOf(s))
		}
	}
	return ttl
}

// proofs is the SOA, if any, and the denial records with their signatures.
func proofs(soa *dnssec.Set, section []dnssec.Set) []dns.RR {
	var rrs []dns.RR
	if soa != nil {
		rrs = append(append(rrs, soa.RRs...), signatures(*soa)...)
	}
	for _, s := range section {
		if s.Type == dns.TypeNSEC || s.Type == dns.TypeNSEC3 {
			rrs = append(append(rrs, s.RRs...), signatures(s)...)
		}
	}
	return rrs
}
