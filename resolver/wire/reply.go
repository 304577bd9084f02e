package wire

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// EDE is an extended DNS error (RFC 8914). Text is UTF-8, may be empty, and is
// sent whole or not at all, so that an address or JSON in it is never cut.
type EDE struct {
	Code uint16
	Text string
}

const (
	optLen = 11 // an OPT record without options
	edeLen = 6  // an EDE option without text: code, length, INFO-CODE
	padLen = 4  // a padding option without padding: code, length
)

// optLen is what the OPT record of a reply takes before any EDE; 0 for a client
// without EDNS.
func (q *Query) optLen() int {
	if !q.EDNS {
		return 0
	}
	return optLen + len(q.Options)
}

// AppendError appends a reply without records: header, the question in the
// client's case, OPT if the client sent one. With rcode 0 it is an empty answer.
// rcode may be an extended one. NOTAUTH to a signed query says that its key is
// unknown.
func AppendError(dst []byte, q *Query, rcode int, limit int, edes ...EDE) []byte {
	var b Builder
	b.Start(dst, q, limit)
	dst = b.Finish(rcode, false, edes...)
	if rcode == dns.RcodeNotAuth && q.tsig != 0 {
		dst = appendBadKey(dst, q, b.start, limit)
	}
	return dst
}

// AppendTruncated appends a reply that says no more than to ask again by TCP.
func AppendTruncated(dst []byte, q *Query, limit int) []byte {
	var b Builder
	b.Start(dst, q, limit)
	b.truncated = true
	return b.Finish(dns.RcodeSuccess, false)
}

// appendBadKey appends to the reply at start the TSIG record for a key that we
// do not have: the client's key name, algorithm and time, no MAC, and error
// BADKEY (RFC 8945 §5.2.1). It is left out if it does not fit.
func appendBadKey(dst []byte, q *Query, start, limit int) []byte {
	const badKey = 17
	r, ok := readRecord(q.Packet, q.tsig)
	if !ok {
		return dst
	}
	key, ok := readName(q.Packet, q.tsig)
	algorithm, ok2 := readName(q.Packet[:r.end], r.rdata)
	at, ok3 := skipName(q.Packet[:r.end], r.rdata)
	const signed = 6 + 2 // time signed, fudge
	if !ok || !ok2 || !ok3 || r.end-at < signed {
		return dst
	}
	rdata := len(algorithm) + signed + 2 + 2 + 2 + 2 // MAC size, original ID, error, other length
	if len(dst)-start+len(key)+10+rdata > limit {
		return dst
	}
	dst = append(dst, key...)
	dst = binary.BigEndian.AppendUint16(dst, dns.TypeTSIG)
	dst = binary.BigEndian.AppendUint16(dst, dns.ClassANY)
	dst = binary.BigEndian.AppendUint32(dst, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(rdata))
	dst = append(dst, algorithm...)
	dst = append(dst, q.Packet[at:at+signed]...)
	dst = binary.BigEndian.AppendUint16(dst, 0)
	dst = binary.BigEndian.AppendUint16(dst, q.ID)
	dst = binary.BigEndian.AppendUint16(dst, badKey)
	dst = binary.BigEndian.AppendUint16(dst, 0)
	dst[start+11]++ // additional records
	return dst
}

// Builder writes one reply: Start, then Answer and Authority in this order,
// then Finish. Its zero value is ready and it may be reused.
//
// What does not fit in the limit makes the reply a truncated one: TC is set and
// all records are left out, since a client has to ask again by TCP anyway and
// must not use them (RFC 2181 §9). OPT is always kept.
type Builder struct {
	q         *Query
	buf       []byte
	start     int // where the reply begins in buf
	limit     int
	answers   uint16
	authority uint16
	truncated bool
}

// Start begins a reply to q behind dst, of at most limit bytes (Query.Limit).
func (b *Builder) Start(dst []byte, q *Query, limit int) {
	*b = Builder{q: q, start: len(dst), limit: limit}
	var header [headerLen]byte
	b.buf = append(dst, header[:]...)
	b.buf = append(b.buf, q.question()...)
}

// Answer adds a record to the answer section. Its owner is the question name
// from offset owner of Query.Name on: 0 for the whole name. rdata is copied as
// it is, so names in it must not be compressed. ttl is in seconds.
func (b *Builder) Answer(owner int, typ uint16, ttl uint32, rdata []byte) {
	if b.record(owner, typ, ttl, rdata) {
		b.answers++
	}
}

// Authority adds a record to the authority section; as Answer.
func (b *Builder) Authority(owner int, typ uint16, ttl uint32, rdata []byte) {
	if b.record(owner, typ, ttl, rdata) {
		b.authority++
	}
}

// Room is how many bytes EDE options can still take, each 6 and its text; 0 if
// the client has no EDNS. Ask it after the last record.
func (b *Builder) Room() int {
	if !b.q.EDNS {
		return 0
	}
	return max(0, b.limit-b.q.optLen()-(len(b.buf)-b.start))
}

// Finish completes the reply and returns dst with it. secure says that all of
// it was validated; AD is set only for a client that can tell (RFC 6840 §5.8).
// edes go in as far as there is room: first a text is left out, then its code.
func (b *Builder) Finish(rcode int, secure bool, edes ...EDE) []byte {
	b.buf = appendOPT(b.buf, b.start, b.q, rcode, b.limit, edes)
	putHeader(b.buf[b.start:], b.q, rcode, secure, b.truncated)
	header := b.buf[b.start : b.start+headerLen]
	binary.BigEndian.PutUint16(header[6:], b.answers)
	binary.BigEndian.PutUint16(header[8:], b.authority)
	return b.buf
}

func (b *Builder) record(owner int, typ uint16, ttl uint32, rdata []byte) bool {
	const most = 2 + 10 // a pointer for the owner, and the fixed part
	if b.truncated || len(b.buf)-b.start+most+len(rdata)+b.q.optLen() > b.limit {
		b.truncated = true
		b.buf = b.buf[:b.start+headerLen+len(b.q.question())]
		b.answers, b.authority = 0, 0
		return false
	}
	if owner >= b.q.nameLen-1 {
		b.buf = append(b.buf, 0) // the root: a pointer would be longer
	} else {
		b.buf = binary.BigEndian.AppendUint16(b.buf, 0xc000|uint16(headerLen+owner))
	}
	b.buf = binary.BigEndian.AppendUint16(b.buf, typ)
	b.buf = binary.BigEndian.AppendUint16(b.buf, b.q.Class)
	b.buf = binary.BigEndian.AppendUint32(b.buf, ttl)
	b.buf = binary.BigEndian.AppendUint16(b.buf, uint16(len(rdata)))
	b.buf = append(b.buf, rdata...)
	return true
}

// putHeader writes ID, flags, and the counts of question and additional
// section, and leaves the other two counts alone.
func putHeader(reply []byte, q *Query, rcode int, secure, truncated bool) {
	flags := uint16(flagQR|flagRA) | uint16(q.Opcode)<<11
	if rcode > 0xf && !q.EDNS {
		rcode = dns.RcodeServerFailure // its upper bits have no place
	}
	flags |= uint16(rcode) & 0xf
	if truncated {
		flags |= flagTC
	}
	if q.RD {
		flags |= flagRD
	}
	if q.CD {
		flags |= flagCD
	}
	if secure && (q.DO || q.AD) {
		flags |= flagAD
	}
	binary.BigEndian.PutUint16(reply, q.ID)
	binary.BigEndian.PutUint16(reply[2:], flags)
	reply[5], reply[11] = 0, 0
	if q.questionEnd != 0 {
		reply[5] = 1
	}
	if q.EDNS {
		reply[11] = 1
	}
}

// appendOPT appends our OPT record if the client sent one (RFC 6891 §6.1.1),
// with DO repeated (RFC 3225 §3), to the reply that begins at start and may have
// limit bytes. Padding comes last, when all else is known.
func appendOPT(buf []byte, start int, q *Query, rcode, limit int, edes []EDE) []byte {
	if !q.EDNS {
		return buf
	}
	var do byte
	if q.DO {
		do = 0x80
	}
	end := start + limit
	buf = append(buf, 0, 0, byte(dns.TypeOPT), MaxUDP>>8, MaxUDP&0xff, byte(rcode>>4), 0, do, 0, 0, 0)
	options := len(buf)
	buf = append(buf, q.Options...)
	for _, e := range edes {
		text := e.Text
		if len(buf)+edeLen+len(text) > end {
			text = ""
		}
		if len(buf)+edeLen > end {
			break
		}
		buf = binary.BigEndian.AppendUint16(buf, dns.EDNS0EDE)
		buf = binary.BigEndian.AppendUint16(buf, uint16(2+len(text)))
		buf = binary.BigEndian.AppendUint16(buf, e.Code)
		buf = append(buf, text...)
	}
	if q.Pad > 0 && len(buf)+padLen <= end {
		over := (len(buf) + padLen - start) % q.Pad
		n := min((q.Pad-over)%q.Pad, end-len(buf)-padLen)
		buf = binary.BigEndian.AppendUint16(buf, dns.EDNS0PADDING)
		buf = binary.BigEndian.AppendUint16(buf, uint16(n))
		for range n {
			buf = append(buf, 0)
		}
	}
	binary.BigEndian.PutUint16(buf[options-2:], uint16(len(buf)-options))
	return buf
}
