package transport

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestBehindDnsdist has the real load balancer send on what its clients ask, by UDP
// and TCP, with PROXY headers: each client is known by its own address, and gets its
// reply.
func TestBehindDnsdist(t *testing.T) {
	if _, err := exec.LookPath("dnsdist"); err != nil && os.Getenv("CI") != "true" {
		t.Skip("there is no dnsdist (Debian: apt-get install dnsdist)")
	}
	metas := make(chan Meta, 100)
	front, behind := freePort(t), netip.MustParseAddrPort(freePort(t))
	at := []netip.AddrPort{behind}
	serve(t, Config{UDP: at, TCP: at, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}, &fakeHandler{from: func(m Meta) { metas <- m }})
	conf := filepath.Join(t.TempDir(), "dnsdist.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, `
setLocal("%s")
setSecurityPollSuffix("")
newServer({address="%s", useProxyProtocol=true, checkName="now.health.", mustResolve=false})
newServer({address="%s", useProxyProtocol=true, tcpOnly=true, healthCheckMode="up", pool="tcp"})
addAction("now.by-tcp.", PoolAction("tcp"))
`, front, behind, behind), 0o600); err != nil {
		t.Fatal(err)
	}
	dnsdist := exec.CommandContext(t.Context(), "dnsdist", "--supervised", "--disable-syslog", "-C", conf)
	if err := dnsdist.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dnsdist.Process.Kill()
		_ = dnsdist.Wait()
	})
	client := "127.0.0.77"
	for _, tt := range []struct{ network, name string }{{"udp", "now.hello."}, {"tcp", "now.hello."}, {"udp", "now.by-tcp."}} {
		t.Run(tt.name+" by "+tt.network, func(t *testing.T) {
			if got := throughDnsdist(t, tt.network, client, front, tt.name); got != tt.name {
				t.Errorf("reply to %s", got)
			}
			for { // its health checks come in between, for itself
				m := <-metas
				if m.Peer.Addr().String() == client {
					break
				}
				if m.Peer.Addr() != loopback.Addr() {
					t.Fatalf("the client is %v, want %s", m.Peer, client)
				}
			}
		})
	}
}

// freePort is an address that nobody listens at, by UDP and TCP.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.ListenPacket("udp", l.Addr().String())
		_ = l.Close()
		if err == nil {
			_ = u.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// throughDnsdist asks from an address of the client's own, again until dnsdist has
// started.
func throughDnsdist(t *testing.T, network, client, front, name string) string {
	t.Helper()
	var from net.Addr = &net.UDPAddr{IP: net.ParseIP(client)}
	if network == "tcp" {
		from = &net.TCPAddr{IP: net.ParseIP(client)}
	}
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeTXT)
	c := &dns.Client{Net: network, Timeout: time.Second, Dialer: &net.Dialer{LocalAddr: from}}
	for deadline := time.Now().Add(30 * time.Second); ; {
		reply, _, err := c.Exchange(m, front)
		if err == nil && len(reply.Question) == 1 {
			return reply.Question[0].Name
		}
		if time.Now().After(deadline) {
			t.Fatalf("no reply through dnsdist: %v, %v", reply, err)
		}
		time.Sleep(20 * time.Millisecond) // a refused connection fails at once
	}
}
