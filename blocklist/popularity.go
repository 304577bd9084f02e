package blocklist

import (
	"hash/maphash"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// Popularity counts what a resolver's clients ask for, so that an entry for a
// name that many people use is seen before it is enforced. It is a HeavyKeeper
// sketch (Yang et al., "HeavyKeeper: An Accurate Algorithm for Finding Top-k
// Elephant Flows", USENIX ATC 2018) whose counts are halved every popularityAge.
//
// It lies in memory alone and holds no name and nothing of who asked: counts
// under fingerprints that are keyed by a seed of this process. Somebody who knows
// a name can ask how often it was asked for; nobody can read the names out.
//
// A question counts for its name and for each name above it with at least two
// labels (of deep names the maxSuffixes nearest the top): an entry is as popular as
// all that it would take down. Counts are never too high but by a collision of
// fingerprints (2^-32), and may be too low for what is asked for rarely.
type Popularity struct {
	seed  maphash.Seed
	clock func() time.Time
	start time.Time
	every uint32 // one question in so many is counted, for so many

	mu     sync.Mutex
	rows   [sketchRows][]uint64 // see cell; guarded by mu
	total  float64              // questions, halved like the counts; guarded by mu
	age    uint8                // of total; guarded by mu
	chance rand.PCG             // guarded by mu
}

const (
	sketchRows  = 2
	sketchWidth = 1 << 17 // cells of 8 bytes in a row: 2 MiB in all
	maxSuffixes = 4       // names above a name's own that a question counts for

	popularityAge = 12 * time.Hour // half-life of a count
	sampleEvery   = 8              // a question costs an eighth, a count of 1000 is off by some 90
)

// cell is one counter: fingerprint, count of sampled questions, and the age (number of half-lives
// since the start, modulo 256) at which the count was right.
type cell = uint64

const (
	maxCount   = 1<<24 - 1
	countShift = 8
	printShift = 32
)

// usurp is how likely a count gives way by one to another fingerprint, of 2^32:
// 1.08^-count, as in the paper. Past its end it does not.
var usurp = func() (t [256]uint32) {
	for i := range t {
		t[i] = uint32(math.Pow(1.08, -float64(i)) * math.MaxUint32)
	}
	return t
}()

// NewPopularity makes an empty sketch.
func NewPopularity(clock func() time.Time) *Popularity {
	p := &Popularity{seed: maphash.MakeSeed(), clock: clock, start: clock(), every: sampleEvery}
	for i := range p.rows {
		p.rows[i] = make([]cell, sketchWidth)
	}
	p.chance.Seed(maphash.Bytes(p.seed, []byte{0}), maphash.Bytes(p.seed, []byte{1}))
	return p
}

// Tally is what one goroutine has seen and not yet handed in, so that goroutines
// do not wait for one another at each question. It is that goroutine's alone.
type Tally struct {
	of        *Popularity
	questions int    // seen
	wait      uint32 // how many questions pass before the next is counted
	random    uint32 // xorshift; never 0
	n         int
	seen      [192]uint64 // hashes
}

// Tally gives a goroutine its own. nil, which counts nothing, for a nil sketch.
func (p *Popularity) Tally() *Tally {
	if p == nil {
		return nil
	}
	return &Tally{of: p, random: uint32(maphash.Bytes(p.seed, []byte{2})) | 1}
}

// Observe counts a question for a name in wire form and lower case. It does not
// allocate.
func (t *Tally) Observe(name []byte) {
	if t == nil {
		return
	}
	t.questions++
	if t.wait > 0 {
		t.wait--
		return
	}
	// From 0 to twice what is wanted on the average, so that no rhythm of questions
	// meets that of the counting.
	t.random ^= t.random << 13
	t.random ^= t.random >> 17
	t.random ^= t.random << 5
	t.wait = t.random % (2*t.of.every - 1)
	t.n += t.of.hashes(t.seen[t.n:], name)
	if t.n > len(t.seen)-maxSuffixes-1 {
		t.Flush()
	}
}

// Flush hands in what is there.
func (t *Tally) Flush() {
	if t == nil || t.questions == 0 {
		return
	}
	p := t.of
	p.mu.Lock()
	p.total = p.totalAt(p.now()) + float64(t.questions)
	p.age = p.now()
	for _, h := range t.seen[:t.n] {
		p.count(h)
	}
	p.mu.Unlock()
	t.n, t.questions = 0, 0
}

// hashes writes the hashes of the names that a question for name counts for.
func (p *Popularity) hashes(into []uint64, name []byte) (n int) {
	var starts [maxLabels]uint8
	labels := 0
	for at := 0; at < len(name) && name[at] != 0; at += int(name[at]) + 1 {
		if labels == maxLabels {
			return 0 // not a name
		}
		starts[labels] = uint8(at)
		labels++
	}
	if labels < 2 {
		return 0
	}
	into[0] = maphash.Bytes(p.seed, name)
	// From label 1 on, those with two labels at least, the nearest the top.
	first := max(1, labels-1-maxSuffixes)
	n = 1
	for i := first; i <= labels-2; i++ {
		into[n] = maphash.Bytes(p.seed, name[starts[i]:])
		n++
	}
	return n
}

// now is the age, in half-lives since the start.
func (p *Popularity) now() uint8 { return uint8(max(0, p.clock().Sub(p.start)) / popularityAge) }

func (p *Popularity) totalAt(age uint8) float64 {
	return p.total / float64(uint64(1)<<min(age-p.age, 63))
}

// count adds one to what a hash stands for.
func (p *Popularity) count(h uint64) {
	age, print := uint64(p.age), h>>printShift
	at := [sketchRows]uint64{h % sketchWidth, (h * 0x9e3779b97f4a7c15 >> 40) % sketchWidth}
	for i, at := range at {
		c := &p.rows[i][at]
		n := *c >> countShift & maxCount >> min((age-*c)&0xff, 63)
		switch {
		case *c>>printShift == print:
			n = min(n+1, maxCount)
		case n == 0:
			*c, n = print<<printShift, 1
		case n < uint64(len(usurp)) && uint32(p.chance.Uint64()) <= usurp[n]:
			n--
		}
		*c = *c>>printShift<<printShift | n<<countShift | age
	}
}

// Estimate tells how many recent questions were for name (wire form, lower case)
// or one below it, and of how many in all.
func (p *Popularity) Estimate(name []byte) (questions, of float64) {
	h := maphash.Bytes(p.seed, name)
	p.mu.Lock()
	defer p.mu.Unlock()
	age := p.now()
	at := [sketchRows]uint64{h % sketchWidth, (h * 0x9e3779b97f4a7c15 >> 40) % sketchWidth}
	for i, at := range at {
		if c := p.rows[i][at]; c>>printShift == h>>printShift {
			questions = max(questions, float64(c>>countShift&maxCount>>min((uint64(age)-c)&0xff, 63)))
		}
	}
	return questions * float64(p.every), p.totalAt(age)
}
