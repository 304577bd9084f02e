package signing

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"cordon/durable"
	"cordon/durable/durabletest"
)

var losses = map[string]durabletest.Loss{
	"killed": durabletest.Killed, "power lost, names too": durabletest.Names, "power lost, contents only": durabletest.Contents,
}

// faultDisk goes down at one call; a write gets half of its bytes out.
func faultDisk(at int, l durabletest.Loss) *durabletest.Disk {
	return durabletest.New(at, durabletest.Half, l)
}

// eachFault runs a case once without a fault, which tells how many calls there
// are, and then with each of them failing.
func eachFault(t *testing.T, names []string, run func(t *testing.T, d *durabletest.Disk) error) {
	count := faultDisk(0, durabletest.Killed)
	if err := run(t, count); err != nil || count.Calls() < 10 {
		t.Fatalf("without a fault, after %d calls: %v", count.Calls(), err)
	}
	for _, name := range names {
		for at := 1; at <= count.Calls(); at += sampling {
			t.Run(fmt.Sprint(name, " at call ", at), func(t *testing.T) {
				t.Parallel()
				d := faultDisk(at, losses[name])
				if err := run(t, d); !errors.Is(err, durabletest.ErrDown) {
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

	eachFault(t, []string{"killed", "power lost, names too"}, func(t *testing.T, d *durabletest.Disk) error {
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
			eachFault(t, stage.losses, func(t *testing.T, d *durabletest.Disk) error {
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

				again := a.open(durabletest.Quick{})
				if _, err := again.Publish(a.online()); err != nil && !errors.Is(err, ErrNothingStaged) {
					t.Fatalf("publish again: %v", err)
				}
				if want == "second" {
					fresh().takes("second")
				} else {
					fresh().refuses(ErrUnchanged)
				}
				for _, dir := range []string{a.staged, filepath.Join(a.folder, "metadata"), filepath.Join(a.folder, "targets")} {
					if left, _ := filepath.Glob(filepath.Join(dir, "*"+durable.TempSuffix)); left != nil {
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
			a.disk = faultDisk(at, l)
			_, err := a.Sign(RoleTargets, a.targets[1])
			whole = err == nil
			s, serr := a.open(durabletest.Quick{}).Status(RoleTargets)
			if serr != nil || len(s.Needs[0].Signed) < 1 || whole && !s.Complete() {
				t.Errorf("call %d, %s: %v, then status %v, %v", at, name, err, s, serr)
			}
		}
	}
}
