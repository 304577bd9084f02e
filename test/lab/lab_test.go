package lab

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The example of RFC 4034 section 6.1.
func TestNamesSortCanonically(t *testing.T) {
	want := []string{
		"example.", "a.example.", "yljkjljk.a.example.", "z.a.example.", "zabc.a.example.",
		"z.example.", `\001.z.example.`, "*.z.example.", `\200.z.example.`,
	}
	got := slices.Clone(want)
	slices.Reverse(got)
	sortCanonically(got)
	if !slices.Equal(got, want) {
		t.Errorf("sorted %q", got)
	}
	if compareNames("Z.Example.", "z.eXample.") != 0 {
		t.Error("the case of letters matters")
	}
}

// Whatever verifies here was made from the record's text alone.
func TestSignaturesVerifyExceptWhereTheyMustNot(t *testing.T) {
	now := time.Now()
	inet := sampleInternet(t)
	for _, z := range inet.zones {
		t.Run(z.name, func(t *testing.T) {
			if z.denial == Unsigned {
				for name, n := range z.nodes {
					if len(n.sigs) > 0 {
						t.Errorf("%s is signed", name)
					}
				}
				return
			}
			keys := map[uint16]*dns.DNSKEY{}
			for _, rr := range z.at(z.name, dns.TypeDNSKEY) {
				k := rr.(*dns.DNSKEY)
				keys[k.KeyTag()] = k
			}
			checked := 0
			check := func(n *node) {
				for rrtype, rrset := range n.rrsets {
					owner := rrset[0].Header().Name
					own := !z.occluded(owner) && (!z.cuts[owner] || rrtype == dns.TypeDS || rrtype == dns.TypeNSEC)
					if rrtype == dns.TypeNSEC3 {
						own = true
					}
					if got := len(n.sigs[rrtype]); own != (got == 1) {
						t.Errorf("%s %s has %d signatures", owner, dns.Type(rrtype), got)
						continue
					}
					if !own {
						continue
					}
					checked++
					sig := n.sigs[rrtype][0].(*dns.RRSIG)
					good := sig.Verify(keys[sig.KeyTag], rrset) == nil
					if want := z.fault != BrokenData || rrtype == dns.TypeDNSKEY; good != want {
						t.Errorf("the signature of %s %s verifies: %v", owner, dns.Type(rrtype), good)
					}
					if want := z.fault != ExpiredData || rrtype == dns.TypeDNSKEY; sig.ValidityPeriod(now) != want {
						t.Errorf("the signature of %s %s is in its time: %v", owner, dns.Type(rrtype), !want)
					}
				}
			}
			for _, n := range z.nodes {
				check(n)
			}
			for _, n := range z.proofs {
				check(n)
			}
			if checked < 5 {
				t.Errorf("%d signatures only", checked)
			}
		})
	}
}

// Each chain of denial is one circle through all its names.
func TestDenialChainsAreClosed(t *testing.T) {
	for _, z := range sampleInternet(t).zones {
		next := map[string]string{}
		for name, n := range z.nodes {
			for _, rr := range n.rrsets[dns.TypeNSEC] {
				next[name] = rr.(*dns.NSEC).NextDomain
			}
		}
		for owner, n := range z.proofs {
			next[owner] = z.nsec3Owner(n.rrsets[dns.TypeNSEC3][0].(*dns.NSEC3).NextDomain)
		}
		if (z.denial == Unsigned) != (len(next) == 0) {
			t.Errorf("%s has %d denial records", z.name, len(next))
		}
		steps := 0
		for start := range next {
			for at := next[start]; at != start && steps <= len(next); at = next[at] {
				steps++
			}
			break
		}
		if len(next) > 0 && steps != len(next)-1 {
			t.Errorf("the chain of %s returns after %d of %d names", z.name, steps+1, len(next))
		}
	}
}

func TestDelegationsAreSignedOrProvenUnsigned(t *testing.T) {
	inet := sampleInternet(t)
	for _, z := range inet.zones {
		for cut := range z.cuts {
			child := inet.zone(cut)
			if child == nil {
				t.Errorf("%s delegates %s, which nobody serves", z.name, cut)
				continue
			}
			ds := z.at(cut, dns.TypeDS)
			if (len(ds) == 1) != (child.denial != Unsigned) {
				t.Errorf("%s has %d DS records", cut, len(ds))
			}
			if len(ds) == 1 {
				fits := ds[0].(*dns.DS).Digest == child.ksk.record.ToDS(dns.SHA256).Digest
				if fits != (child.fault != WrongDS) {
					t.Errorf("the DS of %s fits its key: %v", cut, fits)
				}
			}
		}
	}
}

func TestHintsAndAnchorAreThoseOfTheRoot(t *testing.T) {
	inet := sampleInternet(t)
	var servers []string
	zp := dns.NewZoneParser(strings.NewReader(inet.RootHints()), "", "")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		if a, ok := rr.(*dns.A); ok {
			servers = append(servers, a.A.String())
		}
	}
	if zp.Err() != nil || !slices.Equal(servers, []string{"127.0.53.1"}) {
		t.Errorf("hints name %v, %v", servers, zp.Err())
	}
	rr, err := dns.NewRR(inet.TrustAnchor())
	if err != nil {
		t.Fatal(err)
	}
	fits := false
	for _, k := range inet.zone(".").at(".", dns.TypeDNSKEY) {
		fits = fits || k.(*dns.DNSKEY).ToDS(dns.SHA256).String() == rr.String()
	}
	if !fits {
		t.Errorf("no key of the root fits the anchor %s", rr)
	}
}

func TestBuildRefusesWhatIsNoInternet(t *testing.T) {
	at := []netip.Addr{netip.MustParseAddr("127.0.53.1")}
	soa := "@ 60 SOA a b 1 1 1 1 1\n@ 60 NS a.ns.\n"
	root := Zone{Name: ".", Servers: at, Records: soa}
	for _, c := range []struct {
		name  string
		zones []Zone
		want  string
	}{
		{"without a root", []Zone{{Name: "example.", Servers: at, Records: soa}}, "there is no root zone"},
		{"with a zone twice", []Zone{root, root}, "zone . stands there twice"},
		{"with a record of another zone", []Zone{root, {Name: "example.", Servers: at, Records: soa + "a.test. 60 A 192.0.2.1\n"}}, "zone example.: a.test. is not in it"},
		{"with a zone without SOA", []Zone{{Name: ".", Servers: at, Records: "@ 60 NS a.ns.\n"}}, "zone .: needs one SOA"},
		{"with a zone without servers' names", []Zone{{Name: ".", Servers: at, Records: "@ 60 SOA a b 1 1 1 1 1\n"}}, "zone .: needs one SOA and some NS"},
		{"with a zone that cannot be read", []Zone{{Name: ".", Servers: at, Records: soa + "@ 60 A nowhere\n"}}, "zone .: dns: bad A A"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Build(c.zones, time.Now()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// Whatever is asked, the answer can be sent, and a signed zone's denial is
// proven.
func FuzzAnswer(f *testing.F) {
	f.Add("www.libre.example.", uint16(dns.TypeA), true)
	f.Add("nx.vieux.libre.example.", uint16(dns.TypeAAAA), true)
	f.Add(`a\.b.\000.propagande.example.`, uint16(dns.TypeTXT), true)
	f.Add("*.joker.signe.ouvert.", uint16(dns.TypeMX), true)
	f.Add(".", uint16(dns.TypeANY), false)
	f.Add("ouvert.", uint16(dns.TypeDS), true)
	f.Add("x.entre.ouvert.", uint16(dns.TypeNSEC3), true)
	f.Add(strings.Repeat("\x9a", 40)+".eXAmple.", uint16(147), true)
	inet := sampleInternet(f)
	f.Fuzz(func(t *testing.T, name string, qtype uint16, do bool) {
		if _, ok := dns.IsDomainName(name); !ok {
			t.Skip()
		}
		msg := new(dns.Msg)
		msg.SetQuestion(dns.Fqdn(name), qtype)
		packet, err := msg.Pack()
		if err != nil {
			t.Skip() // not a name that fits into a question
		}
		// As it comes in from the wire, every odd byte escaped: lower case of a
		// text that is no UTF-8 would be another name.
		if err := msg.Unpack(packet); err != nil {
			t.Fatal(err)
		}
		msg.Response = true
		answer(inet.zones, msg, do)
		msg.Truncate(dns.MaxMsgSize)
		if _, err := msg.Pack(); err != nil {
			t.Fatalf("the answer cannot be sent: %v\n%s", err, msg)
		}
		if msg.Rcode == dns.RcodeRefused {
			t.Errorf("there is a root, and %q was refused", name)
		}
		denied, proofs, signed := false, 0, false
		for _, rr := range msg.Ns {
			switch rr := rr.(type) {
			case *dns.SOA:
				denied = true
				signed = inet.zone(rr.Hdr.Name).denial != Unsigned
			case *dns.NSEC, *dns.NSEC3:
				proofs++
			}
		}
		if (denied && do && signed) != (proofs > 0) && denied {
			t.Errorf("%q %s do=%v: denied with %d proofs\n%s", name, dns.Type(qtype), do, proofs, msg)
		}
	})
}
