package lab

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// proveNoType adds the proof that a name has no records of the type asked for:
// the record that matches it (RFC 4035 section 3.1.3.1; RFC 5155 section 7.2.3),
// or, where it has none, the one that covers it.
func (r *reply) proveNoType(name string) {
	switch {
	case !r.signed():
	case r.zone.denial == NSEC:
		r.addNSEC(name)
	case r.zone.hashed[name] != "":
		r.addProof(r.zone.proofs[r.zone.hashed[name]], dns.TypeNSEC3)
	default:
		// A name that opt-out leaves out (RFC 5155 sections 7.2.4 and 7.2.7).
		r.proveCloserNSEC3(name)
	}
}

// proveNoName adds the proof that a name is not there and that no wildcard
// stands for it (RFC 4035 section 3.1.3.2; RFC 5155 section 7.2.2).
func (r *reply) proveNoName(name, encloser string) {
	switch {
	case !r.signed():
	case r.zone.denial == NSEC:
		r.addNSEC(name)
		r.addNSEC(dns.CanonicalName("*." + encloser))
	default:
		encloser = r.proveCloserNSEC3(name)
		r.coverNSEC3(dns.CanonicalName("*." + encloser))
	}
}

// proveNoCloser adds the proof that a wildcard was rightly expanded: there is no
// closer match (RFC 4035 section 3.1.3.3; RFC 5155 section 7.2.6).
func (r *reply) proveNoCloser(name string) {
	switch {
	case !r.signed():
	case r.zone.denial == NSEC:
		r.addNSEC(name)
	default:
		r.coverNSEC3(nextCloser(name, r.encloser(name)))
	}
}

// proveEncloser adds the record that matches the closest encloser, which NSEC3
// needs for a wildcard without the type (RFC 5155 section 7.2.5).
func (r *reply) proveEncloser(encloser string) {
	if r.signed() && r.zone.denial != NSEC {
		r.addProof(r.zone.proofs[r.zone.hashed[encloser]], dns.TypeNSEC3)
	}
}

// proveCloserNSEC3 adds the closest provable encloser of name and the cover of
// the next closer name (RFC 5155 section 7.2.1), and gives the encloser.
func (r *reply) proveCloserNSEC3(name string) string {
	encloser := parent(name)
	for r.zone.hashed[encloser] == "" {
		encloser = parent(encloser) // the zone's own name always has one
	}
	r.addProof(r.zone.proofs[r.zone.hashed[encloser]], dns.TypeNSEC3)
	r.coverNSEC3(nextCloser(name, encloser))
	return encloser
}

// nextCloser gives the name one label longer than encloser on the way to name.
func nextCloser(name, encloser string) string {
	for parent(name) != encloser {
		name = parent(name)
	}
	return name
}

// addNSEC adds the NSEC record that matches or covers name.
func (r *reply) addNSEC(name string) {
	i, found := slices.BinarySearchFunc(r.zone.nsecs, name, compareNames)
	if !found {
		i-- // never below the first: that is the zone's own name
	}
	r.addProof(r.zone.nodes[r.zone.nsecs[i]], dns.TypeNSEC)
}

// coverNSEC3 adds the NSEC3 record whose span holds the hash of name.
func (r *reply) coverNSEC3(name string) {
	owner := r.zone.nsec3Owner(dns.HashName(name, dns.SHA1, 0, ""))
	i, _ := slices.BinarySearchFunc(r.zone.nsec3s, owner, strings.Compare)
	if i--; i < 0 {
		i = len(r.zone.nsec3s) - 1 // the last one spans the end of the circle
	}
	r.addProof(r.zone.proofs[r.zone.nsec3s[i]], dns.TypeNSEC3)
}

// addProof adds a denial record once.
func (r *reply) addProof(n *node, rrtype uint16) {
	owner := n.rrsets[rrtype][0].Header().Name
	if r.proven[owner] {
		return
	}
	r.proven[owner] = true
	r.addAuthority(n, rrtype)
}
