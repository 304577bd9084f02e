package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cordon/test/await"
)

// Power lost at each write of an update, as far as a process can notice: the
// resolver is killed as it enters each system call by which it changes what it
// keeps. Whatever the moment, it starts again with the list before or the new
// one, whole and verified, its block log has no hole, and it goes the rest of the
// way.
//
// (What the kernel forgets besides when power is lost, because it was not synced,
// is tried in signing, blocklist and blocklog, against file systems that forget.)
func TestPowerLostAtEachWriteOfAnUpdate(t *testing.T) {
	t.Parallel()
	tracer, err := exec.LookPath("strace")
	if err == nil {
		err = exec.Command(tracer, "-o", os.DevNull, "true").Run() // it may not be allowed to trace
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("strace (Debian package strace): %v", err)
		}
		t.Skipf("strace (Debian package strace): %v", err)
	}
	s := surround(t)
	s.configure(subscription{authority: s.authority, source: s.shown})
	s.show(s.edition().dir)
	s.starts()
	s.takes()
	// Two stored lists, so that the third removes one.
	s.show(s.edition().dir)
	s.takes()
	s.r.terminate()
	before := s.world.path("before")
	s.keeps(before)

	// A new root, timestamp, snapshot, targets and list: each is written.
	next := s.rotate(func() {})
	steps := s.recordSteps(tracer, next)
	kinds := map[string]int{}
	for _, step := range steps {
		kinds[step.call]++
	}
	t.Logf("%d steps: %v", len(steps), kinds)
	for _, file := range []string{
		"lists/national/client/root/2.root.json.tmp", "lists/national/client/timestamp.json.tmp", "lists/national/client/snapshot.json.tmp",
		"lists/national/client/target.tmp", "lists/national/client/target", "lists/national/00000000000000000003.tar.tmp",
		"lists/national/00000000000000000001.tar", "blocklog/00000000000000000001.blog",
	} {
		if !slices.ContainsFunc(steps, func(step step) bool { return step.path == s.world.path("resolver/"+file) }) {
			t.Errorf("an update does not touch %s: %v", file, steps)
		}
	}

	old := s.serial
	restored := map[uint64]int{}
	for _, step := range steps {
		name := step.call + " " + strings.TrimPrefix(step.path, s.world.path("resolver")+"/")
		s.under(t, name, func(t *testing.T) {
			s.restores(before)
			s.show(next.dir)
			s.killedAt(tracer, step)

			// Without the source: what was kept is all there is.
			s.show(s.world.path("nowhere"))
			s.starts()
			serial := s.inForce()
			if serial != old && serial != next.serial {
				t.Fatalf("serial %d is in force, neither %d nor %d", serial, old, next.serial)
			}
			restored[serial]++
			if err := s.holds(serial); err != nil {
				t.Fatal(err)
			}
			s.show(next.dir)
			s.r.enforces("national", next.serial)
			if err := s.holds(next.serial); err != nil {
				t.Fatal(err)
			}
			s.isStored(next.serial)
			s.r.terminate()
			// In the block log each list in force is on record, without a hole.
			var applied []uint64
			for _, a := range s.applied() {
				applied = append(applied, a.Serial)
			}
			if !slices.IsSorted(applied) || applied[len(applied)-1] != next.serial {
				t.Errorf("on record are lists %v", applied)
			}
		})
	}
	if restored[old] == 0 || restored[next.serial] == 0 {
		t.Errorf("after being killed it had the old list %d times and the new one %d times", restored[old], restored[next.serial])
	}
}

// step is a system call on a file that the resolver keeps. Killing at the first
// of several equal ones is enough: those are writes to the block log, where the
// one that counts lies between the storing of the list and the removal of what
// is no longer needed, and syncs of folders, which a kill cannot tell from what
// comes before.
type step struct{ call, path string }

// What changes files. Reading them is no step.
const changing = "openat,write,pwrite64,ftruncate,fchmod,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat"

var (
	// PID CALL(AT_FDCWD</folder>, "PATH", ... and PID CALL(7</PATH>, ...
	tracedName = regexp.MustCompile(`^\d+ +(\w+)\((?:AT_FDCWD(?:<[^>]*>)?, )?"([^"]*)"(.*)`)
	tracedFile = regexp.MustCompile(`^\d+ +(\w+)\(\d+<([^>]*)>`)
)

// recordSteps lets the resolver take an edition under a tracer, and gives what it
// did to its files, in order.
func (s *siege) recordSteps(tracer string, next edition) (steps []step) {
	s.t().Helper()
	s.restores(s.world.path("before"))
	s.show(next.dir)
	trace := s.world.path("trace")
	p, err := s.traced(tracer, "-y", "-e", "trace="+changing, "-o", trace)
	s.check(err)
	s.r = &resolver{p, s.world}
	s.r.enforces("national", next.serial)
	s.isStored(next.serial)
	s.r.terminate()
	s.serial, s.press.serial = next.serial-1, next.serial // where it is restored to, and goes to

	raw, err := os.ReadFile(trace)
	s.check(err)
	for line := range strings.Lines(string(raw)) {
		m := tracedName.FindStringSubmatch(line)
		switch {
		case m == nil:
			m = tracedFile.FindStringSubmatch(line)
		case strings.HasPrefix(m[1], "open") && !strings.Contains(m[3], "O_CREAT"):
			continue // to read, or a step that follows is on the open file
		}
		if m == nil {
			continue
		}
		kept := false
		for _, folder := range []string{"resolver/lists", "resolver/blocklog"} {
			kept = kept || strings.HasPrefix(m[2], s.world.path(folder)+"/")
		}
		if one := (step{m[1], m[2]}); kept && !slices.Contains(steps, one) {
			steps = append(steps, one)
		}
	}
	return steps
}

// traced starts the resolver under a tracer, which stands beside it and leaves it
// a child of ours.
func (s *siege) traced(tracer string, args ...string) (*process, error) {
	s.t().Helper()
	program, err := filepath.Rel(bin, tracer)
	s.check(err)
	args = append([]string{"-D", "-f", "-qq"}, args...)
	return s.tryStart("resolver", program, append(args, "--", filepath.Join(bin, "cordon-resolver"), "run", "--config", s.world.path("resolver/resolver.yaml"))...)
}

// killedAt runs the resolver until it is killed at a step.
func (s *siege) killedAt(tracer string, at step) {
	s.t().Helper()
	p, _ := s.traced(tracer, "-o", os.DevNull, "-P", at.path, "-e", "trace="+at.call, "-e", "inject="+at.call+":signal=KILL")
	select {
	case <-p.ended:
	case <-time.After(patience):
		s.t().Fatalf("the resolver has not come to this step\n%s", p.log.String())
	}
	p.over = true
	var exit *exec.ExitError
	if !errors.As(p.err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		s.t().Fatalf("the resolver was not killed, but ended with %v\n%s", p.err, p.log.String())
	}
}

// isStored waits until a list is in the store and accounted for, so that the next
// start needs no source.
func (s *siege) isStored(serial uint64) {
	s.t().Helper()
	folder := s.world.path("resolver/lists/national")
	await.Nil(s.t(), fmt.Sprintf("list %d is stored", serial), func() error {
		if _, err := os.Stat(filepath.Join(folder, fmt.Sprintf("%020d.tar", serial))); err != nil {
			return err
		}
		// The fetched target is removed last of all.
		if _, err := os.Stat(filepath.Join(folder, "client", "target")); err == nil {
			return errors.New("the client still keeps the fetched target")
		}
		return nil
	})
}

// keeps copies what the resolver keeps, modes included; restores puts it back.
func (s *siege) keeps(to string) {
	s.t().Helper()
	s.check(os.Mkdir(to, 0o700))
	for _, folder := range []string{"lists", "blocklog"} {
		s.check(exec.Command("cp", "-a", s.world.path("resolver/"+folder), to).Run())
	}
}

func (s *siege) restores(from string) {
	s.t().Helper()
	for _, folder := range []string{"lists", "blocklog"} {
		s.check(os.RemoveAll(s.world.path("resolver/" + folder)))
		s.check(exec.Command("cp", "-a", filepath.Join(from, folder), s.world.path("resolver")).Run())
	}
}
