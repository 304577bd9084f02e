package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cordon/audit/tlog"
	"cordon/signing"
	"cordon/test/await"
)

// world is a resolver's operator, the authorities that it follows and the
// auditor, in one folder:
//
//	NAME/authority, NAME/publish   an authority (found)
//	resolver/                      resolver.yaml, identity, blocklog/, lists/
//	auditor/, audit/               auditor.yaml and its key; the audit log
//	stoppage/                      stoppage.yaml
//	official/                      NAME.yaml, identity, and the mirrors in NAME/
//	keys/                          audit.vkey, the passphrase of all keys
//
// Its programs listen at a loopback address of its own.
type world struct {
	t       *testing.T
	dir     string
	address netip.Addr
	dns     netip.AddrPort // of the resolver, UDP and TCP
	page    netip.AddrPort // of the stop page

	passphrase string // file
	recipient  string // the resolver's
	overseer   string // the official's recipient

	resolverMetrics netip.AddrPort
	auditorMetrics  netip.AddrPort
	auditChannel    string     // settings of the auditor's server for the official; empty: none
	processes       []*process // all that were started, in order

	// client is the address that questions are asked from, where no other is
	// said; by default the system chooses.
	client netip.Addr
}

const (
	ipv6Page = "2001:db8::451"            // the stop page's IPv6 address in answers; nothing listens there
	logName  = "isp.example/cordon/node1" // of the audit log
	quick    = 4                          // log2 of the work to open a key: these keep no secret
)

// newWorld makes the folder, the resolver's identity and the files that lead it
// into the laboratory internet.
func newWorld(t *testing.T) *world {
	t.Helper()
	// Not t.TempDir: a UNIX socket's path has at most 107 bytes.
	dir, err := os.MkdirTemp("", "cordon-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	w := &world{
		t: t, dir: dir,
		address:    netip.AddrFrom4([4]byte{127, 66, byte(rand.N(256)), byte(1 + rand.N(254))}),
		passphrase: filepath.Join(dir, "keys", "passphrase"),
	}
	w.dns, w.page, w.resolverMetrics, w.auditorMetrics = w.freePort(), w.freePort(), w.freePort(), w.freePort()
	for _, folder := range []string{"keys", "resolver", "auditor", "stoppage", "official"} {
		if err := os.Mkdir(w.path(folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.write("keys/passphrase", "a passphrase for tests\n")
	w.write("resolver/root.hints", internet.RootHints())
	w.write("resolver/root.ds", internet.TrustAnchor())
	w.recipient = w.identity("cordon-resolver", "resolver/identity")
	w.overseer = w.identity("cordon-oversight", "official/identity")
	return w
}

// identity makes one with a program that has such a command, and gives its
// recipient.
func (w *world) identity(program, file string) (recipient string) {
	w.t.Helper()
	return strings.TrimSpace(w.succeeds(program, "identity", w.path(file), "--passphrase-file", w.passphrase, "--kdf-log-n", fmt.Sprint(quick)))
}

// path is that of a file or folder of the world.
func (w *world) path(name string) string { return filepath.Join(w.dir, filepath.FromSlash(name)) }

func (w *world) write(name, content string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(name string) string {
	w.t.Helper()
	b, err := os.ReadFile(w.path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

// freePort finds a port that is free for UDP and TCP at the world's address.
func (w *world) freePort() netip.AddrPort {
	w.t.Helper()
	var last error
	for range 20 {
		l, err := net.Listen("tcp", netip.AddrPortFrom(w.address, 0).String())
		if err != nil {
			w.t.Fatal(err)
		}
		at := l.Addr().(*net.TCPAddr).AddrPort()
		p, err := net.ListenPacket("udp", at.String())
		l.Close()
		if err == nil {
			p.Close()
			return at
		}
		last = err
	}
	w.t.Fatal(last)
	return netip.AddrPort{}
}

// authority is one that lists, in the folder NAME.
type authority struct {
	*world
	name    string // of the list, with the resolver too
	dir     string
	publish string // what operators see
}

// found makes an authority: officers alice, bruno and chloe; root-1 to root-3
// and targets-1 to targets-3, of which two have to sign; lists for the world's
// resolver. args are further arguments of "init".
func (w *world) found(name string, args ...string) *authority {
	w.t.Helper()
	if err := os.Mkdir(w.path(name), 0o700); err != nil {
		w.t.Fatal(err)
	}
	a := &authority{world: w, name: name, dir: w.path(name + "/authority"), publish: w.path(name + "/publish")}
	a.run(append([]string{
		"init", "--name", "Office " + name, "--procedure", "../../configs/procedure-france.yaml",
		"--officer", "alice", "--officer", "bruno", "--officer", "chloe",
		"--publish", a.publish, "--passphrase-file", w.passphrase, "--kdf-log-n", fmt.Sprint(quick),
		"--stop-page", "terrorism=" + w.address.String() + "," + ipv6Page + "," + w.pageOf("terrorism"),
		"--stop-page", "minors=" + w.address.String() + ",," + w.pageOf("minors"),
		"--recipient", "isp=" + w.recipient, "--recipient", "official=" + w.overseer,
	}, args...)...)
	return a
}

// pageOf is the address of a category's stop page.
func (w *world) pageOf(category string) string { return fmt.Sprintf("http://%s/%s", w.page, category) }

// run runs a command of cordon-authority, which has to succeed, and gives
// what it printed.
func (a *authority) run(args ...string) string {
	a.t.Helper()
	return a.succeeds("cordon-authority", append([]string{"--data", a.dir}, args...)...)
}

// refuses runs a command of cordon-authority that has to fail, and gives what
// it printed.
func (a *authority) refuses(args ...string) string {
	a.t.Helper()
	return a.fails("cordon-authority", append([]string{"--data", a.dir}, args...)...)
}

// propose has alice propose a name (scope host or domain) and gives the
// measure's id.
func (a *authority) propose(name, category, scope string) string {
	a.t.Helper()
	return strings.TrimSpace(a.run("propose", name, "--category", category, "--scope", scope, "--decision", "D-"+name, "--as", "alice"))
}

// approve has officers approve a measure.
func (a *authority) approve(measure string, officers ...string) {
	a.t.Helper()
	for _, officer := range officers {
		a.run("approve", measure, "--as", officer)
	}
}

// sign has holders of keys sign what follows from the register.
func (a *authority) sign(holders ...string) {
	a.t.Helper()
	for _, holder := range holders {
		a.run("sign", "--key", holder)
	}
}

// publishSigned has two of three sign, publishes, and gives the list's serial.
func (a *authority) publishSigned() uint64 {
	a.t.Helper()
	a.sign("targets-1", "targets-2")
	var out struct{ Serial uint64 }
	if err := json.Unmarshal([]byte(a.run("publish", "--json")), &out); err != nil {
		a.t.Fatalf("publish --json: %v", err)
	}
	return out.Serial
}

// list brings names onto the list, scope domain, from proposal to publication,
// and gives the list's serial.
func (a *authority) list(category string, names ...string) uint64 {
	a.t.Helper()
	for _, name := range names {
		a.approve(a.propose(name, category, "domain"), "bruno", "chloe")
	}
	return a.publishSigned()
}

// lift takes a name off the list, publishes, and gives the list's serial.
func (a *authority) lift(name string) uint64 {
	a.t.Helper()
	a.run("lift", name, "--ground", "gone", "--as", "alice")
	return a.publishSigned()
}

// subscription is a list as the resolver's configuration names it.
type subscription struct {
	*authority
	source string // default: the folder that the authority publishes
	ca     string // file of certificates that may sign for the source
}

// subscribe writes the resolver's configuration: it enforces the lists of these
// authorities, in this order. It pins the first root of each, handed over in
// person.
func (w *world) subscribe(authorities ...*authority) {
	w.t.Helper()
	var lists []subscription
	for _, a := range authorities {
		lists = append(lists, subscription{authority: a})
	}
	w.configure(lists...)
}

// configure is subscribe with sources other than folders.
func (w *world) configure(lists ...subscription) {
	w.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, `listen: ["%s"]
recursion:
  root_hints: root.hints
  trust_anchors: root.ds
  port: %d
  may_query: [127.0.53.0/24]
  ipv6: false
lists:
`, w.dns, port)
	for _, l := range lists {
		if l.source == "" {
			l.source = l.publish
		}
		pinned := l.name + ".root.json"
		w.write("resolver/"+pinned, w.read(l.name+"/publish/metadata/1.root.json"))
		fmt.Fprintf(&b, "  - name: %s\n    source: %q\n    root: %s\n    identity: identity\n    passphrase_file: ../keys/passphrase\n    poll: 1s\n", l.name, l.source, pinned)
		if l.ca != "" {
			fmt.Fprintf(&b, "    ca: %q\n", l.ca)
		}
	}
	fmt.Fprintf(&b, `store: lists
blocklog: {dir: blocklog}
metrics: {listen: "%s"}
control: {socket: resolver.sock}
log_level: debug
`, w.resolverMetrics)
	w.write("resolver/resolver.yaml", b.String())
}

// resolver is a running cordon-resolver.
type resolver struct {
	*process
	w *world
}

// startResolver starts it with the configuration that subscribe wrote, and
// returns when its sockets are open and stored lists are in force.
func (w *world) startResolver() *resolver {
	w.t.Helper()
	return &resolver{w.start("resolver", "cordon-resolver", "run", "--config", w.path("resolver/resolver.yaml")), w}
}

// metrics are the resolver's.
func (r *resolver) metrics() metrics { r.t.Helper(); return scrape(r.t, r.w.resolverMetrics) }

// enforces waits until a serial of a list is in force and on record: the record
// follows once the list is stored.
func (r *resolver) enforces(list string, serial uint64) {
	r.t.Helper()
	await.Nil(r.t, fmt.Sprintf("list %s has serial %d in force", list, serial), func() error {
		if got := r.metrics()[fmt.Sprintf("cordon_list_serial{list=%q}", list)]; got != float64(serial) {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	})
	await.Nil(r.t, fmt.Sprintf("the block log holds serial %d of list %s", serial, list), func() error {
		var last uint64
		for _, applied := range r.w.applied() {
			if applied.List == list {
				last = applied.Serial
			}
		}
		if last != serial {
			return fmt.Errorf("it is %d", last)
		}
		return nil
	})
}

// auditor is a running cordon-auditor.
type auditor struct {
	*process
	w *world
}

// startAuditor starts it. At the first time its configuration and, unless
// "init" has made one, its key are written.
func (w *world) startAuditor() *auditor {
	w.t.Helper()
	w.configureAuditor()
	if _, err := os.Stat(w.path("auditor/audit.key")); err != nil {
		skey, vkey, err := tlog.GenerateKey(logName)
		if err != nil {
			w.t.Fatal(err)
		}
		passphrase := strings.TrimSpace(w.read("keys/passphrase"))
		if err := signing.WriteSecret(w.path("auditor/audit.key"), signing.KindNoteSigner, []byte(skey), []byte(passphrase), quick); err != nil {
			w.t.Fatal(err)
		}
		w.write("keys/audit.vkey", vkey+"\n")
	}
	return &auditor{w.start("auditor", "cordon-auditor", "run", "--config", w.path("auditor/auditor.yaml")), w}
}

func (w *world) configureAuditor() {
	w.t.Helper()
	w.write("auditor/auditor.yaml", fmt.Sprintf(`blocklog: ../resolver/blocklog
log: ../audit
key: audit.key
verifier_key: ../keys/audit.vkey
passphrase_file: ../keys/passphrase
seal_interval: 100ms
metrics: "%s"
log_level: debug
%s`, w.auditorMetrics, w.auditChannel))
}

// initAuditor makes the audit log's key as an operator does.
func (w *world) initAuditor() {
	w.t.Helper()
	w.configureAuditor()
	w.succeeds("cordon-auditor", "init", "--config", w.path("auditor/auditor.yaml"), "--name", logName)
}

// metrics are the auditor's.
func (a *auditor) metrics() metrics { a.t.Helper(); return scrape(a.t, a.w.auditorMetrics) }

// startStoppage starts the stop page with the example's texts.
func (w *world) startStoppage() *process {
	w.t.Helper()
	pages, err := filepath.Abs("../../configs/stoppage-pages.yaml")
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("stoppage/stoppage.yaml", fmt.Sprintf("listen:\n  - address: \"%s\"\nblocked_by: https://isp.example/blocking\npages: %q\nlog_level: debug\n", w.page, pages))
	return w.start("stoppage", "cordon-stoppage", "run", "--config", w.path("stoppage/stoppage.yaml"))
}
