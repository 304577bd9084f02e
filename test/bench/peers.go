package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// kind is a program and how it is configured: one thread, caches large enough
// for all that is asked, DNSSEC validation on, nothing logged.
type kind struct {
	name      string
	says      []string // command that tells the version
	configure func(dir string, port uint16, l *laboratory, listed bool) (command []string, err error)
}

var kinds = []*kind{
	{name: "unbound", says: []string{"unbound", "-V"}, configure: unbound},
	{name: "pdns", says: []string{"pdns_recursor", "--version"}, configure: powerDNS},
	{name: "bind", says: []string{"named", "-v"}, configure: bind},
	{name: "knot", says: []string{"kresd", "--version"}, configure: knot},
}

func serverNames() []string {
	all := []string{"cordon"}
	for _, k := range kinds {
		all = append(all, k.name)
	}
	return all
}

// kindsOf gives the programs behind a name of the -servers flag: for cordon each
// build that -cordon names.
func kindsOf(name string, o *options) (all []*kind, err error) {
	for _, k := range kinds {
		if k.name == name {
			return []*kind{k}, nil
		}
	}
	if name != "cordon" {
		return nil, fmt.Errorf("there is no server %q; there are %s", name, strings.Join(serverNames(), ", "))
	}
	for _, build := range strings.Split(o.cordon, ",") {
		name, path, ok := strings.Cut(build, "=")
		if !ok {
			name, path = "cordon", build
		}
		if path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		all = append(all, &kind{name: name, says: []string{path, "--version"}, configure: cordon(path, o.extra)})
	}
	return all, nil
}

var versionNumber = regexp.MustCompile(`\d+\.\d+\S*|[0-9a-f]{7,}\S*|devel\S*`)

func (k *kind) version() string {
	out, _ := exec.Command(k.says[0], k.says[1:]...).CombinedOutput() // what is not installed fails to start, too
	return k.name + " " + versionNumber.FindString(string(out))
}

func write(dir, name, content string) (string, error) {
	path := filepath.Join(dir, name)
	return path, os.WriteFile(path, []byte(content), 0o644)
}

func cordon(program, extra string) func(string, uint16, *laboratory, bool) ([]string, error) {
	return func(dir string, port uint16, l *laboratory, listed bool) ([]string, error) {
		var c strings.Builder
		fmt.Fprintf(&c, "listen: [127.0.0.1:%d]\nrecursion:\n  root_hints: %s\n  trust_anchors: %s\n  may_query: [127.0.0.0/8]\n  ipv6: false\n", port, l.hints, l.anchor)
		fmt.Fprintf(&c, "blocklog:\n  dir: %s\nstore: %s\nlog_level: warn\n", filepath.Join(dir, "blocklog"), filepath.Join(dir, "lists"))
		if listed {
			fmt.Fprintf(&c, "lists:\n  - name: national\n    source: %s\n    root: %s\n    identity: %s\n    passphrase_file: %s\n    accept_first: true\n",
				l.publish, l.root, l.identity, l.passphrase)
		}
		c.WriteString(extra)
		path, err := write(dir, "resolver.yaml", c.String())
		return []string{program, "run", "--config", path}, err
	}
}

func unbound(dir string, port uint16, l *laboratory, listed bool) ([]string, error) {
	modules, rpz := "validator iterator", ""
	if listed {
		modules = "respip validator iterator"
		rpz = fmt.Sprintf("rpz:\n  name: rpz.bench\n  zonefile: %q\n", l.rpz)
	}
	path, err := write(dir, "unbound.conf", fmt.Sprintf(`server:
  interface: 127.0.0.1@%d
  access-control: 127.0.0.0/8 allow
  do-ip6: no
  num-threads: 1
  username: ""
  chroot: ""
  directory: %q
  pidfile: ""
  use-syslog: no
  root-hints: %q
  trust-anchor: "%s"
  do-not-query-localhost: no
  module-config: %q
  msg-cache-size: 128m
  rrset-cache-size: 128m
  incoming-num-tcp: 100
  so-rcvbuf: 4m
remote-control:
  control-enable: no
%s`, port, dir, l.hints, l.ds, modules, rpz))
	return []string{"unbound", "-d", "-c", path}, err
}

func powerDNS(dir string, port uint16, l *laboratory, listed bool) ([]string, error) {
	script := fmt.Sprintf("clearTA('.')\naddTA('.', \"%s\")\n", strings.Join(strings.Fields(l.ds)[4:], " "))
	if listed {
		script += fmt.Sprintf("rpzFile(%q)\n", l.rpz)
	}
	lua, err := write(dir, "lists.lua", script)
	if err != nil {
		return nil, err
	}
	_, err = write(dir, "recursor.conf", fmt.Sprintf(`local-address=127.0.0.1
local-port=%d
threads=1
dont-query=
hint-file=%s
lua-config-file=%s
dnssec=validate
security-poll-suffix=
socket-dir=%s
write-pid=no
loglevel=3
quiet=yes
disable-syslog=yes
daemon=no
`, port, l.hints, lua, dir))
	return []string{"pdns_recursor", "--config-dir=" + dir}, err
}

func bind(dir string, port uint16, l *laboratory, listed bool) ([]string, error) {
	policy, zone := "", ""
	if listed {
		policy = "  response-policy { zone \"rpz.bench\"; } qname-wait-recurse no;\n"
		zone = fmt.Sprintf("zone \"rpz.bench\" { type primary; file %q; };\n", l.rpz)
	}
	ds := strings.Fields(l.ds) // owner TTL class DS tag algorithm digest-type digest
	path, err := write(dir, "named.conf", fmt.Sprintf(`options {
  directory %q;
  listen-on port %d { 127.0.0.1; };
  listen-on-v6 { none; };
  allow-query { 127.0.0.0/8; };
  recursion yes;
  dnssec-validation yes;
  pid-file none;
  session-keyfile none;
  lock-file none;
  max-cache-size 256m;
  minimal-responses yes;
%s};
controls { };
logging { category default { null; }; category rpz { null; }; };
trust-anchors { . static-ds %s %s %s %q; };
zone "." { type hint; file %q; };
%s`, dir, port, policy, ds[4], ds[5], ds[6], strings.Join(ds[7:], ""), l.hints, zone))
	return []string{"named", "-f", "-n", "1", "-c", path}, err
}

func knot(dir string, port uint16, l *laboratory, listed bool) ([]string, error) {
	script := fmt.Sprintf(`net.ipv6 = false
net.listen('127.0.0.1', %d, { kind = 'dns' })
cache.size = 256 * MB
modules = { 'hints > iterate' }
hints.root_file(%q)
trust_anchors.remove('.')
trust_anchors.add([[%s]])
`, port, l.hints, l.ds)
	if listed {
		script += fmt.Sprintf("policy.add(policy.rpz(policy.DENY, %q, false))\n", l.rpz)
	}
	path, err := write(dir, "kresd.conf", script)
	return []string{"kresd", "-n", "-q", "-c", path, dir}, err
}
