package cache

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func nsecSpan(t testing.TB, from, to string, ttl time.Duration) Span {
	return Span{From: OrderKey(from), To: OrderKey(to), TTL: ttl, RRs: []dns.RR{record(t, from+" 900 IN NSEC "+to+" A")}}
}

// The order of RFC 4034 §6.1, with its own example.
func TestOrderKeySortsNamesCanonically(t *testing.T) {
	names := []string{
		"example.", "a.example.", "yljkjljk.a.example.", "Z.a.example.", "zABC.a.EXAMPLE.",
		"z.example.", "\\001.z.example.", "*.z.example.", "\\200.z.example.",
	}
	if !slices.IsSortedFunc(names, func(a, b string) int { return strings.Compare(OrderKey(a), OrderKey(b)) }) {
		t.Error("not in order")
	}
	for _, pair := range [][2]string{{"a\\000.example.", "a.example."}, {"a\\000b.example.", "a\\000.example."}, {"b.a\\000.example.", "z.a.example."}} {
		if strings.Compare(OrderKey(pair[0]), OrderKey(pair[1])) <= 0 {
			t.Errorf("%q does not sort behind %q", pair[0], pair[1])
		}
	}
	if OrderKey(strings.Repeat("x", 64)+".") != "" {
		t.Error("a key for what is no name")
	}
}

// Against a naive model: the span at or before a key, among those that nothing
// newer has contradicted.
func TestDenialsFindWhatANaiveModelFinds(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	clock := newManualClock()
	d := NewDenials(1<<20, clock.Now)
	name := func(i int) string { return fmt.Sprintf("n%03d.example.", i) }
	model := map[int]int{} // from -> to
	for range 2000 {
		from := rng.IntN(500)
		to := from + 1 + rng.IntN(20)
		for f := range model {
			if f >= from && f < to {
				delete(model, f)
			}
		}
		model[from] = to
		d.PutNSEC("example.", nsecSpan(t, name(from), name(to), time.Hour))

		at, want := rng.IntN(520), -1
		for f := range model {
			if f <= at && f > want {
				want = f
			}
		}
		got, ok := d.NSEC("example.", OrderKey(name(at)))
		if ok != (want >= 0) || ok && (got.From != OrderKey(name(want)) || got.To != OrderKey(name(model[want]))) {
			t.Fatalf("at %d: %v, want %d to %d", at, got, want, model[want])
		}
	}
}

func TestDenialsCountDownAndEnd(t *testing.T) {
	clock := newManualClock()
	d := NewDenials(1<<20, clock.Now)
	s := nsecSpan(t, "a.example.", "c.example.", 100*time.Second)
	s.Shown = 900 * time.Second
	d.PutNSEC("example.", s)
	clock.now = clock.now.Add(40 * time.Second)
	got, ok := d.NSEC("example.", OrderKey("b.example."))
	if !ok || got.TTL != 60*time.Second || got.RRs[0].Header().Ttl != 860 {
		t.Errorf("after 40 s: %v %+v", ok, got)
	}
	clock.now = clock.now.Add(60 * time.Second)
	if _, ok := d.NSEC("example.", OrderKey("b.example.")); ok {
		t.Error("used after its end")
	}
	if _, ok := d.NSEC("other.", OrderKey("b.other.")); ok {
		t.Error("found in another zone")
	}
}

func TestDenialsOfAnotherChainReplaceThoseBefore(t *testing.T) {
	d := NewDenials(1<<20, newManualClock().Now)
	put := func(chain, hash string) {
		d.PutNSEC3("example.", chain, Span{From: hash, To: hash + "A", TTL: time.Hour, RRs: []dns.RR{record(t, strings.Repeat("0", 32)+".example. NSEC3 1 0 0 - "+strings.Repeat("1", 32))}})
	}
	put("1 0 AA", "5")
	put("1 0 AA", "7")
	if s, ok := d.NSEC3("example.", "3"); !ok || s.From != "7" {
		t.Errorf("the last span does not wrap: %+v", s)
	}
	put("1 0 BB", "6")
	if s, _ := d.NSEC3("example.", "8"); s.From != "6" {
		t.Errorf("found %q of a chain that is gone", s.From)
	}
}

// A flood of spans, of one zone and of many, stays within the bound, and what is
// counted is what is there.
func TestDenialsStayWithinTheirBound(t *testing.T) {
	const bound = 256 << 10
	d := NewDenials(bound, newManualClock().Now)
	for i := range 3000 {
		zone := fmt.Sprintf("z%d.", i%50)
		d.PutNSEC(zone, nsecSpan(t, fmt.Sprintf("n%d.%s", i, zone), fmt.Sprintf("n%d\\000.%s", i, zone), time.Hour))
		d.PutSOA(zone, Span{TTL: time.Hour, RRs: []dns.RR{record(t, zone+" SOA a. b. 1 2 3 4 5")}})
		if b := d.Bytes(); b > bound || b < 0 {
			t.Fatalf("%d bytes after %d", b, i)
		}
	}
	if d.Bytes() < bound/4 {
		t.Errorf("only %d bytes are kept", d.Bytes())
	}
	for name, z := range d.zones {
		d.drop(name, z)
	}
	if d.bytes != 0 {
		t.Errorf("%d bytes are counted of nothing", d.bytes)
	}
}

func TestStaleEntriesAreForStaleAlone(t *testing.T) {
	clock := newManualClock()
	c := NewRRsets(1<<20, clock.Now)
	c.KeepStale(time.Hour)
	c.Put(addressSet(t, "a.example.", time.Minute))
	if _, ok := c.Stale("a.example.", dns.TypeA); ok {
		t.Error("stale while fresh")
	}
	clock.now = clock.now.Add(2 * time.Minute)
	if _, ok := c.Get(Data, "a.example.", dns.TypeA); ok {
		t.Error("fresh while stale")
	}
	if s, ok := c.Stale("a.example.", dns.TypeA); !ok || len(s.RRs) != 1 || s.TTL != 0 {
		t.Errorf("not kept: %+v", s)
	}
	clock.now = clock.now.Add(time.Hour)
	if _, ok := c.Stale("a.example.", dns.TypeA); ok {
		t.Error("kept for ever")
	}
}
