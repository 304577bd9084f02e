package demo

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

const resolverName = "dns.operator.example"

// asksEncrypted asks for a listed name by each encrypted transport, at its fixed
// point and trusting keys/tls-ca.pem alone, and finds them by DDR.
func (d *demo) asksEncrypted(t *testing.T) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(d.read("keys/tls-ca.pem"))) {
		t.Fatal("keys/tls-ca.pem holds no certificate")
	}
	trusts := func(alpn ...string) *tls.Config {
		return &tls.Config{RootCAs: roots, ServerName: resolverName, NextProtos: alpn}
	}
	query := new(dns.Msg)
	query.SetQuestion("www.propagande.example.", dns.TypeA)
	query.SetEdns0(1232, true)
	query.Id = 0
	packet, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	check := func(by string, raw []byte, err error) {
		t.Helper()
		m := new(dns.Msg)
		if err == nil {
			err = m.Unpack(raw)
		}
		if err != nil || len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "127.0.0.1" || len(raw)%468 != 0 {
			t.Errorf("%s: %d bytes, %v, %v", by, len(raw), m, err)
		}
	}

	raw, err := overTLS(trusts("dot"), packet)
	check("DoT", raw, err)
	raw, err = overQUIC(t, trusts("doq"), packet)
	check("DoQ", raw, err)
	h2 := &http.Transport{TLSClientConfig: trusts(), ForceAttemptHTTP2: true}
	defer h2.CloseIdleConnections()
	raw, err = overHTTPS(h2, packet)
	check("DoH over HTTP/2", raw, err)
	h3 := &http3.Transport{TLSClientConfig: trusts()}
	defer h3.Close()
	raw, err = overHTTPS(h3, packet)
	check("DoH over HTTP/3", raw, err)

	reply, err := ask("_dns.resolver.arpa.", dns.TypeSVCB)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]uint16{}
	for _, rr := range reply.Answer {
		svcb := rr.(*dns.SVCB)
		var port uint16
		for _, kv := range svcb.Value {
			if p, ok := kv.(*dns.SVCBPort); ok {
				port = p.Port
			}
		}
		for _, kv := range svcb.Value {
			if a, ok := kv.(*dns.SVCBAlpn); ok && svcb.Target == resolverName+"." {
				for _, protocol := range a.Alpn {
					found[protocol] = port
				}
			}
		}
	}
	for protocol, port := range map[string]uint16{"dot": 8853, "doq": 8853, "h2": 8443, "h3": 8443} {
		if found[protocol] != port {
			t.Errorf("DDR leads to %v, want %s at port %d", found, protocol, port)
		}
	}
}

func framed(packet []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)
}

// unframe reads one message behind its length.
func unframe(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	raw := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, raw)
	return raw, err
}

func overTLS(config *tls.Config, packet []byte) ([]byte, error) {
	conn, err := tls.Dial("tcp", "127.0.0.1:8853", config)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(framed(packet)); err != nil {
		return nil, err
	}
	return unframe(conn)
}

func overQUIC(t *testing.T, config *tls.Config, packet []byte) ([]byte, error) {
	conn, err := quic.DialAddr(t.Context(), "127.0.0.1:8853", config, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.CloseWithError(0, "") }()
	stream, err := conn.OpenStreamSync(t.Context())
	if err != nil {
		return nil, err
	}
	if _, err := stream.Write(framed(packet)); err != nil {
		return nil, err
	}
	if err := stream.Close(); err != nil {
		return nil, err
	}
	return unframe(stream)
}

func overHTTPS(transport http.RoundTripper, packet []byte) ([]byte, error) {
	client := &http.Client{Transport: transport, Timeout: patience}
	resp, err := client.Post("https://127.0.0.1:8443/dns-query", "application/dns-message", bytes.NewReader(packet))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}
