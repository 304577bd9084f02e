package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/miekg/dns"

	"cordon/test/stage"
)

// server is a running resolver.
type server struct {
	*stage.Process
	at netip.AddrPort
}

// start starts a resolver whose two caches have that many bytes each; 0 is the
// default of the program.
func start(ctx context.Context, dir, name string, cache int64, l *laboratory, o *options) (*server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	port, err := stage.FreePort()
	if err != nil {
		return nil, err
	}
	s := &server{at: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)}
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if e := os.WriteFile(path, []byte(content), 0o600); e != nil {
			err = e
		}
		return path
	}
	var args []string
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
		args = []string{path, "run", "--config", file("resolver.yaml", fmt.Sprintf(`listen: ["%s"]
recursion:
  root_hints: %s
  trust_anchors: %s
  may_query: [127.0.0.0/8]
  ipv6: false
%s%sblocklog:
  dir: %s
log_level: warn
`, s.at, hints, anchor, sizes[0], sizes[1], filepath.Join(dir, "blocklog")))}
	case "unbound":
		args = []string{"unbound", "-d", "-c", file("unbound.conf", fmt.Sprintf(`server:
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
`, s.at.Addr(), s.at.Port(), dir, hints, anchor, cache, cache))}
	default:
		return nil, fmt.Errorf("there is no server %q here; there are cordon and unbound", name)
	}
	if err != nil {
		return nil, fmt.Errorf("configure %s: %w", name, err)
	}
	if s.Process, err = stage.Run(ctx, name, dir, args, 30*time.Second, s.ready); err != nil {
		return nil, err
	}
	return s, nil
}

// ready is nil when the server has an answer.
func (s *server) ready(ctx context.Context) error {
	m := new(dns.Msg).SetQuestion("ready."+knownZone, dns.TypeA)
	reply, _, err := (&dns.Client{Timeout: time.Second}).ExchangeContext(ctx, m, s.at.String())
	if err != nil {
		return err
	}
	if len(reply.Answer) != 1 {
		return fmt.Errorf("%s without an address", dns.RcodeToString[reply.Rcode])
	}
	return nil
}

// resident is in MiB, as it is now and at its highest.
func (s *server) resident() (now, peak float64, err error) {
	u, err := s.Usage()
	if err != nil {
		return 0, 0, err
	}
	most, err := s.Peak()
	return float64(u.Memory) / 1024, float64(most) / 1024, err
}
