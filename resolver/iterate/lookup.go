package iterate

import (
	"context"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
	"cordon/resolver/dnssec"
)

// lookup finds what there is at one name, from the cache or from the servers.
// Aliases are not followed.
func (t *task) lookup(ctx context.Context, q Question) (*found, error) {
	f, err := t.remembered(q)
	if f != nil && t.renew > 0 && len(t.active) == 0 && f.ttl() <= t.renew {
		f = nil
	}
	switch {
	case f != nil || err != nil:
	case t.offline:
		err = errOffline
	default:
		f, err = t.search(ctx, q)
	}
	if err != nil {
		if stale := t.stale(q, asFailure(err)); stale != nil {
			return stale, nil
		}
	}
	return f, err
}

// ttl is for how long all of f holds.
func (f *found) ttl() time.Duration {
	ttl := cache.MaxTTL
	if f.denial != nil {
		ttl = f.denial.TTL
	}
	for _, s := range f.sets {
		ttl = min(ttl, s.TTL)
	}
	return ttl
}

// search finds what there is at one name from the servers.
func (t *task) search(ctx context.Context, q Question) (*found, error) {
	if t.active[q] {
		return nil, &failure{kind: badPath, code: dns.ExtendedErrorCodeNoReachableAuthority, text: "finding " + q.String() + " needs itself"}
	}
	if len(t.active) >= t.r.config.Limits.Depth {
		return nil, &failure{kind: badPath, code: dns.ExtendedErrorCodeNoReachableAuthority, text: "too many look-ups within look-ups at " + q.String()}
	}
	t.active[q] = true
	defer delete(t.active, q)
	f, err := t.descend(ctx, q)
	for err != nil && t.bypass(q.Name, asFailure(err)) {
		f, err = t.descend(ctx, q)
	}
	if err != nil {
		t.rememberFailure(q, asFailure(err))
	}
	return f, err
}

// descend goes from the closest known zone down to the one that answers q.
func (t *task) descend(ctx context.Context, q Question) (*found, error) {
	z, err := t.closest(ctx, q)
	if err != nil {
		return nil, err
	}
	m := minimiser{q: q, max: minimiseMax - t.minimised, off: t.r.config.NoMinimisation || z.forward}
	if len(t.active) > 1 {
		m.max = min(m.max, minimiseServers)
	}
	for range t.r.config.Limits.Referrals + minimiseMax + 1 {
		if z.status == dnssec.Bogus && !t.cd {
			return nil, &failure{kind: bogusData, code: z.code, text: z.text}
		}
		asked := m.next(dns.CountLabel(z.name))
		if asked != q {
			if f, err := t.remembered(asked); f != nil && err == nil {
				if f.rcode == dns.RcodeNameError {
					m.off = true // a proof would have answered q itself
				} else {
					m.deeper(asked)
				}
				continue
			}
		}
		outer := t.probing
		t.probing = asked != q
		f, next, err := t.askZone(ctx, z, asked)
		t.probing = outer
		switch {
		case err != nil && asked != q && asFailure(err).kind <= bogusData:
			m.off = true // broken for short names is not broken (RFC 9156 §2.3)
		case err != nil:
			return nil, err
		case next != nil:
			z = next
		case asked == q:
			return f, nil
		case f.rcode == dns.RcodeSuccess && f.target == "":
			t.minimised++
			m.deeper(asked)
		case f.rcode == dns.RcodeNameError && f.denial.Status == dnssec.Secure:
			return f, nil // nothing exists below either (RFC 8020)
		default:
			m.off = true
		}
	}
	return nil, &failure{kind: badPath, code: dns.ExtendedErrorCodeNoReachableAuthority, text: "too many zone cuts on the way to " + q.String()}
}

// maxBogus is how many servers' replies may fail validation before the answer is
// given up: one server may be stale or spoofed for, not all.
const maxBogus = 3

// askZone asks z's servers, and gives what they found or the zone they refer to.
func (t *task) askZone(ctx context.Context, z *zone, q Question) (*found, *zone, error) {
	if q.Type == dns.TypeDNSKEY && q.Name == z.name && z.status == dnssec.Secure && !t.cd {
		if _, err := t.zoneKeys(ctx, z); err != nil {
			return nil, nil, err
		}
		if f, err := t.remembered(q); f != nil || err != nil {
			return f, nil, err
		}
	}
	c := t.cursor(z)
	var failed error
	var bad *reply
	for range maxBogus {
		r, err := t.ask(ctx, c, q)
		if err != nil && failed != nil && asFailure(err).kind == unreachable {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		if r.kind == referral {
			next, err := t.delegate(ctx, z, r)
			return nil, next, err
		}
		f, err := t.accept(ctx, z, r)
		if err == nil {
			return f, nil, nil
		}
		if asFailure(err).kind != bogusData {
			return nil, nil, err
		}
		failed, bad = err, r
	}
	t.report(z, bad, failed)
	return nil, nil, failed
}

// cached is the entry that may serve this task.
func (t *task) cached(q Question) (cache.RRset, bool) {
	if s, ok := t.r.cache.Get(cache.Data, q.Name, q.Type); ok || !t.cd {
		return s, ok
	}
	return t.r.cache.Get(cache.Unchecked, q.Name, q.Type)
}

// remembered answers q from the cache: data, denial, alias, or the reason why it
// failed a moment ago. Both results are nil when nothing is known.
func (t *task) remembered(q Question) (*found, error) {
	if q.Type == dns.TypeANY || q.Type == dns.TypeRRSIG {
		return nil, nil
	}
	if s, ok := t.cached(q); ok {
		return fromEntry(q, s), nil
	}
	// An alias may have an NSEC beside it (RFC 4035 §2.5): only the servers know.
	if s, ok := t.cached(Question{q.Name, dns.TypeCNAME}); ok && s.Kind == cache.Positive && q.Type != dns.TypeNSEC {
		return fromEntry(q, s), nil
	}
	for n := q.Name; n != "."; {
		n = parent(n)
		if s, ok := t.cached(Question{n, dns.TypeDNAME}); ok && s.Kind != cache.NoData {
			if s.Kind == cache.Positive && (s.Status == dnssec.Secure || t.cd) {
				return dnameFound(q, s), nil
			}
			if s.Kind == cache.Positive {
				continue // unsigned, it speaks only for the name it came with: a forged one could take a zone
			}
			if s.Status == dnssec.Secure { // RFC 8020: nothing below a name that is proven not to exist
				return fromEntry(q, s), nil
			}
		}
	}
	s, ok := t.r.cache.Get(cache.Failure, q.Name, q.Type)
	switch {
	case !ok:
		return t.deduce(q), nil
	case s.Status == dnssec.Bogus && t.cd:
		return nil, nil // what cannot be validated is what CD asks for
	case s.Status == dnssec.Bogus:
		return nil, &failure{kind: bogusData, code: s.Code, text: s.Text}
	}
	return nil, &failure{kind: unreachable, code: s.Code, text: s.Text}
}

// rememberFailure keeps f for q, if it is true of q for everyone (RFC 9520). What
// ended because a caller went away never is; what ended for the way here, or for
// lack of allowance, is so only for the question that the request was about. What
// ended since there is too much to do may work the next moment.
func (t *task) rememberFailure(q Question, f *failure) {
	outermost := len(t.active) == 1
	if f.kind >= overload || f.kind >= badPath && !outermost {
		return
	}
	s := cache.RRset{Name: q.Name, Type: q.Type, Use: cache.Failure, Kind: cache.Broken, TTL: failureTTL, Code: f.code, Text: f.text}
	if f.kind == bogusData {
		s.Status, s.TTL = dnssec.Bogus, bogusTTL
	}
	t.r.cache.Put(s)
}

// fromEntry is what a cache entry, or one just made, says to q.
func fromEntry(q Question, s cache.RRset) *found {
	switch {
	case s.Kind == cache.NXDomain:
		return &found{rcode: dns.RcodeNameError, denial: &s}
	case s.Kind == cache.NoData:
		return &found{denial: &s}
	}
	f := &found{sets: []cache.RRset{s}}
	if c, ok := s.RRs[0].(*dns.CNAME); ok && q.Type != dns.TypeCNAME && q.Type != dns.TypeANY {
		f.target = dns.CanonicalName(c.Target)
	}
	return f
}

// dnameFound is the alias that a DNAME above the name makes of it, which is the
// answer when an alias is what was asked for.
func dnameFound(q Question, s cache.RRset) *found {
	made, target, ok := synthesise(q.Name, s)
	if !ok {
		return &found{rcode: dns.RcodeYXDomain, sets: []cache.RRset{s}} // RFC 6672 §2.2
	}
	if q.Type == dns.TypeCNAME || q.Type == dns.TypeANY {
		target = ""
	}
	return &found{sets: []cache.RRset{s, made}, target: target}
}
