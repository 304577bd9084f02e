package stoppage

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// lockedBuffer is what the server logs in these tests.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve runs a server on loopback ports of the system's choice until the test
// ends.
func serve(t *testing.T, change func(*Config)) (*Server, *lockedBuffer) {
	t.Helper()
	c := exampleConfig(t)
	c.Listen = []Listen{{Address: "127.0.0.1:0"}, {Address: "127.0.0.1:0", Category: "minors"}}
	c.Metrics = "127.0.0.1:0"
	if change != nil {
		change(&c)
	}
	logged := &lockedBuffer{}
	s := exampleServer(t, c, slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug})))
	ctx, stop := context.WithCancel(context.Background())
	if err := s.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return s, logged
}

// exchange sends bytes as they are and reads all that comes back; local is the
// client's own address.
func exchange(t *testing.T, address net.Addr, request string) (answer, local string) {
	t.Helper()
	c, err := net.Dial("tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	// A server that closes before it has read all resets the connection after
	// its answer.
	if err != nil && len(b) == 0 {
		t.Fatalf("after %.100q: %v", request, err)
	}
	return string(b), c.LocalAddr().String()
}

func TestEachAddressServesItsCategory(t *testing.T) {
	s, _ := serve(t, nil)
	for i, want := range []string{"general.fr.html", "minors.fr.html"} {
		answer, _ := exchange(t, s.Addresses()[i], "GET /x HTTP/1.1\r\nHost: blocked.example\r\n\r\n")
		head, body, _ := strings.Cut(answer, "\r\n\r\n")
		if !strings.HasPrefix(head, "HTTP/1.1 451 Unavailable For Legal Reasons\r\n") || !strings.Contains(head, "\r\nConnection: close") {
			t.Errorf("the head is\n%s", head)
		}
		category, _, _ := strings.Cut(want, ".")
		if category == "general" {
			category = ""
		}
		if body != string(s.site.pages[category]["fr"].plain) {
			t.Errorf("address %d does not serve %s", i, want)
		}
	}
}

// The host name is the blocked site's or an attacker's. It changes nothing and
// never comes back; what is no request at all ends with an error, not a page.
func TestHostileRequestsAreNeitherEchoedNorLogged(t *testing.T) {
	s, logged := serve(t, func(c *Config) { c.Limits.HeaderBytes = 4 << 10 })
	marker := "zzmarkzz"
	for _, c := range []struct {
		name, request string
		status        string
	}{
		{"a plain host", "GET / HTTP/1.1\r\nHost: zzmarkzz.example\r\n\r\n", "451"},
		{"an address as host", "GET / HTTP/1.1\r\nHost: 203.0.113.7:99999\r\n\r\n", "451"},
		{"markup in the host", "GET / HTTP/1.1\r\nHost: <script>zzmarkzz</script>\r\n\r\n", "4"},
		{"an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "451"},
		{"a host with a path", "GET / HTTP/1.1\r\nHost: evil.example/zzmarkzz?x\r\n\r\n", "4"},
		{"no host", "GET / HTTP/1.1\r\n\r\n", "400"},
		{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: zzmarkzz\r\n\r\n", "400"},
		{"HTTP/1.0 without host", "GET /zzmarkzz HTTP/1.0\r\n\r\n", "451"},
		{"an absolute target", "GET http://zzmarkzz.example/minors HTTP/1.1\r\nHost: other.example\r\n\r\n", "451"},
		{"an asterisk", "OPTIONS * HTTP/1.1\r\nHost: zzmarkzz\r\n\r\n", "405"},
		{"a tunnel", "CONNECT zzmarkzz.example:443 HTTP/1.1\r\nHost: zzmarkzz.example:443\r\n\r\n", "405"},
		{"a form", "POST / HTTP/1.1\r\nHost: zzmarkzz\r\nContent-Length: 10\r\n\r\npassword=1", "405"},
		{"a path with markup", "GET /%3Cscript%3Ezzmarkzz HTTP/1.1\r\nHost: a\r\n\r\n", "451"},
		{"a header split", "GET /?a=%0d%0aX-zzmarkzz:1 HTTP/1.1\r\nHost: a\r\n\r\n", "451"},
		{"cookies of the blocked site", "GET / HTTP/1.1\r\nHost: a\r\nCookie: session=zzmarkzz\r\nReferer: http://zzmarkzz.example/\r\nUser-Agent: zzmarkzz\r\n\r\n", "451"},
		{"a header too long", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("zzmarkzz", 1100) + "\r\n\r\n", "431"},
		{"no request", "zzmarkzz\r\n\r\n", "400"},
		{"a TLS client", "\x16\x03\x01\x00\x05zzmarkzz\r\n\r\n", "400"},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer, client := exchange(t, s.Addresses()[0], c.request)
			if !strings.HasPrefix(answer, "HTTP/1.1 "+c.status) && !strings.HasPrefix(answer, "HTTP/1.0 "+c.status) {
				t.Errorf("answered %.60q, want status %s", answer, c.status)
			}
			if strings.Contains(answer, marker) {
				t.Error("the answer holds what the client sent")
			}
			if said := logged.String(); strings.Contains(said, marker) || strings.Contains(said, client) {
				t.Errorf("the log holds who asked or what for:\n%s", said)
			}
		})
	}
	if strings.Count(logged.String(), "\n") != 3 {
		t.Errorf("the log has more than the three addresses served:\n%s", logged)
	}
}

func TestMetricsCountPagesAlone(t *testing.T) {
	s, _ := serve(t, nil)
	exchange(t, s.Addresses()[1], "GET /?lang=en HTTP/1.1\r\nHost: a\r\n\r\n")
	exchange(t, s.Addresses()[0], "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	response, err := http.Get("http://" + s.MetricsAddress().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	series := 0
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		series++
		want := "0"
		if strings.Contains(line, `{category="minors",language="en"}`) {
			want = "1"
		}
		if !strings.HasPrefix(line, "cordon_stoppage_pages_total{") || !strings.HasSuffix(strings.TrimSpace(line), " "+want) {
			t.Errorf("series %s, want %s", strings.TrimSpace(line), want)
		}
	}
	if series != 6 {
		t.Errorf("%d series, want one for each of 3 pages in 2 languages", series)
	}
}

// A client that sends nothing holds its connection for the read time-out and no
// longer: its place goes to the next.
func TestSilentClientsGiveTheirPlaceUp(t *testing.T) {
	s, _ := serve(t, func(c *Config) {
		c.Limits.Connections = 1
		c.Limits.ReadTimeout = 50 * time.Millisecond
	})
	silent, err := net.Dial("tcp", s.Addresses()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	answer, _ := exchange(t, s.Addresses()[0], "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 451") {
		t.Errorf("the next client got %.40q", answer)
	}
	if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the silent client read %v, want the end", err)
	}
}

func TestACrowdIsServedWhole(t *testing.T) {
	s, _ := serve(t, func(c *Config) { c.Limits.Connections = 8 })
	want := string(s.site.pages["terrorism"]["en"].plain)
	var wg sync.WaitGroup
	errs := make(chan error, 64)
	for range 64 {
		wg.Go(func() {
			c, err := net.Dial("tcp", s.Addresses()[0].String())
			if err != nil {
				errs <- err
				return
			}
			defer c.Close()
			if _, err := io.WriteString(c, "GET /terrorism?lang=en HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
				errs <- err
				return
			}
			response, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				errs <- err
				return
			}
			defer response.Body.Close()
			b, err := io.ReadAll(response.Body)
			if err != nil || string(b) != want {
				errs <- fmt.Errorf("read %d bytes, %w", len(b), err)
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

func TestListenNamesTheAddressThatIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := exampleConfig(t)
	c.Listen = []Listen{{Address: "127.0.0.1:0"}, {Address: taken.Addr().String()}}
	s := exampleServer(t, c, slog.New(slog.DiscardHandler))
	if err := s.Listen(context.Background()); err == nil || !strings.Contains(err.Error(), "listen on "+taken.Addr().String()) {
		t.Errorf("got %v", err)
	}
	if len(s.Addresses()) != 0 {
		t.Error("the other address stays open")
	}
}

func TestOnlyMessagesWithoutClientsAreLogged(t *testing.T) {
	var b lockedBuffer
	w := withoutClients{slog.New(slog.NewTextHandler(&b, nil))}
	for _, message := range []string{
		"http: panic serving 192.0.2.7:4711: oops\n",
		"http: TLS handshake error from 192.0.2.7:4711: EOF\n",
		"http: Accept error: accept tcp 127.0.0.1:80: accept4: too many open files; retrying in 5ms\n",
	} {
		if n, err := w.Write([]byte(message)); n != len(message) || err != nil {
			t.Errorf("Write gives %d, %v", n, err)
		}
	}
	if said := b.String(); strings.Contains(said, "192.0.2.7") || !strings.Contains(said, "too many open files") {
		t.Errorf("logged\n%s", said)
	}
}
