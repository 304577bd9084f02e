package fleet

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cordon/test/await"
)

// peer is a resolver of another make.
type peer struct {
	name string
	at   netip.AddrPort
}

// makes are the programs, and how each is configured: as docs/operators.md says, plus
// what the laboratory needs (ports, its trust anchor, and where its two zones are, since
// delegations lead to port 53).
var makes = []struct {
	name, program string
	start         func(f *fleet, at netip.AddrPort)
}{
	{"bind", "named", startBIND},
	{"power", "pdns_recursor", startPowerDNS},
	{"unbound", "unbound", startUnbound},
	{"knot", "kresd", startKnot},
}

// startPeers starts all of them. One that is not installed is a failure where
// everything has to run (CI=true), and else the test is skipped.
func (f *fleet) startPeers() (all []peer) {
	f.t.Helper()
	for _, m := range makes {
		at := f.portOf(m.name)
		m.start(f, at)
		all = append(all, peer{m.name, at})
	}
	return all
}

func needPeers(t *testing.T) {
	t.Helper()
	for _, m := range makes {
		if _, err := exec.LookPath(m.program); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%v (make test installs it)", err)
			}
			t.Skipf("%v (Debian packages unbound, bind9, pdns-recursor, knot-resolver)", err)
		}
	}
}

// fill puts values for what stands in braces in a peer's configuration.
func (f *fleet) fill(text, dir string, at netip.AddrPort) string {
	ds := strings.Fields(f.ds) // owner TTL class DS tag algorithm digest-type digest
	return strings.NewReplacer(
		"{dir}", dir, "{port}", fmt.Sprint(at.Port()), "{zone}", zoneName, "{file}", f.file,
		"{primary}", f.primary.Addr().String(), "{primary-port}", fmt.Sprint(f.primary.Port()), "{bind-secret}", bindSecret, "{power-secret}", powerSecret,
		"{root}", rootServer, "{fleet}", fleetServer, "{authoritative-port}", fmt.Sprint(f.authoritative),
		"{ds}", f.ds, "{ds-rdata}", strings.Join(ds[4:], " "), "{tag}", ds[4], "{algorithm}", ds[5], "{digest-type}", ds[6], "{digest}", strings.Join(ds[7:], ""),
	).Replace(text)
}

// configure writes a peer's configuration into a folder of its own.
func (f *fleet) configure(name, file, text string, at netip.AddrPort) (dir, path string) {
	f.t.Helper()
	dir = f.folder(name)
	path = filepath.Join(dir, file)
	return dir, f.write(path, f.fill(text, dir, at), 0o600)
}

// BIND fetches the zone, signed, and takes notifications.
func startBIND(f *fleet, at netip.AddrPort) {
	_, config := f.configure("bind", "named.conf", `
key "bind" { algorithm hmac-sha256; secret "{bind-secret}"; };
options {
  directory "{dir}";
  listen-on port {port} { 127.0.0.1; };
  listen-on-v6 { none; };
  recursion yes;
  dnssec-validation yes;
  pid-file none;
  session-keyfile none;
  lock-file none;
  response-policy {
    zone "{zone}" max-policy-ttl 86400 min-update-interval 0 add-soa no;
  } qname-wait-recurse no break-dnssec yes;
};
controls { };
trust-anchors { . static-ds {tag} {algorithm} {digest-type} "{digest}"; };
zone "." { type forward; forward only; forwarders { {root} port {authoritative-port}; }; };
zone "fleet" { type forward; forward only; forwarders { {fleet} port {authoritative-port}; }; };
zone "{zone}" {
  type secondary;
  primaries { {primary} port {primary-port} key "bind"; };
  file "listed.rpz";
  allow-query { none; };
  allow-transfer { none; };
};
`, at)
	f.start("bind", "named", "-f", "-n", "1", "-c", config)
}

// PowerDNS Recursor fetches the zone, signed. It takes no notifications for policy
// zones, so it asks each second; and what its packet cache holds, it answers past any
// policy, so that may be no older than a second.
func startPowerDNS(f *fleet, at netip.AddrPort) {
	f.configure("power", "lists.lua", `clearTA('.')
addTA('.', "{ds-rdata}")
rpzPrimary("{primary}:{primary-port}", "{zone}", {
  tsigname = "power", tsigalgo = "hmac-sha512", tsigsecret = "{power-secret}",
  refresh = 1, seedFile = "{dir}/listed.rpz", dumpFile = "{dir}/listed.rpz",
})
`, at)
	dir, _ := f.configure("power", "recursor.conf", `local-address=127.0.0.1
local-port={port}
threads=1
dont-query=
forward-zones=.={root}:{authoritative-port},fleet={fleet}:{authoritative-port}
lua-config-file={dir}/lists.lua
packetcache-ttl=1
dnssec=validate
security-poll-suffix=
socket-dir={dir}
write-pid=no
disable-syslog=yes
daemon=no
`, at)
	f.start("power", "pdns_recursor", "--config-dir="+dir)
}

// Unbound cannot sign what it asks for, so it reads the file, when it is told to. It
// does not hold aliases that lead to listed names; see passes.
func startUnbound(f *fleet, at netip.AddrPort) {
	f.waitForFile()
	_, config := f.configure("unbound", "unbound.conf", `server:
  interface: 127.0.0.1@{port}
  access-control: 127.0.0.0/8 allow
  do-ip6: no
  num-threads: 1
  username: ""
  chroot: ""
  directory: "{dir}"
  pidfile: ""
  use-syslog: no
  trust-anchor: "{ds}"
  do-not-query-localhost: no
  module-config: "respip validator iterator"
remote-control:
  control-enable: yes
  control-interface: "{dir}/control"
  control-use-cert: no
stub-zone:
  name: "."
  stub-addr: {root}@{authoritative-port}
stub-zone:
  name: "fleet."
  stub-addr: {fleet}@{authoritative-port}
rpz:
  name: "{zone}"
  zonefile: "{file}"
`, at)
	f.start("unbound", "unbound", "-d", "-c", config)
	f.whenTheFileChanges(func(ctx context.Context) error {
		out, err := exec.CommandContext(ctx, "unbound-control", "-c", config, "auth_zone_reload", zoneName).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// Knot Resolver reads the file, and looks each half second whether it is a newer one.
// Its rules see the question alone; the second one looks at where aliases lead.
func startKnot(f *fleet, at netip.AddrPort) {
	f.waitForFile()
	dir, config := f.configure("knot", "kresd.conf", `net.ipv6 = false
net.listen('127.0.0.1', {port}, { kind = 'dns' })
trust_anchors.remove('.')
`+strings.ReplaceAll(knotRules, "/var/lib/cordon-rpz/listed.rpz", "{file}")+`
policy.add(policy.suffix(policy.STUB('{fleet}@{authoritative-port}'), { todname('fleet.') }))
policy.add(policy.all(policy.STUB('{root}@{authoritative-port}')))
`, at)
	f.start("knot", "kresd", "-n", "-q", "-c", config, dir)
}

// knotRules stands in docs/operators.md, word for word.
const knotRules = `local path = '/var/lib/cordon-rpz/listed.rpz'
local listed, serial

local function load()
  local file = io.open(path)
  if not file then return end
  local soa = file:read('*l')
  file:close()
  if soa ~= serial then
    listed, serial = policy.rpz(policy.DENY, path, false), soa
  end
end
load()
assert(listed, path .. ' is not there')
event.recurrent(sec / 2, load)

policy.add(function (req, query) return listed(req, query) end)
policy.add(function (req)
  for i = 0, tonumber(req.answ_selected.len) - 1 do
    local rr = req.answ_selected.at[i].rr
    if rr.type == kres.type.CNAME then
      local target = rr:rdata(0):lower()
      local action = listed(req, { name = function () return target end })
      if action then
        return function (state)
          for _, section in ipairs({ 'answ_selected', 'auth_selected', 'add_selected' }) do
            req[section].len = 0
          end
          req:ensure_answer():clear_payload()
          req:ensure_edns()
          req.current_query = req:initial()
          local done = action(state, req)
          req.current_query = nil
          return done
        end
      end
    end
  end
end, true)
`

func (f *fleet) folder(name string) string {
	f.t.Helper()
	dir := filepath.Join(f.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		f.t.Fatal(err)
	}
	return dir
}

// firstLine of the file is the SOA.
func (f *fleet) firstLine() string {
	file, err := os.Open(f.file)
	if err != nil {
		return ""
	}
	defer file.Close()
	line, _ := bufio.NewReader(file).ReadString('\n') // a file that is replaced whole has one
	return line
}

func (f *fleet) waitForFile() {
	f.t.Helper()
	await.Nil(f.t, "the policy zone's file", func() error {
		if f.firstLine() == "" {
			return errNotYet
		}
		return nil
	})
}

// whenTheFileChanges does what a systemd path unit does.
func (f *fleet) whenTheFileChanges(do func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	before := f.firstLine()
	go func() {
		defer close(ended)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now := f.firstLine()
			if now == before {
				continue
			}
			if err := do(ctx); err == nil { // else again: the server may not be up yet
				before = now
			}
		}
	}()
	f.t.Cleanup(func() { cancel(); <-ended })
}
