package transport

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// rawControl adapts a function on a file descriptor to net.ListenConfig and
// net.Dialer. nil does nothing.
func rawControl(f func(fd int) error) func(network, address string, c syscall.RawConn) error {
	if f == nil {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
			return cerr
		}
		return err
	}
}

// reusePort lets several sockets share an address; the kernel spreads clients
// over them.
func reusePort(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
}

// knowsSegments says whether the kernel cuts messages (UDP_SEGMENT). An older one
// would send the replies of a message as one datagram.
func knowsSegments(fd int) bool {
	_, err := unix.GetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT)
	return err == nil
}

// dontFragment sends with DF, and takes no path MTU from ICMP, which can be
// forged to make us fragment (RFC 9715 §3.1).
func dontFragment(fd int, v4 bool) error {
	if v4 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
}

// replySource turns the control messages received with a packet into the one
// to send with its reply, so that it leaves from the address that was asked
// (RFC 2181 §4.1). It works in place and returns a part of oob; nil if there is
// no packet information.
//
// The interface is left to the routing table, except for link-local addresses,
// which mean nothing without one.
func replySource(oob []byte) []byte {
	for rest := oob; len(rest) >= unix.SizeofCmsghdr; {
		h, data, next, err := unix.ParseOneSocketControlMessage(rest)
		if err != nil {
			return nil
		}
		message := rest[:min(len(rest), unix.CmsgSpace(len(data)))]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) == unix.SizeofInet4Pktinfo:
			clear(data[0:4]) // in_pktinfo: interface index, local address, header destination
			return message
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) == unix.SizeofInet6Pktinfo:
			if data[0] != 0xfe || data[1]&0xc0 != 0x80 {
				clear(data[16:20]) // in6_pktinfo: address, interface index
			}
			return message
		}
		rest = next
	}
	return nil
}
