package dnssec

import (
	"math"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// Denial is the verified NSEC or NSEC3 records of one reply, as proof of what
// the zone does not hold.
type Denial struct {
	v     *Validator
	zone  string
	nsec  []*dns.NSEC
	nsec3 []nsec3
	// costly is set when a verified NSEC3 record has more than MaxIterations:
	// its zone is then as one without denial (RFC 9276 §3.2).
	costly    bool
	exhausted bool
	hashes    map[string]string // name -> hash, once computed
	ttl       time.Duration     // the shortest of the kept sets
	verified  []Set             // the kept sets
}

// Proof is the verdict on a proof of non-existence. Insecure means that it holds
// except for unsigned delegations (opt-out, RFC 5155 §12.2) or that it was too
// costly to work out.
type Proof struct {
	Verdict
	// Cut: the name is, or may be, an unsigned delegation. Only from NoDS.
	Cut bool
}

// maxDenialSets bounds the NSEC(3) RRsets of one reply that are looked at. Three
// make the longest proof; a few more for servers that send them twice over.
const maxDenialSets = 12

// Denial verifies the NSEC and NSEC3 sets of a reply and keeps the good ones.
// What does not verify, or was expanded from a wildcard, proves nothing.
func (v *Validator) Denial(sets []Set, keys *KeySet) *Denial {
	d := &Denial{v: v, zone: keys.Zone, hashes: map[string]string{}, ttl: math.MaxInt64}
	seen := 0
	for _, s := range sets {
		if s.Type != dns.TypeNSEC && s.Type != dns.TypeNSEC3 {
			continue
		}
		if seen++; seen > maxDenialSets {
			break
		}
		if !below(d.zone, s.Name) {
			continue
		}
		signed := v.VerifyRRset(s, keys)
		d.exhausted = d.exhausted || signed.Exhausted
		if signed.Status != Secure || signed.Wildcard != "" {
			continue
		}
		d.ttl = min(d.ttl, signed.TTL)
		d.keep(s)
	}
	return d
}

// Known is Denial for sets of zone that were verified before.
func (v *Validator) Known(sets []Set, zone string) *Denial {
	d := &Denial{v: v, zone: zone, hashes: map[string]string{}, ttl: math.MaxInt64}
	for _, s := range sets {
		d.keep(s)
	}
	return d
}

// Verified is the sets that verified.
func (d *Denial) Verified() []Set { return d.verified }

// keep takes up a set that is known to be good.
func (d *Denial) keep(s Set) {
	d.verified = append(d.verified, s)
	for _, rr := range s.RRs {
		switch x := rr.(type) {
		case *dns.NSEC:
			// The next name must lie in the zone too (RFC 6840 §4.1, CVE-2026-13321).
			if below(d.zone, dns.CanonicalName(x.NextDomain)) {
				d.nsec = append(d.nsec, x)
			}
		case *dns.NSEC3:
			d.addNSEC3(x)
		}
	}
}

// Hash is the hash of name with the parameters of the NSEC3 record x, in upper
// case; "" when there is no allowance for it or x is too costly (RFC 9276 §3.2).
func (v *Validator) Hash(name string, x *dns.NSEC3) string {
	if x.Iterations > MaxIterations || x.Hash != dns.SHA1 || !v.Work.hash(x) {
		return ""
	}
	return hashName(name, x.Iterations, x.Salt)
}

// ClosestEncloser is the longest ancestor of name that exists, as the NSEC record
// that covers name proves; false if none does.
func (d *Denial) ClosestEncloser(name string) (string, bool) {
	n := d.nsecCovering(name)
	if n == nil {
		return "", false
	}
	return closestEncloser(n, name), true
}

// TTL is how long the verified records may be used at most, by their signatures.
func (d *Denial) TTL() time.Duration { return d.ttl }

// NXDOMAIN is the proof that name does not exist and no wildcard stands in for it.
func (d *Denial) NXDOMAIN(name string) Proof {
	return d.decide("NXDOMAIN", name, func() (bool, Verdict) { return d.nsecNXDOMAIN(name), secure() },
		func() (bool, Verdict) { return d.nsec3NXDOMAIN(name) })
}

// NODATA is the proof that name has no record of type t.
func (d *Denial) NODATA(name string, t uint16) Proof {
	return d.decide("NODATA", name, func() (bool, Verdict) { return d.nsecNODATA(name, t), secure() },
		func() (bool, Verdict) { return d.nsec3NODATA(name, t) })
}

// NoCloser is the proof that name itself, and all between it and encloser, do
// not exist, so that the wildcard below encloser applies (RFC 4035 §5.3.4, RFC
// 5155 §8.8).
func (d *Denial) NoCloser(name, encloser string) Proof {
	return d.decide("wildcard", name, func() (bool, Verdict) { return d.nsecNoCloser(name, encloser), secure() },
		func() (bool, Verdict) { return d.nsec3NoCloser(name, encloser) })
}

// NoDS is the proof that name has no DS record. Cut tells an unsigned delegation
// from a name that is no delegation at all (RFC 4035 §5.2, RFC 6840 §4.4).
func (d *Denial) NoDS(name string) Proof {
	p := d.NODATA(name, dns.TypeDS)
	switch {
	case p.Status == Insecure: // opt-out, or not worked out: an unsigned delegation may be here
		p.Cut = true
	case p.Status == Secure:
		p.Cut = d.matchesDelegation(name)
	default:
		if nx := d.NXDOMAIN(name); nx.Status != Bogus {
			nx.Cut = nx.Status == Insecure
			return nx
		}
	}
	return p
}

// decide takes whichever kind of record proves it.
func (d *Denial) decide(what, name string, byNSEC, byNSEC3 func() (bool, Verdict)) Proof {
	if len(d.nsec) > 0 && below(d.zone, name) {
		if ok, verdict := byNSEC(); ok {
			return Proof{Verdict: verdict}
		}
	}
	if d.costly {
		return Proof{Verdict: insecure(dns.ExtendedErrorCodeUnsupportedNSEC3IterValue, "NSEC3 of %s has more than %d iterations", d.zone, MaxIterations)}
	}
	if len(d.nsec3) > 0 && below(d.zone, name) {
		if ok, verdict := byNSEC3(); ok {
			return Proof{Verdict: verdict}
		}
	}
	if d.exhausted {
		return Proof{Verdict: exhausted()}
	}
	return Proof{Verdict: bogus(dns.ExtendedErrorCodeNSECMissing, "zone %s does not prove %s of %s", d.zone, what, name)}
}

func secure() Verdict { return Verdict{Status: Secure} }

// matchesDelegation says whether a record at name itself has NS without SOA.
func (d *Denial) matchesDelegation(name string) bool {
	if n := d.nsecAt(name); n != nil {
		return isDelegation(n.TypeBitMap)
	}
	if n := d.nsec3At(name); n != nil {
		return isDelegation(n.record.TypeBitMap)
	}
	return false
}

func hasType(bitmap []uint16, t uint16) bool { return slices.Contains(bitmap, t) }

// isDelegation: the record is the parent's, at a zone cut.
func isDelegation(bitmap []uint16) bool {
	return hasType(bitmap, dns.TypeNS) && !hasType(bitmap, dns.TypeSOA)
}

// deniesType says whether a bitmap at name itself proves that it has no t: the
// parent's side of a cut speaks only for DS, the child's never for it (RFC 6840
// §4.1, §4.4; RFC 5155 §8.9).
func deniesType(name string, bitmap []uint16, t uint16) bool {
	if hasType(bitmap, t) || hasType(bitmap, dns.TypeCNAME) && t != dns.TypeCNAME {
		return false
	}
	if t == dns.TypeDS {
		return name == "." || !hasType(bitmap, dns.TypeSOA)
	}
	return !isDelegation(bitmap)
}

// hidesBelow: names below the owner of such a bitmap belong to another zone or
// to a DNAME, so the record denies none of them (RFC 6840 §4.1, RFC 6672 §5.3.4).
func hidesBelow(bitmap []uint16) bool {
	return isDelegation(bitmap) || hasType(bitmap, dns.TypeDNAME)
}
