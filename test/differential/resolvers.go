package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"cordon/test/lab"
)

// program is a resolver and how it is configured: DNSSEC validation on, no
// filter, nothing logged, and otherwise as it comes.
type program struct {
	name      string
	says      []string // command that tells the version
	configure func(dir string, at netip.AddrPort, f labFiles) (command []string, err error)
}

// labFiles is what leads a resolver into the laboratory.
type labFiles struct {
	hints, anchor string // paths
	ds            string // the trust anchor, one line
}

// programs are those of the names, in their order.
func programs(cordonPath string, names []string) (chosen []program, err error) {
	all := []program{
		{"cordon", []string{cordonPath, "--version"}, cordon(cordonPath)},
		{"unbound", []string{"unbound", "-V"}, unbound},
		{"bind", []string{"named", "-v"}, bind},
	}
	for _, name := range names {
		i := slices.IndexFunc(all, func(p program) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no resolver %q here; there are cordon, unbound and bind", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func cordon(path string) func(string, netip.AddrPort, labFiles) ([]string, error) {
	return func(dir string, at netip.AddrPort, f labFiles) ([]string, error) {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		config, err := write(dir, "resolver.yaml", fmt.Sprintf(`listen: [%s]
recursion:
  root_hints: %s
  trust_anchors: %s
  may_query: [127.0.0.0/8]
  ipv6: false
blocklog:
  dir: %s
log_level: warn
`, at, f.hints, f.anchor, filepath.Join(dir, "blocklog")))
		return []string{absolute, "run", "--config", config}, err
	}
}

func unbound(dir string, at netip.AddrPort, f labFiles) ([]string, error) {
	config, err := write(dir, "unbound.conf", fmt.Sprintf(`server:
  interface: %s@%d
  access-control: 127.0.0.0/8 allow
  do-ip6: no
  username: ""
  chroot: ""
  directory: %q
  pidfile: ""
  use-syslog: no
  root-hints: %q
  trust-anchor-file: %q
  do-not-query-localhost: no
remote-control:
  control-enable: no
`, at.Addr(), at.Port(), dir, f.hints, f.anchor))
	return []string{"unbound", "-d", "-c", config}, err
}

func bind(dir string, at netip.AddrPort, f labFiles) ([]string, error) {
	ds := strings.Fields(f.ds) // owner TTL class DS tag algorithm digest-type digest
	config, err := write(dir, "named.conf", fmt.Sprintf(`options {
  directory %q;
  listen-on port %d { %s; };
  listen-on-v6 { none; };
  allow-query { 127.0.0.0/8; };
  recursion yes;
  dnssec-validation yes;
  pid-file none;
  session-keyfile none;
  lock-file none;
};
controls { };
logging { category default { null; }; };
trust-anchors { . static-ds %s %s %s %q; };
zone "." { type hint; file %q; };
`, dir, at.Port(), at.Addr(), ds[4], ds[5], ds[6], strings.Join(ds[7:], ""), f.hints))
	return []string{"named", "-f", "-4", "-n", "1", "-c", config}, err
}

func write(dir, name, content string) (string, error) {
	path := filepath.Join(dir, name)
	return path, os.WriteFile(path, []byte(content), 0o600)
}

// resolver is a running program.
type resolver struct {
	name    string
	version string
	at      netip.AddrPort
	cmd     *exec.Cmd
	log     *os.File
	done    chan error // gets what Wait gave
}

var versionNumber = regexp.MustCompile(`\d+\.\d+\S*|[0-9a-f]{7,}\S*|devel\S*`)

// start runs a program with a folder of its own and waits until it resolves
// known; an empty known waits for any reply.
func start(ctx context.Context, dir string, p program, inet *lab.Internet, known string) (_ *resolver, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f := labFiles{ds: strings.TrimSpace(inet.TrustAnchor())}
	if f.hints, err = write(dir, "root.hints", inet.RootHints()); err != nil {
		return nil, err
	}
	if f.anchor, err = write(dir, "root.ds", f.ds+"\n"); err != nil {
		return nil, err
	}
	r := &resolver{name: p.name, done: make(chan error, 1)}
	said, _ := exec.Command(p.says[0], p.says[1:]...).CombinedOutput() // what is not installed fails to start, too
	r.version = p.name + " " + versionNumber.FindString(string(said))
	if r.at, err = freePort(); err != nil {
		return nil, err
	}
	args, err := p.configure(dir, r.at, f)
	if err != nil {
		return nil, err
	}
	if r.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	r.cmd = exec.Command(args[0], args[1:]...)
	r.cmd.Stdout, r.cmd.Stderr, r.cmd.Dir = r.log, r.log, dir
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := r.cmd.Start(); err != nil {
		r.log.Close()
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() { r.done <- r.cmd.Wait() }()
	if err := r.ready(ctx, known); err != nil {
		r.stop()
		said, _ := os.ReadFile(r.log.Name())
		return nil, fmt.Errorf("start %s: %w; it said:\n%s", p.name, err, said[max(0, len(said)-2000):])
	}
	return r, nil
}

func (r *resolver) ready(ctx context.Context, known string) error {
	m := new(dns.Msg)
	m.SetQuestion(known, dns.TypeA)
	if known == "" {
		m.SetQuestion("localhost.", dns.TypeA)
	}
	client := &dns.Client{Timeout: time.Second}
	for deadline := time.Now().Add(time.Minute); ; {
		reply, _, err := client.Exchange(m, r.at.String())
		if err == nil && known != "" && len(reply.Answer) == 0 {
			err = fmt.Errorf("%s: %s without an address", known, dns.RcodeToString[reply.Rcode])
		}
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not answer: %w", err)
		}
		select {
		case ended := <-r.done:
			r.done <- ended
			return fmt.Errorf("it ended: %v", ended)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (r *resolver) stop() {
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err == nil {
		select {
		case <-r.done:
		case <-time.After(5 * time.Second):
			_ = r.cmd.Process.Kill()
			<-r.done
		}
	}
	r.log.Close()
}

func freePort() (netip.AddrPort, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort(), nil
}
