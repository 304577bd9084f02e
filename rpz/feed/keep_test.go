package feed

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"cordon/durable"
	"cordon/durable/durabletest"
)

// filed is a feed from a file, in a bubble.
func filed(t testing.TB, dir string, disk durable.Disk) (f *Feeds, path string) {
	t.Helper()
	path = filepath.Join(dir, "own.rpz")
	f, err := New([]Config{{Name: "own", Zone: origin, File: path, MaxAge: 48 * time.Hour}}, Surroundings{
		Dir: filepath.Join(dir, "store"), StopPages: noPages{}, Clock: time.Now, Log: slog.New(slog.DiscardHandler), Disk: disk,
	})
	if err != nil {
		t.Fatal(err)
	}
	return f, path
}

func put(t testing.TB, path, rules string) {
	t.Helper()
	err := os.WriteFile(path+".new", []byte(head+rules+"\n"), 0o600)
	if err == nil {
		err = os.Chtimes(path+".new", time.Now(), time.Now()) // by the bubble's clock
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAFileIsReadAnewWhenItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, path := filed(t, t.TempDir(), durable.OS{})
		put(t, path, "bad.example CNAME .")
		f.Restore()
		if f.action(t, "bad.example.") != NXDomain {
			t.Fatalf("%+v", f.Status())
		}
		defer running(t, f, &server{})()
		put(t, path, "worse.example CNAME .")
		time.Sleep(3 * filePoll)
		synctest.Wait()
		if f.action(t, "bad.example.") != 0 || f.action(t, "worse.example.") != NXDomain {
			t.Errorf("%+v", f.Status())
		}
	})
}

// TestABadFileLeavesTheGoodOneInForce goes through what becomes of files.
func TestABadFileLeavesTheGoodOneInForce(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, path string)
		want  string
	}{
		{"a line that is none", func(t *testing.T, path string) { put(t, path, "x A 1.2.3") }, "at line: 4"},
		{"no rules", func(t *testing.T, path string) { put(t, path, "") }, "no rule that can be enforced"},
		{"an empty file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "no SOA record"},
		{"no file", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				f, path := filed(t, dir, durable.OS{})
				put(t, path, "bad.example CNAME .")
				f.Restore()
				stop := running(t, f, &server{})
				c.spoil(t, path)
				time.Sleep(3 * filePoll)
				synctest.Wait()
				check := func(f *Feeds) {
					t.Helper()
					got := f.Status()[0]
					if f.action(t, "bad.example.") != NXDomain || !strings.Contains(got.Alarm, "stays") || !strings.Contains(got.Failure, c.want) {
						t.Errorf("%+v; want %q in its failure", got, c.want)
					}
				}
				check(f)
				stop()
				again, _ := filed(t, dir, durable.OS{}) // and over a restart
				again.Restore()
				check(again)
				put(t, path, "worse.example CNAME .")
				defer running(t, again, &server{})()
				time.Sleep(3 * filePoll)
				synctest.Wait()
				if got := again.Status()[0]; got.Alarm != "" || got.Failure != "" || again.action(t, "worse.example.") != NXDomain {
					t.Errorf("mended: %+v", got)
				}
			})
		})
	}
}

func TestAnOldFileIsAnAlarmAndStaysInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, path := filed(t, t.TempDir(), durable.OS{})
		put(t, path, "bad.example CNAME .")
		f.Restore()
		metric := func(name string, want string) {
			t.Helper()
			if err := testutil.CollectAndCompare(f.Collector(), strings.NewReader(want), name); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(47 * time.Hour)
		if got := f.Status()[0]; got.Alarm != "" {
			t.Errorf("%+v", got)
		}
		time.Sleep(2 * time.Hour)
		if got := f.Status()[0]; !got.Stale || f.action(t, "bad.example.") != NXDomain {
			t.Errorf("%+v", got)
		}
		for _, name := range []string{"cordon_feed_stale", "cordon_feed_alarm"} {
			help := map[string]string{
				"cordon_feed_stale": "1 while the feed is older than max_age or its SOA's expire. It stays in force.",
				"cordon_feed_alarm": "1 while nothing of the feed is in force, its newest version is refused, it cannot be kept on disk, or it is stale. cordon-resolver status says why.",
			}[name]
			metric(name, fmt.Sprintf("# HELP %s %s\n# TYPE %[1]s gauge\n%[1]s{feed=\"own\"} 1\n", name, help))
		}
	})
}

// TestAFeedThatStartsWithNothingIsAnAlarm: neither file nor anything kept.
func TestAFeedThatStartsWithNothingIsAnAlarm(t *testing.T) {
	f, _ := filed(t, t.TempDir(), durable.OS{})
	f.Restore()
	if got := f.Status()[0]; got.Loaded || !strings.Contains(got.Alarm, "nothing of this feed is in force") || !strings.Contains(got.Alarm, "no such file") {
		t.Errorf("%+v", got)
	}
}

// TestFeedsShareNothing: what befalls one leaves the others in force.
func TestFeedsShareNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "good.rpz")
	put(t, path, "bad.example CNAME .")
	f, err := New([]Config{{Name: "broken", Zone: "other.example", File: path}, {Name: "good", Zone: origin, File: path}}, Surroundings{
		Dir: filepath.Join(dir, "store"), StopPages: noPages{}, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Restore()
	if s := f.Status(); s[0].Loaded || !strings.Contains(s[0].Failure, "set zone to") || !s[1].Loaded || f.action(t, "bad.example.") != NXDomain {
		t.Errorf("%+v", s)
	}
}

// TestThePowerFailsAtEachStepOfKeeping turns the machine off at each call in which a
// version is kept: at the next start the old version is there or the new, whole.
func TestThePowerFailsAtEachStepOfKeeping(t *testing.T) {
	versions := [][]string{nil, nil}
	for i := range versions {
		versions[i] = append([]string{soaText(uint32(i + 1))}, owned(fmt.Sprintf("v%d.example CNAME .", i+1), "both.example CNAME .")...)
	}
	records := func(v []string) func(func(dns.RR) error) error {
		return func(to func(dns.RR) error) error {
			for _, text := range v {
				rr, err := dns.NewRR(text)
				if err == nil {
					err = to(rr)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	read := func(dir string) (serial uint32, err error) {
		s, err := openStore(dir, durable.OS{})
		if err != nil {
			return 0, err
		}
		n := 0
		_, err = s.load("own", origin, func(rr dns.RR) error {
			n++
			if soa, ok := rr.(*dns.SOA); ok {
				serial = soa.Serial
			}
			return nil
		})
		if err == nil && n != len(versions[0]) {
			err = fmt.Errorf("%d records", n)
		}
		return serial, err
	}
	for _, how := range []durabletest.How{durabletest.Before, durabletest.Half, durabletest.After} {
		for _, loss := range []durabletest.Loss{durabletest.Killed, durabletest.Names, durabletest.Contents} {
			for at := 1; ; at++ {
				dir := filepath.Join(t.TempDir(), "store")
				s, err := openStore(dir, durable.OS{})
				if err == nil {
					err = s.save("own", origin, records(versions[0]))
				}
				if err != nil {
					t.Fatal(err)
				}
				disk := durabletest.New(at, how, loss)
				s.disk = disk
				failed := s.save("own", origin, records(versions[1]))
				disk.PowerOff()
				serial, err := read(dir)
				if err != nil || serial != 1 && serial != 2 || failed == nil && serial != 2 {
					t.Fatalf("%v, %v, call %d: save %v, then serial %d, %v", how, loss, at, failed, serial, err)
				}
				if disk.Calls() < at {
					break
				}
			}
		}
	}
}

func TestADamagedStoreIsNoVersion(t *testing.T) {
	dir := t.TempDir()
	f, path := filed(t, dir, durable.OS{})
	put(t, path, "bad.example CNAME .\n"+strings.Repeat("x", 60)+" CNAME .")
	f.Restore()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(dir, "store", "own.zone")
	whole, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(whole); i += 7 {
		for _, damaged := range [][]byte{whole[:i], append(append([]byte{}, whole[:i]...), append([]byte{whole[i] ^ 0x20}, whole[i+1:]...)...)} {
			if err := os.WriteFile(kept, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			f, _ := filed(t, dir, durable.OS{})
			f.Restore()
			if got := f.Status()[0]; got.Loaded {
				t.Fatalf("with byte %d damaged it was taken: %+v", i, got)
			}
		}
	}
}

// TestAVersionThatCannotBeKeptIsInForceAndAnAlarm has a disk that fails, and then a
// difference to what is in force and not on disk.
func TestAVersionThatCannotBeKeptIsInForceAndAnAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		disk := &fickle{Disk: durable.OS{}}
		f := keeping(t, t.TempDir(), s, func(_ *Config, a *Surroundings) { a.Disk = disk })
		defer running(t, f, s)()
		disk.full = true
		s.set(func() { s.difference(1, 2, nil, []string{"second.example CNAME ."}) })
		time.Sleep(301 * time.Second)
		synctest.Wait()
		if got := f.Status()[0]; got.Serial != 2 || !strings.Contains(got.Alarm, "not on disk") || f.action(t, "second.example.") != NXDomain {
			t.Errorf("%+v", got)
		}
		disk.full = false
		s.set(func() {
			s.zone(3, "bad.example CNAME .", "second.example CNAME .", "third.example CNAME .")
			s.difference(2, 3, nil, []string{"third.example CNAME ."})
		})
		time.Sleep(301 * time.Second)
		synctest.Wait()
		if got := f.Status()[0]; got.Alarm != "" || f.action(t, "second.example.") != NXDomain || f.action(t, "third.example.") != NXDomain {
			t.Errorf("the difference was made to what is on disk: %+v", got)
		}
	})
}

// fickle is a disk that gives no new file while it is full.
type fickle struct {
	durable.Disk
	full bool
}

func (f *fickle) Create(path string, perm os.FileMode) (durable.File, error) {
	if f.full {
		return nil, errors.New("no space left on device")
	}
	return f.Disk.Create(path, perm)
}

func TestTheFileOfAConfigurationIsChecked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "own.rpz")
	c := Config{Name: "own", Zone: "RPZ.example", File: path}
	for rules, want := range map[string]string{"bad.example CNAME .": "", "": "no rule", "x A 1": "at line: 4"} {
		put(t, path, rules)
		if err := CheckFile(c); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", rules, err)
		}
	}
	c.File += ".not"
	if err := CheckFile(c); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
