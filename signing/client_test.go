package signing

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAListIsFollowedFromTheFirstOn(t *testing.T) {
	a := found(t)
	r := a.resolver()
	r.refuses(ErrIncomplete) // a root alone

	a.list("first")
	r.takes("first")
	r.refuses(ErrUnchanged)

	a.list("second")
	r.takes("second")
	r.restart()
	r.refuses(ErrUnchanged)

	a.list("third")
	a.list("fourth") // one that was missed does not matter
	r.takes("fourth")
}

func TestWhatIsNotConfirmedIsGivenAgain(t *testing.T) {
	a := found(t)
	a.list("first")
	r := a.resolver()
	for range 2 {
		got, err := r.Update(t.Context())
		if err != nil || string(got.Target) != "first" {
			t.Fatalf("got %v, %v", got, err)
		}
	}
	r.restart()
	r.takes("first")
	r.refuses(ErrUnchanged)
}

func TestAListThatItsOwnerRefusesIsFetchedOnce(t *testing.T) {
	a := found(t)
	a.list("zeroth")
	r := a.resolver()
	r.takes("zeroth")
	a.list("first")
	fetched := 0
	r.from(changed{r.config.Source, func(path string, raw []byte) ([]byte, error) {
		if strings.HasPrefix(path, "targets/") {
			fetched++
		}
		return raw, nil
	}})
	for range 3 {
		if _, err := r.Update(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.restart()
	}
	if fetched != 1 {
		t.Errorf("the target was fetched %d times", fetched)
	}
	r.takes("first")
	if _, err := os.Stat(filepath.Join(r.config.Dir, "target")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a confirmed target is still kept: %v", err)
	}
}

func TestARefreshedTimestampIsNoNews(t *testing.T) {
	a := found(t)
	a.list("first")
	r := a.resolver()
	r.takes("first")

	a.now = a.now.Add(50 * time.Minute)
	online := a.online()
	online.Snapshot = nil // the timestamp alone
	p, err := a.Refresh(online)
	if err != nil {
		t.Fatal(err)
	}
	if p.TimestampVersion != 2 || p.SnapshotVersion != 1 {
		t.Errorf("timestamp %d, snapshot %d", p.TimestampVersion, p.SnapshotVersion)
	}
	r.refuses(ErrUnchanged)

	a.now = a.now.Add(50 * time.Minute) // past the first timestamp's hour
	r.refuses(ErrUnchanged)
	if p, err = a.Refresh(a.online()); err != nil || p.SnapshotVersion != 2 || p.TargetsVersion != 1 {
		t.Fatalf("refresh with the snapshot: %+v, %v", p, err)
	}
	r.refuses(ErrUnchanged)
}

func TestAnOlderTimestampIsRefusedThoughNothingElseIsOlder(t *testing.T) {
	a := found(t)
	a.list("first")
	old := NewFolderSource(a.copyOf())
	r := a.resolver()
	r.takes("first")
	online := a.online()
	online.Snapshot = nil
	if _, err := a.Refresh(online); err != nil {
		t.Fatal(err)
	}
	r.refuses(ErrUnchanged)
	// The store holds the first timestamp still; only the client's folder tells.
	r.from(old).refuses(ErrRollback)
	r.from(NewFolderSource(a.folder)).refuses(ErrUnchanged)
}

// With new online keys, TUF begins anew to count snapshots, and so would take any
// older targets: what is in force bars them.
func TestOlderTargetsAreRefusedUnderNewOnlineKeys(t *testing.T) {
	a := found(t)
	a.list("first")
	first := readFile(t, filepath.Join(a.folder, "metadata", "1.targets.json"))
	a.list("second")
	r := a.resolver()
	r.takes("second")
	a.stageRoot(func() { a.snapshot, a.timestamp = newKey(t), newKey(t) })
	if _, err := a.Publish(a.online()); err != nil {
		t.Fatal(err)
	}
	a.forgeOnline(1, first, 100, 100)
	r.refuses(ErrRollback)
	r.restart()
	r.refuses(ErrRollback)
}

// A Publish that was killed may have left a snapshot that the next one replaced
// under the same version.
func TestASnapshotIsTheOneThatTheTimestampNames(t *testing.T) {
	a := found(t)
	a.list("first")
	r := a.resolver()
	r.takes("first")
	a.now = a.now.Add(time.Minute) // so that it says something else
	a.forgeOnline(1, readFile(t, filepath.Join(a.folder, "metadata", "1.targets.json")), 1, 2)
	r.inForce = nil
	r.restart()
	r.takes("first") // which holds its parts against each other
	if got, want := r.inForce.Snapshot, readFile(t, filepath.Join(a.folder, "metadata", "1.snapshot.json")); string(got) != string(want) {
		t.Error("the snapshot held before was accepted")
	}
}

func TestKeysAreRotated(t *testing.T) {
	a := found(t)
	a.list("first")
	r := a.resolver()
	r.takes("first")

	a.rotate(func() { a.targets[0] = newKey(t) })
	r.takes("first") // signed anew is news
	a.rotate(func() { a.root[0], a.root[1] = newKey(t), newKey(t) })
	a.rotate(func() { a.snapshot, a.timestamp = newKey(t), newKey(t) })
	a.list("second")
	r.takes("second")
	if n := len(r.inForce.Roots); n != 3 {
		t.Errorf("accepted with %d roots after the pinned one, want 3", n)
	}

	a.resolver().takes("second") // one that pins the first root still finds its way

	newer := a.resolver()
	newer.config.Root = readFile(t, filepath.Join(a.folder, "metadata", "3.root.json"))
	newer.restart()
	newer.takes("second")
	if n := len(newer.inForce.Roots); n != 1 {
		t.Errorf("accepted with %d roots after the pinned third, want 1", n)
	}

	// A newer root pinned over the state and the store of an older one.
	r.config.Root = newer.config.Root
	r.restart()
	r.refuses(ErrUnchanged)
}

func TestAStolenTimestampKeyIsRecoveredFrom(t *testing.T) {
	a := found(t)
	a.list("first")
	r := a.resolver()
	r.takes("first")

	// Its thief publishes a version so high that none could follow it (TUF 5.3.11).
	raw := readFile(t, filepath.Join(a.folder, "metadata", "1.targets.json"))
	honest := a.copyOf()
	a.forgeOnline(1, raw, 1<<40, 1<<40)
	r.refuses(ErrUnchanged)

	if err := os.RemoveAll(a.folder); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(honest, a.folder); err != nil {
		t.Fatal(err)
	}
	a.list("second")
	r.refuses(ErrRollback)
	a.rotate(func() { a.snapshot, a.timestamp = newKey(t), newKey(t) })
	r.takes("second")
}

func TestAFailureHalfWayNeitherSticksNorSkips(t *testing.T) {
	for _, failing := range []string{"metadata/2.root.json", "metadata/timestamp.json", "metadata/3.snapshot.json", "metadata/3.targets.json", "targets/"} {
		t.Run(strings.ReplaceAll(failing, "/", " "), func(t *testing.T) {
			a := found(t)
			a.list("first")
			r := a.resolver()
			r.takes("first")
			a.rotate(func() { a.targets[0] = newKey(t) })
			a.list("second")

			down := true
			r.from(changed{r.config.Source, func(path string, raw []byte) ([]byte, error) {
				if down && strings.HasPrefix(path, failing) {
					return nil, errors.New("connection reset")
				}
				return raw, nil
			}})
			r.refuses(ErrSource)
			r.refuses(ErrSource)
			r.restart()
			r.refuses(ErrSource)
			down = false
			r.takes("second")
			r.refuses(ErrUnchanged)
		})
	}
}

func TestADamagedStateIsDropped(t *testing.T) {
	damages := map[string]func([]byte) []byte{
		"empty":   func([]byte) []byte { return nil },
		"cut":     func(raw []byte) []byte { return raw[:len(raw)/2] },
		"garbage": func(raw []byte) []byte { return []byte(`{"signed":null}`) },
		"huge":    func(raw []byte) []byte { return append(raw, make([]byte, maxMetadata)...) },
		"flipped": func(raw []byte) []byte {
			i := strings.Index(string(raw), `"sig": "`) + 10
			raw[i] ^= 1
			return raw
		},
	}
	a := found(t)
	a.list("first")
	old := a.copyOf()
	a.rotate(func() { a.targets[0] = newKey(t) })
	a.list("second")
	r := a.resolver()
	r.takes("second")
	store := r.inForce
	a.list("third")
	for _, file := range []string{"root/2.root.json", "timestamp.json", "snapshot.json", "target"} {
		for name, damage := range damages {
			t.Run(file[:4]+" "+name, func(t *testing.T) {
				r.inForce = store
				r.from(NewFolderSource(a.folder))
				if _, err := r.Update(t.Context()); err != nil { // not confirmed
					t.Fatal(err)
				}

				path := filepath.Join(r.config.Dir, file)
				raw := readFile(t, path)
				if file == "target" && name == "flipped" {
					raw[0] ^= 1
					writeFile(t, path, raw)
				} else {
					writeFile(t, path, damage(raw))
				}
				r.from(NewFolderSource(old)).refuses(ErrRollback)
				r.from(NewFolderSource(a.folder)).takes("third")
				if file != "target" {
					if err := os.Remove(path); err != nil {
						t.Errorf("%s was not made anew: %v", file, err)
					}
				}
			})
		}
	}
}

func TestALostFolderIsMadeGoodFromTheStore(t *testing.T) {
	a := found(t)
	a.list("first")
	old := a.copyOf()
	a.rotate(func() { a.targets[0] = newKey(t) })
	r := a.resolver()
	r.takes("first")
	if err := os.RemoveAll(r.config.Dir); err != nil {
		t.Fatal(err)
	}
	r.from(NewFolderSource(old)).refuses(ErrRollback)
	r.from(NewFolderSource(a.folder)).refuses(ErrUnchanged)
}

func TestARootThatWasDamagedHereCannotBeWithheldThere(t *testing.T) {
	a := found(t)
	a.list("first")
	old := a.copyOf()
	a.rotate(func() { a.targets[0] = newKey(t) })
	r := a.resolver()
	r.takes("first")
	writeFile(t, filepath.Join(r.config.Dir, "root", "2.root.json"), nil)
	r.inForce = nil // its store is lost as well
	for range 2 {
		err := r.from(NewFolderSource(old)).refuses(ErrRollback)
		if !strings.Contains(err.Error(), r.config.Dir) {
			t.Errorf("the error does not name the folder: %v", err)
		}
	}
	r.from(NewFolderSource(a.folder)).takes("first")
}

func TestLeftoversOfAKillAreCleared(t *testing.T) {
	a := found(t)
	a.list("first")
	r := a.resolver()
	left := []string{filepath.Join(r.config.Dir, "timestamp.json.tmp"), filepath.Join(r.config.Dir, "root", "2.root.json.tmp")}
	for _, path := range left {
		writeFile(t, path, []byte("half"))
	}
	r.restart()
	for _, path := range left {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there", path)
		}
	}
	r.takes("first")
}

func TestConfirmTakesOnlyWhatVerifies(t *testing.T) {
	a := found(t)
	a.list("first")
	r := a.resolver()
	r.takes("first")
	forged := *r.inForce
	forged.Target = []byte("forged")
	if err := r.Confirm(&forged); !errors.Is(err, ErrIncomplete) {
		t.Errorf("another target: %v", err)
	}
	other := found(t)
	other.list("other")
	theirs, err := other.resolver().Update(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Confirm(theirs); !errors.Is(err, ErrSignature) {
		t.Errorf("of another authority: %v", err)
	}
	theirs.Name = "else"
	if err := r.Confirm(theirs); err == nil {
		t.Error("another target path was confirmed")
	}
}

func TestAnAcceptedPublicationTellsWhatItIs(t *testing.T) {
	a := found(t)
	a.list("first")
	a.rotate(func() { a.targets[0] = newKey(t) })
	want := a.list("second")
	got, err := a.resolver().Update(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p, err := got.Publication(); err != nil || p != want {
		t.Errorf("got  %+v, %v\nwant %+v", p, err, want)
	}
}

func TestAClientIsConfiguredWholly(t *testing.T) {
	a := found(t)
	good := a.resolver().config
	for name, spoil := range map[string]func(*ClientConfig){
		"no root":                 func(c *ClientConfig) { c.Root = nil },
		"a root cut short":        func(c *ClientConfig) { c.Root = c.Root[:100] },
		"a root of one hand":      func(c *ClientConfig) { c.Root = []byte(strings.Replace(string(c.Root), `"sig": "`, `"sig": "00`, 1)) },
		"no folder":               func(c *ClientConfig) { c.Dir = "" },
		"no source":               func(c *ClientConfig) { c.Source = nil },
		"no clock":                func(c *ClientConfig) { c.Clock = nil },
		"a target that is a path": func(c *ClientConfig) { c.Target = "../list" },
		"a negative limit":        func(c *ClientConfig) { c.MaxTarget = -1 },
	} {
		c := good
		spoil(&c)
		if _, err := NewClient(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
