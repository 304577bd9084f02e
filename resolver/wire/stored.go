package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Outcome is what resolution brought for a question of class IN, as Store
// takes it.
type Outcome struct {
	Name      []byte // question name, wire form, lower case
	Type      uint16
	Rcode     int
	Answer    []dns.RR
	Authority []dns.RR
	DO        bool   // keep DNSSEC records; else they are left out (RFC 4035 §3.2.1)
	Secure    bool   // all of it was validated
	EDE       []EDE  // sent with each reply
	MaxTTL    uint32 // seconds; TTLs above it are lowered to it; 0: no bound
}

// Stored is a reply in wire form that Patch makes into the reply to a client.
// It has ID 0 and no OPT record, and does not change any more.
type Stored struct {
	Rcode  int
	Secure bool
	EDE    []EDE
	// Targets are the names that the answer leads to: targets of CNAME, DNAME,
	// SVCB and HTTPS records of the answer section, in order, wire form, lower
	// case. Each is subject to the policy on each reply.
	Targets [][]byte
	// Servers are the names of the servers of the zones that answered, wire form,
	// lower case; nil: not kept. They are set before the reply is shared.
	Servers [][]byte
	// TTL is the lowest TTL of all records, in seconds; 0 if there are none.
	TTL uint32

	packet      []byte
	questionEnd int
	ttls        []uint16 // offsets of the TTL of each record
}

// Store packs an outcome. The records are not changed. It fails if a record
// cannot be packed or the whole is larger than a message can be; the error does
// not tell what was asked, so that it can be logged.
func Store(o Outcome) (*Stored, error) {
	answer, authority := o.Answer, o.Authority
	if !o.DO {
		answer, authority = stripDNSSEC(answer, o.Type), stripDNSSEC(authority, o.Type)
	}
	packet, err := pack(o, answer, authority)
	if err != nil {
		return nil, fmt.Errorf("pack a reply: %w", err)
	}
	s := &Stored{
		Rcode:       o.Rcode,
		Secure:      o.Secure,
		EDE:         o.EDE,
		packet:      packet,
		questionEnd: headerLen + len(o.Name) + 4,
		ttls:        make([]uint16, 0, len(answer)+len(authority)),
	}
	off := s.questionEnd
	for i := range len(answer) + len(authority) {
		r, ok := readRecord(packet, off)
		if !ok {
			return nil, fmt.Errorf("pack a reply: record %d is malformed", i+1)
		}
		s.addTTL(r, o.MaxTTL)
		if i < len(answer) {
			if err := s.addTarget(r); err != nil {
				return nil, fmt.Errorf("pack a reply: record %d: %w", i+1, err)
			}
		}
		off = r.end
	}
	return s, nil
}

// Size is the memory in bytes that s takes, without what the allocator adds.
func (s *Stored) Size() int {
	const fixed = 128 // Stored itself
	size := fixed + cap(s.packet) + 2*cap(s.ttls) + 24*cap(s.Targets) + 24*cap(s.EDE)
	for _, t := range s.Targets {
		size += cap(t)
	}
	for _, n := range s.Servers {
		size += 24 + cap(n)
	}
	for _, e := range s.EDE {
		size += len(e.Text)
	}
	return size
}

// Address gives the address in the i-th record of the answer section; false where
// that is not an A or AAAA record. ok is false past the last record.
func (s *Stored) Address(i int) (addr netip.Addr, is, ok bool) {
	if i >= int(binary.BigEndian.Uint16(s.packet[6:])) {
		return netip.Addr{}, false, false
	}
	const typ, length, data = -4, 4, 6 // from the TTL (RFC 1035 §4.1.3)
	at := int(s.ttls[i])
	n := int(binary.BigEndian.Uint16(s.packet[at+length:]))
	switch t := binary.BigEndian.Uint16(s.packet[at+typ:]); {
	case t == dns.TypeA && n == 4, t == dns.TypeAAAA && n == 16:
		addr, is = netip.AddrFromSlice(s.packet[at+data : at+data+n])
	}
	return addr, is, true
}

// Patch appends s as the reply to q, whose question must be the one that s
// answers: with the client's ID, case, RD and CD, TTLs lowered by age (seconds
// since it was stored), and OPT as the client's EDNS asks for. A reply larger
// than limit becomes a truncated one without records.
func Patch(dst []byte, s *Stored, q *Query, age uint32, limit int) []byte {
	start := len(dst)
	truncated := len(s.packet)+q.optLen() > limit || q.questionEnd != s.questionEnd
	if truncated {
		dst = append(dst, s.packet[:headerLen]...)
		clear(dst[start+6 : start+10])
		dst = append(dst, q.question()...)
	} else {
		dst = append(dst, s.packet...)
		reply := dst[start:]
		copy(reply[headerLen:], q.question())
		for _, off := range s.ttls {
			at := reply[off : off+4]
			ttl := binary.BigEndian.Uint32(at)
			binary.BigEndian.PutUint32(at, ttl-min(ttl, age))
		}
	}
	dst = appendOPT(dst, start, q, s.Rcode, limit, s.EDE)
	putHeader(dst[start:], q, s.Rcode, s.Secure, truncated)
	return dst
}

// addTTL notes the place of a record's TTL. A TTL with the high bit set counts
// as 0 (RFC 2181 §8).
func (s *Stored) addTTL(r record, most uint32) {
	ttl := r.ttl
	if ttl >= 1<<31 {
		ttl = 0
	}
	if most != 0 {
		ttl = min(ttl, most)
	}
	binary.BigEndian.PutUint32(s.packet[r.ttlAt:], ttl)
	if len(s.ttls) == 0 || ttl < s.TTL {
		s.TTL = ttl
	}
	s.ttls = append(s.ttls, uint16(r.ttlAt))
}

// addTarget notes the name that an answer record leads to.
func (s *Stored) addTarget(r record) error {
	at := r.rdata
	switch r.typ {
	case dns.TypeCNAME, dns.TypeDNAME:
	case dns.TypeSVCB, dns.TypeHTTPS:
		at += 2 // SvcPriority (RFC 9460 §2.2)
	default:
		return nil
	}
	target, ok := readName(s.packet[:r.end], at)
	if !ok {
		return fmt.Errorf("malformed target of a %s record", dns.TypeToString[r.typ])
	}
	if len(target) > 1 { // "." is the owner itself (RFC 9460 §2.5)
		s.Targets = append(s.Targets, slices.Clip(target))
	}
	return nil
}

// pack writes header, question and records with compression.
func pack(o Outcome, answer, authority []dns.RR) ([]byte, error) {
	size := headerLen + len(o.Name) + 4
	for _, rr := range answer {
		size += dns.Len(rr)
	}
	for _, rr := range authority {
		size += dns.Len(rr)
	}
	buf := make([]byte, size)
	binary.BigEndian.PutUint16(buf[2:], flagQR|flagRA|uint16(o.Rcode)&0xf)
	binary.BigEndian.PutUint16(buf[4:], 1)
	binary.BigEndian.PutUint16(buf[6:], uint16(len(answer)))
	binary.BigEndian.PutUint16(buf[8:], uint16(len(authority)))

	name := NameText(o.Name)
	names := make(map[string]int)
	off, err := dns.PackDomainName(name, buf, headerLen, names, true)
	if err != nil {
		return nil, err
	}
	if off != headerLen+len(o.Name) {
		return nil, errors.New("the name is not in wire form")
	}
	binary.BigEndian.PutUint16(buf[off:], o.Type)
	binary.BigEndian.PutUint16(buf[off+2:], dns.ClassINET)
	off += 4
	for _, section := range [][]dns.RR{answer, authority} {
		for _, rr := range section {
			if off, err = dns.PackRR(withOwner(rr, name), buf, off, names, true); err != nil {
				return nil, err
			}
		}
	}
	if off > MaxStream-optLen {
		return nil, fmt.Errorf("%d bytes are more than a message can have", off)
	}
	return slices.Clone(buf[:off]), nil
}

// withOwner spells the owner of rr as the question does, if it is the same
// name, so that it is compressed to the question and takes the client's case.
func withOwner(rr dns.RR, name string) dns.RR {
	if owner := rr.Header().Name; owner != name && strings.EqualFold(owner, name) {
		rr = dns.Copy(rr)
		rr.Header().Name = name
	}
	return rr
}

// stripDNSSEC leaves out the records that only a client with DO gets, unless
// it asked for that type itself (RFC 4035 §3.2.1).
func stripDNSSEC(rrs []dns.RR, asked uint16) []dns.RR {
	keep := func(rr dns.RR) bool {
		switch typ := rr.Header().Rrtype; typ {
		case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3:
			return typ == asked || asked == dns.TypeANY
		}
		return true
	}
	if !slices.ContainsFunc(rrs, func(rr dns.RR) bool { return !keep(rr) }) {
		return rrs
	}
	var kept []dns.RR
	for _, rr := range rrs {
		if keep(rr) {
			kept = append(kept, rr)
		}
	}
	return kept
}
