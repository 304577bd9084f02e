package rpz

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// served is a primary that runs, with peers "bind" (127.0.0.1, key a) and "pdns"
// (127.0.0.2, key b).
type served struct {
	*Primary
	t  *testing.T
	at string
	mu sync.Mutex
	// log is what it said; guarded by mu
	log bytes.Buffer
}

func (s *served) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

func (s *served) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

func testKeys(t testing.TB) Keys {
	t.Helper()
	keys, err := parseKeys(strings.NewReader("hmac-sha256:a:" + secretA + "\nhmac-sha512:b:" + secretB))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func testPeers() []Peer {
	return []Peer{
		{Name: "bind", Address: netip.MustParseAddr("127.0.0.1"), Key: "a"},
		{Name: "pdns", Address: netip.MustParseAddr("127.0.0.2"), Key: "b"},
	}
}

func serve(t *testing.T, peers ...Peer) *served {
	t.Helper()
	s := &served{t: t}
	var err error
	s.Primary, err = Listen(PrimaryConfig{
		Zone: testZone, Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Peers: peers, Keys: testKeys(t),
		Clock: time.Now, Registerer: prometheus.NewRegistry(), Log: slog.New(slog.NewTextHandler(s, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.at = s.Addresses()[0].String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the primary ended with %v", err)
		}
	})
	return s
}

// asker is who asks: an address, and a key of an algorithm with a secret.
type asker struct {
	from              string
	key, algo, secret string
}

var (
	bind = asker{"127.0.0.1", "a.", dns.HmacSHA256, secretA}
	pdns = asker{"127.0.0.2", "b.", dns.HmacSHA512, secretB}
)

func (a asker) dialer(network string) *net.Dialer {
	d := &net.Dialer{Timeout: 5 * time.Second}
	ip := net.ParseIP(a.from)
	if network == "tcp" {
		d.LocalAddr = &net.TCPAddr{IP: ip}
	} else {
		d.LocalAddr = &net.UDPAddr{IP: ip}
	}
	return d
}

func (a asker) sign(m *dns.Msg) *dns.Msg {
	if a.key != "" {
		m.SetTsig(a.key, a.algo, fudge, time.Now().Unix())
	}
	return m
}

// ask puts one question and gives the answer; nil where there is none.
func (a asker) ask(s *served, network string, m *dns.Msg) *dns.Msg {
	s.t.Helper()
	c := dns.Client{Net: network, Timeout: 5 * time.Second, Dialer: a.dialer(network), TsigSecret: map[string]string{a.key: a.secret}}
	reply, _, err := c.Exchange(a.sign(m), s.at)
	if err != nil {
		s.t.Logf("no answer: %v", err)
		return nil
	}
	return reply
}

// fetch makes a transfer, as of a serial where it is not 0, and gives its records.
func (a asker) fetch(s *served, serial uint32) ([]dns.RR, error) {
	s.t.Helper()
	m := new(dns.Msg)
	if serial == 0 {
		m.SetAxfr(testZone)
	} else {
		m.SetIxfr(testZone, serial, "localhost.", "nobody.invalid.")
	}
	c, err := a.dialer("tcp").Dial("tcp", s.at)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	tr := &dns.Transfer{Conn: &dns.Conn{Conn: c}, TsigSecret: map[string]string{a.key: a.secret}}
	messages, err := tr.In(a.sign(m), s.at)
	if err != nil {
		return nil, err
	}
	var all []dns.RR
	for e := range messages {
		if e.Error != nil {
			err = errors.Join(err, e.Error)
		}
		all = append(all, e.RR...)
	}
	return all, err
}

func TestPeersGetTheWholeZone(t *testing.T) {
	s := serve(t, testPeers()...)
	var texts []string
	for i := range 3000 { // several messages
		texts = append(texts, fmt.Sprintf("domain listed-%d.example terrorism", i))
	}
	z := zone(t, 9, list(t, texts...))
	s.Publish(z)
	for _, who := range []asker{bind, pdns} {
		got, err := who.fetch(s, 0)
		if err != nil {
			t.Fatalf("%s: %v", who.from, err)
		}
		have := set{}
		for _, rr := range got {
			have[rr.String()] = true
		}
		if !maps.Equal(have, setOf(z)) || len(got) != z.Records()+2 {
			t.Errorf("%s: %d records of %d", who.from, len(got), z.Records()+2)
		}
	}
	if n := testutil.ToFloat64(s.metrics.transfers.WithLabelValues("pdns", kindFull, resultSent)); n != 1 {
		t.Errorf("the metrics say %v transfers", n)
	}
	if n := testutil.ToFloat64(s.metrics.peerSerial.WithLabelValues("bind")); n != 9 {
		t.Errorf("the metrics say that bind has serial %v", n)
	}
}

func TestPeersGetDifferences(t *testing.T) {
	s := serve(t, testPeers()...)
	texts := []string{"domain a.example terrorism", "host b.example minors", "domain c.example terrorism", "domain d.example terrorism"}
	first := zone(t, 5, list(t, texts...))
	s.Publish(first)
	s.Publish(zone(t, 6, list(t, append(texts, "host new.example minors")...)))
	last := zone(t, 7, list(t, append(texts[1:], "host new.example minors")...))
	s.Publish(last)

	got, err := bind.fetch(s, 5)
	if err != nil {
		t.Fatal(err)
	}
	have := setOf(first)
	have.apply(t, got)
	if !maps.Equal(have, setOf(last)) {
		t.Errorf("have %v\nwant %v", have, setOf(last))
	}
	if n := testutil.ToFloat64(s.metrics.transfers.WithLabelValues("bind", kindIncremental, resultSent)); n != 1 {
		t.Errorf("%v transfers were incremental", n)
	}

	if got, err = bind.fetch(s, 7); err != nil || len(got) != 1 {
		t.Errorf("with the newest serial: %v, %v", got, err)
	}
	if got, err = bind.fetch(s, 8); err != nil || len(got) != 1 {
		t.Errorf("with a serial from elsewhere: %v, %v", got, err)
	}
	// From a serial that is no longer known, the zone: SOA, NS, ...
	if got, err = bind.fetch(s, 4); err != nil || len(got) != last.Records()+2 {
		t.Errorf("with a serial that is not known: %d records, %v", len(got), err)
	}
}

func TestPeersAskForTheSerial(t *testing.T) {
	s := serve(t, testPeers()...)
	s.Publish(zone(t, 5, list(t, "domain a.example terrorism")))
	for _, network := range []string{"udp", "tcp"} {
		m := new(dns.Msg).SetQuestion("X7Q2.INVALID.", dns.TypeSOA)
		m.SetEdns0(1232, false)
		reply := bind.ask(s, network, m)
		if reply == nil || reply.Rcode != dns.RcodeSuccess || len(reply.Answer) != 1 || reply.Answer[0].(*dns.SOA).Serial != 5 || reply.IsTsig() == nil || reply.IsEdns0() == nil {
			t.Errorf("%s: %v", network, reply)
		}
	}
	// RFC 1995 §2: by UDP the SOA alone, and the peer comes by TCP.
	reply := bind.ask(s, "udp", new(dns.Msg).SetIxfr(testZone, 4, "localhost.", "nobody.invalid."))
	if reply == nil || len(reply.Answer) != 1 {
		t.Errorf("IXFR by UDP: %v", reply)
	}
}

// TestNobodyElseGetsAnything tries to get the zone, its serial or its name with all
// but the right address and key together.
func TestNobodyElseGetsAnything(t *testing.T) {
	s := serve(t, testPeers()...)
	s.Publish(zone(t, 5, list(t, "domain a.example terrorism")))
	late := func(a asker) func(*dns.Msg) *dns.Msg {
		return func(m *dns.Msg) *dns.Msg { m.SetTsig(a.key, a.algo, fudge, time.Now().Unix()-1000); return m }
	}
	for _, c := range []struct {
		name string
		who  asker
		sign func(*dns.Msg) *dns.Msg // else as who signs
	}{
		{"without a signature", asker{from: "127.0.0.1"}, nil},
		{"with a wrong secret", asker{"127.0.0.1", "a.", dns.HmacSHA256, secretB}, nil},
		{"with a key that is not there", asker{"127.0.0.1", "c.", dns.HmacSHA256, secretA}, nil},
		{"with another peer's key", asker{"127.0.0.1", "b.", dns.HmacSHA512, secretB}, nil},
		{"with a weaker algorithm", asker{"127.0.0.1", "a.", dns.HmacSHA1, secretA}, nil},
		{"with another algorithm", asker{"127.0.0.1", "a.", dns.HmacSHA512, secretA}, nil},
		{"with a signature of long ago", bind, late(bind)},
		{"with the right key from a wrong address", asker{"127.0.0.3", "a.", dns.HmacSHA256, secretA}, nil},
		{"with the right key from another peer's address", asker{"127.0.0.2", "a.", dns.HmacSHA256, secretA}, nil},
	} {
		for _, qtype := range []uint16{dns.TypeAXFR, dns.TypeIXFR, dns.TypeSOA, dns.TypeA, dns.TypeNS, dns.TypeANY} {
			for _, network := range []string{"udp", "tcp"} {
				m := new(dns.Msg).SetQuestion(testZone, qtype)
				if qtype == dns.TypeIXFR {
					m.SetIxfr(testZone, 1, "localhost.", "nobody.invalid.")
				}
				if qtype == dns.TypeA {
					m.Question[0].Name = "a.example." + testZone
				}
				client := dns.Client{Net: network, Timeout: 5 * time.Second, Dialer: c.who.dialer(network)}
				if c.sign != nil {
					m = c.sign(m)
				} else {
					m = c.who.sign(m)
				}
				conn, err := client.Dial(s.at)
				if err != nil {
					t.Fatal(err)
				}
				conn.TsigSecret = map[string]string{c.who.key: c.who.secret}
				if err := conn.WriteMsg(m); err != nil {
					t.Fatal(err)
				}
				conn.SetReadDeadline(time.Now().Add(5 * time.Second))
				reply, err := conn.ReadMsg()
				conn.Close()
				if err != nil {
					t.Errorf("%s, %s by %s: %v", c.name, dns.TypeToString[qtype], network, err)
					continue
				}
				if reply.Rcode != dns.RcodeRefused || len(reply.Answer)+len(reply.Ns)+len(reply.Extra) != 0 || reply.Authoritative {
					t.Errorf("%s, %s by %s: %v", c.name, dns.TypeToString[qtype], network, reply)
				}
			}
		}
	}
	for reason, least := range map[string]float64{refusedAddress: 12, refusedUnsigned: 12, refusedSignature: 84} {
		if n := testutil.ToFloat64(s.metrics.refused.WithLabelValues(reason)); n != least {
			t.Errorf("refused because of %s: %v, want %v", reason, n, least)
		}
	}
	for _, secret := range []string{"127.0.0.3", secretA, secretB} {
		if strings.Contains(s.said(), secret) {
			t.Errorf("the log holds %s", secret)
		}
	}
}

func TestAPeerGetsTransfersAndTheSOAOfItsZoneAlone(t *testing.T) {
	s := serve(t, testPeers()...)
	s.Publish(zone(t, 5, list(t, "domain a.example terrorism")))
	for _, q := range []dns.Question{
		{Name: "a.example." + testZone, Qtype: dns.TypeA, Qclass: dns.ClassINET},
		{Name: testZone, Qtype: dns.TypeNS, Qclass: dns.ClassINET},
		{Name: testZone, Qtype: dns.TypeANY, Qclass: dns.ClassINET},
		{Name: testZone, Qtype: dns.TypeSOA, Qclass: dns.ClassCHAOS},
		{Name: "example.", Qtype: dns.TypeSOA, Qclass: dns.ClassINET},
		{Name: "a.example." + testZone, Qtype: dns.TypeSOA, Qclass: dns.ClassINET},
		{Name: "example.", Qtype: dns.TypeAXFR, Qclass: dns.ClassINET},
		{Name: testZone, Qtype: dns.TypeAXFR, Qclass: dns.ClassINET}, // by UDP
	} {
		m := new(dns.Msg)
		m.Id, m.Question = dns.Id(), []dns.Question{q}
		reply := bind.ask(s, "udp", m)
		if reply == nil || reply.Rcode != dns.RcodeRefused || len(reply.Answer)+len(reply.Ns) != 0 {
			t.Errorf("%v: %v", q, reply)
		}
	}
}

// An empty zone would unblock everything at the peers, and a zone that they may not
// take would be no better: they keep what they have, and come again.
func TestWithoutAListPeersAreToldToComeAgain(t *testing.T) {
	s := serve(t, testPeers()...)
	reply := bind.ask(s, "udp", new(dns.Msg).SetQuestion(testZone, dns.TypeSOA))
	if reply == nil || reply.Rcode != dns.RcodeServerFailure || reply.IsTsig() == nil || len(reply.Answer) != 0 {
		t.Errorf("SOA: %v", reply)
	}
	for _, serial := range []uint32{0, 4} {
		if got, err := bind.fetch(s, serial); err == nil || len(got) != 0 || !strings.Contains(err.Error(), "2") {
			t.Errorf("transfer from %d: %v, %v", serial, got, err)
		}
	}
}

// TestASlowReaderHoldsUpItselfAlone has a peer begin transfers that it does not read.
func TestASlowReaderHoldsUpItselfAlone(t *testing.T) {
	s := serve(t, testPeers()...)
	var entries []string
	for i := range 60_000 { // far more than sockets hold
		entries = append(entries, fmt.Sprintf("domain listed-number-%d.of-a-long-name-that-fills.example terrorism", i))
	}
	s.Publish(zone(t, 5, list(t, entries...)))
	for range maxTransfers {
		c, err := bind.dialer("tcp").Dial("tcp", s.at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conn := &dns.Conn{Conn: c, TsigSecret: map[string]string{bind.key: bind.secret}}
		if err := conn.WriteMsg(bind.sign(new(dns.Msg).SetAxfr(testZone))); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil { // it has begun
			t.Fatal(err)
		}
	}
	if got, err := bind.fetch(s, 0); err == nil {
		t.Errorf("a third transfer brought %d records", len(got))
	}
	if reply := bind.ask(s, "udp", new(dns.Msg).SetQuestion(testZone, dns.TypeSOA)); reply == nil || len(reply.Answer) != 1 {
		t.Errorf("its question for the serial: %v", reply)
	}
	if got, err := pdns.fetch(s, 0); err != nil || len(got) < 60_000 {
		t.Errorf("the other peer: %d records, %v", len(got), err)
	}
	// The end of the test stops the primary while two transfers are under way.
}

func TestStrangersCannotTakeThePeersConnections(t *testing.T) {
	s := serve(t, testPeers()...)
	s.Publish(zone(t, 5, list(t, "domain a.example terrorism")))
	stranger := asker{from: "127.0.0.9"}
	var all []net.Conn
	for range maxFromStrangers + 10 {
		c, err := stranger.dialer("tcp").Dial("tcp", s.at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all = append(all, c)
	}
	for _, c := range all[maxFromStrangers:] { // they are taken in the order in which they come
		c.SetReadDeadline(time.Now().Add(idleWait / 2))
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a connection too many stays open: %v", err)
		}
	}
	if _, err := bind.fetch(s, 0); err != nil {
		t.Errorf("a peer: %v", err)
	}
}

func TestAPrimaryOfUnusablePeersDoesNotStart(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	for _, c := range []struct {
		peers []Peer
		says  string
	}{
		{[]Peer{{Address: local, Key: "a"}}, "name"},
		{[]Peer{{Name: "x", Address: local, Key: "a"}, {Name: "x", Address: local, Key: "b"}}, "name"},
		{[]Peer{{Name: "x", Key: "a"}}, "address"},
		{[]Peer{{Name: "x", Address: netip.IPv4Unspecified(), Key: "a"}}, "address"},
		{[]Peer{{Name: "x", Address: local, Key: "z"}}, "file of keys"},
		{[]Peer{{Name: "x", Address: local, Key: "a"}, {Name: "y", Address: netip.MustParseAddr("::ffff:127.0.0.1"), Key: "A."}}, "key of its own"},
	} {
		_, err := Listen(PrimaryConfig{Zone: testZone, Peers: c.peers, Keys: testKeys(t)})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c.peers, err)
		}
	}
}
