package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"cordon/blocklog"
)

const (
	// batchSize is how many packets one system call reads or writes at most.
	batchSize = 64
	// maxQuery is the longest query taken, in bytes: far more than a name, a
	// cookie and padding need.
	maxQuery = 4096
	// receiveBuffer is asked of the kernel, in bytes, to ride out a burst; it
	// grants what net.core.rmem_max allows.
	receiveBuffer = 4 << 20
	// maxReadErrors in a row mean that the socket is broken.
	maxReadErrors = 100
)

// udpSocket is one listening socket. One goroutine reads it; any may write.
type udpSocket struct {
	conn     *net.UDPConn
	local    netip.AddrPort
	wildcard bool // bound to no address: the source of a reply has to be set
	cuts     bool // the kernel knows UDP_SEGMENT (Linux 4.18)
}

func listenUDP(ctx context.Context, addr netip.AddrPort) (*udpSocket, error) {
	v4 := addr.Addr().Unmap().Is4()
	cuts := false
	lc := listenConfig(func(fd int) error {
		if err := reusePort(fd); err != nil {
			return err
		}
		cuts = knowsSegments(fd)
		return dontFragment(fd, v4)
	})
	pc, err := lc.ListenPacket(ctx, network("udp", addr.Addr()), addr.String())
	if err != nil {
		return nil, err
	}
	conn := pc.(*net.UDPConn)
	u := &udpSocket{
		conn:     conn,
		cuts:     cuts,
		local:    conn.LocalAddr().(*net.UDPAddr).AddrPort(),
		wildcard: addr.Addr().IsUnspecified(),
	}
	_ = conn.SetReadBuffer(receiveBuffer) // a smaller one works too
	switch {
	case u.wildcard && v4:
		err = ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagDst, true)
	case u.wildcard:
		err = ipv6.NewPacketConn(conn).SetControlMessage(ipv6.FlagDst, true)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ask for packet information: %w", err), conn.Close())
	}
	return u, nil
}

// serve reads batches until ctx ends. The replies of a batch are sent after the
// batch was committed.
func (u *udpSocket) serve(ctx context.Context, h Handler, w *workers, c *Config, m *metrics) error {
	socket, err := newKernelSocket(u.conn)
	if err != nil {
		return fmt.Errorf("read from the UDP socket at %s: %w", u.local, err)
	}
	return newUDPLoop(u, socket, h, w, c, m).run(ctx)
}

// packetSocket is what the loop needs of the kernel.
type packetSocket interface {
	// receive reads what is there, without waiting; EAGAIN when there is nothing.
	receive(ms []message) (int, error)
	// await does so too, but waits until there is something or the read deadline
	// passes.
	await(ms []message) (int, error)
	// send writes as many of the messages, in order, as the kernel takes. An
	// error is that of the first message; EAGAIN: there was no room for it for a
	// while.
	send(ms []message) (int, error)
	// nap waits for d.
	nap(d time.Duration)
}

// udpLoop is the state of one reading goroutine.
type udpLoop struct {
	*udpSocket
	socket  packetSocket
	handler Handler
	session Session
	workers *workers
	proxies []netip.Prefix
	metrics *metrics
	pace    *pace
	in      *inBatch
	out     *outBatch
}

func newUDPLoop(u *udpSocket, s packetSocket, h Handler, w *workers, c *Config, m *metrics) *udpLoop {
	return &udpLoop{
		udpSocket: u, socket: s, handler: h, session: h.Session(), workers: w, proxies: c.Proxies, metrics: m,
		pace: newPace(c.UDPMaxWait, c.Clock), in: newInBatch(u.wildcard), out: newOutBatch(u.cuts),
	}
}

func (l *udpLoop) run(ctx context.Context) error {
	failures := 0
	for ctx.Err() == nil {
		ms := l.in.ready()
		n, err := 0, error(unix.EAGAIN)
		if l.pace.fast() {
			n, err = l.socket.receive(ms)
		}
		if err == unix.EAGAIN {
			n, err = l.socket.await(ms)
		}
		if err == nil {
			failures = 0
			l.in.received = n
			l.answer()
			// Resolutions under way need the processor that a nap would hold.
			if d := l.pace.after(n); d > 0 && !l.workers.busy() {
				l.socket.nap(d)
			}
			continue
		}
		if err == unix.EINTR || ctx.Err() != nil {
			continue
		}
		l.metrics.receiveErrors.Inc()
		if failures++; failures == maxReadErrors || errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("read from the UDP socket at %s: %w", l.local, err)
		}
		pause(ctx, 10*time.Millisecond)
	}
	return nil
}

// answer deals with one batch of packets. It does not allocate, but for those
// that need resolution.
func (l *udpLoop) answer() {
	var count [Later + 1]int
	shed := 0
	l.out.reset()
	for i := range l.in.received {
		query, peer, ok := l.in.packet(i)
		if ok && speaksFor(l.proxies, peer.Addr()) {
			query, peer, ok = behindProxy(query, peer)
		}
		if !ok {
			count[Drop]++
			continue
		}
		from := Meta{Transport: blocklog.UDP, Peer: peer}
		reply, verdict := l.session.Answer(l.out.buffer(), query, from)
		count[verdict]++
		switch verdict {
		case Reply:
			l.out.add(reply, l.in.address(i), l.in.source(i))
		case Later:
			if !l.resolve(query, from, l.in.address(i), l.in.source(i)) {
				shed++
			}
		}
	}
	l.metrics.udp.count(count, shed)
	if l.out.replies == 0 {
		return
	}
	if err := l.session.Commit(); err != nil {
		l.metrics.udp.withheld.Add(float64(l.out.replies))
		return
	}
	l.send()
}

// send writes all replies of the batch; one that the kernel refuses is counted
// and passed over. When it has had no room for a while, the rest is given up:
// waiting for each would keep the clients of the next batch waiting, too.
func (l *udpLoop) send() {
	for ms := l.out.messages(); len(ms) > 0; {
		n, err := l.socket.send(ms)
		switch {
		case n > 0:
			l.out.cutting.worked(ms[:n])
			ms = ms[n:]
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			l.metrics.udp.sendErrors.Add(float64(replies(ms)))
			return
		case ms[0].segments() > 1: // each of its replies may go by itself
			l.out.cutting.refused(err)
			ms = l.out.split(ms)
		default:
			l.metrics.udp.sendErrors.Inc()
			ms = ms[1:]
		}
	}
}

// resolve hands a query to a worker, with copies of what the next batch will
// overwrite.
func (l *udpLoop) resolve(query []byte, from Meta, address, source []byte) bool {
	query, address, source = bytes.Clone(query), bytes.Clone(address), bytes.Clone(source)
	return l.workers.start(func(ctx context.Context) {
		reply := l.handler.Resolve(ctx, query, from)
		if reply == nil {
			return
		}
		if err := l.sendOne(reply, address, source); err != nil {
			l.metrics.udp.sendErrors.Inc()
		}
	})
}

// sendOne writes a reply from any goroutine.
func (u *udpSocket) sendOne(reply, address, source []byte) error {
	raw, err := u.conn.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		sent = sendmsg(int(fd), reply, address, source)
		return sent != unix.EAGAIN // else wait for room
	})
	return errors.Join(err, sent)
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
