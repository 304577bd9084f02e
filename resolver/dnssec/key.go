package dnssec

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha1"   // crypto.SHA1, for the algorithms 5 and 7
	_ "crypto/sha256" // crypto.SHA256
	_ "crypto/sha512" // crypto.SHA384 and SHA512
	"encoding/base64"
	"errors"
	"math/big"

	"github.com/miekg/dns"
)

// Key is a zone key ready for use.
type Key struct {
	tag       uint16
	algorithm uint8
	public    crypto.PublicKey
	record    *dns.DNSKEY
}

// KeySet is the trusted keys of one zone.
type KeySet struct {
	Zone string
	keys []Key
}

// Len is the number of usable keys.
func (s *KeySet) Len() int { return len(s.keys) }

// Keys returns the usable keys of a DNSKEY RRset that was trusted before (its
// signature is not checked here).
func (v *Validator) Keys(zone string, rrs []dns.RR) *KeySet {
	set := &KeySet{Zone: zone}
	for _, rr := range rrs {
		if k, err := v.key(zone, rr); err == nil {
			set.keys = append(set.keys, k)
		}
	}
	return set
}

var (
	errNotZoneKey  = errors.New("no zone key")
	errUnsupported = errors.New("algorithm or key size not supported")
	errMalformed   = errors.New("malformed public key")
)

// key reads a DNSKEY record; the error says why it may not verify anything
// (RFC 4034 §2.1, RFC 5011 §2.1).
func (v *Validator) key(zone string, rr dns.RR) (Key, error) {
	if k, ok := rr.(*dns.DNSKEY); ok && k.Flags&dns.REVOKE != 0 {
		return Key{}, errNotZoneKey
	}
	return v.anyKey(zone, rr)
}

// anyKey is key for one that may be marked as revoked.
func (v *Validator) anyKey(zone string, rr dns.RR) (Key, error) {
	k, ok := rr.(*dns.DNSKEY)
	if !ok || dns.CanonicalName(k.Hdr.Name) != zone {
		return Key{}, errNotZoneKey
	}
	if k.Flags&dns.ZONE == 0 || k.Protocol != 3 {
		return Key{}, errNotZoneKey
	}
	if !v.supportsAlgorithm(k.Algorithm) {
		return Key{}, errUnsupported
	}
	raw, err := base64.StdEncoding.DecodeString(k.PublicKey)
	if err != nil {
		return Key{}, errMalformed
	}
	public, err := publicKey(k.Algorithm, raw)
	if err != nil {
		return Key{}, err
	}
	return Key{tag: k.KeyTag(), algorithm: k.Algorithm, public: public, record: k}, nil
}

// supportsAlgorithm says whether signatures of algorithm a can be checked.
func (v *Validator) supportsAlgorithm(a uint8) bool {
	switch a {
	case dns.RSASHA1, dns.RSASHA1NSEC3SHA1:
		return !v.RejectSHA1
	case dns.RSASHA256, dns.RSASHA512, dns.ECDSAP256SHA256, dns.ECDSAP384SHA384, dns.ED25519:
		return true
	}
	return false
}

func publicKey(algorithm uint8, raw []byte) (crypto.PublicKey, error) {
	switch algorithm {
	case dns.ECDSAP256SHA256:
		return ecdsaKey(elliptic.P256(), raw)
	case dns.ECDSAP384SHA384:
		return ecdsaKey(elliptic.P384(), raw)
	case dns.ED25519:
		if len(raw) != ed25519.PublicKeySize {
			return nil, errMalformed
		}
		return ed25519.PublicKey(raw), nil
	}
	return rsaKey(raw)
}

func ecdsaKey(curve elliptic.Curve, raw []byte) (crypto.PublicKey, error) {
	k, err := ecdsa.ParseUncompressedPublicKey(curve, append([]byte{4}, raw...)) // RFC 6605 §4: without the 4
	if err != nil {
		return nil, errMalformed
	}
	return k, nil
}

// The sizes of RSA keys in bits (RFC 5702 §2, RFC 3110 §2). Outside of them
// verification would be cheap to forge or dear to do.
const (
	minRSA         = 512
	maxRSA         = 4096
	maxExponent    = 1<<31 - 1 // what crypto/rsa takes
	minStandardRSA = 1024      // what crypto/rsa verifies
)

// rsaKey reads the form of RFC 3110 §2.
func rsaKey(raw []byte) (crypto.PublicKey, error) {
	if len(raw) < 3 {
		return nil, errMalformed
	}
	n, rest := int(raw[0]), raw[1:]
	if n == 0 {
		n, rest = int(raw[1])<<8|int(raw[2]), raw[3:]
	}
	if n == 0 || n >= len(rest) {
		return nil, errMalformed
	}
	if n > 8 { // longer than any exponent that is taken
		return nil, errUnsupported
	}
	e, modulus := new(big.Int).SetBytes(rest[:n]), new(big.Int).SetBytes(rest[n:])
	if e.Cmp(big.NewInt(3)) < 0 || e.Bit(0) == 0 || modulus.Bit(0) == 0 {
		return nil, errMalformed
	}
	if e.Cmp(big.NewInt(maxExponent)) > 0 || modulus.BitLen() < minRSA || modulus.BitLen() > maxRSA {
		return nil, errUnsupported
	}
	return &rsa.PublicKey{N: modulus, E: int(e.Int64())}, nil
}

// hashOf is the digest that algorithm signs; 0 for Ed25519, which signs the data.
func hashOf(algorithm uint8) crypto.Hash {
	switch algorithm {
	case dns.RSASHA1, dns.RSASHA1NSEC3SHA1:
		return crypto.SHA1
	case dns.RSASHA256, dns.ECDSAP256SHA256:
		return crypto.SHA256
	case dns.ECDSAP384SHA384:
		return crypto.SHA384
	case dns.RSASHA512:
		return crypto.SHA512
	}
	return 0
}

// cost is what a check with k costs, in those with a key of ECDSA P-256: some 0.07
// ms (BenchmarkVerify).
func (k Key) cost() int {
	switch p := k.public.(type) {
	case *ecdsa.PublicKey:
		if p.Curve == elliptic.P384() {
			return 6
		}
	case *rsa.PublicKey:
		switch {
		case p.N.BitLen() <= 2048:
			return 1
		case p.E > 1<<16+1: // each further bit is a multiplication
			return 10
		default:
			return 4
		}
	}
	return 1
}

// verify says whether signature is k's over data.
func (k Key) verify(data, signature []byte) bool {
	digest := data
	h := hashOf(k.algorithm)
	if h != 0 {
		w := h.New()
		w.Write(data)
		digest = w.Sum(nil)
	}
	switch p := k.public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(p, data, signature)
	case *ecdsa.PublicKey:
		n := (p.Curve.Params().BitSize + 7) / 8
		if len(signature) != 2*n { // RFC 6605 §4: r and s, each of full length
			return false
		}
		return ecdsa.Verify(p, digest, new(big.Int).SetBytes(signature[:n]), new(big.Int).SetBytes(signature[n:]))
	case *rsa.PublicKey:
		if p.N.BitLen() < minStandardRSA {
			return verifyShortRSA(p, h, digest, signature)
		}
		return rsa.VerifyPKCS1v15(p, h, digest, signature) == nil
	}
	return false
}

// digestInfo is the DER prefix of RFC 8017 §9.2 note 1 for each digest.
func digestInfo(h crypto.Hash) []byte {
	switch h {
	case crypto.SHA1:
		return []byte{0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14}
	case crypto.SHA256:
		return []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}
	case crypto.SHA512:
		return []byte{0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40}
	}
	return nil
}

// verifyShortRSA is RSASSA-PKCS1-v1_5 for moduli that RFC 5702 allows and
// crypto/rsa refuses. A short key is its zone's choice; refusing it would make
// the zone unreachable here and nowhere else. All inputs are public.
func verifyShortRSA(p *rsa.PublicKey, h crypto.Hash, digest, signature []byte) bool {
	size := (p.N.BitLen() + 7) / 8
	s := new(big.Int).SetBytes(signature)
	tail := append(digestInfo(h), digest...)
	if len(signature) != size || s.Cmp(p.N) >= 0 || size < len(tail)+11 {
		return false
	}
	want := make([]byte, size) // 00 01 FF.. 00 tail
	want[1] = 1
	for i := 2; i < size-len(tail)-1; i++ {
		want[i] = 0xff
	}
	copy(want[size-len(tail):], tail)
	got := s.Exp(s, big.NewInt(int64(p.E)), p.N).FillBytes(make([]byte, size))
	return string(got) == string(want)
}
