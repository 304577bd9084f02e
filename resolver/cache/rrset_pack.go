package cache

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// Entries are kept packed: one allocation of known size each, and every reader
// gets records of its own.

// maxPacked bounds one entry; a DNS message is no larger.
const maxPacked = 64 << 10

// sections in the order they are packed.
func sections(s *RRset) [4]*[]dns.RR { return [4]*[]dns.RR{&s.RRs, &s.Sigs, &s.Proof, &s.Glue} }

// pack writes, for each section, the number of records and the records in
// uncompressed wire form.
func pack(s RRset) ([]byte, error) {
	size := 0
	for _, section := range sections(&s) {
		size += 2
		for _, rr := range *section {
			size += dns.Len(rr) + 1 // PackRR wants one to spare for some types
		}
	}
	if size > maxPacked {
		return nil, fmt.Errorf("entry of %d bytes, limit %d", size, maxPacked)
	}
	buf := make([]byte, size)
	off := 0
	for _, section := range sections(&s) {
		binary.BigEndian.PutUint16(buf[off:], uint16(len(*section))) // #nosec G115 -- bounded by size
		off += 2
		for _, rr := range *section {
			n, err := dns.PackRR(rr, buf, off, nil, false)
			if err != nil {
				return nil, fmt.Errorf("packing %s: %w", rr.Header().Name, err)
			}
			off = n
		}
	}
	packed := append(make([]byte, 0, off), buf[:off]...) // exactly as long as it is counted
	// Some records that came without RDATA pack into what does not unpack.
	if err := unpack(packed, new(RRset)); err != nil {
		return nil, fmt.Errorf("entry of %s: %w", s.Name, err)
	}
	return packed, nil
}

// unpack fills the sections of s and sets each record's TTL to what s has left.
func unpack(packed []byte, s *RRset) error {
	ttl := uint32(s.TTL / time.Second) // #nosec G115 -- at most MaxTTL
	off := 0
	for _, section := range sections(s) {
		if len(packed) < off+2 {
			return fmt.Errorf("entry ends at %d", off)
		}
		n := int(binary.BigEndian.Uint16(packed[off:]))
		off += 2
		for range n {
			if off == len(packed) { // where UnpackRR gives an empty record and no error
				return fmt.Errorf("entry ends at %d", off)
			}
			rr, next, err := dns.UnpackRR(packed, off)
			if err != nil {
				return fmt.Errorf("unpacking at %d: %w", off, err)
			}
			rr.Header().Ttl = ttl
			*section = append(*section, rr)
			off = next
		}
	}
	return nil
}
