// Package cookie makes and checks DNS server cookies (RFC 7873, RFC 9018): what a
// client sends back to show that its address is its own. A cookie binds the
// client's address and its own cookie, and nothing about clients is kept. For
// queries to servers, in which the resolver is the client, it knows where in a
// message the cookie stands.
package cookie

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/dchest/siphash"
	"github.com/miekg/dns"
)

const (
	// KeyLen is the length of a secret in bytes.
	KeyLen = 16

	clientLen = 8
	serverLen = 16
	// ClientDigits is the length of a client's part as In gives it (RFC 7873 §4).
	ClientDigits = 2 * clientLen
	// Len is the length of a whole cookie, client's and server's part.
	Len = clientLen + serverLen

	version = 1
	// A server cookie is good for an hour, and one that will not have been made
	// for five minutes yet is, since clocks of a set of servers differ (RFC 9018
	// §4.3).
	goodFor = time.Hour
	ahead   = 5 * time.Minute
)

// Secrets are the keys of server cookies: new ones are made with the first,
// and those made with any are good, so that a set of servers can change its key
// in steps (RFC 9018 §5).
type Secrets [][KeyLen]byte

// ParseSecrets reads one to three keys, one a line, in hexadecimal.
func ParseSecrets(text []byte) (Secrets, error) {
	var all Secrets
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		var key [KeyLen]byte
		if n, err := hex.Decode(key[:], line[:min(len(line), 2*KeyLen)]); err != nil || n != KeyLen || len(line) != 2*KeyLen {
			return nil, fmt.Errorf("secret %d is not 32 hexadecimal digits", len(all)+1) // and is not shown
		}
		all = append(all, key)
	}
	if len(all) == 0 || len(all) > 3 {
		return nil, errors.New("give one secret, and up to two more that were or will be used")
	}
	return all, nil
}

// In is the cookie in m, the client's part and the server's, in hexadecimal; ""
// where there is none.
func In(m *dns.Msg) string {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if c, ok := o.(*dns.EDNS0_COOKIE); ok {
				return c.Cookie
			}
		}
	}
	return ""
}

// State is what a client's cookie option says.
type State uint8

const (
	// Malformed: the query is to be answered with FORMERR (RFC 7873 §5.2.2).
	Malformed State = iota + 1
	// New: the client has no server cookie, or one that is not good.
	New
	// Good: the client has shown that it receives at its address.
	Good
)

// Check reads the data of a cookie option from client.
func (s Secrets) Check(option []byte, client netip.Addr, now time.Time) State {
	switch {
	case len(option) == clientLen:
		return New
	case len(option) < clientLen+8 || len(option) > clientLen+32:
		return Malformed
	case len(option) != Len || option[clientLen] != version:
		return New
	}
	made := binary.BigEndian.Uint32(option[clientLen+4:])
	// Serial arithmetic: the clock has 32 bits (RFC 9018 §4.3).
	if age := int32(uint32(now.Unix()) - made); age > int32(goodFor/time.Second) || age < -int32(ahead/time.Second) {
		return New
	}
	got := binary.LittleEndian.Uint64(option[clientLen+8:])
	for i := range s {
		if hash(&s[i], option[:clientLen+8], client) == got {
			return Good
		}
	}
	return New
}

// Append appends a whole cookie for the client whose cookie option this is: its
// own part and a new server cookie. option must not be malformed.
func (s Secrets) Append(dst, option []byte, client netip.Addr, now time.Time) []byte {
	start := len(dst)
	dst = append(dst, option[:clientLen]...)
	dst = append(dst, version, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(now.Unix()))
	return binary.LittleEndian.AppendUint64(dst, hash(&s[0], dst[start:start+clientLen+8], client))
}

// hash is SipHash-2-4 over the client's cookie, version, reserved bytes, time and
// the client's address (RFC 9018 §4.4, §6).
func hash(key *[KeyLen]byte, front []byte, client netip.Addr) uint64 {
	var buf [clientLen + 8 + 16]byte
	n := copy(buf[:], front)
	if client = client.Unmap(); client.Is4() {
		a := client.As4()
		n += copy(buf[n:], a[:])
	} else {
		a := client.As16()
		n += copy(buf[n:], a[:])
	}
	return siphash.Hash(binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:]), buf[:n])
}
