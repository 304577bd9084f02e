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
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/blocklist"
	"cordon/blocklog"
)

// blocking is a world in which clients try to get round the block. No reply to
// any of them may hold an address of a listed site.
type blocking struct {
	*siege
	seen map[asked]uint64 // blocked replies that arrived, by question
}

// hidden are the addresses of listed names in the laboratory, in wire form: a
// reply that holds one anywhere has let the site through.
var hidden = func() (all [][]byte) {
	for _, a := range []string{"198.51.100.20", "198.51.100.21", "198.51.100.22", "198.51.100.23", "198.51.100.24", "198.51.100.30", "2001:db8:bad::20", "2001:db8:bad::30"} {
		all = append(all, netip.MustParseAddr(a).AsSlice())
	}
	return all
}()

func leaks(reply []byte) error {
	for _, address := range hidden {
		if bytes.Contains(reply, address) {
			return fmt.Errorf("it holds the address %x of a listed site: %x", address, reply)
		}
	}
	return nil
}

// asks puts a question and checks that nothing leaks; blocked replies are kept
// for the comparison with the block log.
func (b *blocking) asks(name string, qtype uint16, ways ...way) *dns.Msg {
	b.t().Helper()
	reply := b.ask(name, qtype, ways...)
	raw, err := reply.Pack()
	b.check(err)
	if err := leaks(raw); err != nil {
		b.t().Errorf("%s %s: %v", name, dns.TypeToString[qtype], err)
	}
	if isBlocked(reply) {
		tried := newAsking(name, qtype, ways...)
		transport := blocklog.UDP
		if tried.tcp {
			transport = blocklog.TCP
		}
		wire := make([]byte, 256)
		n, err := dns.PackDomainName(dns.Fqdn(name), wire, 0, nil, false)
		b.check(err)
		for i, c := range wire[:n] { // bytes.ToLower would take them for UTF-8
			if c >= 'A' && c <= 'Z' {
				wire[i] = c + 'a' - 'A'
			}
		}
		b.seen[asked{blocklog.NameText(wire[:n]), blocklog.TypeText(qtype), transport.String()}]++
	}
	return reply
}

// blocks asks and wants the whole of a blocked reply.
func (b *blocking) blocks(name, category string, qtype uint16, ways ...way) {
	b.t().Helper()
	reply := b.asks(name, qtype, ways...)
	if reply.IsEdns0() == nil {
		// A client without EDNS cannot be told why. All else is the same.
		told := b.ask(name, qtype)
		if !slices.Equal(addresses(reply), addresses(told)) || len(reply.Answer) != len(told.Answer) || len(reply.Ns) != len(told.Ns) ||
			reply.Rcode != told.Rcode || reply.AuthenticatedData {
			b.t().Errorf("%s %s without EDNS: %v", name, blocklog.TypeText(qtype), reply)
		}
		reply = told
	}
	if err := b.blocked(reply, category); err != nil {
		b.t().Errorf("%s %s: %v", name, blocklog.TypeText(qtype), err)
	}
}

func TestAttacksOnTheBlocking(t *testing.T) {
	t.Parallel()
	b := &blocking{siege: newSiege(t), seen: map[asked]uint64{}}
	random := seeded(t)
	b.under(t, "every type", func(*testing.T) { b.everyType(random) })
	b.under(t, "every way of asking", func(*testing.T) { b.everyWay(random) })
	b.under(t, "names that look like others", func(*testing.T) { b.lookAlikes() })
	b.under(t, "chains that lead to listed names", func(*testing.T) { b.chains() })
	b.under(t, "transfers, classes and opcodes", func(*testing.T) { b.otherOperations() })
	b.under(t, "the name by which clients look for other resolvers", func(*testing.T) { b.otherResolvers() })
	b.under(t, "malformed packets", func(*testing.T) { b.malformed() })
	b.under(t, "streams", func(*testing.T) { b.streams() })
	b.under(t, "a flood of malformed packets between good ones", func(*testing.T) { b.flood(random) })

	// Each reply that a client has as blocked is on record.
	decided := b.written().decisions
	for q, n := range b.seen {
		if decided[q] < n {
			t.Errorf("%v was blocked %d times, and is on record %d times", q, n, decided[q])
		}
	}
	if err := b.holds(b.serial); err != nil {
		t.Error(err)
	}
}

// everyType: a type that slips through is a way round (HTTPS with address hints,
// SVCB, ANY, types that nobody knows yet).
func (b *blocking) everyType(random *rand.Rand) {
	types := []uint16{dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILB, dns.TypeTKEY, dns.TypeURI, dns.TypeCAA, dns.TypeTA, dns.TypeDLV, 65534, 65535}
	for n := range uint16(270) {
		types = append(types, n)
	}
	for range 100 {
		types = append(types, uint16(random.Uint32()))
	}
	for _, qtype := range types {
		if qtype == dns.TypeOPT || qtype == dns.TypeTSIG {
			continue // miekg/dns makes no such question; see malformed
		}
		b.blocks("www."+listedDomain, "terrorism", qtype)
		b.blocks(listedHost, "minors", qtype, do)
	}
}

// everyWay: neither signatures asked for, nor checking disabled, nor any
// transport, case or flag is a way round.
func (b *blocking) everyWay(random *rand.Rand) {
	noRecursion := func(a *asking) { a.query.RecursionDesired = false }
	ad := func(a *asking) { a.query.AuthenticatedData = true }
	tiny := func(a *asking) { a.query.IsEdns0().SetUDPSize(512) }
	zero := func(a *asking) { a.query.IsEdns0().SetUDPSize(0) }
	options := func(a *asking) {
		o := a.query.IsEdns0()
		subnet := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(192, 0, 2, 0)}
		o.Option = append(o.Option, subnet, &dns.EDNS0_LOCAL{Code: 65001, Data: []byte("x")}, &dns.EDNS0_PADDING{Padding: make([]byte, 100)}, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"})
	}
	ways := [][]way{{}, {do}, {cd}, {do, cd}, {ad}, {do, ad}, {noRecursion}, {tiny}, {zero}, {options}, {do, cd, ad, options}, {plain}, {plain, cd}}
	for _, name := range []string{listedDomain, "www." + listedDomain, "a.b.c." + listedDomain, "no.such.name." + listedDomain} {
		for _, w := range ways {
			for _, transport := range [][]way{{}, {overTCP}} {
				for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeDS, dns.TypeDNSKEY, dns.TypeRRSIG, dns.TypeNSEC3, dns.TypeCNAME, dns.TypeSOA, dns.TypeTXT} {
					b.blocks(mixCase(name, random), "terrorism", qtype, slices.Concat(w, transport)...)
				}
			}
		}
	}
	// Scope host covers the name alone.
	for _, w := range ways {
		b.blocks(mixCase(listedHost, random), "minors", dns.TypeA, w...)
		b.blocks(mixCase(listedHost, random), "minors", dns.TypeAAAA, w...)
	}
	for _, below := range []string{"www.", "mail."} {
		if reply := b.asks(below+listedHost, dns.TypeA, do); isBlocked(reply) || reply.Rcode != dns.RcodeSuccess {
			b.t().Errorf("%s%s: %v", below, listedHost, reply)
		}
	}
}

// mixCase writes letters large or small by chance (draft-vixie-dnsext-dns0x20).
func mixCase(name string, random *rand.Rand) string {
	mixed := []byte(name)
	for i, c := range mixed {
		if c >= 'a' && c <= 'z' && random.IntN(2) == 0 {
			mixed[i] = c - 'a' + 'A'
		}
	}
	return string(mixed)
}

// lookAlikes: names are labels and not text. A dot or a NUL within a label makes
// another name of it, which is neither listed nor a way round.
func (b *blocking) lookAlikes() {
	for _, free := range []string{
		`propagande\.example.`,          // one label below the root
		`www.propagande\.example.`,      // and a name below it
		`www\.propagande.example.`,      // one label below example
		`x.www\.propagande.example.`,    // and below that
		`propagande\000.example.`,       // a NUL at its end
		`propagande.example\000.`,       //
		`propagande.example\000.libre.`, // cut by who reads text up to a NUL
		`xpropagande.example.`,          // ends like the name
		`propagandex.example.`,          //
		`propagande.example.example.`,   // begins like it
		`example.propagande.`,           // the other way round
		`propagande.`, `pages.propagande.`,
	} {
		if reply := b.asks(free, dns.TypeA); isBlocked(reply) || reply.Rcode != dns.RcodeNameError {
			b.t().Errorf("%s is not listed and does not exist: %v", free, reply)
		}
	}
	if reply := b.asks("example", dns.TypeSOA, do); isBlocked(reply) || len(reply.Answer) == 0 {
		b.t().Errorf("the name above a listed one: %v", reply)
	}
	for _, listed := range []string{
		`a\.b.propagande.example.`,         // whatever is below
		`\000.propagande.example.`,         //
		`\255\001.propagande.example.`,     //
		`*.propagande.example.`,            //
		`_443._tcp.www.propagande.example`, //
		`xn--a.propagande.example.`,        //
		strings.Repeat("x.", 110) + "propagande.example.",
		strings.Repeat(strings.Repeat("y", 63)+".", 3) + "propagande.example.",
	} {
		b.blocks(listed, "terrorism", dns.TypeA)
		b.blocks(listed, "terrorism", dns.TypeTXT, do)
	}
}

// chains: an alias that is not listed leads to a listed name, from the servers
// and from the cache, and when the list changes between the two.
func (b *blocking) chains() {
	leading := map[string]string{
		"alias.libre.example": "terrorism", "miroir.libre.example": "terrorism", "alias.ancien.example": "terrorism",
		"detour.libre.example":     "terrorism", // two aliases
		"www.vieux.libre.example":  "terrorism", // DNAME
		"a.b.vieux.libre.example":  "terrorism",
		"none.vieux.libre.example": "terrorism",
		"lien.libre.example":       "minors",
	}
	for range 2 { // then from the cache
		for name, category := range leading {
			for _, w := range [][]way{{}, {do}, {cd}, {do, cd}, {overTCP}, {plain}} {
				for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeHTTPS, dns.TypeTXT, dns.TypeANY} {
					if qtype == dns.TypeANY {
						b.asks(name, qtype, w...) // a short answer or a blocked one: nothing leaks
						continue
					}
					b.blocks(name, category, qtype, w...)
				}
			}
		}
		// An alias of the HTTPS kind (RFC 9460 AliasMode).
		for _, w := range [][]way{{}, {do}, {cd}, {do, cd}, {overTCP}} {
			b.blocks("service.libre.example", "terrorism", dns.TypeHTTPS, w...)
		}
	}

	// Taken off the list, the alias resolves, at once; on it again, it is blocked,
	// though it lies in the cache with the other verdict.
	f := b.forge(b.edition())
	without := f.list(f.edition.serial)
	without.Entries = slices.DeleteFunc(without.Entries, func(e blocklist.Entry) bool { return e.Name == listedDomain })
	without.Sort()
	f.text(spell(f.press.t, without))
	b.show(f.dir)
	b.r.enforces("national", f.edition.serial)
	for range 2 {
		if got := addresses(b.ask("alias.libre.example", dns.TypeA, do)); !slices.Equal(got, []string{"198.51.100.20"}) {
			b.t().Errorf("alias.libre.example leads to %v, where nothing is listed", got)
		}
	}
	b.show(b.edition().dir)
	b.takes()
	for name, category := range leading {
		b.blocks(name, category, dns.TypeA)
		b.blocks(name, category, dns.TypeA, do)
	}
}

// otherOperations: what is not a plain question of class IN gives nothing away,
// neither the site nor the list.
func (b *blocking) otherOperations() {
	class := func(c uint16) way { return func(a *asking) { a.query.Question[0].Qclass = c } }
	for _, c := range []uint16{dns.ClassCHAOS, dns.ClassHESIOD, dns.ClassNONE, dns.ClassANY, 0, 2, 65535} {
		for _, name := range []string{"www." + listedDomain, listedHost, "www.libre.example"} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeTXT, dns.TypeANY} {
				if reply := b.asks(name, qtype, class(c)); reply.Rcode != dns.RcodeRefused || len(reply.Answer)+len(reply.Ns) != 0 {
					b.t().Errorf("%s in class %d: %v", name, c, reply)
				}
			}
		}
	}
	for _, transport := range [][]way{{}, {overTCP}} {
		for _, qtype := range []uint16{dns.TypeAXFR, dns.TypeIXFR} {
			b.blocks(listedDomain, "terrorism", qtype, transport...)
			for _, zone := range []string{".", "example", "libre.example"} {
				if reply := b.asks(zone, qtype, transport...); reply.Rcode != dns.RcodeNotImplemented || len(reply.Answer) != 0 {
					b.t().Errorf("a transfer of %s: %v", zone, reply)
				}
			}
		}
	}
	for _, opcode := range []int{dns.OpcodeIQuery, dns.OpcodeStatus, dns.OpcodeNotify, dns.OpcodeUpdate, 6, 15} {
		op := func(a *asking) { a.query.Opcode = opcode }
		reply, err := newAsking("www."+listedDomain, dns.TypeA, op).exchangeAny(b.dns)
		if err != nil || reply.Rcode != dns.RcodeNotImplemented || len(reply.Answer)+len(reply.Ns) != 0 {
			b.t().Errorf("opcode %d: %v, %v", opcode, reply, err)
		}
	}
}

// otherResolvers: an answer to this name that comes from elsewhere would lead
// clients to a resolver that blocks nothing (RFC 9462 §4).
func (b *blocking) otherResolvers() {
	for _, name := range []string{"_dns.resolver.arpa", "_DNS.Resolver.Arpa", "resolver.arpa", "x._dns.resolver.arpa"} {
		for _, qtype := range []uint16{dns.TypeSVCB, dns.TypeHTTPS, dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeDS} {
			for _, w := range [][]way{{}, {do}, {cd}, {overTCP}} {
				reply := b.asks(name, qtype, w...)
				// The laboratory's root knows no arpa: NXDOMAIN would come from there.
				if reply.Rcode != dns.RcodeSuccess || len(reply.Answer) != 0 || len(reply.Ns) != 1 || !strings.EqualFold(reply.Ns[0].Header().Name, "resolver.arpa.") {
					b.t().Errorf("%s %s: %v", name, dns.TypeToString[qtype], reply)
				}
			}
		}
	}
}

// exchangeAny is exchange for what is no question, whose answer repeats none.
func (a *asking) exchangeAny(server netip.AddrPort) (*dns.Msg, error) {
	c := dns.Client{Timeout: 10 * time.Second}
	reply, _, err := c.Exchange(a.query, server.String())
	return reply, err
}

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
