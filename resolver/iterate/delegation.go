package iterate

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
	"cordon/resolver/dnssec"
)

// zone is a zone cut: who serves the zone, and how far it can be believed. It
// belongs to one task.
type zone struct {
	name    string
	ns      []string
	glue    map[string][]netip.Addr // by name server; what the parent gave, for this zone only
	foreign []netip.Addr            // of servers that the parent may not speak for; the last resort
	expires time.Time               // by what the parents granted; nothing learned here lives longer
	servers []netip.AddrPort        // of a stub or forward zone, in place of ns and glue
	forward bool                    // servers are resolvers

	status dnssec.Status // of the chain from the trust anchor to here
	code   uint16        // why it is not Secure
	text   string
	ds     []dns.RR       // what vouches for the keys, when Secure: DS, or trust anchors
	keys   *dnssec.KeySet // once fetched
}

// left is for how long the delegation still holds.
func (z *zone) left(now time.Time) time.Duration { return max(z.expires.Sub(now), 0) }

const signedZone = dnssec.Secure

// bogusZoneTTL is for how long a delegation whose security could not be
// established is remembered.
const bogusZoneTTL = time.Minute

// closest is the deepest zone known that encloses q; for DS the one above it,
// which alone can answer (RFC 4035 §3.1.4.1).
func (t *task) closest(ctx context.Context, q Question) (*zone, error) {
	n := q.Name
	if q.Type == dns.TypeDS && n != "." {
		n = parent(n)
	}
	for ; ; n = parent(n) {
		if z, err := t.configuredZone(ctx, n); z != nil || err != nil {
			return z, err
		}
		if n == "." {
			return t.root(ctx)
		}
		if z := t.knownZone(n); z != nil && !t.endsSoon(z) {
			return z, nil
		}
	}
}

// endsSoon says that a delegation would end what is looked up anew as early as
// before, and has to be asked for again itself.
func (t *task) endsSoon(z *zone) bool {
	return t.renew > 0 && len(t.active) == 1 && z.left(t.now()) <= 2*t.renew
}

// knownZone is the zone cut at name, if it is known.
func (t *task) knownZone(name string) *zone {
	if z, ok := t.zones[name]; ok {
		return z
	}
	d, ok := t.r.cache.Get(cache.Delegation, name, dns.TypeNS)
	if !ok {
		return nil
	}
	z := &zone{
		name: name, ns: namesIn(d.RRs), glue: glueFor(d.Glue),
		expires: d.Granted, status: d.Status, code: d.Code, text: d.Text, ds: d.Proof,
	}
	if anchors := t.r.anchorsAt(name); anchors != nil && d.Status == dnssec.Secure {
		t.trust(z, anchors) // those of now, not of when it was cached
	}
	t.zones[name] = z
	return z
}

func (t *task) now() time.Time { return t.r.config.Clock() }

// today is the time of day, by which what others dated is judged.
func (t *task) today() time.Time { return t.r.config.Wall() }

// delegate is the zone that a reply from z refers to.
func (t *task) delegate(ctx context.Context, z *zone, r *reply) (*zone, error) {
	set := r.cut(z.name)
	child := &zone{name: set.Name, ns: namesIn(set.RRs)}
	// Glue counts for this delegation only, and only where z may speak for the
	// name: in the child or beside it (RFC 9471).
	var kept []dns.RR
	for _, rr := range r.glue {
		name := dns.CanonicalName(rr.Header().Name)
		addr, ok := addressOf(rr)
		switch {
		case !ok || rr.Header().Class != dns.ClassINET || !slices.Contains(child.ns, name) || !t.r.config.mayAsk(addr):
		case !below(z.name, name):
			// Who may delegate the zone may send us anywhere with it; but what it
			// says of others' names is often old.
			if len(child.foreign) < maxForeign {
				child.foreign = append(child.foreign, addr)
			}
		case len(kept) < maxGlue:
			rr = dns.Copy(rr)
			rr.Header().Name = name
			kept = append(kept, rr)
		}
	}
	child.glue = glueFor(kept)
	// The parent grants the delegation, and cannot grant what it does not have
	// itself (ghost domains, CVE-2012-1191; phoenix domains).
	ttl := min(ttlOf(*set), z.expires.Sub(t.now()), cache.MaxTTL)
	child.expires = t.now().Add(ttl)
	secured, err := t.secureChild(ctx, z, child, r)
	if err != nil {
		return nil, err
	}
	if child.status == dnssec.Bogus {
		secured = min(secured, bogusZoneTTL)
	}
	t.zones[child.name] = child
	t.r.cache.Put(cache.RRset{
		Name: child.name, Type: dns.TypeNS, Use: cache.Delegation, Rank: cache.RankReferral,
		TTL: min(ttl, secured), Granted: child.expires,
		Status: child.status, Code: child.code, Text: child.text,
		RRs: set.RRs[:min(len(set.RRs), maxServerNS)], Proof: child.ds, Glue: kept,
	})
	return child, nil
}

func namesIn(ns []dns.RR) []string {
	var names []string
	for _, rr := range ns {
		if n, ok := rr.(*dns.NS); ok && len(names) < maxServerNS {
			if name := dns.CanonicalName(n.Ns); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

func glueFor(rrs []dns.RR) map[string][]netip.Addr {
	glue := map[string][]netip.Addr{}
	for _, rr := range rrs {
		if addr, ok := addressOf(rr); ok {
			name := dns.CanonicalName(rr.Header().Name)
			glue[name] = append(glue[name], addr)
		}
	}
	return glue
}

// rootHints is the root as the configuration has it, good enough to ask for the
// root itself.
func (r *Resolver) rootHints(hints []dns.RR) (*zone, error) {
	z := &zone{name: "."}
	var addresses, ns []dns.RR
	for _, rr := range hints {
		switch rr.(type) {
		case *dns.NS:
			if dns.CanonicalName(rr.Header().Name) == "." {
				ns = append(ns, rr)
			}
		case *dns.A, *dns.AAAA:
			if addr, ok := addressOf(rr); ok && r.config.mayAsk(addr) {
				addresses = append(addresses, rr)
			}
		}
	}
	z.ns, z.glue = namesIn(ns), glueFor(addresses)
	for name := range z.glue {
		if !slices.Contains(z.ns, name) {
			delete(z.glue, name)
		}
	}
	if len(z.glue) == 0 {
		return nil, errors.New("iterate: root hints name no root server with an address that may be asked")
	}
	return z, nil
}

// hintsTTL is how long the hints stand in for the root when no root server
// answers the priming query.
const hintsTTL = time.Minute

// root is the root zone, primed if need be (RFC 9609 §3, §4).
func (t *task) root(ctx context.Context) (*zone, error) {
	if z := t.knownZone("."); z != nil {
		return z, nil
	}
	hints := *t.r.hints
	// Nobody takes the root back: its servers are to be asked for again, but what
	// they say may outlast them.
	z := &zone{name: ".", ns: hints.ns, glue: hints.glue, expires: t.now().Add(cache.MaxTTL)}
	ttl := hintsTTL
	var glue []dns.RR
	c := t.cursor(&hints)
	r, err := t.ask(ctx, c, Question{".", dns.TypeNS})
	if err != nil {
		if k := asFailure(err).kind; k == cancelled || k == outOfBudget {
			return nil, err
		}
	} else if r.kind == answer {
		set := r.set(r.answer, dns.TypeNS, ".")
		z.ns, ttl = namesIn(set.RRs), min(ttlOf(*set), cache.MaxTTL)
		z.glue = map[string][]netip.Addr{}
		for _, ns := range z.ns {
			// The addresses of servers known before are those of the hints; those
			// of others come with the reply, which only a root server gave.
			if known := hints.glue[ns]; len(known) > 0 {
				z.glue[ns] = known
			}
		}
		for _, rr := range r.glue {
			name := dns.CanonicalName(rr.Header().Name)
			if addr, ok := addressOf(rr); ok && slices.Contains(z.ns, name) && t.r.config.mayAsk(addr) && !slices.Contains(z.glue[name], addr) {
				z.glue[name] = append(z.glue[name], addr)
			}
		}
		if len(z.glue) == 0 {
			z.ns, z.glue = hints.ns, hints.glue
		}
	}
	z.status = dnssec.Insecure
	if anchors := t.r.anchorsAt("."); anchors != nil {
		t.trust(z, anchors)
	} else if t.r.distrusted(".", t.today()) {
		t.distrust(z)
	}
	t.zones["."] = z
	var nsRRs []dns.RR
	for _, ns := range z.ns {
		nsRRs = append(nsRRs, &dns.NS{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNS, Class: dns.ClassINET}, Ns: ns})
		for _, addr := range z.glue[ns] {
			glue = append(glue, addressRecord(ns, addr))
		}
	}
	t.r.cache.Put(cache.RRset{
		Name: ".", Type: dns.TypeNS, Use: cache.Delegation, Rank: cache.RankReferral,
		TTL: ttl, Granted: z.expires,
		Status: z.status, Code: z.code, Text: z.text, RRs: nsRRs, Proof: z.ds, Glue: glue,
	})
	return z, nil
}

func addressRecord(name string, addr netip.Addr) dns.RR {
	if addr.Is4() {
		return &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: addr.AsSlice()}
	}
	return &dns.AAAA{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeAAAA, Class: dns.ClassINET}, AAAA: addr.AsSlice()}
}
