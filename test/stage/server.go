package stage

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

// Setup is how a server is to be started.
type Setup struct {
	List      *List  // loaded; nil for none
	Source    string // where cordon finds the list; default the list's folder
	Cores     []int  // one thread each; default the servers' core
	Encrypted bool   // DoT, DoH and DoQ as well, as far as the server has them
	Clients   int    // connections to have room for; 0 for a few
}

// Ports of a server; 0 where it does not serve the transport.
type Ports struct{ DNS, DoT, DoH, DoQ uint16 }

// Server is a running process.
type Server struct {
	Kind  *Kind
	Ports Ports
	Dir   string

	cmd  *exec.Cmd
	log  *os.File
	done chan error // gets what Wait gave
}

// Start starts a server and waits until it resolves, and blocks where it has a
// list. What it says goes to a file in its folder.
func (s *Stage) Start(ctx context.Context, k *Kind, setup Setup) (_ *Server, err error) {
	dir, err := os.MkdirTemp(s.Dir, k.Name+"-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	if setup.Cores == nil {
		setup.Cores = []int{s.Core}
	}
	if setup.List != nil && setup.Source == "" {
		setup.Source = setup.List.Folder
	}
	v := &Server{Kind: k, Dir: dir, done: make(chan error, 1)}
	for _, p := range []*uint16{&v.Ports.DNS, &v.Ports.DoT, &v.Ports.DoH, &v.Ports.DoQ} {
		if *p, err = freePort(); err != nil {
			return nil, err
		}
	}
	if !setup.Encrypted {
		v.Ports = Ports{DNS: v.Ports.DNS}
	}
	args, err := k.configure(s, v, &setup)
	if err != nil {
		return nil, err
	}
	if v.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	cores := strings.Trim(strings.ReplaceAll(fmt.Sprint(setup.Cores), " ", ","), "[]")
	v.cmd = exec.Command("taskset", append([]string{"-c", cores}, args...)...)
	v.cmd.Stdout, v.cmd.Stderr, v.cmd.Dir = v.log, v.log, dir
	if err := v.cmd.Start(); err != nil {
		return nil, errors.Join(err, v.log.Close())
	}
	go func() { v.done <- v.cmd.Wait() }()
	if err := v.ready(ctx, setup.List); err != nil {
		said, _ := os.ReadFile(v.log.Name())
		v.Stop()
		return nil, fmt.Errorf("start %s: %w; it said:\n%s", k.Name, err, said[max(0, len(said)-2000):])
	}
	return v, nil
}

// startsWithin is long: a million names take Unbound half a minute.
const startsWithin = 3 * time.Minute

func (v *Server) ready(ctx context.Context, l *List) error {
	deadline := time.Now().Add(startsWithin)
	for {
		err := v.Leads(ctx, "www."+Site(0), "192.0.2.1")
		if err == nil && l != nil {
			err = v.Leads(ctx, "www."+l.Stable(l.Entries-1), StopPage)
		}
		if err == nil {
			return nil
		}
		select {
		case ended := <-v.done:
			v.done <- ended
			return fmt.Errorf("it ended: %w", ended)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not answer: %w", err)
		}
	}
}

// Leads tells whether a name's address is the one given.
func (v *Server) Leads(ctx context.Context, name, address string) error {
	m := new(dns.Msg)
	m.SetQuestion(name+".", dns.TypeA)
	reply, _, err := (&dns.Client{Timeout: time.Second}).ExchangeContext(ctx, m, v.Address())
	if err != nil {
		return err
	}
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok && a.A.String() == address {
			return nil
		}
	}
	return fmt.Errorf("%s: %s without %s", name, dns.RcodeToString[reply.Rcode], address)
}

// Address is where it answers by UDP and TCP.
func (v *Server) Address() string { return net.JoinHostPort("127.0.0.1", port(v.Ports.DNS)) }

// PID is the process.
func (v *Server) PID() int { return v.cmd.Process.Pid }

// Alive is nil while the process runs.
func (v *Server) Alive() error {
	select {
	case ended := <-v.done:
		v.done <- ended
		said, _ := os.ReadFile(v.log.Name())
		return fmt.Errorf("%s ended: %w; it said:\n%s", v.Kind.Name, ended, said[max(0, len(said)-2000):])
	default:
		return nil
	}
}

// Stop ends the process and waits for it.
func (v *Server) Stop() {
	if err := v.cmd.Process.Signal(syscall.SIGTERM); err == nil {
		select {
		case <-v.done:
		case <-time.After(5 * time.Second):
			_ = v.cmd.Process.Kill()
			<-v.done
		}
	}
	v.log.Close()
}

func port(p uint16) string { return strconv.Itoa(int(p)) }

// freePort is one that neither TCP nor UDP uses.
func freePort() (uint16, error) {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		u, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			u.Close()
		}
		l.Close()
		if err == nil {
			return uint16(l.Addr().(*net.TCPAddr).Port), nil
		}
	}
	return 0, errors.New("no port is free")
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
