package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"cordon/test/lab"
)

// maxSites bounds the zones of the cold run: each takes two sockets and more.
const maxSites = 2000

// The addresses of the cold run: NSD answers on behind, a path (path.go) leads to
// it from each address that a zone names.
var (
	behind = map[string]netip.Addr{
		".":     netip.MustParseAddr("127.0.59.1"),
		"cold.": netip.MustParseAddr("127.0.59.2"),
		"":      netip.MustParseAddr("127.0.59.3"), // all sites
	}
	coldStatuses = []status{
		{"nsec", lab.NSEC, lab.NoFault},
		{"nsec3", lab.NSEC3, lab.NoFault},
		{"unsigned", lab.Unsigned, lab.NoFault},
	}
)

// alive and dead are the two servers of zone n.
func alive(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 58, byte(n >> 8), byte(n)}) }
func dead(n int) netip.Addr  { return netip.AddrFrom4([4]byte{127, 60, byte(n >> 8), byte(n)}) }

const (
	rootZone  = 1
	topZone   = 2
	firstSite = 3
)

// coldZones are a root, a top-level domain and sites, each with two servers of
// its own, of which one is dead.
func coldZones(sites int) []lab.Zone {
	zone := func(name string, n int, s status) lab.Zone {
		at, ok := behind[name]
		if !ok {
			at = behind[""]
		}
		return lab.Zone{Name: name, Servers: []netip.Addr{at}, Denial: s.denial, Records: fmt.Sprintf(
			"$ORIGIN %[1]s\n$TTL 3600\n@ SOA ns1%[2]s hostmaster%[2]s 2026010101 7200 3600 1209600 300\n%s", name, dotted(name), servers(name, n))}
	}
	root, top := zone(".", rootZone, statuses[0]), zone("cold.", topZone, status{denial: lab.NSEC3OptOut})
	root.Records += servers("cold.", topZone)
	var all []lab.Zone
	for i := range sites {
		s := coldStatuses[i%len(coldStatuses)]
		name := fmt.Sprintf("%s%d.cold.", s.name, i)
		z := zone(name, firstSite+i, s)
		z.Records += fmt.Sprintf("www A 192.0.2.%d\n", 1+i%250)
		top.Records += servers(name, firstSite+i)
		all = append(all, z)
	}
	return append([]lab.Zone{root, top}, all...)
}

// servers are the NS records of a zone, and their addresses.
func servers(name string, n int) string {
	d := dotted(name)
	return fmt.Sprintf("%[1]s NS ns1%[2]s\n%[1]s NS ns2%[2]s\nns1%[2]s A %[3]s\nns2%[2]s A %[4]s\n", name, d, alive(n), dead(n))
}

// dotted is what makes of a label a name in the zone.
func dotted(name string) string {
	if name == "." {
		return "."
	}
	return "." + name
}

// runCold has each resolver answer for every site once, all from an empty cache,
// and counts what it takes.
func runCold(ctx context.Context, dir string, o *options, out io.Writer) (err error) {
	zones := coldZones(o.zones)
	inet, err := lab.Build(zones, time.Now())
	if err != nil {
		return err
	}
	nsd, err := inet.StartNSD(filepath.Join(dir, "nsd"), 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, nsd.Stop()) }()
	all := programs(o.cordon)
	fmt.Fprintf(out, "%d zones, %.3g %% of the packets lost in each direction, 1 of 2 servers of each zone dead\n\n", o.zones, 100*o.loss)
	fmt.Fprintf(out, "| | SERVFAIL | silent | upstream queries | each answer | of these to the dead | median | 95 %% | longest |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, p := range all {
		if err := coldRound(ctx, filepath.Join(dir, p.name), p, inet, nsd.Port(), o, out); err != nil {
			return err
		}
	}
	return nil
}

func coldRound(ctx context.Context, dir string, p program, inet *lab.Internet, port uint16, o *options, out io.Writer) (err error) {
	ways := newPaths(o.loss, o.seed) // each resolver loses packets by the same dice
	defer func() { err = errors.Join(err, ways.close()) }()
	for n := rootZone; n < firstSite+o.zones; n++ {
		at := behind[""]
		switch n {
		case rootZone:
			at = behind["."]
		case topZone:
			at = behind["cold."]
		}
		if err := ways.open(alive(n), netip.AddrPortFrom(at, port)); err != nil {
			return err
		}
		if err := ways.open(dead(n), netip.AddrPort{}); err != nil {
			return err
		}
	}
	r, err := start(ctx, dir, p, inet, "")
	if err != nil {
		return err
	}
	defer r.stop()
	servfail, silent, times, err := askCold(ctx, r, o.zones)
	if err != nil {
		return err
	}
	sent, wasted := ways.sent()
	slices.Sort(times)
	fmt.Fprintf(out, "| %s | %d | %d | %d | %.2f | %d | %s | %s | %s |\n", r.version, servfail, silent, sent, float64(sent)/float64(o.zones), wasted,
		times[len(times)/2].Round(time.Millisecond), times[len(times)*95/100].Round(time.Millisecond), times[len(times)-1].Round(time.Millisecond))
	return nil
}

// askCold asks for the address in each site, a few at a time, each once.
func askCold(ctx context.Context, r *resolver, sites int) (servfail, silent int, times []time.Duration, err error) {
	var mu sync.Mutex
	next := make(chan int)
	var group sync.WaitGroup
	for range atOnce {
		group.Go(func() {
			for i := range next {
				q := question{name: fmt.Sprintf("www.%s%d.cold.", coldStatuses[i%len(coldStatuses)].name, i), qtype: dns.TypeA, do: true}
				client := &dns.Client{Timeout: 20 * time.Second}
				began := time.Now()
				reply, _, err := client.ExchangeContext(ctx, q.message(), r.at.String())
				took := time.Since(began)
				mu.Lock()
				times = append(times, took)
				switch {
				case err != nil:
					silent++
				case reply.Rcode != dns.RcodeSuccess || !hasAddress(reply):
					servfail++
				}
				mu.Unlock()
			}
		})
	}
	for i := range sites {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	group.Wait()
	return servfail, silent, times, ctx.Err()
}

func hasAddress(m *dns.Msg) bool {
	return slices.ContainsFunc(m.Answer, func(rr dns.RR) bool {
		a, ok := rr.(*dns.A)
		return ok && strings.HasPrefix(a.A.String(), "192.0.2.")
	})
}
