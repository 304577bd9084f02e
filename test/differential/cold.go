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

// A client asks again when it has heard nothing for a while, as stub resolvers do:
// Unbound drops an answer that comes later than 1.9 s after its question
// (discard-timeout), and gives it to who asks again.
const (
	coldPatience = 5 * time.Second
	coldTries    = 4
)

// runCold has each resolver answer for every site once, all from an empty cache,
// and counts what it takes.
func runCold(ctx context.Context, dir string, o *options, out io.Writer) (err error) {
	began := time.Now()
	inet, err := lab.Build(coldZones(o.zones), began)
	if err != nil {
		return err
	}
	nsd, err := inet.StartNSD(filepath.Join(dir, "nsd"), 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, nsd.Stop()) }()
	fmt.Fprintf(out, "%d zones (signed and served within %s), %.3g %% of the packets lost in each direction, 1 of 2 servers of each zone dead; %d questions at a time, each asked again after %s, %d times at the most\n\n",
		o.zones, time.Since(began).Round(100*time.Millisecond), 100*o.loss, o.atOnce, coldPatience, coldTries)
	fmt.Fprintf(out, "| | SERVFAIL | no answer | asked again | upstream queries | each answer | of these to the dead | median | 95 %% | longest | all |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, p := range o.resolvers {
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
	defer r.Stop()
	began := time.Now()
	c := askCold(ctx, r, o.zones, o.atOnce)
	if err := ctx.Err(); err != nil {
		return err
	}
	sent, wasted := ways.sent()
	slices.Sort(c.times)
	at := func(percent int) time.Duration {
		return c.times[min(len(c.times)*percent/100, len(c.times)-1)].Round(time.Millisecond)
	}
	fmt.Fprintf(out, "| %s | %d | %d | %d | %d | %.2f | %d | %s | %s | %s | %s |\n", r.version, c.servfail, c.silent, c.again, sent, float64(sent)/float64(o.zones), wasted,
		at(50), at(95), at(100), time.Since(began).Round(time.Second))
	if o.verbose {
		for _, f := range c.failed {
			fmt.Fprintln(out, f)
		}
	}
	return nil
}

// coldAnswers is what the clients of a cold resolver got.
type coldAnswers struct {
	servfail, silent int
	again            int      // questions that were asked more than once
	failed           []string // which, and what was said
	times            []time.Duration
}

// askCold asks for the address in each site, a few at a time, each once.
func askCold(ctx context.Context, r *resolver, sites, atOnce int) *coldAnswers {
	var mu sync.Mutex
	c := &coldAnswers{}
	next := make(chan int)
	var group sync.WaitGroup
	for range atOnce {
		group.Go(func() {
			for i := range next {
				q := question{name: fmt.Sprintf("www.%s%d.cold.", coldStatuses[i%len(coldStatuses)].name, i), qtype: dns.TypeA, do: true}
				client := &dns.Client{Timeout: coldPatience}
				began := time.Now()
				reply, _, err := client.ExchangeContext(ctx, q.message(), r.at.String())
				tries := 1
				for ; err != nil && tries < coldTries && ctx.Err() == nil; tries++ {
					reply, _, err = client.ExchangeContext(ctx, q.message(), r.at.String())
				}
				mu.Lock()
				c.note(q, reply, err, tries, time.Since(began))
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
	return c
}

func (c *coldAnswers) note(q question, reply *dns.Msg, err error, tries int, took time.Duration) {
	c.times = append(c.times, took)
	if tries > 1 {
		c.again++
	}
	switch {
	case err != nil:
		c.silent++
		c.failed = append(c.failed, fmt.Sprintf("%s after %s: %v", q, took.Round(time.Millisecond), err))
	case reply.Rcode != dns.RcodeSuccess || !hasAddress(reply):
		c.servfail++
		c.failed = append(c.failed, fmt.Sprintf("%s after %s: %s", q, took.Round(time.Millisecond), strings.ReplaceAll(reply.String(), "\n", "\n\t")))
	}
}

func hasAddress(m *dns.Msg) bool {
	return slices.ContainsFunc(m.Answer, func(rr dns.RR) bool {
		a, ok := rr.(*dns.A)
		return ok && strings.HasPrefix(a.A.String(), "192.0.2.")
	})
}
