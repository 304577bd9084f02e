package blocklog

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fill makes the disk full, or gives it all the room there is.
func (d *faulty) fill(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limited, d.room = full, 0
}

// gapsIn reads the gap events.
func gapsIn(t *testing.T, records []Record) (all []Gap) {
	t.Helper()
	for _, r := range records {
		if r.Event == nil || r.Event.Kind != "gap" {
			continue
		}
		var g Gap
		if err := json.Unmarshal(r.Event.Data, &g); err != nil {
			t.Fatal(err)
		}
		all = append(all, g)
	}
	return all
}

// spooling is a journal on a faulty disk that keeps what cannot be written. It
// does not write by itself what waits: a test calls drain.
func spooling(t *testing.T, room int64) (*Journal, *faulty, string, *[]Alarm) {
	t.Helper()
	dir, disk, alarms := t.TempDir(), &faulty{}, &[]Alarm{}
	j := open(t, dir, Options{
		files: disk, SpoolBytes: room, SyncInterval: time.Hour,
		Alarm: func(a Alarm) { *alarms = append(*alarms, a) },
	})
	return j, disk, dir, alarms
}

func TestWhileTheDiskIsFullRecordsWaitAndAreThenWrittenInTheirOrder(t *testing.T) {
	j, disk, dir, alarms := spooling(t, 1<<20)
	mustAppend(t, j, decision("before.example", 1))
	disk.fill(true)
	mustAppend(t, j, decision("a.example", 1), decision("b.example", 2))
	if !j.Failing() || len(*alarms) != 1 || !errors.Is((*alarms)[0].Err, unix.ENOSPC) {
		t.Fatalf("failing %v, alarms %+v", j.Failing(), *alarms)
	}
	if err := j.Event("list.applied", struct{}{}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, decision("c.example", 1))
	j.drain() // the disk is still full
	if s := j.Stats(); s.Waiting != 4 || s.Next != 6 || s.Records != 1 {
		t.Fatalf("stats %+v", s)
	}
	disk.fill(false)
	j.drain()
	mustAppend(t, j, decision("after.example", 1))
	want := []string{"before.example×1", "a.example×1", "b.example×2", "list.applied", "c.example×1", "after.example×1"}
	if got := names(readAll(t, dir, 1)); !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
	if j.Failing() || len(*alarms) != 2 || (*alarms)[1] != (Alarm{Records: 4}) {
		t.Errorf("failing %v, alarms %+v", j.Failing(), *alarms)
	}
}

func TestWhatTheSpoolCannotHoldIsAGapWithItsCount(t *testing.T) {
	d := decision("a0.example", 1)
	size := int64(len(appendDecision(nil, 1, 0, &d)))
	j, disk, dir, alarms := spooling(t, 3*size)
	disk.fill(true)
	for i := range 3 {
		mustAppend(t, j, decision(fmt.Sprintf("a%d.example", i), 1))
	}
	mustAppend(t, j, decision("lost.example", 5), decision("lost.example", 2), decision("lost2.example", 1))
	if err := j.Event("list.applied", struct{}{}); err != nil { // events find room, and what is missing before them is told first
		t.Fatal(err)
	}
	mustAppend(t, j, decision("x.example", 1)) // would fit no better
	if s := j.Stats(); s.Missing != 9 {
		t.Errorf("%d are missing", s.Missing)
	}
	disk.fill(false)
	j.drain()
	mustAppend(t, j, decision("after.example", 1))
	records := readAll(t, dir, 1)
	want := []string{"a0.example×1", "a1.example×1", "a2.example×1", "gap", "list.applied", "gap", "after.example×1"}
	if got := names(records); !slices.Equal(got, want) {
		t.Fatalf("read %v, want %v", got, want)
	}
	gaps := gapsIn(t, records)
	if gaps[0].Count != 8 || gaps[1].Count != 1 || !gaps[0].From.Equal(noon) || !strings.Contains(gaps[0].Reason, "no space") {
		t.Errorf("gaps %+v", gaps)
	}
	if n := len(*alarms); n != 3 || !(*alarms)[1].Full || (*alarms)[2].Missing != 9 {
		t.Errorf("alarms %+v", *alarms)
	}
}

func TestEventsPastTheirReserveFail(t *testing.T) {
	j, disk, _, _ := spooling(t, 1)
	disk.fill(true)
	mustAppend(t, j, decision("lost.example", 1))
	large := map[string]string{"text": strings.Repeat("x", 50000)}
	for range eventReserve/50000 + 1 {
		if err := j.Event("list.refused", large); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Errorf("Event gave %v", err)
			}
			return
		}
	}
	t.Error("the spool took events without end")
}

func TestWithoutASpoolRefusalsAreInTheGap(t *testing.T) {
	j, disk, dir, _ := spooling(t, 0)
	disk.fill(true)
	if err := j.Append([]Decision{decision("withheld.example", 1)}); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("Append gave %v", err)
	}
	j.Refuse(1)
	j.Refuse(41)
	j.drain()
	if !j.Failing() {
		t.Fatal("not failing, though nothing can be written")
	}
	disk.fill(false)
	j.drain()
	if j.Failing() {
		t.Fatal("still failing")
	}
	j.Refuse(3) // decided a moment ago
	mustAppend(t, j, decision("after.example", 1))
	records := readAll(t, dir, 1)
	if got := names(records); !slices.Equal(got, []string{"gap", "gap", "after.example×1"}) {
		t.Fatalf("read %v", got)
	}
	if g := gapsIn(t, records); g[0].Refused != 42 || g[0].Count != 0 || g[1].Refused != 3 {
		t.Errorf("gaps %+v", g)
	}
}

func TestClosingSaysWhatIsLost(t *testing.T) {
	j, disk, _, _ := spooling(t, 1<<20)
	disk.fill(true)
	mustAppend(t, j, decision("a.example", 1))
	if err := j.Close(); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "1 records") {
		t.Errorf("Close gave %v", err)
	}
	j, disk, dir, _ := spooling(t, 1<<20)
	disk.fill(true)
	mustAppend(t, j, decision("a.example", 1))
	disk.fill(false)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := names(readAll(t, dir, 1)); !slices.Equal(got, []string{"a.example×1"}) {
		t.Errorf("read %v", got)
	}
}

// TestADiskThatComesAndGoesLosesNoCount has a disk change its mind at random:
// every decision is on record or in the count of a gap, once, and in order.
func TestADiskThatComesAndGoesLosesNoCount(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for range 50 {
		j, disk, dir, _ := spooling(t, int64(random.IntN(2000)+1))
		asked := uint64(0)
		for i := range 200 {
			switch random.IntN(8) {
			case 0:
				disk.mu.Lock()
				disk.limited, disk.room = true, random.IntN(500)
				disk.mu.Unlock()
			case 1:
				disk.fill(false)
				j.drain()
			case 2:
				j.drain()
			default:
				batch := make([]Decision, 1+random.IntN(3))
				for k := range batch {
					batch[k] = decision(fmt.Sprintf("n%04d.example", i), uint32(1+random.IntN(3)))
					batch[k].Type = uint16(k + 1)
					asked += uint64(batch[k].Count)
				}
				mustAppend(t, j, batch...)
			}
		}
		disk.fill(false)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		records := readAll(t, dir, 1)
		found, last := uint64(0), ""
		for _, r := range records {
			if r.Decision == nil {
				continue
			}
			found += uint64(r.Decision.Count)
			if name := NameText(r.Decision.Name); name < last {
				t.Fatalf("%s stands behind %s", name, last)
			} else {
				last = name
			}
		}
		for _, g := range gapsIn(t, records) {
			found += g.Count
		}
		if found != asked {
			t.Fatalf("%d decisions, %d on record or counted", asked, found)
		}
	}
}

// TestOnATmpfsThatIsFull fills a real file system.
func TestOnATmpfsThatIsFull(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount a tmpfs, which this test has to do where everything has to run: %v", err)
		}
		t.Skipf("mount a tmpfs (needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	j := open(t, filepath.Join(dir, "blocklog"), Options{SpoolBytes: 20_000, SyncInterval: 10 * time.Millisecond})
	if err := os.WriteFile(ballast, make([]byte, 40_000), 0o600); err != nil {
		t.Fatal(err)
	}
	asked := uint64(0)
	for j.Stats().Missing == 0 {
		mustAppend(t, j, decision(fmt.Sprintf("n%d.example", asked), 1))
		asked++
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for j.Failing() { // the journal tries by itself
		time.Sleep(time.Millisecond)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	records := readAll(t, filepath.Join(dir, "blocklog"), 1)
	gaps := gapsIn(t, records)
	if len(gaps) != 1 || gaps[0].Count != 1 || uint64(len(records)-1)+gaps[0].Count != asked {
		t.Errorf("%d records, gaps %+v, for %d decisions", len(records), gaps, asked)
	}
}
