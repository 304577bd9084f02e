package cache

import (
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/wire"
)

func TestFlushTakesAnswersThatLeadToTheName(t *testing.T) {
	c := NewAnswers(1 << 20)
	name := wireName(t, "alias.example")
	s, err := wire.Store(wire.Outcome{Name: name, Type: dns.TypeA, Answer: []dns.RR{&dns.CNAME{
		Hdr: dns.RR_Header{Name: "alias.example.", Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: 300}, Target: "www.other.example.",
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct {
		name  string
		below bool
		typ   uint16
		drops int
	}{
		{"www.other.example", false, 0, 1}, {"www.other.example", false, dns.TypeA, 1}, {"other.example", true, 0, 1},
		{"www.other.example", false, dns.TypeAAAA, 0}, {"other.example", false, 0, 0}, {"r.example", true, 0, 0},
	} {
		c.Put(name, dns.TypeA, false, false, s, time.Minute, start)
		if n := c.Flush(wireName(t, f.name), f.below, f.typ); n != f.drops {
			t.Errorf("%+v: dropped %d", f, n)
		}
	}
}

// TestFlushOfRRsetsAgreesWithWhatItSays goes through every use and kind.
func TestFlushOfRRsetsAgreesWithWhatItSays(t *testing.T) {
	a := func(name string) []dns.RR {
		return []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: []byte{192, 0, 2, 1}}}
	}
	entries := map[string]RRset{
		"data":       {Name: "www.example.", Type: dns.TypeA, RRs: a("www.example.")},
		"other type": {Name: "www.example.", Type: dns.TypeAAAA, Kind: NoData},
		"unchecked":  {Name: "www.example.", Type: dns.TypeA, Use: Unchecked, RRs: a("www.example.")},
		"failure":    {Name: "www.example.", Type: dns.TypeA, Use: Failure, Kind: Broken},
		"delegation": {Name: "www.example.", Type: dns.TypeNS, Use: Delegation, RRs: a("www.example.")},
		"child":      {Name: "www.example.", Type: dns.TypeNS, Use: Child, RRs: a("www.example.")},
		"below":      {Name: "a.www.example.", Type: dns.TypeA, RRs: a("a.www.example.")},
		"no name":    {Name: "a.www.example.", Type: dns.TypeA, Use: Unchecked, Kind: NXDomain},
		"none above": {Name: "example.", Type: dns.TypeA, Kind: NXDomain},
		"above":      {Name: "example.", Type: dns.TypeA, RRs: a("example.")},
		"beside":     {Name: "w.example.", Type: dns.TypeA, RRs: a("w.example.")},
		"dotted":     {Name: `a\.www.example.`, Type: dns.TypeA, RRs: a(`a\.www.example.`)},
	}
	all := []string{"data", "other type", "unchecked", "failure", "delegation", "child"}
	for _, f := range []struct {
		name  string
		below bool
		typ   uint16
		gone  []string
	}{
		{"www.example.", false, 0, append(all, "none above")},
		{"www.example.", true, 0, append(all, "none above", "below", "no name")},
		{"www.example.", false, dns.TypeA, []string{"data", "unchecked", "failure", "none above"}},
		{"www.example.", false, dns.TypeDS, []string{"delegation", "none above"}},
		{"www.example.", false, dns.TypeNS, []string{"delegation", "child", "none above"}},
		{"a.www.example.", false, 0, []string{"below", "no name", "none above"}},
		{"nobody.", true, 0, nil},
	} {
		now := start
		c := NewRRsets(1<<20, func() time.Time { return now })
		for what, e := range entries {
			e.TTL = time.Minute
			if !c.Put(e) {
				t.Fatalf("%s is not kept", what)
			}
		}
		n := c.Flush(f.name, f.below, f.typ)
		for what, e := range entries {
			k := rrsetKey{name: e.Name, typ: e.Type, use: e.Use}
			if e.Kind == NXDomain {
				k.typ = dns.TypeNone
			}
			_, kept := c.get(k)
			if kept == slices.Contains(f.gone, what) {
				t.Errorf("%+v: %s is kept: %t", f, what, kept)
			}
		}
		if n != len(f.gone) {
			t.Errorf("%+v: says %d", f, n)
		}
	}
	c := NewRRsets(1<<20, func() time.Time { return start })
	for _, e := range entries {
		e.TTL = time.Minute
		c.Put(e)
	}
	if n := c.Flush(".", true, 0); n != len(entries) || c.Len() != 0 {
		t.Errorf("all: says %d, leaves %d", n, c.Len())
	}
}

func TestFlushTakesTheZonesThatMayDenyTheName(t *testing.T) {
	for _, f := range []struct {
		name  string
		below bool
		gone  []string
	}{
		{"www.example.com.", false, []string{".", "com.", "example.com."}},
		{"com.", false, []string{".", "com."}},
		{"com.", true, []string{".", "com.", "example.com."}},
		{"org.", true, []string{".", "org."}},
	} {
		d := NewDenials(1<<20, func() time.Time { return start })
		for _, zone := range []string{".", "com.", "example.com.", "org."} {
			d.PutSOA(zone, Span{TTL: time.Minute, RRs: []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: ".", Mbox: "."}}})
		}
		n := d.Flush(f.name, f.below)
		for _, zone := range []string{".", "com.", "example.com.", "org."} {
			if d.Knows(zone) == slices.Contains(f.gone, zone) {
				t.Errorf("%+v: %s is known: %t", f, zone, d.Knows(zone))
			}
		}
		if n != len(f.gone) {
			t.Errorf("%+v: says %d", f, n)
		}
	}
}
