package local

import (
	"strings"
	"testing"

	"github.com/miekg/dns"

	"cordon/resolver/wire"
)

func newZones(t testing.TB, c Config) *Zones {
	t.Helper()
	z, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// ask asks as a client would; nil means that the question is not answered here.
func ask(t testing.TB, z *Zones, name string, qtype, qclass uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	m.Question[0].Qclass = qclass
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var q wire.Query
	if err := q.Parse(packet); err != nil {
		t.Fatal(err)
	}
	a, ok := z.Lookup(q.Name(), q.Type, q.Class)
	if !ok {
		return nil
	}
	reply := new(dns.Msg)
	if err := reply.Unpack(a.Append(nil, &q, 512)); err != nil {
		t.Fatal(err)
	}
	return reply
}

func TestSpecialNamesAreAnsweredHere(t *testing.T) {
	z := newZones(t, Config{})
	tests := []struct {
		name  string
		qtype uint16
		want  string // answer, "NXDOMAIN zone", "NODATA zone", or "" for not answered here
	}{
		{"localhost", dns.TypeA, "127.0.0.1"},
		{"localhost", dns.TypeAAAA, "::1"},
		{"localhost", dns.TypeANY, "127.0.0.1"},
		{"localhost", dns.TypeMX, "NODATA localhost."},
		{"a.b.LocalHost", dns.TypeA, "127.0.0.1"},
		{"a.localhost", dns.TypeNS, "NODATA localhost."},
		{"localhost", dns.TypeDS, "NODATA localhost."},
		{"localhost.example", dns.TypeA, ""},
		{"notlocalhost", dns.TypeA, ""},

		{"www.invalid", dns.TypeA, "NXDOMAIN invalid."},
		{"invalid", dns.TypeA, "NODATA invalid."},
		{"printer.local", dns.TypeA, "NXDOMAIN local."},
		{"duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion", dns.TypeA, "NXDOMAIN onion."},
		{"Name.ALT", dns.TypeTXT, "NXDOMAIN alt."},
		{"onion.example", dns.TypeA, ""},

		{"example", dns.TypeA, ""},
		{"www.example", dns.TypeA, ""},
		{"www.test", dns.TypeA, ""},
		{".", dns.TypeNS, ""},
		{"arpa", dns.TypeNS, ""},
		{"in-addr.arpa", dns.TypeNS, ""},

		{"home.arpa", dns.TypeSOA, "home.arpa. nobody.invalid. 1 3600 1200 604800 10800"},
		{"home.arpa", dns.TypeDS, ""},
		{"router.home.arpa", dns.TypeA, "NXDOMAIN home.arpa."},
		{"router.home.arpa", dns.TypeDS, "NXDOMAIN home.arpa."},

		{"1.0.0.10.in-addr.arpa", dns.TypePTR, "NXDOMAIN 10.in-addr.arpa."},
		{"10.in-addr.arpa", dns.TypeNS, "10.in-addr.arpa."},
		{"10.in-addr.arpa", dns.TypeDS, ""},
		{"110.in-addr.arpa", dns.TypePTR, ""},
		{"1.1.15.172.in-addr.arpa", dns.TypePTR, ""},
		{"1.1.16.172.in-addr.arpa", dns.TypePTR, "NXDOMAIN 16.172.in-addr.arpa."},
		{"1.1.31.172.in-addr.arpa", dns.TypePTR, "NXDOMAIN 31.172.in-addr.arpa."},
		{"1.1.32.172.in-addr.arpa", dns.TypePTR, ""},
		{"1.1.63.100.in-addr.arpa", dns.TypePTR, ""},
		{"1.1.64.100.in-addr.arpa", dns.TypePTR, "NXDOMAIN 64.100.in-addr.arpa."},
		{"1.1.127.100.in-addr.arpa", dns.TypePTR, "NXDOMAIN 127.100.in-addr.arpa."},
		{"1.1.128.100.in-addr.arpa", dns.TypePTR, ""},
		{"1.1.168.192.in-addr.arpa", dns.TypePTR, "NXDOMAIN 168.192.in-addr.arpa."},
		{"168.192.in-addr.arpa", dns.TypePTR, "NODATA 168.192.in-addr.arpa."},
		{"192.in-addr.arpa", dns.TypePTR, ""},
		{"1.0.0.127.in-addr.arpa", dns.TypePTR, "localhost."},
		{"0.0.127.in-addr.arpa", dns.TypePTR, "NODATA 127.in-addr.arpa."},
		{"2.0.0.127.in-addr.arpa", dns.TypePTR, "NXDOMAIN 127.in-addr.arpa."},
		{"1." + strings.Repeat("0.", 31) + "ip6.arpa", dns.TypePTR, "localhost."},
		{"2." + strings.Repeat("0.", 31) + "ip6.arpa", dns.TypePTR, ""},
		{strings.Repeat("0.", 32) + "ip6.arpa", dns.TypePTR, "NODATA " + strings.Repeat("0.", 32) + "ip6.arpa."},
		{"1.d.f.ip6.arpa", dns.TypePTR, "NXDOMAIN d.f.ip6.arpa."},
		{"1.b.e.f.ip6.arpa", dns.TypePTR, "NXDOMAIN b.e.f.ip6.arpa."},
		{"1.c.e.f.ip6.arpa", dns.TypePTR, ""},
		{"1.8.b.d.0.1.0.0.2.ip6.arpa", dns.TypePTR, "NXDOMAIN 8.b.d.0.1.0.0.2.ip6.arpa."},

		{"_dns.resolver.arpa", dns.TypeSVCB, "NODATA resolver.arpa."},
		{"_dns.resolver.arpa", dns.TypeA, "NODATA resolver.arpa."},
		{"resolver.arpa", dns.TypeDS, "NODATA resolver.arpa."},
		{"any.name.resolver.arpa", dns.TypeA, "NODATA resolver.arpa."},
		{"resolver.arpa", typeRESINFO, "NODATA resolver.arpa."},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+dns.Type(tt.qtype).String(), func(t *testing.T) {
			got := ""
			if m := ask(t, z, tt.name, tt.qtype, dns.ClassINET); m != nil {
				got = outcome(m)
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// outcome sums up a reply: the data of its answer, or the kind of a negative
// one with the owner of its SOA.
func outcome(m *dns.Msg) string {
	if len(m.Answer) > 0 {
		if m.Answer[0].Header().Name != m.Question[0].Name {
			return "owner " + m.Answer[0].Header().Name
		}
		return strings.TrimPrefix(m.Answer[0].String(), m.Answer[0].Header().String())
	}
	kind := "NODATA "
	if m.Rcode != dns.RcodeSuccess {
		kind = dns.RcodeToString[m.Rcode] + " "
	}
	if len(m.Ns) != 1 || m.Ns[0].Header().Rrtype != dns.TypeSOA {
		return kind + "without SOA"
	}
	return kind + strings.ToLower(m.Ns[0].Header().Name)
}

func TestRESINFOTellsWhatIsConfigured(t *testing.T) {
	z := newZones(t, Config{QnameMin: true, ExtendedErrors: []uint16{4, 16}, InfoURL: "https://resolver.example/about"})
	m := ask(t, z, "resolver.arpa", typeRESINFO, dns.ClassINET)
	if m == nil || len(m.Answer) != 1 {
		t.Fatalf("reply\n%v", m)
	}
	want := `"qnamemin" "exterr=4,16" "infourl=https://resolver.example/about"`
	if got := strings.TrimPrefix(m.Answer[0].String(), m.Answer[0].Header().String()); got != want {
		t.Errorf("RESINFO %s, want %s", got, want)
	}
}

func TestOtherClassesAreRefusedAndTheResolverHidesItself(t *testing.T) {
	hidden := newZones(t, Config{})
	open := newZones(t, Config{Version: "cordon 1", Hostname: "node1"})
	tests := []struct {
		zones  *Zones
		name   string
		qtype  uint16
		qclass uint16
		want   string
	}{
		{hidden, "version.bind", dns.TypeTXT, dns.ClassCHAOS, "REFUSED"},
		{hidden, "id.server", dns.TypeTXT, dns.ClassCHAOS, "REFUSED"},
		{open, "Version.Bind", dns.TypeTXT, dns.ClassCHAOS, `"cordon 1"`},
		{open, "version.server", dns.TypeTXT, dns.ClassCHAOS, `"cordon 1"`},
		{open, "hostname.bind", dns.TypeTXT, dns.ClassCHAOS, `"node1"`},
		{open, "id.server", dns.TypeANY, dns.ClassCHAOS, `"node1"`},
		{open, "id.server", dns.TypeA, dns.ClassCHAOS, "REFUSED"},
		{open, "authors.bind", dns.TypeTXT, dns.ClassCHAOS, "REFUSED"},
		{open, "version.bind", dns.TypeTXT, dns.ClassHESIOD, "REFUSED"},
		{open, "www.example", dns.TypeA, dns.ClassANY, "REFUSED"},
		{open, "www.example", dns.TypeA, dns.ClassNONE, "REFUSED"},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+dns.Class(tt.qclass).String(), func(t *testing.T) {
			m := ask(t, tt.zones, tt.name, tt.qtype, tt.qclass)
			if m == nil {
				t.Fatal("not answered")
			}
			got := dns.RcodeToString[m.Rcode]
			if len(m.Answer) == 1 {
				got = strings.TrimPrefix(m.Answer[0].String(), m.Answer[0].Header().String())
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestSettingsThatDoNotFitAreRefused(t *testing.T) {
	for name, c := range map[string]Config{
		"an address that is not https": {InfoURL: "http://resolver.example/"},
		"an address too long":          {InfoURL: "https://" + strings.Repeat("x", 250)},
		"a version too long":           {Version: strings.Repeat("x", 256)},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New(c); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	z := newZones(t, Config{})
	for _, name := range []string{"www.example.com", "4.4.8.8.in-addr.arpa", "a.localhost", "x.onion"} {
		wireName, err := wire.ParseName(name)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { z.Lookup(wireName, dns.TypeA, dns.ClassINET) }); n != 0 {
			t.Errorf("Lookup(%s) allocates %v times", name, n)
		}
	}
}

// FuzzLookup gives Lookup names of any bytes: it answers exactly what the
// naive search through all suffixes finds.
func FuzzLookup(f *testing.F) {
	z := newZones(f, Config{})
	apexes := make(map[string]bool)
	collect(&z.root, "\x00", apexes)
	f.Add([]byte("\x03www\x09localhost\x00"))
	f.Add([]byte("\x011\x0210\x07in-addr\x04arpa\x00"))
	f.Add([]byte("\x09localhos"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, packetName []byte) {
		packet := append([]byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, packetName...)
		var q wire.Query
		if q.Parse(append(packet, 0, 1, 0, 1)) != nil {
			z.Lookup(packetName, dns.TypeA, dns.ClassINET) // must not panic
			return
		}
		want := false
		for rest := q.Name(); len(rest) > 1; rest = rest[1+rest[0]:] {
			want = want || apexes[string(rest)]
		}
		a, got := z.Lookup(q.Name(), dns.TypeA, dns.ClassINET)
		if got != want {
			t.Fatalf("Lookup(%q) = %v, want %v", q.Name(), got, want)
		}
		if got {
			if err := new(dns.Msg).Unpack(a.Append(nil, &q, 512)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func collect(n *node, suffix string, apexes map[string]bool) {
	if n.zone != nil {
		apexes[suffix] = true
	}
	for label, child := range n.children {
		collect(child, label+suffix, apexes)
	}
}

func BenchmarkLookup(b *testing.B) {
	z := newZones(b, Config{})
	name, err := wire.ParseName("www.example.com")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		z.Lookup(name, dns.TypeA, dns.ClassINET)
	}
}
