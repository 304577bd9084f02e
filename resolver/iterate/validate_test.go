package iterate

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// Each way in which a signed answer can be wrong ends in SERVFAIL with the
// extended error that says why; with CD=1 the data is given, and never to others.
func TestBogusDataIsRefusedExceptToWhoAsksUnchecked(t *testing.T) {
	tamper := func(f func(m *dns.Msg)) func(*internet, *authZone) {
		return func(n *internet, _ *authZone) {
			n.server(exampleAddr).behave = func(_ *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
				m := honest()
				f(m)
				return m, nil
			}
		}
	}
	dropSigs := func(of uint16) func(*internet, *authZone) {
		return tamper(func(m *dns.Msg) {
			kept := m.Answer[:0]
			for _, rr := range m.Answer {
				if sig, ok := rr.(*dns.RRSIG); !ok || sig.TypeCovered != of {
					kept = append(kept, rr)
				}
			}
			m.Answer = kept
		})
	}
	changeSig := func(f func(*dns.RRSIG)) func(*internet, *authZone) {
		return tamper(func(m *dns.Msg) {
			for _, rr := range m.Answer {
				if sig, ok := rr.(*dns.RRSIG); ok && sig.TypeCovered == dns.TypeA {
					f(sig)
				}
			}
		})
	}
	for _, c := range []struct {
		name   string
		ede    uint16
		damage func(*internet, *authZone)
	}{
		{"changed data", dns.ExtendedErrorCodeDNSBogus, tamper(func(m *dns.Msg) {
			for _, rr := range m.Answer {
				if a, ok := rr.(*dns.A); ok {
					a.A = []byte{192, 0, 2, 80}
					a.A[3] ^= 1
				}
			}
		})},
		{"a signature that expired", dns.ExtendedErrorCodeSignatureExpired, func(n *internet, z *authZone) {
			z.valid = [2]time.Time{n.now.Add(-48 * time.Hour), n.now.Add(-time.Hour)}
		}},
		{"a signature from the future", dns.ExtendedErrorCodeSignatureNotYetValid, func(n *internet, z *authZone) {
			z.valid = [2]time.Time{n.now.Add(time.Hour), n.now.Add(48 * time.Hour)}
		}},
		{"a signature that expires before it begins", dns.ExtendedErrorCodeSignatureExpiredBeforeValid, changeSig(func(s *dns.RRSIG) { s.Inception, s.Expiration = s.Expiration, s.Inception })},
		{"no signature", dns.ExtendedErrorCodeRRSIGsMissing, dropSigs(dns.TypeA)},
		{"a DNSKEY set without signature", dns.ExtendedErrorCodeRRSIGsMissing, dropSigs(dns.TypeDNSKEY)},
		{"no DNSKEY", dns.ExtendedErrorCodeDNSKEYMissing, func(_ *internet, z *authZone) { z.remove(z.name, dns.TypeDNSKEY) }},
		{"a key that the DS does not name", dns.ExtendedErrorCodeDNSKEYMissing, func(_ *internet, z *authZone) { z.newKey() }},
		{"a labels field larger than the name", dns.ExtendedErrorCodeDNSBogus, changeSig(func(s *dns.RRSIG) { s.Labels++ })},
		{"a labels field smaller than the signer's", dns.ExtendedErrorCodeDNSBogus, changeSig(func(s *dns.RRSIG) { s.Labels = 1 })},
		{"a signer above the zone", dns.ExtendedErrorCodeDNSBogus, changeSig(func(s *dns.RRSIG) { s.SignerName = "com." })},
		{"another key tag", dns.ExtendedErrorCodeDNSBogus, changeSig(func(s *dns.RRSIG) { s.KeyTag++ })},
		{"the DS stripped from the referral and from the answer", dns.ExtendedErrorCodeNSECMissing, func(n *internet, _ *authZone) {
			n.server(tldAddr).behave = func(_ *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
				m := honest()
				for _, section := range []*[]dns.RR{&m.Ns, &m.Answer} {
					kept := (*section)[:0]
					for _, rr := range *section {
						sig, signed := rr.(*dns.RRSIG)
						if rr.Header().Rrtype != dns.TypeDS && !(signed && sig.TypeCovered == dns.TypeDS) {
							kept = append(kept, rr)
						}
					}
					*section = kept
				}
				return m, nil
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, example, _ := smallInternet(t, withNSEC)
			c.damage(n, example)
			r := n.resolver()
			for range 2 { // fresh, and from the cache
				res := ask(t, r, "www.example.com. A")
				expectFailure(t, res, c.ede)
				if res.Status != dnssec.Bogus || res.TTL < time.Second || res.TTL > 300*time.Second {
					t.Errorf("status %s, TTL %v", res.Status, res.TTL)
				}
			}
			for range 2 {
				res := ask(t, r, "www.example.com. A", checkingDisabled)
				if res.Rcode != dns.RcodeSuccess || lastData(res.Answer) == nil || res.Status == dnssec.Secure {
					t.Errorf("unchecked: %s %s %v %v", dns.RcodeToString[res.Rcode], res.Status, res.Answer, res.EDE)
				}
			}
			if c.ede != dns.ExtendedErrorCodeNSECMissing { // the first lot of failures has ended by then
				n.pass(2 * time.Minute)
				expectFailure(t, ask(t, r, "www.example.com. A"), c.ede)
			}
		})
	}
}

func TestDenialsAreNotBelievedWithoutProof(t *testing.T) {
	for mode, denial := range map[string]denialMode{"NSEC": withNSEC, "NSEC3": withNSEC3} {
		for _, c := range []struct {
			name, question string
			ede            uint16
			change         func(m *dns.Msg)
		}{
			{"without records", "none.example.com. A", dns.ExtendedErrorCodeNSECMissing, func(m *dns.Msg) { m.Ns = m.Ns[:2] }},
			{"without anything", "none.example.com. A", dns.ExtendedErrorCodeNSECMissing, func(m *dns.Msg) { m.Ns = nil }},
			{"for a name that exists", "www.example.com. A", dns.ExtendedErrorCodeNSECMissing, nil},
			{"for a type that exists", "www.example.com. AAAA", dns.ExtendedErrorCodeNSECMissing, nil},
			{"that hides a wildcard", "any.wild.example.com. A", dns.ExtendedErrorCodeNSECMissing, nil},
		} {
			t.Run(mode+" "+c.name, func(t *testing.T) {
				n, example, _ := smallInternet(t, denial)
				n.server(exampleAddr).behave = func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
					m := honest()
					question := q.Question[0]
					if question.Qtype == dns.TypeDNSKEY || question.Name != c.question[:len(question.Name)] {
						return m, nil
					}
					if c.change != nil {
						c.change(m)
						return m, nil
					}
					// All that is true of another name, to lie with.
					m.Answer, m.Rcode = nil, dns.RcodeNameError
					m.Ns = example.denial("zzz.example.com.", "example.com.", "*.example.com.")
					return m, nil
				}
				expectFailure(t, ask(t, n.resolver(), c.question), c.ede)
			})
		}
	}
}

func TestWildcardAnswersNeedProofThatNothingIsCloser(t *testing.T) {
	for mode, denial := range map[string]denialMode{"NSEC": withNSEC, "NSEC3": withNSEC3} {
		t.Run(mode, func(t *testing.T) {
			n, example, _ := smallInternet(t, denial)
			example.add("real.wild A 192.0.2.10", "*.w2 CNAME www")
			n.server(exampleAddr).behave = func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
				m := honest()
				switch q.Question[0].Name {
				case "bare.wild.example.com.", "bare.w2.example.com.":
					m.Ns = nil
				case "real.wild.example.com.": // a name that exists, hidden by the wildcard
					m.Answer = example.signed(example.rrs["*.wild.example.com."][dns.TypeA], "real.wild.example.com.")
					m.Ns = example.proofs("any.wild.example.com.", "real.wild.example.com.", "zzz.example.com.")
				}
				return m, nil
			}
			r := n.resolver()
			for _, name := range []string{"bare.wild", "bare.w2", "real.wild"} {
				expectFailure(t, ask(t, r, name+".example.com. A"), dns.ExtendedErrorCodeNSECMissing)
			}
		})
	}
}

// One server that is behind, or spoofed for, does not make a name bogus.
func TestAnotherServerIsAskedWhenOneGivesBogusData(t *testing.T) {
	n := newInternet(t)
	n.zone(".", withNSEC, rootAddr)
	z := n.zone("example.", withNSEC, exampleAddr, otherAddr)
	z.add("www A 192.0.2.80")
	n.server(exampleAddr).behave = func(_ *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		for _, rr := range m.Answer {
			if sig, ok := rr.(*dns.RRSIG); ok {
				sig.Expiration = sig.Inception
			}
		}
		return m, nil
	}
	for range 10 { // whichever is asked first
		expect(t, ask(t, n.resolver(), "www.example. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
	}
}

func TestZonesOfUnknownAlgorithmsAreInsecureAndSayWhy(t *testing.T) {
	for _, c := range []struct {
		name   string
		ede    uint16
		change func(*dns.DS)
	}{
		{"an unknown key algorithm", dns.ExtendedErrorCodeUnsupportedDNSKEYAlgorithm, func(d *dns.DS) { d.Algorithm = 200 }},
		{"an unknown digest", dns.ExtendedErrorCodeUnsupportedDSDigestType, func(d *dns.DS) { d.DigestType = 200 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, _, _ := smallInternet(t, withNSEC)
			c.change(n.zones["com."].rrs["example.com."][dns.TypeDS][0].(*dns.DS))
			r := n.resolver()
			for range 2 {
				res := ask(t, r, "www.example.com. A")
				expect(t, res, dns.RcodeSuccess, dnssec.Insecure, "192.0.2.80")
				if len(res.EDE) != 1 || res.EDE[0].Code != c.ede {
					t.Errorf("EDE %v", res.EDE)
				}
			}
		})
	}
}

func TestCostlyNSEC3IsInsecureButOnlyWhenSigned(t *testing.T) {
	n, example, _ := smallInternet(t, withNSEC3)
	example.iterations = dnssec.MaxIterations + 1
	res := ask(t, n.resolver(), "none.example.com. A")
	expect(t, res, dns.RcodeNameError, dnssec.Insecure)
	if len(res.EDE) != 1 || res.EDE[0].Code != dns.ExtendedErrorCodeUnsupportedNSEC3IterValue {
		t.Errorf("EDE %v", res.EDE)
	}

	n, _, _ = smallInternet(t, withNSEC3)
	n.server(exampleAddr).behave = func(_ *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		for _, rr := range m.Ns {
			if x, ok := rr.(*dns.NSEC3); ok {
				x.Iterations = 2500 // after signing: a way to have a proof waived
			}
		}
		return m, nil
	}
	expectFailure(t, ask(t, n.resolver(), "none.example.com. A"), dns.ExtendedErrorCodeNSECMissing)
}

// A zone whose parent is on the same servers is met without a referral.
func TestZonesThatShareServersAreToldApart(t *testing.T) {
	for mode, denial := range denialModes {
		for parentMode, parentDenial := range map[string]denialMode{"NSEC": withNSEC, "NSEC3": withNSEC3} {
			t.Run(mode+" below "+parentMode, func(t *testing.T) {
				n := newInternet(t)
				n.zone(".", withNSEC, rootAddr)
				n.zone("example.", parentDenial, exampleAddr)
				child := n.zone("child.example.", denial, exampleAddr)
				child.add("www A 192.0.2.80", "a.b.c A 192.0.2.81")
				status, denied := dnssec.Secure, dnssec.Secure
				if denial == unsigned {
					status, denied = dnssec.Insecure, dnssec.Insecure
				}
				if denial == withOptOut {
					denied = dnssec.Insecure
				}
				for _, minimised := range []bool{true, false} {
					r := n.resolver(func(c *Config) { c.NoMinimisation = !minimised })
					expect(t, ask(t, r, "www.child.example. A"), dns.RcodeSuccess, status, "192.0.2.80")
					expect(t, ask(t, r, "a.b.c.child.example. A"), dns.RcodeSuccess, status, "192.0.2.81")
					expect(t, ask(t, r, "none.child.example. A"), dns.RcodeNameError, denied)
					expect(t, ask(t, r, "www.child.example. MX"), dns.RcodeSuccess, status)
				}
			})
		}
	}
}

func TestTrustAnchorsBelowAnUnsignedRootAreUsed(t *testing.T) {
	n := newInternet(t)
	n.zone(".", unsigned, rootAddr)
	n.zone("com.", unsigned, tldAddr)
	island := n.zone("island.com.", withNSEC, exampleAddr)
	island.add("www A 192.0.2.80")
	for name, anchor := range map[string]dns.RR{"DS": island.key.ToDS(dns.SHA384), "DNSKEY": island.key} {
		r := n.resolver(func(c *Config) { c.Anchors = []dns.RR{anchor} })
		t.Run(name, func(t *testing.T) {
			expect(t, ask(t, r, "www.island.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
			expect(t, ask(t, r, "none.island.com. A"), dns.RcodeNameError, dnssec.Secure)
			expect(t, ask(t, r, "none.com. A"), dns.RcodeNameError, dnssec.Insecure)
		})
	}
}

func TestWithoutAnchorsNothingIsSecureAndAllResolves(t *testing.T) {
	n, example, _ := smallInternet(t, withNSEC)
	example.newKey() // would be bogus
	r := n.resolver(func(c *Config) { c.Anchors = nil })
	expect(t, ask(t, r, "www.example.com. A"), dns.RcodeSuccess, dnssec.Insecure, "192.0.2.80")
}

func TestWrongRootAnchorMakesAllBogus(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	r := n.resolver(func(c *Config) { c.Anchors[0].(*dns.DS).KeyTag++ })
	expectFailure(t, ask(t, r, "www.example.com. A"), dns.ExtendedErrorCodeDNSKEYMissing)
}

// Keys that cannot be fetched say nothing of the data: it is not remembered as
// bogus, and resolves as soon as the servers answer again (RFC 4035 §4.3).
func TestSilenceIsNotBogus(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	n.server(exampleAddr).behave = func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		if q.Question[0].Qtype == dns.TypeDNSKEY {
			return nil, errSilence
		}
		return honest(), nil
	}
	r := n.resolver()
	res := ask(t, r, "www.example.com. A")
	expectFailure(t, res, dns.ExtendedErrorCodeNoReachableAuthority)
	if res.Status == dnssec.Bogus {
		t.Error("called bogus")
	}
	n.server(exampleAddr).behave = nil
	n.pass(failureTTL)
	expect(t, ask(t, r, "www.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
}

// Data fetched for a client that checks by itself is for such clients only.
func TestUncheckedDataIsKeptApart(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	r := n.resolver()
	res := ask(t, r, "www.example.com. A", checkingDisabled)
	expect(t, res, dns.RcodeSuccess, dnssec.Indeterminate, "192.0.2.80")
	expect(t, ask(t, r, "www.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
	expect(t, ask(t, r, "www.example.com. A", checkingDisabled), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
}

// KeyTrap (CVE-2023-50387): many keys of one tag, many signatures, none good.
func TestCollidingKeysAndSignaturesCostABoundedNumberOfChecks(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	n.server(exampleAddr).behave = func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		if q.Question[0].Name != "www.example.com." {
			return m, nil
		}
		for _, rr := range m.Answer {
			if sig, ok := rr.(*dns.RRSIG); ok {
				for i := range 200 {
					bad := dns.Copy(sig).(*dns.RRSIG)
					bad.OrigTtl += uint32(i) + 1
					m.Answer = append([]dns.RR{bad}, m.Answer...)
				}
			}
		}
		return m, nil
	}
	r := n.resolver()
	task := r.newTask(false)
	res := task.follow(t.Context(), Request{Question: Question{"www.example.com.", dns.TypeA}})
	expectFailure(t, res, dns.ExtendedErrorCodeOther)
	failures := task.v.Work.Spent.Failures
	if failures > r.config.Limits.Validation.Failures {
		t.Errorf("%d failed checks", failures)
	}
	if spent := task.sum(); spent.Signatures <= failures || spent.Queries == 0 {
		t.Errorf("%+v is to be charged, with %d failed checks", spent, failures)
	}
	if res.Status == dnssec.Bogus {
		t.Error("what was not checked is called bogus")
	}
}
