package feed

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Limits bound what comes from outside. The zero value means the defaults.
type Limits struct {
	Bytes   int64         // of a zone, as a file or on the wire; default 1 GiB
	Records int           // of a zone; default 10 million
	Time    time.Duration // for one transfer; default 15 minutes
	Idle    time.Duration // between two messages of one; default 30 seconds
}

func (l Limits) orDefault() Limits {
	if l.Bytes == 0 {
		l.Bytes = 1 << 30
	}
	if l.Records == 0 {
		l.Records = 10_000_000
	}
	if l.Time == 0 {
		l.Time = 15 * time.Minute
	}
	if l.Idle == 0 {
		l.Idle = 30 * time.Second
	}
	return l
}

// primary is the server that a zone is transferred from. Everything goes by TCP.
type primary struct {
	addr   netip.AddrPort
	origin string
	key    *Key // nil: nothing is signed
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	clock  func() time.Time
	limits Limits
}

// serial asks for the SOA of the version that the primary has.
func (p *primary) serial(ctx context.Context) (soa *dns.SOA, err error) {
	err = p.connected(ctx, func(s *stream) error {
		soa, err = s.serial()
		return err
	})
	return soa, err
}

// transfer asks for the version after have (nil: for all of it). whole takes the
// records of a whole zone; the decoder holds the difference where the primary gives
// one. What was given is void if it fails.
func (p *primary) transfer(ctx context.Context, have *dns.SOA, whole func(dns.RR) error) (d *decoder, err error) {
	err = p.connected(ctx, func(s *stream) error {
		d, err = s.transfer(have, whole)
		return err
	})
	return d, err
}

// connected runs do on a connection of its own, which ends with ctx.
func (p *primary) connected(ctx context.Context, do func(*stream) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.limits.Time)
	defer cancel()
	conn, err := p.dial(ctx, "tcp", p.addr.String())
	if err != nil {
		return &unreachable{err}
	}
	defer func() { _ = conn.Close() }() // nothing is lost with it
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	s := &stream{p: p, conn: conn, in: bufio.NewReaderSize(conn, 64<<10), left: p.limits.Bytes}
	if err = do(s); err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return err
}

// stream is one connection to a primary.
type stream struct {
	p       *primary
	conn    net.Conn
	in      *bufio.Reader
	left    int64 // bytes that may come
	records int
	id      uint16
	signed  *verifier // of the query at hand; nil: unsigned
}

func (s *stream) serial() (*dns.SOA, error) {
	if err := s.ask(dns.TypeSOA, nil); err != nil {
		return nil, err
	}
	m, err := s.next()
	if err != nil {
		return nil, err
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	for _, rr := range m.Answer {
		if soa, ok := rr.(*dns.SOA); ok && dns.CanonicalName(soa.Hdr.Name) == s.p.origin {
			return soa, nil
		}
	}
	return nil, fmt.Errorf("the primary does not serve the zone %s", s.p.origin)
}

func (s *stream) transfer(have *dns.SOA, whole func(dns.RR) error) (*decoder, error) {
	qtype := dns.TypeAXFR
	if have != nil {
		qtype = dns.TypeIXFR
	}
	what := dns.TypeToString[qtype]
	if err := s.ask(qtype, have); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	d := &decoder{origin: s.p.origin, have: have, whole: whole}
	for d.state != ended && !d.upToDate() {
		m, err := s.next()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		if len(m.Answer) == 0 {
			return nil, fmt.Errorf("%s: %w: a message without records", what, errTransfer)
		}
		if s.records += len(m.Answer); s.records > s.p.limits.Records {
			return nil, fmt.Errorf("%s: more than %d records", what, s.p.limits.Records)
		}
		for _, rr := range m.Answer {
			if err := d.add(rr); err != nil {
				return nil, fmt.Errorf("%s: %w", what, err)
			}
		}
	}
	if err := s.end(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return d, nil
}

// ask sends a query for the zone.
func (s *stream) ask(qtype uint16, have *dns.SOA) error {
	m := new(dns.Msg)
	m.SetQuestion(s.p.origin, qtype)
	m.RecursionDesired = false
	m.Id = uint16(rand.Uint32()) // to tell answers apart; the connection is what counts
	s.id, s.signed = m.Id, nil
	if qtype == dns.TypeIXFR {
		m.Ns = []dns.RR{have}
	}
	var packet []byte
	var err error
	if s.p.key != nil {
		packet, s.signed, err = s.p.key.sign(m, s.p.clock())
	} else {
		packet, err = m.Pack()
	}
	if err != nil {
		return err
	}
	if err := s.conn.SetDeadline(s.p.clock().Add(s.p.limits.Idle)); err != nil {
		return &unreachable{err}
	}
	if _, err := s.conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)); err != nil {
		return &unreachable{err}
	}
	return nil
}

// next reads the next message of the answer.
func (s *stream) next() (*dns.Msg, error) {
	if err := s.conn.SetDeadline(s.p.clock().Add(s.p.limits.Idle)); err != nil {
		return nil, &unreachable{err}
	}
	raw, err := s.read()
	if err != nil {
		return nil, err
	}
	m := new(dns.Msg)
	if err := m.Unpack(raw); err != nil {
		return nil, fmt.Errorf("unpack a message: %w", err)
	}
	if m.Id != s.id || !m.Response || m.Opcode != dns.OpcodeQuery || m.Truncated {
		return nil, errors.New("a message that does not answer the query")
	}
	if s.signed != nil {
		if err := s.signed.message(raw, s.p.clock()); err != nil {
			if m.Rcode != dns.RcodeSuccess {
				err = fmt.Errorf("%s: %w", dns.RcodeToString[m.Rcode], err)
			}
			return nil, err
		}
	}
	if m.Rcode != dns.RcodeSuccess {
		return nil, &refusal{m.Rcode}
	}
	return m, nil
}

func (s *stream) read() ([]byte, error) {
	var prefix [2]byte
	if _, err := io.ReadFull(s.in, prefix[:]); err != nil {
		return nil, &unreachable{fmt.Errorf("read a message: %w", unexpected(err))}
	}
	raw := make([]byte, binary.BigEndian.Uint16(prefix[:]))
	if s.left -= int64(len(raw)) + 2; s.left < 0 {
		return nil, fmt.Errorf("more than %d bytes", s.p.limits.Bytes)
	}
	if _, err := io.ReadFull(s.in, raw); err != nil {
		return nil, &unreachable{fmt.Errorf("read a message: %w", unexpected(err))}
	}
	return raw, nil
}

// end is called behind the last message of an answer.
func (s *stream) end() error {
	if s.signed == nil {
		return nil
	}
	return s.signed.end()
}

// unreachable is what comes of the network, as against what a primary says.
type unreachable struct{ err error }

func (u *unreachable) Error() string { return u.err.Error() }
func (u *unreachable) Unwrap() error { return u.err }

// refusal is a primary's answer that is none.
type refusal struct{ rcode int }

func (r *refusal) Error() string {
	text := "the primary answers " + dns.RcodeToString[r.rcode]
	if r.rcode == dns.RcodeRefused || r.rcode == dns.RcodeNotAuth {
		text += ": it has to allow the transfer of this zone to this resolver, with this key"
	}
	return text
}

// unexpected keeps an end of file in the middle from looking like one at the end.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
