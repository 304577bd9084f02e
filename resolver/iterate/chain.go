package iterate

import (
	"context"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
	"cordon/resolver/dnssec"
)

// The chain of trust: from an anchor by DS and DNSKEY to the zone that signs
// (RFC 4035 §5). A zone is Insecure only if its parent proves that it has no DS,
// or if there is no way to check what it has (RFC 4035 §5.2).

// trust makes z Secure by ds (DS records, or anchors), or Insecure when none of
// them is of a kind known here.
func (t *task) trust(z *zone, ds []dns.RR) {
	v := t.v.Supported(ds)
	z.status, z.code, z.text = v.Status, v.Code, v.Text
	if v.Status == dnssec.Secure {
		z.ds = ds
	}
}

// secureChild finds out the status of child, to which r from z's servers refers,
// and for how long that is known.
func (t *task) secureChild(ctx context.Context, z, child *zone, r *reply) (time.Duration, error) {
	if anchors := t.r.anchorsAt(child.name); anchors != nil {
		t.trust(child, anchors)
		return cache.MaxTTL, nil
	}
	if t.r.distrusted(child.name, t.today()) {
		return t.distrust(child), nil
	}
	if z.status != dnssec.Secure {
		child.status, child.code, child.text = z.status, z.code, z.text
		return cache.MaxTTL, nil
	}
	e, err := t.delegationSigner(ctx, z, child.name, r)
	if err != nil {
		f := asFailure(err)
		child.status, child.code, child.text = dnssec.Bogus, f.code, f.text
		switch {
		case f.kind == bogusData:
			return bogusZoneTTL, nil
		case f.kind == unreachable && t.cd:
			return 0, nil // not known, and not to be remembered (RFC 4035 §4.3); CD goes on
		}
		return 0, err
	}
	switch {
	case z.status != dnssec.Secure: // its keys turned out to be of no use
		child.status, child.code, child.text = z.status, z.code, z.text
	case e.Kind == cache.Positive:
		t.trust(child, e.RRs)
	case e.Cut:
		child.status, child.code, child.text = dnssec.Insecure, e.Code, e.Text
	default:
		// The parent denies that there is a zone to which it just referred.
		child.status, child.code, child.text = dnssec.Bogus, dns.ExtendedErrorCodeNSECMissing, "no proof that "+child.name+" is an unsigned delegation"
	}
	return e.TTL, nil
}

// delegationSigner is the validated DS set of name, or its denial, from the
// secure zone z: from the cache, from a referral (which may be nil), or asked for.
// When z turns out to be insecure, the result says nothing.
func (t *task) delegationSigner(ctx context.Context, z *zone, name string, r *reply) (cache.RRset, error) {
	e, ok := t.r.cache.Get(cache.Data, name, dns.TypeDS)
	if ok && (e.Status == dnssec.Secure || e.Status == dnssec.Insecure && e.Cut) {
		return e, nil
	}
	keys, err := t.zoneKeys(ctx, z)
	if err != nil || keys == nil {
		return cache.RRset{TTL: cache.MaxTTL}, err
	}
	if r != nil {
		if e, err := t.readDS(z, keys, name, r); err == nil && (e.Kind == cache.Positive || e.Cut) {
			return e, nil
		}
		// Left out, or bad: the servers may do better when asked.
	}
	if err := spend(&t.spent.Keys, t.r.config.Limits.Keys, "DS and DNSKEY fetches"); err != nil {
		return cache.RRset{}, err
	}
	c := t.cursor(z)
	var failed error
	for range maxBogus {
		r, err := t.ask(ctx, c, Question{name, dns.TypeDS})
		if err != nil {
			if failed != nil && asFailure(err).kind == unreachable {
				err = failed
			}
			return cache.RRset{}, err
		}
		e, err := t.readDS(z, keys, name, r)
		if err == nil {
			return e, nil
		}
		failed = err
	}
	return cache.RRset{}, failed
}

// readDS validates the DS set of name in r, or the proof that there is none.
func (t *task) readDS(z *zone, keys *dnssec.KeySet, name string, r *reply) (cache.RRset, error) {
	section := r.answer
	if r.kind == referral {
		section = r.authority
	}
	life := z.expires.Sub(t.now())
	if s := r.set(section, dns.TypeDS, name); s != nil {
		signed := t.v.VerifyRRset(*s, keys)
		if signed.Status == dnssec.Secure && signed.Wildcard == "" {
			e := entry(*s)
			e.Rank, e.Status, e.TTL = cache.RankAuthority, dnssec.Secure, min(ttlOf(*s), signed.TTL, life)
			setTTL(&e)
			t.r.cache.Put(e)
			return e, nil
		}
		if signed.Status == dnssec.Secure {
			return cache.RRset{}, &failure{kind: bogusData, code: dns.ExtendedErrorCodeDNSBogus, text: "DS of " + name + " from a wildcard"}
		}
		return cache.RRset{}, bogusFailure(signed.Verdict)
	}
	if r.kind == alias { // a name with an alias is no zone cut
		s := r.set(r.answer, dns.TypeCNAME, name)
		if signed := t.v.VerifyRRset(*s, keys); signed.Status != dnssec.Secure {
			return cache.RRset{}, bogusFailure(signed.Verdict)
		}
		return cache.RRset{Name: name, Type: dns.TypeDS, Kind: cache.NoData, Status: dnssec.Secure, TTL: min(ttlOf(*s), life)}, nil
	}
	d := t.v.Denial(r.authority, keys)
	p := d.NoDS(name)
	if p.Status == dnssec.Bogus {
		return cache.RRset{}, bogusFailure(p.Verdict)
	}
	t.rememberSpans(keys.Zone, d, nil)
	e := cache.RRset{
		Name: name, Type: dns.TypeDS, Kind: cache.NoData, Rank: cache.RankAuthority,
		Status: p.Status, Cut: p.Cut, Code: p.Code, Text: p.Text,
		TTL: min(d.TTL(), life, cache.MaxNegativeTTL),
	}
	for _, s := range r.authority {
		if s.Type == dns.TypeNSEC || s.Type == dns.TypeNSEC3 {
			e.TTL = min(e.TTL, ttlOf(s))
		}
	}
	if soa := r.soa(); soa != nil && r.kind != referral {
		// Complete with its SOA, it also answers who asks for the DS.
		e.TTL = min(e.TTL, negativeTTL(*soa))
		e.Proof = proofs(soa, r.authority)
		e.Rank = cache.RankAnswer
		setTTL(&e)
		if r.kind == noData {
			t.r.cache.Put(e)
		}
	}
	return e, nil
}

// zoneKeys is the trusted keys of the secure zone z. They are nil when no key
// can be worked with, and z is then Insecure.
func (t *task) zoneKeys(ctx context.Context, z *zone) (*dnssec.KeySet, error) {
	if z.keys != nil || z.status != dnssec.Secure {
		return z.keys, nil
	}
	if e, ok := t.r.cache.Get(cache.Data, z.name, dns.TypeDNSKEY); ok && e.Kind == cache.Positive && e.Status == dnssec.Secure {
		z.keys = t.v.Keys(z.name, e.RRs)
		return z.keys, nil
	}
	q := Question{z.name, dns.TypeDNSKEY}
	if e, ok := t.r.cache.Get(cache.Failure, q.Name, q.Type); ok && e.Status == dnssec.Bogus {
		return nil, &failure{kind: bogusData, code: e.Code, text: e.Text}
	}
	if err := spend(&t.spent.Keys, t.r.config.Limits.Keys, "DS and DNSKEY fetches"); err != nil {
		return nil, err
	}
	c := t.cursor(z)
	var failed error
	for range maxBogus {
		r, err := t.ask(ctx, c, q)
		if err != nil && asFailure(err).kind == unreachable && failed != nil {
			break
		}
		if err != nil {
			return nil, err
		}
		s := r.set(r.answer, dns.TypeDNSKEY, z.name)
		if r.kind != answer || s == nil {
			failed = &failure{kind: bogusData, code: dns.ExtendedErrorCodeDNSKEYMissing, text: "zone " + z.name + " has a DS and no DNSKEY"}
			continue
		}
		keys, signed := t.v.Trust(z.name, *s, z.ds)
		switch signed.Status {
		case dnssec.Secure:
			e := entry(*s)
			e.Status, e.TTL = dnssec.Secure, min(ttlOf(*s), signed.TTL, z.expires.Sub(t.now()))
			t.r.cache.Put(e)
			z.keys = keys
			t.r.signal(z.name)
			return keys, nil
		case dnssec.Insecure:
			z.status, z.code, z.text = signed.Status, signed.Code, signed.Text
			return nil, nil
		}
		failed = bogusFailure(signed.Verdict)
		if signed.Exhausted {
			return nil, failed
		}
	}
	f := asFailure(failed)
	t.r.cache.Put(cache.RRset{
		Name: q.Name, Type: q.Type, Use: cache.Failure, Kind: cache.Broken, TTL: bogusTTL,
		Status: dnssec.Bogus, Code: f.code, Text: f.text,
	})
	return nil, failed
}

// authority is the zone whose keys must have signed a set at owner that came from
// z's servers: z, or one below it that they serve as well. When the set is
// unsigned, it is the zone that an unsigned delegation leads to, if there is one.
func (t *task) authority(ctx context.Context, z *zone, owner string, rrtype uint16, sigs []*dns.RRSIG) (*zone, error) {
	if rrtype == dns.TypeDS && owner != "." {
		owner = parent(owner)
	}
	z = t.anchored(z, owner)
	if z.status != dnssec.Secure {
		return z, nil
	}
	to := owner
	for _, sig := range sigs {
		signer := dns.CanonicalName(sig.SignerName)
		if signer == z.name {
			return z, nil
		}
		if strictlyBelow(z.name, signer) && below(signer, owner) {
			to = signer
		}
	}
	return t.cutsTowards(ctx, z, to)
}

// anchored is the zone of the deepest trust anchor, or negative one, between z
// and owner, served by z's servers; or z.
func (t *task) anchored(z *zone, owner string) *zone {
	for n := owner; strictlyBelow(z.name, n); n = parent(n) {
		if anchors := t.r.anchorsAt(n); anchors != nil {
			a := t.within(z, n)
			t.trust(a, anchors)
			return a
		}
		if t.r.distrusted(n, t.today()) {
			a := t.within(z, n)
			t.distrust(a)
			return a
		}
	}
	return z
}

// within is the zone at name that z's servers serve too.
func (t *task) within(z *zone, name string) *zone {
	return &zone{name: name, ns: z.ns, glue: z.glue, expires: z.expires, servers: z.servers, forward: z.forward}
}

// cutsTowards goes label by label from the secure zone z to name and gives the
// last zone on the way: a secure one that encloses name, or the first that is
// not secure.
func (t *task) cutsTowards(ctx context.Context, z *zone, name string) (*zone, error) {
	for n := dns.CountLabel(z.name) + 1; n <= dns.CountLabel(name); n++ {
		at := lastLabels(name, n)
		e, err := t.delegationSigner(ctx, z, at, nil)
		if err != nil {
			return nil, err
		}
		switch {
		case z.status != dnssec.Secure:
			return z, nil
		case e.Kind == cache.Positive:
			child := t.within(z, at)
			t.trust(child, e.RRs)
			z = child
		case e.Cut:
			child := t.within(z, at)
			child.status, child.code, child.text = dnssec.Insecure, e.Code, e.Text
			z = child
		case e.Kind == cache.NXDomain:
			return z, nil
		}
		if z.status != dnssec.Secure {
			return z, nil
		}
	}
	return z, nil
}
