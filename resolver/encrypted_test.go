package resolver

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// certificate makes a certificate signed by parent (by itself where that is
// nil), and writes it with its key into dir.
func certificate(t testing.TB, dir, name string, template x509.Certificate, parent *tls.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	issuer, issuerKey := &template, key
	if parent != nil {
		issuer, issuerKey = parent.Leaf, parent.PrivateKey.(*ecdsa.PrivateKey)
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certText := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyText := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	for file, text := range map[string][]byte{name + ".pem": certText, name + ".key": keyText} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(certText, keyText)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// encrypting is a running resolver with every transport, and what its clients
// trust.
func encrypting(t *testing.T, n *internet) (_ *Resolver, roots *x509.CertPool, agent tls.Certificate) {
	t.Helper()
	dir := t.TempDir()
	ca := certificate(t, dir, "ca", x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	agents := certificate(t, dir, "agents", x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	certificate(t, dir, "server", x509.Certificate{
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"dns.isp.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, &ca)
	agent = certificate(t, dir, "agent", x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, &agents)
	any := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	r := serving(t, n, func(c *Config) {
		c.DoT, c.DoH, c.DoQ = any, any, any
		c.TLS = TLSConfig{Certificate: filepath.Join(dir, "server.pem"), Key: filepath.Join(dir, "server.key"), Name: "dns.isp.example"}
		c.Exempt.ClientCA = filepath.Join(dir, "agents.pem")
	})
	roots = x509.NewCertPool()
	roots.AddCert(ca.Leaf)
	return r, roots, agent
}

func TestAnAgentsCertificateExemptsByDoTAndDoHAndNobodyElse(t *testing.T) {
	r, roots, agent := encrypting(t, newInternet(t, "www.propagande.example. 60 IN A 192.0.2.66"))
	enforce(t, r, 1, "propagande.example")
	stop := running(t, r)
	query := pack(t, question("www.propagande.example.", dns.TypeA))
	for _, who := range []struct {
		name         string
		certificates []tls.Certificate
		want         string
	}{
		{"the agent", []tls.Certificate{agent}, "192.0.2.66"},
		{"a client without a certificate", nil, "198.51.100.80"},
	} {
		config := &tls.Config{RootCAs: roots, ServerName: "dns.isp.example", Certificates: who.certificates}
		address := func(by string, m *dns.Msg, err error) {
			t.Helper()
			if err != nil || len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != who.want {
				t.Errorf("%s, %s: %v %v", who.name, by, m, err)
			}
		}
		m, _, err := (&dns.Client{Net: "tcp-tls", TLSConfig: config.Clone()}).Exchange(question("www.propagande.example.", dns.TypeA), r.server.DoT()[0].String())
		address("DoT", m, err)

		h2 := &http.Transport{TLSClientConfig: config.Clone(), ForceAttemptHTTP2: true}
		resp, err := (&http.Client{Transport: h2}).Post("https://"+r.server.DoH()[0].String()+"/dns-query", "application/dns-message", bytes.NewReader(query))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		h2.CloseIdleConnections()
		m = new(dns.Msg)
		if err == nil {
			err = m.Unpack(body)
		}
		address("DoH", m, err)
	}
	stop()
	if got := decisions(t, r); len(got) != 2 {
		t.Errorf("on record: %v; want the two of the client without a certificate", got)
	}
	if got := strings.Join(events(t, r.config.Blocklog.Dir), " "); got != "started exemption stopped" {
		t.Errorf("events %q", got)
	}
}

// TestTheMetricsSayNothingOfClients holds every label of every series to it.
func TestTheMetricsSayNothingOfClients(t *testing.T) {
	r, _, _ := encrypting(t, newInternet(t))
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.Contains(l.GetName(), "client") || strings.Contains(l.GetName(), "peer") || strings.Contains(l.GetValue(), "127.0.0.1") {
					t.Errorf("%s has label %s=%s", f.GetName(), l.GetName(), l.GetValue())
				}
			}
		}
	}
}

func TestASettingOfServingThatCannotBeIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		more string
		want []string
	}{
		"no certificate":           {"dot: [127.0.0.1:8853]", []string{"tls.certificate", "dot"}},
		"no name":                  {"doq: [127.0.0.1:8853]\ntls: {certificate: a.pem, key: a.key}", []string{"tls.name"}},
		"certificates by UDP":      {"exempt: {client_ca: ca.pem}", []string{"exempt.client_ca", "dot"}},
		"everyone exempt":          {"exempt: {networks: [0.0.0.0/0]}", []string{"exempt.networks", "everyone"}},
		"a network with host bits": {"proxy_from: [10.0.0.1/8]", []string{"proxy_from", "10.0.0.0/8"}},
		"no connections":           {"limits: {connections: 0}", []string{"limits.connections", "0"}},
		"a rate below zero":        {"limits: {queries: -1}", []string{"limits.queries", "-1"}},
		"no time":                  {"limits: {idle: 1ms}", []string{"limits.idle", "1ms"}},
		"a long name":              {"nsid: " + strings.Repeat("x", 65), []string{"nsid", "64"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, least+tt.more+"\n")
			_, err := LoadConfig(path)
			if err == nil {
				t.Fatal("loaded")
			}
			for _, want := range append(tt.want, path) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not name %q", err, want)
				}
			}
		})
	}
}
