package cache

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

type manualClock struct{ now time.Time }

func (c *manualClock) Now() time.Time { return c.now }

func newManualClock() *manualClock {
	return &manualClock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

func record(t testing.TB, s string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(s)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

func addressSet(t testing.TB, name string, ttl time.Duration) RRset {
	return RRset{Name: name, Type: dns.TypeA, Rank: RankAnswer, Status: dnssec.Secure, TTL: ttl,
		RRs: []dns.RR{record(t, name+" 999 IN A 192.0.2.1")}}
}

func TestRRsetsCountDownAndEnd(t *testing.T) {
	clock := newManualClock()
	c := NewRRsets(1<<20, clock.Now)
	if !c.Put(addressSet(t, "a.example.", 300*time.Second)) {
		t.Fatal("refused")
	}
	clock.now = clock.now.Add(100 * time.Second)
	s, ok := c.Get(Data, "a.example.", dns.TypeA)
	if !ok || s.TTL != 200*time.Second || s.RRs[0].Header().Ttl != 200 || s.Status != dnssec.Secure {
		t.Fatalf("after 100 s of 300: %v %+v", ok, s)
	}
	s.RRs[0].Header().Name = "changed." // must be the caller's own
	if s, _ := c.Get(Data, "a.example.", dns.TypeA); s.RRs[0].Header().Name != "a.example." {
		t.Fatal("a reader changed what others read")
	}
	clock.now = clock.now.Add(200 * time.Second)
	if _, ok := c.Get(Data, "a.example.", dns.TypeA); ok {
		t.Fatal("alive at its end")
	}
	if c.Len() != 0 {
		t.Fatalf("%d entries kept after their end was met", c.Len())
	}
}

func TestRRsetsClampLifetimes(t *testing.T) {
	for _, c := range []struct {
		name string
		set  RRset
		want time.Duration
	}{
		{"data to a day", RRset{Name: "a.", Type: 1, TTL: 1e6 * time.Second}, MaxTTL},
		{"denials to three hours", RRset{Name: "a.", Type: 1, Kind: NoData, TTL: MaxTTL}, MaxNegativeTTL},
		{"failures to five minutes", RRset{Name: "a.", Type: 1, Use: Failure, Kind: Broken, TTL: time.Hour}, MaxFailureTTL},
		{"failures to at least a second", RRset{Name: "a.", Type: 1, Use: Failure, Kind: Broken}, MinFailureTTL},
		{"nothing without a TTL", RRset{Name: "a.", Type: 1, Kind: NoData}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := NewRRsets(1<<20, newManualClock().Now)
			cache.Put(c.set)
			if s, _ := cache.Get(c.set.Use, "a.", 1); s.TTL != c.want {
				t.Errorf("TTL %v, want %v", s.TTL, c.want)
			}
		})
	}
}

func TestNXDomainAnswersForEveryTypeOfItsNameOnly(t *testing.T) {
	c := NewRRsets(1<<20, newManualClock().Now)
	c.Put(RRset{Name: "no.example.", Type: dns.TypeMX, Kind: NXDomain, TTL: time.Minute,
		Proof: []dns.RR{record(t, "example. IN SOA a. b. 1 1 1 1 1")}})
	c.Put(RRset{Name: "some.example.", Type: dns.TypeMX, Kind: NoData, TTL: time.Minute})
	for _, q := range []struct {
		use  Use
		name string
		t    uint16
		want bool
	}{
		{Data, "no.example.", dns.TypeA, true},
		{Data, "no.example.", dns.TypeTXT, true},
		{Data, "some.example.", dns.TypeMX, true},
		{Data, "some.example.", dns.TypeA, false},
		{Data, "x.no.example.", dns.TypeA, false},
		{Unchecked, "no.example.", dns.TypeA, false},
		{Delegation, "no.example.", dns.TypeNS, false},
	} {
		if _, got := c.Get(q.use, q.name, q.t); got != q.want {
			t.Errorf("use %d %s %d: %v", q.use, q.name, q.t, got)
		}
	}
}

func TestLowerRankDoesNotReplaceWhatIsAlive(t *testing.T) {
	clock := newManualClock()
	c := NewRRsets(1<<20, clock.Now)
	c.Put(addressSet(t, "a.example.", time.Minute))
	poison := addressSet(t, "a.example.", time.Hour)
	poison.Rank, poison.RRs = RankAuthority, []dns.RR{record(t, "a.example. 999 IN A 203.0.113.66")}
	if c.Put(poison) {
		t.Fatal("authority data replaced an answer")
	}
	clock.now = clock.now.Add(time.Minute)
	if !c.Put(poison) {
		t.Fatal("refused though nothing better is alive")
	}
}

// Against a map that forgets nothing: what the cache gives is what was put last,
// and it never exceeds its bound, whatever comes.
func TestRRsetsAgreeWithANaiveModelWithinTheBound(t *testing.T) {
	const bound = 256 << 10
	rnd := rand.New(rand.NewPCG(1, 2))
	clock := newManualClock()
	c := NewRRsets(bound, clock.Now)
	type want struct {
		text    string
		expires time.Time
	}
	model := map[string]want{}
	hits := 0
	for i := range 60_000 {
		name := fmt.Sprintf("n%d.example.", rnd.IntN(3000))
		switch rnd.IntN(4) {
		case 0:
			ttl := time.Duration(1+rnd.IntN(100)) * time.Second
			text := strings.Repeat("x", 1+rnd.IntN(250))
			if c.Put(RRset{Name: name, Type: dns.TypeTXT, Rank: RankAnswer, TTL: ttl,
				RRs: []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: 1}, Txt: []string{text}}}}) {
				model[name] = want{text, clock.now.Add(ttl)}
			}
		case 1:
			c.Remove(Data, name, dns.TypeTXT)
			delete(model, name)
		default:
			s, ok := c.Get(Data, name, dns.TypeTXT)
			w, known := model[name]
			if ok && (!known || s.RRs[0].(*dns.TXT).Txt[0] != w.text || s.TTL != w.expires.Sub(clock.now) || s.TTL <= 0) {
				t.Fatalf("step %d: %s gives %+v, model %+v", i, name, s, w)
			}
			if ok {
				hits++
			}
		}
		if b := c.Bytes(); b > bound {
			t.Fatalf("step %d: %d bytes, bound %d", i, b, bound)
		}
		if i%50 == 0 {
			clock.now = clock.now.Add(time.Second)
		}
	}
	if hits < 1000 {
		t.Fatalf("only %d hits: the cache keeps too little for the test to say anything", hits)
	}
}

// The bound is meant in memory, not in payload (CVE-2023-2828). The heap is
// measured after a flood of names; indices, names and rounding are in it.
func TestBoundHoldsInHeapBytesUnderAFlood(t *testing.T) {
	const bound = 8 << 20
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	c := NewRRsets(bound, newManualClock().Now)
	for i := range 100_000 {
		name := fmt.Sprintf("random-%08d.flood.example.", i)
		c.Put(RRset{Name: name, Type: dns.TypeA, Rank: RankAnswer, TTL: time.Hour,
			RRs: []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: 1}, A: []byte{192, 0, 2, 1}}}})
	}
	used := heap() - before
	if used > bound*11/10 {
		t.Errorf("heap grew by %d, bound %d, counted %d", used, bound, c.Bytes())
	}
	if c.Bytes() < bound/2 {
		t.Errorf("only %d of %d bytes used: the count is far off", c.Bytes(), bound)
	}
	runtime.KeepAlive(c)
}

func TestFloodOfNamesAskedOnceLeavesWhatIsAskedOften(t *testing.T) {
	c := NewRRsets(1<<20, newManualClock().Now)
	known := make([]string, 200)
	for i := range known {
		known[i] = fmt.Sprintf("known-%d.example.", i)
		c.Put(addressSet(t, known[i], time.Hour))
		c.Get(Data, known[i], dns.TypeA)
	}
	for i := range 50_000 {
		c.Put(addressSet(t, fmt.Sprintf("random-%d.example.", i), time.Hour))
	}
	kept := 0
	for _, name := range known {
		if _, ok := c.Get(Data, name, dns.TypeA); ok {
			kept++
		}
	}
	if kept < len(known)*9/10 {
		t.Errorf("%d of %d names survived a flood", kept, len(known))
	}
}

func TestOversizedEntryAndTinyCacheAreRefusedWithoutHarm(t *testing.T) {
	c := NewRRsets(0, newManualClock().Now)
	if c.Put(addressSet(t, "a.example.", time.Hour)) {
		t.Error("a cache of no bytes took an entry")
	}
	c = NewRRsets(1<<20, newManualClock().Now)
	big := RRset{Name: "big.", Type: dns.TypeTXT, TTL: time.Hour}
	for range 300 {
		big.RRs = append(big.RRs, &dns.TXT{Hdr: dns.RR_Header{Name: "big.", Rrtype: dns.TypeTXT, Class: 1}, Txt: []string{strings.Repeat("x", 255)}})
	}
	if c.Put(big) {
		t.Error("took an entry larger than a message")
	}
}

func FuzzUnpackEntry(f *testing.F) {
	s := addressSet(f, "a.example.", time.Hour)
	s.Proof = []dns.RR{record(f, "example. IN SOA a. b. 1 1 1 1 1")}
	packed, err := pack(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Add([]byte{0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var s RRset
		if unpack(b, &s) != nil {
			return
		}
		again, err := pack(s)
		if err != nil {
			return // a record that can be read and not written, such as one with no RDATA
		}
		var twice RRset
		if err := unpack(again, &twice); err != nil {
			t.Fatalf("what was packed does not unpack: %v", err)
		}
		for i, rr := range s.RRs {
			if rr.String() != twice.RRs[i].String() {
				t.Fatalf("%v became %v", rr, twice.RRs[i])
			}
		}
	})
}
