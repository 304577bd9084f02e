package iterate

import (
	"slices"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
)

// A zone may name servers of which its parent knows nothing. They never replace
// those of the delegation, and do not live longer than it (RFC 2181 §5.4.1 ranks
// them higher, which is what made ghost domains possible); they are asked when
// none of the delegation's answers.

// noteChildServers keeps the names of further servers of z that r brings.
func (t *task) noteChildServers(z *zone, r *reply, msg *dns.Msg) {
	if !msg.Authoritative || z.forward || z.name == "." {
		return
	}
	ns := r.set(r.authority, dns.TypeNS, z.name)
	if ns == nil {
		ns = r.set(r.answer, dns.TypeNS, z.name)
	}
	if ns == nil || !slices.ContainsFunc(namesIn(ns.RRs), func(n string) bool { return !slices.Contains(z.ns, n) }) {
		return
	}
	t.r.cache.Put(cache.RRset{
		Name: z.name, Type: dns.TypeNS, Use: cache.Child, Rank: cache.RankAuthority,
		TTL: min(ttlOf(*ns), z.left(t.now())), RRs: ns.RRs[:min(len(ns.RRs), maxServerNS)],
	})
}

// childServers are the servers that only z itself names.
func (t *task) childServers(z *zone) []string {
	e, ok := t.r.cache.Get(cache.Child, z.name, dns.TypeNS)
	if !ok {
		return nil
	}
	return slices.DeleteFunc(namesIn(e.RRs), func(n string) bool { return slices.Contains(z.ns, n) })
}
