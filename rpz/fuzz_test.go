package rpz

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// writer takes answers in (dns.ResponseWriter).
type writer struct {
	from    net.Addr
	status  error
	sent    []*dns.Msg
	longest int
}

func (w *writer) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (w *writer) RemoteAddr() net.Addr { return w.from }
func (w *writer) WriteMsg(m *dns.Msg) error {
	raw, err := m.Pack()
	if err != nil {
		return err
	}
	w.longest = max(w.longest, len(raw))
	w.sent = append(w.sent, m.Copy())
	return nil
}
func (w *writer) Write(b []byte) (int, error) { return len(b), nil }
func (w *writer) Close() error                { return nil }
func (w *writer) TsigStatus() error           { return w.status }
func (w *writer) TsigTimersOnly(bool)         {}
func (w *writer) Hijack()                     {}

// FuzzPrimary gives the primary what comes from the network, by both transports, from
// a peer's address and from elsewhere: whatever is not signed gets nothing.
func FuzzPrimary(f *testing.F) {
	p, err := Listen(PrimaryConfig{Zone: testZone, Peers: testPeers(), Keys: testKeys(f), Clock: time.Now,
		Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	p.Publish(zone(f, 4, list(f, "domain b.example terrorism", "host c.example minors")))
	p.Publish(zone(f, 5, list(f, "domain a.example terrorism", "host c.example minors")))
	for _, m := range []*dns.Msg{
		new(dns.Msg).SetAxfr(testZone), new(dns.Msg).SetIxfr(testZone, 4, "localhost.", "nobody.invalid."),
		new(dns.Msg).SetQuestion(testZone, dns.TypeSOA), new(dns.Msg).SetQuestion("a.example."+testZone, dns.TypeA), new(dns.Msg).SetNotify(testZone),
	} {
		plain, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(plain)
		signed, _, err := dns.TsigGenerateWithProvider(bind.sign(m), p.c.Keys, "", false)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(signed)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, from := range []net.Addr{
			&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)},
			&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, &net.UDPAddr{IP: net.ParseIP("2001:db8::1")},
		} {
			// What the server does before it calls the handler.
			if len(raw) < 12 {
				return
			}
			header := dns.Header{Bits: uint16(raw[2])<<8 | uint16(raw[3]), Qdcount: uint16(raw[4])<<8 | uint16(raw[5]), Ancount: uint16(raw[6])<<8 | uint16(raw[7]),
				Nscount: uint16(raw[8])<<8 | uint16(raw[9]), Arcount: uint16(raw[10])<<8 | uint16(raw[11])}
			q := new(dns.Msg)
			if accept(header) != dns.MsgAccept || q.Unpack(raw) != nil {
				return
			}
			w := &writer{from: from}
			signed := q.IsTsig() != nil
			if signed {
				w.status = dns.TsigVerifyWithProvider(raw, p.c.Keys, "", false)
			}
			p.ServeDNS(w, q)
			if len(w.sent) == 0 || w.longest > dns.MaxMsgSize {
				t.Fatalf("%d answers, of up to %d bytes", len(w.sent), w.longest)
			}
			trusted := signed && w.status == nil && addressOf(from) == netip.MustParseAddr("127.0.0.1")
			for _, m := range w.sent {
				if !trusted && (m.Rcode != dns.RcodeRefused || len(m.Answer)+len(m.Ns)+len(m.Extra) != 0) {
					t.Fatalf("from %v without a right: %v", from, m)
				}
			}
		}
	})
}

func FuzzParseIdentity(f *testing.F) {
	f.Add([]byte(`{"format":"cordon-rpz/1","name":"x7q2.invalid.","serial":5,"digest":"ab"}`))
	f.Add([]byte(`{"format":"cordon-rpz/1","name":"*."}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		k, err := parseIdentity(raw)
		if err != nil {
			return
		}
		if name, err := CheckName(k.Name); err != nil || name != k.Name {
			t.Errorf("the name %q was taken: %v", k.Name, err)
		}
	})
}
