package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// needs skips a test whose program is not installed; where everything has to
// run (CI=true) it fails it.
func needs(t *testing.T, program, debianPackage string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed (Debian package %s)", program, debianPackage)
		}
		t.Skipf("%s is not installed (Debian package %s)", program, debianPackage)
	}
}

// start serves an internet until the test ends.
func start(t *testing.T, inet *Internet) *Server {
	t.Helper()
	s, err := inet.Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return s
}

func sampleInternet(t testing.TB) *Internet {
	t.Helper()
	inet, err := Build(Sample(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return inet
}

// The Go server and NSD give the same answers from the same zones: code, flags,
// records of each section, proofs of denial.
func TestServerAnswersAsNSD(t *testing.T) {
	needs(t, "nsd", "nsd")
	inet := sampleInternet(t)
	ours := start(t, inet)
	nsd, err := inet.StartNSD(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nsd.Stop(); err != nil {
			t.Error(err)
		}
	})

	names := interestingNames(inet)
	types := []uint16{
		dns.TypeA, dns.TypeNS, dns.TypeSOA, dns.TypeCNAME, dns.TypeDNAME, dns.TypeMX, dns.TypeTXT, dns.TypeSRV,
		dns.TypeDS, dns.TypeDNSKEY, dns.TypeNSEC, dns.TypeNSEC3PARAM, dns.TypeHTTPS, 65280,
	}
	compared, failed := 0, 0
	for _, group := range inet.groups() {
		a := dial(t, netip.AddrPortFrom(group[0].servers[0], ours.Port()))
		b := dial(t, netip.AddrPortFrom(group[0].servers[0], nsd.Port()))
		for _, name := range names {
			for _, qtype := range types {
				for _, do := range []bool{false, true} {
					got, want := ask(t, a, name, qtype, do), ask(t, b, name, qtype, do)
					compared++
					if got != want {
						failed++
						t.Errorf("%s %s do=%v at the servers of %s: we answer\n%s\nNSD answers\n%s", name, dns.Type(qtype), do, group[0].name, got, want)
						if failed > 10 {
							t.Fatal("and so on")
						}
					}
				}
			}
		}
	}
	t.Logf("%d answers compared", compared)
}

// interestingNames gives each name of the zones, names beside, below and above
// it.
func interestingNames(inet *Internet) []string {
	seen := map[string]bool{}
	for _, z := range inet.zones {
		for name := range z.nodes {
			seen[name] = true
			seen[child("nx", name)] = true
			seen[child("a.nx", name)] = true
			seen[child("*", name)] = true
		}
		for _, owner := range z.nsec3s[:min(1, len(z.nsec3s))] {
			seen[owner] = true
		}
	}
	seen["hors.zone."] = true
	seen[`we\.ird\000.libre.example.`] = true
	var names []string
	for name := range seen {
		names = append(names, name)
	}
	sortCanonically(names)
	return names
}

func child(label, name string) string {
	if name == "." {
		return label + "."
	}
	return label + "." + name
}

func dial(t *testing.T, server netip.AddrPort) *dns.Conn {
	t.Helper()
	c, err := dns.DialTimeout("tcp", server.String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask gives an answer in a form that can be compared.
func ask(t *testing.T, c *dns.Conn, name string, qtype uint16, do bool) string {
	t.Helper()
	q := new(dns.Msg)
	q.SetQuestion(name, qtype)
	q.RecursionDesired = false
	q.SetEdns0(4096, do)
	if err := c.WriteMsg(q); err != nil {
		t.Fatal(err)
	}
	r, err := c.ReadMsg()
	if err != nil {
		t.Fatalf("%s %s: %v", name, dns.Type(qtype), err)
	}
	if r.Id != q.Id || len(r.Question) != 1 || r.Question[0] != q.Question[0] {
		t.Fatalf("%s %s: the answer is to another question", name, dns.Type(qtype))
	}
	return describe(r)
}

func describe(r *dns.Msg) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s aa=%v tc=%v ad=%v ra=%v do=%v\n", dns.RcodeToString[r.Rcode], r.Authoritative, r.Truncated, r.AuthenticatedData, r.RecursionAvailable,
		r.IsEdns0() != nil && r.IsEdns0().Do())
	for i, section := range [][]dns.RR{r.Answer, r.Ns, r.Extra} {
		var lines []string
		for _, rr := range section {
			if rr.Header().Rrtype != dns.TypeOPT {
				lines = append(lines, strings.ToLower(rr.String()))
			}
		}
		slices.Sort(lines)
		for _, l := range lines {
			fmt.Fprintf(&b, "%s %.120s\n", [...]string{"an", "ns", "ar"}[i], l)
		}
	}
	return b.String()
}
