package demo

import (
	"fmt"
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
		prints(t, c.command, "", c.want)
	}
}

// loadedByRealClients asks many questions at a time, on several connections, by each
// transport that dnsperf speaks: each is answered, and none is lost.
func (d *demo) loadedByRealClients(t *testing.T) {
	const rounds = 500
	questions := strings.Repeat("www.libre.example A\nwww.propagande.example AAAA\nimages.example A\nnothing.libre.example A\n", rounds)
	answered := []string{
		fmt.Sprintf("Queries completed:    %d (100.00%%)", 4*rounds),
		fmt.Sprintf("Response codes:       NOERROR %d (75.00%%), NXDOMAIN %d (25.00%%)", 3*rounds, rounds),
	}
	for _, how := range []string{
		"-c 4 -q 100 -m udp -p 5300",
		"-c 4 -q 100 -m tcp -p 5300",
		"-c 4 -q 100 -m dot -p 8853",
		// dnsperf 2.10 (Debian 12) loses replies over HTTPS when several come at once, and
		// by POST always: from dnsdist's server too.
		"-c 1 -q 1 -m doh -p 8443 -O doh-method=GET -O doh-uri=https://127.0.0.1:8443/dns-query",
	} {
		prints(t, "dnsperf -s 127.0.0.1 -e "+how, questions, answered)
	}
}

// prints runs a client and looks for what it is to print.
func prints(t *testing.T, command, input string, want []string) {
	t.Helper()
	words := strings.Fields(command)
	if _, err := exec.LookPath(words[0]); err != nil && os.Getenv("CI") != "true" {
		t.Logf("not run, since there is no %s (Debian: apt-get install %s): %s", words[0], clientPackages[words[0]], command)
		return
	}
	c := exec.CommandContext(t.Context(), words[0], words[1:]...)
	c.Stdin = strings.NewReader(input)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", command, err, out)
		return
	}
	for _, w := range want {
		if !strings.Contains(string(out), w) {
			t.Errorf("%s: no %q in\n%s", command, w, out)
		}
	}
}

// clientPackages are the Debian packages that the clients come from.
var clientPackages = map[string]string{"dig": "bind9-dnsutils", "kdig": "knot-dnsutils", "dnsperf": "dnsperf"}
