package policy

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"cordon/blocklist"
	"cordon/resolver/wire"
)

// pages are the stop pages of one list: where a name must not lead that no list
// names.
type pages struct {
	addresses []netip.Addr
	names     [][]byte // of the pages' hosts: wire form, lower case
}

func newPages(categories map[string]blocklist.StopPage) (p pages) {
	for _, c := range categories {
		for _, a := range slices.Concat(c.IPv4, c.IPv6) {
			p.addresses = append(p.addresses, a.Unmap())
		}
		// A page whose host is an address stands among those.
		if u, err := url.Parse(c.Page); err == nil && u.Hostname() != "" {
			if name, err := wire.ParseName(strings.ToLower(u.Hostname())); err == nil {
				p.names = append(p.names, name)
			}
			if a, err := netip.ParseAddr(u.Hostname()); err == nil {
				p.addresses = append(p.addresses, a.Unmap())
			}
		}
	}
	return p
}

// StopPageAddress reports whether an address is a stop page's of a loaded list, in
// any of the forms that lead a client there: itself, an IPv6 form that ends in it
// (mapped, RFC 4291 §2.5.5; NAT64, RFC 6052 §2.2), or 6to4 (RFC 3056 §2).
func (g *Generation) StopPageAddress(a netip.Addr) bool {
	a = a.Unmap()
	if g.isPage(a) {
		return true
	}
	if !a.Is6() {
		return false
	}
	b := a.As16()
	if g.isPage(netip.AddrFrom4([4]byte(b[12:]))) {
		return true
	}
	return b[0] == 0x20 && b[1] == 0x02 && g.isPage(netip.AddrFrom4([4]byte(b[2:6])))
}

func (g *Generation) isPage(a netip.Addr) bool {
	for _, l := range g.lists {
		if slices.Contains(l.pages.addresses, a) {
			return true
		}
	}
	return false
}

// StopPageName reports whether a name (wire form, lower case) is the host of a stop
// page of a loaded list.
func (g *Generation) StopPageName(name []byte) bool {
	for _, l := range g.lists {
		for _, n := range l.pages.names {
			if string(n) == string(name) {
				return true
			}
		}
	}
	return false
}
