package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"cordon/test/stage"
)

// server is a running resolver.
type server struct {
	name string
	at   netip.AddrPort
	cmd  *exec.Cmd
	done chan error // gets what Wait gave
}

// start starts a resolver whose two caches have that many bytes each; 0 is the
// default of the program.
func start(ctx context.Context, dir, name string, cache int64, l *laboratory, o *options) (*server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{name: name, at: listener.Addr().(*net.TCPAddr).AddrPort(), done: make(chan error, 1)}
	listener.Close()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if e := os.WriteFile(path, []byte(content), 0o600); e != nil {
			err = e
		}
		return path
	}
	hints, anchor := file("root.hints", l.inet.RootHints()), file("root.ds", l.inet.TrustAnchor())
	switch name {
	case "cordon":
		path, e := filepath.Abs(o.cordon)
		if e != nil {
			return nil, e
		}
		sizes := [2]string{}
		if cache > 0 {
			sizes = [2]string{fmt.Sprintf("  cache_bytes: %d\n", cache), fmt.Sprintf("cache_bytes: %d\n", cache)}
		}
		s.cmd = exec.Command(path, "run", "--config", file("resolver.yaml", fmt.Sprintf(`listen: ["%s"]
recursion:
  root_hints: %s
  trust_anchors: %s
  may_query: [127.0.0.0/8]
  ipv6: false
%s%sblocklog:
  dir: %s
log_level: warn
`, s.at, hints, anchor, sizes[0], sizes[1], filepath.Join(dir, "blocklog"))))
	case "unbound":
		s.cmd = exec.Command("unbound", "-d", "-c", file("unbound.conf", fmt.Sprintf(`server:
  interface: %s@%d
  access-control: 127.0.0.0/8 allow
  do-ip6: no
  num-threads: 1
  username: ""
  chroot: ""
  directory: %q
  pidfile: ""
  use-syslog: no
  root-hints: %q
  trust-anchor-file: %q
  do-not-query-localhost: no
  module-config: "validator iterator"
  msg-cache-size: %d
  rrset-cache-size: %d
  so-rcvbuf: 4m
remote-control:
  control-enable: no
`, s.at.Addr(), s.at.Port(), dir, hints, anchor, cache, cache)))
	default:
		return nil, fmt.Errorf("there is no server %q here; there are cordon and unbound", name)
	}
	log, e := os.Create(filepath.Join(dir, "log"))
	if err != nil || e != nil {
		return nil, fmt.Errorf("configure %s: %v, %v", name, err, e)
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.Dir = log, log, dir
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	if err := s.ready(ctx); err != nil {
		s.stop()
		said, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("start %s: %w; it said:\n%s", name, err, said[max(0, len(said)-2000):])
	}
	return s, nil
}

// ready waits until the server has an answer.
func (s *server) ready(ctx context.Context) error {
	m := new(dns.Msg).SetQuestion("ready."+knownZone, dns.TypeA)
	for deadline := time.Now().Add(30 * time.Second); ; {
		reply, _, err := (&dns.Client{Timeout: time.Second}).ExchangeContext(ctx, m, s.at.String())
		if err == nil && len(reply.Answer) == 1 {
			return nil
		}
		select {
		case ended := <-s.done:
			s.done <- ended
			return fmt.Errorf("it ended: %v", ended)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it has no answer: %v, %v", reply, err)
		}
	}
}

func (s *server) usage() (stage.Usage, error) { return stage.UsageOf(s.cmd.Process.Pid) }

// resident is in MiB, as it is now and at its highest.
func (s *server) resident() (now, peak float64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for _, line := range strings.Split(string(b), "\n") {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kib); n == 1 {
			now = kib / 1024
		}
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kib); n == 1 {
			peak = kib / 1024
		}
	}
	return now, peak, nil
}

func (s *server) stop() {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err == nil {
		select {
		case <-s.done:
		case <-time.After(10 * time.Second):
			_ = s.cmd.Process.Kill()
			<-s.done
		}
	}
}
