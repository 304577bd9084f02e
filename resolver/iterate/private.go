package iterate

import (
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
	"cordon/resolver/dnssec"
)

// withholdPrivate leaves out the records of e that lead to a private address,
// unless the name may have one. What is left cannot be validated any more.
func (c *Config) withholdPrivate(e *cache.RRset) {
	if len(c.PrivateAddresses) == 0 || c.mayBePrivate(e.Name) {
		return
	}
	kept := slices.DeleteFunc(slices.Clone(e.RRs), func(rr dns.RR) bool {
		return slices.ContainsFunc(pointsTo(rr), c.isPrivate)
	})
	if len(kept) == len(e.RRs) {
		return
	}
	e.RRs, e.Sigs, e.Proof = kept, nil, nil
	e.Status = min(e.Status, dnssec.Insecure)
	e.Code, e.Text = dns.ExtendedErrorCodeFiltered, "a private address is withheld"
	if len(kept) == 0 {
		e.Kind = cache.NoData
	}
}

func (c *Config) mayBePrivate(name string) bool {
	return slices.ContainsFunc(c.PrivateDomains, func(d string) bool { return below(dns.CanonicalName(d), name) })
}

func (c *Config) isPrivate(addr netip.Addr) bool {
	return slices.ContainsFunc(c.PrivateAddresses, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// pointsTo are the addresses in a record: of A and AAAA, and the hints of SVCB
// and HTTPS (RFC 9460 §7.3). Mapped ones count as what they map to.
func pointsTo(rr dns.RR) []netip.Addr {
	if addr, ok := addressOf(rr); ok {
		return []netip.Addr{addr}
	}
	var values []dns.SVCBKeyValue
	switch x := rr.(type) {
	case *dns.SVCB:
		values = x.Value
	case *dns.HTTPS:
		values = x.Value
	}
	var addrs []netip.Addr
	for _, v := range values {
		var hints []netip.Addr
		switch hint := v.(type) {
		case *dns.SVCBIPv4Hint:
			for _, ip := range hint.Hint {
				a, _ := netip.AddrFromSlice(ip)
				hints = append(hints, a.Unmap())
			}
		case *dns.SVCBIPv6Hint:
			for _, ip := range hint.Hint {
				a, _ := netip.AddrFromSlice(ip)
				hints = append(hints, a.Unmap())
			}
		}
		addrs = append(addrs, hints...)
	}
	return addrs
}
