package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// process is a program that runs until it is told to stop or killed.
type process struct {
	t     *testing.T
	name  string // such as resolver
	cmd   *exec.Cmd
	log   logs
	ended chan struct{} // closed when it has ended; err is set then
	err   error         // of Wait
	over  bool          // the test has ended it, or seen it end
}

// logs is what a process wrote, stdout and stderr in one.
type logs struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// starts numbers the sockets on which programs say that they are ready.
var starts atomic.Uint64

// start runs a program and waits until it says that it is ready, as it would
// to systemd (sd_notify(3)). The test's end stops it; its log is shown where
// the test failed.
func (w *world) start(name, program string, args ...string) *process {
	w.t.Helper()
	for attempt := 1; ; attempt++ {
		p, err := w.tryStart(name, program, args...)
		if err == nil {
			return p
		}
		// Another process may hold a port for a moment, since resolvers ask
		// from random ones.
		if attempt == 5 || !strings.Contains(p.log.String(), "address already in use") {
			w.t.Fatalf("start %s: %v", name, err)
		}
	}
}

func (w *world) tryStart(name, program string, args ...string) (*process, error) {
	w.t.Helper()
	socket := fmt.Sprintf("@cordon-e2e-%d-%d", os.Getpid(), starts.Add(1))
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		w.t.Fatal(err)
	}
	defer notify.Close()
	p := &process{t: w.t, name: name, cmd: command(program, args...), ended: make(chan struct{})}
	p.cmd.Env = append(p.cmd.Env, "NOTIFY_SOCKET="+socket)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	// Nothing is left running where the test itself is killed.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		w.t.Fatalf("start %s: %v", name, err)
	}
	w.processes = append(w.processes, p)
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	w.t.Cleanup(func() {
		p.end()
		if w.t.Failed() {
			w.t.Logf("log of %s (pid %d):\n%s", name, p.cmd.Process.Pid, p.log.String())
		}
	})

	ready := make(chan error, 1)
	go func() {
		b := make([]byte, 256)
		n, err := notify.Read(b)
		if err == nil && string(b[:n]) != "READY=1" {
			err = fmt.Errorf("it said %q where READY=1 was to come", b[:n])
		}
		ready <- err
	}()
	select {
	case err = <-ready:
	case <-p.ended:
		p.over = true
		err = fmt.Errorf("it ended with %w instead of starting", p.err)
		if p.err == nil {
			err = errors.New("it ended instead of starting")
		}
	case <-time.After(patience):
		err = fmt.Errorf("it is not ready after %v", patience)
	}
	return p, err
}

// end stops a process that still runs, at the end of the test.
func (p *process) end() {
	if !p.over {
		p.terminate()
	}
}

// signal sends a signal that does not end the process.
func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s: %v: %v", p.name, s, err)
	}
}

// kill9 kills the process as losing power would, as far as it can notice.
func (p *process) kill9() {
	p.t.Helper()
	p.over = true
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Errorf("kill %s: %v", p.name, err)
	}
	<-p.ended
}

// terminate tells the process to stop (SIGTERM), and waits. It has to end
// without an error.
func (p *process) terminate() {
	p.t.Helper()
	p.over = true
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Errorf("%s ended before it was told to: %v", p.name, err)
	}
	select {
	case <-p.ended:
		if p.err != nil {
			p.t.Errorf("%s was told to stop and ended with %v", p.name, p.err)
		}
	case <-time.After(patience):
		p.t.Errorf("%s does not stop", p.name)
		_ = p.cmd.Process.Kill() // the failure is said already
		<-p.ended
	}
}

// command prepares a program with an environment that holds nothing of the
// developer's.
func command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(bin, program), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(), "HOME=/nonexistent", "LC_ALL=C"}
	return cmd
}

// output runs a program to its end and gives what it printed.
func output(program string, args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := command(program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		return "", "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err = cmd.Wait()
	return out.String(), errs.String(), err
}

// succeeds runs a program that has to end well and gives what it printed.
func (w *world) succeeds(program string, args ...string) string {
	w.t.Helper()
	stdout, stderr, err := output(program, args...)
	if err != nil {
		w.t.Fatalf("%s %s: %v\n%s%s", program, strings.Join(args, " "), err, stdout, stderr)
	}
	return stdout
}

// fails runs a program that has to fail and gives all that it printed.
func (w *world) fails(program string, args ...string) string {
	w.t.Helper()
	stdout, stderr, err := output(program, args...)
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() < 1 {
		w.t.Fatalf("%s %s was to fail with an exit code: %v\n%s%s", program, strings.Join(args, " "), err, stdout, stderr)
	}
	return stdout + stderr
}
