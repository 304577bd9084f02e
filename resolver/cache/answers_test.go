package cache

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/wire"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func wireName(t testing.TB, text string) []byte {
	t.Helper()
	name, err := wire.ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// reply is a stored reply with n addresses.
func reply(t testing.TB, name []byte, n int) *wire.Stored {
	t.Helper()
	o := wire.Outcome{Name: name, Type: dns.TypeA}
	for i := range n {
		o.Answer = append(o.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: wire.NameText(name), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300},
			A:   binary.BigEndian.AppendUint32(nil, uint32(i)),
		})
	}
	s, err := wire.Store(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAnswersAreFoundUntilTheyExpire(t *testing.T) {
	c := NewAnswers(1 << 20)
	name := wireName(t, "www.example")
	r := reply(t, name, 1)
	c.Put(name, dns.TypeA, true, false, r, 10*time.Second, start)

	a, ok := c.Get(name, dns.TypeA, true, false, start.Add(9*time.Second+time.Second/2))
	if !ok || a.Stored != r {
		t.Fatalf("Get = %v, %v", a, ok)
	}
	if age := a.Age(start.Add(9*time.Second + time.Second/2)); age != 9 {
		t.Errorf("Age = %d, want 9", age)
	}
	if age := a.Age(start.Add(-time.Hour)); age != 0 {
		t.Errorf("Age = %d with a clock set back, want 0", age)
	}
	if _, ok := c.Get(name, dns.TypeA, true, false, start.Add(10*time.Second)); ok {
		t.Error("an expired answer was found")
	}
	if s := c.Stats(); s.Entries != 0 || s.Hits != 1 || s.Misses != 1 || s.Stored != 1 {
		t.Errorf("Stats = %+v", s)
	}
}

func TestAnAnswerIsDueOnceInTheLastTenthOfItsLife(t *testing.T) {
	c := NewAnswers(1 << 20)
	for _, q := range []struct {
		name  string
		ttl   time.Duration
		rcode int
		at    time.Duration
		due   bool
	}{
		{"early", 100 * time.Second, dns.RcodeSuccess, 89 * time.Second, false},
		{"late", 100 * time.Second, dns.RcodeSuccess, 90 * time.Second, true},
		{"a denial", 100 * time.Second, dns.RcodeNameError, 99 * time.Second, true},
		{"a failure", 100 * time.Second, dns.RcodeServerFailure, 99 * time.Second, false},
		{"a short life", 9 * time.Second, dns.RcodeSuccess, 8900 * time.Millisecond, false},
		{"after its end", 100 * time.Second, dns.RcodeSuccess, 100 * time.Second, false},
	} {
		name := wireName(t, "www.example")
		r := *reply(t, name, 1)
		r.Rcode = q.rcode
		c.Put(name, dns.TypeA, false, false, &r, q.ttl, start)
		a, ok := c.Get(name, dns.TypeA, false, false, start)
		if !ok {
			t.Fatal("not kept")
		}
		now := start.Add(q.at)
		if got := a.Due(now); got != q.due {
			t.Errorf("%s: due: %t", q.name, got)
		}
		if a.Due(now) {
			t.Errorf("%s: due twice", q.name)
		}
		if left := a.Left(now); left != q.ttl-q.at {
			t.Errorf("%s: %s left", q.name, left)
		}
	}
}

func TestAnswersAreKeptApartByWhatChangesThem(t *testing.T) {
	c := NewAnswers(1 << 20)
	name := wireName(t, "www.example")
	c.Put(name, dns.TypeA, true, true, reply(t, name, 1), time.Minute, start)
	for _, k := range []struct {
		name   string
		typ    uint16
		do, cd bool
	}{
		{"www.example", dns.TypeA, true, false},
		{"www.example", dns.TypeA, false, true},
		{"www.example", dns.TypeAAAA, true, true},
		{"ww.example", dns.TypeA, true, true},
		{"example", dns.TypeA, true, true},
	} {
		if _, ok := c.Get(wireName(t, k.name), k.typ, k.do, k.cd, start); ok {
			t.Errorf("%+v got the answer of another question", k)
		}
	}
	if _, ok := c.Get(name, dns.TypeA, true, true, start); !ok {
		t.Error("the answer itself is gone")
	}
}

func TestAnswersWithoutTTLOrTooLargeAreNotKept(t *testing.T) {
	c := NewAnswers(64 << 10)
	name := wireName(t, "www.example")
	c.Put(name, dns.TypeA, false, false, reply(t, name, 1), 0, start)
	c.Put(name, dns.TypeNS, false, false, reply(t, name, 1000), time.Minute, start)
	if s := c.Stats(); s.Entries != 0 || s.Stored != 0 {
		t.Errorf("Stats = %+v", s)
	}
}

func TestATooLargeAnswerReplacesTheOldOneByNothing(t *testing.T) {
	c := NewAnswers(64 << 10)
	name := wireName(t, "www.example")
	c.Put(name, dns.TypeA, false, false, reply(t, name, 1), time.Minute, start)
	c.Put(name, dns.TypeA, false, false, reply(t, name, 1000), time.Minute, start)
	if _, ok := c.Get(name, dns.TypeA, false, false, start); ok {
		t.Error("an answer that was superseded is still served")
	}
}

func TestFlushDropsANameAndWhatIsBelow(t *testing.T) {
	names := []string{"example", "www.example", "a.www.example", "xwww.example", "other"}
	for _, tt := range []struct {
		below bool
		left  []string
	}{
		{false, []string{"example", "a.www.example", "xwww.example", "other"}},
		{true, []string{"example", "xwww.example", "other"}},
	} {
		c := NewAnswers(1 << 20)
		for _, n := range names {
			c.Put(wireName(t, n), dns.TypeA, false, false, reply(t, wireName(t, n), 1), time.Minute, start)
		}
		if got := c.Flush(wireName(t, "www.example"), tt.below, 0); got != len(names)-len(tt.left) {
			t.Errorf("Flush(below %v) = %d", tt.below, got)
		}
		for _, n := range tt.left {
			if _, ok := c.Get(wireName(t, n), dns.TypeA, false, false, start); !ok {
				t.Errorf("Flush(below %v) dropped %s", tt.below, n)
			}
		}
		if s := c.Stats(); s.Entries != int64(len(tt.left)) {
			t.Errorf("Flush(below %v) left %d entries", tt.below, s.Entries)
		}
	}
	c := NewAnswers(1 << 20)
	c.Put(wireName(t, "example"), dns.TypeA, false, false, reply(t, wireName(t, "example"), 1), time.Minute, start)
	if got := c.Flush(wireName(t, "."), true, 0); got != 1 {
		t.Errorf("Flush of everything below the root = %d", got)
	}
}

func TestABurstOfNamesAskedOnceLeavesThePopularOnes(t *testing.T) {
	c := NewAnswers(256 << 10)
	popular := func(i int) []byte { return wireName(t, fmt.Sprintf("popular%d.example", i)) }
	const many = 100
	for i := range many {
		c.Put(popular(i), dns.TypeA, false, false, reply(t, popular(i), 1), time.Hour, start)
		c.Get(popular(i), dns.TypeA, false, false, start)
	}
	for i := range 10_000 {
		name := wireName(t, fmt.Sprintf("r%d.example", i))
		c.Put(name, dns.TypeA, false, false, reply(t, name, 1), time.Hour, start)
	}
	kept := 0
	for i := range many {
		if _, ok := c.Get(popular(i), dns.TypeA, false, false, start); ok {
			kept++
		}
	}
	if kept < many*9/10 {
		t.Errorf("%d of %d popular answers survived", kept, many)
	}
}

func TestANameThatComesBackSoonIsKeptAsPopular(t *testing.T) {
	c := NewAnswers(64 << 10)
	put := func(text string) {
		name := wireName(t, text)
		c.Put(name, dns.TypeA, false, false, reply(t, name, 1), time.Hour, start)
	}
	found := func(text string) bool {
		_, ok := c.Get(wireName(t, text), dns.TypeA, false, false, start)
		return ok
	}
	fill := func(from string) {
		for i := 0; c.Stats().Evicted == 0 || i < 20; i++ {
			put(fmt.Sprintf("%s%d.example", from, i))
		}
	}
	put("again.example")
	fill("a")
	if found("again.example") {
		t.Fatal("the oldest answer, asked once, was not evicted")
	}
	put("again.example") // remembered as evicted: goes to the main queue
	fill("b")
	fill("c")
	if !found("again.example") {
		t.Error("an answer that came back was evicted again at once")
	}
}

// TestTheByteBoundIsOfRealMemory fills caches with replies of different sizes
// and compares the bound with the heap.
func TestTheByteBoundIsOfRealMemory(t *testing.T) {
	const bound = 8 << 20
	for _, records := range []int{0, 1, 20, 200} {
		t.Run(fmt.Sprintf("%d records", records), func(t *testing.T) {
			before := heap()
			c := NewAnswers(bound)
			for i := 0; c.Stats().Evicted < 1000; i++ {
				name := wireName(t, fmt.Sprintf("name-number-%d.example", i))
				c.Put(name, dns.TypeA, false, false, reply(t, name, records), time.Hour, start)
			}
			used := heap() - before
			if used > bound*11/10 {
				t.Errorf("%d bytes are used, the bound is %d", used, bound)
			}
			if s := c.Stats(); s.Bytes > bound || s.Bytes < bound*8/10 {
				t.Errorf("Stats = %+v with a bound of %d", s, bound)
			}
			runtime.KeepAlive(c)
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // the first one may leave what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestAnswersAgreeWithAMap runs random operations against a map without a
// bound: what is found is what was stored last, unexpired.
func TestAnswersAgreeWithAMap(t *testing.T) {
	type stored struct {
		reply   *wire.Stored
		expires time.Time
	}
	c := NewAnswers(128 << 10)
	model := make(map[string]stored)
	rng := rand.New(rand.NewPCG(1, 2))
	now := start
	hits := 0
	for range 20_000 {
		now = now.Add(time.Duration(rng.IntN(100)) * time.Millisecond)
		name := wireName(t, fmt.Sprintf("n%d.example", rng.IntN(400)))
		switch rng.IntN(20) {
		case 0:
			c.Flush(name, false, 0)
			delete(model, string(name))
		case 1, 2, 3, 4, 5:
			ttl := time.Duration(rng.IntN(60)) * time.Second
			if ttl == 0 {
				continue
			}
			r := reply(t, name, rng.IntN(10))
			c.Put(name, dns.TypeA, false, false, r, ttl, now)
			model[string(name)] = stored{r, now.Add(ttl)}
		default:
			a, ok := c.Get(name, dns.TypeA, false, false, now)
			if !ok {
				continue
			}
			hits++
			if m := model[string(name)]; m.reply != a.Stored || !now.Before(m.expires) {
				t.Fatalf("Get(%s) returned what is not in force", wire.NameText(name))
			}
		}
		checkShards(t, c)
	}
	if hits < 1000 {
		t.Errorf("only %d hits: the test shows nothing", hits)
	}
}

// checkShards checks what must hold between operations.
func checkShards(t *testing.T, c *Answers) {
	t.Helper()
	for i := range c.shards {
		s := &c.shards[i]
		queued := 0
		var bytes int64
		for _, q := range []*answerQueue{&s.small, &s.main} {
			var inQueue int64
			for e := q.last; e != nil; e = e.prev {
				if e.queue != q || s.entries[e.hash] != e {
					t.Fatal("a queue holds an entry that is not its own")
				}
				queued++
				inQueue += e.cost
			}
			if inQueue != q.bytes {
				t.Fatalf("a queue counts %d bytes, it has %d", q.bytes, inQueue)
			}
			bytes += inQueue
		}
		if queued != len(s.entries) || bytes != s.bytes || s.bytes > s.max {
			t.Fatalf("%d entries, %d queued; %d bytes counted, %d there, at most %d", len(s.entries), queued, s.bytes, bytes, s.max)
		}
	}
}

// FuzzAnswers drives the cache with operations from bytes and checks its
// structure after each.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{0, 1, 9, 1, 1, 0, 2, 1, 0, 3, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		c := NewAnswers(8 << 10)
		now := start
		for ; len(ops) >= 3; ops = ops[3:] {
			name := []byte{1, ops[1] & 15, 0}
			switch ops[0] & 3 {
			case 0:
				c.Put(name, uint16(ops[2]&1), ops[2]&2 != 0, false, reply(t, name, int(ops[2]>>3)), time.Duration(ops[1]>>4)*time.Second, now)
			case 1:
				c.Get(name, uint16(ops[2]&1), ops[2]&2 != 0, false, now)
			case 2:
				now = now.Add(time.Duration(ops[2]) * time.Second / 16)
			case 3:
				c.Flush(name, ops[2]&1 != 0, 0)
			}
			checkShards(t, c)
		}
	})
}

func TestAnswersCanBeUsedByManyAtOnce(t *testing.T) {
	c := NewAnswers(256 << 10)
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 0))
			for range 2000 {
				name := wireName(t, fmt.Sprintf("n%d.example", rng.IntN(300)))
				switch rng.IntN(10) {
				case 0:
					c.Put(name, dns.TypeA, false, false, reply(t, name, 2), time.Minute, start)
				case 1:
					c.Stats()
				case 2:
					c.Flush(name, false, 0)
				default:
					if a, ok := c.Get(name, dns.TypeA, false, false, start); ok && a.TTL != 300 {
						t.Errorf("a broken answer: %+v", a)
					}
				}
			}
		})
	}
	group.Wait()
	checkShards(t, c)
}

func TestAnswersGetDoesNotAllocate(t *testing.T) {
	c := NewAnswers(1 << 20)
	name, other := wireName(t, "www.example"), wireName(t, "other.example")
	c.Put(name, dns.TypeA, true, false, reply(t, name, 1), time.Minute, start)
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := c.Get(name, dns.TypeA, true, false, start); !ok {
			t.Fatal("not found")
		}
		if _, ok := c.Get(other, dns.TypeA, true, false, start); ok {
			t.Fatal("found")
		}
	}); n != 0 {
		t.Errorf("Get allocates %v times", n)
	}
}

func BenchmarkAnswersGet(b *testing.B) {
	c := NewAnswers(64 << 20)
	var names [1024][]byte
	for i := range names {
		names[i] = wireName(b, fmt.Sprintf("www%d.example", i))
		c.Put(names[i], dns.TypeA, true, false, reply(b, names[i], 1), time.Minute, start)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, ok := c.Get(names[i%len(names)], dns.TypeA, true, false, start); !ok {
				b.Fatal("not found")
			}
		}
	})
}
