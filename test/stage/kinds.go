package stage

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Kind is a program and how it is configured: a thread for each core, caches large
// enough for all that is asked, DNSSEC validation on, nothing logged.
type Kind struct {
	Name string
	Can  Transports // which encrypted transports the packaged program serves

	says      []string // command that tells the version
	configure func(s *Stage, v *Server, setup *Setup) (command []string, err error)
	reload    func(v *Server) []string // command that has it read its zone files anew; nil: it watches
}

// Transports that are encrypted.
type Transports struct{ DoT, DoH, DoQ bool }

var kinds = []*Kind{
	{Name: "unbound", Can: Transports{DoT: true, DoH: true}, says: []string{"unbound", "-V"}, configure: unbound,
		reload: func(v *Server) []string {
			return []string{"unbound-control", "-c", filepath.Join(v.Dir, "unbound.conf"), "auth_zone_reload", "rpz.bench"}
		}},
	{Name: "pdns", says: []string{"pdns_recursor", "--version"}, configure: powerDNS,
		reload: func(v *Server) []string {
			return []string{"rec_control", "--config-dir=" + v.Dir, "--socket-dir=" + v.Dir, "--timeout=120", "reload-lua-config"}
		}},
	{Name: "bind", Can: Transports{DoT: true, DoH: true}, says: []string{"named", "-v"}, configure: bind},
	{Name: "knot", Can: Transports{DoT: true, DoH: true}, says: []string{"kresd", "--version"}, configure: knot},
}

// Names of the servers that there are.
func Names() []string {
	all := []string{"cordon"}
	for _, k := range kinds {
		all = append(all, k.Name)
	}
	return all
}

// Kinds gives the programs behind names: for cordon each build that the options
// name.
func (o *Options) Kinds(names []string) (all []*Kind, err error) {
	for _, name := range names {
		found, err := o.kindsOf(name)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func (o *Options) kindsOf(name string) (all []*Kind, err error) {
	for _, k := range kinds {
		if k.Name == name {
			return []*Kind{k}, nil
		}
	}
	if name != "cordon" {
		return nil, fmt.Errorf("there is no server %q; there are %s", name, strings.Join(Names(), ", "))
	}
	for build := range strings.SplitSeq(o.Cordon, ",") {
		name, path, ok := strings.Cut(build, "=")
		if !ok {
			name, path = "cordon", build
		}
		if path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		all = append(all, &Kind{Name: name, Can: Transports{DoT: true, DoH: true, DoQ: true}, says: []string{path, "--version"}, configure: cordon(path)})
	}
	return all, nil
}

var versionNumber = regexp.MustCompile(`\d+\.\d+\S*|[0-9a-f]{7,}\S*|devel\S*`)

// Version is name and version.
func (k *Kind) Version() string {
	out, _ := exec.Command(k.says[0], k.says[1:]...).CombinedOutput() // what is not installed fails to start, too
	return k.Name + " " + versionNumber.FindString(string(out))
}

// Reload has the server take the edition that is in place, where it does not by
// itself, and waits as long as its control program does.
func (v *Server) Reload(s *Stage) error {
	if v.Kind.reload == nil {
		return nil
	}
	args := s.OnClientCore(v.Kind.reload(v)...)
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func write(dir, name, content string) (string, error) {
	path := filepath.Join(dir, name)
	return path, os.WriteFile(path, []byte(content), 0o644)
}

func cordon(program string) func(*Stage, *Server, *Setup) ([]string, error) {
	return func(s *Stage, v *Server, setup *Setup) ([]string, error) {
		var c strings.Builder
		fmt.Fprintf(&c, "listen: [127.0.0.1:%d]\nrecursion:\n  root_hints: %s\n  trust_anchors: %s\n  may_query: [127.0.0.0/8]\n  ipv6: false\n", v.Ports.DNS, s.hints, s.anchor)
		fmt.Fprintf(&c, "blocklog:\n  dir: %s\nstore: %s\nlog_level: warn\n", filepath.Join(v.Dir, "blocklog"), filepath.Join(v.Dir, "lists"))
		if l := setup.List; l != nil {
			c.WriteString(l.Config(setup.Source))
			if strings.HasPrefix(setup.Source, "https:") {
				fmt.Fprintf(&c, "    ca: %s\n    poll: 1s\n", s.chain)
			}
		}
		if setup.Encrypted {
			fmt.Fprintf(&c, "dot: [127.0.0.1:%d]\ndoh: [127.0.0.1:%d]\ndoq: [127.0.0.1:%d]\ntls: {certificate: %s, key: %s, name: %s}\n",
				v.Ports.DoT, v.Ports.DoH, v.Ports.DoQ, s.chain, s.key, ServerName)
		}
		if setup.Clients > 0 {
			fmt.Fprintf(&c, "limits: {connections: %d, connections_per_client: %[1]d, idle: 30s, handshakes: 0}\n", setup.Clients)
		}
		c.WriteString(s.Extra)
		path, err := write(v.Dir, "resolver.yaml", c.String())
		return []string{program, "run", "--config", path}, err
	}
}

func unbound(s *Stage, v *Server, setup *Setup) ([]string, error) {
	var c strings.Builder
	modules := "validator iterator"
	if setup.List != nil {
		modules = "respip validator iterator"
	}
	fmt.Fprintf(&c, `server:
  interface: 127.0.0.1@%d
  access-control: 127.0.0.0/8 allow
  do-ip6: no
  num-threads: %d
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
  incoming-num-tcp: %d
  so-rcvbuf: 4m
`, v.Ports.DNS, len(setup.Cores), v.Dir, s.hints, s.ds, modules, max(100, setup.Clients))
	if setup.Encrypted {
		v.Ports.DoQ = 0
		fmt.Fprintf(&c, "  interface: 127.0.0.1@%d\n  tls-port: %[1]d\n  interface: 127.0.0.1@%d\n  https-port: %[2]d\n", v.Ports.DoT, v.Ports.DoH)
		fmt.Fprintf(&c, "  tls-service-pem: %q\n  tls-service-key: %q\n  http-query-buffer-size: 64m\n  http-response-buffer-size: 64m\n", s.chain, s.key)
	}
	fmt.Fprintf(&c, "remote-control:\n  control-enable: yes\n  control-interface: %q\n  control-use-cert: no\n", filepath.Join(v.Dir, "control"))
	if setup.List != nil {
		fmt.Fprintf(&c, "rpz:\n  name: rpz.bench\n  zonefile: %q\n", setup.List.RPZ)
	}
	path, err := write(v.Dir, "unbound.conf", c.String())
	return []string{"unbound", "-d", "-c", path}, err
}

func powerDNS(s *Stage, v *Server, setup *Setup) ([]string, error) {
	script := fmt.Sprintf("clearTA('.')\naddTA('.', \"%s\")\n", strings.Join(strings.Fields(s.ds)[4:], " "))
	if setup.List != nil {
		script += fmt.Sprintf("rpzFile(%q)\n", setup.List.RPZ)
	}
	lua, err := write(v.Dir, "lists.lua", script)
	if err != nil {
		return nil, err
	}
	v.Ports = Ports{DNS: v.Ports.DNS}
	_, err = write(v.Dir, "recursor.conf", fmt.Sprintf(`local-address=127.0.0.1
local-port=%d
threads=%d
reuseport=yes
pdns-distributes-queries=no
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
max-tcp-clients=%d
max-tcp-per-client=0
`, v.Ports.DNS, len(setup.Cores), s.hints, lua, v.Dir, max(128, setup.Clients)))
	return []string{"pdns_recursor", "--config-dir=" + v.Dir}, err
}

func bind(s *Stage, v *Server, setup *Setup) ([]string, error) {
	policy, zone, tls := "", "", ""
	if setup.List != nil {
		policy = "  response-policy { zone \"rpz.bench\"; } qname-wait-recurse no;\n"
		zone = fmt.Sprintf("zone \"rpz.bench\" { type primary; file %q; };\n", setup.List.RPZ)
	}
	if setup.Encrypted {
		v.Ports.DoQ = 0
		tls = fmt.Sprintf("tls own { cert-file %q; key-file %q; };\n", s.chain, s.key)
		policy += fmt.Sprintf("  listen-on port %d tls own { 127.0.0.1; };\n  listen-on port %d tls own http default { 127.0.0.1; };\n", v.Ports.DoT, v.Ports.DoH)
	}
	ds := strings.Fields(s.ds) // owner TTL class DS tag algorithm digest-type digest
	path, err := write(v.Dir, "named.conf", fmt.Sprintf(`%soptions {
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
  tcp-clients %d;
%s};
controls { };
logging { category default { null; }; category rpz { null; }; };
trust-anchors { . static-ds %s %s %s %q; };
zone "." { type hint; file %q; };
%s`, tls, v.Dir, v.Ports.DNS, max(150, setup.Clients), policy, ds[4], ds[5], ds[6], strings.Join(ds[7:], ""), s.hints, zone))
	return []string{"named", "-f", "-n", fmt.Sprint(len(setup.Cores)), "-c", path}, err
}

func knot(s *Stage, v *Server, setup *Setup) ([]string, error) {
	if len(setup.Cores) > 1 {
		return nil, errors.New("one process of Knot Resolver has one thread")
	}
	script := fmt.Sprintf(`net.ipv6 = false
net.listen('127.0.0.1', %d, { kind = 'dns' })
cache.size = 256 * MB
modules = { 'hints > iterate' }
hints.root_file(%q)
trust_anchors.remove('.')
trust_anchors.add([[%s]])
`, v.Ports.DNS, s.hints, s.ds)
	if setup.Encrypted {
		v.Ports.DoQ = 0
		script += fmt.Sprintf("net.tls(%q, %q)\nnet.listen('127.0.0.1', %d, { kind = 'tls' })\nnet.listen('127.0.0.1', %d, { kind = 'doh2' })\n",
			s.chain, s.key, v.Ports.DoT, v.Ports.DoH)
	}
	if setup.List != nil {
		script += fmt.Sprintf("policy.add(policy.rpz(policy.DENY, %q, false))\n", setup.List.RPZ)
	}
	path, err := write(v.Dir, "kresd.conf", script)
	return []string{"kresd", "-n", "-q", "-c", path, v.Dir}, err
}
