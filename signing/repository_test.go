package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cordon/durable"
	"cordon/durable/durabletest"
)

func TestPeopleSignOneAfterAnother(t *testing.T) {
	a := found(t)
	s, err := a.StageTarget([]byte("first"), a.now.AddDate(0, 1, 0))
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{keyID(t, a.targets[0])[:8], keyID(t, a.targets[1])[:8], keyID(t, a.targets[2])[:8]}
	if got, want := s.String(), "targets 1: 0 of 2 signatures, missing: "+strings.Join(ids, "…, ")+"…"; got != want {
		t.Errorf("staged: %q, want %q", got, want)
	}
	if _, err := a.Publish(a.online()); !errors.Is(err, ErrSignature) {
		t.Errorf("published without signatures: %v", err)
	}

	// Each in a process of their own.
	if s, err = a.open(durable.OS{}).Sign(RoleTargets, a.targets[1]); err != nil {
		t.Fatal(err)
	}
	if got, want := s.String(), "targets 1: 1 of 2 signatures, missing: "+ids[0]+"…, "+ids[2]+"…"; got != want || s.Complete() {
		t.Errorf("signed once: %q, want %q", got, want)
	}
	if _, err := a.Publish(a.online()); !errors.Is(err, ErrSignature) || !strings.Contains(err.Error(), "1 of 2") {
		t.Errorf("published with one signature: %v", err)
	}
	if _, err := a.Sign(RoleTargets, a.targets[1]); err == nil || !strings.Contains(err.Error(), "has signed targets 1 already") {
		t.Errorf("signed twice: %v", err)
	}
	for name, key := range map[string]crypto.Signer{"a stranger": newKey(t), "one of the root": a.root[0], "an online key": a.timestamp} {
		if _, err := a.Sign(RoleTargets, key); err == nil || !strings.Contains(err.Error(), "not one of the keys of role targets in root 1") {
			t.Errorf("%s signed: %v", name, err)
		}
	}
	if s, err = a.open(durable.OS{}).Sign(RoleTargets, a.targets[2]); err != nil || !s.Complete() {
		t.Fatalf("signed by two: %v, %v", s, err)
	}
	if got, want := s.String(), "targets 1: 2 of 2 signatures"; got != want {
		t.Errorf("%q, want %q", got, want)
	}

	p, err := a.Publish(a.online())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("first"))
	want := Publication{
		RootVersion: 1, TargetsVersion: 1, SnapshotVersion: 1, TimestampVersion: 1,
		RootExpires: noon.AddDate(1, 0, 0), TargetsExpires: noon.AddDate(0, 1, 0),
		SnapshotExpires: noon.Add(24 * time.Hour), TimestampExpires: noon.Add(time.Hour),
		TargetFile: "targets/" + hex.EncodeToString(sum[:]) + ".list", TargetSHA256: hex.EncodeToString(sum[:]), TargetLength: 5,
	}
	if p != want {
		t.Errorf("published %+v, want %+v", p, want)
	}
	for _, name := range []string{p.TargetFile, "metadata/1.root.json", "metadata/1.targets.json", "metadata/1.snapshot.json", "metadata/timestamp.json"} {
		info, err := os.Stat(filepath.Join(a.folder, name))
		if err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	for _, role := range []string{RoleRoot, RoleTargets} {
		if s, err := a.Status(role); !errors.Is(err, ErrNothingStaged) {
			t.Errorf("still staged: %v, %v", s, err)
		}
	}
	if _, err := a.Publish(a.online()); !errors.Is(err, ErrNothingStaged) {
		t.Errorf("published nothing: %v", err)
	}
}

func TestARootIsSignedByOldAndNewPeople(t *testing.T) {
	a := found(t)
	a.list("first")
	old := append([]crypto.Signer(nil), a.root...)
	a.root = []crypto.Signer{newKey(t), newKey(t), old[2]}
	s, err := a.StageRoot(a.roles(), a.now.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(s.String(), "root 2: 0 of 2 signatures by keys of root 1, missing: ") ||
		!strings.Contains(s.String(), "; 0 of 2 signatures by keys of root 2, missing: ") {
		t.Errorf("staged: %q", s)
	}
	for i, key := range []crypto.Signer{old[0], old[1], a.root[0]} {
		a.sign(RoleRoot, key)
		if _, err := a.Publish(a.online()); !errors.Is(err, ErrSignature) {
			t.Errorf("published after %d signatures: %v", i+1, err)
		}
	}
	a.sign(RoleRoot, old[2]) // in both: counts for both
	if s, err = a.Status(RoleRoot); err != nil || s.String() != "root 2: 3 of 2 signatures by keys of root 1; 2 of 2 signatures by keys of root 2" {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := a.Publish(Online{}); err == nil || !strings.Contains(err.Error(), "snapshot key is needed") {
		t.Errorf("a new root without the online keys: %v", err)
	}
	if p, err := a.Publish(a.online()); err != nil || p.RootVersion != 2 || p.TargetsVersion != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	a.resolver().takes("first")
	raw, err := a.Root()
	if err != nil || string(raw) != string(readFile(t, filepath.Join(a.folder, "metadata", "2.root.json"))) {
		t.Errorf("the newest root is another: %v", err)
	}
}

func TestARootThatRevokesAListsSignersNeedsTheListAnew(t *testing.T) {
	a := found(t)
	a.list("first")
	gone := a.targets[0]
	a.stageRoot(func() { a.targets[0], a.targets[1] = newKey(t), newKey(t) })
	if _, err := a.Publish(a.online()); err == nil || !strings.Contains(err.Error(), "restage and sign the targets, then publish both") {
		t.Fatalf("published alone: %v", err)
	}
	if _, err := a.RestageTarget(a.now.AddDate(0, 1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Sign(RoleTargets, gone); err == nil || !strings.Contains(err.Error(), "in root 2") {
		t.Errorf("a key that is about to be revoked signed: %v", err)
	}
	a.sign(RoleTargets, a.targets[0], a.targets[2])
	if p, err := a.Publish(a.online()); err != nil || p.RootVersion != 2 || p.TargetsVersion != 2 {
		t.Fatalf("%+v, %v", p, err)
	}
	a.resolver().takes("first")
}

func TestWhatIsStagedIsNotReplaced(t *testing.T) {
	a := found(t)
	a.stageList("first")
	for name, stage := range map[string]func() (Status, error){
		"a list": func() (Status, error) { return a.StageTarget([]byte("second"), a.now.AddDate(0, 1, 0)) },
		"again":  func() (Status, error) { return a.RestageTarget(a.now.AddDate(0, 1, 0)) },
	} {
		if _, err := stage(); err == nil || !strings.Contains(err.Error(), "publish or discard it first") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := a.Discard(RoleTargets); err != nil {
		t.Fatal(err)
	}
	if err := a.Discard(RoleTargets); !errors.Is(err, ErrNothingStaged) {
		t.Errorf("discarded twice: %v", err)
	}
	if _, err := a.Sign(RoleTargets, a.targets[0]); !errors.Is(err, ErrNothingStaged) {
		t.Errorf("signed nothing: %v", err)
	}
	a.list("second")
	a.resolver().takes("second")
}

func TestPeopleSignForTheFileThatIsThere(t *testing.T) {
	a := found(t)
	s, err := a.StageTarget([]byte("first"), a.now.AddDate(0, 1, 0))
	sum := sha256.Sum256([]byte("first"))
	if err != nil || s.TargetLength != 5 || s.TargetSHA256 != hex.EncodeToString(sum[:]) {
		t.Fatalf("%+v, %v", s, err)
	}
	writeFile(t, filepath.Join(a.staged, stagedTarget), []byte("other"))
	if _, err := a.Sign(RoleTargets, a.targets[0]); err == nil || !strings.Contains(err.Error(), "discard and stage it again") {
		t.Errorf("signed for another file: %v", err)
	}
	// What cannot be read can be discarded.
	writeFile(t, filepath.Join(a.staged, stagedTargets), []byte("{"))
	if _, err := a.StageTarget([]byte("second"), a.now.AddDate(0, 1, 0)); err == nil || !strings.Contains(err.Error(), "discard it") {
		t.Errorf("staged over what cannot be read: %v", err)
	}
	if err := a.Discard(RoleTargets); err != nil {
		t.Fatal(err)
	}
	a.list("second")
}

func TestNothingIsStagedOrPublishedThatHasExpired(t *testing.T) {
	a := found(t)
	if _, err := a.StageTarget([]byte("first"), a.now); err == nil || !strings.Contains(err.Error(), "has passed") {
		t.Errorf("staged: %v", err)
	}
	if _, err := a.StageRoot(a.roles(), a.now.Add(-time.Hour)); err == nil {
		t.Error("staged a root that has expired")
	}
	a.stageList("first")
	online := a.online()
	online.TimestampExpires = a.now
	if _, err := a.Publish(online); err == nil || !strings.Contains(err.Error(), "timestamp would expire") {
		t.Errorf("published: %v", err)
	}
	online = a.online()
	online.SnapshotExpires = a.now
	if _, err := a.Publish(online); err == nil || !strings.Contains(err.Error(), "snapshot would expire") {
		t.Errorf("published: %v", err)
	}
	a.now = a.now.AddDate(0, 1, 1)
	if _, err := a.Publish(a.online()); !errors.Is(err, ErrExpired) {
		t.Errorf("published what expired while people signed: %v", err)
	}
}

func TestOnlineKeysAreThoseOfTheRoot(t *testing.T) {
	a := found(t)
	if _, err := a.Refresh(a.online()); err == nil || !strings.Contains(err.Error(), "nothing has been published") {
		t.Errorf("refreshed nothing: %v", err)
	}
	a.stageList("first")
	for name, change := range map[string]func(*Online){
		"no timestamp key":     func(o *Online) { o.Timestamp = nil },
		"no snapshot key":      func(o *Online) { o.Snapshot = nil },
		"another for both":     func(o *Online) { o.Snapshot, o.Timestamp = newKey(t), newKey(t) },
		"one for the other":    func(o *Online) { o.Snapshot, o.Timestamp = o.Timestamp, o.Snapshot },
		"a person's as online": func(o *Online) { o.Timestamp = a.targets[0] },
	} {
		online := a.online()
		change(&online)
		if _, err := a.Publish(online); err == nil {
			t.Errorf("%s: published", name)
		}
	}
	a.resolver().refuses(ErrIncomplete) // nothing of it is out
	if _, err := a.Publish(a.online()); err != nil {
		t.Fatal(err)
	}
	a.resolver().takes("first")
}

// watchedDisk tells before each new file, and after each rename.
type watchedDisk struct {
	durabletest.Quick
	creating func()
	renamed  func(to string)
}

func (d watchedDisk) Create(path string, perm fs.FileMode) (durable.File, error) {
	d.creating()
	return d.Quick.Create(path, perm)
}

func (d watchedDisk) Rename(from, to string) error {
	d.renamed(to)
	return d.Quick.Rename(from, to)
}

func TestTwoPeopleDoNotLoseASignature(t *testing.T) {
	a := found(t)
	if _, err := a.StageTarget([]byte("first"), a.now.AddDate(0, 1, 0)); err != nil {
		t.Fatal(err)
	}
	// Between what one reads and what they write, the folder is theirs.
	watched := 0
	a.disk = watchedDisk{renamed: func(string) {}, creating: func() {
		watched++
		lock, err := os.Open(filepath.Join(a.staged, lockFile))
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			t.Errorf("another process may write at the same time: %v", err)
		}
	}}
	a.sign(RoleTargets, a.targets[0])
	if watched != 1 {
		t.Fatalf("signing wrote %d files", watched)
	}

	a.disk = durabletest.Quick{}
	var group sync.WaitGroup
	for _, key := range a.targets[1:] {
		r := a.open(durabletest.Quick{})
		group.Go(func() {
			if _, err := r.Sign(RoleTargets, key); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if s, err := a.Status(RoleTargets); err != nil || len(s.Needs[0].Signed) != 3 {
		t.Errorf("a signature was lost: %v, %v", s, err)
	}
}

// The order in which files appear is what makes a publication whole at any moment;
// a new root, which is seen at once, comes as late as it can.
func TestTheTimestampIsPublishedLast(t *testing.T) {
	a := found(t)
	a.stageRoot(func() { a.timestamp = newKey(t) })
	a.stageList("first")
	var order []string
	a.disk = watchedDisk{creating: func() {}, renamed: func(to string) { order = append(order, filepath.Base(to)) }}
	p, err := a.Publish(a.online())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Base(p.TargetFile), "1.targets.json", "1.snapshot.json", "2.root.json", "timestamp.json"}
	if !slices.Equal(order, want) {
		t.Errorf("published %v, want %v", order, want)
	}
}

func TestTheFirstRootAndAListMayBePublishedTogether(t *testing.T) {
	a := found(t)
	a.folder = filepath.Join(t.TempDir(), "publish")
	a.Repository = a.open(durabletest.Quick{})
	if _, err := a.StageTarget([]byte("first"), a.now.AddDate(0, 1, 0)); err == nil {
		t.Error("a list was staged before any root")
	}
	if _, err := a.Publish(a.online()); err == nil || !strings.Contains(err.Error(), "stage one first") {
		t.Errorf("published: %v", err)
	}
	if _, err := a.StageRoot(a.roles(), noon.AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	a.sign(RoleRoot, a.root[0], a.root[2])
	a.list("first")
	a.resolver().takes("first")
}

func TestRolesAreSound(t *testing.T) {
	a := found(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Roles){
		"no keys":              func(r *Roles) { r.Targets.Keys = nil },
		"a threshold of none":  func(r *Roles) { r.Root.Threshold = 0 },
		"more than there are":  func(r *Roles) { r.Root.Threshold = 4 },
		"a key twice":          func(r *Roles) { r.Targets.Keys[1] = r.Targets.Keys[0] },
		"a key of another use": func(r *Roles) { r.Targets.Keys[1] = &p384.PublicKey },
		"half a key":           func(r *Roles) { r.Targets.Keys[1] = ed25519.PublicKey("short") },
		"a private key":        func(r *Roles) { r.Targets.Keys[1] = a.targets[1] },
	} {
		roles := a.roles()
		spoil(&roles)
		if s, err := a.StageRoot(roles, a.now.AddDate(1, 0, 0)); err == nil {
			t.Errorf("%s: staged %v", name, s)
		}
	}
	for _, role := range []string{RoleSnapshot, RoleTimestamp, "", "person"} {
		if _, err := a.Sign(role, a.timestamp); err == nil || !strings.Contains(err.Error(), "not one that people sign") {
			t.Errorf("role %q signed: %v", role, err)
		}
		if err := a.Discard(role); err == nil {
			t.Errorf("role %q discarded", role)
		}
	}
}

func TestRolesCanBeReadAndStagedAgain(t *testing.T) {
	a := found(t)
	roles, err := a.Roles()
	if err != nil {
		t.Fatal(err)
	}
	if roles.Root.Threshold != 2 || len(roles.Targets.Keys) != 3 || roles.Timestamp.Threshold != 1 {
		t.Fatalf("%+v", roles)
	}
	for i, key := range roles.Targets.Keys {
		if !a.targets[i].Public().(ed25519.PublicKey).Equal(key) {
			t.Errorf("key %d is another", i)
		}
	}
}

// Keys in tokens are ECDSA P-256, those in files Ed25519; a role may have both.
func TestARoleMayMixKindsOfKeys(t *testing.T) {
	a := found(t)
	token, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.stageRoot(func() { a.targets[0] = token })
	a.list("first")
	a.resolver().takes("first")
	roles, err := a.Roles()
	if err != nil || !token.PublicKey.Equal(roles.Targets.Keys[0]) {
		t.Errorf("%T, %v", roles.Targets.Keys[0], err)
	}
}

func TestARepositoryIsConfiguredWholly(t *testing.T) {
	good := found(t).config()
	for name, spoil := range map[string]func(*RepositoryConfig){
		"no folder":               func(c *RepositoryConfig) { c.Publish = "" },
		"no staged folder":        func(c *RepositoryConfig) { c.Staged = "" },
		"no clock":                func(c *RepositoryConfig) { c.Clock = nil },
		"a target that is a path": func(c *RepositoryConfig) { c.Target = "a/list" },
		"a target that is hidden": func(c *RepositoryConfig) { c.Target = ".list" },
		"a target to escape":      func(c *RepositoryConfig) { c.Target = "Liste é" },
		"a file for a folder":     func(c *RepositoryConfig) { c.Publish = filepath.Join(c.Publish, "metadata", "1.root.json") },
	} {
		c := good
		spoil(&c)
		if _, err := OpenRepository(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
