package feed

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// realPrimary is a name server of others as primary of the feed.
type realPrimary struct {
	program, debianPackage string
	args                   func(dir string) []string
	config                 func(dir string, port int, secret string) string
	ready                  string // in its log, once it serves
}

var realPrimaries = map[string]realPrimary{
	"NSD": {"nsd", "nsd", func(dir string) []string { return []string{"-d", "-c", filepath.Join(dir, "conf")} }, func(dir string, port int, secret string) string {
		return fmt.Sprintf(`server:
  server-count: 1
  port: %[2]d
  ip-address: 127.0.0.1
  username: ""
  chroot: ""
  database: ""
  pidfile: ""
  xfrdfile: "%[1]s/xfrd"
  xfrdir: "%[1]s"
  zonelistfile: "%[1]s/zonelist"
  zonesdir: "%[1]s"
remote-control:
  control-enable: no
key:
  name: feed.key
  algorithm: hmac-sha256
  secret: "%[3]s"
zone:
  name: rpz.example
  zonefile: zone
  provide-xfr: 127.0.0.1 feed.key
  store-ixfr: yes
  create-ixfr: yes
`, dir, port, secret)
	}, "nsd started"},
	"BIND": {"named", "bind9", func(dir string) []string { return []string{"-g", "-4", "-c", filepath.Join(dir, "conf")} }, func(dir string, port int, secret string) string {
		return fmt.Sprintf(`options {
  directory "%[1]s"; pid-file none; session-keyfile none; listen-on port %[2]d { 127.0.0.1; }; listen-on-v6 { none; };
  recursion no; notify no; managed-keys-directory "%[1]s"; dnssec-validation no;
};
controls { };
key feed.key { algorithm hmac-sha256; secret "%[3]s"; };
zone rpz.example { type primary; file "zone"; ixfr-from-differences yes; allow-transfer { key feed.key; }; };
`, dir, port, secret)
	}, "running"},
}

// TestRealPrimaries transfers a feed from NSD and BIND: the whole of it, in several
// messages, and then what has changed.
func TestRealPrimaries(t *testing.T) {
	for name, p := range realPrimaries {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(p.program); err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatalf("%s is not installed (Debian package %s)", p.program, p.debianPackage)
				}
				t.Skipf("%s is not installed (Debian package %s)", p.program, p.debianPackage)
			}
			fetchFrom(t, p)
		})
	}
}

func fetchFrom(t *testing.T, p realPrimary) {
	dir := t.TempDir()
	const rules = 20_000
	zone := func(serial int, last string) {
		t.Helper()
		var b strings.Builder
		fmt.Fprintf(&b, "$ORIGIN rpz.example.\n$TTL 60\n@ SOA ns host %d 3600 600 86400 60\n@ NS ns.example.\n", serial)
		for i := range rules {
			fmt.Fprintf(&b, "bad%d.example CNAME .\n", i)
		}
		b.WriteString(last + "\n")
		if err := os.WriteFile(filepath.Join(dir, "zone"), []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	zone(1, "first.example A 192.0.2.1")
	s := secret("thirty-two bytes that both have.")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(free.Addr().String())
	free.Close()
	config := p.config(dir, int(addr.Port()), base64.StdEncoding.EncodeToString([]byte(s)))
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	reload := startPrimary(t, p, dir)

	var came atomic.Int64
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return &counted{conn, &came}, err
	}
	with := func(k *Key) (*Feeds, *keeper) {
		f, err := New([]Config{{Name: "malware", Zone: origin, Primary: addr, Key: k}}, Surroundings{
			Dir: t.TempDir(), StopPages: noPages{}, Clock: time.Now, Dial: dial, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		return f, f.keepers[0]
	}
	f, k := with(keyOfFeed(s))
	if err := k.refresh(t.Context()); err != nil {
		t.Fatalf("the whole zone: %v", err)
	}
	if got := f.Status()[0]; got.Serial != 1 || got.Rules.Active != rules+1 || f.action(t, "bad19999.example.") != NXDomain {
		t.Fatalf("%+v", got)
	}
	whole := came.Swap(0)
	if whole < 5*dns.MaxMsgSize {
		t.Errorf("%d bytes came: no long transfer was tried", whole)
	}
	if err := k.refresh(t.Context()); err != nil || came.Load() > 1000 {
		t.Errorf("an unchanged serial: %v, %d bytes", err, came.Load())
	}

	zone(2, "second.example CNAME *.")
	reload()
	came.Store(0)
	limit := time.Now().Add(30 * time.Second) // a test that fails should end some day
	for f.Status()[0].Serial != 2 {
		// The primary says nothing when it has read the file, and may break
		// connections off while it does.
		err := k.refresh(t.Context())
		if time.Now().After(limit) {
			t.Fatalf("the difference: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if f.action(t, "first.example.") != 0 || f.action(t, "second.example.") != NoData || f.Status()[0].Rules.Active != rules+1 {
		t.Errorf("%+v", f.Status())
	}
	if came.Load() > whole/4 {
		t.Errorf("%d bytes came, %d for the whole zone: no difference was transferred", came.Load(), whole)
	}

	_, stranger := with(keyOfFeed("another secret, as long as that."))
	if err := stranger.refresh(t.Context()); err == nil || stranger.soa() != nil {
		t.Errorf("with another secret: %v", err)
	} else if !strings.Contains(err.Error(), "compare") {
		t.Errorf("with another secret the error does not help: %v", err)
	}
}

// counted counts the bytes that come.
type counted struct {
	net.Conn
	n *atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// startPrimary starts the server, for as long as the test runs, and gives what makes
// it read its zone anew.
func startPrimary(t *testing.T, p realPrimary, dir string) (reload func()) {
	t.Helper()
	cmd := exec.Command(p.program, p.args(dir)...)
	// A test that is killed cannot stop its server: the kernel does.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		<-ended
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(stderr)
	var said strings.Builder
	for lines.Scan() {
		fmt.Fprintln(&said, lines.Text())
		if strings.HasSuffix(lines.Text(), p.ready) || strings.Contains(lines.Text(), p.ready+" (") {
			go func() {
				defer close(ended)
				_, _ = io.Copy(io.Discard, stderr) // ends when the process does
			}()
			return func() {
				if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	close(ended)
	t.Fatalf("%s did not start:\n%s", p.program, said.String())
	return nil
}
