package iterate

import (
	"context"
	"fmt"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
	"cordon/resolver/dnssec"
)

// Trust anchors can change while the resolver runs (RFC 5011); who follows them
// asks for their zones' keys here, and puts what it believes in force.

// anchorSet is the trust anchors by zone. It does not change.
type anchorSet map[string][]dns.RR

// SetAnchors puts these trust anchors, DS or DNSKEY records, in the place of those
// before. It holds for each question that is asked from now on; what was answered
// before stays cached.
func (r *Resolver) SetAnchors(anchors []dns.RR) error {
	set := anchorSet{}
	for _, rr := range anchors {
		rr = dns.Copy(rr)
		switch rr.(type) {
		case *dns.DS, *dns.DNSKEY:
		default:
			return fmt.Errorf("iterate: trust anchor %q is neither DS nor DNSKEY", rr)
		}
		name := dns.CanonicalName(rr.Header().Name)
		rr.Header().Name = name
		set[name] = append(set[name], rr)
	}
	before := r.anchors.Swap(&set)
	if before == nil {
		return nil
	}
	for zone, rrs := range *before {
		if !equalRecords(rrs, set[zone]) {
			r.cache.Remove(cache.Delegation, zone, dns.TypeNS) // names those before as what vouches for it
			r.cache.Remove(cache.Data, zone, dns.TypeDNSKEY)
		}
	}
	return nil
}

func equalRecords(a, b []dns.RR) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].String() != b[i].String() {
			return false
		}
	}
	return true
}

// hasAnchors says whether a zone has trust anchors.
func (r *Resolver) hasAnchors(zone string) bool { return (*r.anchors.Load())[zone] != nil }

// anchorsAt gives the trust anchors of a zone, as records of the caller's own:
// who puts them into the cache packs them, and packing a record writes its
// length field.
func (r *Resolver) anchorsAt(zone string) []dns.RR {
	var anchors []dns.RR
	for _, rr := range (*r.anchors.Load())[zone] {
		anchors = append(anchors, dns.Copy(rr))
	}
	return anchors
}

// Keys gives take the DNSKEY set of zone as its servers have it now, neither
// cached nor validated, server after server until take returns nil; at most
// maxBogus of them. The error is take's last one, or why nobody could be asked.
func (r *Resolver) Keys(ctx context.Context, zone string, take func(dnssec.Set) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.config.Limits.Time, errOutOfTime)
	defer cancel()
	t := r.newTask(true)
	z, err := t.zoneAt(ctx, zone)
	if err != nil {
		return fmt.Errorf("find the servers of %s: %w", zone, err)
	}
	q := Question{zone, dns.TypeDNSKEY}
	c := t.cursor(z)
	var refused error
	for range maxBogus {
		reply, err := t.ask(ctx, c, q)
		if err != nil {
			if refused != nil {
				return refused
			}
			return fmt.Errorf("ask for the keys of %s: %w", zone, err)
		}
		s := reply.set(reply.answer, dns.TypeDNSKEY, zone)
		if reply.kind != answer || s == nil {
			refused = fmt.Errorf("a server of %s gives no DNSKEY for it", zone)
			continue
		}
		if refused = take(*s); refused == nil {
			r.signal(zone)
			return nil
		}
	}
	return refused
}

// zoneAt goes down to the zone of this name. What it is worth is not asked: the
// task must be one that does not validate.
func (t *task) zoneAt(ctx context.Context, name string) (*zone, error) {
	q := Question{name, dns.TypeDNSKEY}
	z, err := t.closest(ctx, q)
	for range t.r.config.Limits.Referrals {
		if err != nil || z.name == name {
			return z, err
		}
		r, err := t.ask(ctx, t.cursor(z), q)
		switch {
		case err != nil:
			return nil, err
		case r.kind != referral:
			return t.within(z, name), nil // served by its parent's servers
		}
		if z, err = t.delegate(ctx, z, r); err != nil {
			return nil, err
		}
	}
	return nil, &failure{kind: badPath, code: dns.ExtendedErrorCodeNoReachableAuthority, text: "too many zone cuts on the way to " + name}
}
