package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// framed is a query as it goes over a stream.
func framed(t testing.TB, name string) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeTXT)
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)
}

// proxyHeader is what a proxy writes for a client; extra are TLVs.
func proxyHeader(command, family byte, addresses []byte, extra string) []byte {
	h := append([]byte(proxySignature), 0x20|command, family)
	h = binary.BigEndian.AppendUint16(h, uint16(len(addresses)+len(extra)))
	return append(append(h, addresses...), extra...)
}

func proxyTCP(client string) []byte {
	addr := netip.MustParseAddrPort(client)
	family, size := byte(0x11), 4
	if addr.Addr().Is6() {
		family, size = 0x21, 16
	}
	b := append(addr.Addr().AsSlice(), make([]byte, size)...)
	b = binary.BigEndian.AppendUint16(b, addr.Port())
	return proxyHeader(1, family, append(b, 0, 53), "\x03\x00\x04abcd")
}

// proxyUDP is a query as a proxy sends it on for a client.
func proxyUDP(t testing.TB, client, name string) []byte {
	h := proxyTCP(client)
	h[13]++ // a datagram
	return append(h, framed(t, name)[2:]...)
}

func TestReadProxy(t *testing.T) {
	for name, tt := range map[string]struct {
		header []byte
		want   string // the client; "" none; "error"
	}{
		"IPv4":                        {proxyTCP("192.0.2.7:4711"), "192.0.2.7:4711"},
		"IPv6":                        {proxyTCP("[2001:db8::7]:4711"), "[2001:db8::7]:4711"},
		"a check of the proxy's own":  {proxyHeader(0, 0, nil, ""), ""},
		"a local one with addresses":  {proxyHeader(0, 0x11, make([]byte, 12), ""), ""},
		"a client of the proxy's UDP": {proxyUDP(t, "192.0.2.7:4711", "now.example.")[:proxyFixed+12+7], "192.0.2.7:4711"},
		"a family without addresses":  {proxyHeader(1, 0x31, make([]byte, 216), ""), ""},
		"addresses that are cut":      {proxyHeader(1, 0x11, make([]byte, 11), ""), "error"},
		"IPv6 addresses that are cut": {proxyHeader(1, 0x21, make([]byte, 35), ""), "error"},
		"too long":                    {proxyHeader(1, 0x11, make([]byte, maxProxy+1), ""), "error"},
		"an unknown command":          {proxyHeader(2, 0x11, make([]byte, 12), ""), "error"},
		"version 1":                   {[]byte("PROXY TCP4 192.0.2.7 192.0.2.1 4711 53\r\n"), "error"},
		"half a header":               {proxyTCP("192.0.2.7:4711")[:20], "error"},
		"nothing":                     {nil, "error"},
	} {
		t.Run(name, func(t *testing.T) {
			in := bytes.NewReader(append(bytes.Clone(tt.header), "rest"...))
			if name == "half a header" || name == "nothing" {
				in = bytes.NewReader(tt.header)
			}
			got, err := readProxy(in)
			switch {
			case tt.want == "error":
				if err == nil {
					t.Errorf("read as %v", got)
				}
				return
			case err != nil:
				t.Fatal(err)
			case got.IsValid() != (tt.want != "") || got.IsValid() && got.String() != tt.want:
				t.Errorf("client %v, want %s", got, tt.want)
			}
			if in.Len() != len("rest") {
				t.Errorf("%d bytes are left, want those behind the header", in.Len())
			}
		})
	}
}

// FuzzReadProxy holds that a header means the same in front of a connection and of
// a datagram, wherever it is cut.
func FuzzReadProxy(f *testing.F) {
	f.Add(proxyTCP("192.0.2.7:4711"))
	f.Add(proxyTCP("[2001:db8::7]:4711"))
	f.Add(proxyHeader(0, 0, nil, ""))
	f.Add(proxyUDP(f, "192.0.2.7:4711", "now.example."))
	f.Add(proxyHeader(1, 0x22, make([]byte, 35), ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.NewReader(b)
		onStream, err := readProxy(in)
		query, inDatagram, ok := cutProxy(b)
		if ok != (err == nil) {
			t.Fatalf("a stream: %v, a datagram: %v", err, ok)
		}
		if !ok {
			return
		}
		if onStream != inDatagram || len(query) != in.Len() {
			t.Fatalf("a stream: %v and %d bytes, a datagram: %v and %d", onStream, in.Len(), inDatagram, len(query))
		}
		if len(b)-in.Len() < proxyFixed {
			t.Fatalf("a header of %d bytes was read as %v", len(b)-in.Len(), onStream)
		}
	})
}

func TestTheProxysClientIsTheClient(t *testing.T) {
	got := make(chan Meta, 1)
	r, a := serveTLS(t, Config{TCP: onLoopback, DoT: onLoopback, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, &fakeHandler{from: func(m Meta) { got <- m }})
	t.Run("over TCP", func(t *testing.T) {
		conn := r.dialTCP()
		if _, err := conn.Write(append(proxyTCP("192.0.2.7:4711"), framed(t, "now.example.")...)); err != nil {
			t.Fatal(err)
		}
		receive(t, conn)
		if m := <-got; m.Peer.String() != "192.0.2.7:4711" {
			t.Errorf("%+v", m)
		}
	})
	t.Run("over TLS", func(t *testing.T) {
		raw := r.dial("tcp", r.DoT()[0].String())
		if _, err := raw.Write(proxyTCP("[2001:db8::7]:4711")); err != nil {
			t.Fatal(err)
		}
		conn := tlsClient(t, raw, a)
		send(t, conn, "now.example.")
		receive(t, conn)
		if m := <-got; m.Peer.String() != "[2001:db8::7]:4711" {
			t.Errorf("%+v", m)
		}
	})
	t.Run("but the proxy's own for its own checks", func(t *testing.T) {
		conn := r.dialTCP()
		if _, err := conn.Write(append(proxyHeader(0, 0, nil, ""), framed(t, "now.example.")...)); err != nil {
			t.Fatal(err)
		}
		receive(t, conn)
		if m := <-got; m.Peer.Addr() != loopback.Addr() {
			t.Errorf("%+v", m)
		}
	})
}

func TestAListedProxyMustSayWhomItSpeaksFor(t *testing.T) {
	r := serve(t, Config{TCP: onLoopback, Handshake: 50 * time.Millisecond, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}, &fakeHandler{})
	plain := r.dialTCP()
	send(t, plain, "now.example.")
	ended(t, plain)
	r.eventually(1, "cordon_streams_closed_total", "protocol")
	ended(t, r.dialTCP()) // silent
	r.eventually(1, "cordon_streams_closed_total", "handshake")
}

func TestNobodyElseMaySpeakForAClient(t *testing.T) {
	// As a query, the header is one of 3338 bytes that never comes whole.
	r := serve(t, Config{TCP: onLoopback, Idle: 50 * time.Millisecond, Proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, &fakeHandler{})
	conn := r.dialTCP()
	if _, err := conn.Write(append(proxyTCP("192.0.2.7:4711"), framed(t, "now.example.")...)); err != nil {
		t.Fatal(err)
	}
	ended(t, conn)
	r.eventually(1, "cordon_streams_closed_total", "idle")
}

func TestLimitsAreOnTheProxysClients(t *testing.T) {
	r := serve(t, Config{TCP: onLoopback, StreamsPerClient: 1, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, &fakeHandler{})
	ask := func(client string) net.Conn {
		conn := r.dialTCP()
		if _, err := conn.Write(append(proxyTCP(client), framed(t, "now.example.")...)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	receive(t, ask("192.0.2.7:1"))
	receive(t, ask("192.0.2.8:1"))
	ended(t, ask("192.0.2.7:2"))
	r.eventually(1, "cordon_streams_refused_total", "client")
	r.eventually(1, "cordon_streams_closed_total", "refused")
}

func TestTheProxysClientIsTheClientOverUDP(t *testing.T) {
	metas := make(chan Meta, 1)
	r := serve(t, Config{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, &fakeHandler{
		from:    func(m Meta) { metas <- m },
		resolve: func(context.Context, string) {},
	})
	conn := r.dialUDP() // connected: the reply has to come to the proxy, from where it asked
	for _, tt := range []struct{ what, client, want string }{
		{"over IPv4", "192.0.2.7:4711", "192.0.2.7:4711"},
		{"over IPv6", "[2001:db8::7]:4711", "[2001:db8::7]:4711"},
		{"for itself", "", conn.LocalAddr().String()},
	} {
		packet := append(proxyHeader(0, 0, nil, ""), framed(t, "now.example.")[2:]...)
		if tt.client != "" {
			packet = proxyUDP(t, tt.client, "now.example.")
		}
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, conn); got != "now.example." {
			t.Errorf("%s: reply to %s", tt.what, got)
		}
		if m := <-metas; m.Peer.String() != tt.want {
			t.Errorf("%s: the client is %v, want %s", tt.what, m.Peer, tt.want)
		}
	}
	if _, err := conn.Write(proxyUDP(t, "192.0.2.7:4711", "later.example.")); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, conn); got != "later.example." {
		t.Errorf("reply to %s, which had to wait", got)
	}
}

func TestAListedProxysDatagramWithoutAHeaderIsDropped(t *testing.T) {
	whole := proxyUDP(t, "192.0.2.7:4711", "now.example.")
	header := len(whole) - (len(framed(t, "now.example.")) - 2)
	tooLong := bytes.Clone(whole)
	tooLong[14] = 0xff
	for what, packet := range map[string][]byte{
		"a plain query":                      whole[header:],
		"half a header":                      whole[:header/2],
		"a header of another version":        append([]byte(proxySignature+"\x31"), whole[13:]...),
		"a header longer than the datagram":  tooLong,
		"a header that says less than it is": append(proxyHeader(1, 0x12, make([]byte, 4), ""), whole[header:]...),
		"two headers":                        append(bytes.Clone(whole[:header]), whole...), // the second is read as a query
	} {
		t.Run(what, func(t *testing.T) {
			r := serve(t, Config{UDP: []netip.AddrPort{loopback}, Sockets: 1, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}, &fakeHandler{})
			conn := r.dialUDP()
			for _, p := range [][]byte{packet, proxyUDP(t, "192.0.2.7:4711", "now.next.")} {
				if _, err := conn.Write(p); err != nil {
					t.Fatal(err)
				}
			}
			if got := receive(t, conn); got != "now.next." {
				t.Errorf("reply to %s", got)
			}
			r.eventually(1, "cordon_queries_total", "udp", "dropped")
		})
	}
}

func TestNobodyElseMaySpeakForAClientOverUDP(t *testing.T) {
	r := serve(t, Config{UDP: []netip.AddrPort{loopback}, Sockets: 1, Proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, &fakeHandler{})
	conn := r.dialUDP()
	if _, err := conn.Write(proxyUDP(t, "192.0.2.7:4711", "now.example.")); err != nil {
		t.Fatal(err)
	}
	send(t, conn, "now.next.")
	if got := receive(t, conn); got != "now.next." {
		t.Errorf("reply to %s", got)
	}
	r.eventually(1, "cordon_queries_total", "udp", "dropped")
}

func TestUDPAnswersAProxysBatchWithoutAllocating(t *testing.T) {
	packet := proxyUDP(t, "192.0.2.7:4711", "now.example.")
	l := newLoop(t, &fakeSocket{}, &constantSession{})
	l.proxies = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("127.0.0.0/8")}
	if n := testing.AllocsPerRun(100, func() {
		fillBatch(l, batchSize, 8)
		for i := range batchSize {
			l.in.messages[i].len = uint32(copy(l.in.packets[i][:], packet))
		}
		l.answer()
		if l.out.replies != batchSize {
			t.Fatalf("%d replies", l.out.replies)
		}
	}); n != 0 {
		t.Errorf("%v allocations per batch", n)
	}
}
