package blocklist

import (
	"bytes"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// resident is the memory of this process that lies in RAM, in MiB, and the most
// that ever did.
func resident(b *testing.B) (now, most float64) {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("only where /proc tells:", err)
	}
	value := func(key string) float64 {
		_, rest, _ := strings.Cut(string(text), key+":")
		n, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			b.Fatal(err)
		}
		return float64(n) / 1024
	}
	return value("VmRSS"), value("VmHWM")
}

// BenchmarkSwap puts one list after another in force, as a resolver does from the
// decrypted target on: decompress, parse, guard, build, swap one pointer, and give
// the memory of the old one back. Each differs from the one before in a hundredth.
// With -benchtime 1000x it shows whether memory grows.
func BenchmarkSwap(b *testing.B) {
	for _, size := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("names=%d", size), func(b *testing.B) { benchmarkSwap(b, size) })
	}
}

func benchmarkSwap(b *testing.B, size int) {
	var lists [2][]byte
	for i := range lists {
		l := parse(b, frenchText(b))
		one := l.Entries[1]
		l.Entries = nil
		for n, e := range manyEntries(size + size/100) {
			if i == 0 && n < size/100 || i == 1 && n >= size {
				continue
			}
			one.ID, one.Name = fmt.Sprint("2026-", n), e.Name
			l.Entries = append(l.Entries, one)
		}
		var out bytes.Buffer
		if err := Encode(&out, l); err != nil {
			b.Fatal(err)
		}
		lists[i] = out.Bytes()
	}
	p := NewProtected()
	if err := p.AddStarter(); err != nil {
		b.Fatal(err)
	}
	guard, err := NewGuard(GuardConfig{Protected: func() *Protected { return p }, Additions: Bound{Percent: 50}, Removals: Bound{Percent: 50}, Traffic: NewPopularity(time.Now)})
	if err != nil {
		b.Fatal(err)
	}
	st := newStanding("french")
	var inForce atomic.Pointer[Loaded]
	debug.FreeOSMemory()
	before, _ := resident(b)
	// From now on the kernel notes the most anew (proc(5), clear_refs).
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		b.Fatal(err)
	}
	report := cpu(b)
	var one, first float64
	n := 0
	for b.Loop() {
		l, err := Decode(bytes.NewReader(lists[n%2]), Limits{})
		if err != nil {
			b.Fatal(err)
		}
		running := inForce.Load()
		if running != nil {
			if why := guard.size(changeOf(running.List, l), len(running.List.Entries), false); why != "" {
				b.Fatal(why)
			}
		}
		next, err := (&Loaded{Name: "french", List: l}).reviewed(b.Context(), st, guard, running, time.Now())
		if err != nil {
			b.Fatal(err)
		}
		inForce.Store(next)
		running, l, next = nil, nil, nil
		giveBack(inForce.Load().List)
		switch n++; n {
		case 1:
			now, _ := resident(b)
			one = now - before
		case 10:
			first, _ = resident(b)
		}
	}
	report()
	end, most := resident(b)
	end, most = end-before, most-before
	b.ReportMetric(one, "MiB-generation")
	b.ReportMetric(most/one, "generations-most")
	if first > 0 {
		b.ReportMetric(first-before, "MiB-after-10")
	}
	b.ReportMetric(end, "MiB-at-end")
	b.ReportMetric(most, "MiB-most")
}
