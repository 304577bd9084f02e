package lab

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/miekg/dns"
)

// node is what a zone holds at one name.
type node struct {
	rrsets map[uint16][]dns.RR
	sigs   map[uint16][]dns.RR // by the type they cover
}

// signedZone is a zone with everything an answer is made from. It does not
// change once it is signed. Names are in dns.CanonicalName's form.
type signedZone struct {
	name    string
	servers []netip.Addr
	denial  Denial
	fault   Fault
	ksk     *key
	zsk     *key

	nodes map[string]*node // with empty non-terminals (no rrsets) and glue
	cuts  map[string]bool  // delegations

	nsecs  []string          // owners of NSEC records, in canonical order
	hashed map[string]string // name -> owner of its NSEC3 record
	nsec3s []string          // those owners, in the order of their hashes
	proofs map[string]*node  // the NSEC3 records by owner: not names of the zone
}

// parse reads the zone and finds its cuts and empty non-terminals.
func parse(z Zone) (*signedZone, error) {
	s := &signedZone{
		name:    dns.CanonicalName(z.Name),
		servers: z.Servers,
		denial:  z.Denial,
		fault:   z.Fault,
		nodes:   map[string]*node{},
		cuts:    map[string]bool{},
		hashed:  map[string]string{},
		proofs:  map[string]*node{},
	}
	zp := dns.NewZoneParser(strings.NewReader(z.Records), s.name, "")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		rr.Header().Name = dns.CanonicalName(rr.Header().Name)
		if !dns.IsSubDomain(s.name, rr.Header().Name) {
			return nil, fmt.Errorf("zone %s: %s is not in it", s.name, rr.Header().Name)
		}
		s.add(rr)
	}
	if err := zp.Err(); err != nil {
		return nil, fmt.Errorf("zone %s: %w", s.name, err)
	}
	if len(s.at(s.name, dns.TypeSOA)) != 1 || len(s.at(s.name, dns.TypeNS)) == 0 {
		return nil, fmt.Errorf("zone %s: needs one SOA and some NS records at its top", s.name)
	}
	for name, n := range s.nodes {
		if name != s.name && len(n.rrsets[dns.TypeNS]) > 0 {
			s.cuts[name] = true
		}
	}
	return s, nil
}

// add puts a record into the zone, with the empty non-terminals above it
// (RFC 8020 section 2).
func (s *signedZone) add(rr dns.RR) {
	name := rr.Header().Name
	for above := name; ; above = parent(above) {
		if s.nodes[above] == nil {
			s.nodes[above] = newNode()
		}
		if above == s.name {
			break
		}
	}
	s.nodes[name].add(rr)
}

func newNode() *node {
	return &node{rrsets: map[uint16][]dns.RR{}, sigs: map[uint16][]dns.RR{}}
}

func (n *node) add(rr dns.RR) {
	if sig, ok := rr.(*dns.RRSIG); ok {
		n.sigs[sig.TypeCovered] = append(n.sigs[sig.TypeCovered], rr)
		return
	}
	n.rrsets[rr.Header().Rrtype] = append(n.rrsets[rr.Header().Rrtype], rr)
}

// at gives an RRset, nil where there is none.
func (s *signedZone) at(name string, rrtype uint16) []dns.RR {
	if n := s.nodes[name]; n != nil {
		return n.rrsets[rrtype]
	}
	return nil
}

// cutAbove gives the highest delegation at or above name, "" where name is the
// zone's own.
func (s *signedZone) cutAbove(name string) string {
	cut := ""
	for ; name != s.name; name = parent(name) {
		if s.cuts[name] {
			cut = name
		}
	}
	return cut
}

// occluded tells whether name is below a delegation: glue, not the zone's data.
func (s *signedZone) occluded(name string) bool {
	cut := s.cutAbove(name)
	return cut != "" && cut != name
}

// names gives those that are the zone's own, in canonical order: cuts, but
// nothing below them, and empty non-terminals.
func (s *signedZone) names() []string {
	var out []string
	for name := range s.nodes {
		if !s.occluded(name) {
			out = append(out, name)
		}
	}
	sortCanonically(out)
	return out
}

// sortedTypes gives a node's types in ascending order.
func (n *node) sortedTypes() []uint16 {
	var types []uint16
	for t := range n.rrsets {
		types = append(types, t)
	}
	slices.Sort(types)
	return types
}

// parent gives the name one label up; the root is its own.
func parent(name string) string {
	next, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[next:]
}

// sortCanonically puts names in the order of RFC 4034 section 6.1.
func sortCanonically(names []string) {
	keys := map[string][][]byte{}
	for _, n := range names {
		keys[n] = labels(n)
	}
	sort.Slice(names, func(i, j int) bool {
		return slices.CompareFunc(keys[names[i]], keys[names[j]], bytes.Compare) < 0
	})
}

// compareNames orders two names as RFC 4034 section 6.1 does.
func compareNames(a, b string) int {
	return slices.CompareFunc(labels(a), labels(b), bytes.Compare)
}

// labels gives a name's labels in wire form, lower case, the highest first.
func labels(name string) [][]byte {
	wire := make([]byte, 256)
	end, err := dns.PackDomainName(name, wire, 0, nil, false)
	if err != nil {
		return nil // not a name; it has no place in any order
	}
	var out [][]byte
	for i := 0; i < end && wire[i] != 0; i += int(wire[i]) + 1 {
		out = append(out, bytes.ToLower(wire[i+1:i+1+int(wire[i])]))
	}
	slices.Reverse(out)
	return out
}
