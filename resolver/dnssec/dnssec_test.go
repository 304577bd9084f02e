package dnssec

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newValidator() *Validator {
	return &Validator{Clock: func() time.Time { return noon }, Work: &Work{Limit: DefaultLimits()}}
}

func record(t testing.TB, s string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(s)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

// signer is a zone key with its private half. Signatures are made by miekg/dns.
type signer struct {
	*dns.DNSKEY
	private crypto.Signer
}

func newSigner(t testing.TB, zone string, algorithm uint8, bits int) signer {
	t.Helper()
	k := &dns.DNSKEY{Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: 1, Ttl: 3600}, Flags: 257, Protocol: 3, Algorithm: algorithm}
	private, err := k.Generate(bits)
	if err != nil {
		t.Fatal(err)
	}
	return signer{k, private.(crypto.Signer)}
}

// sign makes a set of records with one signature; change alters the RRSIG before
// it is signed.
func (s signer) sign(t testing.TB, change func(*dns.RRSIG), rrs ...dns.RR) Set {
	t.Helper()
	sig := &dns.RRSIG{
		Hdr: dns.RR_Header{Ttl: rrs[0].Header().Ttl}, Algorithm: s.Algorithm, KeyTag: s.KeyTag(), SignerName: s.Hdr.Name,
		Inception: uint32(noon.Add(-time.Hour).Unix()), Expiration: uint32(noon.Add(time.Hour).Unix()),
	}
	if change != nil {
		change(sig)
	}
	if err := sig.Sign(s.private, rrs); err != nil {
		t.Fatal(err)
	}
	h := rrs[0].Header()
	return Set{Name: dns.CanonicalName(h.Name), Type: h.Rrtype, RRs: rrs, Sigs: []*dns.RRSIG{sig}}
}

func TestEachAlgorithmVerifiesAndRejectsAChange(t *testing.T) {
	for _, c := range []struct {
		name      string
		algorithm uint8
		bits      int
	}{
		{"RSASHA1", dns.RSASHA1, 1024}, {"RSASHA1-NSEC3", dns.RSASHA1NSEC3SHA1, 1024},
		{"RSASHA256", dns.RSASHA256, 2048}, {"RSASHA512", dns.RSASHA512, 1024},
		{"P-256", dns.ECDSAP256SHA256, 256}, {"P-384", dns.ECDSAP384SHA384, 384}, {"Ed25519", dns.ED25519, 256},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSigner(t, "example.", c.algorithm, c.bits)
			v := newValidator()
			keys := v.Keys("example.", []dns.RR{s.DNSKEY})
			set := s.sign(t, nil, record(t, "www.example. 300 MX 10 Mail.Example."), record(t, "www.example. 300 MX 5 a.example."))
			if got := v.VerifyRRset(set, keys); got.Status != Secure || got.TTL != 300*time.Second || got.Wildcard != "" {
				t.Fatalf("%+v", got)
			}
			set.RRs[0].(*dns.MX).Preference++
			if got := v.VerifyRRset(set, keys); got.Status != Bogus {
				t.Fatalf("changed data: %+v", got)
			}
			raw, _ := base64.StdEncoding.DecodeString(set.Sigs[0].Signature)
			set.RRs[0].(*dns.MX).Preference--
			for _, bad := range [][]byte{nil, raw[:len(raw)-1], append(raw[:len(raw):len(raw)], 0), make([]byte, len(raw))} {
				set.Sigs[0].Signature = base64.StdEncoding.EncodeToString(bad)
				if got := v.VerifyRRset(set, keys); got.Status != Bogus {
					t.Errorf("signature of %d bytes: %+v", len(bad), got)
				}
			}
		})
	}
}

// crypto/rsa refuses what RFC 5702 allows; the check here has to be as strict.
func TestShortRSAKeysVerify(t *testing.T) {
	n, err := rand.Prime(rand.Reader, 256)
	if err != nil {
		t.Fatal(err)
	}
	m, err := rand.Prime(rand.Reader, 256)
	if err != nil {
		t.Fatal(err)
	}
	modulus := new(big.Int).Mul(n, m)
	if modulus.BitLen() != 512 { // rand.Prime sets the two highest bits of each
		t.Fatalf("the modulus has %d bits", modulus.BitLen())
	}
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(n, one), new(big.Int).Sub(m, one))
	d := new(big.Int).ModInverse(big.NewInt(65537), phi)
	digest := crypto.SHA256.New()
	digest.Write([]byte("data"))
	sum := digest.Sum(nil)
	tail := append(digestInfo(crypto.SHA256), sum...)
	padded := append([]byte{0, 1}, make([]byte, 62-len(tail))...)
	for i := 2; i < 63-len(tail); i++ {
		padded[i] = 0xff
	}
	padded = append(padded, tail...)
	signature := new(big.Int).Exp(new(big.Int).SetBytes(padded), d, modulus).FillBytes(make([]byte, 64))
	k := Key{algorithm: dns.RSASHA256, public: &rsa.PublicKey{N: modulus, E: 65537}}
	if !k.verify([]byte("data"), signature) {
		t.Fatal("a good signature does not verify")
	}
	padded[2] = 0xfe // looser checks of the padding were forged before (CVE-2006-4339)
	forged := new(big.Int).Exp(new(big.Int).SetBytes(padded), d, modulus).FillBytes(make([]byte, 64))
	if k.verify([]byte("data"), forged) || k.verify([]byte("other"), signature) || k.verify([]byte("data"), signature[:63]) {
		t.Fatal("a bad signature verifies")
	}
}

func TestRSAKeysOutsideTheBoundsAreNotUsed(t *testing.T) {
	modulus := func(bits int) []byte {
		m := make([]byte, bits/8)
		m[0], m[len(m)-1] = 0x80, 1
		return m
	}
	for _, c := range []struct {
		name string
		raw  []byte
		want error
	}{
		{"usual", append([]byte{3, 1, 0, 1}, modulus(2048)...), nil},
		{"exponent in the long form", append([]byte{0, 0, 3, 1, 0, 1}, modulus(1024)...), nil},
		{"longest", append([]byte{1, 3}, modulus(4096)...), nil},
		{"too long", append([]byte{1, 3}, modulus(8192)...), errUnsupported},
		{"too short", append([]byte{1, 3}, modulus(256)...), errUnsupported},
		{"huge exponent", append([]byte{9, 1, 0, 0, 0, 0, 0, 0, 0, 1}, modulus(1024)...), errUnsupported},
		{"exponent of 32 bits and more", append([]byte{5, 1, 0, 0, 0, 1}, modulus(1024)...), errUnsupported},
		{"exponent 1", append([]byte{1, 1}, modulus(1024)...), errMalformed},
		{"even exponent", append([]byte{1, 4}, modulus(1024)...), errMalformed},
		{"nothing", nil, errMalformed},
		{"no modulus", []byte{3, 1, 0, 1}, errMalformed},
		{"exponent longer than the key", []byte{0, 255, 255, 1}, errMalformed},
	} {
		if _, err := rsaKey(c.raw); err != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestSignaturesThatDoNotFitAreBogus(t *testing.T) {
	s := newSigner(t, "example.", dns.ECDSAP256SHA256, 256)
	www := func() dns.RR { return record(t, "www.example. 300 A 192.0.2.1") }
	at := func(d time.Duration) uint32 { return uint32(noon.Add(d).Unix()) }
	for _, c := range []struct {
		name   string
		ede    uint16
		signed func(*dns.RRSIG) // before signing
		after  func(*Set)
	}{
		{"expired", dns.ExtendedErrorCodeSignatureExpired, func(r *dns.RRSIG) { r.Expiration = at(-skew - time.Second) }, nil},
		{"not yet valid", dns.ExtendedErrorCodeSignatureNotYetValid, func(r *dns.RRSIG) { r.Inception = at(skew + time.Second) }, nil},
		{"none", dns.ExtendedErrorCodeRRSIGsMissing, nil, func(s *Set) { s.Sigs = nil }},
		{"of another type", dns.ExtendedErrorCodeDNSBogus, nil, func(s *Set) { s.Sigs[0].TypeCovered = dns.TypeAAAA }},
		{"of another class", dns.ExtendedErrorCodeDNSBogus, nil, func(s *Set) { s.Sigs[0].Hdr.Class = dns.ClassCHAOS }},
		{"of another owner", dns.ExtendedErrorCodeDNSBogus, nil, func(s *Set) { s.Sigs[0].Hdr.Name = "w.example." }},
		{"by a zone whose name only ends alike", dns.ExtendedErrorCodeDNSBogus, nil, func(s *Set) { s.Sigs[0].SignerName = "ample." }},
		{"unreadable", dns.ExtendedErrorCodeDNSBogus, nil, func(s *Set) { s.Sigs[0].Signature = "!" }},
		{"records of two names", dns.ExtendedErrorCodeDNSBogus, nil, func(s *Set) { s.RRs = append(s.RRs, record(t, "w.example. A 192.0.2.2")) }},
		{"no records", dns.ExtendedErrorCodeDNSBogus, nil, func(s *Set) { s.RRs = nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := s.sign(t, c.signed, www())
			if c.after != nil {
				c.after(&set)
			}
			v := newValidator()
			if got := v.VerifyRRset(set, v.Keys("example.", []dns.RR{s.DNSKEY})); got.Status != Bogus || got.Code != c.ede || got.Text == "" {
				t.Errorf("%+v, want EDE %d", got, c.ede)
			}
		})
	}
}

func TestDatesAreComparedInSerialArithmetic(t *testing.T) {
	for _, c := range []struct {
		name                       string
		now, inception, expiration uint32
		want                       Status
	}{
		{"inside", 1000, 900, 5000, Secure},
		{"across the wrap", 5, 1<<32 - 100, 100, Secure},
		{"before the wrap", 1<<32 - 50, 1<<32 - 100, 100, Secure},
		{"after the end, across the wrap", 5000, 1<<32 - 100, 100, Bogus},
		{"after 2^31", 1<<31 + 10, 1<<31 - 10, 1<<31 + 1000, Secure},
		{"end before beginning", 1000, 5000, 900, Bogus},
		{"just outside, within the allowance for clocks", 5100, 900, 5000, Secure},
		{"ahead of the clock, within the allowance", 850, 900, 5000, Secure},
	} {
		v := newValidator()
		v.Clock = func() time.Time { return time.Unix(int64(c.now), 0) }
		sig := &dns.RRSIG{Inception: c.inception, Expiration: c.expiration}
		if got := v.checkDates(Set{}, sig).Status; got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

func TestLabelsFieldTellsWildcards(t *testing.T) {
	s := newSigner(t, "example.", dns.ECDSAP256SHA256, 256)
	v := newValidator()
	keys := v.Keys("example.", []dns.RR{s.DNSKEY})
	set := s.sign(t, nil, record(t, "*.w.example. 300 A 192.0.2.1"))
	if got := v.VerifyRRset(set, keys); got.Status != Secure || got.Wildcard != "" {
		t.Errorf("the wildcard itself: %+v", got)
	}
	for name, want := range map[string]Status{"a.w.example.": Secure, "a.b.w.example.": Secure, "w.example.": Bogus, "a.x.example.": Bogus} {
		expanded := Set{Name: name, Type: dns.TypeA}
		rr, sig := dns.Copy(set.RRs[0]), dns.Copy(set.Sigs[0]).(*dns.RRSIG)
		rr.Header().Name, sig.Hdr.Name = name, name
		expanded.RRs, expanded.Sigs = []dns.RR{rr}, []*dns.RRSIG{sig}
		got := v.VerifyRRset(expanded, keys)
		if got.Status != want || want == Secure && got.Wildcard != "w.example." {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestWildcardAboveTheSignersZoneIsBogus(t *testing.T) {
	s := newSigner(t, "sub.example.", dns.ED25519, 256)
	set := s.sign(t, nil, record(t, "*.example. 300 A 192.0.2.1"))
	set.Name = "www.sub.example."
	set.RRs[0].Header().Name, set.Sigs[0].Hdr.Name = set.Name, set.Name
	v := newValidator()
	if got := v.VerifyRRset(set, v.Keys("sub.example.", []dns.RR{s.DNSKEY})); got.Status != Bogus {
		t.Errorf("%+v", got)
	}
}

func TestKeysThatMayNotSignAreNotUsed(t *testing.T) {
	good := newSigner(t, "example.", dns.ECDSAP256SHA256, 256)
	for name, change := range map[string]func(*dns.DNSKEY){
		"no zone key":       func(k *dns.DNSKEY) { k.Flags &^= dns.ZONE },
		"revoked":           func(k *dns.DNSKEY) { k.Flags |= dns.REVOKE },
		"other protocol":    func(k *dns.DNSKEY) { k.Protocol = 4 },
		"unknown algorithm": func(k *dns.DNSKEY) { k.Algorithm = 200 },
		"of another zone":   func(k *dns.DNSKEY) { k.Hdr.Name = "other." },
		"unreadable":        func(k *dns.DNSKEY) { k.PublicKey = "!" },
		"not on the curve":  func(k *dns.DNSKEY) { k.PublicKey = base64.StdEncoding.EncodeToString(make([]byte, 64)) },
		"too short":         func(k *dns.DNSKEY) { k.PublicKey = "AAAA" },
	} {
		k := dns.Copy(good.DNSKEY).(*dns.DNSKEY)
		change(k)
		if n := newValidator().Keys("example.", []dns.RR{k}).Len(); n != 0 {
			t.Errorf("%s: used", name)
		}
	}
	v := newValidator()
	v.RejectSHA1 = true
	if v.supportsAlgorithm(dns.RSASHA1) || v.supportsAlgorithm(dns.RSASHA1NSEC3SHA1) || v.supportsDigest(dns.SHA1) {
		t.Error("SHA-1 used though rejected")
	}
}

func TestTrustGoesFromDSToKeys(t *testing.T) {
	ksk, other := newSigner(t, "example.", dns.ECDSAP256SHA256, 256), newSigner(t, "example.", dns.ED25519, 256)
	set := ksk.sign(t, nil, ksk.DNSKEY, other.DNSKEY)
	damaged := func(h uint8) *dns.DS {
		d := ksk.ToDS(h)
		d.Digest = strings.Repeat("0", len(d.Digest))
		return d
	}
	unknown := func() *dns.DS { d := ksk.ToDS(dns.SHA256); d.DigestType = 77; return d }()
	algorithm := func() *dns.DS { d := ksk.ToDS(dns.SHA256); d.Algorithm = 77; return d }()
	for _, c := range []struct {
		name    string
		anchors []dns.RR
		want    Status
		ede     uint16
	}{
		{"SHA-256", []dns.RR{ksk.ToDS(dns.SHA256)}, Secure, 0},
		{"SHA-384", []dns.RR{ksk.ToDS(dns.SHA384)}, Secure, 0},
		{"SHA-1 alone", []dns.RR{ksk.ToDS(dns.SHA1)}, Secure, 0},
		{"the key itself", []dns.RR{ksk.DNSKEY}, Secure, 0},
		{"one of two fits", []dns.RR{damaged(dns.SHA256), ksk.ToDS(dns.SHA384)}, Secure, 0},
		{"unknown digest beside a known one", []dns.RR{unknown, ksk.ToDS(dns.SHA256)}, Secure, 0},
		{"SHA-1 fits, the stronger one does not", []dns.RR{ksk.ToDS(dns.SHA1), damaged(dns.SHA256)}, Bogus, dns.ExtendedErrorCodeDNSKEYMissing},
		{"unknown digest", []dns.RR{unknown}, Insecure, dns.ExtendedErrorCodeUnsupportedDSDigestType},
		{"unknown algorithm", []dns.RR{algorithm}, Insecure, dns.ExtendedErrorCodeUnsupportedDNSKEYAlgorithm},
		{"a key that did not sign", []dns.RR{other.ToDS(dns.SHA256)}, Bogus, dns.ExtendedErrorCodeDNSBogus},
		{"a key that is not there", []dns.RR{newSigner(t, "example.", dns.ED25519, 256).ToDS(dns.SHA256)}, Bogus, dns.ExtendedErrorCodeDNSKEYMissing},
	} {
		t.Run(c.name, func(t *testing.T) {
			keys, got := newValidator().Trust("example.", set, c.anchors)
			if got.Status != c.want || got.Code != c.ede {
				t.Fatalf("%+v", got)
			}
			if (keys != nil) != (c.want == Secure) || keys != nil && keys.Len() != 2 {
				t.Errorf("keys %+v", keys)
			}
		})
	}

	noZone := newSigner(t, "example.", dns.ED25519, 256)
	noZone.Flags = 1
	_, got := newValidator().Trust("example.", Set{Name: "example.", Type: dns.TypeDNSKEY, RRs: []dns.RR{noZone.DNSKEY}}, []dns.RR{noZone.ToDS(dns.SHA256)})
	if got.Status != Bogus || got.Code != dns.ExtendedErrorCodeNoZoneKeyBitSet {
		t.Errorf("no zone key: %+v", got)
	}
}

// Work is counted before it is done, and what was refused is not called bogus data.
func TestWorkIsLimited(t *testing.T) {
	s := newSigner(t, "example.", dns.ECDSAP256SHA256, 256)
	set := s.sign(t, nil, record(t, "www.example. 300 A 192.0.2.1"))
	v := newValidator()
	keys := v.Keys("example.", []dns.RR{s.DNSKEY})
	for len(keys.keys) < 100 { // keys of one tag, as KeyTrap has them; the good one last
		k := newSigner(t, "example.", dns.ECDSAP256SHA256, 256)
		keys.keys = append([]Key{{tag: s.KeyTag(), algorithm: s.Algorithm, public: v.Keys("example.", []dns.RR{k.DNSKEY}).keys[0].public}}, keys.keys...)
	}
	got := v.VerifyRRset(set, keys)
	if !got.Exhausted || got.Status != Bogus || !v.Work.Exhausted || v.Work.Spent.Failures != v.Work.Limit.Failures {
		t.Errorf("%+v after %+v", got, v.Work.Spent)
	}

	v = newValidator()
	v.Work.Limit.Digests = 3
	var ds []dns.RR
	for range 10 {
		d := s.ToDS(dns.SHA256)
		d.Digest = strings.Repeat("0", 64)
		ds = append(ds, d)
	}
	if _, got := v.Trust("example.", s.sign(t, nil, s.DNSKEY), ds); !got.Exhausted || v.Work.Spent.Digests != 3 {
		t.Errorf("%+v after %+v", got, v.Work.Spent)
	}
}

// Else the dearest algorithm would buy an attacker ten times the work.
func TestDearSignaturesCountForMore(t *testing.T) {
	for _, c := range []struct {
		name            string
		algorithm       uint8
		bits            int
		exponent        int64 // of RSA, in place of the usual one
		checked, within int   // how many are, of a limit
	}{
		{"P-256", dns.ECDSAP256SHA256, 256, 0, 12, 12},
		{"Ed25519", dns.ED25519, 256, 0, 12, 12},
		{"P-384", dns.ECDSAP384SHA384, 384, 0, 2, 12},
		{"RSA of 2048 bits", dns.RSASHA256, 2048, 0, 12, 12},
		{"RSA of more than 2048 bits", dns.RSASHA256, 2304, 0, 3, 12},
		{"the same with a long exponent", dns.RSASHA256, 2304, maxExponent, 2, 12},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSigner(t, "example.", c.algorithm, c.bits)
			set := s.sign(t, nil, record(t, "www.example. 300 A 192.0.2.1"))
			v := newValidator()
			v.Work.Limit.Signatures, v.Work.Limit.Failures = c.within, c.within
			keys := v.Keys("example.", []dns.RR{s.DNSKEY})
			if c.exponent > 0 { // nothing verifies with it, which costs the same
				keys.keys[0].public.(*rsa.PublicKey).E = int(c.exponent)
			}
			checked := 0
			for checked <= c.within && !v.VerifyRRset(set, keys).Exhausted {
				checked++
			}
			if checked != c.checked {
				t.Errorf("%d are checked, want %d", checked, c.checked)
			}
		})
	}
}

// What miekg/dns signs of each type verifies here: the canonical form is the same.
func TestCanonicalFormOfTypesWithNames(t *testing.T) {
	s := newSigner(t, "example.", dns.ED25519, 256)
	v := newValidator()
	keys := v.Keys("example.", []dns.RR{s.DNSKEY})
	for _, line := range []string{
		"NS Ns1.Example.", "CNAME A.Example.", "SOA A.Example. B.Example. 1 2 3 4 5", "PTR A.Example.", "MX 1 A.Example.",
		"RP A.Example. B.Example.", "AFSDB 1 A.Example.", "RT 1 A.Example.", "PX 1 A.Example. B.Example.", "KX 1 A.Example.",
		"SRV 1 2 3 A.Example.", "DNAME A.Example.", `NAPTR 1 2 "S" "x" "" A.Example.`, "MINFO A.Example. B.Example.",
		"NSEC Next.Example. A RRSIG NSEC", `HINFO "Cpu" "Os"`, "HTTPS 1 A.Example. alpn=h2", `TXT "MiXed"`, `TYPE65400 \# 3 414243`,
	} {
		set := s.sign(t, nil, record(t, "x.example. 300 "+line))
		if got := v.VerifyRRset(set, keys); got.Status != Secure {
			t.Errorf("%s: %+v", line, got)
		}
	}
}
