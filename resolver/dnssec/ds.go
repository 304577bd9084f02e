package dnssec

import (
	"crypto"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/miekg/dns"
)

// Trust checks a zone's DNSKEY RRset against its DS records, or against trust
// anchors that are DS or DNSKEY records (RFC 4035 §5.2). Secure comes with the
// zone's keys. Insecure means that no record of anchors is of an algorithm and
// digest known here, so the zone is to be treated as unsigned.
func (v *Validator) Trust(zone string, keys Set, anchors []dns.RR) (*KeySet, Signed) {
	usable, verdict := v.usableAnchors(anchors)
	if len(usable) == 0 {
		return nil, Signed{Verdict: verdict}
	}
	entry := &KeySet{Zone: zone} // the keys that the anchors name
	why := bogus(dns.ExtendedErrorCodeDNSKEYMissing, "no DNSKEY of %s matches its DS", zone)
	unsupported := false
	for _, rr := range keys.RRs {
		record, ok := rr.(*dns.DNSKEY)
		if !ok {
			continue
		}
		matched, ok := v.matchesAny(zone, record, usable)
		if !ok {
			return nil, Signed{Verdict: exhausted()}
		}
		if !matched {
			continue
		}
		k, err := v.key(zone, rr)
		switch {
		case err == nil:
			entry.keys = append(entry.keys, k)
		case errors.Is(err, errUnsupported):
			unsupported = true
		case record.Flags&dns.ZONE == 0:
			why = bogus(dns.ExtendedErrorCodeNoZoneKeyBitSet, "the DNSKEY %d of %s that its DS names is no zone key", record.KeyTag(), zone)
		}
	}
	if len(entry.keys) == 0 {
		if unsupported { // a key size that cannot be checked is as an algorithm that cannot
			return nil, Signed{Verdict: insecure(dns.ExtendedErrorCodeUnsupportedDNSKEYAlgorithm, "key size of %s not supported", zone)}
		}
		return nil, Signed{Verdict: why}
	}
	signed := v.VerifyRRset(keys, entry)
	if signed.Status != Secure {
		return nil, signed
	}
	return v.Keys(zone, keys.RRs), signed
}

// Supported says whether any of a zone's DS records (or anchors) can be worked
// with: Secure, or Insecure with the reason (RFC 4035 §5.2).
func (v *Validator) Supported(anchors []dns.RR) Verdict {
	usable, verdict := v.usableAnchors(anchors)
	if len(usable) == 0 {
		return verdict
	}
	return Verdict{Status: Secure}
}

// usableAnchors leaves out what is of an unknown algorithm or digest, and SHA-1
// digests where there is a stronger one (RFC 4509 §3).
func (v *Validator) usableAnchors(anchors []dns.RR) ([]dns.RR, Verdict) {
	why := insecure(dns.ExtendedErrorCodeUnsupportedDSDigestType, "no DS of a digest known here")
	var usable []dns.RR
	strong := false
	for _, rr := range anchors {
		switch a := rr.(type) {
		case *dns.DNSKEY:
			if v.supportsAlgorithm(a.Algorithm) {
				usable = append(usable, a)
			} else {
				why = insecure(dns.ExtendedErrorCodeUnsupportedDNSKEYAlgorithm, "no key of an algorithm known here")
			}
		case *dns.DS:
			switch {
			case !v.supportsAlgorithm(a.Algorithm):
				why = insecure(dns.ExtendedErrorCodeUnsupportedDNSKEYAlgorithm, "no DS of an algorithm known here")
			case v.supportsDigest(a.DigestType):
				usable = append(usable, a)
				strong = strong || a.DigestType != dns.SHA1
			}
		}
	}
	if !strong {
		return usable, why
	}
	kept := usable[:0]
	for _, rr := range usable {
		if ds, ok := rr.(*dns.DS); !ok || ds.DigestType != dns.SHA1 {
			kept = append(kept, rr)
		}
	}
	return kept, why
}

func (v *Validator) supportsDigest(d uint8) bool {
	switch d {
	case dns.SHA1:
		return !v.RejectSHA1
	case dns.SHA256, dns.SHA384:
		return true
	}
	return false
}

// matchesAny says whether one of anchors names record; ok is false when there
// is no allowance left to find out.
func (v *Validator) matchesAny(zone string, record *dns.DNSKEY, anchors []dns.RR) (matched, ok bool) {
	tag := record.KeyTag()
	for _, rr := range anchors {
		switch a := rr.(type) {
		case *dns.DNSKEY:
			if a.Algorithm == record.Algorithm && a.Flags == record.Flags && a.Protocol == record.Protocol &&
				a.PublicKey == record.PublicKey && dns.CanonicalName(a.Hdr.Name) == zone {
				return true, true
			}
		case *dns.DS:
			if a.KeyTag != tag || a.Algorithm != record.Algorithm || dns.CanonicalName(a.Hdr.Name) != zone {
				continue
			}
			if !v.Work.digest() {
				return false, false
			}
			if keyDigest(zone, record, a.DigestType) == strings.ToLower(a.Digest) {
				return true, true
			}
		}
	}
	return false, true
}

// keyDigest is the digest over owner and key of RFC 4034 §5.1.4 in lower-case
// hexadecimal.
func keyDigest(zone string, record *dns.DNSKEY, digestType uint8) string {
	rdata, err := canonicalRdata([]dns.RR{record})
	if err != nil {
		return "unpackable"
	}
	h := map[uint8]crypto.Hash{dns.SHA1: crypto.SHA1, dns.SHA256: crypto.SHA256, dns.SHA384: crypto.SHA384}[digestType]
	if h == 0 {
		return "unsupported"
	}
	w := h.New()
	w.Write(wireName(zone))
	w.Write(rdata[0])
	return hex.EncodeToString(w.Sum(nil))
}
