package oversight

import (
	"context"
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
	"strings"
	"testing"
	"time"

	"cordon/audit"
)

func TestAMirrorReadsFromAnAuditorThatAsksForACertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCertificates(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		h := audit.Handler(w.path("audit"), w.path("blocklog"), func() uint64 { return 9 }, slog.New(slog.DiscardHandler))
		served <- audit.Serve(ctx, l, h, c.server, slog.New(slog.DiscardHandler))
	}()
	defer func() {
		cancel()
		w.must(<-served)
	}()
	https := func(conf *Config) {
		conf.Logs[1].Source = "https://" + l.Addr().String() + "/"
		conf.Logs[1].Blocklog = conf.Logs[1].Source
		conf.Logs[1].CA, conf.Logs[1].Cert, conf.Logs[1].Key = c.ca, c.cert, c.key
	}
	d := w.desk(https)
	steps, err := d.Mirror(t.Context(), "")
	w.must(err)
	for _, s := range steps {
		if s.Err != nil || s.Finding != nil {
			t.Fatalf("%v, %v", s.Finding, s.Err)
		}
	}
	r, err := d.Verify(t.Context())
	w.must(err)
	if !r.OK() || r.Logs[1].Audit.Compared != 6 {
		t.Errorf("compared %d, found %v", r.Logs[1].Audit.Compared, r.Findings)
	}
	d.logs[1].client.CloseIdleConnections()

	// Without the certificate nothing is served; that is no finding.
	bare := w.desk(https, func(conf *Config) { conf.Logs[1].Cert, conf.Logs[1].Key = "", "" })
	steps, err = bare.Mirror(t.Context(), "isp")
	w.must(err)
	if steps[0].Err == nil || steps[0].Finding != nil {
		t.Errorf("without certificate: %+v", steps[0])
	}
	bare.logs[1].client.CloseIdleConnections()
	if r := w.verify(); !r.OK() || !strings.Contains(strings.Join(r.NotChecked, "\n"), "isp: what came after") {
		t.Errorf("verification says %v, %q", r.Findings, r.NotChecked)
	}
}

// certificates are those of a server and of the official, by one authority.
type certificates struct {
	server        *tls.Config
	ca, cert, key string // files
}

func newCertificates(t *testing.T) *certificates {
	t.Helper()
	dir := t.TempDir()
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		fail(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(err)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	fail(err)
	issue := func(name string, usage x509.ExtKeyUsage) (cert, key string) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		fail(err)
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
			NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{usage}}, ca, &k.PublicKey, caKey)
		fail(err)
		keyDER, err := x509.MarshalPKCS8PrivateKey(k)
		fail(err)
		return write(name+".pem", "CERTIFICATE", der), write(name+".key", "PRIVATE KEY", keyDER)
	}
	c := &certificates{ca: write("ca.pem", "CERTIFICATE", caDER)}
	serverCert, serverKey := issue("server", x509.ExtKeyUsageServerAuth)
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	fail(err)
	pool := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(caDER)
	fail(err)
	pool.AddCert(parsed)
	c.server = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool}
	c.cert, c.key = issue("official", x509.ExtKeyUsageClientAuth)
	return c
}
