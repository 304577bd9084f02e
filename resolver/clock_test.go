package resolver

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"cordon/blocklist"
)

// setClock is a clock that somebody sets, beside one that nobody does.
type setClock struct {
	set  time.Duration
	past time.Duration
}

func (c *setClock) now() time.Time        { return started.Add(c.past + c.set) }
func (c *setClock) steady() time.Duration { return c.past }

var started = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// watched is a watch over c, and what it writes into the log.
func watched(c *setClock, made time.Time) (*clockWatch, *bytes.Buffer, *prometheus.Registry) {
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	w := newClockWatch(Surroundings{Clock: c.now, Steady: c.steady, Log: slog.New(slog.NewTextHandler(&log, nil))},
		func() (time.Time, string) { return made, "list national" }, reg)
	return w, &log, reg
}

func TestAClockThatIsSetIsNoticedOnceForEachStep(t *testing.T) {
	for _, c := range []struct {
		step time.Duration
		said string
	}{
		{0, ""}, {5 * time.Second, ""}, {-30 * time.Second, ""},
		{5 * time.Hour, "by=5h0m0s"}, {-5 * time.Hour, "by=-5h0m0s"}, {time.Minute, "by=1m0s"},
	} {
		clock := &setClock{}
		w, log, _ := watched(clock, time.Time{})
		w.look()
		clock.past, clock.set = 10*time.Second, c.step
		w.look()
		clock.past = time.Hour // a pause between two looks is no step
		w.look()
		if said := strings.Contains(log.String(), "the clock was set"); said != (c.said != "") || !strings.Contains(log.String(), c.said) {
			t.Errorf("set by %s: %q", c.step, log)
		}
		if steps := testutil.ToFloat64(w.steps); (steps == 1) != (c.said != "") {
			t.Errorf("set by %s: %v steps", c.step, steps)
		}
	}
}

func TestAClockBeforeWhatIsAtHandIsAnAlarmUntilItIsSet(t *testing.T) {
	clock := &setClock{}
	w, log, reg := watched(clock, started.Add(24*time.Hour))
	doubtful := func() bool {
		return testutil.CollectAndCount(w.steps) == 1 && gauge(t, reg, "cordon_clock_doubtful") == 1
	}
	if w.look(); !doubtful() || !strings.Contains(w.doubted(), "list national is of 2026-03-02T12:00:00Z") || strings.Count(log.String(), "level=ERROR") != 1 {
		t.Errorf("%q, %q", w.doubted(), log)
	}
	if w.look(); strings.Count(log.String(), "level=ERROR") != 1 {
		t.Errorf("the same alarm again: %q", log)
	}
	clock.set = 24*time.Hour - slack
	if w.look(); doubtful() || w.doubted() != "" || !strings.Contains(log.String(), "can be right again") {
		t.Errorf("%q, %q", w.doubted(), log)
	}
}

// gauge is the value of a metric without labels.
func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestAResolverDoubtsAClockBeforeItsOwnListAndProgram starts with clocks of many
// years, as a machine without a battery has them.
func TestAResolverDoubtsAClockBeforeItsOwnListAndProgram(t *testing.T) {
	r := newResolver(t, newInternet(t))
	r.built = started
	if made, what := r.newestAtHand(); !made.Equal(started) || what != "this program" {
		t.Errorf("newest is %s, %s", made, what)
	}
	l := &blocklist.List{Header: blocklist.Header{Serial: 1, Issued: started.Add(time.Hour), AnswerTTL: 60}}
	x, err := blocklist.NewIndex(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.policy.Apply("national", l, x); err != nil {
		t.Fatal(err)
	}
	if made, what := r.newestAtHand(); !made.Equal(started.Add(time.Hour)) || what != "list national" {
		t.Errorf("newest is %s, %s", made, what)
	}
	r.built = time.Now().Add(48 * time.Hour)
	running(t, r)
	for range 2000 { // until it has looked
		if strings.Contains(r.Status().Clock, "this program is of") {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("status says %q of the clock", r.Status().Clock)
}

func TestTheClockIsLookedAtUntilTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &setClock{}
		w, _, _ := watched(clock, time.Time{})
		ended := make(chan error, 1)
		go func() { ended <- w.run(t.Context()) }()
		synctest.Wait()
		w.mu.Lock()
		w.at = -time.Hour // as if an hour had passed by the one clock, and none by the other
		w.mu.Unlock()
		time.Sleep(lookAtClock)
		synctest.Wait()
		if steps := testutil.ToFloat64(w.steps); steps != 1 {
			t.Errorf("%v steps", steps)
		}
	})
}
