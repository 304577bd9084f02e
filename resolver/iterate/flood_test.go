package iterate

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// floodZone answers for every name of it, and says of those below none that they
// do not exist, quickly; the rest of the internet answers as it does.
type floodZone struct {
	*internet
	known atomic.Int64 // questions for names that are known
}

func (f *floodZone) Exchange(ctx context.Context, server netip.AddrPort, query *dns.Msg, stream bool) (*dns.Msg, error) {
	if server.Addr().String() != otherAddr {
		return f.internet.Exchange(ctx, server, query, stream)
	}
	q := query.Question[0]
	if strings.HasPrefix(q.Name, "known") {
		f.known.Add(1)
	}
	m := new(dns.Msg).SetReply(query)
	m.Authoritative = true
	m.SetEdns0(ednsSize, true)
	if strings.HasSuffix(q.Name, ".none.plain.org.") {
		m.Rcode = dns.RcodeNameError
	} else if q.Name != "none.plain.org." {
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 3600}, A: []byte{192, 0, 2, 1}}}
	}
	if len(m.Answer) == 0 {
		m.Ns = f.zones["plain.org."].rrs["plain.org."][dns.TypeSOA]
	}
	return m, nil
}

// A flood of names that come once (water torture), from four clients at a time:
// what the resolver holds stays within its bound, in bytes of the heap, and what
// is asked for again and again stays known. `make flood` is the long form.
func TestAFloodOfRandomNamesStaysWithinBoundsAndLeavesWhatIsKnown(t *testing.T) {
	const bound, names, known, clients = 16 << 20, 100_000 / sampling, 200, 4
	n, _, _ := smallInternet(t, unsigned)
	f := &floodZone{internet: n}
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	r := n.resolver(func(c *Config) { c.Exchange, c.CacheBytes = f, bound })
	askKnown := func(i int) {
		expect(t, ask(t, r, fmt.Sprintf("known%d.plain.org. A", i)), dns.RcodeSuccess, dnssec.Insecure, "192.0.2.1")
	}
	for range 2 {
		for i := range known {
			askKnown(i)
		}
	}
	if sent := f.known.Load(); sent != known {
		t.Fatalf("%d queries made %d names known", sent, known)
	}
	var most atomic.Int64
	var group sync.WaitGroup
	for client := range clients {
		group.Go(func() {
			for i := range names / clients {
				name := fmt.Sprintf("r%d-%d.plain.org.", client, i)
				want := dns.RcodeSuccess
				if i%2 == 1 {
					name, want = fmt.Sprintf("r%d-%d.none.plain.org.", client, i), dns.RcodeNameError
				}
				if res := r.Resolve(context.Background(), Request{Question: Question{name, dns.TypeA}}); res.Rcode != want {
					t.Errorf("%s: %s %v", name, dns.RcodeToString[res.Rcode], res.EDE)
					return
				}
				if i%20 == 0 {
					askKnown(i / 20 % known)
				}
				if b := r.CacheBytes(); i%1000 == 0 && b > most.Load() {
					most.Store(b)
				}
			}
		})
	}
	group.Wait()
	if most.Load() > bound || sampling == 1 && most.Load() < bound/2 {
		t.Errorf("the cache holds %d bytes, of %d", most.Load(), bound)
	}
	n.queries() // the log is the test's, not the resolver's
	if grown := heap() - before; grown > bound*5/4 {
		t.Errorf("the heap has grown by %d bytes, the cache's bound is %d", grown, bound)
	}
	// A few may go while the cache fills: an eviction passes over so many and no more.
	if again := f.known.Load() - known; again > known/20 {
		t.Errorf("names that were known were sent on %d times, of %d", again, names/20)
	}
	runtime.KeepAlive(r)
}
