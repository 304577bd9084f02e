package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// paths lead from addresses on port 53 to servers elsewhere, or nowhere. They
// lose packets on the way there and back, and count what is sent. TCP loses
// nothing: the kernel would send it again.
type paths struct {
	loss float64

	mu   sync.Mutex
	dice *rand.Rand // guarded by mu

	total, wasted atomic.Int64 // queries; of these to where nobody is

	ctx    context.Context // ends when they are closed
	cancel context.CancelFunc
	socks  []io.Closer
	group  sync.WaitGroup
}

func newPaths(loss float64, seed uint64) *paths {
	p := &paths{loss: loss, dice: rand.New(rand.NewPCG(seed, 1))}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// open makes a path from port 53 of an address to a server. Without one the
// packets vanish: there is not even an ICMP message, as there would be if nobody
// listened.
func (p *paths) open(from netip.Addr, server netip.AddrPort) error {
	at := netip.AddrPortFrom(from, 53)
	udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return fmt.Errorf("open path: %w", err)
	}
	p.socks = append(p.socks, udp)
	p.group.Go(func() { p.packets(udp, server) })
	if !server.IsValid() {
		return nil
	}
	tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return fmt.Errorf("open path: %w", err)
	}
	p.socks = append(p.socks, tcp)
	p.group.Go(func() { p.streams(tcp, server) })
	return nil
}

// sent gives how many queries were sent, and how many of them to dead servers.
func (p *paths) sent() (total, wasted int64) { return p.total.Load(), p.wasted.Load() }

func (p *paths) close() error {
	p.cancel()
	var errs []error
	for _, s := range p.socks {
		errs = append(errs, s.Close())
	}
	p.group.Wait()
	return errors.Join(errs...)
}

func (p *paths) loses() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dice.Float64() < p.loss
}

func (p *paths) packets(from *net.UDPConn, server netip.AddrPort) {
	for {
		packet := make([]byte, 4096)
		n, client, err := from.ReadFromUDPAddrPort(packet)
		if err != nil {
			return // closed
		}
		p.total.Add(1)
		if !server.IsValid() {
			p.wasted.Add(1)
			continue
		}
		if p.loses() {
			continue
		}
		p.group.Go(func() {
			reply, err := carry(server, packet[:n])
			if err == nil && !p.loses() {
				_, _ = from.WriteToUDPAddrPort(reply, client)
			}
		})
	}
}

// carry takes one packet to the server and brings its reply.
func carry(server netip.AddrPort, packet []byte) ([]byte, error) {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := c.Write(packet); err != nil {
		return nil, err
	}
	reply := make([]byte, 65535)
	n, err := c.Read(reply)
	return reply[:n], err
}

func (p *paths) streams(from *net.TCPListener, server netip.AddrPort) {
	for {
		client, err := from.Accept()
		if err != nil {
			return // closed
		}
		p.total.Add(1)
		p.group.Go(func() {
			defer client.Close()
			there, err := (&net.Dialer{}).DialContext(p.ctx, "tcp4", server.String())
			if err != nil {
				return
			}
			defer there.Close()
			stop := context.AfterFunc(p.ctx, func() { client.Close(); there.Close() })
			defer stop()
			back := make(chan struct{})
			go func() { _, _ = io.Copy(client, there); client.Close(); close(back) }()
			_, _ = io.Copy(there, client)
			there.Close()
			<-back
		})
	}
}
