package fairuse

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

var start = time.Unix(1_700_000_000, 0)

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// network is the nth client network.
func network(n int) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 10<<24+uint32(n)<<8)))
}

func TestARateHoldsForANetworkAndNotForOthers(t *testing.T) {
	r := NewRates(10)
	take := func(client string, at time.Time) (n int) {
		for range 100 {
			if r.Allow(addr(client), at) {
				n++
			}
		}
		return n
	}
	for _, tt := range []struct {
		what, client string
		after        time.Duration
		want         int
	}{
		{"at first a burst", "192.0.2.1", 0, 20},
		{"the same network", "192.0.2.200", 0, 0},
		{"mapped", "::ffff:192.0.2.9", 0, 0},
		{"another", "198.51.100.1", 0, 20},
		{"IPv6", "2001:db8:1:100::1", 0, 20},
		{"the same /56", "2001:db8:1:1ff::1", 0, 0},
		{"another /56", "2001:db8:1:200::1", 0, 20},
		{"half a second on", "192.0.2.1", 500 * time.Millisecond, 5},
		{"a clock that went back", "192.0.2.1", 0, 0},
		{"a day on", "192.0.2.1", 24 * time.Hour, 20},
	} {
		if got := take(tt.client, start.Add(tt.after)); got != tt.want {
			t.Errorf("%s: %d allowed, want %d", tt.what, got, tt.want)
		}
	}
}

func TestNoRateAllowsAll(t *testing.T) {
	if r := NewRates(0); r != nil || !r.Allow(addr("192.0.2.1"), start) {
		t.Error("0 bounds something")
	}
}

// TestAFloodOfNetworksDoesNotFreeTheWorst holds that the table keeps who is over
// its rate while strangers pass by, and has a fixed size.
func TestAFloodOfNetworksDoesNotFreeTheWorst(t *testing.T) {
	r := NewRates(10)
	worst := addr("192.0.2.1")
	for range 20 {
		r.Allow(worst, start)
	}
	for n := range 3 * Tracks {
		r.Allow(network(n), start)
	}
	if r.Allow(worst, start) {
		t.Error("a network over its rate was forgotten")
	}
}

func TestOneNetworkGetsHalfAndLeavesTheRest(t *testing.T) {
	const places = 100
	w := NewWork(places)
	begin := func(client string) (taken int) {
		for range places {
			if _, ok := w.Begin(addr(client), start); ok {
				taken++
			}
		}
		return taken
	}
	if got := begin("192.0.2.1"); got != places/2 {
		t.Errorf("the first network has %d places", got)
	}
	if got := begin("198.51.100.1"); got != places/4 {
		t.Errorf("the second network has %d places", got)
	}
	for n := range 10 { // those who have nothing get one each
		if _, ok := w.Begin(network(n), start); !ok {
			t.Fatalf("honest network %d got none", n+1)
		}
	}
}

func TestWhatWasUsedLatelyCounts(t *testing.T) {
	const places = 10
	w := NewWork(places)
	heavy, light := addr("192.0.2.1"), addr("198.51.100.1")
	var begun []Place
	for range 5 {
		p, ok := w.Begin(heavy, start)
		if !ok {
			t.Fatal("refused while there is room")
		}
		begun = append(begun, p)
	}
	end := start.Add(6 * time.Second)
	for _, p := range begun {
		p.End(end) // 30 s of work, so 15 places on average in the last 2 s
	}
	if _, ok := w.Begin(heavy, end); ok {
		t.Error("who used more than there is got a place")
	}
	p, ok := w.Begin(light, end)
	if !ok {
		t.Fatal("who used nothing got no place")
	}
	p.End(end)
	if _, ok := w.Begin(heavy, end.Add(10*time.Second)); !ok {
		t.Error("what was used is not forgotten")
	}
}

func TestPlacesComeBack(t *testing.T) {
	w := NewWork(4)
	client := addr("192.0.2.1")
	for n := range 1000 {
		at := start.Add(time.Duration(n) * time.Millisecond)
		p, ok := w.Begin(client, at)
		if !ok {
			t.Fatalf("resolution %d was refused", n+1)
		}
		p.End(at.Add(time.Millisecond))
	}
	if got := w.taken.Load(); got != 0 {
		t.Errorf("%d places are taken", got)
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	r, w, client := NewRates(10), NewWork(10), addr("192.0.2.1")
	if n := testing.AllocsPerRun(100, func() { r.Allow(client, start) }); n != 0 {
		t.Errorf("Allow: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		if p, ok := w.Begin(client, start); ok {
			p.End(start)
		}
	}); n != 0 {
		t.Errorf("Begin and End: %v allocations", n)
	}
}

func BenchmarkAllow(b *testing.B) {
	r, client := NewRates(1_000_000_000), addr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		r.Allow(client, start)
	}
}
