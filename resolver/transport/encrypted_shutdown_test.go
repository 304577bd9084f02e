package transport

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestShutdownFinishesWhatIsUnderWayOverEveryTransport(t *testing.T) {
	started, release := make(chan struct{}, 8), make(chan struct{})
	r, a := serveTLS(t, Config{DoT: onLoopback, DoH: onLoopback, DoQ: onLoopback}, &fakeHandler{resolve: func(context.Context, string) {
		started <- struct{}{}
		<-release
	}})
	var clients sync.WaitGroup
	asks := func(name string, ask func() error) {
		clients.Go(func() {
			if err := ask(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
		<-started
	}
	dot := r.dialDoT(a.trusts("dot"))
	send(t, dot, "later.dot.")
	<-started
	doq := r.dialDoQ(a.trusts("doq"))
	asks("DoQ", func() error {
		_, err := askDoQ(t, doq, doqQuery(t, "later.doq."))
		return err
	})
	for version, client := range r.browsers(a.trusts()) {
		asks(version, func() error {
			resp, err := client.Get(r.dohURL() + get(packed(t, "later.doh.")))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if _, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("%s: %s, %v", version, resp.Status, err)
			}
			return nil
		})
	}
	r.cancel()
	for { // the listeners are closed first
		conn, err := tls.Dial("tcp", r.DoT()[0].String(), a.trusts("dot"))
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	close(release)
	if got := receive(t, dot); got != "later.dot." {
		t.Errorf("reply to %s", got)
	}
	clients.Wait()
	r.stop()
	if got := r.counter("cordon_streams"); got != 0 {
		t.Errorf("%v connections are left", got)
	}
}

func TestShutdownGivesUpEncryptedConnectionsAfterItsGrace(t *testing.T) {
	started := make(chan struct{}, 8)
	r, a := serveTLS(t, Config{DoT: onLoopback, DoH: onLoopback, DoQ: onLoopback, Grace: 50 * time.Millisecond, Idle: time.Hour}, &fakeHandler{
		resolve: func(ctx context.Context, _ string) {
			started <- struct{}{}
			<-ctx.Done() // only the end of the grace ends this
		},
	})
	send(t, r.dialDoT(a.trusts("dot")), "later.dot.")
	<-started
	var clients sync.WaitGroup
	doq := r.dialDoQ(a.trusts("doq"))
	clients.Go(func() { _, _ = askDoQ(t, doq, doqQuery(t, "later.doq.")) })
	<-started
	for _, client := range r.browsers(a.trusts()) {
		clients.Go(func() {
			if resp, err := client.Get(r.dohURL() + get(packed(t, "later.doh."))); err == nil {
				_ = resp.Body.Close()
			}
		})
		<-started
	}
	r.stop()
	clients.Wait()
}

// TestDoHGivesUpWhoIsSlowToAsk has clients that shake hands and go no further,
// and one that begins a query and does not end it.
func TestDoHGivesUpWhoIsSlowToAsk(t *testing.T) {
	r, a := serveTLS(t, Config{DoH: onLoopback, Idle: 100 * time.Millisecond, Handshake: 100 * time.Millisecond}, &fakeHandler{})
	for _, begin := range []string{"", "GET /dns-query HTTP/1.1\r\nX", "POST /dns-query HTTP/1.1\r\nHost: x\r\nContent-Type: application/dns-message\r\nContent-Length: 100\r\n\r\nabc"} {
		conn := tls.Client(r.dial("tcp", r.DoH()[0].String()), a.trusts("http/1.1"))
		if _, err := io.WriteString(conn, begin); err != nil {
			t.Fatal(err)
		}
		if begin == "" {
			if err := conn.Handshake(); err != nil {
				t.Fatal(err)
			}
		}
		got, _ := io.ReadAll(conn) // ends when the server has given up
		if strings.Contains(string(got), "200 OK") {
			t.Errorf("%q was answered: %q", begin, got)
		}
	}
	quiet := tls.Client(r.dial("tcp", r.DoH()[0].String()), a.trusts("h2"))
	if _, err := io.WriteString(quiet, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, quiet)
	for _, version := range []string{"HTTP/2.0", "HTTP/3.0"} {
		ctx, cancel := context.WithCancel(t.Context())
		body, writer := io.Pipe()
		req, err := http.NewRequestWithContext(ctx, "POST", r.dohURL()+DoHPath, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/dns-message")
		var client sync.WaitGroup
		client.Go(func() {
			if resp, err := r.browsers(a.trusts())[version].Do(req); err == nil {
				if resp.StatusCode == http.StatusOK {
					t.Errorf("%s: %s", version, resp.Status)
				}
				_ = resp.Body.Close()
			}
		})
		if _, err := writer.Write([]byte("abc")); err != nil {
			t.Fatal(err)
		}
		r.eventually(0, "cordon_streams")
		cancel()
		_ = writer.Close()
		client.Wait()
	}
}
