package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// portTries is how many ports are tried before the kernel chooses one; a port
// is taken only if another query or service has it.
const portTries = 8

// exchangeUDP asks by UDP. The kernel drops what does not come from the server.
func (u *Upstream) exchangeUDP(ctx context.Context, server netip.AddrPort, a *asked) (*dns.Msg, error) {
	conn, err := dialUDP(ctx, server)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // nothing is lost with it
	defer breakOff(ctx, conn)()
	if _, err := conn.Write(a.packet); err != nil {
		return nil, err
	}
	buf := make([]byte, maxReply)
	for missed := 0; ; {
		n, err := conn.Read(buf)
		switch {
		case err == nil:
			reply, err := a.match(buf[:n])
			if err == nil {
				return reply, nil
			}
			if errors.As(err, new(doubt)) {
				return nil, err
			}
		case ctx.Err() != nil:
			return nil, err
		default: // an ICMP error, which anybody can send (CVE-2020-25705)
		}
		u.m.nearMisses.Inc()
		if missed++; missed >= u.c.NearMisses {
			u.m.suspicious.Inc()
			return a.tooSuspicious(), nil
		}
	}
}

// maxReply is the longest datagram that is taken, in bytes. More than we
// announce (1232) is no reason to fail: the rest would be missing anyway.
const maxReply = 4096

// dialUDP opens a socket with a random source port, connected to the server.
func dialUDP(ctx context.Context, server netip.AddrPort) (net.Conn, error) {
	v4 := server.Addr().Unmap().Is4()
	local := netip.IPv6Unspecified()
	if v4 {
		local = netip.IPv4Unspecified()
	}
	for try := 0; ; try++ {
		port := 0
		if try < portTries {
			var err error
			if port, err = randomPort(); err != nil {
				return nil, err
			}
		}
		d := net.Dialer{
			LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, uint16(port))),
			Control:   rawControl(func(fd int) error { return dontFragment(fd, v4) }),
		}
		conn, err := d.DialContext(ctx, network("udp", server.Addr()), server.String())
		if err == nil || port == 0 || !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EACCES) {
			return conn, err
		}
	}
}
