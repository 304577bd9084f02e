package main

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/miekg/dns"

	"cordon/test/lab"
)

// question is one question with the bits that change the answer.
type question struct {
	name  string
	qtype uint16
	do    bool // signatures, please (RFC 3225)
	cd    bool // do not validate (RFC 4035 section 3.2.2)
	ad    bool // tell whether it is authentic (RFC 6840 section 5.7)
}

func (q question) String() string {
	s := q.name + " " + dns.Type(q.qtype).String()
	for _, bit := range []struct {
		set  bool
		name string
	}{{q.do, "DO"}, {q.cd, "CD"}, {q.ad, "AD"}} {
		if bit.set {
			s += " +" + bit.name
		}
	}
	return s
}

func (q question) message() *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.qtype)
	m.SetEdns0(1232, q.do)
	m.CheckingDisabled, m.AuthenticatedData = q.cd, q.ad
	return m
}

var types = []uint16{
	dns.TypeA, dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeNS, dns.TypeSOA, dns.TypeCNAME, dns.TypeDNAME, dns.TypeMX, dns.TypeTXT,
	dns.TypeDS, dns.TypeDNSKEY, dns.TypeNSEC, dns.TypeNSEC3PARAM, dns.TypeHTTPS, dns.TypeCAA, dns.TypeTLSA, 65280,
}

// questions chooses from all names that are in the zones, beside or below what is
// there, and all types and bits: each owner once for its address, signatures
// and all, and the rest at random. The seed alone decides.
func questions(zones []lab.Zone, n int, seed uint64) ([]question, error) {
	owners, err := owners(zones)
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(seed, 0))
	var all []question
	seen := map[question]bool{}
	add := func(q question) {
		if _, ok := dns.IsDomainName(q.name); ok && !seen[q] {
			seen[q] = true
			all = append(all, q)
		}
	}
	for _, name := range owners {
		add(question{name: name, qtype: dns.TypeA, do: true})
	}
	for tries := 0; len(all) < n && tries < 100*n; tries++ {
		bits := random.IntN(16)
		add(question{
			name:  beside(random, owners[random.IntN(len(owners))]),
			qtype: types[random.IntN(len(types))],
			do:    bits&1 != 0, cd: bits&6 == 6, ad: bits&8 != 0,
		})
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(n, len(all))], nil
}

// beside gives the name itself, or one that is not written in the zone.
func beside(random *rand.Rand, name string) string {
	switch random.IntN(8) {
	case 0, 1:
		return under("nx", name)
	case 2:
		return under("a.nx", name)
	case 3:
		next, end := dns.NextLabel(name, 0)
		if end {
			return "nx."
		}
		return under("zz", name[next:])
	case 4:
		next, end := dns.NextLabel(name, 0)
		if end {
			return "."
		}
		return name[next:] // often an empty non-terminal
	case 5:
		return strings.ToUpper(name)
	}
	return name
}

func under(label, name string) string {
	if name == "." {
		return label + "."
	}
	return label + "." + name
}

// owners are the names that the zones write, each once, in their order.
func owners(zones []lab.Zone) ([]string, error) {
	var all []string
	seen := map[string]bool{}
	for _, z := range zones {
		p := dns.NewZoneParser(strings.NewReader(z.Records), z.Name, "")
		for rr, ok := p.Next(); ok; rr, ok = p.Next() {
			if name := dns.CanonicalName(rr.Header().Name); !seen[name] {
				seen[name] = true
				all = append(all, name)
			}
		}
		if err := p.Err(); err != nil {
			return nil, fmt.Errorf("zone %s: %w", z.Name, err)
		}
	}
	return all, nil
}
