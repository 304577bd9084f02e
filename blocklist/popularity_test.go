package blocklist

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

func sketch() (*Popularity, *clock) {
	c := new(clock)
	c.unix.Store(1_700_000_000)
	p := NewPopularity(c.now)
	p.every = 1 // count each question, so that counts are exact
	return p, c
}

// TestPopularNamesAreFoundAmongMany asks for as many rare names as there are cells,
// and for a few names often: these come out within a tenth, and the rare ones are
// not taken for more than they are.
func TestPopularNamesAreFoundAmongMany(t *testing.T) {
	p, _ := sketch()
	tally := p.Tally()
	random := rand.New(rand.NewPCG(1, 2))
	const rare, often = 2 * sketchWidth, 1000
	popular := []string{"google.fr", "fr.wikipedia.org", "ovh.com", "drive.usercontent.google.com"}
	n := 0
	for i := range rare {
		tally.Observe(wireOf(fmt.Sprintf("n%d.rare.example", i)))
		n++
		if i%(rare/often) == 0 {
			for _, at := range random.Perm(len(popular)) {
				tally.Observe(wireOf("www." + popular[at]))
				n++
			}
		}
	}
	tally.Flush()
	for _, name := range popular {
		got, of := p.Estimate(wireOf(name))
		if want := float64(rare / (rare / often)); got < 0.9*want || got > want+1 {
			t.Errorf("%s: %v questions, were %v", name, got, want)
		}
		if of != float64(n) {
			t.Errorf("of %v questions, were %d", of, n)
		}
	}
	if got, _ := p.Estimate(wireOf("rare.example")); got < 0.9*rare {
		t.Errorf("rare.example stands above %d names that were asked for, and has %v", rare, got)
	}
	high := 0.0
	for i := range 10000 {
		got, _ := p.Estimate(wireOf(fmt.Sprintf("n%d.rare.example", i)))
		high = max(high, got)
	}
	if high > 3 {
		t.Errorf("a name that was asked for once has %v", high)
	}
}

func TestSamplingCountsForAllQuestions(t *testing.T) {
	p, _ := sketch()
	p.every = sampleEvery
	tally := p.Tally()
	for range 10000 {
		for _, name := range []string{"a.example", "b.example", "c.example", "d.example"} { // in a rhythm
			tally.Observe(wireOf(name))
		}
	}
	tally.Flush()
	for _, name := range []string{"a.example", "b.example", "c.example", "d.example"} {
		if got, of := p.Estimate(wireOf(name)); got < 9000 || got > 11000 || of != 40000 {
			t.Errorf("%s: %v of %v, want about 10000 of 40000", name, got, of)
		}
	}
}

func TestAQuestionCountsForTheNamesAboveIt(t *testing.T) {
	p, _ := sketch()
	tally := p.Tally()
	const deep = "l9.l8.l7.l6.l5.l4.l3.l2.example"
	for range 100 {
		tally.Observe(wireOf(deep))
		tally.Observe(wireOf("example"))
		tally.Observe([]byte{0})
	}
	tally.Flush()
	for name, want := range map[string]float64{
		deep: 100, "l2.example": 100, "l3.l2.example": 100, "l5.l4.l3.l2.example": 100,
		"l6.l5.l4.l3.l2.example": 0, // of deep names those near the top, and the name itself
		"example":                0,
		"other.example":          0,
	} {
		if got, _ := p.Estimate(wireOf(name)); got != want {
			t.Errorf("%s: %v questions, want %v", name, got, want)
		}
	}
}

func TestPopularityFades(t *testing.T) {
	p, c := sketch()
	tally := p.Tally()
	for range 1024 {
		tally.Observe(wireOf("once.example"))
	}
	tally.Flush()
	for i := range 4 {
		got, of := p.Estimate(wireOf("once.example"))
		if want := float64(int(1024) >> i); got != want || of != want {
			t.Errorf("after %d half-lives: %v of %v, want %v", i, got, of, want)
		}
		c.advance(popularityAge)
	}
	tally.Observe(wireOf("once.example"))
	tally.Flush()
	if got, of := p.Estimate(wireOf("once.example")); got != 65 || of != 65 {
		t.Errorf("counted on: %v of %v, want 65", got, of)
	}
	c.advance(-100 * 24 * time.Hour) // a clock that is set back harms nobody
	tally.Observe(wireOf("once.example"))
	tally.Flush()
}

func TestGoroutinesCountTogether(t *testing.T) {
	p, _ := sketch()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			tally := p.Tally()
			for range 1000 {
				tally.Observe(wireOf("www.busy.example"))
			}
			tally.Flush()
		})
	}
	all.Wait()
	if got, of := p.Estimate(wireOf("busy.example")); got != 4000 || of != 4000 {
		t.Errorf("%v of %v, want 4000", got, of)
	}
}

func TestNothingIsCountedWithoutASketch(t *testing.T) {
	var p *Popularity
	tally := p.Tally()
	tally.Observe(wireOf("www.example.com"))
	tally.Flush()
}

// FuzzObserve holds that whatever arrives is counted or not, and nothing else.
func FuzzObserve(f *testing.F) {
	f.Add([]byte("\x03www\x07example\x03com\x00"))
	f.Add([]byte{0})
	f.Add([]byte("\x3f"))
	f.Add([]byte(strings.Repeat("\x01a", 200)))
	p, _ := sketch()
	tally := p.Tally()
	f.Fuzz(func(_ *testing.T, name []byte) { tally.Observe(name) })
}

func BenchmarkObserve(b *testing.B) {
	p, _ := sketch()
	p.every = sampleEvery
	// Names as they are asked for: few often, many seldom.
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, 1<<20)
	names := make([][]byte, 1<<16)
	for i := range names {
		names[i] = wireOf(fmt.Sprintf("www.site-%d.com", zipf.Uint64()))
	}
	tally := p.Tally()
	b.ReportAllocs()
	report := cpu(b)
	i := 0
	for b.Loop() {
		tally.Observe(names[i&(len(names)-1)])
		i++
	}
	report()
}
