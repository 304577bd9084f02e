package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// certificatePoll is how often the files are looked at where the file system
	// tells nothing.
	certificatePoll = time.Minute
	// certificateSettle is how long the files are left alone after a change:
	// whoever renews writes two.
	certificateSettle = 200 * time.Millisecond
)

// Certificates is the server certificate of the encrypted transports. It is
// read anew when its files change; a pair that does not fit together, or cannot
// be read, leaves the one before in use. Safe for concurrent use.
type Certificates struct {
	certificate, key string
	log              *slog.Logger
	current          atomic.Pointer[tls.Certificate]
}

// OpenCertificates reads a certificate with its chain and its key, both PEM.
func OpenCertificates(certificate, key string, log *slog.Logger) (*Certificates, error) {
	c := &Certificates{certificate: certificate, key: key, log: log}
	if _, err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// Leaf is the certificate in use.
func (c *Certificates) Leaf() *x509.Certificate { return c.current.Load().Leaf }

// load reads the files and says whether they hold another certificate than the
// one in use.
func (c *Certificates) load() (changed bool, err error) {
	pair, err := tls.LoadX509KeyPair(c.certificate, c.key)
	if err != nil {
		return false, fmt.Errorf("read the certificate %s and its key %s: %w", c.certificate, c.key, err)
	}
	old := c.current.Swap(&pair)
	return old == nil || !old.Leaf.Equal(pair.Leaf), nil
}

// Run reads the files anew when they change, until ctx ends. Folders are
// watched, not files, since renewal replaces files or the link to them; where
// that cannot be done the files are looked at every minute all the same.
func (c *Certificates) Run(ctx context.Context) error {
	watch, err := c.watch()
	if err != nil {
		c.log.Warn("the certificate's folder cannot be watched; its files are looked at every minute", "error", err)
		watch = &fsnotify.Watcher{} // whose channels are nil
	} else {
		defer watch.Close()
	}
	due := time.NewTimer(certificatePoll)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watch.Events:
			due.Reset(certificateSettle)
			continue
		case err := <-watch.Errors:
			c.log.Warn("watching the certificate's folder failed", "error", err)
			continue
		case <-due.C:
		}
		due.Reset(certificatePoll)
		switch changed, err := c.load(); {
		case err != nil:
			c.log.Error("the certificate was not changed; the one before stays in use", "error", err)
		case changed:
			c.log.Info("certificate changed", "file", c.certificate, "valid_until", c.Leaf().NotAfter)
		}
	}
}

func (c *Certificates) watch() (*fsnotify.Watcher, error) {
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{filepath.Dir(c.certificate), filepath.Dir(c.key)} {
		if err := watch.Add(dir); err != nil {
			return nil, errors.Join(err, watch.Close())
		}
	}
	return watch, nil
}

// config is the TLS configuration for a protocol, by its ALPN names. clients
// may sign for client certificates, which are asked for but not required; nil:
// none are asked for.
func (c *Certificates) config(clients *x509.CertPool, alpn ...string) *tls.Config {
	t := &tls.Config{
		MinVersion:     tls.VersionTLS12, // RFC 8310 §9; QUIC takes 1.3 by itself
		NextProtos:     alpn,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
	if clients != nil {
		t.ClientCAs, t.ClientAuth = clients, tls.VerifyClientCertIfGiven
	}
	return t
}

// certified says whether the client has shown a certificate that holds.
func certified(s tls.ConnectionState) bool { return len(s.VerifiedChains) > 0 }
