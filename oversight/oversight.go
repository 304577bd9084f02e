// Package oversight is the official's side: it mirrors the logs of those who
// are overseen, verifies them against each other, and shows what they say.
//
// Two kinds of log are followed (C2SP tlog-tiles, see package tlog): the
// authority's register of measures, and the audit log of each resolver. Their
// servers are trusted for nothing. What is mirrored is proven against a signed
// checkpoint before it is stored; every checkpoint ever seen is kept, and a log
// that does not continue the last one is evidence, not an update. Verification
// reads the official's own copies alone.
//
// What is found is a [Finding]: what, how bad, and where.
package oversight

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"cordon/audit/tlog"
	"cordon/signing"
)

// Surroundings is what a Desk needs of the process that it runs in.
type Surroundings struct {
	Clock func() time.Time
	// Passphrase opens the official's identity. It is called at most once, when a
	// list has to be decrypted.
	Passphrase func() ([]byte, error)
	// Waiting is called before waiting for another command that works on the same
	// folder; may be nil.
	Waiting func(lock string)
}

// Desk is the official's folder and what is followed in it. It is used by one
// goroutine at a time; several processes may work on one folder.
//
// The folder holds, all of it closed to others:
//
//	lock              held by the command that works here
//	logs/NAME/        the mirror of a log: its layout, and
//	  seen            each checkpoint that was ever seen, a line each; only grows
//	  attempt.json    how the last look at its server went
//	  conflicts/      evidence of a log that showed two histories
//	publication/      what the authority published, as it was signed and encrypted
type Desk struct {
	config      Config
	around      Surroundings
	logs        []*mirror
	publication *publication // nil: none is followed
	secret      string       // the identity, once it was opened
	// compared holds, by log, the first records of the ranges whose raw records
	// were found to be those sealed: a program that goes on need not demand them
	// again and again.
	compared map[string]map[uint64]bool
}

// Open prepares the folder of a configuration that was resolved and validated.
// It reads keys and certificates, and touches no network.
func Open(c Config, s Surroundings) (*Desk, error) {
	if s.Clock == nil {
		return nil, errors.New("oversight: a clock is needed")
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	info, err := os.Stat(c.Data)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("data: %s is open to others (mode %04o) and is to hold confidential lists: chmod 700 %s", c.Data, info.Mode().Perm(), c.Data)
	}
	d := &Desk{config: c, around: s, compared: map[string]map[uint64]bool{}}
	for i := range c.Logs {
		m, err := d.openLog(&c.Logs[i])
		if err != nil {
			return nil, fmt.Errorf("log %s: %w", c.Logs[i].Name, err)
		}
		d.logs = append(d.logs, m)
	}
	if c.Publication.Source != "" {
		if d.publication, err = d.openPublication(&c.Publication); err != nil {
			return nil, fmt.Errorf("publication: %w", err)
		}
	}
	return d, nil
}

func (d *Desk) openLog(c *LogConfig) (*mirror, error) {
	verifier, err := c.verifier()
	if err != nil {
		return nil, err
	}
	m := &mirror{
		name: c.Name, kind: c.Kind, from: c.Source, blocklog: c.Blocklog,
		dir: filepath.Join(d.config.Data, "logs", c.Name), verifier: verifier, disk: osDisk{}, clock: d.around.Clock,
	}
	m.source = tlog.FolderSource(c.Source)
	if remote(c.Source) || remote(c.Blocklog) {
		if m.client, err = httpsClient(c.CA, c.Cert, c.Key); err != nil {
			return nil, err
		}
		m.client.Timeout = fetchTimeout
	}
	if remote(c.Source) {
		m.source = tlog.HTTPSource(c.Source, m.client)
	}
	return m, nil
}

func (d *Desk) openPublication(c *PublicationConfig) (*publication, error) {
	root, err := os.ReadFile(c.Root)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	p := &publication{dir: filepath.Join(d.config.Data, "publication"), root: root, disk: osDisk{}, clock: d.around.Clock}
	p.source = signing.NewFolderSource(c.Source)
	if remote(c.Source) {
		client, err := httpsClient(c.CA, c.Cert, c.Key)
		if err != nil {
			return nil, err
		}
		if p.source, err = signing.NewHTTPSSource(c.Source, client); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// verifier reads the log's verifier key, which the configuration holds itself or
// names the file of.
func (c *LogConfig) verifier() (note.Verifier, error) {
	if v, err := note.NewVerifier(c.Vkey); err == nil {
		return v, nil
	}
	return tlog.ReadVerifier(c.Vkey)
}

// remote tells an address from a folder.
func remote(source string) bool { return strings.Contains(source, "://") }

// fetchTimeout bounds one file of a log: a bundle can have 16 MiB.
const fetchTimeout = 2 * time.Minute

// httpsClient makes a client without a time-out of its own. It presents the official's certificate, and trusts the authorities
// in ca (the system's where it is empty). It follows no redirect, so that the
// certificate is shown to nobody else.
func httpsClient(ca, cert, key string) (*http.Client, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s holds no PEM certificate", ca)
		}
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("cert %s and key %s: %w", cert, key, err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	client := signing.NewHTTPClient(t)
	client.CheckRedirect = func(next *http.Request, _ []*http.Request) error {
		return fmt.Errorf("redirected to %s; name the log's own address as source", next.URL.Redacted())
	}
	return client, nil
}

// log finds a log by name or by source.
func (d *Desk) log(nameOrSource string) (*mirror, error) {
	var names []string
	for _, m := range d.logs {
		if m.name == nameOrSource || m.from == nameOrSource {
			return m, nil
		}
		names = append(names, m.name)
	}
	return nil, fmt.Errorf("%q is no log of the configuration: name one of %s", nameOrSource, strings.Join(names, ", "))
}

// register is the authority's, nil where none is followed.
func (d *Desk) register() *mirror {
	for _, m := range d.logs {
		if m.kind == KindRegister {
			return m
		}
	}
	return nil
}

// audits are the audit logs.
func (d *Desk) audits() []*mirror {
	var all []*mirror
	for _, m := range d.logs {
		if m.kind == KindAudit {
			all = append(all, m)
		}
	}
	return all
}

// identity opens the official's identity; empty where none is configured.
func (d *Desk) identity() (string, error) {
	if d.secret != "" || d.config.Identity == "" {
		return d.secret, nil
	}
	passphrase, err := d.around.Passphrase()
	if err != nil {
		return "", fmt.Errorf("identity %s: %w", d.config.Identity, err)
	}
	secret, err := signing.ReadSecret(d.config.Identity, signing.KindIdentity, passphrase)
	if err != nil {
		return "", fmt.Errorf("identity: %w", err)
	}
	d.secret = strings.TrimSpace(string(secret))
	return d.secret, nil
}

// shared and exclusive keep commands that read the mirrors and one that changes
// them apart.
func (d *Desk) shared(ctx context.Context) (unlock func() error, err error) {
	return takeLock(ctx, filepath.Join(d.config.Data, "lock"), false, d.around.Waiting)
}

func (d *Desk) exclusive(ctx context.Context) (unlock func() error, err error) {
	return takeLock(ctx, filepath.Join(d.config.Data, "lock"), true, d.around.Waiting)
}

// Check reads what a configuration names, and says what is wrong with it. It
// makes nothing and touches no network.
func Check(c Config) error {
	var errs []error
	d := &Desk{config: c}
	for i := range c.Logs {
		if _, err := d.openLog(&c.Logs[i]); err != nil {
			errs = append(errs, fmt.Errorf("log %s: %w", c.Logs[i].Name, err))
		}
	}
	if c.Publication.Source != "" {
		if _, err := d.openPublication(&c.Publication); err != nil {
			errs = append(errs, fmt.Errorf("publication: %w", err))
		}
	}
	if c.Identity != "" {
		if _, err := os.Stat(c.Identity); err != nil {
			errs = append(errs, fmt.Errorf("identity: %w; \"cordon-oversight identity FILE\" makes one", err))
		}
	}
	return errors.Join(errs...)
}

// NameOf makes a log's name from its verifier key, or the file with it: that of
// isp.example/audit is isp-example-audit.
func NameOf(vkey string) (string, error) {
	v, err := (&LogConfig{Vkey: vkey}).verifier()
	if err != nil {
		return "", err
	}
	plain := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_':
			return c
		case c >= 'A' && c <= 'Z':
			return c + 'a' - 'A'
		}
		return '-'
	}, v.Name())
	plain = strings.TrimLeft(plain, "-_")
	return plain[:min(len(plain), 32)], nil
}
