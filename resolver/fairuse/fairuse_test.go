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
	w := NewWork(places, 2)
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
	w := NewWork(places, 2)
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
		p.End(end, 0) // 30 s of work, so 15 places on average in the last 2 s
	}
	if _, ok := w.Begin(heavy, end); ok {
		t.Error("who used more than there is got a place")
	}
	p, ok := w.Begin(light, end)
	if !ok {
		t.Fatal("who used nothing got no place")
	}
	p.End(end, 0)
	if _, ok := w.Begin(heavy, end.Add(10*time.Second)); !ok {
		t.Error("what was used is not forgotten")
	}
}

// flood has a network ask as much as it may for so long, each question at a cost,
// and says how many processors it had of late.
func flood(t *testing.T, w *Work, client netip.Addr, from time.Time, steps int, cost time.Duration, honest func(at time.Time)) (end time.Time) {
	t.Helper()
	const step = 10 * time.Millisecond
	at := from
	for range steps {
		at = at.Add(step)
		var begun []Place
		for range 20 {
			if p, ok := w.Begin(client, at); ok {
				begun = append(begun, p)
			}
		}
		honest(at)
		for _, p := range begun {
			p.End(at, cost)
		}
	}
	return at
}

// TestAFloodOfDearQuestionsLeavesProcessorTime has a network ask what costs 10 ms
// each, 2,000 times a second: 20 processors, of which there are 2. Places are
// plenty.
func TestAFloodOfDearQuestionsLeavesProcessorTime(t *testing.T) {
	w, honest, refused, asked := NewWork(10_000, 2), 0, 0, 0
	end := flood(t, w, addr("192.0.2.1"), start, 2000, 10*time.Millisecond, func(at time.Time) {
		honest++
		asked++
		p, ok := w.Begin(network(honest%50), at)
		if !ok {
			refused++
			return
		}
		p.End(at, 200*time.Microsecond)
	})
	if refused != 0 {
		t.Errorf("%d of %d honest questions were refused", refused, asked)
	}
	if got := w.spent.rate(end.UnixNano()); got < 0.8 || got > 1.3 {
		t.Errorf("%.2f processors are kept busy, want about one of two", got)
	}
}

func TestSeveralFloodsShareProcessorTimeAndLeaveAPart(t *testing.T) {
	w := NewWork(10_000, 4)
	at := start
	for range 1000 {
		at = at.Add(10 * time.Millisecond)
		for n := range 3 {
			for range 5 {
				if p, ok := w.Begin(network(n), at); ok {
					p.End(at, 10*time.Millisecond)
				}
			}
		}
	}
	if got := w.spent.rate(at.UnixNano()); got < 2.6 || got > 3.4 { // 3 of 4 parts
		t.Errorf("%.2f of 4 processors are kept busy", got)
	}
	if _, ok := w.Begin(addr("2001:db8::1"), at); !ok {
		t.Error("who asked nothing yet is refused")
	}
}

// TestWhoAsksLittleIsServedWhateverOthersCost holds that an estimate that is too
// high does not stop everybody.
func TestWhoAsksLittleIsServedWhateverOthersCost(t *testing.T) {
	w := NewWork(100, 1)
	p, ok := w.Begin(addr("192.0.2.1"), start)
	if !ok {
		t.Fatal("refused while there is room")
	}
	p.End(start, time.Minute)
	another(t, w, start)
	if _, ok := w.Begin(addr("192.0.2.1"), start); ok {
		t.Error("who cost a minute got a place")
	}
	for n := range 50 {
		p, ok := w.Begin(network(n), start)
		if !ok {
			t.Fatalf("network %d got none", n)
		}
		p.End(start, time.Millisecond)
	}
	if _, ok := w.Begin(addr("192.0.2.1"), start.Add(30*time.Second)); !ok {
		t.Error("what it cost is not forgotten")
	}
}

// another network asks one cheap question.
func another(t *testing.T, w *Work, at time.Time) {
	t.Helper()
	p, ok := w.Begin(addr("203.0.113.1"), at)
	if !ok {
		t.Fatal("another network is refused")
	}
	p.End(at, 100*time.Microsecond)
}

// TestWhoIsAloneMayHaveAllTheProcessorTimeUntilAnotherComes holds that nothing is
// kept from a network for nobody, and that its part holds at once when somebody comes.
func TestWhoIsAloneMayHaveAllTheProcessorTimeUntilAnotherComes(t *testing.T) {
	w, client := NewWork(10_000, 2), addr("192.0.2.1")
	at := flood(t, w, client, start, 2000, 10*time.Millisecond, func(time.Time) {})
	if got := w.busy(at.UnixNano()); got < 15 {
		t.Errorf("%.2f processors are charged, want the 20 that were asked for", got)
	}
	another(t, w, at)
	if _, ok := w.Begin(client, at); ok {
		t.Error("the flood goes on when another network has come")
	}
	if _, ok := w.Begin(client, at.Add(time.Minute)); !ok {
		t.Error("the flood is not forgotten")
	}
}

// TestWhatIsUnderWayCountsForWhatItWillCost holds that a network whose questions are
// dear cannot begin many at once.
func TestWhatIsUnderWayCountsForWhatItWillCost(t *testing.T) {
	w, client := NewWork(10_000, 2), addr("192.0.2.1")
	p, _ := w.Begin(client, start)
	p.End(start, 50*time.Millisecond)
	another(t, w, start)
	begun := 0
	for range 10_000 {
		if _, ok := w.Begin(client, start.Add(time.Second)); ok {
			begun++
		}
	}
	if begun < 50 || begun > 100 { // 2 processors for 2 s at 50 ms each
		t.Errorf("%d were begun", begun)
	}
}

func TestPlacesComeBack(t *testing.T) {
	w := NewWork(4, 2)
	client := addr("192.0.2.1")
	for n := range 1000 {
		at := start.Add(time.Duration(n) * time.Millisecond)
		p, ok := w.Begin(client, at)
		if !ok {
			t.Fatalf("resolution %d was refused", n+1)
		}
		p.End(at.Add(time.Millisecond), time.Millisecond/10)
	}
	if got := w.taken.Load(); got != 0 {
		t.Errorf("%d places are taken", got)
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	r, w, client := NewRates(10), NewWork(10, 2), addr("192.0.2.1")
	if n := testing.AllocsPerRun(100, func() { r.Allow(client, start) }); n != 0 {
		t.Errorf("Allow: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		if p, ok := w.Begin(client, start); ok {
			p.End(start, time.Microsecond)
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
