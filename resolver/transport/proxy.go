package transport

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
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
// other than IPv4 and IPv6: the proxy's own address then counts. It reads no byte
// more than the header has.
func readProxy(r io.Reader) (netip.AddrPort, error) {
	var none netip.AddrPort
	var buf [proxyFixed + maxProxy]byte
	if _, err := io.ReadFull(r, buf[:proxyFixed]); err != nil {
		return none, err
	}
	size, ok := proxySize(buf[:proxyFixed])
	if !ok {
		return none, errProxy
	}
	if _, err := io.ReadFull(r, buf[proxyFixed:size]); err != nil {
		return none, err
	}
	client, ok := proxyClient(buf[:size])
	if !ok {
		return none, errProxy
	}
	return client, nil
}

// cutProxy is readProxy for the header in front of a datagram; it returns what is
// behind it as well, and false without a sound header. A reply goes to the proxy,
// and has none.
func cutProxy(packet []byte) (query []byte, client netip.AddrPort, ok bool) {
	if len(packet) < proxyFixed {
		return nil, client, false
	}
	size, ok := proxySize(packet[:proxyFixed])
	if !ok || len(packet) < size {
		return nil, client, false
	}
	client, ok = proxyClient(packet[:size])
	return packet[size:], client, ok
}

// behindProxy takes the query out of a proxy's datagram, and the client for whom it
// comes: the proxy itself if it asks on its own account.
func behindProxy(packet []byte, proxy netip.AddrPort) (query []byte, peer netip.AddrPort, ok bool) {
	query, client, ok := cutProxy(packet)
	if !client.IsValid() {
		client = proxy
	}
	return query, client, ok
}

// proxySize tells from the fixed part of a header how long the whole is, in
// bytes; false if it is none.
func proxySize(fixed []byte) (size int, ok bool) {
	size = int(binary.BigEndian.Uint16(fixed[14:]))
	version, command := fixed[12]>>4, fixed[12]&0xf
	ok = string(fixed[:len(proxySignature)]) == proxySignature && version == 2 && command <= proxied && size <= maxProxy
	return proxyFixed + size, ok
}

const proxied = 1 // the command PROXY; LOCAL is 0

// proxyClient is the client that a whole header names. By which transport the
// client came to the proxy does not matter: it may have been another one.
func proxyClient(header []byte) (client netip.AddrPort, ok bool) {
	const ipv4, ipv6 = 1, 2 // followed by the transport: 1 stream, 2 datagram
	command, family, transport := header[12]&0xf, header[13]>>4, header[13]&0xf
	rest := header[proxyFixed:]
	switch {
	case command != proxied || transport != 1 && transport != 2:
		return client, true
	case family == ipv4: // two addresses, two ports
		if len(rest) < 12 {
			return client, false
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest)), binary.BigEndian.Uint16(rest[8:])), true
	case family == ipv6:
		if len(rest) < 36 {
			return client, false
		}
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest)).Unmap(), binary.BigEndian.Uint16(rest[32:])), true
	}
	return client, true
}

// speaksFor says whether what comes from addr, a connection or a datagram, must
// begin with a PROXY header. From no other may it: a header would let anyone take
// any address.
func speaksFor(proxies []netip.Prefix, addr netip.Addr) bool {
	for _, p := range proxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
