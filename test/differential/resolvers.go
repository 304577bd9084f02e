package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"cordon/test/lab"
	"cordon/test/stage"
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
	*stage.Process
	name    string
	version string
	at      netip.AddrPort
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
	r := &resolver{name: p.name}
	said, _ := exec.Command(p.says[0], p.says[1:]...).CombinedOutput() // what is not installed fails to start, too
	r.version = p.name + " " + versionNumber.FindString(string(said))
	port, err := stage.FreePort()
	if err != nil {
		return nil, err
	}
	r.at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	args, err := p.configure(dir, r.at, f)
	if err != nil {
		return nil, err
	}
	if r.Process, err = stage.Run(ctx, p.name, dir, args, time.Minute, func(context.Context) error { return r.ready(known) }); err != nil {
		return nil, err
	}
	return r, nil
}

// ready is nil when the resolver has an address for known; for an empty known, when it
// answers.
func (r *resolver) ready(known string) error {
	m := new(dns.Msg)
	m.SetQuestion(known, dns.TypeA)
	if known == "" {
		m.SetQuestion("localhost.", dns.TypeA)
	}
	reply, _, err := (&dns.Client{Timeout: time.Second}).Exchange(m, r.at.String())
	if err == nil && known != "" && len(reply.Answer) == 0 {
		err = fmt.Errorf("%s: %s without an address", known, dns.RcodeToString[reply.Rcode])
	}
	return err
}
