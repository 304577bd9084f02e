package anchors

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"cordon/durable"
	"cordon/durable/durabletest"
)

// rolling is a root in the middle of a roll, with its state on disk: one key
// valid, one pending.
func rolling(t testing.TB) (r *root, file string, good, next *signer) {
	r = newRoot(t)
	file = filepath.Join(t.TempDir(), "anchors")
	good, next = newSigner(t, 257), newSigner(t, 257)
	r.published, r.signing = []*signer{good, next}, []*signer{good}
	tr := r.tracker(file, good)
	r.watch(tr, 20*day)
	r.expect(tr, "valid", "pending")
	return r, file, good, next
}

func TestAChangedFileIsNoticedAndNothingOfItTrusted(t *testing.T) {
	r, file, good, _ := rolling(t)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 1
		if _, err := parse(bad); err == nil {
			t.Fatalf("byte %d changed, and nobody noticed", i)
		}
		if _, err := parse(whole[:i]); err == nil {
			t.Fatalf("cut at byte %d, and nobody noticed", i)
		}
	}

	bad := bytes.Replace(whole, []byte("key pending"), []byte("key valid"), 1)
	if err := os.WriteFile(file, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	tr, err := New(Config{Configured: []dns.RR{good.ToDS(dns.SHA256)}, BuiltIn: true, File: file, Clock: r.clock, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	r.expect(tr, "configured")
	for what, text := range map[string]string{"the log": log.String(), "the alarm": tr.Status().Alarm} {
		if !strings.Contains(text, file) || !strings.Contains(text, "line 10: the sum does not fit") {
			t.Errorf("%s says %q", what, text)
		}
	}
	if kept, err := os.ReadFile(file + ".damaged"); err != nil || !bytes.Equal(kept, bad) {
		t.Errorf("the damaged file is not kept: %v", err)
	}
	r.watch(tr, day)
	r.expect(tr, "valid", "pending")
	if alarm := tr.Status().Alarm; alarm != "" {
		t.Errorf("still an alarm after the file was written anew: %s", alarm)
	}
}

func TestAFileThatOthersMayWriteIsRefused(t *testing.T) {
	r, file, good, _ := rolling(t)
	if err := os.Chmod(file, 0o622); err != nil {
		t.Fatal(err)
	}
	tr := r.tracker(file, good)
	r.expect(tr, "configured")
	if alarm := tr.Status().Alarm; !strings.Contains(alarm, "make it 600") {
		t.Errorf("alarm %q", alarm)
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	key := text(newSigner(t, 257).DNSKEY)
	head := preamble + "written 2026-01-01T00:00:00Z\norigin file\n"
	for _, c := range []struct{ body, holds string }{
		{"", "line 1: not a state"},
		{preamble, "line 3: no zone"},
		{preamble + "origin file\n", "line 4: the time of writing is missing"},
		{preamble + "written soon\n", "line 4: \"soon\" is no time"},
		{preamble + "written 2026-01-01T00:00:00Z\norigin heaven\n", "line 5: the origin is missing"},
		{head + "key valid never 0 1 " + key + "\n", "line 6: no zone before it"},
		{head + "zone Example. seen never\n", "line 6: \"Example.\" is no name of a zone"},
		{head + "zone b. seen never\nzone a. seen never\n", "line 7: the zones are not in order"},
		{head + "zone . seen never\nkey trusted never 0 1 " + key + "\n", "line 7: \"trusted\" is no state"},
		{head + "zone . seen never\nkey valid never 7 1 " + key + "\n", "line 7: \"7\" is no number of seconds"},
		{head + "zone . seen never\nkey valid never 0 1 " + key + "\n", "line 7: no DNSKEY record with the tag 1"},
		{head + "zone . seen never\nconfigured DS 1 8 2 nothex\n", "line 7: no DS record"},
		{head + "zone . seen never\nconfigured A 192.0.2.1\n", "line 7: no DS or DNSKEY record"},
		{head + "zone . seen never\nanchor DS\n", "line 7: \"anchor\" is not known"},
		{head + "zone . seen never\nkey valid\n", "line 7: \"key\" is not known, or has too few words"},
	} {
		_, err := parse(seal([]byte(c.body)))
		if err == nil || !strings.Contains(err.Error(), c.holds) {
			t.Errorf("%q: %v, want %q", c.body, err, c.holds)
		}
	}
}

func FuzzParse(f *testing.F) {
	_, file, _, _ := rolling(f)
	whole, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:bytes.LastIndex(whole, []byte("sum "))])
	f.Add([]byte(preamble + "written never\norigin built-in\nzone . seen never\nconfigured DS 20326 8 2 AB\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, file := range [][]byte{data, seal(bytes.Clone(data))} {
			s, err := parse(file)
			if err == nil && !bytes.Equal(encode(s), file) {
				t.Errorf("%q is read, and written as %q", file, encode(s))
			}
		}
	})
}

func TestWhatIsConfiguredAndWhatWasLearnedAreReconciled(t *testing.T) {
	for _, c := range []struct {
		name    string
		builtIn bool // now; the state grew from what was built in
		replace bool // the configured key by another
		extra   bool // and one more
		want    []string
	}{
		{"nothing new", true, false, false, []string{"valid", "pending", "removed"}},
		{"a release with one more key", true, false, true, []string{"valid", "pending", "removed", "configured"}},
		{"a release with another key", true, true, false, []string{"valid", "pending", "removed", "configured"}},
		{"a file of the operator's", false, true, false, []string{"removed", "configured"}},
		{"a file of the operator's with the same key", false, false, false, []string{"removed", "configured"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			good, other, gone, waits := newSigner(t, 257), newSigner(t, 257), newSigner(t, 257), newSigner(t, 257)
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			known := state{written: now, origin: builtIn, points: []*point{{zone: ".", seen: now, configured: []dns.RR{good.ToDS(dns.SHA256)}, keys: []Key{
				{Record: plain(good.DNSKEY), State: Valid}, {Record: plain(waits.DNSKEY), State: Pending, Held: day}, {Record: plain(gone.DNSKEY), State: Removed},
			}}}}
			configured := []dns.RR{good.ToDS(dns.SHA256)}
			if c.replace {
				configured = []dns.RR{other.ToDS(dns.SHA256)}
			}
			if c.extra {
				configured = append(configured, other.ToDS(dns.SHA256))
			}
			from := fromFile
			if c.builtIn {
				from = builtIn
			}
			p, note := reconcile(known, ".", configured, from)
			var got []string
			for _, a := range p.anchors() {
				got = append(got, a.State)
			}
			if strings.Join(got, " ") != strings.Join(c.want, " ") {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if (note != "") == c.builtIn {
				t.Errorf("note %q", note)
			}
		})
	}
}

func TestAFileOfTheOperatorsThatDropsAKeyDropsWhatItVouchedFor(t *testing.T) {
	a, b, learned := newSigner(t, 257), newSigner(t, 257), newSigner(t, 257)
	known := state{origin: fromFile, points: []*point{{zone: ".", configured: []dns.RR{a.ToDS(dns.SHA256), b.ToDS(dns.SHA256)},
		keys: []Key{{Record: plain(a.DNSKEY), State: Valid}, {Record: plain(b.DNSKEY), State: Revoked}, {Record: plain(learned.DNSKEY), State: Valid}}}}}
	p, note := reconcile(known, ".", []dns.RR{a.ToDS(dns.SHA256), b.ToDS(dns.SHA256)}, fromFile)
	if len(p.inForce()) != 2 || !strings.Contains(note, "has revoked itself and is not trusted") {
		t.Errorf("in force %v, note %q", p.inForce(), note)
	}
	p, note = reconcile(known, ".", []dns.RR{a.ToDS(dns.SHA256)}, fromFile)
	if in := p.inForce(); len(in) != 1 || !fits(in[0], a.DNSKEY) || !strings.Contains(note, "were replaced") {
		t.Errorf("in force %v, note %q", in, note)
	}
	// What the configuration brings is trusted at once, if it was pending.
	known.points[0].keys[2].State = Pending
	p, _ = reconcile(known, ".", []dns.RR{a.ToDS(dns.SHA256), b.ToDS(dns.SHA256), learned.DNSKEY}, fromFile)
	if len(p.inForce()) != 2 {
		t.Errorf("in force %v", p.inForce())
	}
}

// over is a Tracker over the state in file, on another disk.
func (r *root) over(d durable.Disk, file string, configured *signer) *Tracker {
	r.t.Helper()
	tr, err := New(Config{Configured: []dns.RR{configured.ToDS(dns.SHA256)}, BuiltIn: true, File: file, Clock: r.clock, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), disk: d})
	if err != nil {
		r.t.Fatal(err)
	}
	return tr
}

// TestTheStateIsOldOrNewWhereverTheMachineGoesDown goes down at each call of the
// write that makes a revocation durable, and starts again from what is there.
func TestTheStateIsOldOrNewWhereverTheMachineGoesDown(t *testing.T) {
	r, file, good, next := rolling(t)
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// crash lets the machine go down at a call of New and of one refresh, and gives
	// the states that a start afterwards finds.
	crash := func(at int, how durabletest.How, loss durabletest.Loss) (states string, calls, opening int) {
		file := filepath.Join(t.TempDir(), "anchors")
		if err := os.WriteFile(file, before, 0o600); err != nil {
			t.Fatal(err)
		}
		d := durabletest.New(at, how, loss)
		if at == 0 {
			tr := r.over(d, file, good)
			opening = d.Calls()
			tr.refresh(t.Context(), r, 0)
			return "", d.Calls(), opening
		}
		tr := r.over(d, file, good)
		r.published, r.signing = []*signer{good.revoked(), next}, []*signer{good.revoked(), good}
		tr.refresh(t.Context(), r, 0)
		if r.trusts(good) {
			t.Error("a revoked key stays in force")
		}
		if alarm := tr.Status().Alarm; !strings.Contains(alarm, durabletest.ErrDown.Error()) {
			t.Errorf("alarm %q", alarm)
		}
		again := r.tracker(file, good)
		if again.refused != nil {
			t.Errorf("after the crash: %v", again.refused)
		}
		for _, a := range again.Status().Zones[0].Anchors {
			states += a.State + " "
		}
		return states, 0, 0
	}
	_, calls, opening := crash(0, durabletest.Before, durabletest.Killed)
	if calls-opening < 6 { // create, write, sync, close, rename, sync of the folder
		t.Fatalf("a write makes %d calls", calls-opening)
	}
	found := map[string]int{}
	for at := opening + 1; at <= calls; at++ {
		for _, how := range []durabletest.How{durabletest.Before, durabletest.Half, durabletest.After} {
			for _, loss := range []durabletest.Loss{durabletest.Killed, durabletest.Names, durabletest.Contents} {
				states, _, _ := crash(at, how, loss)
				if found[states]++; states != "valid pending " && states != "revoked pending " {
					t.Errorf("call %d, %v, %v: %q", at, how, loss, states)
				}
			}
		}
	}
	if len(found) != 2 {
		t.Errorf("the crashes leave %v: either the old or the new state never shows", found)
	}
}

// full is a disk without room, until it has some.
type full struct {
	durable.OS
	full bool
}

func (d *full) Create(path string, perm fs.FileMode) (durable.File, error) {
	if d.full {
		return nil, syscall.ENOSPC
	}
	return d.OS.Create(path, perm)
}

func TestAFullDiskIsAnAlarmAndTriedAgain(t *testing.T) {
	r, file, good, next := rolling(t)
	d := &full{full: true}
	tr := r.over(d, file, good)
	r.published, r.signing = []*signer{good.revoked(), next}, []*signer{good.revoked(), good}
	tr.refresh(t.Context(), r, 0)
	if alarm := tr.Status().Alarm; !strings.Contains(alarm, "no space left on device") || r.trusts(good) {
		t.Errorf("alarm %q, in force %v", alarm, r.inForce)
	}
	r.expect(r.tracker(file, good), "valid", "pending")
	d.full = false
	tr.refresh(t.Context(), r, 0)
	if alarm := tr.Status().Alarm; strings.Contains(alarm, "no space") {
		t.Errorf("alarm %q", alarm)
	}
	r.expect(r.tracker(file, good), "revoked", "pending")
}

func TestTheStateIsForItsOwnerAlone(t *testing.T) {
	_, file, _, _ := rolling(t)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestRunAsksWhenItIsTimeAndEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoot(t)
		good := newSigner(t, 257)
		r.published, r.signing = []*signer{good}, []*signer{good}
		tr := r.tracker(filepath.Join(t.TempDir(), "anchors"), good)
		tr.config.Clock = time.Now
		r.now = time.Now()
		done := make(chan error, 1)
		ctx, stop := context.WithCancel(t.Context())
		go func() { done <- tr.Run(ctx, r) }()
		for _, c := range []struct {
			after time.Duration
			down  bool
			asked int64
		}{
			{time.Second, false, 1},
			{23 * time.Hour, false, 1},
			{time.Hour, true, 2},  // half the TTL has passed
			{time.Hour, true, 3},  // an hour after a failure
			{time.Hour, false, 4}, // and again
			{23 * time.Hour, false, 4},
		} {
			r.down.Store(c.down)
			time.Sleep(c.after)
			synctest.Wait()
			if got := r.asked.Load(); got != c.asked {
				t.Errorf("%s later: asked %d times, want %d", c.after, got, c.asked)
			}
		}
		if s := tr.Status().Zones[0]; s.Failed != "" || !s.Next.After(time.Now()) {
			t.Errorf("%+v", s)
		}
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	})
}

func TestWithoutAFileNothingIsFollowed(t *testing.T) {
	r := newRoot(t)
	good := newSigner(t, 257)
	tr := r.tracker("", good)
	r.expect(tr, "configured")
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 100*day)
		defer stop()
		if err := tr.Run(ctx, r); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it ended with %v", err)
		}
	})
	if r.asked.Load() != 0 {
		t.Error("asked")
	}
}
