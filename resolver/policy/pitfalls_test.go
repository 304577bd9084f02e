package policy

import (
	"fmt"
	"runtime"
	"testing"

	"cordon/blocklist"
)

// Unbound #1450: what a reload leaves behind adds up. A thousand lists go through,
// of a size of which a hundred would show.
func TestAThousandSwapsLeaveNoMemoryBehind(t *testing.T) {
	const names, swaps = 500, 1000
	entries := func() []blocklist.Entry {
		var all []blocklist.Entry
		for i := range names {
			all = append(all, entry(fmt.Sprint("id-", i), fmt.Sprintf("listed-%d.example", i), blocklist.ScopeDomain, "terrorism"))
		}
		return all
	}
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	start := heap()
	p := enforcing(t, entries()...)
	before := heap()
	one := before - start
	if one < 10_000 {
		t.Fatalf("a list takes %d bytes: the test would see nothing", one)
	}
	for serial := range uint64(swaps) {
		apply(t, p, "national", 100+serial, entries()...)
		if _, ok := p.Current().Match(wireName(t, "www.listed-7.example.")); !ok {
			t.Fatalf("list %d does not block", serial)
		}
	}
	if grown := heap() - before; grown > 3*one {
		t.Errorf("%d bytes more after %d swaps of a list of %d bytes", grown, swaps, one)
	}
	runtime.KeepAlive(p)
}
