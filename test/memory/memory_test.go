package main

import (
	"crypto"
	"testing"

	"github.com/miekg/dns"
)

func asks(name string, qtype uint16) *dns.Msg {
	q := new(dns.Msg).SetQuestion(name, qtype)
	return q.SetEdns0(1232, true)
}

func TestTheAuthorityAnswersForEveryNameButThoseThatAreNot(t *testing.T) {
	l := &laboratory{}
	for _, c := range []struct {
		name    string
		qtype   uint16
		rcode   int
		answers int
	}{
		{"host1.fill.", dns.TypeA, dns.RcodeSuccess, 1},
		{"HOST1.Known.", dns.TypeA, dns.RcodeSuccess, 1},
		{"host1.fill.", dns.TypeAAAA, dns.RcodeSuccess, 0},
		{"host1.none.", dns.TypeA, dns.RcodeNameError, 0},
		{"none.", dns.TypeA, dns.RcodeSuccess, 0},
		{"fill.", dns.TypeNS, dns.RcodeSuccess, 1},
		{"fill.", dns.TypeDNSKEY, dns.RcodeSuccess, 0},
		{"ns.fill.", dns.TypeA, dns.RcodeSuccess, 1},
	} {
		m := l.answer(asks(c.name, c.qtype))
		if m.Rcode != c.rcode || len(m.Answer) != c.answers || len(m.Answer) == 0 && len(m.Ns) != 1 {
			t.Errorf("%s %s: %v", c.name, dns.Type(c.qtype), m)
		}
	}
	if l.asked.Load() != 8 || l.askedKnown.Load() != 1 {
		t.Errorf("counted %d questions and %d for known names", l.asked.Load(), l.askedKnown.Load())
	}
}

func TestASignedZoneIsSigned(t *testing.T) {
	l := &laboratory{key: &dns.DNSKEY{Hdr: dns.RR_Header{Name: fillZone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 86400}, Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256}}
	private, err := l.key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	l.private = private.(crypto.Signer)
	for _, q := range []*dns.Msg{asks("host1.fill.", dns.TypeA), asks("fill.", dns.TypeDNSKEY)} {
		m := l.answer(q)
		if len(m.Answer) != 2 {
			t.Fatalf("no signature: %v", m)
		}
		if err := m.Answer[1].(*dns.RRSIG).Verify(l.key, m.Answer[:1]); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatCannotBeMeasuredIsRefused(t *testing.T) {
	for _, args := range [][]string{nil, {"million", "-names", "3"}, {"flood", "-clients", "1000"}} {
		if _, _, err := parse(args); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}
