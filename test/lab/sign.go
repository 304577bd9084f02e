package lab

import (
	"crypto"
	"encoding/base64"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	signedBefore = time.Hour           // inception, for clocks that lag
	signedFor    = 90 * 24 * time.Hour // the demo may run a while
	keyTTL       = 3600
)

// key is a signing key with its public record.
type key struct {
	record *dns.DNSKEY
	signer crypto.Signer
}

func newKey(zone string, flags uint16) (*key, error) {
	record := &dns.DNSKEY{
		Hdr:       dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: keyTTL},
		Flags:     flags,
		Protocol:  3, // RFC 4034 section 2.1.2
		Algorithm: dns.ECDSAP256SHA256,
	}
	for {
		private, err := record.Generate(256)
		if err != nil {
			return nil, fmt.Errorf("make key of zone %s: %w", zone, err)
		}
		if record.KeyTag() != 0 { // one key in 65,536 has that tag, which Sign takes for none
			return &key{record: record, signer: private.(crypto.Signer)}, nil
		}
	}
}

// makeKeys makes a key for keys and a key for the zone's data, and puts both
// into the zone.
func (s *signedZone) makeKeys() (err error) {
	if s.denial == Unsigned {
		return nil
	}
	if s.ksk, err = newKey(s.name, dns.ZONE|dns.SEP); err != nil {
		return err
	}
	if s.zsk, err = newKey(s.name, dns.ZONE); err != nil {
		return err
	}
	s.add(s.ksk.record)
	s.add(s.zsk.record)
	return nil
}

// delegationSigner is the DS record of the zone, for its parent.
func (s *signedZone) delegationSigner() *dns.DS {
	ds := s.ksk.record.ToDS(dns.SHA256)
	if s.fault == WrongDS {
		ds.Digest = strings.Repeat("0", len(ds.Digest))
	}
	return ds
}

// sign adds denial records and signatures.
func (s *signedZone) sign(now time.Time) error {
	if s.denial == Unsigned {
		return nil
	}
	if s.denial == NSEC {
		s.addNSEC()
	} else {
		s.addNSEC3()
	}
	for _, name := range s.names() {
		n := s.nodes[name]
		for _, t := range n.sortedTypes() {
			// At a cut the parent signs what is its own (RFC 4035 section 2.2).
			if s.cuts[name] && t != dns.TypeDS && t != dns.TypeNSEC {
				continue
			}
			if err := s.signSet(n, t, now); err != nil {
				return err
			}
		}
	}
	for _, owner := range s.nsec3s {
		if err := s.signSet(s.proofs[owner], dns.TypeNSEC3, now); err != nil {
			return err
		}
	}
	return nil
}

// signSet signs the RRset of one type of a node.
func (s *signedZone) signSet(n *node, rrtype uint16, now time.Time) error {
	rrset := n.rrsets[rrtype]
	header := rrset[0].Header()
	k := s.zsk
	if header.Rrtype == dns.TypeDNSKEY {
		k = s.ksk
	}
	inception, expiration := now.Add(-signedBefore), now.Add(signedFor)
	if s.fault == ExpiredData && k == s.zsk {
		inception, expiration = now.Add(-2*signedFor), now.Add(-signedFor)
	}
	sig := &dns.RRSIG{
		Hdr:        dns.RR_Header{Ttl: header.Ttl},
		KeyTag:     k.record.KeyTag(),
		SignerName: s.name,
		Algorithm:  k.record.Algorithm,
		Inception:  uint32(inception.Unix()),
		Expiration: uint32(expiration.Unix()),
	}
	if err := sig.Sign(k.signer, rrset); err != nil {
		return fmt.Errorf("sign %s %s: %w", header.Name, dns.TypeToString[rrtype], err)
	}
	if s.fault == BrokenData && k == s.zsk {
		b, err := base64.StdEncoding.DecodeString(sig.Signature)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 1
		sig.Signature = base64.StdEncoding.EncodeToString(b)
	}
	n.add(sig)
	return nil
}

// negativeTTL is that of denial records (RFC 9077).
func (s *signedZone) negativeTTL() uint32 {
	soa := s.at(s.name, dns.TypeSOA)[0].(*dns.SOA)
	return min(soa.Hdr.Ttl, soa.Minttl)
}

// addNSEC chains the names that have records (RFC 4034 section 4; RFC 4035
// section 2.3).
func (s *signedZone) addNSEC() {
	for _, name := range s.names() {
		if len(s.nodes[name].rrsets) > 0 {
			s.nsecs = append(s.nsecs, name)
		}
	}
	for i, name := range s.nsecs {
		types := append(s.nodes[name].sortedTypes(), dns.TypeRRSIG, dns.TypeNSEC)
		if s.cuts[name] {
			// Glue beside the NS records is not the zone's.
			types = slices.DeleteFunc(types, func(t uint16) bool { return t == dns.TypeA || t == dns.TypeAAAA })
		}
		slices.Sort(types)
		s.add(&dns.NSEC{
			Hdr:        dns.RR_Header{Name: name, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: s.negativeTTL()},
			NextDomain: s.nsecs[(i+1)%len(s.nsecs)],
			TypeBitMap: types,
		})
	}
}

// addNSEC3 chains the hashes of the names, empty non-terminals included
// (RFC 5155 section 7.1), without iterations or salt (RFC 9276 section 3.1).
func (s *signedZone) addNSEC3() {
	param := &dns.NSEC3PARAM{
		Hdr:  dns.RR_Header{Name: s.name, Rrtype: dns.TypeNSEC3PARAM, Class: dns.ClassINET, Ttl: 0},
		Hash: dns.SHA1,
	}
	s.add(param)
	var flags uint8
	if s.denial == NSEC3OptOut {
		flags = 1
	}
	types := map[string][]uint16{} // by hash
	var hashes []string
	for _, name := range s.names() {
		if s.denial == NSEC3OptOut && s.cuts[name] && len(s.at(name, dns.TypeDS)) == 0 {
			continue
		}
		hash := dns.HashName(name, dns.SHA1, 0, "")
		hashes = append(hashes, hash)
		types[hash] = s.nsec3Types(name)
		s.hashed[name] = s.nsec3Owner(hash)
	}
	sort.Strings(hashes) // base32hex keeps the order of the digests
	for i, hash := range hashes {
		rr := &dns.NSEC3{
			Hdr:        dns.RR_Header{Name: s.nsec3Owner(hash), Rrtype: dns.TypeNSEC3, Class: dns.ClassINET, Ttl: s.negativeTTL()},
			Hash:       dns.SHA1,
			Flags:      flags,
			HashLength: 20,
			NextDomain: hashes[(i+1)%len(hashes)],
			TypeBitMap: types[hash],
		}
		s.nsec3s = append(s.nsec3s, rr.Hdr.Name)
		s.proofs[rr.Hdr.Name] = newNode()
		s.proofs[rr.Hdr.Name].add(rr)
	}
}

func (s *signedZone) nsec3Owner(hash string) string {
	return dns.CanonicalName(hash + "." + s.name)
}

// nsec3Types is the type bitmap of a name: what is signed there, and that it is.
func (s *signedZone) nsec3Types(name string) []uint16 {
	types := s.nodes[name].sortedTypes()
	if s.cuts[name] {
		types = slices.DeleteFunc(types, func(t uint16) bool { return t != dns.TypeNS && t != dns.TypeDS })
	}
	if len(types) > 0 && (!s.cuts[name] || slices.Contains(types, dns.TypeDS)) {
		types = append(types, dns.TypeRRSIG)
		slices.Sort(types)
	}
	return types
}
