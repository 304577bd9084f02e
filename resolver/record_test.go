package resolver

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"cordon/blocklog"
	"cordon/resolver/transport"
)

// smallDisk is a file system of 64 KiB, and what fills it and makes room again.
func smallDisk(t *testing.T) (disk string, fill, free func()) {
	t.Helper()
	disk = filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount a tmpfs, which this test has to do where everything has to run: %v", err)
		}
		t.Skipf("mount a tmpfs (needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(disk, "ballast")
	fill = func() {
		f, err := os.Create(ballast)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
	}
	free = func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
	return disk, fill, free
}

// onSmallDisk is a resolver whose block log stands on a small disk.
func onSmallDisk(t *testing.T, onFailure string) (r *Resolver, fill, free func()) {
	t.Helper()
	disk, fill, free := smallDisk(t)
	r = newResolver(t, newInternet(t, "www.libre.example. 3600 IN A 192.0.2.10"))
	if err := r.journal.Close(); err != nil {
		t.Fatal(err)
	}
	r.config.Blocklog = BlocklogConfig{Dir: filepath.Join(disk, "blocklog"), OnFailure: onFailure, SpoolBytes: 64 << 10}
	o := r.config.Blocklog.options(time.Now, r.alarmed)
	o.SyncInterval = 5 * time.Millisecond
	var err error
	if r.journal, err = blocklog.Open(r.config.Blocklog.Dir, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close) // before the file system goes
	enforce(t, r, 1, "propagande.example")
	return r, fill, free
}

// askUntilFull asks for listed names until the journal fails (a page of the file
// may still have room), and says how many were asked.
func askUntilFull(t *testing.T, r *Resolver) (asked int) {
	t.Helper()
	s := r.Session()
	packet, err := question("www.propagande.example.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for !r.journal.Failing() {
		if _, verdict := s.Answer(nil, packet, client); verdict != transport.Reply {
			t.Fatalf("verdict %v", verdict)
		}
		_ = s.Commit()
		asked++
	}
	return asked
}

func waitUntilWritten(r *Resolver) {
	for r.journal.Failing() {
		time.Sleep(time.Millisecond)
	}
}

func TestOnAFullDiskNamesStayBlockedAndTheirRecordsFollow(t *testing.T) {
	r, fill, free := onSmallDisk(t, onFailureSpool)
	fill()
	asked := askUntilFull(t, r)
	for range 100 {
		if reply, _ := ask(t, r, question("www.propagande.example.", dns.TypeA), client); !blocked(reply) {
			t.Fatalf("reply %v", reply)
		}
		asked++
	}
	if reply, _ := ask(t, r, question("www.libre.example.", dns.TypeA), client); blocked(reply) || len(reply.Answer) != 1 {
		t.Errorf("a name that is not listed: %v", reply)
	}
	gathered, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range gathered {
		if m.GetName() == "cordon_blocklog_failing" && m.GetMetric()[0].GetGauge().GetValue() != 1 {
			t.Error("no alarm")
		}
	}
	free()
	waitUntilWritten(r)
	if got := len(decisions(t, r)); got != asked {
		t.Errorf("%d decisions on record, %d names were blocked", got, asked)
	}
	if got := testutil.ToFloat64(r.metrics.unrecorded); got != 0 {
		t.Errorf("%v answers were withheld", got)
	}
}

func TestOnAFullDiskListedNamesGetServfailWhereThatIsWanted(t *testing.T) {
	r, fill, free := onSmallDisk(t, onFailureServfail)
	fill()
	asked := askUntilFull(t, r) // the last one was withheld
	const refused = 10
	for range refused {
		reply, _ := ask(t, r, question("www.propagande.example.", dns.TypeA), client)
		if reply.Rcode != dns.RcodeServerFailure || blocked(reply) || len(reply.Answer) != 0 {
			t.Fatalf("reply %v", reply)
		}
	}
	if reply, _ := ask(t, r, question("www.libre.example.", dns.TypeA), client); len(reply.Answer) != 1 {
		t.Errorf("a name that is not listed: %v", reply)
	}
	free()
	waitUntilWritten(r)
	if reply, _ := ask(t, r, question("www.propagande.example.", dns.TypeA), client); !blocked(reply) {
		t.Errorf("with room again: %v", reply)
	}
	var gap blocklog.Gap
	for _, record := range records(t, r.config.Blocklog.Dir) {
		if record.Event != nil && record.Event.Kind == "gap" {
			if err := json.Unmarshal(record.Event.Data, &gap); err != nil {
				t.Fatal(err)
			}
		}
	}
	if gap.Refused != refused+1 || gap.Count != 0 || !strings.Contains(gap.Reason, "no space") {
		t.Errorf("gap %+v", gap)
	}
	if got := len(decisions(t, r)); got != asked { // without the withheld one, with the last
		t.Errorf("%d decisions on record, want %d", got, asked)
	}
}

func TestAnUnknownWayToFailIsRefused(t *testing.T) {
	for _, c := range []BlocklogConfig{{OnFailure: "ignore"}, {SpoolBytes: 1}, {SpoolBytes: 1 << 40}} {
		if err := c.check(); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

// withMillion is a session of a resolver that has a million names listed and
// one in its cache.
func withMillion(b *testing.B) transport.Session {
	n := newInternet(b, "www.libre.example. 86400 IN A 192.0.2.10")
	r := newResolver(b, n)
	names := make([]string, 1_000_000)
	for i := range names {
		names[i] = benchName(i)
	}
	enforce(b, r, 1, names...)
	ask(b, r, question("www.libre.example.", dns.TypeA), client)
	return r.Session()
}

func benchName(i int) string { return fmt.Sprintf("listed%07d.example", i) }

// benchmarkAnswers answers packets by batches of 64, each with its Commit. A batch
// lies in buffers that have just been written, as the kernel leaves it: the packets
// of the benchmark itself would be another miss of the processor's cache for each.
func benchmarkAnswers(b *testing.B, s transport.Session, packets [][]byte) {
	const batch = 64
	buf := make([]byte, 0, 1500)
	var received [batch][]byte
	b.ReportAllocs()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var spent time.Duration
	i := 0
	for b.Loop() {
		if i%batch == 0 {
			for j := range received {
				received[j] = append(received[j][:0], packets[(i+j)%len(packets)]...)
			}
			spent -= threadTime(b)
		}
		if _, verdict := s.Answer(buf, received[i%batch], client); verdict != transport.Reply {
			b.Fatalf("verdict %v", verdict)
		}
		if i++; i%batch == 0 {
			if err := s.Commit(); err != nil {
				b.Fatal(err)
			}
			spent += threadTime(b)
		}
	}
	if i%batch != 0 {
		spent += threadTime(b)
	}
	b.ReportMetric(float64(spent)/float64(b.N), "cpu-ns/op")
}

// threadTime is the processor's time of this thread, which holds on a machine
// that has other work to do, where ns/op does not.
func threadTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCachedAnswer is all of user space but the transport for a name that
// is in the cache, with a million names listed: at most 400 ns and 0 allocations.
func BenchmarkCachedAnswer(b *testing.B) {
	s := withMillion(b)
	packet, err := question("www.libre.example.", dns.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	benchmarkAnswers(b, s, [][]byte{packet})
}

// BenchmarkBlockedAnswer is the same for names that are listed, with their
// records in the block log, in batches of 64: at most 500 ns and 0 allocations.
// With many different names each is a few misses of the processor's cache.
func BenchmarkBlockedAnswer(b *testing.B) {
	s := withMillion(b)
	for _, asked := range []int{64, 4096} {
		b.Run(fmt.Sprintf("different=%d", asked), func(b *testing.B) {
			packets := make([][]byte, asked)
			for i := range packets {
				var err error
				if packets[i], err = question("www."+benchName(i*(1_000_000/asked))+".", dns.TypeA).Pack(); err != nil {
					b.Fatal(err)
				}
			}
			benchmarkAnswers(b, s, packets)
		})
	}
}
