package feed

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// FuzzZone reads zone files: no file breaks the parser, what it says of its rules
// adds up, and each rule in force can be asked for.
func FuzzZone(f *testing.F) {
	for _, rules := range []string{
		"", "bad.example CNAME .\n*.bad.example CNAME *.\n", "24.0.2.0.192.rpz-ip CNAME rpz-drop.\n", "128.1.zz.db8.2001.rpz-client-ip CNAME .\n",
		"x A 192.0.2.1\nx AAAA ::1\nx MX 1 y.\nx SRV 1 1 1 y.\nx TXT a b\n", "x CNAME *.garden.example.\n", "*.ns.example.rpz-nsdname CNAME rpz-passthru.\n",
		"* CNAME .\n", `\000\..x CNAME .` + "\n", "$GENERATE 1-4 a$ CNAME .\n", "x 3600 CH A 1.2.3.4\n",
	} {
		f.Add(head + rules)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := newCompiler("malware", origin, pages{})
		if err != nil {
			t.Fatal(err)
		}
		limits := Limits{Bytes: 1 << 16, Records: 1000}
		if readZone(strings.NewReader(text), "f", origin, limits, c.add) != nil {
			return
		}
		z, err := c.finish()
		if err != nil {
			return
		}
		n := z.qnames.used + z.servers.used + len(z.clients.prefixes) + len(z.answers.prefixes)
		if n > z.Counts.Active || z.Counts.Active > 2*n {
			t.Errorf("%d names and prefixes, %d rules in force", n, z.Counts.Active)
		}
		if bad := z.Counts.Unsupported + z.Counts.Refused + z.Counts.Invalid; min(bad, maxShunned) != len(z.Shunned) {
			t.Errorf("%d not in force, %d named", bad, len(z.Shunned))
		}
		for _, l := range z.locals {
			for _, r := range l.Records {
				if (pages{}).StopPageAddress(r.Addr) || (pages{}).StopPageName(r.Leads) {
					t.Errorf("a record leads to the stop page: %+v", r)
				}
			}
		}
		for _, p := range z.answers.prefixes {
			if got, ok := z.answers.longest(p.prefix.Addr()); !ok || got.prefix.Bits() < p.prefix.Bits() {
				t.Errorf("%v is not found: %v", p.prefix, got.prefix)
			}
		}
		s := NewSet([]*Zone{z})
		s.Answer(Question{Name: []byte("\x03www\x03bad\x07example\x00"), Client: netip.MustParseAddr("192.0.2.1")}, said{t: t})
		s.Answer(Question{Name: []byte(text), Client: netip.MustParseAddr("::1")}, said{t: t}) // no name: triggers nothing, breaks nothing
	})
}

// FuzzTransfer feeds a primary's messages, one behind the other with their lengths
// in front, to the decoder: it ends, and a difference fits or is refused.
func FuzzTransfer(f *testing.F) {
	pack := func(messages ...[]string) (raw []byte) {
		for _, records := range messages {
			m := new(dns.Msg)
			m.SetQuestion(origin, dns.TypeIXFR)
			m.Response = true
			for _, text := range records {
				rr, err := dns.NewRR(text)
				if err != nil {
					f.Fatal(err)
				}
				m.Answer = append(m.Answer, rr)
			}
			packet, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			raw = append(raw, byte(len(packet)>>8), byte(len(packet)))
			raw = append(raw, packet...)
		}
		return raw
	}
	soa := func(serial string) string { return origin + " 60 IN SOA a. b. " + serial + " 2 3 4 5" }
	f.Add(pack([]string{soa("7")}))
	f.Add(pack([]string{soa("8"), "x.rpz.example. 60 IN CNAME ."}, []string{"y.rpz.example. 60 IN CNAME .", soa("8")}))
	f.Add(pack([]string{soa("9"), soa("7"), "x.rpz.example. 60 IN CNAME .", soa("8")}, []string{"y.rpz.example. 60 IN A 192.0.2.1", soa("8"), soa("9"), soa("9")}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		have := &dns.SOA{Hdr: dns.RR_Header{Name: origin, Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: "a.", Mbox: "b.", Serial: 7}
		var got []dns.RR
		d := &decoder{origin: origin, have: have, whole: func(rr dns.RR) error { got = append(got, rr); return nil }}
		for len(raw) >= 2 && d.state != ended {
			n := min(int(raw[0])<<8|int(raw[1]), len(raw)-2)
			message := raw[2 : 2+n]
			raw = raw[2+n:]
			if _, _, err := findTSIG(message); err != nil {
				return
			}
			m := new(dns.Msg)
			if m.Unpack(message) != nil {
				return
			}
			for _, rr := range m.Answer {
				if d.add(rr) != nil {
					return
				}
			}
		}
		if d.state != ended {
			return
		}
		if d.delta != nil {
			old := func(to func(dns.RR) error) error {
				return to(&dns.CNAME{Hdr: dns.RR_Header{Name: "x." + origin, Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: "."})
			}
			if d.delta.apply(7, d.soa, old, d.whole) != nil {
				return
			}
		}
		if len(got) == 0 || got[0] != dns.RR(d.soa) {
			t.Errorf("the zone does not begin with its SOA: %v", got)
		}
	})
}
