package fleet

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"cordon/test/await"

	"github.com/miekg/dns"
)

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// fetch makes a full transfer; without a key's name it does not sign.
func (f *fleet) fetch(server netip.AddrPort, from, key, algorithm, secret string) ([]string, error) {
	m := new(dns.Msg).SetAxfr(zoneName + ".")
	if key != "" {
		m.SetTsig(key, algorithm, 300, time.Now().Unix())
	}
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", server.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	tr := &dns.Transfer{Conn: &dns.Conn{Conn: c}, TsigSecret: map[string]string{key: secret}}
	messages, err := tr.In(m, server.String())
	if err != nil {
		return nil, err
	}
	var all []string
	for e := range messages {
		err = errors.Join(err, e.Error)
		for _, rr := range e.RR {
			all = append(all, rr.String())
		}
	}
	return all, err
}

// TestTheListLeavesToPeersAlone asks the running program for its policy zone in all the
// ways in which lists have leaked.
func TestTheListLeavesToPeersAlone(t *testing.T) {
	f := newFleet(t, entries(1)...)
	await.Nil(f.t, "a transfer", func() error {
		_, err := f.fetch(f.primary, "127.0.0.1", "bind.", dns.HmacSHA256, bindSecret)
		return err
	})
	for _, c := range []struct {
		name                         string
		server                       netip.AddrPort
		from, key, algorithm, secret string
	}{
		{"without a signature", f.primary, "127.0.0.1", "", "", ""},
		{"with a wrong secret", f.primary, "127.0.0.1", "bind.", dns.HmacSHA256, powerSecret},
		{"with an unknown key", f.primary, "127.0.0.1", "other.", dns.HmacSHA256, bindSecret},
		{"with the right key from a wrong address", f.primary, "127.0.0.2", "bind.", dns.HmacSHA256, bindSecret},
		{"at the resolver's own port", f.cordon, "127.0.0.1", "bind.", dns.HmacSHA256, bindSecret},
		{"at the resolver's own port, without a signature", f.cordon, "127.0.0.1", "", "", ""},
	} {
		if got, err := f.fetch(c.server, c.from, c.key, c.algorithm, c.secret); err == nil || len(got) != 0 {
			t.Errorf("%s: %d records, %v", c.name, len(got), err)
		}
	}
	for _, server := range []netip.AddrPort{f.primary, f.cordon} {
		for _, q := range []dns.Question{
			{Name: zoneName + ".", Qtype: dns.TypeSOA}, {Name: zoneName + ".", Qtype: dns.TypeNS}, {Name: zoneName + ".", Qtype: dns.TypeANY},
			{Name: "d1.fleet." + zoneName + ".", Qtype: dns.TypeA}, {Name: "*.d1.fleet." + zoneName + ".", Qtype: dns.TypeA},
		} {
			for _, network := range []string{"udp", "tcp"} {
				reply, _, err := (&dns.Client{Net: network, Timeout: 5 * time.Second}).Exchange(new(dns.Msg).SetQuestion(q.Name, q.Qtype), server.String())
				if err != nil {
					t.Errorf("%v at %v: %v", q, server, err)
					continue
				}
				if len(reply.Answer) != 0 || (server == f.primary && (reply.Rcode != dns.RcodeRefused || len(reply.Ns)+len(reply.Extra) != 0)) || reply.Rcode == dns.RcodeSuccess {
					t.Errorf("%v at %v: %v", q, server, reply)
				}
			}
		}
	}
}
