package rpz

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// listener is a peer's socket for notifications.
func listener(t *testing.T) *net.UDPConn {
	t.Helper()
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

// notified waits for a notification, which has to be signed with the peer's key, and
// answers it unless rcode is negative.
func notified(t *testing.T, u *net.UDPConn, rcode int) {
	t.Helper()
	b := make([]byte, 4096)
	u.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, from, err := u.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(b[:n]); err != nil {
		t.Fatal(err)
	}
	if m.Opcode != dns.OpcodeNotify || m.Question[0].Name != testZone || m.Question[0].Qtype != dns.TypeSOA || len(m.Answer) != 0 {
		t.Errorf("notification %v", m)
	}
	if err := dns.TsigVerify(b[:n], secretA, "", false); err != nil {
		t.Errorf("its signature: %v", err)
	}
	if rcode < 0 {
		return
	}
	raw, err := new(dns.Msg).SetRcode(m, rcode).Pack()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.WriteTo(raw, from); err != nil {
		t.Fatal(err)
	}
}

// until waits for a counter, which grows when the answer has been read.
func until(t *testing.T, s *served, result string, want float64) {
	t.Helper()
	for range 4000 {
		if testutil.ToFloat64(s.metrics.notifies.WithLabelValues("bind", result)) == want {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%s: %v, want %v", result, testutil.ToFloat64(s.metrics.notifies.WithLabelValues("bind", result)), want)
}

func TestPeersAreToldOfANewZoneUntilTheyAnswer(t *testing.T) {
	u := listener(t)
	peer := testPeers()[0]
	peer.Notify = netip.MustParseAddrPort(u.LocalAddr().String())
	s := serve(t, peer)

	s.Publish(zone(t, 5, list(t, "domain a.example terrorism")))
	notified(t, u, -1) // lost
	notified(t, u, dns.RcodeSuccess)
	until(t, s, notifyTaken, 1)

	same := zone(t, 5, list(t, "domain a.example terrorism"))
	s.Publish(same) // nothing new
	s.Publish(zone(t, 6, list(t, "domain b.example terrorism")))
	notified(t, u, dns.RcodeRefused)
	until(t, s, notifyRefused, 1)
	if n := testutil.ToFloat64(s.metrics.notifies.WithLabelValues("bind", notifyTaken)); n != 1 {
		t.Errorf("the zone that it has was told again: %v", n)
	}
}
