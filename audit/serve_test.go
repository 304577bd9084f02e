package audit

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cordon/audit/tlog"
	"cordon/audit/tlog/tlogtest"
	"cordon/blocklog"
	"cordon/signing"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// get asks the handler of a site, without a network.
func (s *site) get(method, path string, sealed uint64) *httptest.ResponseRecorder {
	h := Handler(s.log, s.blocklog, func() uint64 { return sealed }, quiet())
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, "https://audit.example"+path, nil))
	return w
}

func TestTheOfficialCanReadTheLogAndSealedRecordsAndNothingElse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.block("a.example", "b.example", "c.example")
	s.seal()
	s.block("unsealed.example")
	if err := os.WriteFile(s.log+"/secret", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"/checkpoint":                        200,
		"/tile/0/000.p/3":                    200,
		"/tile/entries/000.p/3":              200,
		"/blocklog/1-3":                      200,
		"/blocklog/2-2":                      200,
		"/tile/0/000":                        404,
		"/":                                  404,
		"/tile/":                             404,
		"/tile/0":                            404,
		"/secret":                            404,
		"/.state/treeState":                  404,
		"/.lock":                             404,
		"/tile/entries/%2e%2e/%2e%2e/secret": 404,
		"/blocklog/":                         404,
		"/blocklog/3-4":                      404, // 4 is not sealed
		"/blocklog/4-4":                      404,
		"/blocklog/9-10":                     404,
		"/blocklog/0-1":                      400,
		"/blocklog/3-2":                      400,
		"/blocklog/01-2":                     400,
		"/blocklog/+1-2":                     400,
		"/blocklog/1":                        400,
		"/blocklog/1-99999999999999999999":   400,
	} {
		w := s.get("GET", path, 4)
		if w.Code != want {
			t.Errorf("%s answers %d, want %d", path, w.Code, want)
		}
		if w.Code != 200 && strings.Contains(w.Body.String(), s.log) {
			t.Errorf("%s tells where the log is: %s", path, w.Body)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		if w := s.get(method, "/checkpoint", 4); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s answers %d", method, w.Code)
		}
	}
	raw, err := NewFolderRecords(s.blocklog).Records(t.Context(), 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	if w := s.get("GET", "/blocklog/1-3", 4); !bytes.Equal(w.Body.Bytes(), raw) {
		t.Errorf("raw records differ")
	}
}

func TestADemandThatCannotBeMetSaysWhy(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.block(many(60)...)
	s.seal()
	path, offset := s.at(59)
	flipByte(t, path, offset+30)
	if _, err := blocklog.Prune(s.blocklog, 61, noon.AddDate(0, 0, 1)); err != nil {
		t.Fatal(err)
	}
	if w := s.get("GET", "/blocklog/1-2", 61); w.Code != http.StatusGone {
		t.Errorf("removed records: %d %s", w.Code, w.Body)
	}
	if w := s.get("GET", "/blocklog/59-60", 61); w.Code != 500 || !strings.Contains(w.Body.String(), "damaged at record 59") {
		t.Errorf("damaged records: %d %s", w.Code, w.Body)
	}
	if w := s.get("GET", "/blocklog/60-70", 71); w.Code != 500 {
		t.Errorf("records that are not there: %d %s", w.Code, w.Body)
	}
}

// authority issues certificates for tests.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	var der []byte
	a.key, der = a.issue(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}, nil)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) issue(template *x509.Certificate, parent *x509.Certificate) (*ecdsa.PrivateKey, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	signer := a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, der
}

// leaf issues a certificate for loopback and writes it and its key as PEM.
func (a *authority) leaf(dir, name string) (certPath, keyPath string) {
	a.t.Helper()
	key, der := a.issue(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	certPath, keyPath = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	a.write(certPath, "CERTIFICATE", der)
	a.write(keyPath, "PRIVATE KEY", private)
	return certPath, keyPath
}

func (a *authority) write(path, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func TestAnAuditorServesHoldersOfACertificateAndVerifiesFromAfar(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.block("a.example", "b.example")
	dir := tlogtest.Dir(t)
	ca := newAuthority(t)
	ca.write(dir+"/ca.pem", "CERTIFICATE", ca.cert.Raw)
	server, serverKey := ca.leaf(dir, "server")
	official, officialKey := ca.leaf(dir, "official")
	stranger, strangerKey := newAuthority(t).leaf(dir, "stranger")
	if err := signing.WriteSecret(dir+"/audit.key", signing.KindNoteSigner, []byte(s.skey), []byte("x"), 1); err != nil {
		t.Fatal(err)
	}
	c := DefaultConfig()
	c.Blocklog, c.Log, c.Key = s.blocklog, s.log, dir+"/audit.key"
	c.Listen, c.Metrics = "127.0.0.1:0", "127.0.0.1:0"
	c.TLS = TLSConfig{Certificate: server, Key: serverKey, ClientCA: dir + "/ca.pem"}
	c.Resolve(func(p string) string { return p })
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	a, err := New(t.Context(), c, []byte("x"), "test", s.clock, quiet())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	if err := a.tlog.Published(t.Context(), 0); err != nil {
		t.Fatal(err)
	}

	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	client := func(certificates ...tls.Certificate) *http.Client {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certificates}}}
		t.Cleanup(c.CloseIdleConnections)
		return c
	}
	load := func(cert, key string) tls.Certificate {
		c, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	base := "https://" + a.channel.Addr().String() + "/"
	for name, c := range map[string]*http.Client{"nobody": client(), "a stranger": client(load(stranger, strangerKey))} {
		if resp, err := c.Get(base + "checkpoint"); err == nil {
			resp.Body.Close()
			t.Errorf("%s was answered %s", name, resp.Status)
		}
	}

	known := client(load(official, officialKey))
	resp, err := known.Get("http://" + a.metrics.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || !strings.Contains(string(metrics), "\ncordon_audit_size ") || !strings.Contains(string(metrics), "\ncordon_audit_lag_records ") {
		t.Errorf("metrics are %s, %v", metrics, err)
	}

	r := tlog.NewReader(tlog.HTTPSource(base, known), s.verifier)
	if _, err := r.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := NewHTTPRecords(base, known).Records(t.Context(), 5, 5); err == nil {
		t.Error("records that are not sealed were given out")
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got, want := s.story(), "on, decisions 1-2, off"; got != want {
		t.Errorf("leaves are %s, want %s", got, want)
	}

	// The same again over the network, with everything sealed.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conf, err := loadTLS(c.TLS)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop = context.WithCancel(t.Context())
	go func() {
		done <- Serve(ctx, l, Handler(s.log, s.blocklog, func() uint64 { return 3 }, quiet()), conf, quiet())
	}()
	base = "https://" + l.Addr().String() + "/"
	r = tlog.NewReader(tlog.HTTPSource(base, known), s.verifier)
	cp, err := r.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	report, err := Verify(t.Context(), r, cp, NewHTTPRecords(base, known))
	if err != nil || !report.OK() || report.Compared != 1 || report.Records != 2 {
		t.Errorf("from afar: %+v, %v", report, err)
	}
	if err := os.RemoveAll(s.blocklog); err != nil {
		t.Fatal(err)
	}
	s.block("x.example") // another record 1, none 2
	report, err = Verify(t.Context(), r, cp, NewHTTPRecords(base, known))
	if err != nil || len(report.Findings) != 1 || report.Findings[0].Kind != FindingRecords {
		t.Errorf("from afar, with the block log gone: %+v, %v", report, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsWrongWithAConfigurationIsNamed(t *testing.T) {
	good := func() Config {
		c := DefaultConfig()
		c.Blocklog, c.Log, c.Key = "b", "l", "k"
		return c
	}
	c := good()
	c.Resolve(func(p string) string {
		if p == "" {
			return p
		}
		return "/etc/" + p
	})
	if err := c.Validate(); err != nil || c.VerifierKey != "/etc/k.vkey" || c.Blocklog != "/etc/b" {
		t.Errorf("%+v: %v", c, err)
	}
	for want, change := range map[string]func(*Config){
		"blocklog: it is missing":             func(c *Config) { c.Blocklog = "" },
		"log: it is missing":                  func(c *Config) { c.Log = "" },
		"key: it is missing":                  func(c *Config) { c.Key = "" },
		"a folder of its own":                 func(c *Config) { c.Log = c.Blocklog },
		"seal_interval: 1ms is not between":   func(c *Config) { c.SealInterval = time.Millisecond },
		`metrics: "x" is not an address`:      func(c *Config) { c.Metrics = "x" },
		"tls: certificate, key and client_ca": func(c *Config) { c.Listen = "127.0.0.1:1" },
		"tls: it has no effect":               func(c *Config) { c.TLS.Key = "k" },
	} {
		c := good()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

func TestAnAuditorThatCannotStartLeavesNothingOpen(t *testing.T) {
	s := newSite(t)
	dir := tlogtest.Dir(t)
	if err := signing.WriteSecret(dir+"/audit.key", signing.KindNoteSigner, []byte(s.skey), []byte("x"), 1); err != nil {
		t.Fatal(err)
	}
	l := s.open() // holds the log
	c := DefaultConfig()
	c.Blocklog, c.Log, c.Key, c.Metrics = s.blocklog, s.log, dir+"/audit.key", "127.0.0.1:0"
	if _, err := New(t.Context(), c, []byte("x"), "test", s.clock, quiet()); !errors.Is(err, tlog.ErrLocked) {
		t.Errorf("with the log held: %v", err)
	}
	if _, err := New(t.Context(), c, []byte("wrong"), "test", s.clock, quiet()); !errors.Is(err, signing.ErrPassphrase) {
		t.Errorf("with a wrong passphrase: %v", err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseRange(f *testing.F) {
	f.Add("1-2")
	f.Add("+1-2")
	f.Fuzz(func(t *testing.T, text string) {
		first, last, ok := parseRange(text)
		if ok && (first == 0 || last < first || strings.Trim(text, "0123456789-") != "") {
			t.Fatalf("%q is read as %d to %d", text, first, last)
		}
	})
}
