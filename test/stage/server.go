package stage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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

// Server is a resolver that runs.
type Server struct {
	*Process
	Kind  *Kind
	Ports Ports
	Dir   string
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
	v := &Server{Kind: k, Dir: dir}
	for _, p := range []*uint16{&v.Ports.DNS, &v.Ports.DoT, &v.Ports.DoH, &v.Ports.DoQ} {
		if *p, err = FreePort(); err != nil {
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
	cores := strings.Trim(strings.ReplaceAll(fmt.Sprint(setup.Cores), " ", ","), "[]")
	v.Process, err = Run(ctx, k.Name, dir, append([]string{"taskset", "-c", cores}, args...), startsWithin, func(ctx context.Context) error {
		return v.ready(ctx, setup.List)
	})
	if err != nil {
		return nil, err
	}
	return v, nil
}

// startsWithin is long: a million names take Unbound half a minute.
const startsWithin = 3 * time.Minute

func (v *Server) ready(ctx context.Context, l *List) error {
	if err := v.Leads(ctx, "www."+Site(0), "192.0.2.1"); err != nil || l == nil {
		return err
	}
	return v.Leads(ctx, "www."+l.Stable(l.Entries-1), StopPage)
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

func port(p uint16) string { return strconv.Itoa(int(p)) }

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
