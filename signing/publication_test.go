package signing

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"go.uber.org/goleak"

	"cordon/durable"
	"cordon/durable/durabletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is when the tests begin.
var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// authority is a repository in folders of the test's own, with its people.
type authority struct {
	*Repository
	t      testing.TB
	folder string // what is published
	now    time.Time

	root, targets       []crypto.Signer // three people each; two have to sign
	snapshot, timestamp crypto.Signer

	revoked []crypto.Signer // people no more
	old     string          // a copy of what was once published
}

// found makes an authority whose first root is published.
func found(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, folder: filepath.Join(t.TempDir(), "publish"), now: noon}
	for range 3 {
		a.root = append(a.root, newKey(t))
		a.targets = append(a.targets, newKey(t))
	}
	a.snapshot, a.timestamp = newKey(t), newKey(t)
	a.Repository = a.open(durabletest.Quick{})
	if _, err := a.StageRoot(a.roles(), noon.AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	a.sign(RoleRoot, a.root[0], a.root[1])
	if _, err := a.Publish(Online{}); err != nil {
		t.Fatal(err)
	}
	return a
}

// clone is the same authority at another place.
func (a *authority) clone(t testing.TB) *authority {
	t.Helper()
	b := *a
	b.t, b.folder = t, filepath.Join(t.TempDir(), "publish")
	for _, key := range []*[]crypto.Signer{&b.root, &b.targets} {
		*key = append([]crypto.Signer(nil), *key...)
	}
	if err := os.CopyFS(filepath.Dir(b.folder), os.DirFS(filepath.Dir(a.folder))); err != nil {
		t.Fatal(err)
	}
	b.Repository = b.open(durabletest.Quick{})
	return &b
}

// open opens the authority's folders as another process does.
func (a *authority) open(d durable.Disk) *Repository {
	a.t.Helper()
	r, err := openRepository(a.config(), d)
	if err != nil {
		a.t.Fatal(err)
	}
	return r
}

func (a *authority) config() RepositoryConfig {
	return RepositoryConfig{
		Publish: a.folder,
		Staged:  filepath.Join(filepath.Dir(a.folder), "staged"),
		Clock:   func() time.Time { return a.now },
	}
}

// roles is two of the people for root and for targets.
func (a *authority) roles() Roles {
	return Roles{
		Root:      RoleKeys{Keys: public(a.root...), Threshold: 2},
		Targets:   RoleKeys{Keys: public(a.targets...), Threshold: 2},
		Snapshot:  RoleKeys{Keys: public(a.snapshot), Threshold: 1},
		Timestamp: RoleKeys{Keys: public(a.timestamp), Threshold: 1},
	}
}

// online is the online keys, with expiries of a day and of an hour.
func (a *authority) online() Online {
	return Online{
		Snapshot: a.snapshot, SnapshotExpires: a.now.Add(24 * time.Hour),
		Timestamp: a.timestamp, TimestampExpires: a.now.Add(time.Hour),
	}
}

func (a *authority) sign(role string, keys ...crypto.Signer) {
	a.t.Helper()
	for _, key := range keys {
		if _, err := a.Sign(role, key); err != nil {
			a.t.Fatal(err)
		}
	}
}

// list publishes a list, signed by two people.
func (a *authority) list(content string) Publication {
	a.t.Helper()
	a.stageList(content)
	p, err := a.Publish(a.online())
	if err != nil {
		a.t.Fatal(err)
	}
	return p
}

func (a *authority) stageList(content string) {
	a.t.Helper()
	if _, err := a.StageTarget([]byte(content), a.now.AddDate(0, 1, 0)); err != nil {
		a.t.Fatal(err)
	}
	a.sign(RoleTargets, a.targets[0], a.targets[1])
}

// stageRoot stages a root that says what a.roles says after change, signed by
// two of those before and two of those after.
func (a *authority) stageRoot(change func()) {
	a.t.Helper()
	old := append([]crypto.Signer(nil), a.root...)
	change()
	if _, err := a.StageRoot(a.roles(), a.now.AddDate(1, 0, 0)); err != nil {
		a.t.Fatal(err)
	}
	signed := map[string]bool{}
	for _, key := range []crypto.Signer{old[0], old[1], a.root[0], a.root[1]} {
		if id := keyID(a.t, key); !signed[id] {
			signed[id] = true
			a.sign(RoleRoot, key)
		}
	}
}

// rotate publishes such a root, and the present list signed anew under it.
func (a *authority) rotate(change func()) {
	a.t.Helper()
	a.stageRoot(change)
	if _, err := a.RestageTarget(a.now.AddDate(0, 1, 0)); err != nil {
		a.t.Fatal(err)
	}
	a.sign(RoleTargets, a.targets[0], a.targets[1])
	if _, err := a.Publish(a.online()); err != nil {
		a.t.Fatal(err)
	}
}

// copyOf keeps what is published now, as somebody does who means to replay it.
func (a *authority) copyOf() string {
	a.t.Helper()
	dir := filepath.Join(a.t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(a.folder)); err != nil {
		a.t.Fatal(err)
	}
	return dir
}

// forgeTargets writes targets metadata for a list, signed by any keys, as one may
// who has the publishing machine.
func (a *authority) forgeTargets(version int64, content string, keys ...crypto.Signer) []byte {
	a.t.Helper()
	sum := sha256.Sum256([]byte(content))
	info := &metadata.TargetFiles{Length: int64(len(content)), Hashes: metadata.Hashes{"sha256": sum[:]}}
	targets := metadata.Targets(a.now.AddDate(0, 1, 0))
	targets.Signed.Version = version
	targets.Signed.Targets["list"] = info
	raw := forge(a, targets, keys...)
	writeFile(a.t, filepath.Join(a.folder, targetFile("list", info)), []byte(content))
	writeFile(a.t, filepath.Join(a.folder, "metadata", fmt.Sprintf("%d.targets.json", version)), raw)
	return raw
}

// forgeOnline signs targets metadata into the publication with the online keys,
// under any versions.
func (a *authority) forgeOnline(targets int64, targetsRaw []byte, snapshot, timestamp int64) {
	a.t.Helper()
	s := metadata.Snapshot(a.now.Add(24 * time.Hour))
	s.Signed.Version = snapshot
	s.Signed.Meta = map[string]*metadata.MetaFiles{"targets.json": metaFile(targets, targetsRaw)}
	snapshotRaw := forge(a, s, a.snapshot)
	writeFile(a.t, filepath.Join(a.folder, "metadata", fmt.Sprintf("%d.snapshot.json", snapshot)), snapshotRaw)
	ts := metadata.Timestamp(a.now.Add(time.Hour))
	ts.Signed.Version = timestamp
	ts.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": metaFile(snapshot, snapshotRaw)}
	writeFile(a.t, filepath.Join(a.folder, "metadata", "timestamp.json"), forge(a, ts, a.timestamp))
}

func forge[T metadata.Roles](a *authority, md *metadata.Metadata[T], keys ...crypto.Signer) []byte {
	a.t.Helper()
	for _, key := range keys {
		if _, err := md.Sign(tufSigner{key}); err != nil {
			a.t.Fatal(err)
		}
	}
	raw, err := encode(md)
	if err != nil {
		a.t.Fatal(err)
	}
	return raw
}

// resolver is the owner of a client: it holds the list in force.
type resolver struct {
	*Client
	t       testing.TB
	config  ClientConfig
	inForce *Accepted // its durable store
}

// resolver pins the first root, and follows what is published.
func (a *authority) resolver() *resolver {
	a.t.Helper()
	root, err := os.ReadFile(filepath.Join(a.folder, "metadata", "1.root.json"))
	if err != nil {
		a.t.Fatal(err)
	}
	r := &resolver{t: a.t, config: ClientConfig{
		Root: root, Dir: filepath.Join(a.t.TempDir(), "client"),
		Source: NewFolderSource(a.folder), Clock: func() time.Time { return a.now },
	}}
	r.restart()
	return r
}

// restart is a new process: it confirms what is in its store.
func (r *resolver) restart() {
	r.t.Helper()
	c, err := newClient(r.config, durabletest.Quick{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.Client = c
	if r.inForce != nil {
		if err := c.Confirm(r.inForce); err != nil {
			r.t.Fatal(err)
		}
	}
}

// from is a restart with another source.
func (r *resolver) from(s Source) *resolver {
	r.t.Helper()
	r.config.Source = s
	r.restart()
	return r
}

// takes wants an update that brings a list, and puts it in force.
func (r *resolver) takes(content string) {
	r.t.Helper()
	a, err := r.Update(r.t.Context())
	if err != nil {
		r.t.Fatalf("update to %q: %v", content, err)
	}
	if string(a.Target) != content {
		r.t.Fatalf("update brought %q, want %q", a.Target, content)
	}
	if err := VerifyAccepted(r.config.Root, a); err != nil {
		r.t.Fatalf("what the client accepted does not verify: %v", err)
	}
	r.inForce = a
	if err := r.Confirm(a); err != nil {
		r.t.Fatal(err)
	}
}

// refuses wants an update that fails for one reason, and for no other.
func (r *resolver) refuses(reason error) error {
	r.t.Helper()
	a, err := r.Update(r.t.Context())
	if err == nil {
		r.t.Fatalf("update brought %q, want %v", a.Target, reason)
	}
	if !errors.Is(err, reason) || Reason(err) != Reason(reason) {
		r.t.Fatalf("update: %v (reason %q), want %v", err, Reason(err), reason)
	}
	return err
}

// changed is a source some of whose files are not what they were.
type changed struct {
	Source
	change func(path string, raw []byte) ([]byte, error)
}

func (s changed) Fetch(ctx context.Context, path string, max int64) ([]byte, error) {
	raw, err := s.Source.Fetch(ctx, path, max)
	if err != nil {
		return nil, err
	}
	return s.change(path, raw)
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keyID(t testing.TB, key crypto.Signer) string {
	t.Helper()
	id, err := KeyID(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func public(keys ...crypto.Signer) []crypto.PublicKey {
	var pub []crypto.PublicKey
	for _, key := range keys {
		pub = append(pub, key.Public())
	}
	return pub
}

func writeFile(t testing.TB, path string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
