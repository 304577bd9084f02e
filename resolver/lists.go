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
	sources, watched, err := c.sources()
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	guard, err := blocklist.NewGuard(r.config.guard(c, blocklist.GuardConfig{Protected: r.protected.Load, Traffic: r.traffic, Elsewhere: r.pagesOfOthers(c.Name)}))
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
		Source:     sources[0],
		Mirrors:    sources[1:],
		WatchDirs:  watched,
		Poll:       c.Poll,
		Identity:   identity,
		Store:      store,
		Guard:      guard,
		Canary:     r.canary(c.Name),
		Clock:      r.clock,
		Recorder:   r.journal,
		Metrics:    r.listMetrics,
		Logger:     r.log,
		Making:     r.aside.begin,
		Apply: func(l *blocklist.Loaded) error {
			if err := r.policy.Apply(l.Name, l.List, l.Index); err != nil {
				return err
			}
			r.warnOfCoveredPages(l)
			if r.outlet != nil {
				r.outlet.Apply(l)
			}
			return nil
		},
	})
}

// guard adds to what the guards of one list see what the configuration sets.
func (c *Config) guard(l *ListConfig, sees blocklist.GuardConfig) blocklist.GuardConfig {
	sees.OwnNames = c.Policy.OwnNames
	sees.PopularPerMillion, sees.PopularLeast = float64(c.Guard.Popular.PerMillion), float64(c.Guard.Popular.Least)
	sees.Additions, sees.Removals, sees.AcceptFirst = c.Guard.Additions, c.Guard.Removals, l.AcceptFirst
	return sees
}

// pagesOfOthers gives the stop pages of all lists in force but one.
func (r *Resolver) pagesOfOthers(list string) func() map[string]string {
	return func() map[string]string {
		pages := make(map[string]string)
		for _, w := range r.watchers {
			v := w.View()
			if v.Name == list || v.Running == nil {
				continue
			}
			for host, what := range v.Running.List.PageHosts() {
				pages[host] = what + " of list " + v.Name
			}
		}
		return pages
	}
}

// warnOfCoveredPages tells where a list that has come into force finds its stop
// page blocked by another one: that had its entry first, and is not undone by this.
func (r *Resolver) warnOfCoveredPages(l *blocklist.Loaded) {
	for host, what := range l.List.PageHosts() {
		wire, err := blocklist.WireName(host)
		if err != nil {
			continue // Parse lets no such page pass
		}
		for _, c := range r.policy.Current().Covering(wire) {
			r.log.Error("the page that explains a list's blocks is itself blocked by another list: tell both authorities",
				"list", l.Name, "page", what, "host", host, "by_list", c.List, "entry", c.Entry.ID)
		}
	}
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

// sources are where the publication is to be had, and those of them that are
// folders, to be watched.
func (c *ListConfig) sources() (all []signing.Source, watched []string, err error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, nil, fmt.Errorf("ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("ca: %s holds no certificate in PEM", c.CA)
		}
	}
	for _, place := range c.Source {
		source := signing.NewFolderSource(place)
		if remote(place) {
			if source, err = signing.NewHTTPSSource(place, signing.NewHTTPClient(conf)); err != nil {
				return nil, nil, err
			}
		} else {
			watched = append(watched, place)
		}
		all = append(all, source)
	}
	return all, watched, nil
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
		if _, _, err := l.sources(); err != nil {
			return fmt.Errorf("list %s: source: %w", l.Name, err)
		}
	}
	return nil
}

// Verified is what VerifyList says of a publication.
type Verified struct {
	Summary policy.Summary
	SHA256  string // hex; of the list's text
	Signed  bool   // false for a list in clear, whose signatures nobody can check
	Aside   []blocklist.Aside
	Pending int
}

// VerifyList verifies a publication that lies at path, as this configuration's
// resolver would that has nothing in force: the folder that an authority
// publishes, a file of a list store, or a list in clear. It changes nothing. name is that of the
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
	guard, err := blocklist.NewGuard(c.guard(l, blocklist.GuardConfig{Protected: func() *blocklist.Protected { return protected }}))
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
		SHA256:  loaded.ListSHA256, Signed: loaded.TargetSHA256 != "", Aside: loaded.Aside, Pending: loaded.Pending,
	}, nil
}
