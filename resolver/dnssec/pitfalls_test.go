package dnssec

import (
	"testing"
	"time"

	"github.com/miekg/dns"
)

// RFC 4035 §5.3.3: whoever passes a set on cannot make it live longer than its
// signer said, neither by its TTL nor by that of the signature.
func TestASignedSetDoesNotOutliveWhatItsSignerSaid(t *testing.T) {
	s := newSigner(t, "example.", dns.ED25519, 256)
	for _, c := range []struct {
		name      string
		data, sig uint32        // TTLs in seconds, changed after signing
		left      time.Duration // until the signature ends
		want      time.Duration
	}{
		{"as signed", 300, 300, time.Hour, 300 * time.Second},
		{"both made longer", 86400, 86400, time.Hour, 300 * time.Second},
		{"counted down", 200, 200, time.Hour, 200 * time.Second},
		{"the signature's counted down further", 300, 100, time.Hour, 100 * time.Second},
		{"the signature ends before", 300, 300, time.Minute - skew, time.Minute},
	} {
		set := s.sign(t, func(r *dns.RRSIG) { r.Expiration = uint32(noon.Add(c.left).Unix()) }, record(t, "www.example. 300 A 192.0.2.1"))
		set.RRs[0].Header().Ttl, set.Sigs[0].Hdr.Ttl = c.data, c.sig
		v := newValidator()
		got := v.VerifyRRset(set, v.Keys("example.", []dns.RR{s.DNSKEY}))
		if ttl := min(got.TTL, time.Duration(c.data)*time.Second); got.Status != Secure || ttl != c.want {
			t.Errorf("%s: %s, TTL %v, want %v", c.name, got.Status, ttl, c.want)
		}
	}
}
