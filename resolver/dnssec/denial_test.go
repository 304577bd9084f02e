package dnssec

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// proven is a Denial from records that are taken as verified.
func proven(t testing.TB, zone string, lines ...string) *Denial {
	t.Helper()
	d := &Denial{v: newValidator(), zone: zone, hashes: map[string]string{}}
	for _, line := range lines {
		switch x := record(t, line).(type) {
		case *dns.NSEC:
			d.nsec = append(d.nsec, x)
		case *dns.NSEC3:
			d.addNSEC3(x)
		default:
			t.Fatalf("%q is no denial", line)
		}
	}
	return d
}

const apexNSEC = "example. NSEC b.example. SOA NS RRSIG NSEC DNSKEY"

func TestNSECProofs(t *testing.T) {
	type proof func(*Denial) Proof
	nx := func(name string) proof { return func(d *Denial) Proof { return d.NXDOMAIN(name) } }
	nodata := func(name string, t uint16) proof { return func(d *Denial) Proof { return d.NODATA(name, t) } }
	closer := func(name, encloser string) proof {
		return func(d *Denial) Proof { return d.NoCloser(name, encloser) }
	}
	noDS := func(name string) proof { return func(d *Denial) Proof { return d.NoDS(name) } }
	for _, c := range []struct {
		name    string
		records []string
		ask     proof
		want    Status
		cut     bool
	}{
		{"covered, and the wildcard too", []string{apexNSEC}, nx("a.example."), Secure, false},
		{"covered, the wildcard not", []string{"b.example. NSEC d.example. A"}, nx("c.example."), Bogus, false},
		{"covered, the wildcard exists", []string{"b.example. NSEC d.example. A", "*.example. NSEC b.example. A"}, nx("c.example."), Bogus, false},
		{"by the last record of the zone", []string{"y.example. NSEC example. A", apexNSEC}, nx("z.example."), Secure, false},
		{"the name itself exists", []string{"c.example. NSEC d.example. A", apexNSEC}, nx("c.example."), Bogus, false},
		{"an empty non-terminal is no NXDOMAIN", []string{"b.example. NSEC x.c.example. A", apexNSEC}, nx("c.example."), Bogus, false},
		{"below a delegation, by the parent's record", []string{"b.example. NSEC d.example. NS", apexNSEC}, nx("x.b.example."), Bogus, false},
		{"below a DNAME", []string{"b.example. NSEC d.example. DNAME", apexNSEC}, nx("x.b.example."), Bogus, false},
		{"next to a delegation", []string{"b.example. NSEC d.example. NS", apexNSEC}, nx("c.example."), Secure, false},
		{"of a name outside the zone", []string{apexNSEC}, nx("a.other."), Bogus, false},
		{"compact: NXNAME at the name", []string{"c.example. NSEC \\000.c.example. RRSIG NSEC NXNAME"}, nx("c.example."), Secure, false},

		{"no such type", []string{"c.example. NSEC d.example. A"}, nodata("c.example.", dns.TypeMX), Secure, false},
		{"the type is there", []string{"c.example. NSEC d.example. A"}, nodata("c.example.", dns.TypeA), Bogus, false},
		{"a CNAME is there", []string{"c.example. NSEC d.example. CNAME"}, nodata("c.example.", dns.TypeA), Bogus, false},
		{"of the child, by the parent's record", []string{"c.example. NSEC d.example. NS"}, nodata("c.example.", dns.TypeA), Bogus, false},
		{"of DS, by the parent's record", []string{"c.example. NSEC d.example. NS"}, nodata("c.example.", dns.TypeDS), Secure, false},
		{"of DS, by the child's record", []string{apexNSEC}, nodata("example.", dns.TypeDS), Bogus, false},
		{"an empty non-terminal", []string{"b.example. NSEC x.c.example. A"}, nodata("c.example.", dns.TypeA), Secure, false},
		{"a wildcard without the type", []string{"b.example. NSEC d.example. A", "*.example. NSEC b.example. TXT"}, nodata("c.example.", dns.TypeA), Secure, false},
		{"a wildcard with the type", []string{"b.example. NSEC d.example. A", "*.example. NSEC b.example. A"}, nodata("c.example.", dns.TypeA), Bogus, false},
		{"compact: nothing but NXNAME", []string{"c.example. NSEC \\000.c.example. RRSIG NSEC NXNAME"}, nodata("c.example.", dns.TypeA), Secure, false},

		{"nothing closer", []string{"b.example. NSEC d.example. A"}, closer("c.example.", "example."), Secure, false},
		{"a closer encloser exists", []string{"b.c.example. NSEC d.example. A"}, closer("x.c.example.", "example."), Bogus, false},
		{"the name is there", []string{"c.example. NSEC d.example. A"}, closer("c.example.", "example."), Bogus, false},

		{"an unsigned delegation", []string{"c.example. NSEC d.example. NS RRSIG NSEC"}, noDS("c.example."), Secure, true},
		{"a signed one", []string{"c.example. NSEC d.example. NS DS RRSIG NSEC"}, noDS("c.example."), Bogus, false},
		{"no delegation", []string{"c.example. NSEC d.example. A RRSIG NSEC"}, noDS("c.example."), Secure, false},
		{"no such name", []string{apexNSEC}, noDS("a.example."), Secure, false},
		{"the child's own word", []string{"c.example. NSEC d.c.example. NS SOA"}, noDS("c.example."), Bogus, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.ask(proven(t, "example.", c.records...))
			if got.Status != c.want || got.Cut != c.cut {
				t.Errorf("%+v", got)
			}
			if c.want == Bogus && got.Code != dns.ExtendedErrorCodeNSECMissing {
				t.Errorf("EDE %d", got.Code)
			}
		})
	}
}

// modelZone is a zone as a set of names, to make proofs from and judge them by.
type modelZone struct {
	types map[string][]uint16 // owner -> types; delegations have NS alone
}

func randomZone(r *rand.Rand) modelZone {
	z := modelZone{types: map[string][]uint16{"example.": {dns.TypeNS, dns.TypeSOA, dns.TypeDNSKEY}}}
	for range 3 + r.IntN(6) {
		name := randomName(r)
		switch r.IntN(5) {
		case 0:
			z.types[name] = []uint16{dns.TypeNS}
		case 1:
			z.types[name] = []uint16{dns.TypeNS, dns.TypeDS}
		default:
			z.types[name] = []uint16{dns.TypeA}
		}
	}
	delete(z.types, "*.example.")
	for name := range z.types { // nothing below a delegation
		for n := parent(name); n != "example." && n != "."; n = parent(n) {
			if slices.Contains(z.types[n], dns.TypeNS) {
				delete(z.types, name)
			}
		}
	}
	return z
}

func randomName(r *rand.Rand) string {
	name := "example."
	for range 1 + r.IntN(3) {
		label := string(rune('a' + r.IntN(4)))
		if r.IntN(6) == 0 {
			label = "*"
		}
		name = label + "." + name
	}
	return name
}

func (z modelZone) exists(name string) bool {
	for n := range z.types {
		if below(name, n) {
			return true
		}
	}
	return false
}

func (z modelZone) delegated(name string) bool { // strictly below a cut
	for n := parent(name); n != "."; n = parent(n) {
		if n != "example." && slices.Contains(z.types[n], dns.TypeNS) {
			return true
		}
	}
	return false
}

func (z modelZone) wildcardFor(name string) string {
	for n := parent(name); ; n = parent(n) {
		if z.exists(n) {
			return wildcard(n)
		}
	}
}

// truth says whether NXDOMAIN, and NODATA for t, are what the zone has to say.
func (z modelZone) truth(name string, t uint16) (nx, nodata bool) {
	if z.delegated(name) {
		return false, false
	}
	if z.exists(name) {
		types := z.types[name]
		cut := name != "example." && slices.Contains(types, dns.TypeNS)
		return false, !slices.Contains(types, t) && (!cut || t == dns.TypeDS) && !(name == "example." && t == dns.TypeDS)
	}
	w := z.wildcardFor(name)
	if z.exists(w) { // with data, or as an empty non-terminal
		types := z.types[w]
		cut := slices.Contains(types, dns.TypeNS)
		return false, !slices.Contains(types, t) && (!cut || t == dns.TypeDS)
	}
	return true, false
}

func (z modelZone) nsec() (lines []string) {
	var names []string
	for n := range z.types {
		names = append(names, n)
	}
	slices.SortFunc(names, compareNames)
	for i, n := range names {
		lines = append(lines, fmt.Sprintf("%s NSEC %s %s RRSIG NSEC", n, names[(i+1)%len(names)], typeNames(z.types[n])))
	}
	return lines
}

func (z modelZone) nsec3() (lines []string) {
	owners := map[string]string{}
	var hashes []string
	for n := range z.types {
		for a := n; below("example.", a); a = parent(a) {
			h := dns.HashName(a, dns.SHA1, 2, "ab")
			if _, ok := owners[h]; !ok {
				hashes = append(hashes, h)
			}
			owners[h] = a
		}
	}
	slices.Sort(hashes)
	for i, h := range hashes {
		lines = append(lines, fmt.Sprintf("%s.example. NSEC3 1 0 2 ab %s %s", strings.ToLower(h), hashes[(i+1)%len(hashes)], typeNames(z.types[owners[h]])))
	}
	return lines
}

func typeNames(types []uint16) string {
	types = slices.Sorted(slices.Values(types))
	var s []string
	for _, t := range types {
		s = append(s, dns.TypeToString[t])
	}
	return strings.Join(s, " ")
}

// With all its denial records at hand, a zone proves exactly what is true of it;
// with some of them, never what is false.
func TestDenialsProveTheTruthAndNothingElse(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	proofs := 0
	for range 3000 {
		z := randomZone(r)
		for kind, lines := range map[string][]string{"NSEC": z.nsec(), "NSEC3": z.nsec3()} {
			part := slices.Clone(lines)
			part = slices.DeleteFunc(part, func(string) bool { return r.IntN(3) == 0 })
			all, some := proven(t, "example.", lines...), proven(t, "example.", part...)
			name, typ := randomName(r), []uint16{dns.TypeA, dns.TypeTXT, dns.TypeDS}[r.IntN(3)]
			nx, nodata := z.truth(name, typ)
			if got := all.NXDOMAIN(name).Status == Secure; got != nx {
				t.Fatalf("%s: NXDOMAIN of %s is %v, proven %v by\n%s", kind, name, nx, got, strings.Join(lines, "\n"))
			}
			if got := all.NODATA(name, typ).Status == Secure; got != nodata {
				t.Fatalf("%s: NODATA of %s %d is %v, proven %v by\n%s", kind, name, typ, nodata, got, strings.Join(lines, "\n"))
			}
			if nx || nodata {
				proofs++
			}
			if some.NXDOMAIN(name).Status != Bogus && !nx || some.NODATA(name, typ).Status != Bogus && !nodata {
				t.Fatalf("%s: proves a falsehood of %s %d by\n%s", kind, name, typ, strings.Join(part, "\n"))
			}
			if d := some.NoDS(name); d.Status == Secure && d.Cut && slices.Contains(z.types[name], dns.TypeDS) {
				t.Fatalf("%s: denies the DS of %s", kind, name)
			}
		}
	}
	if proofs < 1000 {
		t.Errorf("only %d proofs: the test says little", proofs)
	}
}

func TestNSEC3RecordsThatDoNotCount(t *testing.T) {
	h := strings.Repeat("0", 32)
	for name, line := range map[string]string{
		"unknown hash":          h + ".example. NSEC3 2 0 0 - " + strings.Repeat("V", 32) + " A",
		"unknown flags":         h + ".example. NSEC3 1 2 0 - " + strings.Repeat("V", 32) + " A",
		"deeper than the zone":  h + ".x.example. NSEC3 1 0 0 - " + strings.Repeat("V", 32) + " A",
		"owner that is no hash": "short.example. NSEC3 1 0 0 - " + strings.Repeat("V", 32) + " A",
		"other zone":            h + ".other. NSEC3 1 0 0 - " + strings.Repeat("V", 32) + " A",
	} {
		if d := proven(t, "example.", line); len(d.nsec3) != 0 {
			t.Errorf("%s: counts", name)
		}
	}
	d := proven(t, "example.", h+".example. NSEC3 1 0 0 - "+strings.Repeat("V", 32)+" A", h+".example. NSEC3 1 0 1 - "+strings.Repeat("V", 32)+" A")
	if len(d.nsec3) != 1 {
		t.Error("records of two chains count together")
	}
}

func TestDenialRecordsThatProveNothing(t *testing.T) {
	s := newSigner(t, "example.", dns.ED25519, 256)
	apex := s.sign(t, nil, record(t, apexNSEC))
	good := s.sign(t, nil, record(t, "b.example. NSEC d.example. A RRSIG NSEC"))
	expanded := func() Set { // the wildcard's own record, passed off as one of b
		set := s.sign(t, nil, record(t, "*.example. NSEC d.example. A RRSIG NSEC"))
		set.Name = "b.example."
		set.RRs[0].Header().Name, set.Sigs[0].Hdr.Name = set.Name, set.Name
		return set
	}()
	changed := s.sign(t, nil, record(t, "b.example. NSEC d.example. A RRSIG NSEC"))
	changed.RRs[0].(*dns.NSEC).NextDomain = "x.example."
	outside := s.sign(t, nil, record(t, "b.example. NSEC zz. A RRSIG NSEC"))
	for _, c := range []struct {
		name string
		set  Set
		want Status
	}{
		{"a good one", good, Secure},
		{"expanded from a wildcard", expanded, Bogus},
		{"changed after signing", changed, Bogus},
		{"with a next name outside the zone", outside, Bogus},
	} {
		v := newValidator()
		d := v.Denial([]Set{apex, c.set}, v.Keys("example.", []dns.RR{s.DNSKEY}))
		if got := d.NXDOMAIN("c.example."); got.Status != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	v := newValidator()
	many := slices.Repeat([]Set{changed}, 100)
	v.Work.Limit.Failures = 100
	v.Denial(many, v.Keys("example.", []dns.RR{s.DNSKEY}))
	if v.Work.Spent.Signatures > maxDenialSets {
		t.Errorf("%d sets looked at", v.Work.Spent.Signatures)
	}
}

func TestOptOutProvesLess(t *testing.T) {
	apex := strings.ToLower(dns.HashName("example.", dns.SHA1, 0, ""))
	all := apex + ".example. NSEC3 1 1 0 - " + strings.ToUpper(apex) + " NS SOA RRSIG"
	d := proven(t, "example.", all)
	if p := d.NXDOMAIN("a.example."); p.Status != Insecure {
		t.Errorf("NXDOMAIN: %+v", p)
	}
	if p := d.NoDS("a.example."); p.Status != Insecure || !p.Cut {
		t.Errorf("NoDS: %+v", p)
	}
	if p := d.NoCloser("a.example.", "example."); p.Status != Insecure {
		t.Errorf("NoCloser: %+v", p)
	}
	if p := d.NODATA("example.", dns.TypeA); p.Status != Secure {
		t.Errorf("NODATA of the apex: %+v", p)
	}
}

func TestHashingIsLimited(t *testing.T) {
	apex := strings.ToLower(dns.HashName("example.", dns.SHA1, 0, ""))
	d := proven(t, "example.", apex+".example. NSEC3 1 0 0 - "+strings.ToUpper(apex)+" NS SOA RRSIG")
	d.v.Work.Limit.Hashes = 5
	p := d.NXDOMAIN(strings.Repeat("a.", 100) + "example.")
	if !p.Exhausted || d.v.Work.Spent.Hashes != 5 {
		t.Errorf("%+v after %d hashes", p, d.v.Work.Spent.Hashes)
	}
	// A salt of 255 bytes makes each hash one of five blocks.
	salt := strings.Repeat("AB", 255)
	apex = strings.ToLower(dns.HashName("example.", dns.SHA1, 0, salt))
	d = proven(t, "example.", apex+".example. NSEC3 1 0 0 "+salt+" "+strings.ToUpper(apex)+" NS SOA RRSIG")
	d.v.Work.Limit.Hashes = 20
	if p := d.NXDOMAIN(strings.Repeat("a.", 100) + "example."); !p.Exhausted || len(d.hashes) != 4 {
		t.Errorf("%+v after %d hashes", p, len(d.hashes))
	}
}

func TestNamesSortCanonically(t *testing.T) {
	// The list of RFC 4034 §6.1.
	want := []string{"example.", "a.example.", "yljkjljk.a.example.", "z.a.example.", "zabc.a.example.", "z.example.", `\001.z.example.`, "*.z.example.", `\200.z.example.`}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, compareNames)
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// FuzzValidate feeds records from a packet to all that reads them.
func FuzzValidate(f *testing.F) {
	s := newSigner(f, "example.", dns.ED25519, 256)
	set := s.sign(f, nil, record(f, "example. 300 NSEC a.example. NS SOA RRSIG NSEC DNSKEY"))
	m := new(dns.Msg)
	m.SetQuestion("b.example.", dns.TypeA)
	m.Answer = []dns.RR{s.DNSKEY, s.ToDS(dns.SHA256)}
	m.Ns = append(set.RRs, set.Sigs[0], record(f, strings.Repeat("0", 32)+".example. NSEC3 1 0 0 - "+strings.Repeat("V", 32)+" A"))
	packed, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Fuzz(func(t *testing.T, packet []byte) {
		m := new(dns.Msg)
		if m.Unpack(packet) != nil || len(m.Question) == 0 {
			return
		}
		v := newValidator()
		var sets []Set
		for _, rr := range append(m.Answer, m.Ns...) {
			h := rr.Header()
			set := Set{Name: dns.CanonicalName(h.Name), Type: h.Rrtype, RRs: []dns.RR{rr}}
			for _, other := range m.Ns {
				if sig, ok := other.(*dns.RRSIG); ok {
					set.Sigs = append(set.Sigs, sig)
				}
			}
			sets = append(sets, set)
		}
		keys := v.Keys("example.", m.Answer)
		name := dns.CanonicalName(m.Question[0].Name)
		d := v.Denial(sets, keys)
		for _, rr := range m.Ns { // as if verified, to reach the proofs
			switch x := rr.(type) {
			case *dns.NSEC:
				d.nsec = append(d.nsec, x)
			case *dns.NSEC3:
				d.addNSEC3(x)
			}
		}
		d.NXDOMAIN(name)
		d.NODATA(name, m.Question[0].Qtype)
		d.NoDS(name)
		d.NoCloser(name, "example.")
		for _, s := range sets {
			v.VerifyRRset(s, keys)
			v.Trust("example.", s, m.Answer)
		}
		if w := v.Work; w.Spent.Signatures > w.Limit.Signatures || w.Spent.Hashes > w.Limit.Hashes || w.Spent.Digests > w.Limit.Digests {
			t.Fatalf("spent %+v of %+v", w.Spent, w.Limit)
		}
	})
}
