package iterate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
	"cordon/resolver/dnssec"
)

// Stub is a zone whose authoritative servers are known from the configuration,
// and not asked for at the parent: a private zone, or one that is to be had
// nearby.
type Stub struct {
	Zone    string
	Servers []netip.AddrPort // may be asked wherever they are
}

// Forward is a zone, or "." for everything, that other resolvers resolve. What
// they say is validated here all the same.
type Forward struct {
	Zone    string
	Servers []netip.AddrPort // may be asked wherever they are
	// First goes to the authoritative servers when these give nothing.
	First bool
}

// NegativeAnchor is a name at and below which nothing is validated for a while,
// because its signatures are known to be broken (RFC 7646).
type NegativeAnchor struct {
	Name  string
	Until time.Time // zero: for good, as is right for a private zone only
}

// configured is a zone whose servers the configuration names.
type configured struct {
	servers        []netip.AddrPort
	forward, first bool
}

// configure reads stubs, forwards and negative trust anchors.
func (r *Resolver) configure() error {
	add := func(zone string, c *configured) error {
		name, err := canonical(zone)
		switch {
		case err != nil:
			return fmt.Errorf("iterate: zone %q: %w", zone, err)
		case len(c.servers) == 0:
			return fmt.Errorf("iterate: zone %q has no servers", zone)
		case r.configured[name] != nil:
			return fmt.Errorf("iterate: zone %q is configured twice", zone)
		}
		r.configured[name] = c
		return nil
	}
	var errs []error
	for _, s := range r.config.Stubs {
		if dns.Fqdn(s.Zone) == "." {
			return errors.New("iterate: a stub zone for the root: name the servers in the root hints")
		}
		errs = append(errs, add(s.Zone, &configured{servers: s.Servers}))
	}
	for _, f := range r.config.Forwards {
		errs = append(errs, add(f.Zone, &configured{servers: f.Servers, forward: true, first: f.First}))
	}
	for _, n := range r.config.NegativeAnchors {
		name, err := canonical(n.Name)
		if err != nil {
			errs = append(errs, fmt.Errorf("iterate: negative trust anchor %q: %w", n.Name, err))
		}
		r.negative[name] = n.Until
	}
	return errors.Join(errs...)
}

// configuredZone is the stub or forward zone at name, or nil.
func (t *task) configuredZone(ctx context.Context, name string) (*zone, error) {
	c := t.r.configured[name]
	if c == nil || t.bypassed[name] {
		return nil, nil
	}
	if z, ok := t.zones[name]; ok {
		return z, nil
	}
	z := &zone{name: name, servers: c.servers, forward: c.forward, expires: t.now().Add(cache.MaxTTL)}
	if err := t.secureConfigured(ctx, z); err != nil {
		return nil, err
	}
	t.zones[name] = z
	return z, nil
}

// secureConfigured finds out the status of a zone to which no referral leads:
// its DS is looked up where everyone else finds it.
func (t *task) secureConfigured(ctx context.Context, z *zone) error {
	z.status = dnssec.Insecure
	anchors, at := t.r.trustAbove(z.name, t.today())
	switch {
	case anchors == nil:
		return nil
	case at == z.name:
		t.trust(z, anchors)
		return nil
	}
	f, err := t.lookup(ctx, Question{z.name, dns.TypeDS})
	switch {
	case err != nil && t.cd:
	case err != nil:
		return err
	case len(f.sets) > 0 && f.sets[0].Status == dnssec.Secure && f.sets[0].Type == dns.TypeDS:
		t.trust(z, f.sets[0].RRs)
	case f.denial != nil && f.denial.Status == dnssec.Secure && !f.denial.Cut:
		z.status, z.code = dnssec.Bogus, dns.ExtendedErrorCodeNSECMissing
		z.text = z.name + " is configured here, and its parent proves that it is no zone of its own; name it in a negative trust anchor"
	}
	return nil
}

// trustAbove gives the trust anchors that name stands under, and where; none, if
// a negative one is closer.
func (r *Resolver) trustAbove(name string, now time.Time) ([]dns.RR, string) {
	for n := name; ; n = parent(n) {
		if anchors := r.anchorsAt(n); anchors != nil {
			return anchors, n
		}
		if r.distrusted(n, now) || n == "." {
			return nil, ""
		}
	}
}

// distrusted says whether a negative trust anchor stands at name.
func (r *Resolver) distrusted(name string, now time.Time) bool {
	until, ok := r.negative[name]
	return ok && (until.IsZero() || now.Before(until))
}

// extendedErrorNegativeTrustAnchor says that nothing was validated here since the
// operator wants it so (draft-farrokhi-dnsop-ede-nta).
const extendedErrorNegativeTrustAnchor uint16 = 33

// distrust is how the configuration makes z insecure, and for how long.
func (t *task) distrust(z *zone) time.Duration {
	z.status, z.code, z.text = dnssec.Insecure, extendedErrorNegativeTrustAnchor, "negative trust anchor at "+z.name
	if until := t.r.negative[z.name]; !until.IsZero() {
		return until.Sub(t.today())
	}
	return cache.MaxTTL
}

// bypass leaves the closest forward zone around name aside, if its servers gave
// nothing and the configuration has it so.
func (t *task) bypass(name string, f *failure) bool {
	if f.kind != unreachable {
		return false
	}
	for n := name; ; n = parent(n) {
		if c := t.r.configured[n]; c != nil && c.first && !t.bypassed[n] {
			t.bypassed[n] = true
			delete(t.zones, n)
			return true
		}
		if n == "." {
			return false
		}
	}
}
