package iterate

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"cordon/resolver/dnssec"
)

// Zones made to cost a validator as much computing as they can (KeyTrap,
// CVE-2023-50387; NSEC3 exhaustion, CVE-2023-50868). The figures stand in
// docs/performance.md.
func BenchmarkCostlyZones(b *testing.B) {
	for _, c := range costlyZones {
		b.Run(c.name, func(b *testing.B) {
			n := newInternet(b)
			n.zone(".", withNSEC, rootAddr)
			n.zone("org.", withNSEC, tldAddr)
			n.zone("evil.org.", c.mode, evilAddr)
			names := c.build(n)
			replies := &canned{internet: n, replies: map[cannedKey][]byte{}}
			start := func() *Resolver { // the way to the zone is known
				r := n.resolver(func(c *Config) { c.Exchange = replies })
				r.Resolve(context.Background(), Request{Question: Question{"evil.org.", dns.TypeSOA}})
				return r
			}
			// What is counted does not change from one time to the next.
			task := start().newTask(false)
			res := task.follow(context.Background(), Request{Question: Question{names[0], dns.TypeA}})
			for _, name := range names { // all is signed and carried once
				start().Resolve(context.Background(), Request{Question: Question{name, dns.TypeA}})
			}
			var r *Resolver
			var spent time.Duration
			for i := 0; b.Loop(); i++ {
				if i%len(names) == 0 {
					b.StopTimer()
					r = start()
					b.StartTimer()
				}
				before := processTime(b)
				r.Resolve(context.Background(), Request{Question: Question{names[i%len(names)], dns.TypeA}})
				spent += processTime(b) - before
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(task.spent.Queries), "queries/op")
			b.ReportMetric(float64(task.v.Work.Spent.Signatures), "signatures/op")
			b.ReportMetric(float64(task.v.Work.Spent.Hashes), "hashes/op")
			b.Logf("%s %s %v", dns.RcodeToString[res.Rcode], res.Status, res.EDE)
		})
	}
}

// processTime is the processor time of the process: servers' replies are unpacked
// on other threads than the task's.
func processTime(b *testing.B) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// canned carries the replies of an internet that were given before, so that what
// is measured is the resolver and not the signer.
type canned struct {
	*internet
	mu      sync.Mutex
	replies map[cannedKey][]byte // guarded by mu
}

type cannedKey struct {
	server netip.Addr
	Question
}

func (c *canned) Exchange(ctx context.Context, server netip.AddrPort, query *dns.Msg, stream bool) (*dns.Msg, error) {
	q := query.Question[0]
	key := cannedKey{server.Addr(), Question{q.Name, q.Qtype}}
	c.mu.Lock()
	wire, ok := c.replies[key]
	c.mu.Unlock()
	if !ok {
		m, err := c.internet.Exchange(ctx, server, query, stream)
		if err != nil {
			return nil, err
		}
		m.Compress = true
		if wire, err = m.Pack(); err != nil {
			return nil, err
		}
		c.mu.Lock()
		c.replies[key] = wire
		c.mu.Unlock()
	}
	m := new(dns.Msg)
	return m, m.Unpack(wire)
}

// costly is a zone evil.org. that is dear to resolve in.
type costly struct {
	name string
	mode denialMode
	// build makes the zone what it is and gives names in it to ask for.
	build func(n *internet) []string
}

const variants = 8 // names to ask for before all starts anew

var costlyZones = []costly{
	{"honest", withNSEC, func(n *internet) []string {
		for _, name := range numbered("n%d.evil.org.") {
			n.zones["evil.org."].add(name + " A 192.0.2.1")
		}
		return numbered("n%d.evil.org.")
	}},
	{"KeyTrap/P-256", withNSEC, keyTrap(dns.ECDSAP256SHA256, 256)},
	{"KeyTrap/P-384", withNSEC, keyTrap(dns.ECDSAP384SHA384, 384)},
	{"KeyTrap/RSA-4096", withNSEC, keyTrap(dns.RSASHA512, 4096)},
	{"Aliases/P-256", withNSEC3, signedAliases(dns.ECDSAP256SHA256, 256)},
	{"Aliases/P-384", withNSEC3, signedAliases(dns.ECDSAP384SHA384, 384)},
	{"Aliases/RSA-4096", withNSEC3, signedAliases(dns.RSASHA512, 4096)},
	{"NSEC3/50", withNSEC3, deepDenial(dnssec.MaxIterations)},
	{"NSEC3/2500", withNSEC3, deepDenial(2500)},
	{"Stuffed/64-KiB", unsigned, stuffed(4000, 1)},
	{"Stuffed/sets-of-1", unsigned, stuffed(2000, 1)},
	{"Stuffed/sets-of-64", unsigned, stuffed(2000, 64)},
	{"Stuffed/sets-of-250", unsigned, stuffed(2000, 250)},
}

func numbered(format string) (names []string) {
	for i := range variants {
		names = append(names, fmt.Sprintf(format, i))
	}
	return names
}

// rekey gives the zone a key of another algorithm, a new one where like is nil.
func (z *authZone) rekey(algorithm uint8, bits int, like *authZone) {
	z.key = &dns.DNSKEY{Hdr: dns.RR_Header{Name: z.name, Rrtype: dns.TypeDNSKEY, Class: 1, Ttl: 3600}, Flags: 257, Protocol: 3, Algorithm: algorithm}
	if like != nil {
		z.priv, z.key.PublicKey = like.priv, like.key.PublicKey
	} else {
		priv, err := z.key.Generate(bits)
		if err != nil {
			z.n.t.Fatal(err)
		}
		z.priv = priv.(crypto.Signer)
	}
	z.remove(z.name, dns.TypeDNSKEY)
	z.addRR(z.key)
	clear(z.sigs)
	p := z.n.parentOf(z.name)
	p.remove(z.name, dns.TypeDS)
	p.addRR(z.key.ToDS(dns.SHA256))
}

// addColliding adds keys of the same tag. Bits of the flags that mean nothing make
// it: the tag is nearly a sum (RFC 4034 Appendix B).
func (z *authZone) addColliding(keys int) {
	want := z.key.KeyTag()
	for i := uint64(0); keys > 0; i++ {
		k := dns.Copy(z.key).(*dns.DNSKEY)
		switch k.Algorithm {
		case dns.ECDSAP256SHA256, dns.ECDSAP384SHA384: // has to be a point
			if _, err := k.Generate(map[uint8]int{dns.ECDSAP256SHA256: 256, dns.ECDSAP384SHA384: 384}[k.Algorithm]); err != nil {
				z.n.t.Fatal(err)
			}
		default: // any modulus does
			raw, err := base64.StdEncoding.DecodeString(k.PublicKey)
			if err != nil {
				z.n.t.Fatal(err)
			}
			binary.BigEndian.PutUint64(raw[len(raw)/2:], i)
			k.PublicKey = base64.StdEncoding.EncodeToString(raw)
		}
		k.Flags = uint16((int(k.Flags) + int(want) - int(k.KeyTag()) + 65535) % 65535)
		if k.Flags&dns.ZONE != 0 && k.Flags&dns.REVOKE == 0 && k.KeyTag() == want {
			z.addRR(k)
			keys--
		}
	}
}

// keyTrap: each signature may have been made by each of many keys, and was by
// none.
func keyTrap(algorithm uint8, bits int) func(n *internet) []string {
	return func(n *internet) []string {
		z := n.zones["evil.org."]
		z.rekey(algorithm, bits, nil)
		z.addColliding(30) // with more, none is found that the DS names
		z.add("* A 192.0.2.1")
		n.server(evilAddr).behave = func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
			m := honest()
			if q.Question[0].Name == "evil.org." {
				return m, nil
			}
			for _, rr := range m.Answer {
				if sig, ok := rr.(*dns.RRSIG); ok {
					for i := range 100 {
						bad := dns.Copy(sig).(*dns.RRSIG)
						bad.OrigTtl += uint32(i) + 1
						m.Answer = append([]dns.RR{bad}, m.Answer...)
					}
				}
			}
			return m, nil
		}
		return numbered("n%d.evil.org.")
	}
}

// signedAliases: nothing is wrong with any signature; there are only many, in many
// zones, and each answer needs proofs besides.
func signedAliases(algorithm uint8, bits int) func(n *internet) []string {
	return func(n *internet) []string {
		top := n.zones["evil.org."]
		top.rekey(algorithm, bits, nil)
		for i := range variants {
			for j := range 14 {
				z := n.zone(fmt.Sprintf("z%dx%d.evil.org.", i, j), withNSEC3, evilAddr)
				z.rekey(algorithm, bits, top)
				z.add(fmt.Sprintf("*.w CNAME x.w.z%dx%d.evil.org.", i, j+1))
			}
		}
		return numbered("x.w.z%dx0.evil.org.")
	}
}

// deepDenial: a name of as many labels as there can be, each of which has to be
// hashed to prove that it is not there. Shorter names are not answered.
func deepDenial(iterations uint16) func(n *internet) []string {
	return func(n *internet) []string {
		z := n.zones["evil.org."]
		z.iterations, z.salt = iterations, strings.Repeat("ab", 255)
		n.server(evilAddr).behave = func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
			m := honest()
			if labels := dns.CountLabel(q.Question[0].Name); labels > 2 && labels < 100 {
				m = new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
			}
			return m, nil
		}
		return numbered(strings.Repeat("l.", 118) + "n%d.evil.org.")
	}
}

// stuffed puts so many records that nobody asked for into a message, in sets of
// that size. 4,000 are what a message holds, 2,000 what is read.
func stuffed(records, size int) func(n *internet) []string {
	return func(n *internet) []string {
		n.zones["evil.org."].add("* A 192.0.2.1")
		var stuffing []dns.RR
		for i := range records {
			stuffing = append(stuffing, mustRecord(n.t, fmt.Sprintf("s%d.evil.org. A 192.0.2.%d", i/size, i%size)))
		}
		n.server(evilAddr).behave = func(q *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
			m := honest()
			if q.Question[0].Name != "evil.org." {
				m.Compress = true
				m.Answer = append(m.Answer, stuffing...)
			}
			return m, nil
		}
		return numbered("n%d.evil.org.")
	}
}
