package transport

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"slices"
)

// errProxy: what came from a listed proxy does not begin with a PROXY header of
// version 2. It says nothing about the client.
var errProxy = errors.New("transport: no sound PROXY header")

const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyFixed     = len(proxySignature) + 4 // with version and command, family, length
	// maxProxy is the longest variable part taken, in bytes: two addresses and
	// what TLVs a proxy in front of a resolver has to tell.
	maxProxy = 1024
)

// readProxy reads the PROXY protocol header, version 2, with which a proxy
// begins a connection, and returns the client's address. It is invalid for a
// connection that the proxy makes for itself (command LOCAL), and for families
// other than TCP over IPv4 and IPv6: the proxy's own address then counts. It
// reads no byte more than the header has.
func readProxy(r io.Reader) (netip.AddrPort, error) {
	var none netip.AddrPort
	var buf [proxyFixed + maxProxy]byte
	fixed := buf[:proxyFixed]
	if _, err := io.ReadFull(r, fixed); err != nil {
		return none, err
	}
	if string(fixed[:len(proxySignature)]) != proxySignature {
		return none, errProxy
	}
	command, family := fixed[12], fixed[13]
	size := int(binary.BigEndian.Uint16(fixed[14:]))
	if command>>4 != 2 || command&0xf > 1 || size > maxProxy {
		return none, errProxy
	}
	rest := buf[proxyFixed : proxyFixed+size]
	if _, err := io.ReadFull(r, rest); err != nil {
		return none, err
	}
	if command&0xf == 0 { // LOCAL
		return none, nil
	}
	switch family {
	case 0x11: // TCP over IPv4: two addresses, two ports
		if size < 12 {
			return none, errProxy
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest)), binary.BigEndian.Uint16(rest[8:])), nil
	case 0x21: // TCP over IPv6
		if size < 36 {
			return none, errProxy
		}
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest)).Unmap(), binary.BigEndian.Uint16(rest[32:])), nil
	}
	return none, nil
}

// proxied says whether connections from addr must begin with a PROXY header.
// From no other may they: a header would let anyone take any address.
func (c *Config) proxied(addr netip.Addr) bool {
	return slices.ContainsFunc(c.Proxies, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
}
