package wire

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// Parse reads a client's query. The packet is kept, not copied. After any error
// but ErrDrop, q holds what AppendError needs.
//
// FORMERR is for: a question count other than one (RFC 9619); a compressed or
// overlong question name; records in the answer section, or in the authority
// section of anything but IXFR; more than one OPT, an OPT with an owner or with
// options past its end (RFC 6891 §6.1.1); a TSIG that is not the last record
// (RFC 8945 §5.1); bytes behind the last record, which nothing accounts for. A
// SIG(0) record is not checked, as RFC 2931 §3.2 allows for plain queries, and
// unknown additional records are passed over.
func (q *Query) Parse(packet []byte) error {
	*q = Query{Packet: packet, UDPSize: minUDP}
	if len(packet) < headerLen {
		return ErrDrop
	}
	flags := binary.BigEndian.Uint16(packet[2:])
	if flags&flagQR != 0 {
		return ErrDrop
	}
	q.ID = binary.BigEndian.Uint16(packet)
	q.Opcode = uint8(flags>>11) & 0xf
	q.RD = flags&flagRD != 0
	q.AD = flags&flagAD != 0
	q.CD = flags&flagCD != 0
	if q.Opcode != dns.OpcodeQuery {
		return ErrOpcode
	}
	if binary.BigEndian.Uint16(packet[4:]) != 1 || !q.parseQuestion() {
		return ErrFormat
	}
	answers := binary.BigEndian.Uint16(packet[6:])
	authority := int(binary.BigEndian.Uint16(packet[8:]))
	if answers != 0 || authority != 0 && q.Type != dns.TypeIXFR {
		return ErrFormat
	}
	return q.parseRecords(authority, int(binary.BigEndian.Uint16(packet[10:])))
}

// parseQuestion reads the only question, without compression: there is nothing
// before it that a pointer could mean.
func (q *Query) parseQuestion() bool {
	end := headerLen
	for {
		if end >= len(q.Packet) {
			return false
		}
		length := int(q.Packet[end])
		if length > 63 {
			return false
		}
		end += 1 + length
		if end-headerLen > MaxName {
			return false
		}
		if length == 0 {
			break
		}
	}
	if len(q.Packet)-end < 4 {
		return false
	}
	q.nameLen = end - headerLen
	lower(q.name[:q.nameLen], q.Packet[headerLen:end])
	q.Type = binary.BigEndian.Uint16(q.Packet[end:])
	q.Class = binary.BigEndian.Uint16(q.Packet[end+2:])
	q.questionEnd = end + 4
	return true
}

// parseRecords walks the records behind the question. A count too high ends at
// the end of the packet, so that it costs nothing.
func (q *Query) parseRecords(authority, additional int) error {
	off := q.questionEnd
	for i := range authority + additional {
		r, ok := readRecord(q.Packet, off)
		if !ok {
			return ErrFormat
		}
		switch r.typ {
		case dns.TypeOPT:
			if q.EDNS || i < authority || q.Packet[off] != 0 || !q.parseOPT(r) {
				return ErrFormat
			}
		case dns.TypeTSIG:
			if i != authority+additional-1 {
				return ErrFormat
			}
			q.tsig = off
		}
		off = r.end
	}
	switch {
	case off != len(q.Packet):
		return ErrFormat
	case q.Version != 0:
		return ErrVersion
	case q.tsig != 0:
		return ErrTSIG
	}
	return nil
}

// parseOPT reads the OPT record (RFC 6891 §6.1.2). The options of a later
// version may have another form and are left alone.
func (q *Query) parseOPT(r record) bool {
	q.EDNS = true
	q.UDPSize = max(r.class, minUDP)
	q.Version = uint8(r.ttl >> 16)
	q.DO = r.ttl&(1<<15) != 0
	if q.Version != 0 {
		return true
	}
	options := q.Packet[r.rdata:r.end]
	for rest := options; len(rest) > 0; {
		if len(rest) < 4 {
			return false
		}
		n := 4 + int(binary.BigEndian.Uint16(rest[2:]))
		if n > len(rest) {
			return false
		}
		rest = rest[n:]
	}
	q.options = options
	return true
}

// record is the place of a resource record in a message (RFC 1035 §4.1.3).
type record struct {
	typ, class uint16
	ttl        uint32
	ttlAt      int // offset of the TTL
	rdata      int // offset of the RDATA
	end        int // offset behind it
}

// readRecord reads the fixed part of the record at off; false if it does not
// fit in the message.
func readRecord(msg []byte, off int) (record, bool) {
	off, ok := skipName(msg, off)
	if !ok || len(msg)-off < 10 {
		return record{}, false
	}
	r := record{
		typ:   binary.BigEndian.Uint16(msg[off:]),
		class: binary.BigEndian.Uint16(msg[off+2:]),
		ttl:   binary.BigEndian.Uint32(msg[off+4:]),
		ttlAt: off + 4,
		rdata: off + 10,
	}
	r.end = r.rdata + int(binary.BigEndian.Uint16(msg[off+8:]))
	return r, r.end <= len(msg)
}
