// Package fleet shows that resolvers of other makes enforce the list as cordon does,
// when they get it as a response policy zone: Unbound, BIND, Knot Resolver and
// PowerDNS Recursor, as Debian packages them and as docs/operators.md configures
// them, each a process of its own.
package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cordon/blocklist"
	"cordon/test/await"
	"cordon/test/lab"
	"cordon/test/stage"
)

// program is the path of cordon-resolver. TestMain alone sets it.
var program string

// TestMain builds cordon-resolver, unless CORDON_BIN names a folder that holds it.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	bin := os.Getenv("CORDON_BIN")
	if bin == "" {
		dir, err := os.MkdirTemp("", "cordon-bin-")
		if err != nil {
			return fail(err)
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "cordon/cmd/cordon-resolver")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fail(fmt.Errorf("build cordon-resolver: %w\n%s", err, out))
		}
		bin = dir
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return fail(err)
	}
	program = filepath.Join(bin, "cordon-resolver")
	if _, err := os.Stat(program); err != nil {
		return fail(fmt.Errorf("%w; build it, or leave CORDON_BIN out", err))
	}
	return m.Run()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "fleet:", err)
	return 1
}

// patience bounds how long a test waits for another process. It is far more than any
// of it takes: running into it is that process's failure, not the machine's.
const patience = await.Patience

// fleet is a laboratory internet, a list, and a cordon that enforces it and gives it
// onwards.
type fleet struct {
	t    *testing.T
	dir  string
	list *stage.List

	hints, anchor string // files
	ds            string
	authoritative uint16 // port of the internet's servers
	cordon        netip.AddrPort
	primary       netip.AddrPort // of its policy zone
	file          string         // that its policy zone is in
	config        string         // file
}

const (
	rootServer  = "127.0.58.1"
	fleetServer = "127.0.58.2"
)

const zoneName = "x7q2m4t6.invalid"

func newFleet(t *testing.T, entries ...blocklist.Entry) *fleet {
	t.Helper()
	// Not t.TempDir: a UNIX socket's path has at most 107 bytes, and BIND changes its folder's mode for nobody.
	dir, err := os.MkdirTemp("", "cordon-fleet-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := &fleet{t: t, dir: dir, hints: filepath.Join(dir, "root.hints"), anchor: filepath.Join(dir, "root.ds"), file: filepath.Join(dir, "listed.rpz")}
	f.serveInternet()
	if f.list, err = stage.NewList(filepath.Join(dir, "authority"), 0); err != nil {
		t.Fatal(err)
	}
	f.publish(1, entries...)
	f.startCordon()
	return f
}

// serveInternet serves a root and one domain, in which every name has one of each type
// that is asked for, and aliasN leads to www.dN, aliashostN to hN, aliasfreeN to freeN.
func (f *fleet) serveInternet() {
	f.t.Helper()
	var zone strings.Builder
	zone.WriteString(`$TTL 300
@ SOA ns hostmaster 2026010101 7200 3600 1209600 300
@ NS ns
ns A 127.0.58.2
* A 192.0.2.10
* AAAA 2001:db8::10
* MX 10 mail.fleet.
* TXT "not listed"
* HTTPS 1 . alpn=h2
`)
	for n := range members {
		fmt.Fprintf(&zone, "alias%d CNAME www.d%[1]d\naliashost%[1]d CNAME h%[1]d\naliasfree%[1]d CNAME free%[1]d\n", n)
	}
	inet, err := lab.Build([]lab.Zone{
		{Name: ".", Servers: []netip.Addr{netip.MustParseAddr(rootServer)}, Denial: lab.NSEC,
			Records: "$TTL 3600\n@ SOA a.servers. hostmaster.servers. 2026010101 7200 3600 1209600 300\n@ NS a.servers.\na.servers. A 127.0.58.1\nfleet. NS ns.fleet.\nns.fleet. A 127.0.58.2\n"},
		{Name: "fleet.", Servers: []netip.Addr{netip.MustParseAddr(fleetServer)}, Denial: lab.NSEC, Records: zone.String()},
	}, time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	f.ds = strings.TrimSpace(inet.TrustAnchor())
	f.write(f.hints, inet.RootHints(), 0o644)
	f.write(f.anchor, f.ds+"\n", 0o644)
	server, err := inet.Listen(0)
	if err != nil {
		f.t.Fatal(err)
	}
	f.authoritative = server.Port()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			f.t.Error(err)
		}
	})
}

// Stop pages. That of minors has no IPv6 address, that of "moved" another one.
var categories = map[string]blocklist.StopPage{
	"terrorism": {IPv4: []netip.Addr{netip.MustParseAddr("198.51.100.80")}, IPv6: []netip.Addr{netip.MustParseAddr("2001:db8::80")}, Page: "https://stop.example/t"},
	"minors":    {IPv4: []netip.Addr{netip.MustParseAddr("198.51.100.81"), netip.MustParseAddr("198.51.100.82")}, Page: "https://stop.example/m"},
}

func (f *fleet) publish(serial uint64, entries ...blocklist.Entry) {
	f.t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	l := &blocklist.List{Header: blocklist.Header{
		Authority: "Office", Serial: serial, Issued: now, ValidUntil: now.AddDate(0, 1, 0), AnswerTTL: 60, Categories: categories,
	}}
	for _, e := range entries {
		e.LegalBasis, e.Decision, e.Notified, e.InForce, e.ReviewBy = "LCEN 6-1", "D-"+e.ID, now, now, blocklist.DateOf(now.AddDate(0, 3, 0))
		l.Entries = append(l.Entries, e)
	}
	if err := f.list.Issue(l); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) write(path, content string, perm os.FileMode) string {
	f.t.Helper()
	if err := os.WriteFile(path, []byte(content), perm); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// Keys of the two peers that can sign.
const (
	bindSecret  = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	powerSecret = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
)

func (f *fleet) startCordon() {
	f.t.Helper()
	dir := f.folder("cordon")
	f.folder("cordon/blocklog")
	f.cordon, f.primary = f.freePort(), f.freePort()
	keys := f.write(filepath.Join(dir, "keys"), "hmac-sha256:bind:"+bindSecret+"\nhmac-sha512:power:"+powerSecret+"\n", 0o600)
	f.config = f.write(filepath.Join(dir, "cordon.yaml"), fmt.Sprintf(`listen: ["%s"]
recursion: {root_hints: %s, trust_anchors: %s, port: %d, may_query: [127.0.0.0/8], ipv6: false}
blocklog: {dir: blocklog}
store: lists
control: {socket: control.sock}
rpz:
  listen: ["%s"]
  zone: %s
  keys: %s
  file: %s
  peers:
    - {name: bind, address: 127.0.0.1, key: bind, notify: "%s"}
    - {name: power, address: 127.0.0.1, key: power}
`, f.cordon, f.hints, f.anchor, f.authoritative, f.primary, zoneName, keys, f.file, f.portOf("bind"))+f.list.Config(f.list.Folder), 0o600)
	f.start("cordon", program, "run", "--config", f.config)
}

// portOf gives each peer its port, always the same one.
func (f *fleet) portOf(peer string) netip.AddrPort {
	f.t.Helper()
	path := filepath.Join(f.dir, peer+".port")
	if b, err := os.ReadFile(path); err == nil {
		return netip.MustParseAddrPort(string(b))
	}
	at := f.freePort()
	f.write(path, at.String(), 0o600)
	return at
}

// freePort is one that neither TCP nor UDP uses.
func (f *fleet) freePort() netip.AddrPort {
	f.t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			f.t.Fatal(err)
		}
		u, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			u.Close()
		}
		l.Close()
		if err == nil {
			return l.Addr().(*net.TCPAddr).AddrPort()
		}
	}
	f.t.Fatal("no port is free")
	return netip.AddrPort{}
}

// process is a program that runs until the test ends.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended; err is set then
	err   error

	mu  sync.Mutex
	log bytes.Buffer // guarded by mu
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// start runs a program until the end of the test; its log is shown where that failed.
func (f *fleet) start(name string, command ...string) *process {
	f.t.Helper()
	p := &process{cmd: exec.Command(command[0], command[1:]...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = p, p, f.dir
	// Nothing is left running where the test itself is killed.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		f.t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	f.t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-p.ended:
		case <-time.After(10 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
		if f.t.Failed() {
			said := p.said()
			f.t.Logf("log of %s:\n%s", name, said[max(0, len(said)-4000):])
		}
	})
	return p
}

var errNotYet = errors.New("not yet")
