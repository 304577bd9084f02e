package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/miekg/dns"
)

// ParseName turns a name in presentation form into wire form, lower case. The
// trailing dot may be missing.
func ParseName(text string) ([]byte, error) {
	var buf [MaxName + 1]byte
	n, err := dns.PackDomainName(dns.Fqdn(text), buf[:], 0, nil, false)
	if err != nil || n > MaxName {
		return nil, fmt.Errorf("name %q is not a domain name of at most %d bytes", text, MaxName)
	}
	name := make([]byte, n)
	lower(name, buf[:n])
	return name, nil
}

// NameText is the presentation form of a name in wire form, with a trailing dot
// and with everything but plain letters escaped (RFC 1035 §5.1), safe to print.
func NameText(name []byte) string {
	text, _, err := dns.UnpackDomainName(name, 0)
	if err != nil {
		return fmt.Sprintf("(malformed name of %d bytes)", len(name))
	}
	return text
}

// lower copies a name in wire form to dst in lower case (RFC 4343 §3). Length
// bytes are below 'A' and stay as they are, so labels need not be told apart.
func lower(dst, name []byte) {
	_ = dst[:len(name)]
	for i, c := range name {
		if c-'A' < 26 {
			c += 'a' - 'A'
		}
		dst[i] = c
	}
}

// skipName returns the offset behind the name at off. A pointer ends the name
// and must lead backwards; it is not followed.
func skipName(msg []byte, off int) (int, bool) {
	start := off
	for off < len(msg) {
		length := int(msg[off])
		switch {
		case length == 0:
			return off + 1, off+1-start <= MaxName
		case length < 64:
			off += 1 + length
		case length >= 0xc0:
			if off+2 > len(msg) {
				return 0, false
			}
			target := int(binary.BigEndian.Uint16(msg[off:]) & 0x3fff)
			return off + 2, target < start && off-start < MaxName
		default:
			return 0, false
		}
	}
	return 0, false
}

// readName returns the name at off, decompressed and in lower case. Each
// pointer must lead before the place where the last one led, so that there is
// no loop and the work is bounded by MaxName labels (RFC 9267 §2).
func readName(msg []byte, off int) ([]byte, bool) {
	name := make([]byte, 0, 64)
	for limit := off; off < len(msg); {
		length := int(msg[off])
		switch {
		case length < 64:
			end := off + 1 + length
			if end > len(msg) || len(name)+1+length > MaxName {
				return nil, false
			}
			name = append(name, msg[off:end]...)
			if length == 0 {
				lower(name, name)
				return name, true
			}
			off = end
		case length >= 0xc0 && off+2 <= len(msg):
			target := int(binary.BigEndian.Uint16(msg[off:]) & 0x3fff)
			if target < headerLen || target >= limit {
				return nil, false
			}
			off, limit = target, target
		default:
			return nil, false
		}
	}
	return nil, false
}
