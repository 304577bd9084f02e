package transport

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"cordon/blocklog"
)

// Config says where to listen and what the limits are. Clock is required, and
// at least one address; TLS with the encrypted transports.
type Config struct {
	UDP, TCP      []netip.AddrPort // addresses to listen at; port 0 means any free one
	DoT, DoH, DoQ []netip.AddrPort // DoH by TCP and UDP, for HTTP/2 and HTTP/3

	TLS     TLS
	Proxies []netip.Prefix // whose TCP connections and datagrams begin with a PROXY header, version 2

	Sockets int // UDP sockets, and reading goroutines, per address; default GOMAXPROCS
	// UDPMaxWait is the longest that a reading goroutine waits for more packets
	// after a small batch, when they come fast; 0: it never does.
	UDPMaxWait time.Duration

	InFlight int // resolutions under way at a time that came by UDP, and as many by streams; default 2048

	Streams          int           // stream connections at a time; default 4096
	StreamsPerClient int           // of them per IPv4 address or IPv6 /64; default 128
	Pipeline         int           // queries of one connection in work or with a reply not yet sent; default 64
	Idle             time.Duration // a connection with no whole query for so long is closed; default 10 s
	Write            time.Duration // time that a peer has to take what is sent; default 5 s
	Handshake        time.Duration // time for a TLS or QUIC handshake, or a PROXY header; default 5 s
	// MayShakeHands is asked before each TLS or QUIC handshake, which costs as
	// much as a thousand answers; nil: any may. Safe for concurrent use.
	MayShakeHands func(netip.Addr) bool

	Grace time.Duration // time that a shutdown leaves to what is under way; default 5 s

	Clock      func() time.Time
	Registerer prometheus.Registerer // default: metrics are kept but not registered
	Log        *slog.Logger          // default: nothing is logged
}

// TLS is what the encrypted transports share. The caller runs Certificates.Run.
type TLS struct {
	Certificates *Certificates
	// Clients may sign client certificates (Meta.Certified), which are asked for
	// and not required; nil: none are asked for.
	Clients *x509.CertPool
}

// Server holds the open sockets. Between Listen and Serve queries wait in the
// kernel.
type Server struct {
	c    Config
	m    *metrics
	udp  []*udpSocket
	tcp  []listener   // TCP, then DoT, then DoH
	quic []quicSocket // DoH, then DoQ
}

// Listen opens the sockets. The caller must call Serve or Close.
func Listen(ctx context.Context, c Config) (*Server, error) {
	if c.Clock == nil {
		return nil, errors.New("transport: no clock")
	}
	encrypted := len(c.DoT) + len(c.DoH) + len(c.DoQ)
	if len(c.UDP)+len(c.TCP)+encrypted == 0 {
		return nil, errors.New("transport: no address to listen at")
	}
	if encrypted > 0 && c.TLS.Certificates == nil {
		return nil, errors.New("transport: no certificate for DoT, DoH and DoQ")
	}
	c.setDefaults()
	m, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register the metrics of the transports: %w", err)
	}
	s := &Server{c: c, m: m}
	// TCP first: its address cannot be shared, so a second server started by
	// mistake fails here instead of taking a part of the first one's clients.
	for _, t := range []struct {
		speaks blocklog.Transport
		addrs  []netip.AddrPort
	}{{blocklog.TCP, c.TCP}, {blocklog.DoT, c.DoT}, {blocklog.DoH, c.DoH}} {
		for _, addr := range t.addrs {
			l, err := listenTCP(ctx, addr)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("listen at %s by %s: %w", addr, strings.ToUpper(t.speaks.String()), err), s.Close())
			}
			s.tcp = append(s.tcp, listener{l, t.speaks})
		}
	}
	for _, t := range []struct {
		speaks blocklog.Transport
		addrs  []netip.AddrPort
	}{{blocklog.DoH, s.DoH()}, {blocklog.DoQ, c.DoQ}} { // HTTP/3 at the ports of HTTP/2
		for _, addr := range t.addrs {
			q, err := listenQUIC(ctx, addr, t.speaks)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("listen at %s by QUIC: %w", addr, err), s.Close())
			}
			s.quic = append(s.quic, q)
		}
	}
	for _, addr := range c.UDP {
		for range c.Sockets {
			u, err := listenUDP(ctx, addr)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("listen at %s by UDP: %w", addr, err), s.Close())
			}
			s.udp = append(s.udp, u)
			addr = u.local // the others share the port that the first one got
		}
	}
	return s, nil
}

func (c *Config) setDefaults() {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&c.Sockets, runtime.GOMAXPROCS(0))
	set(&c.InFlight, 2048)
	set(&c.Streams, 4096)
	set(&c.StreamsPerClient, 128)
	set(&c.Pipeline, 64)
	setTime := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	setTime(&c.Idle, 10*time.Second)
	setTime(&c.Write, 5*time.Second)
	setTime(&c.Handshake, 5*time.Second)
	setTime(&c.Grace, 5*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// UDP returns the addresses that are listened at, one per socket.
func (s *Server) UDP() []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, u := range s.udp {
		addrs = append(addrs, u.local)
	}
	return addrs
}

// TCP returns the addresses that are listened at.
func (s *Server) TCP() []netip.AddrPort { return s.speaking(blocklog.TCP) }

// DoT returns the addresses that are listened at.
func (s *Server) DoT() []netip.AddrPort { return s.speaking(blocklog.DoT) }

// DoH returns the addresses that are listened at, by TCP and UDP.
func (s *Server) DoH() []netip.AddrPort { return s.speaking(blocklog.DoH) }

// DoQ returns the addresses that are listened at.
func (s *Server) DoQ() []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, q := range s.quic {
		if q.speaks == blocklog.DoQ {
			addrs = append(addrs, q.address())
		}
	}
	return addrs
}

func (s *Server) speaking(t blocklog.Transport) []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, l := range s.tcp {
		if l.speaks == t {
			addrs = append(addrs, l.Addr().(*net.TCPAddr).AddrPort())
		}
	}
	return addrs
}

func (c *Config) mayShakeHands(addr netip.Addr) bool {
	return c.MayShakeHands == nil || c.MayShakeHands(addr)
}

// Serve answers queries until ctx ends or a socket fails for good, then shuts
// down in order: it stops reading, waits up to Grace for what is under way and
// sends it, then closes the sockets. It returns nil after ctx has ended. Call
// it once.
func (s *Server) Serve(ctx context.Context, h Handler) error {
	work, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()

	udp := newWorkers(work, s.c.InFlight)
	streams := newStreams(&s.c, s.m, h, newWorkers(work, s.c.InFlight))
	if len(s.c.DoT) > 0 {
		streams.dot = s.c.TLS.Certificates.config(s.c.TLS.Clients, "dot") // RFC 7858 §3.1, and its ALPN name
	}
	if len(s.c.DoQ) > 0 {
		streams.doq = s.c.TLS.Certificates.config(s.c.TLS.Clients, "doq") // RFC 9250 §4.1.1
	}
	if len(s.c.DoH) > 0 {
		streams.doh = newDoH(streams)
	}

	readers, reading := errgroup.WithContext(ctx)
	stop := context.AfterFunc(reading, s.stopReading)
	defer stop()
	for _, u := range s.udp {
		readers.Go(func() error { return u.serve(reading, h, udp, &s.c, s.m) })
	}
	for _, l := range s.tcp {
		readers.Go(func() error { return streams.accept(reading, l) })
	}
	if streams.doh != nil {
		readers.Go(func() error { return streams.doh.runH2(reading) })
	}
	for _, q := range s.quic {
		if q.speaks == blocklog.DoH {
			readers.Go(func() error { return streams.doh.runH3(reading, q) })
		} else {
			readers.Go(func() error { return streams.acceptDoQ(reading, q) })
		}
	}
	err := readers.Wait() // the readers of connections, too, stop when reading ends

	grace := time.AfterFunc(s.c.Grace, func() {
		giveUp()
		streams.abort()
	})
	udp.wait()
	streams.wait(work)
	grace.Stop()
	return errors.Join(err, s.Close())
}

// Close closes the sockets of a server that does not serve.
func (s *Server) Close() error {
	var errs []error
	for _, u := range s.udp {
		errs = append(errs, u.conn.Close())
	}
	for _, q := range s.quic {
		if err := q.conn.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	for _, l := range s.tcp {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// stopReading makes reads and accepts return at once. The UDP sockets stay open
// for the replies under way.
func (s *Server) stopReading() {
	for _, u := range s.udp {
		_ = u.conn.SetReadDeadline(past) // fails only if closed
	}
	for _, l := range s.tcp {
		_ = l.Close()
	}
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// listenConfig opens listening sockets with control applied to each.
func listenConfig(control func(fd int) error) *net.ListenConfig {
	return &net.ListenConfig{KeepAlive: -1, Control: rawControl(control)}
}

func listenTCP(ctx context.Context, addr netip.AddrPort) (*net.TCPListener, error) {
	l, err := listenConfig(nil).Listen(ctx, network("tcp", addr.Addr()), addr.String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// network names the network for one address family, so that [::] does not take
// IPv4 as well.
func network(name string, addr netip.Addr) string {
	if addr.Unmap().Is4() {
		return name + "4"
	}
	return name + "6"
}
