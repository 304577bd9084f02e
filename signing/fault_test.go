package signing

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// loss is what a fault takes with it.
type loss int

const (
	killed       loss = iota // the process is gone; what the kernel has been told holds
	namesLost                // power is gone: so are names and contents that were not synced
	contentsLost             // power is gone: so are contents, while names happened to be written
)

var losses = map[string]loss{"killed": killed, "power lost, names too": namesLost, "power lost, contents only": contentsLost}

var errDead = errors.New("the machine is off")

// faultDisk fails at one call, and at all that follow. The failing write gets half
// of its bytes out.
type faultDisk struct {
	osDisk
	at   int // the call that fails, from 1; 0 for none
	loss loss

	calls    int
	dead     bool
	unsynced map[string]bool     // files whose contents were not synced
	undo     map[string][]func() // by folder: what takes back changes of names
}

type faultFile struct {
	diskFile
	disk *faultDisk
	path string
}

func newFaultDisk(at int, l loss) *faultDisk {
	return &faultDisk{at: at, loss: l, unsynced: map[string]bool{}, undo: map[string][]func(){}}
}

// step counts a call, and tells whether it fails.
func (d *faultDisk) step() error {
	if d.dead {
		return errDead
	}
	if d.calls++; d.calls == d.at {
		d.die()
		return errDead
	}
	return nil
}

func (d *faultDisk) die() {
	d.dead = true
	if d.loss == killed {
		return
	}
	for path := range d.unsynced {
		_ = os.Truncate(path, 0) // it may be gone
	}
	if d.loss == namesLost {
		for _, undo := range d.undo {
			for _, u := range slices.Backward(undo) {
				u()
			}
		}
	}
}

// changes notes how to take back that a name changes.
func (d *faultDisk) changes(path string) {
	old, err := os.ReadFile(path)
	dir := filepath.Dir(path)
	d.undo[dir] = append(d.undo[dir], func() {
		if err != nil {
			_ = os.Remove(path)
		} else {
			_ = os.WriteFile(path, old, 0o600)
		}
	})
}

func (d *faultDisk) Create(path string, perm fs.FileMode) (diskFile, error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	d.changes(path)
	f, err := d.osDisk.Create(path, perm)
	d.unsynced[path] = true
	return faultFile{f, d, path}, err
}

func (f faultFile) Write(p []byte) (int, error) {
	if f.disk.calls+1 == f.disk.at && !f.disk.dead {
		if _, err := f.diskFile.Write(p[:len(p)/2]); err != nil {
			return 0, err
		}
	}
	if err := f.disk.step(); err != nil {
		return 0, err
	}
	return f.diskFile.Write(p)
}

func (f faultFile) Sync() error {
	if err := f.disk.step(); err != nil {
		return err
	}
	delete(f.disk.unsynced, f.path)
	return nil
}

func (f faultFile) Close() error {
	return errors.Join(f.diskFile.Close(), f.disk.step()) // a dead process's files are closed too
}

func (d *faultDisk) Rename(from, to string) error {
	if err := d.step(); err != nil {
		return err
	}
	d.changes(to)
	if d.unsynced[from] {
		delete(d.unsynced, from)
		d.unsynced[to] = true
	}
	return d.osDisk.Rename(from, to)
}

func (d *faultDisk) Remove(path string) error {
	if err := d.step(); err != nil {
		return err
	}
	d.changes(path)
	return d.osDisk.Remove(path)
}

func (d *faultDisk) SyncDir(dir string) error {
	if err := d.step(); err != nil {
		return err
	}
	delete(d.undo, dir)
	return nil
}

// eachFault runs a case once without a fault, which tells how many calls there
// are, and then with each of them failing.
func eachFault(t *testing.T, names []string, run func(t *testing.T, d *faultDisk) error) {
	count := newFaultDisk(0, killed)
	if err := run(t, count); err != nil || count.calls < 10 {
		t.Fatalf("without a fault, after %d calls: %v", count.calls, err)
	}
	for _, name := range names {
		for at := 1; at <= count.calls; at += sampling {
			t.Run(fmt.Sprint(name, " at call ", at), func(t *testing.T) {
				t.Parallel()
				d := newFaultDisk(at, losses[name])
				if err := run(t, d); !errors.Is(err, errDead) {
					t.Errorf("failed of something else, or not at all: %v", err)
				}
			})
		}
	}
}

// Wherever an update is cut off, the client that starts again takes the new
// publication, and never one older than what was confirmed before.
func TestAClientIsCutOffAtEachWrite(t *testing.T) {
	a := found(t)
	a.list("zeroth")
	older := a.copyOf()
	a.list("first")
	r := a.resolver()
	r.takes("first")
	had, store := r.config.Dir, r.inForce
	a.rotate(func() { a.targets[0] = newKey(t) })
	a.list("second")

	eachFault(t, []string{"killed", "power lost, names too"}, func(t *testing.T, d *faultDisk) error {
		r := *r
		r.t, r.inForce = t, store
		r.config.Dir = filepath.Join(t.TempDir(), "client")
		if err := os.CopyFS(r.config.Dir, os.DirFS(had)); err != nil {
			t.Fatal(err)
		}
		err := func() error {
			c, err := newClient(r.config, d)
			if err != nil {
				return err
			}
			if err := c.Confirm(store); err != nil {
				return err
			}
			got, err := c.Update(t.Context())
			if err != nil {
				return err
			}
			r.inForce = got
			return c.Confirm(got)
		}()
		if err != nil && Reason(err) != "state" {
			t.Errorf("the update failed of something else: %v", err)
		}
		cut := r.inForce
		r.inForce = nil // even if the owner's store went as well
		r.from(NewFolderSource(older)).refuses(ErrRollback)

		r.inForce = cut
		r.from(NewFolderSource(a.folder))
		if string(cut.Target) == "second" {
			r.refuses(ErrUnchanged)
		} else {
			r.takes("second")
		}
		return err
	})
}

// Wherever publishing is cut off, resolvers have the old list or the new, and
// publishing again finishes it.
func TestPublishIsCutOffAtEachWrite(t *testing.T) {
	for name, stage := range map[string]struct {
		stage  func(a *authority)
		refuse bool // resolvers may be refused what is half published
		losses []string
	}{
		"a list": {func(a *authority) { a.stageList("second") }, false, []string{"killed"}},
		"a list under a new root": {func(a *authority) {
			a.stageRoot(func() {
				a.targets[0], a.targets[1] = newKey(a.t), newKey(a.t)
				a.timestamp = newKey(a.t)
			})
			a.stageList("second")
		}, true, []string{"power lost, names too"}},
		"new online keys": {func(a *authority) {
			a.stageRoot(func() { a.snapshot, a.timestamp = newKey(a.t), newKey(a.t) })
		}, true, []string{"killed"}},
	} {
		t.Run(name, func(t *testing.T) {
			base := found(t)
			base.list("first")
			r := base.resolver()
			r.takes("first")
			stage.stage(base)
			want := "first"
			if _, err := base.Status(RoleTargets); err == nil {
				want = "second"
			}
			eachFault(t, stage.losses, func(t *testing.T, d *faultDisk) error {
				a := base.clone(t)
				half := a.Repository
				half.disk = d
				_, err := half.Publish(a.online())
				fresh := func() *resolver {
					seen := *r
					seen.t = t
					seen.config.Dir = filepath.Join(t.TempDir(), "client")
					return seen.from(NewFolderSource(a.folder))
				}
				got, uerr := fresh().Update(t.Context())
				switch {
				case errors.Is(uerr, ErrUnchanged):
				case uerr == nil && string(got.Target) == "second":
				case stage.refuse && errors.Is(uerr, ErrSignature):
				default:
					t.Errorf("half published, a resolver gets %v, %v", got, uerr)
				}

				again := a.open(quickDisk{})
				if _, err := again.Publish(a.online()); err != nil && !errors.Is(err, ErrNothingStaged) {
					t.Fatalf("publish again: %v", err)
				}
				if want == "second" {
					fresh().takes("second")
				} else {
					fresh().refuses(ErrUnchanged)
				}
				for _, dir := range []string{a.staged, filepath.Join(a.folder, "metadata"), filepath.Join(a.folder, "targets")} {
					if left, _ := filepath.Glob(filepath.Join(dir, "*"+tempSuffix)); left != nil {
						t.Errorf("left behind: %v", left)
					}
				}
				return err
			})
		})
	}
}

// Wherever signing is cut off, what is staged still reads, and the signatures
// that were there are there.
func TestSigningIsCutOffAtEachWrite(t *testing.T) {
	base := found(t)
	if _, err := base.StageTarget([]byte("first"), base.now.AddDate(0, 1, 0)); err != nil {
		t.Fatal(err)
	}
	base.sign(RoleTargets, base.targets[0])
	whole := false
	for at := 1; !whole; at++ {
		for name, l := range losses {
			a := base.clone(t)
			a.disk = newFaultDisk(at, l)
			_, err := a.Sign(RoleTargets, a.targets[1])
			whole = err == nil
			s, serr := a.open(quickDisk{}).Status(RoleTargets)
			if serr != nil || len(s.Needs[0].Signed) < 1 || whole && !s.Complete() {
				t.Errorf("call %d, %s: %v, then status %v, %v", at, name, err, s, serr)
			}
		}
	}
}

// A file that is replaced holds the old content or the new, whole, whatever is
// lost; and the new, once that was reported. All else is built on this.
func TestReplacingAFileIsCutOffAtEachCall(t *testing.T) {
	for name, l := range losses {
		whole := false
		for at := 1; !whole; at++ {
			path := filepath.Join(t.TempDir(), "file")
			writeFile(t, path, []byte("the old content"))
			d := newFaultDisk(at, l)
			err := replace(d, path, []byte("the new content, which is longer"), 0o600)
			if whole = err == nil; whole {
				d.die() // right after
			}
			raw := string(readFile(t, path))
			if raw != "the new content, which is longer" && (whole || raw != "the old content") {
				t.Errorf("%s at call %d (%v): the file holds %q", name, at, err, raw)
			}
			if at > 10 {
				t.Fatal("never runs through")
			}
		}
	}
}

// A secret that is reported as written is there.
func TestWritingASecretIsCutOffAtEachCall(t *testing.T) {
	for name, l := range losses {
		whole := false
		for at := 1; !whole; at++ {
			path := filepath.Join(t.TempDir(), "key")
			d := newFaultDisk(at, l)
			err := writeNew(d, path, []byte("a whole key"), 0o600)
			if whole = err == nil; whole {
				d.die() // right after
			}
			raw, _ := os.ReadFile(path)
			if whole && string(raw) != "a whole key" {
				t.Errorf("%s at call %d: %q is there", name, at, raw)
			}
			if at > 10 {
				t.Fatal("never runs through")
			}
		}
	}
}
