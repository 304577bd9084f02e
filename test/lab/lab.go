// Package lab is a small signed internet on loopback addresses: a root,
// top-level domains and sites below them, signed with DNSSEC (RFC 4033 to 4035,
// RFC 5155), some of them deliberately wrong. Tests resolve in it, and the demo
// brings it where there is no other internet.
//
// Build signs the zones; an Internet is then served by this package (Listen) or
// by NSD (WriteNSD), which gives the same answers.
package lab

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Denial is how a zone proves that something is not there.
type Denial uint8

const (
	Unsigned    Denial = iota // not at all
	NSEC                      // RFC 4034 section 4
	NSEC3                     // RFC 5155
	NSEC3OptOut               // RFC 5155 section 6: unsigned delegations are left out
)

// Fault is what is deliberately wrong with a zone.
type Fault uint8

const (
	NoFault     Fault = iota
	BrokenData        // signatures that do not verify, except over the keys
	ExpiredData       // signatures that have ended, except over the keys
	WrongDS           // the parent's DS fits no key of the zone
)

// Zone is a zone as it is written, before it is signed.
type Zone struct {
	Name    string       // fully qualified
	Servers []netip.Addr // loopback addresses that answer for it
	Denial  Denial
	Fault   Fault
	// Records is the zone in master-file format (RFC 1035 section 5). The DS
	// records of signed zones below are added by Build.
	Records string
}

// Internet is a set of signed zones.
type Internet struct {
	zones []*signedZone
}

// Build signs zones with new keys (ECDSA P-256); signatures hold from an hour
// before now for 90 days. There has to be a root.
func Build(zones []Zone, now time.Time) (*Internet, error) {
	inet := &Internet{}
	byName := map[string]*signedZone{}
	for _, z := range zones {
		s, err := parse(z)
		if err != nil {
			return nil, err
		}
		if byName[s.name] != nil {
			return nil, fmt.Errorf("zone %s stands there twice", s.name)
		}
		byName[s.name] = s
		inet.zones = append(inet.zones, s)
	}
	if byName["."] == nil {
		return nil, fmt.Errorf("there is no root zone; add one named \".\"")
	}
	for _, s := range inet.zones {
		if err := s.makeKeys(); err != nil {
			return nil, err
		}
	}
	for _, s := range inet.zones {
		for cut := range s.cuts {
			if child := byName[cut]; child != nil && child.denial != Unsigned && s.denial != Unsigned {
				s.add(child.delegationSigner())
			}
		}
		if err := s.sign(now); err != nil {
			return nil, err
		}
	}
	return inet, nil
}

func (i *Internet) zone(name string) *signedZone {
	for _, z := range i.zones {
		if z.name == name {
			return z
		}
	}
	return nil
}

// RootHints is a root hints file for this internet.
func (i *Internet) RootHints() string {
	root := i.zone(".")
	var b strings.Builder
	for _, ns := range root.at(".", dns.TypeNS) {
		fmt.Fprintln(&b, ns)
		for _, a := range root.at(dns.CanonicalName(ns.(*dns.NS).Ns), dns.TypeA) {
			fmt.Fprintln(&b, a)
		}
	}
	return b.String()
}

// TrustAnchor is the root's key as a DS record, one line in master-file format.
func (i *Internet) TrustAnchor() string {
	return i.zone(".").delegationSigner().String() + "\n"
}

// Servers are the addresses that have to answer, each once.
func (i *Internet) Servers() []netip.Addr {
	var out []netip.Addr
	seen := map[netip.Addr]bool{}
	for _, z := range i.zones {
		for _, a := range z.servers {
			if !seen[a] {
				seen[a] = true
				out = append(out, a)
			}
		}
	}
	return out
}
