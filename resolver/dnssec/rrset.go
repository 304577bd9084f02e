package dnssec

import (
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// Signed is the verdict on one RRset.
type Signed struct {
	Verdict
	// TTL is how long the set may be used at most: its original TTL, that of the
	// RRSIG and what is left of its signature's life (RFC 4035 §5.3.3). Only when
	// Secure.
	TTL time.Duration
	// Wildcard is the closest encloser when the set was expanded from the
	// wildcard below it; then it is only valid with a proof that nothing closer
	// exists (Denial.NoCloser). "" otherwise.
	Wildcard string
}

// VerifyRRset checks that one of the signatures of s was made by a key of the
// zone that keys belongs to (RFC 4035 §5.3). s must lie within that zone; one
// good signature is enough (RFC 6840 §5.11, §5.12). The status is Secure or Bogus.
func (v *Validator) VerifyRRset(s Set, keys *KeySet) Signed {
	if len(s.RRs) == 0 || !dns.IsRRset(s.RRs) {
		return Signed{Verdict: bogus(dns.ExtendedErrorCodeDNSBogus, "no RRset at %s", s.Name)}
	}
	if len(s.Sigs) == 0 {
		return Signed{Verdict: bogus(dns.ExtendedErrorCodeRRSIGsMissing, "no RRSIG over %s", describe(s))}
	}
	rdata, err := canonicalRdata(s.RRs)
	if err != nil {
		return Signed{Verdict: bogus(dns.ExtendedErrorCodeDNSBogus, "%s: %v", describe(s), err)}
	}
	// What is told is the reason that came furthest: a key was found before a
	// date was compared, a date was right before the signature was computed.
	worst := bogus(dns.ExtendedErrorCodeDNSBogus, "no RRSIG of zone %s over %s", keys.Zone, describe(s))
	for _, sig := range s.Sigs {
		if !fits(s, sig, keys.Zone) {
			continue
		}
		if verdict := v.checkDates(s, sig); verdict.Status == Bogus {
			worst = verdict
			continue
		}
		verdict, ok := v.trySignature(s, sig, rdata, keys)
		if ok {
			return v.accept(s, sig)
		}
		if verdict.Exhausted {
			return Signed{Verdict: verdict}
		}
		worst = verdict
	}
	return Signed{Verdict: worst}
}

// trySignature tries the keys that sig may have been made with.
func (v *Validator) trySignature(s Set, sig *dns.RRSIG, rdata [][]byte, keys *KeySet) (Verdict, bool) {
	signature, err := base64.StdEncoding.DecodeString(sig.Signature)
	if err != nil {
		return bogus(dns.ExtendedErrorCodeDNSBogus, "unreadable RRSIG over %s", describe(s)), false
	}
	data, err := signedData(sig, signedOwner(s.Name, sig), rdata)
	if err != nil {
		return bogus(dns.ExtendedErrorCodeDNSBogus, "%s: %v", describe(s), err), false
	}
	verdict := bogus(dns.ExtendedErrorCodeDNSBogus, "no key %d of zone %s for the RRSIG over %s", sig.KeyTag, keys.Zone, describe(s))
	for _, k := range keys.keys {
		if k.tag != sig.KeyTag || k.algorithm != sig.Algorithm {
			continue
		}
		if !v.Work.signature(k.cost()) {
			return exhausted(), false
		}
		if k.verify(data, signature) {
			return Verdict{Status: Secure}, true
		}
		v.Work.Spent.Failures++
		verdict = bogus(dns.ExtendedErrorCodeDNSBogus, "RRSIG over %s does not verify with key %d of zone %s", describe(s), sig.KeyTag, keys.Zone)
	}
	return verdict, false
}

// fits makes the checks of RFC 4035 §5.3.1 that need neither clock nor key.
func fits(s Set, sig *dns.RRSIG, zone string) bool {
	labels, signer := ownerLabels(s.Name), dns.CanonicalName(sig.SignerName)
	return sig.TypeCovered == s.Type &&
		sig.Hdr.Class == s.RRs[0].Header().Class &&
		dns.CanonicalName(sig.Hdr.Name) == s.Name &&
		signer == zone && below(zone, s.Name) &&
		int(sig.Labels) <= labels && int(sig.Labels) >= dns.CountLabel(zone)
}

// ownerLabels counts labels as the field of an RRSIG does: without a leading
// asterisk (RFC 4034 §3.1.3).
func ownerLabels(name string) int {
	n := dns.CountLabel(name)
	if isWildcard(name) {
		n--
	}
	return n
}

// signedOwner is the owner name that was signed: the set's own, or the wildcard
// it was expanded from (RFC 4035 §5.3.2).
func signedOwner(name string, sig *dns.RRSIG) string {
	if int(sig.Labels) < ownerLabels(name) {
		return wildcard(lastLabels(name, int(sig.Labels)))
	}
	return name
}

// Expanded reports whether a signature says that s was made from a wildcard
// (RFC 4035 §5.3.2). It checks none: for who passes on what is not validated.
func (s Set) Expanded() bool {
	return slices.ContainsFunc(s.Sigs, func(sig *dns.RRSIG) bool { return int(sig.Labels) < ownerLabels(s.Name) })
}

// checkDates compares the validity period with the clock in serial arithmetic
// (RFC 4034 §3.1.5, RFC 1982).
func (v *Validator) checkDates(s Set, sig *dns.RRSIG) Verdict {
	const slack = int32(skew / time.Second)
	now := uint32(v.Clock().Unix()) // #nosec G115 -- modulo 2^32 is what serial arithmetic wants
	switch {
	case serial(sig.Expiration, sig.Inception) < 0:
		return bogus(dns.ExtendedErrorCodeSignatureExpiredBeforeValid, "RRSIG over %s expires before its inception", describe(s))
	case serial(sig.Expiration, now) < -slack:
		return bogus(dns.ExtendedErrorCodeSignatureExpired, "RRSIG over %s expired at %s", describe(s), dns.TimeToString(sig.Expiration))
	case serial(now, sig.Inception) < -slack:
		return bogus(dns.ExtendedErrorCodeSignatureNotYetValid, "RRSIG over %s is not valid before %s", describe(s), dns.TimeToString(sig.Inception))
	}
	return Verdict{Status: Secure}
}

// serial is a - b in serial arithmetic.
func serial(a, b uint32) int32 { return int32(a - b) } // #nosec G115 -- see RFC 1982

func (v *Validator) accept(s Set, sig *dns.RRSIG) Signed {
	now := uint32(v.Clock().Unix()) // #nosec G115 -- see checkDates
	left := time.Duration(serial(sig.Expiration, now))*time.Second + skew
	signed := Signed{
		Verdict: Verdict{Status: Secure},
		TTL:     min(left, time.Duration(min(sig.OrigTtl, sig.Hdr.Ttl))*time.Second),
	}
	if int(sig.Labels) < ownerLabels(s.Name) {
		signed.Wildcard = lastLabels(s.Name, int(sig.Labels))
	}
	return signed
}

func describe(s Set) string { return fmt.Sprintf("%s %s", s.Name, dns.Type(s.Type)) }
