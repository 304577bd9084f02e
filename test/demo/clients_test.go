package demo

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// askedByRealClients asks by every transport with the clients that people use,
// and looks at what they make of the replies.
func (d *demo) askedByRealClients(t *testing.T) {
	secure := " +tls-ca=" + filepath.Join(d.data, "keys/tls-ca.pem") + " +tls-hostname=" + resolverName
	for _, c := range []struct {
		command string
		want    []string
	}{
		{"kdig @127.0.0.1 -p 5300 www.libre.example +dnssec", []string{"status: NOERROR", "192.0.2.10", "RRSIG", " ad"}},
		{"kdig @127.0.0.1 -p 5300 +tcp +keepopen www.libre.example www.propagande.example", []string{"192.0.2.10", "127.0.0.1", "(TCP)"}},
		{"kdig @127.0.0.1 -p 8853 +tls" + secure + " www.libre.example", []string{"TLS session (TLS1.3)", "192.0.2.10", "PADDING", "Received 468 B"}},
		{"kdig @127.0.0.1 -p 8853 +tls" + secure + " www.propagande.example", []string{"127.0.0.1", "Received 468 B"}},
		{"kdig @127.0.0.1 -p 8443 +https" + secure + " www.libre.example", []string{"HTTP/2-POST", "status: 200", "192.0.2.10", "Received 468 B"}},
		{"kdig @127.0.0.1 -p 8443 +https-get" + secure + " www.propagande.example", []string{"HTTP/2-GET", "status: 200", "127.0.0.1", "Received 468 B"}},
		// kdig 3.2.6 (Debian 12) crashes when it is to verify a certificate over QUIC.
		{"kdig @127.0.0.1 -p 8853 +quic www.libre.example", []string{"QUIC session (QUICv1)", "192.0.2.10", "Received 468 B"}},
		{"kdig @127.0.0.1 -p 8853 +quic www.propagande.example", []string{"127.0.0.1", "Received 468 B"}},
		{"dig @127.0.0.1 -p 5300 +cookie www.libre.example", []string{"(good)", "192.0.2.10"}},
		{"dig @127.0.0.1 -p 5300 +tcp +keepalive www.libre.example", []string{"TCP KEEPALIVE: 10.0 secs"}},
		{"dig @127.0.0.1 -p 5300 +notcp +bufsize=512 www.propagande.example TXT", []string{"status: NOERROR", "ANSWER: 0", "EDE: 16"}},
		{"dig @127.0.0.1 -p 5300 _dns.resolver.arpa TYPE64", []string{"status: NOERROR", "ANSWER: 3"}},
		{"dig @127.0.0.1 -p 5300 resolver.arpa TYPE261", []string{"status: NOERROR", "ANSWER: 1"}},
		{"dig @127.0.0.1 -p 5300 version.bind TXT CH", []string{"status: REFUSED"}},
		// What RFC 8906 tries out.
		{"dig @127.0.0.1 -p 5300 +noall +comments www.libre.example TYPE1000", []string{"status: NOERROR"}},
		{"dig @127.0.0.1 -p 5300 +noall +comments +edns=1 +noednsneg www.libre.example", []string{"status: BADVERS", "EDNS: version: 0"}},
		{"dig @127.0.0.1 -p 5300 +noall +comments +ednsopt=100 www.libre.example", []string{"status: NOERROR"}},
		{"dig @127.0.0.1 -p 5300 +noall +comments +ednsflags=0x0080 www.libre.example", []string{"status: NOERROR"}},
		{"dig @127.0.0.1 -p 5300 +noall +comments +opcode=15 +header-only", []string{"status: NOTIMP"}},
		{"dig @127.0.0.1 -p 5300 +noall +comments +zflag www.libre.example", []string{"status: NOERROR"}},
	} {
		words := strings.Fields(c.command)
		if _, err := exec.LookPath(words[0]); err != nil && os.Getenv("CI") != "true" {
			t.Logf("%s is not installed; not run: %s", words[0], c.command)
			continue
		}
		out, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", c.command, err, out)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: no %q in\n%s", c.command, want, out)
			}
		}
	}
}
