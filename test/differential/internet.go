package main

import (
	"fmt"
	"net/netip"
	"strings"

	"cordon/test/lab"
)

// status is how a site is signed, and what is wrong with it.
type status struct {
	name   string
	denial lab.Denial
	fault  lab.Fault
}

var statuses = []status{
	{"nsec", lab.NSEC, lab.NoFault},
	{"nsec3", lab.NSEC3, lab.NoFault},
	{"optout", lab.NSEC3OptOut, lab.NoFault},
	{"unsigned", lab.Unsigned, lab.NoFault},
	{"broken", lab.NSEC, lab.BrokenData},
	{"broken3", lab.NSEC3, lab.BrokenData},
	{"expired", lab.NSEC, lab.ExpiredData},
	{"wrongds", lab.NSEC3, lab.WrongDS},
}

// internet is the sample internet with two top-level domains more, which hold
// one site of each status. Each site has children of each status that it can
// have, aliases that lead to the site of each other status, and everything that
// makes an answer or a denial hard.
func internet() []lab.Zone {
	var (
		tops     = []netip.Addr{netip.MustParseAddr("127.0.53.2")}
		sites    = []netip.Addr{netip.MustParseAddr("127.0.53.3"), netip.MustParseAddr("127.0.53.4")}
		children = []netip.Addr{netip.MustParseAddr("127.0.53.5"), netip.MustParseAddr("127.0.53.6")}
	)
	all := lab.Sample()
	for _, top := range []struct {
		name   string
		denial lab.Denial
	}{{"many.", lab.NSEC}, {"large.", lab.NSEC3OptOut}} {
		delegate(&all[0], top.name, "a.nic."+top.name)
		all[0].Records += "a.nic." + top.name + " A 127.0.53.2\n"
		records := strings.NewReplacer("SELF", top.name).Replace(
			"$ORIGIN SELF\n$TTL 3600\n@ SOA a.nic hostmaster.nic 2026010101 7200 3600 1209600 300\n@ NS a.nic\na.nic A 127.0.53.2\n*.wild A 192.0.2.99\n")
		domain := lab.Zone{Name: top.name, Servers: tops, Denial: top.denial, Records: records}
		for i, s := range statuses {
			zone := site(s.name+"."+top.name, top.name, s, sites, i)
			delegate(&domain, zone.Name, "ns1.hebergeur.example.", "ns2.hebergeur.example.")
			for j, below := range statuses {
				name := below.name + "." + zone.Name
				if (i+j)%2 == 1 { // half of them: each status is above and below each kind of it
					continue
				}
				delegate(&zone, name, "ns1."+name, "ns2."+name)
				zone.Records += fmt.Sprintf("ns1.%s A 127.0.53.5\nns2.%[1]s A 127.0.53.6\n", name)
				all = append(all, child(name, below, children))
			}
			all = append(all, zone)
		}
		all = append(all, domain)
	}
	return all
}

func delegate(parent *lab.Zone, name string, servers ...string) {
	for _, s := range servers {
		parent.Records += fmt.Sprintf("%s NS %s\n", name, s)
	}
}

// site is a zone directly below a top-level domain.
func site(name, top string, s status, servers []netip.Addr, n int) lab.Zone {
	var b strings.Builder
	fmt.Fprintf(&b, `$ORIGIN %s
$TTL 3600
@ SOA ns1.hebergeur.example. hostmaster 2026010101 7200 3600 1209600 300
@ NS ns1.hebergeur.example.
@ NS ns2.hebergeur.example.
@ A 192.0.2.%d
@ MX 10 mail
@ TXT "v=spf1 mx -all"
@ CAA 0 issue "ca.example"
www A 192.0.2.%[2]d
www AAAA 2001:db8::%[2]d
www HTTPS 1 . alpn=h2
mail A 192.0.2.%[2]d
_443._tcp.www TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000000
here CNAME www
far CNAME here
gone CNAME absent
loop CNAME loop2
loop2 CNAME loop
to-nowhere CNAME www.absent.%[3]s
to-wild CNAME x.wild
a.b.c A 192.0.2.%[2]d
*.wild A 192.0.2.%[2]d
*.wild TXT "whatever you ask for"
stop.wild TXT "no address here"
below.stop2.wild A 192.0.2.%[2]d
*.wild-alias CNAME www
*.wild-gone CNAME absent
old DNAME wild
older DNAME old
moved DNAME absent
UPPER A 192.0.2.%[2]d
`, name, 100+n, top)
	for i, other := range statuses {
		fmt.Fprintf(&b, "to-%s CNAME www.%[1]s.%s\n", other.name, top)
		fmt.Fprintf(&b, "dname-%s DNAME %[1]s.%s\n", other.name, top)
		if i%2 == 0 {
			fmt.Fprintf(&b, "*.wild-%s CNAME x.wild.%[1]s.%s\n", other.name, top)
		}
	}
	return lab.Zone{Name: name, Servers: servers, Denial: s.denial, Fault: s.fault, Records: b.String()}
}

// child is a zone below a site.
func child(name string, s status, servers []netip.Addr) lab.Zone {
	return lab.Zone{Name: name, Servers: servers, Denial: s.denial, Fault: s.fault, Records: fmt.Sprintf(`$ORIGIN %s
$TTL 3600
@ SOA ns1 hostmaster 2026010101 7200 3600 1209600 300
@ NS ns1
@ NS ns2
ns1 A 127.0.53.5
ns2 A 127.0.53.6
www A 192.0.2.200
here CNAME www
*.wild A 192.0.2.200
`, name)}
}
