package local

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestDDRTellsWhichTransportsAreOn(t *testing.T) {
	z := newZones(t, Config{Name: "dns.isp.example", Designated: []Designation{
		{ALPN: []string{"h2", "h3"}, Port: 443, Path: "/dns-query{?dns}", Hints: []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")}},
		{ALPN: []string{"dot"}, Port: 853},
	}})
	m := ask(t, z, "_dns.resolver.arpa", dns.TypeSVCB, dns.ClassINET)
	var got []string
	for _, rr := range m.Answer {
		got = append(got, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	want := []string{
		`1 dns.isp.example. alpn="h2,h3" port="443" ipv4hint="192.0.2.53" ipv6hint="2001:db8::53" dohpath="/dns-query{?dns}"`,
		`2 dns.isp.example. alpn="dot" port="853"`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, name := range []string{"_dns.resolver.arpa", "resolver.arpa", "x._dns.resolver.arpa"} {
		if m := ask(t, z, name, dns.TypeA, dns.ClassINET); outcome(m) != "NODATA resolver.arpa." {
			t.Errorf("%s A: %s", name, outcome(m))
		}
	}
}

func TestDDRNeedsAName(t *testing.T) {
	for _, name := range []string{"", ".", "a..b"} {
		if _, err := New(Config{Name: name, Designated: []Designation{{ALPN: []string{"dot"}, Port: 853}}}); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
}
