package audit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"cordon/audit/tlog"
	"cordon/signing"
)

// CreateKey makes the log's key, named name, and writes it encrypted to c.Key,
// and its verifier key to c.VerifierKey. Where the key is there already, only a
// missing verifier key is written. logN is the work of signing.WriteSecret. It
// returns the verifier key.
func CreateKey(c Config, name string, passphrase []byte, logN int) (vkey string, err error) {
	for _, path := range []string{c.Key, c.VerifierKey} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return "", fmt.Errorf("create key: %w", err)
		}
	}
	if _, err := os.Lstat(c.Key); errors.Is(err, os.ErrNotExist) {
		skey, _, err := tlog.GenerateKey(name)
		if err != nil {
			return "", err
		}
		if err := signing.WriteSecret(c.Key, signing.KindNoteSigner, []byte(skey), passphrase, logN); err != nil {
			return "", err
		}
	}
	signer, vkey, err := openKey(c, passphrase)
	if err != nil {
		return "", err
	}
	if signer.Name() != name {
		return "", fmt.Errorf("key %s: its log is named %s, not %s", c.Key, signer.Name(), name)
	}
	f, err := os.OpenFile(c.VerifierKey, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		v, err := tlog.ReadVerifier(c.VerifierKey)
		if err == nil && (v.Name() != signer.Name() || v.KeyHash() != signer.KeyHash()) {
			err = fmt.Errorf("verifier key %s belongs to another key than %s; move it away", c.VerifierKey, c.Key)
		}
		return vkey, err
	}
	if err != nil {
		return "", fmt.Errorf("write verifier key: %w", err)
	}
	_, err = f.WriteString(vkey + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("write verifier key %s: %w", c.VerifierKey, err)
	}
	return vkey, nil
}

func openKey(c Config, passphrase []byte) (note.Signer, string, error) {
	skey, err := signing.ReadSecret(c.Key, signing.KindNoteSigner, passphrase)
	if err != nil {
		return nil, "", err
	}
	signer, vkey, err := tlog.ParseKey(string(skey))
	if err != nil {
		return nil, "", fmt.Errorf("key %s: %w", c.Key, err)
	}
	return signer, vkey, nil
}

// Auditor is the program as one value: it seals, serves the log to the official,
// and its metrics.
type Auditor struct {
	c       Config
	log     *slog.Logger
	tlog    *tlog.Log
	sealer  *Sealer
	tls     *tls.Config
	channel net.Listener // to the official; nil for none
	metrics net.Listener // nil for none
	gather  prometheus.Gatherer
}

// New opens the audit log and the listeners; c has been resolved and validated.
// Run has to be called.
func New(ctx context.Context, c Config, passphrase []byte, version string, clock func() time.Time, log *slog.Logger) (*Auditor, error) {
	signer, vkey, err := openKey(c, passphrase)
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", c.Key, err)
	}
	warnIfWritable(c.Blocklog, log)
	a := &Auditor{c: c, log: log}
	if c.Listen != "" {
		if a.tls, err = loadTLS(c.TLS); err != nil {
			return nil, err
		}
		if a.channel, err = net.Listen("tcp", c.Listen); err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
	}
	if c.Metrics != "" {
		if a.metrics, err = net.Listen("tcp", c.Metrics); err != nil {
			a.closeListeners()
			return nil, fmt.Errorf("listen for metrics: %w", err)
		}
	}
	if a.tlog, err = tlog.Open(ctx, c.Log, signer, tlog.Options{Logger: log}); err != nil {
		a.closeListeners()
		return nil, err
	}
	registry := prometheus.NewRegistry()
	a.gather = registry
	a.sealer, err = NewSealer(SealerConfig{
		Blocklog: c.Blocklog, Log: a.tlog, LogDir: c.Log, Verifier: verifier,
		Interval: c.SealInterval, Version: version, Clock: clock, Logger: log, Metrics: registry, Sealed: c.Sealed,
	})
	if err != nil {
		a.closeListeners()
		return nil, errors.Join(err, a.tlog.Close(ctx))
	}
	return a, nil
}

// Run seals and serves until ctx ends. Then it seals what is there, publishes
// the checkpoint, and stops serving last.
func (a *Auditor) Run(ctx context.Context) error {
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	g, ctx := errgroup.WithContext(ctx) // ends when one of them fails, too
	if a.channel != nil {
		g.Go(func() error {
			return Serve(serving, a.channel, Handler(a.c.Log, a.c.Blocklog, a.sealer.Sealed, a.log), a.tls, a.log)
		})
	}
	if a.metrics != nil {
		g.Go(func() error { return serveMetrics(serving, a.metrics, a.gather) })
	}
	g.Go(func() error {
		defer stopServing()
		err := a.sealer.Run(ctx)
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return errors.Join(err, a.tlog.Close(closing))
	})
	return g.Wait()
}

func (a *Auditor) closeListeners() {
	for _, l := range []net.Listener{a.channel, a.metrics} {
		if l != nil {
			l.Close()
		}
	}
}

// warnIfWritable says when the separation between resolver and auditor is not
// there: who takes over one of two processes of one user has both.
func warnIfWritable(dir string, log *slog.Logger) {
	if unix.Access(dir, unix.W_OK) == nil {
		log.Warn("the auditor can write to the block log that it seals; run it as a user of its own that can only read it", "blocklog", dir)
	}
}

func loadTLS(c TLSConfig) (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return nil, fmt.Errorf("tls: certificate %s and key %s: %w", c.Certificate, c.Key, err)
	}
	pem, err := os.ReadFile(c.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("tls: client_ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls: client_ca: %s holds no PEM certificate", c.ClientCA)
	}
	return &tls.Config{Certificates: []tls.Certificate{certificate}, ClientCAs: pool}, nil
}

// serveMetrics answers /metrics until ctx ends.
func serveMetrics(ctx context.Context, l net.Listener, gather prometheus.Gatherer) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gather, promhttp.HandlerOpts{}))
	s := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve metrics: %w", err)
	case <-ctx.Done():
	}
	err := s.Close()
	<-served
	if err != nil {
		return fmt.Errorf("stop serving metrics: %w", err)
	}
	return nil
}
