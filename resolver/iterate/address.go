package iterate

import (
	"net/netip"

	"github.com/miekg/dns"
)

// notPublic are ranges that no server on the Internet has, beyond those that
// netip knows (RFC 6890): a delegation that names one points into this machine or
// its network (CVE-2026-50251).
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), // unspecified, loopback, IPv4-compatible
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("fec0::/10"),
}

// mayAsk says whether a server at addr may be asked.
func (c *Config) mayAsk(addr netip.Addr) bool {
	if addr.Is4() && c.DisableIPv4 || addr.Is6() && c.DisableIPv6 || addr.Zone() != "" {
		return false
	}
	if addr.IsUnspecified() || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return false
	}
	for _, p := range c.Allow {
		if p.Contains(addr) {
			return true
		}
	}
	return isPublic(addr)
}

// isPublic says whether addr can be that of a server on the Internet.
func isPublic(addr netip.Addr) bool {
	if !addr.IsGlobalUnicast() || addr.IsPrivate() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(addr) {
			return false
		}
	}
	return true
}

// addressOf is the address in an A or AAAA record. A mapped address counts as
// the IPv4 address it is, so that it is judged as one.
func addressOf(rr dns.RR) (netip.Addr, bool) {
	var raw []byte
	switch x := rr.(type) {
	case *dns.A:
		raw = x.A.To4()
	case *dns.AAAA:
		raw = x.AAAA.To16()
	}
	addr, ok := netip.AddrFromSlice(raw)
	return addr.Unmap(), ok
}
