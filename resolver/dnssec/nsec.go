package dnssec

import "github.com/miekg/dns"

// nsecAt is the NSEC record whose owner is name, or nil.
func (d *Denial) nsecAt(name string) *dns.NSEC {
	for _, n := range d.nsec {
		if dns.CanonicalName(n.Hdr.Name) == name {
			return n
		}
	}
	return nil
}

// nsecCovering is an NSEC record that proves name to hold no records: it sorts
// between owner and next name (RFC 4034 §4.1). The name may still be an empty
// non-terminal: see isENT.
func (d *Denial) nsecCovering(name string) *dns.NSEC {
	for _, n := range d.nsec {
		owner, next := dns.CanonicalName(n.Hdr.Name), dns.CanonicalName(n.NextDomain)
		if compareNames(owner, name) >= 0 {
			continue
		}
		// The last record of a zone points back to the apex.
		if next != d.zone && compareNames(name, next) >= 0 {
			continue
		}
		if strictlyBelow(owner, name) && hidesBelow(n.TypeBitMap) {
			continue
		}
		return n
	}
	return nil
}

// isENT: something exists below name, so name exists although it holds nothing
// (RFC 4592 §2.2.2).
func isENT(covering *dns.NSEC, name string) bool {
	return strictlyBelow(name, dns.CanonicalName(covering.NextDomain))
}

// closestEncloser follows from the NSEC record that covers name: the longest
// ancestor that name shares with an existing one (RFC 4592 §3.3.1).
func closestEncloser(covering *dns.NSEC, name string) string {
	a := commonAncestor(name, dns.CanonicalName(covering.Hdr.Name))
	b := commonAncestor(name, dns.CanonicalName(covering.NextDomain))
	if dns.CountLabel(b) > dns.CountLabel(a) {
		return b
	}
	return a
}

func (d *Denial) nsecNXDOMAIN(name string) bool {
	// Compact denial: the record sits at the name and says NXNAME (RFC 9824 §3).
	if at := d.nsecAt(name); at != nil {
		return hasType(at.TypeBitMap, dns.TypeNXNAME)
	}
	n := d.nsecCovering(name)
	if n == nil || isENT(n, name) {
		return false
	}
	wild := wildcard(closestEncloser(n, name))
	w := d.nsecCovering(wild)
	return w != nil && !isENT(w, wild)
}

func (d *Denial) nsecNODATA(name string, t uint16) bool {
	if n := d.nsecAt(name); n != nil {
		return deniesType(name, n.TypeBitMap, t)
	}
	n := d.nsecCovering(name)
	if n == nil {
		return false
	}
	if isENT(n, name) {
		return true
	}
	wild := wildcard(closestEncloser(n, name))
	if w := d.nsecAt(wild); w != nil {
		return deniesType(wild, w.TypeBitMap, t)
	}
	w := d.nsecCovering(wild) // a wildcard that is an empty non-terminal gives no data (RFC 4592 §4.9)
	return w != nil && isENT(w, wild)
}

func (d *Denial) nsecNoCloser(name, encloser string) bool {
	n := d.nsecCovering(name)
	return n != nil && !isENT(n, name) &&
		dns.CountLabel(closestEncloser(n, name)) <= dns.CountLabel(encloser)
}
