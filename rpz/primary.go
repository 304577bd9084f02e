package rpz

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// Peer is a server that may fetch the zone.
type Peer struct {
	Name    string         // in records, logs and metrics
	Address netip.Addr     // that it asks from
	Key     string         // name of the key that it signs with
	Notify  netip.AddrPort // where it is told of a new zone; the zero one: nowhere
}

// PrimaryConfig is what a Primary needs. All fields are needed where nothing else is
// said.
type PrimaryConfig struct {
	Zone       string           // name of the zone that it will be given
	Listen     []netip.AddrPort // TCP and UDP
	Peers      []Peer
	Keys       Keys
	Clock      func() time.Time
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

// Check says what is wrong with the peers.
func (c *PrimaryConfig) Check() error {
	names := make(map[string]bool)
	doors := make(map[door]string)
	for i, p := range c.Peers {
		switch {
		case p.Name == "" || names[p.Name]:
			return fmt.Errorf("peers[%d]: name %q; give each peer a name of its own", i, p.Name)
		case !p.Address.IsValid() || p.Address.IsUnspecified():
			return fmt.Errorf("peers[%d] (%s): address: missing; give the one address that it asks from", i, p.Name)
		}
		names[p.Name] = true
		key, known := c.Keys[dns.CanonicalName(p.Key)]
		if !known {
			return fmt.Errorf("peers[%d] (%s): key: %q is not in the file of keys", i, p.Name, p.Key)
		}
		at := door{p.Address.Unmap(), key.Name}
		if other, taken := doors[at]; taken {
			return fmt.Errorf("peers[%d] (%s): the same address and key as peer %s; give it a key of its own", i, p.Name, other)
		}
		doors[at] = p.Name
	}
	return nil
}

// door is how a peer shows who it is: both have to be right.
type door struct {
	address netip.Addr
	key     string
}

// Primary serves a zone to its peers, and to nobody else.
type Primary struct {
	c       PrimaryConfig
	peers   map[door]*peer
	known   map[netip.Addr]string // names of the peers at an address
	metrics *metrics
	tcp     []*gate
	udp     []*net.UDPConn

	now atomic.Pointer[history] // nil before the first zone

	mu    sync.Mutex // guards quiet
	quiet map[string]time.Time
}

// peer is a Peer with what goes on with it.
type peer struct {
	Peer
	key   Key
	slots chan struct{} // one for each transfer under way
	news  chan struct{} // there is a zone that it has not been told of
}

const (
	maxTransfers = 2                // at a time, for a peer: a slow one holds up itself
	writeWait    = 30 * time.Second // for one message to be taken
	idleWait     = 10 * time.Second // for a question, and between two
	maxQuestions = 100              // on a connection
	quietFor     = time.Minute      // between two lines of the log with the same complaint
)

// Listen opens the sockets. The caller calls Run, which closes them.
func Listen(c PrimaryConfig) (_ *Primary, err error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if c.Zone, err = CheckName(c.Zone); err != nil {
		return nil, err
	}
	p := &Primary{c: c, peers: make(map[door]*peer), known: make(map[netip.Addr]string), quiet: make(map[string]time.Time)}
	for _, each := range c.Peers {
		key := c.Keys[dns.CanonicalName(each.Key)]
		at := door{each.Address.Unmap(), key.Name}
		p.peers[at] = &peer{Peer: each, key: key, slots: make(chan struct{}, maxTransfers), news: make(chan struct{}, 1)}
		if other := p.known[at.address]; other != "" {
			p.known[at.address] = other + " or " + each.Name
		} else {
			p.known[at.address] = each.Name
		}
	}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	for _, at := range c.Listen {
		if err := p.open(at); err != nil {
			return nil, err
		}
	}
	if p.metrics, err = newMetrics(c.Registerer, p); err != nil {
		return nil, err
	}
	return p, nil
}

// open listens at an address, on the same port for both transports.
func (p *Primary) open(at netip.AddrPort) error {
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		return err
	}
	p.tcp = append(p.tcp, newGate(l, p.known))
	u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(l.Addr().(*net.TCPAddr).AddrPort()))
	if err != nil {
		return err
	}
	p.udp = append(p.udp, u)
	return nil
}

// Addresses are those that it listens at.
func (p *Primary) Addresses() (all []netip.AddrPort) {
	for _, g := range p.tcp {
		all = append(all, g.Addr().(*net.TCPAddr).AddrPort())
	}
	return all
}

// Publish serves a zone from now on, in place of the one before, and has the peers
// told. Until it is first called, peers get SERVFAIL: an empty zone would unblock
// everything. One goroutine at a time calls it.
func (p *Primary) Publish(z *Zone) {
	before := p.now.Load()
	if before != nil && before.zone.serial == z.serial && before.zone.digest == z.digest {
		return
	}
	p.now.Store(before.then(z))
	for _, each := range p.peers {
		select {
		case each.news <- struct{}{}:
		default: // it is told of the newest anyway
		}
	}
}

// Run serves until ctx ends. It cuts transfers that are then under way; the peers
// fetch again.
func (p *Primary) Run(ctx context.Context) error {
	defer p.Close()
	work, ctx := errgroup.WithContext(ctx)
	for _, g := range p.tcp {
		work.Go(func() error { return p.serve(ctx, &dns.Server{Listener: g}, g.Close) })
	}
	for _, u := range p.udp {
		work.Go(func() error { return p.serve(ctx, &dns.Server{PacketConn: u}, func() error { return nil }) })
	}
	for _, each := range p.peers {
		if each.Notify.IsValid() {
			work.Go(func() error { p.notify(ctx, each); return nil })
		}
	}
	return work.Wait()
}

// serve runs one server until ctx ends; cut ends what its connections wait for.
func (p *Primary) serve(ctx context.Context, s *dns.Server, cut func() error) error {
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	s.Handler = p
	s.TsigProvider = p.c.Keys
	s.MsgAcceptFunc = accept
	s.MaxTCPQueries = maxQuestions
	s.ReadTimeout = idleWait
	s.IdleTimeout = func() time.Duration { return idleWait }
	s.UDPSize = dns.MinMsgSize * 2 // a question with a signature
	ended := make(chan error, 1)
	go func() { ended <- s.ActivateAndServe() }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve the policy zone: %w", err)
	case <-started:
	}
	select {
	case err := <-ended:
		return fmt.Errorf("serve the policy zone: %w", err)
	case <-ctx.Done():
	}
	_ = cut() // a listener that is closed already
	_ = s.ShutdownContext(context.WithoutCancel(ctx))
	<-ended
	return nil
}

// Close closes the sockets of a primary that is not run. It may be called twice.
func (p *Primary) Close() {
	for _, g := range p.tcp {
		g.Close()
	}
	for _, u := range p.udp {
		u.Close()
	}
}

// gate lets connections in: all that a peer's address may have, few in all from
// elsewhere. What has been let in is bound to take each message in time.
type gate struct {
	net.Listener
	known map[netip.Addr]string

	mu   sync.Mutex
	open map[*passage]bool
	from map[netip.Addr]int // open ones by peer; the zero address stands for all others
}

const (
	maxFromPeer      = 16 // connections open
	maxFromStrangers = 16 // of all of them together
)

func newGate(l net.Listener, known map[netip.Addr]string) *gate {
	return &gate{Listener: l, known: known, open: make(map[*passage]bool), from: make(map[netip.Addr]int)}
}

// Accept waits for a connection that may stay.
func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if p := g.admit(c); p != nil {
			return p, nil
		}
		c.Close()
	}
}

func (g *gate) admit(c net.Conn) *passage {
	from, most := addressOf(c.RemoteAddr()), maxFromPeer
	if g.known[from] == "" {
		from, most = netip.Addr{}, maxFromStrangers
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.from[from] >= most {
		return nil
	}
	g.from[from]++
	p := &passage{Conn: c, gate: g, from: from}
	g.open[p] = true
	return p
}

// Close closes the listener and all that it let in.
func (g *gate) Close() error {
	g.mu.Lock()
	open := make([]*passage, 0, len(g.open))
	for p := range g.open {
		open = append(open, p)
	}
	g.mu.Unlock()
	err := g.Listener.Close()
	for _, p := range open {
		p.Close()
	}
	return err
}

// passage is a connection that was let in.
type passage struct {
	net.Conn
	gate *gate
	from netip.Addr
}

// Write has to be done within writeWait: one who does not read loses the connection.
func (p *passage) Write(b []byte) (int, error) {
	if err := p.SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
		return 0, err
	}
	return p.Conn.Write(b)
}

func (p *passage) Close() error {
	p.gate.mu.Lock()
	if p.gate.open[p] {
		delete(p.gate.open, p)
		p.gate.from[p.from]--
	}
	p.gate.mu.Unlock()
	return p.Conn.Close()
}

func addressOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
