package main

import (
	"math"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestClientsAskAtTheRateThatIsSaid(t *testing.T) {
	const clients, length = 5000, 30 * time.Second
	asked, early := 0, 0
	for i := range clients {
		for s := newSchedule(&usual, 1, i); s.next < length; s.advance() {
			asked++
			if s.next < length/3 {
				early++
			}
		}
	}
	rate := float64(asked) / clients / length.Seconds()
	if math.Abs(rate/usual.perClient()-1) > 0.1 {
		t.Errorf("%.3f questions a second and client, want %.3f", rate, usual.perClient())
	}
	if share := float64(early) / float64(asked); math.Abs(share-1./3) > 0.03 {
		t.Errorf("%.2f of the questions in the first third: the plan is not steady", share)
	}
}

func TestAPlanIsTheSameAgain(t *testing.T) {
	a, b, other := newSchedule(&usual, 1, 7), newSchedule(&usual, 1, 7), newSchedule(&usual, 2, 7)
	same := true
	for range 1000 {
		if a.next != b.next || a.pick(100) != b.pick(100) {
			t.Fatal("the same client asks otherwise")
		}
		other.pick(100)
		same = same && a.next == other.next
		a.advance()
		b.advance()
		other.advance()
	}
	if same {
		t.Error("the seed changes nothing")
	}
}

func TestQuestionsAreWholeBlocksWhereTheyArePadded(t *testing.T) {
	for _, name := range []string{"www.site1.bench.", "www.a-much-longer-name-than-that-one.of-several-labels.bench."} {
		wire, err := query(name, dns.TypeA, true)
		if err != nil {
			t.Fatal(err)
		}
		var m dns.Msg
		if err := m.Unpack(wire); err != nil || len(wire)%128 != 0 || m.Question[0].Name != name {
			t.Errorf("%s: %d bytes, %v", name, len(wire), err)
		}
	}
}

func TestBucketsAndTheirValuesAgree(t *testing.T) {
	for d := 8 * time.Microsecond; d < 10*time.Second; d += d/7 + time.Microsecond {
		low := value(bucket(d))
		if low > d || float64(low) < 0.87*float64(d) {
			t.Fatalf("%v is counted as %v", d, low)
		}
	}
}

func TestTheSearchComesAsNearAsItShould(t *testing.T) {
	for _, limit := range []int{1, 99, 100, 101, 777, 5000, 12345} {
		tries := 0
		f, err := search(100, 10_000, 0.05, func(n int) (*result, bool, error) {
			tries++
			return &result{clients: n}, n <= limit, nil
		})
		if err != nil || tries > 20 {
			t.Fatalf("limit %d: %d tries, %v", limit, tries, err)
		}
		if f.good == nil || f.good.clients > limit {
			t.Fatalf("limit %d: %+v", limit, f.good)
		}
		if f.bad == nil && f.good.clients != 10_000 || f.bad != nil && float64(f.bad.clients-f.good.clients) > max(1, 0.05*float64(f.bad.clients)) {
			t.Errorf("limit %d: between %+v and %+v", limit, f.good, f.bad)
		}
	}
}

func TestTheSearchEndsWhereTheClientIsTheLimit(t *testing.T) {
	tries := 0
	f, err := search(100, 100_000, 0.05, func(n int) (*result, bool, error) {
		tries++
		return &result{clients: n, clientShare: float64(n) / 1000}, true, nil
	})
	if err != nil || f.good.clients != 1600 || f.bad != nil || tries != 5 {
		t.Errorf("%+v after %d tries, %v", f.good, tries, err)
	}
}
