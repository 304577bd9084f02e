package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// portTries is how many ports are tried before the kernel chooses one; a port
// is taken only if another query or service has it.
const portTries = 8

// exchangeUDP asks by UDP. The kernel drops what does not come from the server.
func (u *Upstream) exchangeUDP(ctx context.Context, server netip.AddrPort, a *asked) (*dns.Msg, error) {
	conn, err := dialUDP(server)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // nothing is lost with it
	defer breakOff(ctx, conn)()
	if _, err := conn.Write(a.packet); err != nil {
		return nil, err
	}
	buf := u.buffers.Get().(*[maxReply]byte)
	defer u.buffers.Put(buf) // what is parsed keeps nothing of it
	for missed := 0; ; {
		n, err := conn.Read(buf[:])
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
		default: // an empty datagram, or an ICMP error, which anybody can send (CVE-2020-25705)
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

// dialUDP opens a socket with a random source port, connected to the server. It
// goes to the kernel itself, since each query has a socket, and a net.Dialer costs
// as much again as what the kernel does.
func dialUDP(server netip.AddrPort) (*os.File, error) {
	server = netip.AddrPortFrom(server.Addr().Unmap(), server.Port())
	v4, family := server.Addr().Is4(), unix.AF_INET6
	if v4 {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket: %w", err)
	}
	if err := connectUDP(fd, v4, server); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "upstream"), nil // #nosec G115 -- a descriptor is not negative
}

func connectUDP(fd int, v4 bool, server netip.AddrPort) error {
	if err := dontFragment(fd, v4); err != nil {
		return fmt.Errorf("forbid fragments: %w", err)
	}
	for range portTries {
		port, err := randomPort()
		if err != nil {
			return err
		}
		local, err := sockaddr(netip.AddrPortFrom(unspecified(v4), port))
		if err != nil {
			return err
		}
		err = unix.Bind(fd, local)
		if err == nil {
			break
		}
		// Without a bind the kernel chooses when the socket is connected.
		if !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EACCES) {
			return fmt.Errorf("bind: %w", err)
		}
	}
	remote, err := sockaddr(server)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, remote); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

func unspecified(v4 bool) netip.Addr {
	if v4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// sockaddr is a as the kernel takes it.
func sockaddr(a netip.AddrPort) (unix.Sockaddr, error) {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}, nil
	}
	s := &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	if zone := a.Addr().Zone(); zone != "" { // of a link-local address
		i, err := net.InterfaceByName(zone)
		if err != nil {
			return nil, fmt.Errorf("interface %s: %w", zone, err)
		}
		s.ZoneId = uint32(i.Index) // #nosec G115 -- an index is small and positive
	}
	return s, nil
}
