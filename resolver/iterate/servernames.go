package iterate

import (
	"context"
	"slices"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
)

// ServerNames gives the names of the servers of the zone that name is in and of
// those above it, top-level domains left aside: as their parents name them, as far
// as the cache knows. Where it knows none, the servers are asked for the closest
// zone's. Names are canonical.
func (r *Resolver) ServerNames(ctx context.Context, name string) []string {
	name, err := canonical(name)
	if err != nil {
		return nil
	}
	var all []string
	for n := name; dns.CountLabel(n) > 1; n = parent(n) {
		if d, ok := r.cache.Get(cache.Delegation, n, dns.TypeNS); ok {
			all = append(all, namesIn(d.RRs)...)
		}
	}
	// A question for the NS records of a name that is no zone's gives the SOA, and
	// with it the zone.
	for range 2 {
		if len(all) > 0 || dns.CountLabel(name) < 2 {
			break
		}
		result := r.Resolve(ctx, Request{Question: Question{name, dns.TypeNS}})
		all = append(all, namesIn(result.Answer)...)
		i := slices.IndexFunc(result.Authority, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
		if i < 0 {
			break
		}
		name = dns.CanonicalName(result.Authority[i].Header().Name)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
