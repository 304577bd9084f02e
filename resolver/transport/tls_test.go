package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority signs certificates for a test.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	made int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, pool: x509.NewCertPool()}
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	var der []byte
	der, a.key = a.sign(template, "authority "+rand.Text()) // clients tell authorities apart by name
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(c *x509.Certificate, name string) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.made++
	c.SerialNumber, c.Subject = big.NewInt(a.made), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, parentKey := a.cert, a.key
	if parent == nil {
		parent, parentKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, parentKey)
	if err != nil {
		a.t.Fatal(err)
	}
	return der, key
}

// leaf makes a certificate for the loopback address, or for a client.
func (a *authority) leaf(name string, usage x509.ExtKeyUsage) tls.Certificate {
	a.t.Helper()
	der, key := a.sign(&x509.Certificate{
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{name},
	}, name)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// write writes certificate and key in place of those in dir, as a renewal does.
func (a *authority) write(dir string, c tls.Certificate) (certificate, key string) {
	a.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	certificate, key = filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")
	for path, block := range map[string]*pem.Block{
		certificate: {Type: "CERTIFICATE", Bytes: c.Certificate[0]},
		key:         {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(path+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			a.t.Fatal(err)
		}
	}
	return certificate, key
}

// open writes a server certificate and opens it.
func (a *authority) open(dir string) *Certificates {
	a.t.Helper()
	certificate, key := a.write(dir, a.leaf("dns.example", x509.ExtKeyUsageServerAuth))
	c, err := OpenCertificates(certificate, key, slog.New(slog.DiscardHandler))
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// trusts is the configuration of a client that trusts the authority.
func (a *authority) trusts(alpn ...string) *tls.Config {
	return &tls.Config{RootCAs: a.pool, ServerName: "dns.example", NextProtos: alpn}
}

// serveTLS starts a server with a certificate of a new authority, which signs
// for clients too.
func serveTLS(t *testing.T, c Config, h Handler) (*running, *authority) {
	t.Helper()
	a := newAuthority(t)
	c.TLS = TLS{Certificates: a.open(t.TempDir()), Clients: a.pool}
	return serve(t, c, h), a
}

// tlsClient shakes hands over an open connection.
func tlsClient(t testing.TB, raw net.Conn, a *authority) *tls.Conn {
	t.Helper()
	conn := tls.Client(raw, a.trusts("dot"))
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	return conn
}
