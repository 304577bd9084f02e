package transport

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"cordon/resolver/wire"
)

const (
	// oobSize has room for one packet information message of either family and,
	// in a message that goes out, for the length of its segments.
	oobSize = 64
	// addressSize holds the socket address of either family.
	addressSize = unix.SizeofSockaddrInet6
	// querySpace and replySpace keep the buffers apart. They are no multiple of a
	// page: buffers at one offset in their pages would share a few lines of the
	// processor's cache.
	querySpace = maxQuery + 192
	replySpace = wire.MaxUDP + 112
	// maxSegmented bounds a message that the kernel cuts, in bytes: before it is
	// cut it has to be a possible datagram, with the headers of either family.
	maxSegmented = 65000
)

// message is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type message struct {
	hdr unix.Msghdr
	len uint32
}

// segments is how many datagrams a message to be sent stands for.
func (m *message) segments() int { return int(m.hdr.Iovlen) }

// replies counts the datagrams of messages to be sent.
func replies(ms []message) (n int) {
	for i := range ms {
		n += ms[i].segments()
	}
	return n
}

// inBatch is where packets are received. Everything that the kernel fills is
// set up once, so that a batch costs no more than putting back lengths.
type inBatch struct {
	received int // packets of the last receive
	control  int // bytes of oob that the kernel may fill

	messages [batchSize]message
	vectors  [batchSize]unix.Iovec
	from     [batchSize][addressSize]byte
	oob      [batchSize][oobSize]byte
	packets  [batchSize][querySpace]byte
}

// newInBatch asks for control messages where replies need their own source.
func newInBatch(wildcard bool) *inBatch {
	b := &inBatch{received: batchSize}
	if wildcard {
		b.control = oobSize
	}
	for i := range b.messages {
		h := &b.messages[i].hdr
		b.vectors[i].Base = &b.packets[i][0]
		b.vectors[i].SetLen(maxQuery)
		h.Iov = &b.vectors[i]
		h.SetIovlen(1)
		h.Name = &b.from[i][0]
		if wildcard {
			h.Control = &b.oob[i][0]
		}
	}
	return b
}

// ready gives the messages to receive into.
func (b *inBatch) ready() []message {
	for i := range b.received {
		h := &b.messages[i].hdr
		h.Namelen = addressSize
		h.SetControllen(b.control)
		h.Flags = 0
	}
	b.received = 0
	return b.messages[:]
}

// packet gives a query and who sent it; false for one that was cut, or came
// from no address.
func (b *inBatch) packet(i int) (query []byte, peer netip.AddrPort, ok bool) {
	m := &b.messages[i]
	if m.hdr.Flags&unix.MSG_TRUNC != 0 {
		return nil, peer, false
	}
	peer, ok = addrPort(b.address(i))
	return b.packets[i][:min(int(m.len), maxQuery)], peer, ok
}

// address is the socket address that the packet came from.
func (b *inBatch) address(i int) []byte {
	return b.from[i][:min(int(b.messages[i].hdr.Namelen), addressSize)]
}

// source is the control message that makes the reply leave from the address that
// was asked; nil where the socket is bound to one.
func (b *inBatch) source(i int) []byte {
	if b.control == 0 {
		return nil
	}
	return replySource(b.oob[i][:min(int(b.messages[i].hdr.Controllen), oobSize)])
}

// addrPort reads a socket address (struct sockaddr_in or sockaddr_in6).
func addrPort(a []byte) (netip.AddrPort, bool) {
	if len(a) < unix.SizeofSockaddrInet4 {
		return netip.AddrPort{}, false
	}
	port := uint16(a[2])<<8 | uint16(a[3])
	switch family := *(*uint16)(unsafe.Pointer(&a[0])); { // in the machine's byte order
	case family == unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:8])), port), true
	case family == unix.AF_INET6 && len(a) >= unix.SizeofSockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(a[8:24])).Unmap(), port), true
	}
	return netip.AddrPort{}, false
}

// outBatch is the replies of a batch. Those of one length to one client socket,
// from one source, go out as one message that the kernel cuts (UDP_SEGMENT,
// udp(7)): the way through the network stack is walked once for all of them.
type outBatch struct {
	replies int
	cutting cutting

	buffers [batchSize][replySpace]byte
	reply   [batchSize]outReply
	next    [batchSize]int8 // the next reply of the same group; none: -1
	last    [batchSize]int8 // of the group that begins here
	size    [batchSize]int  // its bytes

	groups   int
	group    [batchSize]int8 // its first reply
	slots    [2 * batchSize]int8
	vectors  [batchSize]unix.Iovec
	oob      [batchSize][oobSize]byte
	sendable [batchSize]message
	single   [batchSize]message // what is left of a batch in which a message was split
}

// outReply is a reply and where it goes. The slices are of the buffers of both
// batches.
type outReply struct {
	packet, address, source []byte
}

// newOutBatch makes an empty batch; cuts says whether the kernel knows UDP_SEGMENT.
func newOutBatch(cuts bool) *outBatch {
	b := &outBatch{cutting: cutting{never: !cuts}}
	b.reset()
	return b
}

func (b *outBatch) reset() {
	b.replies, b.groups = 0, 0
	b.cutting.next()
	for i := range b.slots {
		b.slots[i] = -1
	}
}

// buffer is where the next reply is to be appended.
func (b *outBatch) buffer() []byte { return b.buffers[b.replies][:0] }

// add takes a reply, which was appended to buffer. address and source stay as
// they are until the batch is sent.
func (b *outBatch) add(packet, address, source []byte) {
	i := int8(b.replies)
	r := &b.reply[i]
	*r = outReply{packet, address, source}
	b.replies++
	b.next[i], b.last[i], b.size[i] = -1, i, len(packet)
	if b.cutting.on() && len(packet) > 0 {
		if first := b.like(r); first >= 0 {
			b.next[b.last[first]] = i
			b.last[first] = i
			b.size[first] += len(packet)
			return
		}
		b.slots[b.slot(r)] = i
	}
	b.group[b.groups] = i
	b.groups++
}

// like gives the first reply of the group that r belongs to and has room in;
// none: -1.
func (b *outBatch) like(r *outReply) int8 {
	first := b.slots[b.slot(r)]
	if first < 0 {
		return -1
	}
	o := &b.reply[first]
	if len(o.packet) != len(r.packet) || b.size[first]+len(r.packet) > maxSegmented || string(o.address) != string(r.address) || string(o.source) != string(r.source) {
		return -1
	}
	return first
}

// slot is where a group of such replies is noted. Two that meet in one take
// turns: a group that is not found costs a message more and nothing else.
func (b *outBatch) slot(r *outReply) int {
	h := uint32(len(r.packet)) * 0x9e3779b1
	for i := 2; i < len(r.address); i += 2 {
		h = (h ^ uint32(r.address[i]) ^ uint32(r.address[i+1])<<8) * 0x85ebca6b
	}
	return int(h>>16) % len(b.slots)
}

// messages gives what is to be sent, a message for each group.
func (b *outBatch) messages() []message {
	v := 0
	for g := range b.groups {
		first := b.group[g]
		start := v
		for i := first; i >= 0; i = b.next[i] {
			b.vectors[v].Base = unsafe.SliceData(b.reply[i].packet)
			b.vectors[v].SetLen(len(b.reply[i].packet))
			v++
		}
		m := &b.sendable[g]
		b.address(m, &b.reply[first], b.vectors[start:v])
		if v-start > 1 {
			b.cut(m, &b.reply[first], b.oob[g][:])
		}
	}
	return b.sendable[:b.groups]
}

// address sets a message up for replies that go to one place.
func (b *outBatch) address(m *message, r *outReply, vectors []unix.Iovec) {
	*m = message{}
	m.hdr.Iov = &vectors[0]
	m.hdr.SetIovlen(len(vectors))
	m.hdr.Name = unsafe.SliceData(r.address)
	m.hdr.Namelen = uint32(len(r.address))
	if len(r.source) > 0 {
		m.hdr.Control = unsafe.SliceData(r.source)
		m.hdr.SetControllen(len(r.source))
	}
}

// cut has the kernel cut a message into datagrams of the length of r.
func (b *outBatch) cut(m *message, r *outReply, oob []byte) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	*(*uint16)(unsafe.Pointer(&oob[unix.CmsgLen(0)])) = uint16(len(r.packet))
	n := unix.CmsgSpace(2)
	n += copy(oob[n:], r.source)
	m.hdr.Control = &oob[0]
	m.hdr.SetControllen(n)
}

// split gives the messages again with the first one, which the kernel would not
// cut, as one message for each of its replies.
func (b *outBatch) split(ms []message) []message {
	n := 0
	failed := ms[0]
	var rest [batchSize]message
	vectors := unsafe.Slice(failed.hdr.Iov, failed.segments())
	for i := range vectors {
		m := failed
		m.hdr.Iov = &vectors[i]
		m.hdr.SetIovlen(1)
		b.uncut(&m)
		rest[n] = m
		n++
	}
	n += copy(rest[n:], ms[1:])
	copy(b.single[:], rest[:n])
	return b.single[:n]
}

// uncut takes the length of segments out of a message's control messages.
func (b *outBatch) uncut(m *message) {
	n := unix.CmsgSpace(2)
	left := int(m.hdr.Controllen) - n
	if left <= 0 {
		m.hdr.Control = nil
		m.hdr.SetControllen(0)
		return
	}
	m.hdr.Control = (*byte)(unsafe.Add(unsafe.Pointer(m.hdr.Control), n))
	m.hdr.SetControllen(left)
}
