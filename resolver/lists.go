package resolver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"time"

	"cordon/blocklist"
	"cordon/resolver/policy"
	"cordon/signing"
)

// passphraseVariable holds the passphrase of identities whose configuration
// names no passphrase_file.
const passphraseVariable = "CORDON_PASSPHRASE"

// watch makes the watcher of one list. What the lists share is the policy they
// are handed to and the journal they are recorded in, nothing else.
func (r *Resolver) watch(c *ListConfig) (*blocklist.Watcher, error) {
	root, err := os.ReadFile(c.Root)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	identity, err := c.identity()
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	source, watched, err := c.source()
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	guard, err := blocklist.NewGuard(r.config.guard(c, r.protected, r.traffic))
	if err != nil {
		return nil, fmt.Errorf("policy.own_names: %w", err)
	}
	store, err := blocklist.OpenStore(r.config.Store, c.Name)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return blocklist.NewWatcher(blocklist.Config{
		Name:       c.Name,
		PinnedRoot: root,
		Source:     source,
		WatchDir:   watched,
		Poll:       c.Poll,
		Identity:   identity,
		Store:      store,
		Guard:      guard,
		Canary:     r.canary(c.Name),
		Clock:      r.clock,
		Recorder:   r.journal,
		Metrics:    r.listMetrics,
		Logger:     r.log,
		Apply: func(l *blocklist.Loaded) error {
			if err := r.policy.Apply(l.Name, l.List, l.Index); err != nil {
				return err
			}
			if r.outlet != nil {
				r.outlet.Apply(l)
			}
			return nil
		},
	})
}

// guard is what the guards of one list go by. All lists share the protected names
// and the traffic.
func (c *Config) guard(l *ListConfig, protected *blocklist.Protected, traffic *blocklist.Popularity) blocklist.GuardConfig {
	return blocklist.GuardConfig{
		OwnNames:  c.Policy.OwnNames,
		Protected: protected,
		Traffic:   traffic, PopularPerMillion: float64(c.Guard.Popular.PerMillion), PopularLeast: float64(c.Guard.Popular.Least),
		Additions: c.Guard.Additions, Removals: c.Guard.Removals, AcceptFirst: l.AcceptFirst,
	}
}

// protected reads the names that no list takes down without a person's word.
func (g *GuardConfig) protected() (*blocklist.Protected, error) {
	p := blocklist.NewProtected()
	if g.Starter {
		if err := p.AddStarter(); err != nil {
			return nil, err
		}
	}
	read := func(path string, add func(*os.File) error) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return add(f)
	}
	for _, path := range g.Protected {
		if err := read(path, func(f *os.File) error { return p.AddFile(f, path) }); err != nil {
			return nil, fmt.Errorf("protected: %w", err)
		}
	}
	if path := g.Ranking.File; path != "" {
		if err := read(path, func(f *os.File) error { return p.AddRanking(f, path, g.Ranking.Top) }); err != nil {
			return nil, fmt.Errorf("ranking: %w", err)
		}
	}
	return p, nil
}

// identity opens the age identity to which the list is encrypted.
func (c *ListConfig) identity() (string, error) {
	passphrase, err := signing.Passphrase(c.PassphraseFile, passphraseVariable, nil)
	if err != nil {
		return "", err
	}
	secret, err := signing.ReadSecret(c.Identity, signing.KindIdentity, passphrase)
	return string(secret), err
}

// source is where the authority publishes, and the folder to watch if it is one.
func (c *ListConfig) source() (source signing.Source, watched string, err error) {
	if !c.remote() {
		return signing.NewFolderSource(c.Source), c.Source, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, "", fmt.Errorf("ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, "", fmt.Errorf("ca: %s holds no certificate in PEM", c.CA)
		}
	}
	source, err = signing.NewHTTPSSource(c.Source, signing.NewHTTPClient(conf))
	return source, "", err
}

// Check reads what a configuration names and reports the first thing that
// would keep a resolver from starting. It opens no socket and writes nothing.
func Check(c Config) error {
	if _, err := rootHints(c.Recursion.RootHints); err != nil {
		return fmt.Errorf("recursion.root_hints: %w", err)
	}
	if _, err := trustAnchors(c.Recursion.TrustAnchors); err != nil {
		return fmt.Errorf("recursion.trust_anchors: %w", err)
	}
	if _, err := blocklist.NewGuard(blocklist.GuardConfig{OwnNames: c.Policy.OwnNames}); err != nil {
		return fmt.Errorf("policy.own_names: %w", err)
	}
	if err := c.RPZ.checkFiles(); err != nil {
		return fmt.Errorf("rpz.%w", err)
	}
	if _, err := c.Guard.protected(); err != nil {
		return fmt.Errorf("guard.%w", err)
	}
	if err := c.Feeds.checkFiles(); err != nil {
		return err
	}
	for i := range c.Lists {
		l := &c.Lists[i]
		if _, err := os.ReadFile(l.Root); err != nil {
			return fmt.Errorf("list %s: root: %w", l.Name, err)
		}
		if _, err := l.identity(); err != nil {
			return fmt.Errorf("list %s: identity: %w", l.Name, err)
		}
		if _, _, err := l.source(); err != nil {
			return fmt.Errorf("list %s: source: %w", l.Name, err)
		}
	}
	return nil
}

// Verified is what VerifyList says of a publication.
type Verified struct {
	Summary policy.Summary
	SHA256  string // hex; of the list's text
	Aside   []blocklist.Aside
	Pending int
}

// VerifyList verifies a publication that lies at path, as this configuration's
// resolver would that has nothing in force: the folder that an authority
// publishes, or a file of a list store. It changes nothing. name is that of the
// list in the configuration; "" for the only one.
func VerifyList(ctx context.Context, c Config, name, path string, clock func() time.Time) (*Verified, error) {
	i := slices.IndexFunc(c.Lists, func(l ListConfig) bool { return l.Name == name })
	if name == "" && len(c.Lists) == 1 {
		i = 0
	}
	if i < 0 {
		return nil, fmt.Errorf("list %q is not in the configuration", name)
	}
	l := &c.Lists[i]
	root, err := os.ReadFile(l.Root)
	if err != nil {
		return nil, fmt.Errorf("list %s: root: %w", l.Name, err)
	}
	identity, err := l.identity()
	if err != nil {
		return nil, fmt.Errorf("list %s: identity: %w", l.Name, err)
	}
	protected, err := c.Guard.protected()
	if err != nil {
		return nil, fmt.Errorf("guard.%w", err)
	}
	guard, err := blocklist.NewGuard(c.guard(l, protected, nil))
	if err != nil {
		return nil, fmt.Errorf("policy.own_names: %w", err)
	}
	loaded, err := blocklist.Inspection{Root: root, Identity: identity, Guard: guard, Clock: clock}.Inspect(ctx, l.Name, path)
	if err != nil {
		return nil, err
	}
	h := loaded.List.Header
	return &Verified{
		Summary: policy.Summary{Name: l.Name, Authority: h.Authority, Serial: h.Serial, Entries: h.Entries, Issued: h.Issued, ValidUntil: h.ValidUntil},
		SHA256:  loaded.ListSHA256, Aside: loaded.Aside, Pending: loaded.Pending,
	}, nil
}
