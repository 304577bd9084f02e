package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// peer is one of the programs that are compared, running twice.
type peer struct {
	name         string
	version      string
	bare, listed *server // without a list, and with it
}

// server is a running process.
type server struct {
	cmd  *exec.Cmd
	port uint16
	log  *os.File
	done chan error // gets what Wait gave
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// startServers starts every server twice, on the servers' core.
func startServers(ctx context.Context, dir string, l *laboratory, o *options) (peers []*peer, stop func(), err error) {
	var running []*server
	stop = func() {
		for _, s := range running {
			s.stop()
		}
	}
	for _, name := range o.servers {
		kinds, err := kindsOf(name, o)
		if err != nil {
			return nil, stop, err
		}
		for _, k := range kinds {
			p := &peer{name: k.name, version: k.version()}
			for _, listed := range []bool{false, true} {
				s, err := startServer(ctx, filepath.Join(dir, fmt.Sprintf("%s-%v", k.name, listed)), k, l, listed, o)
				if s != nil {
					running = append(running, s)
				}
				if err != nil {
					return nil, stop, fmt.Errorf("start %s (list %v): %w", k.name, listed, err)
				}
				if listed {
					p.listed = s
				} else {
					p.bare = s
				}
			}
			peers = append(peers, p)
		}
	}
	return peers, stop, nil
}

func startServer(ctx context.Context, dir string, k *kind, l *laboratory, listed bool, o *options) (*server, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	args, err := k.configure(dir, port, l, listed)
	if err != nil {
		return nil, err
	}
	s := &server{port: port, done: make(chan error, 1)}
	if s.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	s.cmd = exec.Command("taskset", append([]string{"-c", strconv.Itoa(o.cores[0])}, args...)...)
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.Dir = s.log, s.log, dir
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { s.done <- s.cmd.Wait() }()
	if err := s.ready(ctx, l, listed); err != nil {
		said, _ := os.ReadFile(s.log.Name())
		return s, fmt.Errorf("%w; it said:\n%s", err, said[max(0, len(said)-2000):])
	}
	return s, nil
}

// ready waits until the server resolves, and blocks when it has the list.
func (s *server) ready(ctx context.Context, l *laboratory, listed bool) error {
	deadline := time.Now().Add(time.Minute)
	for {
		err := s.answers(l.site(0), "192.0.2.1")
		if err == nil && listed {
			err = s.answers(l.listed(l.entries-1), stopPage)
		}
		if err == nil {
			return nil
		}
		select {
		case ended := <-s.done:
			s.done <- ended
			return fmt.Errorf("it ended: %w", ended)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not answer: %w", err)
		}
	}
}

func (s *server) answers(name, address string) error {
	m := new(dns.Msg)
	m.SetQuestion("www."+name+".", dns.TypeA)
	reply, _, err := (&dns.Client{Timeout: time.Second}).Exchange(m, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(s.port))))
	if err != nil {
		return err
	}
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok && a.A.String() == address {
			return nil
		}
	}
	return fmt.Errorf("www.%s: %s without %s", name, dns.RcodeToString[reply.Rcode], address)
}

func (s *server) stop() {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err == nil {
		select {
		case <-s.done:
		case <-time.After(5 * time.Second):
			_ = s.cmd.Process.Kill()
			<-s.done
		}
	}
	s.log.Close()
}

func freePort() (uint16, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port), nil
}

// pinSelfAndChildren puts this process and those that it has started on a core.
// What is started later says itself where it belongs.
func pinSelfAndChildren(core int) error {
	var set unix.CPUSet
	set.Set(core)
	tasks, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*")
	if err != nil {
		return err
	}
	family := map[int]bool{os.Getpid(): true}
	for changed := true; changed; {
		changed = false
		for _, t := range tasks {
			pid, _ := strconv.Atoi(strings.Split(t, "/")[2])
			if !family[pid] && family[parentOf(pid)] {
				family[pid], changed = true, true
			}
		}
	}
	for _, t := range tasks {
		pid, _ := strconv.Atoi(strings.Split(t, "/")[2])
		tid, _ := strconv.Atoi(filepath.Base(t))
		if !family[pid] {
			continue
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("pin to core %d: %w", core, err)
		}
	}
	return nil
}

func parentOf(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	ppid, _ := strconv.Atoi(fields[1])
	return ppid
}
