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

// version is what a primary gave: a whole zone that went to the caller record by
// record, a difference, or, where both are unset, nothing new.
type version struct {
	soa   *dns.SOA
	whole bool
	delta *delta
}

// fetch asks for the version after have (nil: for any). The serial is asked for
// first, so that what is here is not transferred again. whole takes the records of a
// whole zone; what it was given is void if fetch fails.
func (p *primary) fetch(ctx context.Context, have *dns.SOA, whole func(dns.RR) error) (version, error) {
	ctx, cancel := context.WithTimeout(ctx, p.limits.Time)
	defer cancel()
	conn, err := p.dial(ctx, "tcp", p.addr.String())
	if err != nil {
		return version{}, err
	}
	defer func() { _ = conn.Close() }() // nothing is lost with it
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	s := &stream{p: p, conn: conn, in: bufio.NewReaderSize(conn, 64<<10), left: p.limits.Bytes}
	v, err := s.fetch(have, whole)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return v, err
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

func (s *stream) fetch(have *dns.SOA, whole func(dns.RR) error) (version, error) {
	if have == nil {
		return s.transfer(dns.TypeAXFR, nil, whole)
	}
	soa, err := s.serial()
	if err != nil {
		return version{}, fmt.Errorf("ask for the serial: %w", err)
	}
	switch {
	case soa.Serial == have.Serial:
		return version{soa: soa}, nil
	case !newer(soa.Serial, have.Serial):
		return version{}, fmt.Errorf("the primary has serial %d, which is behind %d, the one here: raise it there", soa.Serial, have.Serial)
	}
	return s.transfer(dns.TypeIXFR, have, whole)
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
	return nil, fmt.Errorf("%s does not serve the zone %s", s.p.addr, s.p.origin)
}

func (s *stream) transfer(qtype uint16, have *dns.SOA, whole func(dns.RR) error) (version, error) {
	what := dns.TypeToString[qtype]
	if err := s.ask(qtype, have); err != nil {
		return version{}, fmt.Errorf("%s: %w", what, err)
	}
	d := &decoder{origin: s.p.origin, have: have, whole: whole}
	for d.state != ended {
		m, err := s.next()
		if err != nil {
			return version{}, fmt.Errorf("%s: %w", what, err)
		}
		if len(m.Answer) == 0 {
			return version{}, fmt.Errorf("%s: %w: a message without records", what, errTransfer)
		}
		if s.records += len(m.Answer); s.records > s.p.limits.Records {
			return version{}, fmt.Errorf("%s: more than %d records", what, s.p.limits.Records)
		}
		for _, rr := range m.Answer {
			if err := d.add(rr); err != nil {
				return version{}, fmt.Errorf("%s: %w", what, err)
			}
		}
		if d.upToDate() {
			return version{soa: d.soa}, s.end()
		}
	}
	return version{soa: d.soa, whole: d.delta == nil, delta: d.delta}, s.end()
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
		return err
	}
	_, err = s.conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...))
	return err
}

// next reads the next message of the answer.
func (s *stream) next() (*dns.Msg, error) {
	if err := s.conn.SetDeadline(s.p.clock().Add(s.p.limits.Idle)); err != nil {
		return nil, err
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
		return nil, fmt.Errorf("read a message: %w", unexpected(err))
	}
	raw := make([]byte, binary.BigEndian.Uint16(prefix[:]))
	if s.left -= int64(len(raw)) + 2; s.left < 0 {
		return nil, fmt.Errorf("more than %d bytes", s.p.limits.Bytes)
	}
	if _, err := io.ReadFull(s.in, raw); err != nil {
		return nil, fmt.Errorf("read a message: %w", unexpected(err))
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
