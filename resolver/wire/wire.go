// Package wire parses a client's query and builds or patches its reply in
// place, without allocating and without decoding into dns.Msg (RFC 1035 §4,
// RFC 6891). Names are uncompressed wire form, lower case, so that they can be
// compared and looked up as bytes.
package wire

// MaxName is the longest name in wire form (RFC 1035 §3.1).
const MaxName = 255

// Query is a parsed client query. It refers to the packet it was parsed from
// and may be reused for the next one.
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

	questionEnd int // offset behind the question section
	nameLen     int
	name        [MaxName]byte
}

// Name is the question name in wire form and lower case; valid until the query
// is parsed anew.
func (q *Query) Name() []byte { return q.name[:q.nameLen] }
