package blocklist

import (
	"syscall"
	"testing"
	"time"
)

// cpu measures the processor's time of a benchmark, which other programs on the
// same machine disturb less than the clock's.
func cpu(b *testing.B) (report func()) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	from := used()
	return func() { b.ReportMetric(float64((used()-from).Nanoseconds())/float64(b.N), "cpu-ns/op") }
}
