package oversight

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"

	"cordon/audit"
	"cordon/audit/tlog"
	"cordon/audit/tlog/tlogtest"
	"cordon/authority"
	"cordon/blocklist"
	"cordon/blocklog"
	"cordon/signing"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("CORDON_TEST_MIRROR_UNTIL_KILLED"); dir != "" {
		mirrorUntilKilled(dir)
		return
	}
	code := m.Run()
	if dir := builtIn; dir != "" {
		os.RemoveAll(dir)
	}
	if err := goleak.Find(); code == 0 && err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		code = 1
	}
	os.Exit(code)
}

// world is an authority that has published two lists, a resolver that has
// enforced them, its auditor, and an official, all below one folder.
//
//	list 1: propagande.example (2026-0001, scope domain)
//	list 2: images.example (2026-0002, scope host); propagande.example is lifted
//
// The block log: 1 started, 2 list.applied 1, 3 to 5 decisions (5 by an alias),
// 6 list.applied 2, 7 decision, 8 stopped.
type world struct {
	t   testing.TB
	dir string
	now time.Time
}

var testPassphrase = []byte("correct horse")

const (
	auditOrigin    = "isp.example/audit"
	registerOrigin = "cordon/office-of-the-example/register"
)

var (
	builtIn string // set by built
	// built makes a world once; each test works in a copy.
	built = sync.OnceValue(func() error {
		dir, err := os.MkdirTemp("", "oversight")
		if err != nil {
			return err
		}
		builtIn = dir
		return buildWorld(dir)
	})
	start = time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
)

func newWorld(t testing.TB) *world {
	t.Helper()
	if err := built(); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: tlogtest.Dir(t), now: start.Add(2 * time.Hour)}
	w.must(os.CopyFS(w.dir, os.DirFS(builtIn)))
	w.must(filepath.WalkDir(w.path("keys"), ownersOnly))
	w.must(filepath.WalkDir(w.path("authority/keys"), ownersOnly))
	return w
}

// ownersOnly undoes what os.CopyFS does to modes.
func ownersOnly(path string, e os.DirEntry, err error) error {
	if err != nil || e.IsDir() {
		return err
	}
	return os.Chmod(path, 0o600)
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) config() Config {
	c := DefaultConfig()
	c.Data = w.path("official")
	c.Logs = []LogConfig{
		{Name: "register", Kind: KindRegister, Source: w.path("authority/register"), Vkey: w.path("authority/register.vkey")},
		{Name: "isp", Kind: KindAudit, Source: w.path("audit"), Vkey: w.path("audit.vkey"), Blocklog: w.path("blocklog")},
	}
	c.Publication = PublicationConfig{Source: w.path("publish"), Root: w.path("publish/metadata/1.root.json")}
	c.Identity = w.path("keys/official")
	return c
}

// desk opens the official's folder, as a command of its own would.
func (w *world) desk(change ...func(*Config)) *Desk {
	w.t.Helper()
	c := w.config()
	for _, f := range change {
		f(&c)
	}
	w.must(c.Validate())
	d, err := Open(c, Surroundings{Clock: func() time.Time { return w.now }, Passphrase: func() ([]byte, error) { return testPassphrase, nil }})
	w.must(err)
	for _, m := range d.logs {
		m.disk = lazyDisk{}
	}
	if d.publication != nil {
		d.publication.disk = lazyDisk{}
	}
	return d
}

// mirror mirrors everything and expects nothing to be wrong.
func (w *world) mirror(change ...func(*Config)) {
	w.t.Helper()
	steps, err := w.desk(change...).Mirror(w.t.Context(), "")
	w.must(err)
	for _, s := range steps {
		if s.Err != nil || s.Finding != nil {
			w.t.Fatalf("mirror %s: %v, %v", s.Name, s.Finding, s.Err)
		}
	}
}

// verify verifies what was mirrored.
func (w *world) verify(change ...func(*Config)) *Report {
	w.t.Helper()
	r, err := w.desk(change...).Verify(w.t.Context())
	w.must(err)
	return r
}

// keysOf opens the authority's keys.
type keysOf string

func (dir keysOf) Signer(name string) (crypto.Signer, error) {
	return signing.ReadKey(filepath.Join(string(dir), name+".key"), testPassphrase)
}

func (dir keysOf) Secret(name, kind string) ([]byte, error) {
	return signing.ReadSecret(filepath.Join(string(dir), name+".key"), kind, testPassphrase)
}

func buildWorld(dir string) error {
	ctx := context.Background()
	now := start
	clock := func() time.Time { return now }
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.MkdirAll(path("keys"), 0o700); err != nil {
		return err
	}
	identity, recipient, err := signing.GenerateIdentity()
	if err != nil {
		return err
	}
	if err := signing.WriteSecret(path("keys/official"), signing.KindIdentity, []byte(identity), testPassphrase, 2); err != nil {
		return err
	}
	settings := authority.DefaultSettings()
	settings.Publish = "../publish"
	settings.StopPages = map[string]authority.StopPage{}
	for _, s := range []string{"terrorism=192.0.2.1,,https://stop.example/t", "minors=192.0.2.1,,https://stop.example/m"} {
		category, page, err := authority.ParseStopPage(s)
		if err != nil {
			return err
		}
		settings.StopPages[category] = page
	}
	if _, err := authority.Found(ctx, authority.Founding{
		Dir: path("authority"), Name: "Office of the example", Procedure: "../configs/procedure-france.yaml",
		Officers: []string{"alice", "bruno", "chloe"}, Recipients: []authority.Recipient{{Name: "official", Key: recipient}},
		Root: authority.Holders{Number: 3, Threshold: 2}, Targets: authority.Holders{Number: 3, Threshold: 2},
		Settings: settings, Passphrase: testPassphrase, KDFLogN: 2, Clock: clock,
	}); err != nil {
		return err
	}
	if err := decide(ctx, path("authority"), func() time.Time { now = now.Add(time.Minute); return now }); err != nil {
		return err
	}
	published, err := publishedIn(ctx, path("authority"))
	if err != nil {
		return err
	}
	if err := enforce(path("blocklog"), published); err != nil {
		return err
	}
	skey, vkey, err := tlog.GenerateKey(auditOrigin)
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(path("keys/audit.skey"), []byte(skey), 0o600), os.WriteFile(path("audit.vkey"), []byte(vkey+"\n"), 0o600)); err != nil {
		return err
	}
	return sealBlocklog(ctx, path("blocklog"), path("audit"), skey, vkey)
}

// decide is the authority's work: two lists.
func decide(ctx context.Context, dir string, clock func() time.Time) error {
	keys := keysOf(filepath.Join(dir, "keys"))
	office, err := authority.OpenOffice(ctx, authority.OfficeConfig{Dir: dir, Keys: keys, Clock: clock})
	if err != nil {
		return err
	}
	list := func(p authority.Proposal) error {
		if _, err := office.Propose(ctx, p, "alice"); err != nil {
			return err
		}
		for _, by := range []string{"bruno", "chloe"} {
			if _, err := office.Approve(ctx, p.Name, by); err != nil {
				return err
			}
		}
		return nil
	}
	publish := func() error {
		for _, holder := range []string{"targets-1", "targets-2"} {
			key, err := keys.Signer(holder)
			if err != nil {
				return err
			}
			if _, err := office.Sign(ctx, key); err != nil {
				return err
			}
		}
		_, err := office.Publish(ctx)
		return err
	}
	err = list(authority.Proposal{Name: "propagande.example", Scope: blocklist.ScopeDomain, Category: "terrorism", Decision: "D-1"})
	if err == nil {
		err = publish()
	}
	if err == nil {
		err = list(authority.Proposal{Name: "images.example", Category: "minors", Decision: "D-2"})
	}
	if err == nil {
		_, err = office.Lift(ctx, "propagande.example", "gone", "bruno")
	}
	if err == nil {
		err = publish()
	}
	return errors.Join(err, office.Close(ctx))
}

func publishedIn(ctx context.Context, dir string) ([]*authority.Publication, error) {
	v, err := tlog.ReadVerifier(filepath.Join(dir, authority.VerifierFile))
	if err != nil {
		return nil, err
	}
	reader := tlog.NewReader(tlog.FolderSource(filepath.Join(dir, authority.RegisterDir)), v)
	cp, err := reader.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	r, err := authority.Replay(reader.Leaves(ctx, cp, 0))
	return r.Publications, err
}

// enforce is the resolver's work, as its block log has it.
func enforce(dir string, published []*authority.Publication) error {
	now := start.Add(time.Hour)
	journal, err := blocklog.Open(dir, blocklog.Options{Clock: func() time.Time { now = now.Add(time.Second); return now }})
	if err != nil {
		return err
	}
	for _, do := range []func() error{
		func() error {
			return journal.Event("started", map[string]any{"version": "test", "lists": []string{"national"}})
		},
		func() error { return journal.Event("list.applied", appliedOf(published[0])) },
		func() error { return journal.Append(block(1, "2026-0001", "propagande.example")) },
		func() error { return journal.Append(block(1, "2026-0001", "www.propagande.example")) },
		func() error { return journal.Append(block(1, "2026-0001", "alias.libre.example")) },
		func() error { return journal.Event("list.applied", appliedOf(published[1])) },
		func() error { return journal.Append(block(2, "2026-0002", "images.example")) },
		func() error { return journal.Event("stopped", map[string]any{}) },
	} {
		if err == nil {
			err = do()
		}
	}
	return errors.Join(err, journal.Close())
}

func appliedOf(p *authority.Publication) Applied {
	return Applied{List: "national", Authority: "Office of the example", Serial: p.Serial, Entries: p.Entries,
		ListSHA256: p.ListSHA256, TargetSHA256: p.TargetSHA256, From: blocklist.OriginFetch}
}

func block(serial uint64, entry, name string) []blocklog.Decision {
	var wire []byte
	for label := range strings.SplitSeq(name, ".") {
		wire = append(append(wire, byte(len(label))), label...)
	}
	return []blocklog.Decision{{
		Matches: []blocklog.Match{{List: "national", Serial: serial, Entry: entry}}, Name: append(wire, 0), Type: 1,
		Transport: blocklog.UDP, Action: blocklog.StopPage, Count: 1,
	}}
}

// sealBlocklog is the auditor's work. A context that has ended makes it seal
// what is there, and stop.
func sealBlocklog(ctx context.Context, blocklogDir, logDir, skey, vkey string) error {
	signer, err := note.NewSigner(skey)
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	log, err := tlog.Open(ctx, logDir, signer, tlog.Options{BatchAge: time.Millisecond})
	if err != nil {
		return err
	}
	sealer, err := audit.NewSealer(audit.SealerConfig{Blocklog: blocklogDir, Log: log, LogDir: logDir, Verifier: verifier, Version: "test",
		Clock: func() time.Time { return start.Add(90 * time.Minute) }})
	if err == nil {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		err = sealer.Run(ended)
	}
	return errors.Join(err, log.Close(ctx))
}

// skey is the signer key of a log of the world.
func (w *world) skey(log string) string {
	w.t.Helper()
	if log == "register" {
		secret, err := keysOf(w.path("authority/keys")).Secret(authority.KeyRegister, signing.KindNoteSigner)
		w.must(err)
		return string(secret)
	}
	raw, err := os.ReadFile(w.path("keys/audit.skey"))
	w.must(err)
	return string(raw)
}

// logDir is where a log of the world is served from.
func (w *world) logDir(log string) string {
	if log == "register" {
		return w.path("authority/register")
	}
	return w.path("audit")
}

// leaves reads a log of the world.
func (w *world) leaves(log string) [][]byte {
	w.t.Helper()
	_, vkey, err := tlog.ParseKey(w.skey(log))
	w.must(err)
	v, err := note.NewVerifier(vkey)
	w.must(err)
	reader := tlog.NewReader(tlog.FolderSource(w.logDir(log)), v)
	cp, err := reader.Checkpoint(w.t.Context())
	w.must(err)
	var all [][]byte
	for leaf, err := range reader.Leaves(w.t.Context(), cp, 0) {
		w.must(err)
		all = append(all, slices.Clone(leaf.Data))
	}
	return all
}

// rewrite puts another log with the same key in the place of one of the world.
func (w *world) rewrite(log string, leaves [][]byte) {
	w.t.Helper()
	w.must(os.RemoveAll(w.logDir(log)))
	writeLog(w.t, w.logDir(log), w.skey(log), leaves)
}

// extend adds to a log of the world.
func (w *world) extend(log string, leaves ...[]byte) {
	w.t.Helper()
	w.rewrite(log, append(w.leaves(log), leaves...))
}

// writeLog writes a whole log at once, which Tessera would take its time for.
func writeLog(t testing.TB, dir, skey string, leaves [][]byte) {
	t.Helper()
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	files, err := resumeTiles(t.Context(), dir, lazyDisk{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	tree := ranges.NewEmptyRange(0)
	for bundle := range slices.Chunk(leaves, 256) {
		if err := files.bundle(bundle); err != nil {
			t.Fatal(err)
		}
		for _, leaf := range bundle {
			if err := tree.Append(rfc6962.DefaultHasher.HashLeaf(leaf), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := files.finish(); err != nil {
		t.Fatal(err)
	}
	root, err := treeRoot(tree)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", signer.Name(), len(leaves), base64.StdEncoding.EncodeToString(root[:]))}, signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := (lazyDisk{}).replace(filepath.Join(dir, "checkpoint"), checkpoint); err != nil {
		t.Fatal(err)
	}
}

// lazyDisk does not wait for the disk.
type lazyDisk struct{ osDisk }

func (lazyDisk) replace(path string, data []byte) error {
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600))
}

// canonical writes a leaf of an audit log.
func (w *world) canonical(v any) []byte {
	w.t.Helper()
	b, err := blocklog.Canonical(v)
	w.must(err)
	return b
}

// publications are those in the register.
func (w *world) publications() []*authority.Publication {
	w.t.Helper()
	p, err := publishedIn(w.t.Context(), w.path("authority"))
	w.must(err)
	return p
}

func sha(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
