// Package wire parses a client's query and builds or patches its reply in
// place, without allocating and without decoding into dns.Msg (RFC 1035 §4,
// RFC 6891). Names are uncompressed wire form, lower case, so that they can be
// compared and looked up as bytes.
//
// The fast path is Parse, then Patch (an answer from the cache), Builder (an
// answer made here) or AppendError. The slow path turns what was resolved into
// a Stored with Store, once, and patches that.
package wire

import (
	"encoding/binary"
	"errors"

	"github.com/miekg/dns"
)

// MaxName is the longest name in wire form (RFC 1035 §3.1).
const MaxName = 255

// MaxUDP is the largest reply in bytes that is sent over UDP, and the payload
// size that we announce: it passes without fragments (RFC 9715).
const MaxUDP = 1232

// MaxStream is the largest reply in bytes over a stream transport, where the
// length has two bytes (RFC 1035 §4.2.2).
const MaxStream = 65535

// minUDP is what a client without EDNS can take (RFC 1035 §4.2.1), and the
// least that a payload size can mean (RFC 6891 §6.2.3).
const minUDP = 512

const headerLen = 12

// Header flags (RFC 1035 §4.1.1, RFC 4035 §3).
const (
	flagQR = 1 << 15
	flagTC = 1 << 9
	flagRD = 1 << 8
	flagRA = 1 << 7
	flagAD = 1 << 5
	flagCD = 1 << 4
)

// What Parse finds wrong. Rcode gives the reply that each calls for.
var (
	// ErrDrop: not a query at all, and nothing may be sent back: shorter than a
	// header, or itself a reply (answering those makes loops).
	ErrDrop = errors.New("wire: not a query")
	// ErrFormat: FORMERR. The reply repeats the question only if it was sound.
	ErrFormat = errors.New("wire: malformed query")
	// ErrOpcode: NOTIMP, an opcode other than QUERY. Only the header is parsed.
	ErrOpcode = errors.New("wire: opcode not implemented")
	// ErrVersion: BADVERS, an EDNS version above 0 (RFC 6891 §6.1.3).
	ErrVersion = errors.New("wire: EDNS version not implemented")
	// ErrTSIG: NOTAUTH, a query signed with a key that we do not have: there
	// are none here (RFC 8945 §5.2.1).
	ErrTSIG = errors.New("wire: query signed with an unknown key")
)

// Rcode is the response code that an error of Parse calls for; false means
// that nothing is sent.
func Rcode(err error) (int, bool) {
	switch err {
	case nil:
		return dns.RcodeSuccess, true
	case ErrFormat:
		return dns.RcodeFormatError, true
	case ErrOpcode:
		return dns.RcodeNotImplemented, true
	case ErrVersion:
		return dns.RcodeBadVers, true
	case ErrTSIG:
		return dns.RcodeNotAuth, true
	}
	return 0, false
}

// Query is a parsed client query. It refers to the packet it was parsed from
// and may be reused for the next one. Not safe for concurrent use.
type Query struct {
	Packet []byte // the packet as received
	ID     uint16
	Opcode uint8
	RD     bool // recursion desired
	AD     bool // the client understands AD (RFC 6840 §5.7)
	CD     bool // checking disabled
	Type   uint16
	Class  uint16

	EDNS    bool   // an OPT record was present
	DO      bool   // DNSSEC OK (RFC 3225)
	Version uint8  // EDNS version
	UDPSize uint16 // requestor's payload size; at least 512

	// What the caller adds to every reply of an EDNS client after Parse, which
	// clears both: whole options for the OPT record, before any EDE, and the
	// block size that the reply is padded to (RFC 7830, RFC 8467 §4.1); 0: none.
	Options []byte
	Pad     int

	options     []byte // RDATA of the OPT record, each option within bounds
	questionEnd int    // offset behind the question section; 0: no sound question
	tsig        int    // offset of the TSIG record; 0: none
	nameLen     int
	name        [MaxName]byte
}

// Name is the question name in wire form and lower case; valid until the query
// is parsed anew. Empty if there was no sound question.
func (q *Query) Name() []byte { return q.name[:q.nameLen] }

// Limit is the largest reply in bytes that may be sent: over UDP what the
// client announced, at most MaxUDP and without EDNS 512; over a stream
// MaxStream.
func (q *Query) Limit(stream bool) int {
	switch {
	case stream:
		return MaxStream
	case !q.EDNS:
		return minUDP
	}
	return min(int(q.UDPSize), MaxUDP)
}

// Option returns the data of the first EDNS option with that code, and whether
// there is one. The data is part of the packet.
func (q *Query) Option(code uint16) ([]byte, bool) {
	for rest := q.options; len(rest) >= 4; {
		n := 4 + int(binary.BigEndian.Uint16(rest[2:]))
		if binary.BigEndian.Uint16(rest) == code {
			return rest[4:n:n], true
		}
		rest = rest[n:]
	}
	return nil, false
}

// question is the question section as the client wrote it.
func (q *Query) question() []byte {
	if q.questionEnd == 0 {
		return nil
	}
	return q.Packet[headerLen:q.questionEnd]
}
