package transport

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
	"golang.org/x/sys/unix"
)

// TestASlowlorisIsBounded opens thousands of connections that send a byte and no
// more, by TCP and TLS: those past the client's limit are closed, the others
// cost a bounded amount of memory, and a client that asks is served by UDP and
// from its own place.
func TestASlowlorisIsBounded(t *testing.T) {
	const attackers, places = 5000, 500
	var files unix.Rlimit // Go has raised the soft limit to the hard one
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil || files.Cur < attackers+2*places {
		t.Fatalf("%d open files are allowed (%v): the test needs %d, see ulimit -Hn", files.Cur, err, attackers+2*places)
	}
	r, a := serveTLS(t, Config{UDP: onLoopback, TCP: onLoopback, DoT: onLoopback, Streams: places + 1, StreamsPerClient: places, Idle: time.Hour, Handshake: time.Hour}, &fakeHandler{})
	honest := r.dialDoT(a.trusts("dot"))
	before := heap()
	var conns []net.Conn
	for i := range attackers {
		addr := r.TCP()[0].String()
		if i%2 == 1 {
			addr = r.DoT()[0].String()
		}
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		_, _ = conn.Write([]byte{0}) // it may be closed already
	}
	r.await(func(got float64) bool { return got == attackers-places+1 }, "cordon_streams_refused_total", "client")
	if got := r.counter("cordon_streams"); got != places {
		t.Errorf("%v connections are open", got)
	}
	holdsLittle(t, before, places*64<<10)
	for _, conn := range []net.Conn{honest, r.dialUDP()} {
		send(t, conn, "now.honest.")
		receive(t, conn)
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	r.eventually(1, "cordon_streams")
}

// holdsLittle holds that no more than so many bytes are in use beyond what was before.
func holdsLittle(t *testing.T, before uint64, most int64) {
	t.Helper()
	if grown := int64(heap()) - int64(before); grown > most {
		t.Errorf("%d KiB more are in use than before, want at most %d", grown>>10, most>>10)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// TestAFloodOfStreamsIsBounded has connections open and cancel streams as fast
// as they can, with questions that take long: no more resolutions run than
// there are places, and honest clients are served.
func TestAFloodOfStreamsIsBounded(t *testing.T) {
	const clients, pipeline, inFlight = 8, 16, 32
	release := make(chan struct{})
	var mu sync.Mutex
	working, most := 0, 0
	r, a := serveTLS(t, Config{DoQ: onLoopback, Pipeline: pipeline, InFlight: inFlight}, &fakeHandler{resolve: func(context.Context, string) {
		mu.Lock()
		working++
		most = max(most, working)
		mu.Unlock()
		<-release
		mu.Lock()
		working--
		mu.Unlock()
	}})
	query := doqQuery(t, "later.flood.")
	before := heap()
	var flood sync.WaitGroup
	for range clients {
		conn := r.dialDoQ(a.trusts("doq"))
		flood.Go(func() {
			for range 500 {
				stream, err := conn.OpenStream()
				if err != nil { // no credit, or closed for its cancelling
					if conn.Context().Err() != nil {
						return
					}
					runtime.Gosched()
					continue
				}
				_, _ = stream.Write(query)
				_ = stream.Close()
				stream.CancelRead(doqRequestCancelled)
			}
		})
	}
	flood.Wait()
	answersDoQ(t, r.dialDoQ(a.trusts("doq")), "now.honest.")
	holdsLittle(t, before, 16<<20) // clients included
	close(release)
	mu.Lock()
	if most > inFlight {
		t.Errorf("%d resolutions at a time", most)
	}
	mu.Unlock()
}

// TestConnectionsThatComeAndGoLeaveNothing makes many short connections.
func TestConnectionsThatComeAndGoLeaveNothing(t *testing.T) {
	r, a := serveTLS(t, Config{DoQ: onLoopback, DoT: onLoopback}, &fakeHandler{})
	for i := range 100 {
		if i%2 == 0 {
			conn, err := quic.DialAddr(t.Context(), r.DoQ()[0].String(), a.trusts("doq"), nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.CloseWithError(0, "")
			continue
		}
		_ = r.dialDoT(a.trusts("dot")).Close()
	}
	r.eventually(0, "cordon_streams")
}

// TestMalformedPacketsChangeNothing replays a corpus, and mutations of sound
// queries, over UDP, TCP and QUIC, and then asks by each. CORDON_MALFORMED says
// how many packets go by UDP.
func TestMalformedPacketsChangeNothing(t *testing.T) {
	count := 20_000
	if text := os.Getenv("CORDON_MALFORMED"); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	r, a := serveTLS(t, Config{UDP: onLoopback, TCP: onLoopback, DoQ: onLoopback}, &fakeHandler{})
	corpus := malformed(t)
	random := rand.New(rand.NewPCG(1, 2))
	udp := r.dialUDP()
	replies := make(chan struct{})
	go func() { // what comes back is read, so that nothing waits
		defer close(replies)
		buf := make([]byte, 65535)
		for {
			n, err := udp.Read(buf)
			if err != nil {
				return
			}
			if n < 12 || buf[2]&0x80 == 0 {
				t.Errorf("a packet came back that is no reply: %x", buf[:n])
			}
		}
	}()
	for range count {
		_, _ = udp.Write(mutate(random, corpus)) // the kernel may refuse one too long
	}
	for range 200 {
		conn, err := net.Dial("tcp", r.TCP()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		packet := mutate(random, corpus)
		_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...))
		_ = conn.Close()
	}
	for range 50 {
		conn := r.dialDoQ(a.trusts("doq"))
		packet := mutate(random, corpus)
		_, _ = askDoQ(t, conn, append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...))
		_ = conn.CloseWithError(0, "")
	}
	for _, conn := range []net.Conn{r.dialUDP(), r.dialTCP()} {
		send(t, conn, "now.honest.")
		receive(t, conn)
	}
	answersDoQ(t, r.dialDoQ(a.trusts("doq")), "now.honest.")
	_ = udp.Close()
	<-replies
}

// malformed is the corpus of the parser's fuzz targets, with sound queries to
// mutate.
func malformed(t *testing.T) (all [][]byte) {
	t.Helper()
	for _, qtype := range []uint16{dns.TypeA, dns.TypeSVCB, dns.TypeIXFR, dns.TypeANY} {
		m := new(dns.Msg)
		m.SetQuestion("now.example.", qtype)
		m.SetEdns0(1232, true)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}, &dns.EDNS0_PADDING{Padding: make([]byte, 20)}}
		packet, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, packet)
	}
	files, err := filepath.Glob("../wire/testdata/fuzz/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "[]byte(") {
				all = append(all, []byte(line)) // as good as any other bytes
			}
		}
	}
	return all
}

// mutate changes, cuts or lengthens a packet of the corpus.
func mutate(random *rand.Rand, corpus [][]byte) []byte {
	packet := append([]byte(nil), corpus[random.IntN(len(corpus))]...)
	for range random.IntN(6) {
		packet[random.IntN(len(packet))] = byte(random.Uint32())
	}
	switch random.IntN(4) {
	case 0:
		return packet[:random.IntN(len(packet)+1)]
	case 1:
		return append(packet, make([]byte, random.IntN(64))...)
	}
	return packet
}
