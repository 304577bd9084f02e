package stage

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"

	"cordon/test/lab"
)

const signedIn = 10 // one site in so many is signed

// Site is the name of a site; it has a www with A and AAAA, and answers for all
// that is below any.
func Site(n int) string { return fmt.Sprintf("site%d.bench", n) }

// zones are a root, one top-level domain and the sites below it.
func (s *Stage) zones() []lab.Zone {
	address := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 57, byte(n)}) }
	const soa = "@ SOA ns1 hostmaster 2026010101 7200 3600 1209600 300\n"
	all := []lab.Zone{
		{Name: ".", Servers: []netip.Addr{address(1)}, Denial: lab.NSEC,
			Records: "$TTL 86400\n@ SOA a.servers. hostmaster.servers. 2026010101 7200 3600 1209600 300\n@ NS a.servers.\na.servers. A 127.0.57.1\nbench. NS ns1.bench.\nns1.bench. A 127.0.57.2\n"},
	}
	var tld strings.Builder
	tld.WriteString("$TTL 86400\n" + soa + "@ NS ns1\nns1 A 127.0.57.2\n")
	for i := range s.Sites {
		a := 3 + i%4
		fmt.Fprintf(&tld, "site%d NS ns1.site%[1]d\nns1.site%[1]d A 127.0.57.%d\n", i, a)
		denial := lab.Unsigned
		if i%signedIn == 0 {
			denial = lab.NSEC3
		}
		all = append(all, lab.Zone{Name: Site(i) + ".", Servers: []netip.Addr{address(a)}, Denial: denial,
			Records: fmt.Sprintf("$TTL 86400\n%s@ NS ns1\nns1 A 127.0.57.%d\n@ A 192.0.2.%d\nwww A 192.0.2.%[3]d\nwww AAAA 2001:db8::%x\n*.any A 203.0.113.9\n", soa, a, 1+i%250, i)})
	}
	return append(all, lab.Zone{Name: "bench.", Servers: []netip.Addr{address(2)}, Denial: lab.NSEC3OptOut, Records: tld.String()})
}

// Questions are the questions of a load; the same in each run.
type Questions struct {
	Blocked int    // percent that are for names of the list
	Missing string // where it is not empty, each name is asked once, and begins with it
}

// Write puts them into a file, in dnsperf's form. l is nil where none is blocked.
func (q Questions) Write(file string, s *Stage, l *List) error {
	var b bytes.Buffer
	random := rand.New(rand.NewPCG(1, 2))
	switch {
	case q.Missing != "":
		for i := range 200_000 {
			fmt.Fprintf(&b, "%s-%d.any.%s A\n", q.Missing, i, Site(random.IntN(s.Sites)))
		}
	default:
		for i := range 20_000 {
			if random.IntN(100) < q.Blocked {
				fmt.Fprintf(&b, "www.%s A\n", l.Stable(random.IntN(l.Entries)))
				continue
			}
			fmt.Fprintf(&b, "www.%s %s\n", Site(random.IntN(s.Sites)), [...]string{"A", "AAAA"}[i%2])
		}
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}
