package transport

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// attacker is a client of HTTP/2 that keeps to no rule.
type attacker struct {
	conn  net.Conn
	out   *bufio.Writer
	frame *http2.Framer
	block []byte        // headers of a request
	ended chan struct{} // closed when the server has closed the connection
}

// attackH2 connects; with reads, what the server sends is taken and thrown away.
func attackH2(t *testing.T, r *running, config *tls.Config, name string, reads bool) *attacker {
	t.Helper()
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", r.DoH()[0].String(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "dns.example"}, {":path", get(packed(t, name))}} {
		if err := e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	a := &attacker{conn: conn, out: bufio.NewWriterSize(conn, 1<<14), block: block.Bytes(), ended: make(chan struct{})}
	a.frame = http2.NewFramer(a.out, conn)
	if _, err := a.out.WriteString(http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := a.frame.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if reads {
		go func() {
			defer close(a.ended)
			_, _ = io.Copy(io.Discard, conn) // until the server closes
		}()
	}
	return a
}

// holding is a handler whose resolutions wait for release; most is how many there
// were at a time.
func holding() (h *fakeHandler, most *atomic.Int64, release chan struct{}) {
	release, most = make(chan struct{}), new(atomic.Int64)
	var working atomic.Int64
	return &fakeHandler{resolve: func(context.Context, string) {
		n := working.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		working.Add(-1)
	}}, most, release
}

// TestHTTP2RapidResetIsBounded opens requests and takes each back at once
// (CVE-2023-44487): those that have begun hold their places, and a connection that
// goes on is closed.
func TestHTTP2RapidResetIsBounded(t *testing.T) {
	const pipeline = 8
	h, most, release := holding()
	r, keys := serveTLS(t, Config{DoH: onLoopback, Pipeline: pipeline}, h)
	before := heap()
	a := attackH2(t, r, keys.trusts(), "later.flood.", true)
	for id := uint32(1); id < 20_000; id += 2 {
		if a.frame.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: a.block, EndStream: true, EndHeaders: true}) != nil ||
			a.frame.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break
		}
	}
	_ = a.out.Flush() // it may be closed already
	<-a.ended
	if got := most.Load(); got > pipeline {
		t.Errorf("%d resolutions at a time for one connection", got)
	}
	holdsLittle(t, before, 4<<20)
	honestOverHTTPS(t, r, keys)
	close(release)
}

// TestHTTP2HeadersWithoutEndAreBounded sends a request whose headers go on and on
// (the CONTINUATION flood, CVE-2023-45288).
func TestHTTP2HeadersWithoutEndAreBounded(t *testing.T) {
	const most = 64 << 20
	r, keys := serveTLS(t, Config{DoH: onLoopback}, &fakeHandler{})
	before := heap()
	a := attackH2(t, r, keys.trusts(), "now.flood.", true)
	if err := a.frame.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.block}); err != nil {
		t.Fatal(err)
	}
	// Literals that are not kept in the table, so that each is a header of its own.
	var more bytes.Buffer
	for more.Len() < 16000 {
		more.WriteString("\x00\x01x\x7f\x21")
		more.Write(bytes.Repeat([]byte{'y'}, 0x7f+0x21))
	}
	fragment := more.Bytes()[:16000/165*165]
	sent := 0
	for ; sent < most; sent += len(fragment) {
		if a.frame.WriteContinuation(1, false, fragment) != nil {
			break
		}
	}
	if sent >= most {
		t.Errorf("%d MiB of headers were taken", sent>>20)
	}
	<-a.ended
	holdsLittle(t, before, 4<<20)
	honestOverHTTPS(t, r, keys)
}

// TestHTTP2PingsThatNobodyTakesBackAreBounded sends frames that the server has to
// answer, and reads no answer.
func TestHTTP2PingsThatNobodyTakesBackAreBounded(t *testing.T) {
	r, keys := serveTLS(t, Config{DoH: onLoopback, Write: 200 * time.Millisecond}, &fakeHandler{})
	before := heap()
	a := attackH2(t, r, keys.trusts(), "now.flood.", false)
	for a.frame.WritePing(false, [8]byte{}) == nil { // until the server has closed
	}
	holdsLittle(t, before, 4<<20)
	honestOverHTTPS(t, r, keys)
}

// honestOverHTTPS asks from a connection of its own.
func honestOverHTTPS(t *testing.T, r *running, keys *authority) {
	t.Helper()
	resp, _ := fetch(t, r.browsers(keys.trusts())["HTTP/2.0"], "GET", r.dohURL()+get(packed(t, "now.honest.")), "", nil)
	if resp.StatusCode != 200 {
		t.Errorf("an honest client got %s", resp.Status)
	}
}
