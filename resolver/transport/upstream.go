package transport

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"cordon/resolver/cookie"
)

// UpstreamConfig says how authoritative servers are asked. All may be left out.
type UpstreamConfig struct {
	UDPTimeout    time.Duration // for one exchange by UDP; default 2 s
	StreamTimeout time.Duration // for one exchange by TCP, connecting included; default 4 s
	StreamIdle    time.Duration // for which a TCP connection without queries is kept open; default 5 s
	Streams       int           // TCP connections open at a time; default 512
	// NearMisses is how many datagrams that are no reply to the query are waited
	// past before the server is asked by TCP instead (RFC 5452 §9.2 counts on
	// it); default 4.
	NearMisses int
	// MixCase asks by UDP in a random mixture of cases and takes only a reply in
	// the same one (draft-vixie-dnsext-dns0x20).
	MixCase    bool
	Registerer prometheus.Registerer // default: metrics are kept but not registered
}

// Upstream asks authoritative servers. Each UDP query has a socket of its own,
// connected, with a source port from crypto/rand over the whole range of
// unprivileged ports, and an ID from crypto/rand (RFC 5452 §9). TCP queries share
// connections. Safe for concurrent use.
type Upstream struct {
	c       UpstreamConfig
	m       *upstreamMetrics
	streams *upstreamStreams
	buffers sync.Pool // of *[maxReply]byte, for datagrams
}

// NewUpstream returns an Upstream, to be closed with Close. It fails only if its
// metrics cannot be registered.
func NewUpstream(c UpstreamConfig) (*Upstream, error) {
	if c.UDPTimeout <= 0 {
		c.UDPTimeout = 2 * time.Second
	}
	if c.StreamTimeout <= 0 {
		c.StreamTimeout = 4 * time.Second
	}
	if c.StreamIdle <= 0 {
		c.StreamIdle = 5 * time.Second
	}
	if c.Streams <= 0 {
		c.Streams = 512
	}
	if c.NearMisses <= 0 {
		c.NearMisses = 4
	}
	m, err := newUpstreamMetrics(c.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register the metrics of upstream queries: %w", err)
	}
	return &Upstream{
		c: c, m: m, streams: newUpstreamStreams(c, m),
		buffers: sync.Pool{New: func() any { return new([maxReply]byte) }},
	}, nil
}

// Close closes the connections to servers and waits until what served them has
// ended. Queries by TCP under way, and later ones, fail.
func (u *Upstream) Close() { u.streams.close() }

// Exchange sends query to server and returns the reply to it, by TCP if stream
// is set. The ID of query is replaced in a copy. The reply has the question of
// query, in the same case; a reply that was cut off (TC) is returned as it is.
//
// A reply by UDP that matches in all but the case of a name that was sent in a
// mixture of cases, or that has no cookie though the query had one of the server's
// (RFC 7873), is not believed, and ends the wait with an error whose method
// AlteredCase says which it was: the caller asks by TCP.
//
// Datagrams that do not match, or that match and cannot be parsed, are dropped
// and waited past, since anybody can send them (TuDoor); so are ICMP errors.
// After NearMisses of them an attack has to be assumed, and what is returned is
// an empty reply with TC: the caller does with it what is to be done, it asks
// by TCP.
func (u *Upstream) Exchange(ctx context.Context, server netip.AddrPort, query *dns.Msg, stream bool) (*dns.Msg, error) {
	timeout, exchange, count := u.c.UDPTimeout, u.exchangeUDP, &u.m.udp
	if stream {
		timeout, exchange, count = u.c.StreamTimeout, u.streams.exchange, &u.m.tcp
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	count.queries.Inc()
	reply, err := u.ask(ctx, server, query, exchange, stream)
	if err != nil {
		switch {
		case errors.Is(err, errAlteredCase):
			u.m.alteredCase.Inc()
		case errors.Is(err, errNoCookie):
			u.m.noCookie.Inc()
		case ctx.Err() != nil:
			count.timeouts.Inc()
			err = errors.Join(ctx.Err(), err)
		default:
			count.failures.Inc()
		}
		return nil, fmt.Errorf("ask %s by %s: %w", server, count.name, err)
	}
	return reply, nil
}

// exchangeFunc sends the query in a and returns the reply.
type exchangeFunc func(ctx context.Context, server netip.AddrPort, a *asked) (*dns.Msg, error)

func (u *Upstream) ask(ctx context.Context, server netip.AddrPort, query *dns.Msg, exchange exchangeFunc, stream bool) (*dns.Msg, error) {
	if a := server.Addr(); !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || server.Port() == 0 {
		return nil, errors.New("not an address that a server can have")
	}
	a, err := newAsked(query, !stream && u.c.MixCase)
	if err != nil {
		return nil, err
	}
	if !stream {
		a.cookie = cookie.In(query)
	}
	return exchange(ctx, server, a)
}

// asked is a query as it was sent, to hold replies against.
type asked struct {
	query    *dns.Msg // as the caller has it
	packet   []byte
	question []byte // question section in packet
	exact    bool   // the reply must have the same case
	cookie   string // that the reply must go by, in hexadecimal; "": none
}

// newAsked packs a query with a random ID, and in mixed case if asked to.
func newAsked(query *dns.Msg, mixCase bool) (*asked, error) {
	if len(query.Question) != 1 {
		return nil, fmt.Errorf("the query has %d questions, not one", len(query.Question))
	}
	var random [2 + 32]byte // ID, and a bit for each byte of a name
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	q := *query
	q.Id = binary.BigEndian.Uint16(random[:])
	packet, err := q.Pack()
	if err != nil {
		return nil, fmt.Errorf("pack the query: %w", err)
	}
	end, ok := questionEnd(packet)
	if !ok {
		return nil, errors.New("pack the query: malformed question")
	}
	a := &asked{query: query, packet: packet, question: packet[headerLen:end], exact: mixCase}
	if mixCase {
		for i, c := range a.question[:len(a.question)-4] {
			if isLetter(c) && random[2+i/8]>>(i%8)&1 != 0 {
				a.question[i] ^= 'a' - 'A'
			}
		}
	}
	return a, nil
}

func (a *asked) id() uint16 { return binary.BigEndian.Uint16(a.packet) }

// newID gives the query another random ID.
func (a *asked) newID() error {
	_, err := rand.Read(a.packet[:2])
	return err
}

// Why a message is no reply to what was asked.
var (
	errMismatch  = errors.New("not a reply to this query")
	errMalformed = errors.New("malformed reply")
)

// doubt is why a reply that fits the query is not believed: whoever sent it need
// not have seen the query.
type doubt string

const (
	errAlteredCase doubt = "the reply has the name in another case"
	errNoCookie    doubt = "the reply of a server that gives cookies has none"
)

func (d doubt) Error() string { return string(d) }

// AlteredCase tells the one doubt from the other.
func (d doubt) AlteredCase() bool { return d == errAlteredCase }

// match parses packet, which it changes, if it is the reply: ID, QR, opcode and
// exactly the one question that was asked (RFC 5452 §9.1). The reply takes the
// question's name as the caller wrote it.
func (a *asked) match(packet []byte) (*dns.Msg, error) {
	end, ok := questionEnd(packet)
	if !ok || binary.BigEndian.Uint16(packet) != binary.BigEndian.Uint16(a.packet) ||
		packet[2]&0x80 == 0 || (packet[2]^a.packet[2])&0x78 != 0 {
		return nil, errMismatch
	}
	question := packet[headerLen:end]
	switch {
	case !equalQuestion(question, a.question):
		return nil, errMismatch
	case a.exact && !bytes.Equal(question, a.question):
		return nil, errAlteredCase
	}
	if err := a.restoreCase(question); err != nil {
		return nil, err
	}
	reply, err := unpack(packet)
	if err != nil && packet[2]&0x02 != 0 {
		// Cut off in the middle of a record, as some servers do: that it was
		// is all there is to know.
		clear(packet[6:headerLen])
		reply, err = unpack(packet[:end])
	}
	if err != nil {
		return nil, err
	}
	return reply, a.checkCookie(reply)
}

// checkCookie wants the client's cookie back; where there was a server's too, the
// server gives cookies, and a reply without is not its (RFC 7873 §5.3).
func (a *asked) checkCookie(reply *dns.Msg) error {
	if a.cookie == "" {
		return nil
	}
	switch got := cookie.In(reply); {
	case got == "" && len(a.cookie) > cookie.ClientDigits:
		return errNoCookie
	case got != "" && (len(got) < cookie.ClientDigits || got[:cookie.ClientDigits] != a.cookie[:cookie.ClientDigits]):
		return errMismatch
	}
	return nil
}

// unpack decodes a message and, unlike dns.Msg.Unpack, takes none that has
// fewer records than its header says.
func unpack(packet []byte) (*dns.Msg, error) {
	m := new(dns.Msg)
	if err := m.Unpack(packet); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	for i, n := range []int{len(m.Answer), len(m.Ns), len(m.Extra)} {
		if int(binary.BigEndian.Uint16(packet[6+2*i:])) != n {
			return nil, fmt.Errorf("%w: records are missing", errMalformed)
		}
	}
	return m, nil
}

// restoreCase writes the name into the question as the caller has it. Names
// that are compressed to it follow.
func (a *asked) restoreCase(question []byte) error {
	_, err := dns.PackDomainName(a.query.Question[0].Name, question, 0, nil, false)
	return err
}

const headerLen = 12

// questionEnd returns the offset behind the one question of a message; false if
// it has not exactly one, or one with compression.
func questionEnd(packet []byte) (int, bool) {
	if len(packet) < headerLen || binary.BigEndian.Uint16(packet[4:]) != 1 {
		return 0, false
	}
	off := headerLen
	for off < len(packet) && packet[off] != 0 && packet[off] < 64 {
		off += 1 + int(packet[off])
	}
	end := off + 5
	return end, end <= len(packet) && packet[off] == 0
}

// equalQuestion compares two question sections; letters of the name count the
// same in both cases (RFC 4343).
func equalQuestion(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	name := len(a) - 4
	for i := range a {
		same := a[i] == b[i] || i < name && isLetter(a[i]) && a[i]^b[i] == 'a'-'A'
		if !same {
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// tooSuspicious stands for a reply when too many were forged: TC alone.
func (a *asked) tooSuspicious() *dns.Msg {
	reply := new(dns.Msg)
	reply.SetReply(a.query)
	reply.Question = slices.Clone(a.query.Question)
	reply.Truncated = true
	return reply
}

// randomPort returns a port from 1024 to 65535, all equally likely.
func randomPort() (uint16, error) {
	var random [2]byte
	for {
		if _, err := rand.Read(random[:]); err != nil {
			return 0, err
		}
		if port := binary.BigEndian.Uint16(random[:]); port >= 1024 {
			return port, nil
		}
	}
}

// breakOff makes reads and writes of conn fail when ctx ends.
func breakOff(ctx context.Context, conn interface{ SetDeadline(time.Time) error }) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) }) // fails only if closed
}
