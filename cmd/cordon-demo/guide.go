package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// guide prints lines to paste, each with what to expect.
func (s *stage) guide(w io.Writer) {
	bin, dir := s.programs, s.dir
	if here, err := os.Getwd(); err == nil {
		bin, dir = shorter(here, bin), shorter(here, dir)
	}
	authority := bin + "/cordon-authority --data " + dir + "/authority"
	config := func(name string) string { return fmt.Sprintf("--config %s/%s/%s.yaml", dir, name, name) }
	section := func(title string, lines ...string) {
		fmt.Fprintf(w, "\n%s\n", title)
		for i := 0; i < len(lines); i += 2 {
			fmt.Fprintf(w, "  # %s\n  %s\n", lines[i+1], lines[i])
		}
	}
	fmt.Fprintln(w, "\nEverything runs. Paste these lines into another terminal:")
	section("A listed name",
		"dig @127.0.0.1 -p 5300 www.propagande.example", "127.0.0.1, the stop page, with EDE 4 (Forged Answer) and 16 (Censored)",
		"dig @127.0.0.1 -p 5300 propagande.example HTTPS +dnssec +cd", "no answer but a SOA, EDE 16, no AD flag: all types, DO and CD change nothing",
		"dig @127.0.0.1 -p 5300 www.images.example +tcp", "not blocked: images.example is listed with scope host, this name alone",
		"curl -i "+stopPage+"terrorism", "status 451, who blocks, why, and how to appeal")
	if s.offline {
		section("A name that is not listed",
			"dig @127.0.0.1 -p 5300 www.libre.example +dnssec", "192.0.2.10, with the AD flag: resolved from the root and validated",
			"dig @127.0.0.1 -p 5300 alias.libre.example", "blocked: it is a CNAME to www.propagande.example, which the answer does not show",
			"dig @127.0.0.1 -p 5300 casse.example", "SERVFAIL, EDE 6 (DNSSEC Bogus): its signatures are broken on purpose")
	} else {
		section("A name that is not listed",
			"dig @127.0.0.1 -p 5300 www.iana.org +dnssec", "resolved from the root and validated: the AD flag",
			"dig @127.0.0.1 -p 5300 dnssec-failed.org", "SERVFAIL with an extended error: its signatures are broken on purpose")
	}
	ca := dir + "/keys/tls-ca.pem"
	section("Encrypted, as phones and browsers ask",
		"kdig @127.0.0.1 -p 8853 +tls +tls-ca="+ca+" +tls-hostname="+resolverName+" www.propagande.example", "the stop page over DoT; the reply is padded to 468 bytes",
		"kdig @127.0.0.1 -p 8443 +https +tls-ca="+ca+" +tls-hostname="+resolverName+" www.propagande.example", "the same over DoH",
		// kdig 3.2.6 (Debian 12) crashes when it is to verify a certificate over QUIC.
		"kdig @127.0.0.1 -p 8853 +quic www.propagande.example", "the same over DoQ",
		"dig @127.0.0.1 -p 5300 _dns.resolver.arpa SVCB", "how clients find these (DDR): always answered here, so that nobody is led past the list")
	section("The provider",
		bin+"/cordon-resolver status "+config("resolver"), "the list in force",
		bin+"/cordon-resolver why www.propagande.example "+config("resolver"), "which entry, on which decision",
		bin+"/cordon-resolver blocklog cat "+dir+"/resolver/blocklog", "every decision and event; nothing about who asked",
		"curl -s http://"+resolverMetrics+"/metrics | grep ^cordon", "the metrics")
	section("The authority lists a name: what the resolver blocks changes within two seconds",
		authority+" propose autre.example --category terrorism --decision DEMO-2026-3 --as "+officers[0], "prints the measure's id",
		authority+" approve autre.example --as "+officers[1], "one approval of two",
		authority+" approve autre.example --as "+officers[2], "two of two",
		authority+" sign --key targets-1", "one signature of two: nothing changes yet",
		authority+" sign --key targets-2", "two of two",
		authority+" publish", "the resolver picks it up: dig @127.0.0.1 -p 5300 autre.example")
	section("The authority lifts a measure",
		authority+" list", "the measures and their clocks",
		authority+" lift propagande.example --ground "+liftGround+" --as "+officers[1], "one officer lifts, on a recorded ground; sign twice and publish as above")
	section("The official",
		bin+"/cordon-oversight mirror "+config("oversight"), "copies both logs, and checks that they only grew",
		bin+"/cordon-oversight verify "+config("oversight"), "signatures, sequence, digests, and that what was published was approved",
		bin+"/cordon-oversight show decisions "+config("oversight"), "decisions by entry and day")
	fmt.Fprintf(w, "\nLogs of the programs are in %s/log. Ctrl-C stops everything.\n\n", dir)
}

// liftGround is a ground of the French procedure.
const liftGround = "gone"

// shorter is path as seen from here, where that is shorter to paste.
func shorter(here, path string) string {
	if rel, err := filepath.Rel(here, path); err == nil && !strings.HasPrefix(rel, "..") {
		return rel
	}
	return path
}
