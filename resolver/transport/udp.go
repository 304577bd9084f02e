package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"cordon/blocklog"
	"cordon/resolver/wire"
)

const (
	// batchSize is how many packets one system call reads or writes at most.
	batchSize = 64
	// maxQuery is the longest query taken, in bytes: far more than a name, a
	// cookie and padding need.
	maxQuery = 4096
	// oobSize has room for one packet information message of either family.
	oobSize = 64
	// receiveBuffer is asked of the kernel, in bytes, to ride out a burst; it
	// grants what net.core.rmem_max allows.
	receiveBuffer = 4 << 20
	// maxReadErrors in a row mean that the socket is broken.
	maxReadErrors = 100
)

// packetBatch is what ipv4.PacketConn and ipv6.PacketConn have in common
// (their Message types are the same).
type packetBatch interface {
	ReadBatch(ms []ipv4.Message, flags int) (int, error)
	WriteBatch(ms []ipv4.Message, flags int) (int, error)
}

// udpSocket is one listening socket. One goroutine reads it; any may write.
type udpSocket struct {
	conn     *net.UDPConn
	batch    packetBatch
	local    netip.AddrPort
	wildcard bool // bound to no address: the source of a reply has to be set
}

func listenUDP(ctx context.Context, addr netip.AddrPort) (*udpSocket, error) {
	v4 := addr.Addr().Unmap().Is4()
	lc := listenConfig(func(fd int) error {
		if err := reusePort(fd); err != nil {
			return err
		}
		return dontFragment(fd, v4)
	})
	pc, err := lc.ListenPacket(ctx, network("udp", addr.Addr()), addr.String())
	if err != nil {
		return nil, err
	}
	conn := pc.(*net.UDPConn)
	u := &udpSocket{
		conn:     conn,
		local:    conn.LocalAddr().(*net.UDPAddr).AddrPort(),
		wildcard: addr.Addr().IsUnspecified(),
	}
	_ = conn.SetReadBuffer(receiveBuffer) // a smaller one works too
	if v4 {
		p := ipv4.NewPacketConn(conn)
		if u.wildcard {
			err = p.SetControlMessage(ipv4.FlagDst, true)
		}
		u.batch = p
	} else {
		p := ipv6.NewPacketConn(conn)
		if u.wildcard {
			err = p.SetControlMessage(ipv6.FlagDst, true)
		}
		u.batch = p
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ask for packet information: %w", err), conn.Close())
	}
	return u, nil
}

// serve reads batches until ctx ends. The replies of a batch are sent after the
// batch was committed.
func (u *udpSocket) serve(ctx context.Context, h Handler, w *workers, m *metrics) error {
	l := &udpLoop{
		udpSocket: u, handler: h, session: h.Session(), workers: w, metrics: m,
		in:  newMessages(maxQuery, oobSize),
		out: newMessages(wire.MaxUDP, 0),
	}
	failures := 0
	for ctx.Err() == nil {
		n, err := u.batch.ReadBatch(l.in, 0)
		switch {
		case err == nil:
			failures = 0
			l.answer(l.in[:n])
		case ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded):
		default:
			m.receiveErrors.Inc()
			if failures++; failures == maxReadErrors || errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("read from the UDP socket at %s: %w", u.local, err)
			}
			pause(ctx, 10*time.Millisecond)
		}
	}
	return nil
}

// udpLoop is the state of one reading goroutine.
type udpLoop struct {
	*udpSocket
	handler Handler
	session Session
	workers *workers
	metrics *metrics
	in, out []ipv4.Message // batchSize each; in.Buffers[0] and out.Buffers[0] are theirs for good
}

// answer deals with one batch of packets. It does not allocate, but for those
// that need resolution.
func (l *udpLoop) answer(packets []ipv4.Message) {
	var count [Later + 1]int
	shed := 0
	replies := 0
	for i := range packets {
		p := &packets[i]
		addr, ok := p.Addr.(*net.UDPAddr)
		if !ok || p.Flags&unix.MSG_TRUNC != 0 {
			count[Drop]++
			continue
		}
		query := p.Buffers[0][:p.N]
		from := Meta{Transport: blocklog.UDP, Peer: netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), uint16(addr.Port))}
		var source []byte
		if l.wildcard {
			source = replySource(p.OOB[:p.NN])
		}
		out := &l.out[replies]
		reply, verdict := l.session.Answer(out.Buffers[0][:0], query, from)
		count[verdict]++
		switch verdict {
		case Reply:
			out.Buffers[0], out.Addr, out.OOB = reply, addr, source
			replies++
		case Later:
			if !l.resolve(query, from, source) {
				shed++
			}
		}
	}
	l.metrics.udp.count(count, shed)
	if replies == 0 {
		return
	}
	if err := l.session.Commit(); err != nil {
		l.metrics.udp.withheld.Add(float64(replies))
		return
	}
	l.send(l.out[:replies])
}

// send writes all messages; one that the kernel refuses is counted and passed
// over.
func (l *udpLoop) send(ms []ipv4.Message) {
	for len(ms) > 0 {
		n, err := l.batch.WriteBatch(ms, 0)
		if err != nil || n == 0 { // the first one failed
			l.metrics.udp.sendErrors.Inc()
			n = 1
		}
		ms = ms[n:]
	}
}

// resolve hands a query to a worker, with copies of what the next batch will
// overwrite.
func (l *udpLoop) resolve(query []byte, from Meta, source []byte) bool {
	query, source = bytes.Clone(query), bytes.Clone(source)
	return l.workers.start(func(ctx context.Context) {
		reply := l.handler.Resolve(ctx, query, from)
		if reply == nil {
			return
		}
		if _, _, err := l.conn.WriteMsgUDPAddrPort(reply, source, from.Peer); err != nil {
			l.metrics.udp.sendErrors.Inc()
		}
	})
}

func newMessages(size, oob int) []ipv4.Message {
	ms := make([]ipv4.Message, batchSize)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, size)}
		if oob > 0 {
			ms[i].OOB = make([]byte, oob)
		}
	}
	return ms
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
