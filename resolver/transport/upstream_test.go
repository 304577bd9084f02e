package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"cordon/resolver/cookie"
)

// udpServer answers each datagram with what reply sends, until the test ends.
func udpServer(t *testing.T, reply func(query []byte, send func([]byte))) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, peer, err := conn.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue // ICMP: the client has gone
			}
			reply(bytes.Clone(buf[:n]), func(packet []byte) { _, _ = conn.WriteToUDPAddrPort(packet, peer) })
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		done.Wait()
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// tcpServer gives each connection, with its first query, to serve.
func tcpServer(t *testing.T, serve func(query []byte, conn net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			var prefix [2]byte
			if _, err := io.ReadFull(conn, prefix[:]); err == nil {
				query := make([]byte, binary.BigEndian.Uint16(prefix[:]))
				if _, err := io.ReadFull(conn, query); err == nil {
					serve(query, conn)
				}
			}
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		done.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// honest is the right reply: an address, and an alias in the question's case.
func honest(query []byte) []byte {
	var m dns.Msg
	if err := m.Unpack(query); err != nil {
		return nil
	}
	m.Response, m.Authoritative, m.Compress = true, true, true
	name := m.Question[0].Name
	m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 1)}}
	packet, err := m.Pack()
	if err != nil {
		return nil
	}
	return packet
}

// forged changes the right reply.
func forged(query []byte, edit func([]byte) []byte) []byte { return edit(honest(query)) }

func newUpstream(t testing.TB, c UpstreamConfig) *Upstream {
	t.Helper()
	u, err := NewUpstream(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

func exampleQuery() *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion("www.example.", dns.TypeA)
	m.Id = 7
	m.RecursionDesired = false
	m.SetEdns0(1232, true)
	return m
}

func TestUpstreamWaitsPastWhatIsNoReply(t *testing.T) {
	tests := []struct {
		name   string
		first  func(query []byte) []byte
		misses float64
	}{
		{"nothing before the reply", nil, 0},
		{"another ID", func(q []byte) []byte { return forged(q, func(p []byte) []byte { p[0] ^= 1; return p }) }, 1},
		{"the query itself", func(q []byte) []byte { return q }, 1},
		{"another opcode", func(q []byte) []byte { return forged(q, func(p []byte) []byte { p[2] |= 2 << 3; return p }) }, 1},
		{"another name", func(q []byte) []byte { return forged(q, func(p []byte) []byte { p[13] ^= 1; return p }) }, 1},
		{"another type", func(q []byte) []byte {
			return forged(q, func(p []byte) []byte { p[headerLen+len("\x03www\x07example\x00")+1] = 28; return p })
		}, 1},
		{"another class", func(q []byte) []byte {
			return forged(q, func(p []byte) []byte { p[headerLen+len("\x03www\x07example\x00")+3] = 3; return p })
		}, 1},
		{"no question", func(q []byte) []byte { return append(append(bytes.Clone(q[:2]), 0x84, 1), make([]byte, 8)...) }, 1},
		{"two questions", func(q []byte) []byte { return forged(q, func(p []byte) []byte { p[5] = 2; return p }) }, 1},
		{"an empty datagram", func([]byte) []byte { return []byte{} }, 1},
		{"a cut one", func(q []byte) []byte { return forged(q, func(p []byte) []byte { return p[:len(p)-3] }) }, 1},
		{"a record count too high", func(q []byte) []byte { return forged(q, func(p []byte) []byte { p[7] = 9; return p }) }, 1},
		{"a compression loop", func(q []byte) []byte {
			return forged(q, func(p []byte) []byte {
				owner := headerLen + len("\x03www\x07example\x00") + 4
				binary.BigEndian.PutUint16(p[owner:], 0xc000|uint16(owner))
				return p
			})
		}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := udpServer(t, func(query []byte, send func([]byte)) {
				if tt.first != nil {
					send(tt.first(query))
				}
				send(honest(query))
			})
			u := newUpstream(t, UpstreamConfig{UDPTimeout: time.Minute})
			query := exampleQuery()
			reply, err := u.Exchange(t.Context(), server, query, false)
			if err != nil || reply.Truncated || len(reply.Answer) != 1 {
				t.Fatalf("reply %v, %v", reply, err)
			}
			if got := testutil.ToFloat64(u.m.nearMisses); got != tt.misses {
				t.Errorf("%v near misses, want %v", got, tt.misses)
			}
			if query.Id != 7 || query.Question[0].Name != "www.example." {
				t.Errorf("the caller's query was changed: %v", query)
			}
		})
	}
}

func TestUpstreamTakesNothingFromAnotherAddress(t *testing.T) {
	forger, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = forger.Close() }()
	conn, err := dialUDP(udpServer(t, func(query []byte, send func([]byte)) { send(query) }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	client := netip.AddrPortFrom(loopback.Addr(), portOf(t, conn))
	if _, err := forger.WriteToUDPAddrPort([]byte("forged"), client); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("asked")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "asked" {
		t.Errorf("received %q, %v", buf[:n], err)
	}
}

// portOf is the source port of a socket.
func portOf(t *testing.T, socket *os.File) (port uint16) {
	t.Helper()
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		local, e := unix.Getsockname(int(fd))
		if a, ok := local.(*unix.SockaddrInet4); ok {
			port = uint16(a.Port)
		}
		err = e
	}); err != nil {
		t.Fatal(err)
	}
	if err != nil || port == 0 {
		t.Fatalf("port %d, %v", port, err)
	}
	return port
}

func TestUpstreamAsksForTCPWhenTooMuchIsForged(t *testing.T) {
	server := udpServer(t, func(query []byte, send func([]byte)) {
		for range 5 {
			send(forged(query, func(p []byte) []byte { p[0] ^= 1; return p }))
		}
	})
	u := newUpstream(t, UpstreamConfig{UDPTimeout: time.Minute, NearMisses: 5})
	reply, err := u.Exchange(t.Context(), server, exampleQuery(), false)
	if err != nil || !reply.Truncated || len(reply.Answer) != 0 || reply.Question[0].Name != "www.example." {
		t.Fatalf("reply %v, %v", reply, err)
	}
	if got := testutil.ToFloat64(u.m.suspicious); got != 1 {
		t.Errorf("%v queries counted as suspicious", got)
	}
}

func TestUpstreamHandsBackTruncatedReplies(t *testing.T) {
	server := udpServer(t, func(query []byte, send func([]byte)) {
		send(forged(query, func(p []byte) []byte { p[2] |= 2; return p }))
	})
	reply, err := newUpstream(t, UpstreamConfig{}).Exchange(t.Context(), server, exampleQuery(), false)
	if err != nil || !reply.Truncated || len(reply.Answer) != 1 {
		t.Errorf("reply %v, %v", reply, err)
	}
	server = udpServer(t, func(query []byte, send func([]byte)) {
		send(forged(query, func(p []byte) []byte { p[2] |= 2; return p[:len(p)-5] }))
	})
	reply, err = newUpstream(t, UpstreamConfig{}).Exchange(t.Context(), server, exampleQuery(), false)
	if err != nil || !reply.Truncated || len(reply.Answer) != 0 {
		t.Errorf("cut in a record: reply %v, %v", reply, err)
	}
}

func TestUpstreamMixesTheCaseAndGivesItBack(t *testing.T) {
	var mu sync.Mutex
	asked := make(map[string]bool)
	server := udpServer(t, func(query []byte, send func([]byte)) {
		var m dns.Msg
		if m.Unpack(query) == nil {
			mu.Lock()
			asked[m.Question[0].Name] = true
			mu.Unlock()
		}
		send(honest(query))
	})
	u := newUpstream(t, UpstreamConfig{UDPTimeout: time.Minute, MixCase: true})
	for range 20 {
		reply, err := u.Exchange(t.Context(), server, exampleQuery(), false)
		if err != nil {
			t.Fatal(err)
		}
		if got := reply.Question[0].Name; got != "www.example." {
			t.Errorf("question %s", got)
		}
		if got := reply.Answer[0].Header().Name; got != "www.example." {
			t.Errorf("owner %s", got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(asked) < 10 {
		t.Errorf("20 queries were asked in %d mixtures only", len(asked))
	}
}

func TestUpstreamDoesNotBelieveAReplyInAnotherCase(t *testing.T) {
	for name, says := range map[string]string{
		"a server that writes all in lower case": "\x03www\x07example\x00",
		"a forger who knows all but the case":    "\x03wWw\x07eXaMpLe\x00",
	} {
		t.Run(name, func(t *testing.T) {
			server := udpServer(t, func(query []byte, send func([]byte)) {
				if !bytes.HasPrefix(query[headerLen:], []byte(says)) { // one in 1024 is guessed
					send(forged(query, func(p []byte) []byte { copy(p[headerLen:], says); return p }))
				}
			})
			u := newUpstream(t, UpstreamConfig{UDPTimeout: time.Second, MixCase: true})
			doubted := 0
			for range 20 {
				reply, err := u.Exchange(t.Context(), server, exampleQuery(), false)
				if reply != nil {
					t.Fatalf("believed %v", reply)
				}
				var e interface{ AlteredCase() bool }
				if errors.As(err, &e) && e.AlteredCase() {
					doubted++
				}
			}
			if got := testutil.ToFloat64(u.m.alteredCase); doubted < 18 || got != float64(doubted) {
				t.Errorf("told %d times of 20, counted %v", doubted, got)
			}
			if got := testutil.ToFloat64(u.m.nearMisses); got != 0 {
				t.Errorf("%v near misses: it was waited past", got)
			}
		})
	}
}

func TestUpstreamTakesAReplyInAnotherCaseWithoutMixCase(t *testing.T) {
	server := udpServer(t, func(query []byte, send func([]byte)) {
		send(forged(query, func(p []byte) []byte { copy(p[headerLen:], "\x03WWW\x07EXAMPLE\x00"); return p }))
	})
	reply, err := newUpstream(t, UpstreamConfig{}).Exchange(t.Context(), server, exampleQuery(), false)
	if err != nil || reply.Question[0].Name != "www.example." {
		t.Errorf("reply %v, %v", reply, err)
	}
}

func TestUpstreamTimesOut(t *testing.T) {
	silentUDP := udpServer(t, func([]byte, func([]byte)) {})
	release := make(chan struct{})
	silentTCP := tcpServer(t, func([]byte, net.Conn) { <-release })
	defer close(release)
	u := newUpstream(t, UpstreamConfig{UDPTimeout: 20 * time.Millisecond, StreamTimeout: 20 * time.Millisecond})
	for _, stream := range []bool{false, true} {
		server := silentUDP
		if stream {
			server = silentTCP
		}
		if _, err := u.Exchange(t.Context(), server, exampleQuery(), stream); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stream %v: %v", stream, err)
		}
	}
	if got := testutil.ToFloat64(u.m.udp.timeouts) + testutil.ToFloat64(u.m.tcp.timeouts); got != 2 {
		t.Errorf("%v timeouts counted", got)
	}
}

func TestUpstreamStopsWhenItsCallerDoes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := udpServer(t, func([]byte, func([]byte)) { cancel() })
	_, err := newUpstream(t, UpstreamConfig{UDPTimeout: time.Hour}).Exchange(ctx, server, exampleQuery(), false)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Exchange = %v", err)
	}
}

func TestUpstreamIsNotStoppedByICMP(t *testing.T) {
	closed, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	server := closed.LocalAddr().(*net.UDPAddr).AddrPort()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	u := newUpstream(t, UpstreamConfig{UDPTimeout: 50 * time.Millisecond})
	_, err = u.Exchange(t.Context(), server, exampleQuery(), false)
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("Exchange = %v", err)
	}
	if got := testutil.ToFloat64(u.m.nearMisses); got != 1 {
		t.Errorf("%v near misses", got)
	}
}

func TestUpstreamByTCP(t *testing.T) {
	framed := func(packet []byte) []byte {
		return append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)
	}
	tests := []struct {
		name  string
		serve func(query []byte, conn net.Conn)
		want  string // part of the error; "" for a reply
	}{
		{"a reply", func(q []byte, c net.Conn) { _, _ = c.Write(framed(honest(q))) }, ""},
		{"a reply in single bytes", func(q []byte, c net.Conn) {
			for _, b := range framed(honest(q)) {
				_, _ = c.Write([]byte{b})
			}
		}, ""},
		{"a reply in another case", func(q []byte, c net.Conn) {
			_, _ = c.Write(framed(forged(q, func(p []byte) []byte { copy(p[headerLen:], "\x03WWW"); return p })))
		}, ""},
		{"the end at once", func([]byte, net.Conn) {}, "read the length of the reply"},
		{"half a length", func(_ []byte, c net.Conn) { _, _ = c.Write([]byte{0}) }, "read the length of the reply"},
		{"less than announced", func(q []byte, c net.Conn) { _, _ = c.Write(framed(honest(q))[:20]) }, "unexpected EOF"},
		{"a length of 65535 and no more", func(_ []byte, c net.Conn) { _, _ = c.Write([]byte{0xff, 0xff, 1}) }, "unexpected EOF"},
		{"an empty message", func(_ []byte, c net.Conn) { _, _ = c.Write([]byte{0, 0}) }, "not a reply to this query"},
		{"another ID", func(q []byte, c net.Conn) {
			_, _ = c.Write(framed(forged(q, func(p []byte) []byte { p[0] ^= 1; return p })))
		}, "not a reply to this query"},
		{"garbage behind the question", func(q []byte, c net.Conn) {
			_, _ = c.Write(framed(forged(q, func(p []byte) []byte { return p[:len(p)-3] })))
		}, "malformed reply"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t, UpstreamConfig{MixCase: true})
			reply, err := u.Exchange(t.Context(), tcpServer(t, tt.serve), exampleQuery(), true)
			switch {
			case tt.want == "" && (err != nil || reply.Question[0].Name != "www.example." || len(reply.Answer) != 1):
				t.Errorf("reply %v, %v", reply, err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestUpstreamRefusesWhatItCannotAsk(t *testing.T) {
	u := newUpstream(t, UpstreamConfig{})
	two := exampleQuery()
	two.Question = append(two.Question, two.Question[0])
	bad := exampleQuery()
	bad.Question[0].Name = "no dot at the end"
	for name, tt := range map[string]struct {
		server string
		query  *dns.Msg
	}{
		"the unspecified address": {"0.0.0.0:53", exampleQuery()},
		"a multicast address":     {"224.0.0.251:53", exampleQuery()},
		"port 0":                  {"127.0.0.1:0", exampleQuery()},
		"two questions":           {"127.0.0.1:53", two},
		"no questions":            {"127.0.0.1:53", new(dns.Msg)},
		"a name that is none":     {"127.0.0.1:53", bad},
	} {
		for _, stream := range []bool{false, true} {
			if _, err := u.Exchange(t.Context(), netip.MustParseAddrPort(tt.server), tt.query, stream); err == nil {
				t.Errorf("%s was asked (stream %v)", name, stream)
			}
		}
	}
}

func TestUpstreamPortsAndIDsAreSpread(t *testing.T) {
	const queries = 200
	ids := make(map[uint16]bool)
	ports := make(map[uint16]bool)
	low := 0 // below the kernel's own range of ephemeral ports
	for range queries {
		a, err := newAsked(exampleQuery(), false)
		if err != nil {
			t.Fatal(err)
		}
		ids[binary.BigEndian.Uint16(a.packet)] = true
		conn, err := dialUDP(netip.MustParseAddrPort("127.0.0.1:53"))
		if err != nil {
			t.Fatal(err)
		}
		port := portOf(t, conn)
		_ = conn.Close()
		ports[port] = true
		if port < 1024 {
			t.Errorf("port %d", port)
		}
		if port < 32768 {
			low++
		}
	}
	// 200 out of 65536 collide about 0.3 times; 49 % of the ports are low.
	if len(ids) < queries-5 || len(ports) < queries-5 || low < queries/4 || low > queries*3/4 {
		t.Errorf("%d IDs, %d ports, %d of them low, in %d queries", len(ids), len(ports), low, queries)
	}
}

// withCookie puts a cookie into a packed message, or takes it out with "".
func withCookie(t *testing.T, packet []byte, cookie string) []byte {
	t.Helper()
	var m dns.Msg
	if err := m.Unpack(packet); err != nil {
		t.Fatal(err)
	}
	opt := m.IsEdns0()
	opt.Option = nil
	if cookie != "" {
		opt.Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie}}
	}
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

func TestUpstreamHoldsServersToTheirCookies(t *testing.T) {
	const client, server = "0123456789abcdef", "00112233445566778899aabbccddeeff"
	tests := []struct {
		name, sent, first, then string // then "-": no second reply
		misses                  float64
		doubted                 bool
	}{
		{"the cookie comes back", client + server, client + server, "-", 0, false},
		{"with a new part of the server's", client + server, client + "ffeeddccbbaa9988", "-", 0, false},
		{"a server that gives none yet", client, "", "-", 0, false},
		{"a forger who knows no cookie", client + server, "", "-", 0, true},
		{"a forger who guesses it", client + server, "ffffffffffffffff" + server, client + server, 1, false},
		{"a forger who guesses it, before the server gave one", client, "ffffffffffffffff" + server, client + server, 1, false},
		{"a cookie too short", client, client[:8], client + server, 1, false},
		{"no cookie sent", "", "", "-", 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr := udpServer(t, func(query []byte, send func([]byte)) {
				send(withCookie(t, honest(query), tt.first))
				if tt.then != "-" {
					send(withCookie(t, honest(query), tt.then))
				}
			})
			query := exampleQuery()
			if tt.sent != "" {
				opt := query.IsEdns0()
				opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: tt.sent})
			}
			u := newUpstream(t, UpstreamConfig{UDPTimeout: time.Minute})
			reply, err := u.Exchange(t.Context(), addr, query, false)
			var e interface{ AlteredCase() bool }
			switch {
			case tt.doubted && (reply != nil || !errors.As(err, &e) || e.AlteredCase() || testutil.ToFloat64(u.m.noCookie) != 1):
				t.Errorf("reply %v, %v, counted %v", reply, err, testutil.ToFloat64(u.m.noCookie))
			case !tt.doubted && (err != nil || len(reply.Answer) != 1 || tt.then != "-" && cookie.In(reply) != tt.then):
				t.Errorf("reply %v, %v", reply, err)
			}
			if got := testutil.ToFloat64(u.m.nearMisses); got != tt.misses {
				t.Errorf("%v near misses, want %v", got, tt.misses)
			}
		})
	}
}

func TestUpstreamAsksWithoutFragments(t *testing.T) {
	for _, tt := range []struct {
		server             string
		level, opt, wanted int
	}{
		{"127.0.0.1:53", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE},
		{"[::1]:53", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE},
	} {
		conn, err := dialUDP(netip.MustParseAddrPort(tt.server))
		if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT) {
			t.Logf("%s: this machine has no IPv6", tt.server)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var got int
		if cerr := raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), tt.level, tt.opt) }); cerr != nil || err != nil {
			t.Fatal(cerr, err)
		}
		if got != tt.wanted {
			t.Errorf("%s: path MTU discovery is %d, want %d", tt.server, got, tt.wanted)
		}
		_ = conn.Close()
	}
}

func TestRepliesKeepNothingOfTheBufferTheyCameIn(t *testing.T) {
	a, err := newAsked(exampleQuery(), false)
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(a.packet); err != nil {
		t.Fatal(err)
	}
	m.Response = true
	opt := m.IsEdns0()
	opt.Option = []dns.EDNS0{
		&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"}, &dns.EDNS0_NSID{Code: dns.EDNS0NSID, Nsid: "6162"},
		&dns.EDNS0_PADDING{Padding: []byte("padding")}, &dns.EDNS0_LOCAL{Code: 65001, Data: []byte("local")},
		&dns.EDNS0_EDE{InfoCode: 22, ExtraText: "text"},
	}
	for _, text := range []string{
		"www.example. A 192.0.2.1", "www.example. AAAA 2001:db8::1", "www.example. CNAME other.example.", `www.example. TXT "some text" "more"`,
		"example. SOA ns.example. host.example. 1 2 3 4 5", "example. DS 1 13 2 " + strings.Repeat("ab", 32),
		"www.example. RRSIG A 13 2 60 20300101000000 20200101000000 1 example. " + strings.Repeat("QUJD", 8),
		"www.example. NSEC zzz.example. A RRSIG NSEC", "abc.example. NSEC3 1 0 0 ab " + strings.Repeat("0", 32) + " A RRSIG",
		"www.example. HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1 ech=QUJD key9=value", `www.example. CAA 0 issue "ca.example"`,
		`www.example. TYPE65300 \# 4 01020304`, "www.example. DNSKEY 257 3 13 " + strings.Repeat("QUJD", 8),
	} {
		rr, err := dns.NewRR(strings.Replace(text, " ", " 60 IN ", 1))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		m.Answer = append(m.Answer, rr)
	}
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	reply, err := a.match(packet)
	if err != nil {
		t.Fatal(err)
	}
	want := reply.String()
	for i := range packet {
		packet[i] = 0xff
	}
	if got := reply.String(); got != want {
		t.Errorf("changed with the buffer:\n%s\nwas\n%s", got, want)
	}
}

// FuzzMatch gives a query's matcher any packet: what it accepts has the ID and
// the question of the query.
func FuzzMatch(f *testing.F) {
	query := exampleQuery()
	a, err := newAsked(query, false)
	if err != nil {
		f.Fatal(err)
	}
	copy(a.packet, "\x12\x34")
	f.Add(honest(a.packet))
	f.Add(forged(a.packet, func(p []byte) []byte { copy(p[headerLen:], "\x03WwW"); return p }))
	f.Add(forged(a.packet, func(p []byte) []byte { p[2] |= 2; return p[:len(p)-5] }))
	f.Add(a.packet)
	f.Add([]byte("\x12\x34\x84\x00\x00\x01\x00\x00\x00\x00\x00\x00\x3f"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		reply, err := a.match(bytes.Clone(packet))
		if err != nil {
			if !errors.Is(err, errMismatch) && !errors.Is(err, errMalformed) {
				t.Fatal(err)
			}
			return
		}
		var m dns.Msg
		if err := m.Unpack(packet); err != nil && reply.Truncated && len(reply.Answer)+len(reply.Ns)+len(reply.Extra) == 0 {
			return // cut off in a record; header and question were compared
		} else if err != nil || m.Id != 0x1234 || !m.Response || len(m.Question) != 1 ||
			!strings.EqualFold(m.Question[0].Name, "www.example.") || m.Question[0].Qtype != dns.TypeA {
			t.Fatalf("accepted %x (%v)", packet, err)
		}
		if reply.Question[0] != query.Question[0] {
			t.Fatalf("question %v", reply.Question[0])
		}
	})
}
