package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go/http3"

	"cordon/blocklog"
)

// browsers are clients for each version of HTTP.
func (r *running) browsers(config *tls.Config) map[string]*http.Client {
	h2 := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	h1 := &http.Transport{TLSClientConfig: config.Clone(), TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	h3 := &http3.Transport{TLSClientConfig: config.Clone()}
	r.t.Cleanup(func() {
		h1.CloseIdleConnections()
		h2.CloseIdleConnections()
		_ = h3.Close()
	})
	return map[string]*http.Client{"HTTP/1.1": {Transport: h1}, "HTTP/2.0": {Transport: h2}, "HTTP/3.0": {Transport: h3}}
}

func (r *running) dohURL() string { return "https://" + r.DoH()[0].String() }

func packed(t testing.TB, name string) []byte { return framed(t, name)[2:] }

func get(query []byte) string { return DoHPath + "?dns=" + base64.RawURLEncoding.EncodeToString(query) }

// fetch makes one request and reads its response.
func fetch(t testing.TB, client *http.Client, method, url, contentType string, body []byte) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, got
}

func TestDoHAnswersByEveryMethodAndVersion(t *testing.T) {
	metas := make(chan Meta, 1)
	r, a := serveTLS(t, Config{DoH: onLoopback}, &fakeHandler{ttl: 42, padding: 1, from: func(m Meta) { metas <- m }})
	config := a.trusts()
	config.Certificates = []tls.Certificate{a.leaf("agent", x509.ExtKeyUsageClientAuth)}
	for version, client := range r.browsers(config) {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(version+" "+method, func(t *testing.T) {
				url, contentType, body := r.dohURL()+DoHPath, "application/dns-message", packed(t, "now.example.")
				if method == http.MethodGet {
					url, contentType, body = r.dohURL()+get(body), "", nil
				}
				resp, got := fetch(t, client, method, url, contentType, body)
				m := new(dns.Msg)
				if err := m.Unpack(got); err != nil || m.Question[0].Name != "now.example." || resp.Proto != version {
					t.Fatalf("%s %s: %v %v", resp.Proto, resp.Status, m, err)
				}
				for header, want := range map[string]string{"Content-Type": "application/dns-message", "Cache-Control": "private, max-age=42"} {
					if got := resp.Header.Get(header); got != want {
						t.Errorf("%s: %q, want %q", header, got, want)
					}
				}
				if alt := resp.Header.Get("Alt-Svc"); (alt != "") != (version != "HTTP/3.0") {
					t.Errorf("Alt-Svc %q", alt)
				}
				if m := <-metas; m.Transport != blocklog.DoH || !m.Certified || m.Peer.Addr() != loopback.Addr() {
					t.Errorf("%+v", m)
				}
			})
		}
	}
	if got := r.counter("cordon_queries_total", "doh", "answered"); got != 6 {
		t.Errorf("%v queries answered", got)
	}
}

func TestDoHSaysWhatIsWrongWithARequest(t *testing.T) {
	r, a := serveTLS(t, Config{DoH: onLoopback}, &fakeHandler{})
	query := packed(t, "now.example.")
	const message = "application/dns-message"
	for version, client := range r.browsers(a.trusts()) {
		for name, tt := range map[string]struct {
			method, path, contentType string
			body                      []byte
			status                    int
		}{
			"another path":          {"GET", strings.Replace(get(query), "dns-query", "other", 1), "", nil, 404},
			"another method":        {"PUT", DoHPath, message, query, 405},
			"no query":              {"GET", DoHPath, "", nil, 400},
			"bad base64":            {"GET", DoHPath + "?dns=a+b/", "", nil, 400},
			"padded base64":         {"GET", get(query[:10]) + "==", "", nil, 400},
			"no DNS":                {"GET", get([]byte("hello")), "", nil, 400},
			"no DNS, by POST":       {"POST", DoHPath, message, []byte("hello"), 400},
			"a query too long":      {"POST", DoHPath, message, make([]byte, maxQuery+1), 413},
			"a URL too long":        {"GET", get(make([]byte, maxQuery+1)), "", nil, 414},
			"another type":          {"POST", DoHPath, "application/json", query, 415},
			"nothing resolved":      {"GET", get(packed(t, "later-nothing.example.")), "", nil, 500},
			"what is to be dropped": {"GET", get(packed(t, "drop.example.")), "", nil, 400},
		} {
			t.Run(version+" "+name, func(t *testing.T) {
				resp, _ := fetch(t, client, tt.method, r.dohURL()+tt.path, tt.contentType, tt.body)
				if resp.StatusCode != tt.status || resp.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("%s, Cache-Control %q, want status %d", resp.Status, resp.Header.Get("Cache-Control"), tt.status)
				}
				if allow := resp.Header.Get("Allow"); (allow == "GET, POST") != (tt.status == 405) {
					t.Errorf("Allow %q", allow)
				}
			})
		}
	}
}

func TestDoHSendsNothingThatWasNotCommitted(t *testing.T) {
	r, a := serveTLS(t, Config{DoH: onLoopback}, &fakeHandler{commit: func() error { return errDiskFull }})
	for version, client := range r.browsers(a.trusts()) {
		if resp, _ := fetch(t, client, "GET", r.dohURL()+get(packed(t, "now.example.")), "", nil); resp.StatusCode != 500 {
			t.Errorf("%s: %s", version, resp.Status)
		}
	}
	if got := r.counter("cordon_replies_withheld_total", "doh"); got != 3 {
		t.Errorf("%v replies withheld", got)
	}
}

func TestDoHShedsWhenResolutionIsFullAndTellsWhenToComeBack(t *testing.T) {
	started, release := make(chan struct{}, 1), make(chan struct{})
	r, a := serveTLS(t, Config{DoH: onLoopback, InFlight: 1}, &fakeHandler{resolve: func(context.Context, string) {
		started <- struct{}{}
		<-release
	}})
	client := r.browsers(a.trusts())["HTTP/2.0"]
	first := make(chan int)
	go func() {
		resp, err := client.Get(r.dohURL() + get(packed(t, "later.first.")))
		if err != nil {
			t.Error(err)
			close(first)
			return
		}
		_ = resp.Body.Close()
		first <- resp.StatusCode
	}()
	<-started
	resp, _ := fetch(t, client, "GET", r.dohURL()+get(packed(t, "later.shed.")), "", nil)
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
	close(release)
	if got := <-first; got != 200 {
		t.Errorf("the first ended with %d", got)
	}
}

func TestDoHACancelledRequestHoldsItsPlaceUntilItIsResolved(t *testing.T) {
	const pipeline = 3
	for version := range map[string]bool{"HTTP/2.0": true, "HTTP/3.0": true} {
		t.Run(version, func(t *testing.T) {
			release, started := make(chan struct{}), make(chan struct{}, 100)
			r, a := serveTLS(t, Config{DoH: onLoopback, Pipeline: pipeline}, &fakeHandler{resolve: func(context.Context, string) {
				started <- struct{}{}
				<-release
			}})
			client := r.browsers(a.trusts())[version]
			if h2, ok := client.Transport.(*http.Transport); ok {
				h2.DialContext = dialOnce() // else it may open another when it has cancelled much
			}
			url := r.dohURL() + get(packed(t, "later.example."))
			for range pipeline { // each is cancelled as soon as it costs something
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
					if err != nil {
						t.Error(err)
						return
					}
					if resp, err := client.Do(req); err == nil {
						_ = resp.Body.Close()
						t.Error("a response came")
					}
				}()
				<-started
				cancel()
				<-ended
			}
			// One more finds no place on this connection; that of another client is
			// not concerned.
			ctx, cancel := context.WithCancel(t.Context())
			waited := make(chan struct{})
			go func() {
				defer close(waited)
				req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
				if resp, err := client.Do(req); err == nil {
					_ = resp.Body.Close()
				}
			}()
			if resp, _ := fetch(t, r.browsers(a.trusts())[version], "GET", r.dohURL()+get(packed(t, "now.other.")), "", nil); resp.StatusCode != 200 {
				t.Errorf("another client: %s", resp.Status)
			}
			if len(started) != 0 {
				t.Error("a query was resolved beyond the quota")
			}
			cancel()
			<-waited
			close(release)
		})
	}
}

// dialOnce dials a first connection and no other.
func dialOnce() func(context.Context, string, string) (net.Conn, error) {
	var dialled atomic.Bool
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dialled.Swap(true) {
			return nil, errors.New("one connection is enough")
		}
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}
}

func TestDoHKnowsTheProxysClient(t *testing.T) {
	metas := make(chan Meta, 1)
	r, a := serveTLS(t, Config{DoH: onLoopback, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, &fakeHandler{from: func(m Meta) { metas <- m }})
	raw := r.dial("tcp", r.DoH()[0].String())
	if _, err := raw.Write(proxyTCP("192.0.2.7:4711")); err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(raw, a.trusts("http/1.1"))
	if _, err := io.WriteString(conn, "GET "+get(packed(t, "now.example."))+" HTTP/1.1\r\nHost: dns.example\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.1 200")) {
		t.Errorf("%q, %v", got, err)
	}
	if m := <-metas; m.Peer.String() != "192.0.2.7:4711" {
		t.Errorf("%+v", m)
	}
}
