package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// What TestAttacksOnTheBlocking sends that is no well-formed question.

// packet is a question for a listed name, A, in wire form, and where its parts
// begin.
type packet struct {
	b                 []byte
	question, records int
}

func newPacket(name string, edns bool) packet {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	if edns {
		q.SetEdns0(1232, true)
	}
	b, err := q.Pack()
	if err != nil {
		panic(err)
	}
	return packet{b, 12, 12 + len(name) + 2 + 4}
}

// with gives a copy with two bytes written at an offset.
func (p packet) with(at int, value uint16) packet {
	p.b = slices.Clone(p.b)
	binary.BigEndian.PutUint16(p.b[at:], value)
	return p
}

func (p packet) append(more ...byte) packet {
	p.b = append(slices.Clone(p.b), more...)
	return p
}

// Offsets in the header.
const (
	atFlags, atQuestions, atAnswers, atAuthority, atAdditional = 2, 4, 6, 8, 10
)

// malformed: each of these is dropped or answered with the error that its RFC
// asks for, without a record.
func (b *blocking) malformed() {
	const drop = -1
	listed, plain := newPacket("www."+listedDomain, true), newPacket("www."+listedDomain, false)
	free := newPacket("www.libre.example", false)
	opt := plain.records
	question := plain.b[plain.question:plain.records]
	record := append(slices.Clone(question), 0, 0, 0, 60, 0, 4, 192, 0, 2, 1)
	options := func(rdata ...byte) packet {
		p := listed.with(len(listed.b)-2, uint16(len(rdata)))
		return p.append(rdata...)
	}
	version := func(v uint16) packet { return listed.with(opt+5, v) } // extended rcode 0, version v
	tsig := append([]byte("\x03key\x00\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x1a\x08hmac-md5\x00"), make([]byte, 16)...)

	for _, m := range []struct {
		name  string
		p     packet
		rcode int
	}{
		{"a reply", plain.with(atFlags, 0x8100), drop},
		{"a header cut", packet{b: plain.b[:11]}, drop},
		{"nothing", packet{b: nil}, drop},
		{"no question", plain.with(atQuestions, 0), dns.RcodeFormatError},
		{"a header alone", packet{b: plain.with(atQuestions, 0).b[:12]}, dns.RcodeFormatError},
		{"a question that is not there", packet{b: plain.b[:12]}, dns.RcodeFormatError},
		{"two questions, the second listed", packet{b: append(free.with(atQuestions, 2).b, question...)}, dns.RcodeFormatError},
		{"two questions, the first listed", packet{b: append(plain.with(atQuestions, 2).b, free.b[free.question:]...)}, dns.RcodeFormatError},
		{"65535 questions", plain.with(atQuestions, 65535), dns.RcodeFormatError},
		{"an answer of the client's own", packet{b: append(plain.with(atAnswers, 1).b, record...)}, dns.RcodeFormatError},
		{"an authority of the client's own", packet{b: append(plain.with(atAuthority, 1).b, record...)}, dns.RcodeFormatError},
		{"65535 additional records", plain.with(atAdditional, 65535), dns.RcodeFormatError},
		{"bytes behind the end", plain.append(1, 2, 3), dns.RcodeFormatError},
		{"a name that points to itself", packet{b: []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01")}, dns.RcodeFormatError},
		{"a name that points to the header", packet{b: []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\xc0\x00\x00\x01\x00\x01")}, dns.RcodeFormatError},
		{"a name that does not end", packet{b: []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x0a")}, dns.RcodeFormatError},
		{"a label of a kind that is reserved", packet{b: []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x41a\x00\x00\x01\x00\x01")}, dns.RcodeFormatError},
		{"a name of 256 bytes", packet{b: slices.Concat([]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"),
			bytes.Repeat([]byte("\x01x"), 118), []byte("\x0apropagande\x07example\x00\x00\x01\x00\x01"))}, dns.RcodeFormatError},
		{"two OPT records", packet{b: append(listed.with(atAdditional, 2).b, listed.b[opt:]...)}, dns.RcodeFormatError},
		{"an OPT record with an owner", packet{b: slices.Concat(listed.b[:opt], []byte("\x01x"), listed.b[opt:])}, dns.RcodeFormatError},
		{"an option that is cut", options(0, 8, 0, 4, 1), dns.RcodeFormatError},
		{"an option without a length", options(0, 8), dns.RcodeFormatError},
		{"EDNS version 1", version(1), dns.RcodeBadVers},
		{"EDNS version 255", version(255), dns.RcodeBadVers},
		{"a signature by a key that is not known", packet{b: append(plain.with(atAdditional, 1).b, tsig...)}, dns.RcodeNotAuth},
	} {
		for _, transport := range []string{"udp", "tcp"} {
			if m.rcode == drop && transport == "tcp" {
				continue // the connection is closed; see streams
			}
			reply, err := b.sends(transport, m.p.b)
			switch {
			case m.rcode == drop:
				if err != nil || reply != nil {
					b.t().Errorf("%s over %s: answered with %x, %v", m.name, transport, reply, err)
				}
				continue
			case err != nil || len(reply) < 12:
				b.t().Errorf("%s over %s: answered with %x, %v", m.name, transport, reply, err)
				continue
			}
			if err := leaks(reply); err != nil {
				b.t().Errorf("%s: %v", m.name, err)
			}
			got := int(reply[3] & 0xf)
			var r dns.Msg
			if err := r.Unpack(reply); err != nil {
				b.t().Errorf("%s: the reply is malformed itself: %v: %x", m.name, err, reply)
			} else if o := r.IsEdns0(); o != nil {
				got |= o.ExtendedRcode()
			}
			if got != m.rcode || len(r.Answer)+len(r.Ns) != 0 {
				b.t().Errorf("%s over %s: rcode %s with %d records, where %s was expected", m.name, transport, dns.RcodeToString[got], len(r.Answer)+len(r.Ns), dns.RcodeToString[m.rcode])
			}
		}
	}

	// OPT and TSIG as the type that is asked for.
	for _, qtype := range []uint16{dns.TypeOPT, dns.TypeTSIG} {
		reply, err := b.sends("udp", plain.with(plain.records-4, qtype).b)
		var r dns.Msg
		if err == nil {
			err = r.Unpack(reply)
		}
		if err != nil || r.Rcode != dns.RcodeSuccess || len(r.Answer) != 0 || len(r.Ns) != 1 {
			b.t().Errorf("type %d is answered with %v, %v", qtype, &r, err)
		}
	}
	// A question cut anywhere is no question.
	for n := 12; n < len(listed.b); n++ {
		reply, err := b.sends("udp", listed.b[:n])
		if err != nil || len(reply) < 12 || reply[3]&0xf != dns.RcodeFormatError {
			b.t().Errorf("cut to %d bytes: answered with %x, %v", n, reply, err)
		}
	}
}

// sends sends a packet and then, from the same socket, a good question. It gives
// the reply to the first, nil where only the good question was answered.
func (b *blocking) sends(transport string, packet []byte) ([]byte, error) {
	c, err := net.Dial(transport, b.dns.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	good := newPacket(listedHost, false).with(0, 0xbeef)
	if len(packet) >= 2 && binary.BigEndian.Uint16(packet) == 0xbeef {
		good = good.with(0, 0xfeed)
	}
	conn := &dns.Conn{Conn: c}
	for _, p := range [][]byte{packet, good.b} {
		if _, err := conn.Write(p); err != nil {
			return nil, err
		}
	}
	// Both come from one socket, so that one reader has them, and neither has to
	// wait for anything: the replies come in order.
	reply := make([]byte, 65535)
	n, err := conn.Read(reply)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(reply[:2], good.b[:2]) {
		return nil, nil
	}
	return reply[:n], nil
}

// streams: what TCP lets a client do with boundaries and time.
func (b *blocking) streams() {
	dial := func() *net.TCPConn {
		c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(b.dns))
		b.check(err)
		b.check(c.SetDeadline(time.Now().Add(30 * time.Second)))
		return c
	}
	framed := func(p packet) []byte {
		return append(binary.BigEndian.AppendUint16(nil, uint16(len(p.b))), p.b...)
	}
	listed := framed(newPacket("www."+listedDomain, true))
	read := func(c io.Reader) (*dns.Msg, error) {
		var length [2]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return nil, err
		}
		raw := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(c, raw); err != nil {
			return nil, err
		}
		r := new(dns.Msg)
		return r, errors.Join(r.Unpack(raw), leaks(raw))
	}

	// Byte by byte.
	c := dial()
	b.check(c.SetNoDelay(true))
	for i := range listed {
		_, err := c.Write(listed[i : i+1])
		b.check(err)
	}
	if r, err := read(c); err != nil || b.blocked(r, "terrorism") != nil {
		b.t().Errorf("byte by byte: %v, %v", r, err)
	}
	// Two hundred in one write, listed and not.
	var all []byte
	const number = 200
	for i := range number {
		p := newPacket([]string{"www." + listedDomain, listedHost, "www.libre.example"}[i%3], true)
		all = append(all, framed(p.with(0, uint16(i)))...)
	}
	_, err := c.Write(all)
	b.check(err)
	answered := map[uint16]bool{}
	for range number {
		r, err := read(c)
		b.check(err)
		if isBlocked(r) != (r.Id%3 != 2) {
			b.t().Errorf("%v is answered with %v", r.Question, r)
		}
		answered[r.Id] = true
	}
	if len(answered) != number {
		b.t().Errorf("%d of %d questions were answered", len(answered), number)
	}
	b.check(c.Close())

	// Frames that end early, hold nothing, or hold what is no question: the other
	// side closes, and nothing is answered that was not asked.
	for name, says := range map[string][]byte{
		"a frame of no bytes": {0, 0}, "a frame of one byte": {0, 1, 0}, "a frame that is cut": listed[:len(listed)-3],
		"a length and nothing": {0xff, 0xff}, "another protocol": []byte("GET /dns-query HTTP/1.1\r\nHost: resolver.example\r\n\r\n"),
		"a reply": framed(newPacket("www."+listedDomain, true).with(atFlags, 0x8180)),
	} {
		c := dial()
		_, err := c.Write(says)
		b.check(err)
		b.check(c.CloseWrite())
		raw, err := io.ReadAll(c)
		if leak := leaks(raw); leak != nil {
			b.t().Errorf("%s: %v", name, leak)
		}
		if len(raw) > 0 && (len(raw) < 14 || raw[5]&0xf == dns.RcodeSuccess) {
			b.t().Errorf("%s is answered with %x, %v", name, raw, err)
		}
		c.Close()
	}
	// One who connects again and again and says nothing keeps nobody else out.
	var idle []net.Conn
	somebody := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	for range 300 {
		c, err := somebody.Dial("tcp", b.dns.String())
		b.check(err)
		idle = append(idle, c)
	}
	b.blocks("www."+listedDomain, "terrorism", dns.TypeA, overTCP)
	for _, c := range idle {
		c.Close()
	}
}

// flood sends packets that are questions changed by chance, from several sockets,
// and between them good questions, each of which is answered as if it came alone.
func (b *blocking) flood(random *rand.Rand) {
	seeds := [][]byte{newPacket("www."+listedDomain, true).b, newPacket(listedHost, false).b, newPacket("www.libre.example", true).b, newPacket("alias.libre.example", true).b}
	stop := make(chan struct{})
	type outcome struct {
		sent int
		err  error
	}
	flooders := make(chan outcome, 3)
	for range cap(flooders) {
		own := rand.New(rand.NewPCG(random.Uint64(), random.Uint64()))
		go func() {
			sent, err := floods(b.dns, own, seeds, stop)
			flooders <- outcome{sent, err}
		}()
	}
	for range 300 {
		b.blocks(mixCase("www."+listedDomain, random), "terrorism", dns.TypeA)
		b.blocks(listedHost, "minors", dns.TypeHTTPS, do)
		if got := addresses(b.asks("www.libre.example", dns.TypeA)); !slices.Equal(got, []string{"192.0.2.10"}) {
			b.t().Errorf("www.libre.example is at %v", got)
		}
	}
	close(stop)
	for range cap(flooders) {
		o := <-flooders
		if o.err != nil || o.sent == 0 {
			b.t().Errorf("%d packets, %v", o.sent, o.err)
		}
	}
}

// floods sends changed packets until stop, and looks at what comes back.
func floods(to netip.AddrPort, random *rand.Rand, seeds [][]byte, stop <-chan struct{}) (sent int, err error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	reply := make([]byte, 65535)
	for {
		select {
		case <-stop:
			return sent, nil
		default:
		}
		for range 16 {
			p := slices.Clone(seeds[random.IntN(len(seeds))])
			for range 1 + random.IntN(4) {
				switch i := random.IntN(len(p)); random.IntN(4) {
				case 0:
					p[i] ^= 1 << random.IntN(8)
				case 1:
					p[i] = byte(random.Uint32())
				case 2:
					p = p[:i+1]
				default:
					p = append(p, p[i:]...)
				}
			}
			if _, err := c.Write(p); err != nil {
				return sent, err
			}
			sent++
		}
		// As many replies as there are; the rest of the time belongs to the others.
		if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			return sent, err
		}
		for {
			n, err := c.Read(reply)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return sent, err
			}
			if err := leaks(reply[:n]); err != nil {
				return sent, fmt.Errorf("%w (%s)", err, hex.EncodeToString(reply[:n]))
			}
		}
	}
}
