package signing

import (
	"bytes"
	"crypto"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Each attack leaves the resolver with what it had, and when it is over the
// resolver takes what is published next. The attacker may have the web server, the
// publishing machine with its online keys, or one person's key.
func TestAttacks(t *testing.T) {
	attacks := map[string]struct {
		attack func(a *authority)
		reason error
	}{
		"an older publication is replayed": {func(a *authority) {
			a.replay(a.old)
		}, ErrRollback},
		"an older snapshot is signed in under a new timestamp": {func(a *authority) {
			raw := readFile(a.t, filepath.Join(a.folder, "metadata", "1.targets.json"))
			a.forgeOnline(1, raw, 1, 100)
		}, ErrRollback},
		"older targets are signed in under a new snapshot": {func(a *authority) {
			raw := readFile(a.t, filepath.Join(a.folder, "metadata", "1.targets.json"))
			a.forgeOnline(1, raw, 100, 100)
		}, ErrRollback},
		"the timestamp has expired": {func(a *authority) {
			a.now = a.now.Add(time.Hour + time.Second)
		}, ErrExpired},
		"the snapshot has expired": {func(a *authority) {
			a.now = a.now.Add(25 * time.Hour)
			a.retime(a.now.Add(time.Hour))
		}, ErrExpired},
		"the targets have expired": {func(a *authority) {
			a.now = a.now.AddDate(0, 2, 0)
			if _, err := a.Refresh(a.online()); err != nil {
				a.t.Fatal(err)
			}
		}, ErrExpired},
		"one person signs instead of two": {func(a *authority) {
			raw := a.forgeTargets(4, "forged", a.targets[0])
			a.forgeOnline(4, raw, 100, 100)
		}, ErrSignature},
		"one person signs twice": {func(a *authority) {
			raw := a.forgeTargets(4, "forged", a.targets[0], a.targets[0])
			a.forgeOnline(4, raw, 100, 100)
		}, ErrIncomplete}, // go-tuf refuses two signatures under one key id as malformed
		"nobody signs": {func(a *authority) {
			raw := a.forgeTargets(4, "forged")
			a.forgeOnline(4, raw, 100, 100)
		}, ErrSignature},
		"strangers sign": {func(a *authority) {
			raw := a.forgeTargets(4, "forged", newKey(a.t), newKey(a.t))
			a.forgeOnline(4, raw, 100, 100)
		}, ErrSignature},
		"people of the root sign a list": {func(a *authority) {
			raw := a.forgeTargets(4, "forged", a.root[0], a.root[1])
			a.forgeOnline(4, raw, 100, 100)
		}, ErrSignature},
		"people whose keys were revoked sign": {func(a *authority) {
			raw := a.forgeTargets(4, "forged", a.revoked...)
			a.forgeOnline(4, raw, 100, 100)
		}, ErrSignature},
		"a root is signed by one person": {func(a *authority) {
			root, err := newRoot(a.roles(), 3)
			if err != nil {
				a.t.Fatal(err)
			}
			root.Signed.Expires = a.now.AddDate(1, 0, 0)
			a.put("3.root.json", forge(a, root, a.root[0]))
		}, ErrSignature},
		"a root is signed by its own people alone": {func(a *authority) {
			own := []crypto.Signer{newKey(a.t), newKey(a.t)}
			roles := a.roles()
			roles.Root.Keys = public(own...)
			root, err := newRoot(roles, 3)
			if err != nil {
				a.t.Fatal(err)
			}
			root.Signed.Expires = a.now.AddDate(1, 0, 0)
			a.put("3.root.json", forge(a, root, own...))
		}, ErrSignature},
		"an older root is put in the place of the next": {func(a *authority) {
			a.put("3.root.json", readFile(a.t, filepath.Join(a.folder, "metadata", "2.root.json")))
		}, ErrRollback},
		"another list under the same version": {func(a *authority) {
			raw := a.forgeTargets(3, "forged", a.targets[0], a.targets[1])
			a.forgeOnline(3, raw, 100, 100)
		}, ErrRollback},
		"the list names no target": {func(a *authority) {
			targets := metadata.Targets(a.now.AddDate(0, 1, 0))
			targets.Signed.Version = 4
			raw := forge(a, targets, a.targets[0], a.targets[1])
			a.put("4.targets.json", raw)
			a.forgeOnline(4, raw, 100, 100)
		}, ErrIncomplete},
		"nothing is published any more": {func(a *authority) {
			if err := os.RemoveAll(filepath.Join(a.folder, "metadata")); err != nil {
				a.t.Fatal(err)
			}
		}, ErrIncomplete},
		"the folder is gone": {func(a *authority) {
			if err := os.RemoveAll(a.folder); err != nil {
				a.t.Fatal(err)
			}
		}, ErrSource},
		"the timestamp is no file": {func(a *authority) {
			path := filepath.Join(a.folder, "metadata", "timestamp.json")
			if err := os.Remove(path); err != nil {
				a.t.Fatal(err)
			}
			if err := os.Mkdir(path, 0o700); err != nil {
				a.t.Fatal(err)
			}
		}, ErrSource},
		"a snapshot with a null in it, signed": {func(a *authority) {
			a.forgeSnapshot(nil)
		}, ErrIncomplete},
		"a snapshot that does not bind the targets by length, signed": {func(a *authority) {
			info := metaFile(3, readFile(a.t, filepath.Join(a.folder, "metadata", "3.targets.json")))
			info.Length = 0
			a.forgeSnapshot(info)
		}, ErrIncomplete},
		"a snapshot that does not bind the targets by hash, signed": {func(a *authority) {
			raw := readFile(a.t, filepath.Join(a.folder, "metadata", "3.targets.json"))
			a.forgeSnapshot(&metadata.MetaFiles{Version: 3, Length: int64(len(raw))})
		}, ErrIncomplete},
	}
	base := found(t)
	base.list("first")
	old := base.copyOf()
	base.rotate(func() {
		base.revoked = []crypto.Signer{base.targets[0], base.targets[1]}
		base.targets[0], base.targets[1] = newKey(t), newKey(t)
	})
	base.list("second")
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			a := base.clone(t)
			a.old = old
			r := a.resolver()
			r.takes("second")
			honest := a.copyOf()

			attack.attack(a)
			r.refuses(attack.reason)
			r.refuses(attack.reason)
			r.restart()
			r.refuses(attack.reason)

			a.replay(honest)
			// The attacker may have shown any version with the online keys: the
			// authority changes these, as it has to.
			a.rotate(func() { a.snapshot, a.timestamp = newKey(t), newKey(t) })
			r.takes("second")
		})
	}
}

// A server that withholds what revoked people's keys would keep them in power.
func TestNewerRootsAreWithheld(t *testing.T) {
	a := found(t)
	a.list("first")
	before := a.copyOf()
	revoked := append([]crypto.Signer(nil), a.targets...)
	online := a.online()
	a.rotate(func() {
		a.targets = []crypto.Signer{newKey(t), newKey(t), newKey(t)}
		a.snapshot, a.timestamp = newKey(t), newKey(t)
	})
	r := a.resolver()
	r.takes("first")

	thief := *a
	thief.folder = before
	thief.targets, thief.snapshot, thief.timestamp = revoked, online.Snapshot, online.Timestamp
	raw := thief.forgeTargets(50, "forged", revoked[0], revoked[1])
	thief.forgeOnline(50, raw, 50, 50)
	r.from(NewFolderSource(before)).refuses(ErrSignature)
	r.inForce = nil // even an owner that has lost its store
	r.from(NewFolderSource(before)).refuses(ErrSignature)
	r.from(NewFolderSource(a.folder)).takes("first")

	// One that has never seen the second root cannot know; this is what the test
	// above is held against.
	fresh := a.resolver()
	fresh.from(NewFolderSource(before)).takes("forged")
}

func TestEachFileDamaged(t *testing.T) {
	damages := map[string]struct {
		damage func(raw []byte) []byte
		any    []error
	}{
		"empty":         {func([]byte) []byte { return nil }, []error{ErrIncomplete}},
		"cut":           {func(raw []byte) []byte { return raw[:len(raw)-len(raw)/3] }, []error{ErrIncomplete}},
		"huge":          {func(raw []byte) []byte { return append(raw, make([]byte, maxMetadata)...) }, []error{ErrTooLarge}},
		"first byte":    {flip(0), []error{ErrIncomplete}},
		"middle":        {flip(0.5), []error{ErrIncomplete, ErrSignature}},
		"a third":       {flip(0.3), []error{ErrIncomplete, ErrSignature}},
		"not JSON":      {func(raw []byte) []byte { return bytes.Repeat([]byte("["), len(raw)) }, []error{ErrIncomplete}},
		"deeply nested": {func(raw []byte) []byte { return []byte(strings.Repeat(`{"a":`, len(raw)/5)) }, []error{ErrIncomplete}},
	}
	a := found(t)
	a.list("first")
	r := a.resolver()
	r.takes("first")
	a.rotate(func() { a.targets[0] = newKey(t) })
	a.list("a second list, long enough to be cut and changed")

	// In the order in which they are fetched: what comes before the damage is taken.
	for _, file := range []string{"metadata/2.root.json", "metadata/timestamp.json", "metadata/3.snapshot.json", "metadata/3.targets.json", "targets/"} {
		for name, d := range damages {
			met := false
			r.from(changed{NewFolderSource(a.folder), func(path string, raw []byte) ([]byte, error) {
				if !strings.HasPrefix(path, file) {
					return raw, nil
				}
				met = true
				if raw = d.damage(raw); len(raw) > maxMetadata {
					return nil, ErrTooLarge // as sources do
				}
				return raw, nil
			}})
			_, err := r.Update(t.Context())
			expected := false
			for _, want := range d.any {
				expected = expected || err != nil && Reason(err) == Reason(want)
			}
			if !met || !expected {
				t.Errorf("%s, %s: met %t, update: %v", file, name, met, err)
			}
		}
	}
	r.from(NewFolderSource(a.folder)).takes("a second list, long enough to be cut and changed")
}

// A changed byte is refused, or what it says is what was signed: signatures cover
// what JSON means, so that white space may change where no hash is over it.
func TestAChangedByteChangesNothing(t *testing.T) {
	a := found(t)
	a.list("first")
	a.rotate(func() { a.targets[0] = newKey(t) })
	a.list("second")
	r := a.resolver()
	r.takes("second")
	parts := map[string]func(*Accepted) *[]byte{
		"root":      func(a *Accepted) *[]byte { return &a.Roots[0] },
		"timestamp": func(a *Accepted) *[]byte { return &a.Timestamp },
		"snapshot":  func(a *Accepted) *[]byte { return &a.Snapshot },
		"targets":   func(a *Accepted) *[]byte { return &a.Targets },
		"target":    func(a *Accepted) *[]byte { return &a.Target },
	}
	refused := map[string]int{}
	for name, part := range parts {
		whole := bytes.Clone(*part(r.inForce))
		for i := 0; i < len(whole); i += sampling * (1 + len(whole)/45) {
			for _, mask := range []byte{0x01, 0x20} {
				changed := *r.inForce
				changed.Roots = [][]byte{r.inForce.Roots[0]}
				raw := bytes.Clone(whole)
				raw[i] ^= mask
				*part(&changed) = raw
				if err := VerifyAccepted(r.config.Root, &changed); err != nil {
					refused[name]++
					continue
				}
				if name != "root" && name != "timestamp" {
					t.Fatalf("%s, byte %d: a change was taken, though a hash is over it", name, i)
				}
				if got, want := meaning(t, raw), meaning(t, whole); got != want {
					t.Fatalf("%s, byte %d: taken, and it says\n%s\ninstead of\n%s", name, i, got, want)
				}
			}
		}
		if refused[name] == 0 {
			t.Errorf("%s: no change was refused", name)
		}
	}
}

func TestATargetBeyondTheLimitIsNotFetched(t *testing.T) {
	a := found(t)
	a.list(strings.Repeat("x", 1001))
	r := a.resolver()
	r.config.MaxTarget = 1000
	r.from(changed{r.config.Source, func(path string, raw []byte) ([]byte, error) {
		if strings.HasPrefix(path, "targets/") {
			t.Errorf("%s was fetched", path)
		}
		return raw, nil
	}}).refuses(ErrTooLarge)
	a.list(strings.Repeat("x", 1000))
	r.from(NewFolderSource(a.folder)).takes(strings.Repeat("x", 1000))
}

func TestAnExpiredRootStopsUpdatesAndNotTheListInForce(t *testing.T) {
	a := found(t)
	a.list("first")
	r := a.resolver()
	r.takes("first")
	a.now = a.now.AddDate(1, 0, 1)
	r.refuses(ErrExpired)
	if err := VerifyAccepted(r.config.Root, r.inForce); err != nil {
		t.Errorf("the list in force no longer verifies: %v", err)
	}
	if _, err := a.Publish(a.online()); err == nil || !strings.Contains(err.Error(), "root 1 expired") {
		t.Errorf("publish under an expired root: %v", err)
	}
	a.rotate(func() {})
	r.takes("first")
}

// replay puts a copy of a publication in the place of what is published.
func (a *authority) replay(dir string) {
	a.t.Helper()
	if err := os.RemoveAll(a.folder); err != nil {
		a.t.Fatal(err)
	}
	if err := os.CopyFS(a.folder, os.DirFS(dir)); err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) put(name string, raw []byte) {
	a.t.Helper()
	writeFile(a.t, filepath.Join(a.folder, "metadata", name), raw)
}

// retime signs a new timestamp over the snapshot that is there.
func (a *authority) retime(expires time.Time) {
	a.t.Helper()
	online := a.online()
	online.Snapshot, online.TimestampExpires = nil, expires
	if _, err := a.Refresh(online); err != nil {
		a.t.Fatal(err)
	}
}

// forgeSnapshot signs with the online keys a snapshot that says anything of the
// targets.
func (a *authority) forgeSnapshot(targets *metadata.MetaFiles) {
	a.t.Helper()
	s := metadata.Snapshot(a.now.Add(24 * time.Hour))
	s.Signed.Version = 100
	s.Signed.Meta = map[string]*metadata.MetaFiles{"targets.json": targets}
	raw := forge(a, s, a.snapshot)
	a.put("100.snapshot.json", raw)
	ts := metadata.Timestamp(a.now.Add(time.Hour))
	ts.Signed.Version = 100
	ts.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": metaFile(100, raw)}
	a.put("timestamp.json", forge(a, ts, a.timestamp))
}

// flip changes a bit at a part of the way through a file.
func flip(at float64) func([]byte) []byte {
	return func(raw []byte) []byte {
		raw = bytes.Clone(raw)
		raw[int(at*float64(len(raw)))] ^= 1
		return raw
	}
}

// meaning is what metadata says, without signatures.
func meaning(t *testing.T, raw []byte) string {
	t.Helper()
	if root, err := parseRoot(raw); err == nil {
		return canonical(t, root.Signed)
	}
	timestamp, err := parseTimestamp(raw)
	if err != nil {
		t.Fatal(err)
	}
	return canonical(t, timestamp.Signed)
}

// canonical is the JSON that go-tuf writes: its fields in order.
func canonical(t *testing.T, signed any) string {
	t.Helper()
	b, err := json.Marshal(signed)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
