package blocklog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// faulty is a disk on which things go wrong. The zero value works.
type faulty struct {
	mu      sync.Mutex
	room    int   // bytes that still fit when limited
	limited bool  // ENOSPC once room is used up
	dead    bool  // crashed: every operation fails and does nothing
	crash   bool  // running out of room is a crash
	syncErr error // what fsync of a file gives
	noCut   error // what Truncate gives
	noMake  error // what create gives
	writes  int
	synced  chan struct{} // a value for each fsync, when set
}

type faultyFile struct {
	disk *faulty
	f    file
}

var errCrashed = errors.New("crashed")

func (d *faulty) create(path string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return nil, errCrashed
	}
	if d.noMake != nil {
		return nil, d.noMake
	}
	f, err := osFiles{}.create(path)
	return faultyFile{d, f}, err
}

func (d *faulty) open(path string) (file, error) {
	f, err := osFiles{}.open(path)
	return faultyFile{d, f}, err
}

func (d *faulty) remove(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errCrashed
	}
	return os.Remove(path)
}

func (d *faulty) syncDir(string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errCrashed
	}
	return nil
}

func (f faultyFile) WriteAt(b []byte, off int64) (int, error) {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return 0, errCrashed
	}
	d.writes++
	if !d.limited || len(b) <= d.room {
		d.room -= len(b)
		return f.f.WriteAt(b, off)
	}
	n, err := f.f.WriteAt(b[:d.room], off)
	d.room = 0
	if err == nil {
		err = unix.ENOSPC
	}
	if d.crash {
		d.dead = true
	}
	return n, err
}

func (f faultyFile) Truncate(size int64) error {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errCrashed
	}
	if d.noCut != nil {
		return d.noCut
	}
	return f.f.Truncate(size)
}

func (f faultyFile) Sync() error {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.synced != nil {
		select {
		case d.synced <- struct{}{}:
		default:
		}
	}
	return d.syncErr
}

func (f faultyFile) Close() error { return f.f.Close() }

func TestABatchIsOneWrite(t *testing.T) {
	disk := &faulty{}
	j := open(t, t.TempDir(), Options{files: disk})
	disk.writes = 0
	mustAppend(t, j, decision("a.example", 1), decision("b.example", 1), decision("a.example", 1))
	if disk.writes != 1 {
		t.Errorf("%d writes", disk.writes)
	}
}

func TestAFullDiskLosesNoNumberAndLeavesNoHalfRecord(t *testing.T) {
	batch := []Decision{decision("a.example", 1), decision("b.example", 1), decision("c.example", 1)}
	size := len(appendDecision(nil, 1, 0, &batch[0]))
	for room := range 3 * size {
		dir := t.TempDir()
		disk := &faulty{}
		j := open(t, dir, Options{files: disk})
		mustAppend(t, j, decision("first.example", 1))
		disk.limited, disk.room = true, room
		if err := j.Append(batch); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("room for %d bytes: Append gave %v", room, err)
		}
		disk.limited = false
		mustAppend(t, j, decision("last.example", 1))
		want := []string{"first.example×1"}
		for i := range room / size { // those that stood whole may have been read
			want = append(want, NameText(batch[i].Name)+"×1")
		}
		want = append(want, "gap", "last.example×1")
		if got := names(readAll(t, dir, 1)); !slices.Equal(got, want) {
			t.Fatalf("room for %d bytes: read %v, want %v", room, got, want)
		}
		j.Close()
		if j := open(t, dir, Options{}); j.Repaired() != (Repair{}) {
			t.Fatalf("room for %d bytes: half a record was left: %+v", room, j.Repaired())
		}
	}
}

func TestWhileAHalfRecordCannotBeRemovedNothingFollowsIt(t *testing.T) {
	dir := t.TempDir()
	disk := &faulty{}
	j := open(t, dir, Options{files: disk})
	disk.limited, disk.room, disk.noCut = true, 10, unix.EIO
	if err := j.Append([]Decision{decision("a.example", 1)}); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	disk.limited = false
	if err := j.Append([]Decision{decision("b.example", 1)}); !errors.Is(err, unix.EIO) {
		t.Fatalf("Append behind a half record gave %v", err)
	}
	if got := readAll(t, dir, 1); len(got) != 0 {
		t.Fatalf("read %v", names(got))
	}
	disk.noCut = nil
	mustAppend(t, j, decision("c.example", 1))
	if got := names(readAll(t, dir, 1)); !slices.Equal(got, []string{"gap", "c.example×1"}) {
		t.Fatalf("read %v", got)
	}
	if s := j.Stats(); s.FailedWrites != 2 || s.Next != 3 {
		t.Errorf("stats are %+v", s)
	}
}

func TestASegmentThatCannotBeMadeDelaysRotationOnly(t *testing.T) {
	dir := t.TempDir()
	disk := &faulty{}
	j := open(t, dir, Options{files: disk, SegmentBytes: 1})
	mustAppend(t, j, decision("a.example", 1))
	disk.noMake = unix.EMFILE
	mustAppend(t, j, decision("b.example", 1))
	if firsts, _ := segments(dir); !slices.Equal(firsts, []uint64{1}) {
		t.Fatalf("segments are %v", firsts)
	}
	disk.noMake = nil
	mustAppend(t, j, decision("c.example", 1))
	if firsts, _ := segments(dir); !slices.Equal(firsts, []uint64{1, 3}) {
		t.Fatalf("segments are %v", firsts)
	}
	// No room for the header: the unfinished segment goes away.
	disk.limited, disk.room = true, 5
	if err := j.Append([]Decision{decision("d.example", 1)}); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	disk.limited = false
	mustAppend(t, j, decision("e.example", 1))
	if got := names(readAll(t, dir, 1)); !slices.Equal(got, []string{"a.example×1", "b.example×1", "c.example×1", "gap", "e.example×1"}) {
		t.Fatalf("read %v", got)
	}
}

func TestWhatWasWrittenIsSyncedInTheBackgroundAndFailuresCount(t *testing.T) {
	disk := &faulty{synced: make(chan struct{}, 1), syncErr: unix.EIO}
	if _, err := Open(t.TempDir(), Options{files: disk}); !errors.Is(err, unix.EIO) {
		t.Fatalf("Open gave %v, though the header is not durable", err)
	}
	disk.syncErr = nil
	j := open(t, t.TempDir(), Options{files: disk, SyncInterval: time.Millisecond})
	<-disk.synced // of Open
	disk.mu.Lock()
	disk.syncErr = unix.EIO
	disk.mu.Unlock()
	mustAppend(t, j, decision("a.example", 1))
	<-disk.synced
	<-disk.synced // it stays dirty and is tried again
	if err := j.Close(); !errors.Is(err, unix.EIO) {
		t.Errorf("Close gave %v", err)
	}
	if s := j.Stats(); s.FailedSyncs == 0 || s.Next != 2 {
		t.Errorf("stats are %+v", s)
	}
}

// A crash after each byte that is ever written: what Append acknowledged is
// there, in order, and the journal goes on.
func TestACrashAtAnyByteLosesNothingThatWasAcknowledged(t *testing.T) {
	work := func(dir string, disk *faulty) (acknowledged int) {
		j, err := Open(dir, Options{files: disk, Clock: atNoon, SegmentBytes: 200})
		if err != nil {
			return 0
		}
		defer j.Close()
		for i := range 6 {
			batch := []Decision{decision(fmt.Sprintf("a%d.example", i), 1), decision(fmt.Sprintf("b%d.example", i), 1)}
			if err := j.Append(batch[:1+i%2]); err != nil {
				return acknowledged
			}
			acknowledged += 1 + i%2
		}
		return acknowledged
	}
	var want []string
	for i := range 6 {
		want = append(want, fmt.Sprintf("a%d.example×1", i))
		if i%2 == 1 {
			want = append(want, fmt.Sprintf("b%d.example×1", i))
		}
	}
	for room := 0; ; room++ {
		dir := t.TempDir()
		disk := &faulty{limited: true, room: room, crash: true}
		acknowledged := work(dir, disk)
		if !disk.dead {
			if acknowledged != len(want) {
				t.Fatalf("without a crash %d records were acknowledged, want %d", acknowledged, len(want))
			}
			return
		}
		j, err := Open(dir, Options{files: &faulty{}, Clock: atNoon})
		if err != nil {
			t.Fatalf("crash after %d bytes: %v", room, err)
		}
		mustAppend(t, j, decision("after.example", 1))
		j.Close()
		got := names(readAll(t, dir, 1))
		if len(got) < acknowledged+1 || !slices.Equal(got[:len(got)-1], want[:len(got)-1]) {
			t.Fatalf("crash after %d bytes, %d acknowledged: read %v", room, acknowledged, got)
		}
	}
}

// appendUntilKilled is the child of the test below: it prints the number of
// each record after Append has returned.
func appendUntilKilled(dir string) {
	j, err := Open(dir, Options{SegmentBytes: 10000, Clock: time.Now})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		batch := []Decision{decision(fmt.Sprintf("a%d.example", i), 1), decision(fmt.Sprintf("b%d.example", i), 1)}
		if err := j.Append(batch); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(j.Stats().Next)
	}
}

func TestKillingTheWriterLosesNothingThatWasAcknowledged(t *testing.T) {
	dir := t.TempDir()
	for range 5 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "CORDON_TEST_APPEND_UNTIL_KILLED="+dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		var next uint64
		for n := 50 + rand.IntN(500); n > 0 && lines.Scan(); n-- {
			if _, err := fmt.Sscan(lines.Text(), &next); err != nil {
				t.Fatalf("the child says %q", lines.Text())
			}
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it acknowledged before it died
			fmt.Sscan(lines.Text(), &next)
		}
		io.Copy(io.Discard, out)
		c.Wait() // "signal: killed"
		j := open(t, dir, Options{})
		if j.Repaired().Damage != "" {
			t.Fatalf("damage: %+v", j.Repaired())
		}
		j.Close()
		if got := uint64(len(readAll(t, dir, 1))); got+1 < next {
			t.Fatalf("%d records were acknowledged, %d are there", next-1, got)
		}
	}
}
