package dnssec

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// What a request can be made to cost at worst by signatures that do not verify
// (CVE-2023-50387), with the dearest algorithm.
func BenchmarkFailingSignaturesUpToTheLimit(b *testing.B) {
	s := newSigner(b, "example.", dns.ECDSAP384SHA384, 384)
	set := s.sign(b, nil, record(b, "www.example. 300 A 192.0.2.1"))
	set.RRs[0].(*dns.A).A[3]++
	for range 100 {
		set.Sigs = append(set.Sigs, set.Sigs[0])
	}
	v := newValidator()
	keys := v.Keys("example.", []dns.RR{s.DNSKEY})
	b.ReportAllocs()
	for b.Loop() {
		v.Work.Spent = Limits{}
		if got := v.VerifyRRset(set, keys); !got.Exhausted {
			b.Fatal(got)
		}
	}
}

// The same for names to be hashed (CVE-2023-50868).
func BenchmarkHashesUpToTheLimit(b *testing.B) {
	apex := strings.ToLower(dns.HashName("example.", dns.SHA1, MaxIterations, "AB"))
	line := apex + ".example. NSEC3 1 0 50 AB " + strings.ToUpper(apex) + " NS SOA RRSIG"
	b.ReportAllocs()
	for b.Loop() {
		d := proven(b, "example.", line)
		for _, first := range []string{"a.", "b."} { // 125 labels each
			d.NXDOMAIN(first + strings.Repeat("x.", 115) + "example.")
			d.NXDOMAIN(first + strings.Repeat("y.", 115) + "example.")
		}
		if d.v.Work.Spent.Hashes != d.v.Work.Limit.Hashes {
			b.Fatal(d.v.Work.Spent)
		}
	}
}

// What Key.cost goes by.
func BenchmarkVerify(b *testing.B) {
	for _, c := range []struct {
		name      string
		algorithm uint8
		bits      int
	}{
		{"P-256", dns.ECDSAP256SHA256, 256}, {"P-384", dns.ECDSAP384SHA384, 384}, {"Ed25519", dns.ED25519, 256},
		{"RSA-1024", dns.RSASHA256, 1024}, {"RSA-2048", dns.RSASHA256, 2048}, {"RSA-4096", dns.RSASHA256, 4096},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := newSigner(b, "example.", c.algorithm, c.bits)
			set := s.sign(b, nil, record(b, "www.example. 300 A 192.0.2.1"))
			v := newValidator()
			keys := v.Keys("example.", []dns.RR{s.DNSKEY})
			b.ReportAllocs()
			for b.Loop() {
				v.Work.Spent = Limits{}
				if got := v.VerifyRRset(set, keys); got.Status != Secure {
					b.Fatal(got)
				}
			}
		})
	}
}
