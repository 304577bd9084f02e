package oversight

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cordon/audit/tlog"
	"cordon/durable"
)

// brittleDisk fails at one change, and may leave it half done.
type brittleDisk struct {
	lazyDisk
	left int // changes before the one that fails
	half bool
}

var errBrittle = errors.New("no space left on device")

func (d *brittleDisk) replace(path string, data []byte) error {
	if d.left--; d.left != -1 {
		return d.lazyDisk.replace(path, data)
	}
	if d.half {
		return errors.Join(errBrittle, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path+durable.TempSuffix, data[:len(data)/2], 0o600))
	}
	return errBrittle
}

func (d *brittleDisk) extend(path string, line []byte) error {
	if d.left--; d.left != -1 {
		return d.lazyDisk.extend(path, line)
	}
	if !d.half {
		return errBrittle
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return errors.Join(errBrittle, os.MkdirAll(filepath.Dir(path), 0o700))
	}
	_, err = f.Write(line[:len(line)/2])
	return errors.Join(errBrittle, err, f.Close())
}

func (d *brittleDisk) remove(path string) error {
	if d.left--; d.left != -1 {
		return d.lazyDisk.remove(path)
	}
	return errBrittle
}

func TestAMirroringThatFailsAnywhereGoesOnFromThere(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	first := newSmall(t)
	first.skey, first.vkey = s.skey, s.vkey
	first.grow(leavesOf(0, 200)...)
	s.grow(leavesOf(0, 600)...)
	for _, half := range []bool{false, true} {
		for n := 0; ; n++ {
			s.m = s.mirror(filepath.Join(t.TempDir(), "copy"))
			s.m.disk = lazyDisk{}
			s.m.source = tlog.FolderSource(first.source)
			s.updated()
			s.m.source = tlog.FolderSource(s.source)
			s.m.disk = &brittleDisk{left: n, half: half}
			_, _, finding, err := s.m.update(t.Context())
			if finding != nil {
				t.Fatalf("change %d: found %v", n, finding)
			}
			s.m.disk = osDisk{}
			if err == nil {
				if n < 8 {
					t.Fatalf("only %d changes were made", n)
				}
				break
			}
			if !errors.Is(err, errBrittle) {
				t.Fatalf("change %d: %v", n, err)
			}
			s.untidy = strings.Contains(err.Error(), "superseded")
			s.updated()
			s.holds(600)
		}
	}
}

func TestABundleThatAKillLeftDamagedIsFetchedAnew(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	s.grow(leavesOf(0, 600)...)
	path := filepath.Join(s.m.dir, "tile/entries/001")
	if err := (osDisk{}).replace(path, []byte("damaged")); err != nil {
		t.Fatal(err)
	}
	s.updated()
	s.holds(600)
}

// mirrorUntilKilled is the child of the test below.
func mirrorUntilKilled(dir string) {
	v, err := tlog.ReadVerifier(filepath.Join(dir, "vkey"))
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		m := &mirror{name: "isp", dir: filepath.Join(dir, fmt.Sprint("copy", i)), verifier: v,
			source: tlog.FolderSource(filepath.Join(dir, "served")), disk: osDisk{}, clock: time.Now}
		fmt.Println(i)
		if _, _, finding, err := m.update(context.Background()); err != nil || finding != nil {
			fmt.Println("failed", finding, err)
			os.Exit(1)
		}
	}
}

func TestAKillLeavesACopyThatGoesOn(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	dir := filepath.Dir(s.source)
	s.grow(leavesOf(0, 1500)...)
	if err := os.WriteFile(filepath.Join(dir, "vkey"), []byte(s.vkey), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "CORDON_TEST_MIRROR_UNTIL_KILLED="+dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		last := ""
		for range 1 + mathrand.IntN(4) {
			if !lines.Scan() {
				break
			}
			last = lines.Text()
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			last = lines.Text()
		}
		c.Wait() // "signal: killed"
		s.m = s.mirror(filepath.Join(dir, "copy"+last))
		s.updated()
		s.holds(1500)
		copies, err := filepath.Glob(filepath.Join(dir, "copy*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range copies {
			if err := os.RemoveAll(c); err != nil {
				t.Fatal(err)
			}
		}
	}
}
