package feed

import (
	"crypto/hmac"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// Key signs what is asked of a primary, and what it answers (TSIG, RFC 8945).
type Key struct {
	Name      string // canonical
	Algorithm string // as TSIG names it: dns.HmacSHA256, ...
	// MACs makes the MAC with the key's secret; its Verify is not used.
	MACs dns.TsigProvider
}

// fudge is by how many seconds clocks may differ (RFC 8945 §10).
const fudge = 300

// sign packs a query with its signature.
func (k *Key) sign(m *dns.Msg, now time.Time) (packet []byte, v *verifier, err error) {
	m.SetTsig(k.Name, k.Algorithm, fudge, now.Unix())
	packet, mac, err := dns.TsigGenerateWithProvider(m, k.MACs, "", false)
	if err != nil {
		return nil, nil, fmt.Errorf("sign with key %s: %w", k.Name, err)
	}
	raw, err := hex.DecodeString(mac)
	if err != nil {
		return nil, nil, err
	}
	return packet, &verifier{key: k, mac: raw, first: true}, nil
}

// verifier checks the messages that answer one signed query. A primary signs the
// first, the last, and at least every hundredth; what lies between two signatures
// is covered by the second (RFC 8945 §5.3.1). miekg/dns takes messages without a
// signature as they are, hence this.
type verifier struct {
	key      *Key
	mac      []byte // of the query, then of the last signed message
	first    bool
	unsigned []byte // messages since the last signed one
	count    int    // of them
}

const maxUnsigned = 99

var errUnsigned = errors.New("the primary does not sign its answer: give it the key for this zone")

// message takes the next message as it came; it is not kept, and changed.
func (v *verifier) message(raw []byte, now time.Time) error {
	start, t, err := findTSIG(raw)
	switch {
	case err != nil:
		return err
	case t == nil && v.first:
		return errUnsigned
	case t == nil && v.count == maxUnsigned:
		return errors.New("more than 99 messages without a signature")
	case t == nil:
		v.unsigned = append(v.unsigned, raw...)
		v.count++
		return nil
	case dns.CanonicalName(t.Hdr.Name) != v.key.Name || dns.CanonicalName(t.Algorithm) != v.key.Algorithm:
		return fmt.Errorf("signed with key %s (%s), not with %s (%s)", t.Hdr.Name, t.Algorithm, v.key.Name, v.key.Algorithm)
	case t.Error == dns.RcodeBadTime:
		return errors.New("the primary's clock differs from ours by more than 5 minutes (BADTIME): set the clocks")
	case t.Error != 0:
		return fmt.Errorf("the primary does not accept key %s (%s): compare name, algorithm and secret on both sides", v.key.Name, dns.RcodeToString[int(t.Error)])
	}
	want, err := v.key.MACs.Generate(v.digested(raw[:start], t), t)
	if err != nil {
		return fmt.Errorf("verify with key %s: %w", v.key.Name, err)
	}
	got, err := hex.DecodeString(t.MAC)
	if err != nil || !hmac.Equal(got, want) { // cut MACs are not taken
		return fmt.Errorf("the signature with key %s is wrong: compare the secret on both sides", v.key.Name)
	}
	// After the signature (RFC 8945 §5.2.3).
	if d := now.Unix() - int64(t.TimeSigned); d > int64(t.Fudge) || -d > int64(t.Fudge) {
		return fmt.Errorf("signed %d seconds from now: set the clocks", d)
	}
	v.mac, v.first, v.unsigned, v.count = got, false, v.unsigned[:0], 0
	return nil
}

// end is called behind the last message.
func (v *verifier) end() error {
	if v.first || v.count > 0 {
		return errUnsigned
	}
	return nil
}

// digested is what a MAC is made of: the MAC before, messages, and of the TSIG
// record either all or the times alone (RFC 8945 §4.3, §5.3.1).
func (v *verifier) digested(message []byte, t *dns.TSIG) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(v.mac)))
	b = append(b, v.mac...)
	b = append(b, v.unsigned...)
	at := len(b)
	b = append(b, message...)
	binary.BigEndian.PutUint16(b[at:], t.OrigId)
	binary.BigEndian.PutUint16(b[at+10:], binary.BigEndian.Uint16(b[at+10:])-1)
	timers := func() {
		b = binary.BigEndian.AppendUint16(b, uint16(t.TimeSigned>>32))
		b = binary.BigEndian.AppendUint32(b, uint32(t.TimeSigned))
		b = binary.BigEndian.AppendUint16(b, t.Fudge)
	}
	if !v.first {
		timers()
		return b
	}
	for _, name := range []string{v.key.Name, ""} {
		if name == "" {
			b = binary.BigEndian.AppendUint16(b, dns.ClassANY)
			b = binary.BigEndian.AppendUint32(b, 0)
			name = v.key.Algorithm
		}
		w, err := wireName(name)
		if err != nil {
			return nil // cannot be: the query was signed with both
		}
		b = append(b, w...)
	}
	timers()
	b = binary.BigEndian.AppendUint16(b, t.Error)
	other, _ := hex.DecodeString(t.OtherData)
	b = binary.BigEndian.AppendUint16(b, uint16(len(other)))
	return append(b, other...)
}

// findTSIG finds the TSIG record, which is the last one if there is one (RFC 8945
// §5.1), and where it begins.
func findTSIG(raw []byte) (start int, t *dns.TSIG, err error) {
	const header = 12
	if len(raw) < header {
		return 0, nil, errors.New("a message shorter than its header")
	}
	count := func(at int) int { return int(binary.BigEndian.Uint16(raw[at:])) }
	off := header
	for range count(4) {
		if off, err = skipName(raw, off); err != nil {
			return 0, nil, err
		}
		off += 4
	}
	records := count(6) + count(8) + count(10)
	for i := range records {
		start = off
		if off, err = skipName(raw, off); err != nil {
			return 0, nil, err
		}
		if len(raw)-off < 10 {
			return 0, nil, errCut
		}
		rrtype := binary.BigEndian.Uint16(raw[off:])
		off += 10 + int(binary.BigEndian.Uint16(raw[off+8:]))
		if off > len(raw) {
			return 0, nil, errCut
		}
		if rrtype != dns.TypeTSIG {
			continue
		}
		if i != records-1 || count(10) == 0 || off != len(raw) {
			return 0, nil, errors.New("a signature that is not the last record")
		}
		rr, _, err := dns.UnpackRR(raw, start)
		if err != nil {
			return 0, nil, fmt.Errorf("the signature: %w", err)
		}
		t, ok := rr.(*dns.TSIG)
		if !ok {
			return 0, nil, errCut
		}
		return start, t, nil
	}
	return 0, nil, nil
}

var errCut = errors.New("a message that is cut short")

// skipName gives the offset behind a name; pointers are not followed.
func skipName(raw []byte, off int) (int, error) {
	for off < len(raw) {
		switch n := int(raw[off]); {
		case n == 0:
			return off + 1, nil
		case n >= 0xc0:
			return off + 2, nil
		case n < 64:
			off += 1 + n
		default:
			return 0, errCut
		}
	}
	return 0, errCut
}
