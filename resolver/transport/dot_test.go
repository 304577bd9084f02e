package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"cordon/blocklog"
)

var onLoopback = []netip.AddrPort{loopback}

// dialDoT opens a connection as a client of the authority does.
func (r *running) dialDoT(config *tls.Config) *tls.Conn {
	r.t.Helper()
	conn := tls.Client(r.dial("tcp", r.DoT()[0].String()), config)
	if err := conn.Handshake(); err != nil {
		r.t.Fatal(err)
	}
	return conn
}

func TestDoTAnswersOutOfOrder(t *testing.T) {
	release := make(chan struct{})
	r, a := serveTLS(t, Config{DoT: onLoopback}, &fakeHandler{resolve: func(context.Context, string) { <-release }})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := a.trusts("dot")
		config.MaxVersion = version
		conn := r.dialDoT(config)
		if got := conn.ConnectionState(); got.NegotiatedProtocol != "dot" || got.Version != version {
			t.Errorf("ALPN %q, version %x", got.NegotiatedProtocol, got.Version)
		}
		send(t, conn, "later.first.")
		send(t, conn, "now.second.")
		if got := receive(t, conn); got != "now.second." {
			t.Errorf("reply to %s", got)
		}
		release <- struct{}{}
		if got := receive(t, conn); got != "later.first." {
			t.Errorf("reply to %s", got)
		}
		_ = conn.Close()
	}
	r.eventually(2, "cordon_streams_closed_total", "client")
	if got := r.counter("cordon_queries_total", "dot", "answered"); got != 2 {
		t.Errorf("%v queries answered", got)
	}
}

func TestDoTRefusesOldTLSAndOtherProtocols(t *testing.T) {
	r, a := serveTLS(t, Config{DoT: onLoopback}, &fakeHandler{})
	old := a.trusts("dot")
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	for name, config := range map[string]*tls.Config{"TLS 1.1": old, "HTTP": a.trusts("h2")} {
		if err := tls.Client(r.dial("tcp", r.DoT()[0].String()), config).Handshake(); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	r.eventually(2, "cordon_streams_closed_total", "handshake")
}

func TestDoTGivesUpAClientThatDoesNotShakeHands(t *testing.T) {
	r, _ := serveTLS(t, Config{DoT: onLoopback, Handshake: 20 * time.Millisecond, StreamsPerClient: 2}, &fakeHandler{})
	first, second := r.dial("tcp", r.DoT()[0].String()), r.dial("tcp", r.DoT()[0].String())
	ended(t, first)
	ended(t, second)
	r.eventually(2, "cordon_streams_closed_total", "handshake")
	r.eventually(0, "cordon_streams")
}

func TestDoTHandshakesCountAgainstTheClientsConnections(t *testing.T) {
	r, _ := serveTLS(t, Config{DoT: onLoopback, Handshake: time.Hour, StreamsPerClient: 2}, &fakeHandler{})
	for range 2 {
		r.dial("tcp", r.DoT()[0].String())
	}
	r.eventually(2, "cordon_streams")
	ended(t, r.dial("tcp", r.DoT()[0].String()))
	r.eventually(1, "cordon_streams_refused_total", "client")
	r.stop() // and a shutdown does not wait for them
	if got := r.counter("cordon_streams_closed_total", "shutdown"); got != 2 {
		t.Errorf("%v connections ended by the shutdown", got)
	}
}

func TestDoTHandshakesMayBeRefused(t *testing.T) {
	var asked atomic.Value
	r, a := serveTLS(t, Config{DoT: onLoopback, MayShakeHands: func(addr netip.Addr) bool { asked.Store(addr); return false }}, &fakeHandler{})
	if err := tls.Client(r.dial("tcp", r.DoT()[0].String()), a.trusts("dot")).Handshake(); err == nil {
		t.Error("the handshake was made")
	}
	r.eventually(1, "cordon_streams_refused_total", "handshakes")
	if got := asked.Load(); got != loopback.Addr() {
		t.Errorf("asked for %v", got)
	}
}

func TestAClientCertificateIsTakenIfItHolds(t *testing.T) {
	got := make(chan Meta, 1)
	r, a := serveTLS(t, Config{DoT: onLoopback}, &fakeHandler{from: func(m Meta) { got <- m }})
	for name, tt := range map[string]struct {
		certificates []tls.Certificate
		want         bool
	}{
		"none":                          {nil, false},
		"of the authority":              {[]tls.Certificate{a.leaf("agent", x509.ExtKeyUsageClientAuth)}, true},
		"of another, which nobody sees": {[]tls.Certificate{newAuthority(t).leaf("agent", x509.ExtKeyUsageClientAuth)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			config := a.trusts("dot")
			config.Certificates = tt.certificates
			conn := r.dialDoT(config)
			send(t, conn, "now.example.")
			receive(t, conn)
			if m := <-got; m.Certified != tt.want || m.Transport != blocklog.DoT {
				t.Errorf("%+v", m)
			}
		})
	}
	t.Run("of another, though nobody asked for it", func(t *testing.T) {
		config := a.trusts("dot")
		stranger := newAuthority(t).leaf("agent", x509.ExtKeyUsageClientAuth)
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &stranger, nil }
		conn := tls.Client(r.dial("tcp", r.DoT()[0].String()), config)
		if err := conn.Handshake(); err == nil { // in TLS 1.3 the refusal comes with the first read
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Error("the connection was accepted")
			}
		}
		r.eventually(1, "cordon_streams_closed_total", "handshake")
	})
}

func TestTheCertificateIsReadAnewWhenItChanges(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	c := a.open(dir)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	first := c.Leaf()
	renewed := a.leaf("renewed.example", x509.ExtKeyUsageServerAuth)
	// The watch may not have begun when the files are written first.
	for c.Leaf() == first || c.Leaf().DNSNames[0] != "renewed.example" {
		a.write(dir, renewed)
		select {
		case <-t.Context().Done():
			t.Fatal("the new certificate was not taken")
		case <-time.After(2 * certificateSettle):
		}
	}
}

func TestACertificateThatIsNoneLeavesTheOneBefore(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	c := a.open(dir)
	before := c.Leaf()
	a.write(dir, tls.Certificate{ // a key that is not the certificate's
		Certificate: a.leaf("one.example", x509.ExtKeyUsageServerAuth).Certificate,
		PrivateKey:  a.leaf("other.example", x509.ExtKeyUsageServerAuth).PrivateKey,
	})
	if _, err := c.load(); err == nil || c.Leaf() != before {
		t.Errorf("%v, in use %v", err, c.Leaf().DNSNames)
	}
	if err := os.Remove(c.certificate); err != nil {
		t.Fatal(err)
	}
	if _, err := c.load(); err == nil || c.Leaf() != before {
		t.Errorf("%v, in use %v", err, c.Leaf().DNSNames)
	}
}

func TestTLSSlowReaderCostsItsOwnConnectionOnly(t *testing.T) {
	r, a := serveTLS(t, Config{DoT: onLoopback, Write: 100 * time.Millisecond}, &fakeHandler{padding: 40_000})
	slow, honest := r.dialDoT(a.trusts("dot")), r.dialDoT(a.trusts("dot"))
	given := make(chan struct{})
	go func() { // asks and never reads, until the server gives it up
		defer close(given)
		query := framed(t, "now.slow.")
		for {
			if _, err := slow.Write(query); err != nil {
				return
			}
		}
	}()
	for served := false; !served; {
		send(t, honest, "now.honest.")
		receive(t, honest)
		select {
		case <-given:
			served = true
		default:
		}
	}
	r.eventually(1, "cordon_streams_closed_total", "slow")
}
