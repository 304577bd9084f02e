package wire

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// Freshness is for how many seconds a reply that was made here may be kept by
// who knows nothing of DNS (RFC 8484 §5.1): the lowest TTL of the answer
// section, or for an empty one the negative TTL of the SOA (RFC 2308 §5). It is
// 0 for a reply that says neither.
func Freshness(reply []byte) uint32 {
	if len(reply) < headerLen {
		return 0
	}
	off := headerLen
	for range binary.BigEndian.Uint16(reply[4:]) {
		end, ok := skipName(reply, off)
		if !ok {
			return 0
		}
		off = end + 4
	}
	answers := int(binary.BigEndian.Uint16(reply[6:]))
	authority := int(binary.BigEndian.Uint16(reply[8:]))
	lowest, known := uint32(0), false
	for i := range answers + authority {
		r, ok := readRecord(reply, off)
		if !ok {
			return 0
		}
		off = r.end
		switch ttl := r.ttl; {
		case i < answers:
			if !known || ttl < lowest {
				lowest, known = ttl, true
			}
		case answers == 0 && r.typ == dns.TypeSOA && r.end-r.rdata >= 20:
			return min(ttl, binary.BigEndian.Uint32(reply[r.end-4:]))
		}
	}
	return lowest
}
