package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"cordon/test/await"
)

const (
	kills   = 20 // of each program
	clients = 4  // that ask one question after another meanwhile
)

// moments are random times before a kill. CORDON_SEED repeats those of another
// run, as far as the machine does.
func moments(t *testing.T, most time.Duration) func() time.Duration {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("CORDON_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("CORDON_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	return func() time.Duration { return time.Duration(r.Int64N(int64(most))) }
}

// These two tests do not run beside others, which would only slow the clients
// down.

// Promise 3 and promise 2: whenever the resolver is killed, each blocked answer
// that a client received is on record; and when it starts again the stored list
// is in force from the first answer on.
func TestTheResolverIsKilled(t *testing.T) {
	w := newWorld(t)
	national := w.found("national")
	serial := national.list("terrorism", "propagande.example")
	w.subscribe(national)
	r := w.startResolver()
	r.enforces("national", serial)
	a := w.startAuditor()

	moment := moments(t, 100*time.Millisecond)
	l := w.load(clients, 2)
	for i := range kills {
		before := l.blocked.Load()
		await.Nil(t, "clients receive blocked answers", func() error {
			if l.blocked.Load() < before+clients {
				return fmt.Errorf("%d since the start", l.blocked.Load()-before)
			}
			return nil
		})
		if i%2 == 0 {
			l.pulse(r, i)
		} else {
			time.Sleep(moment())
			r.kill9()
		}
		r = w.startResolver()
	}
	l.covers()
	counted := l.end()
	t.Log(counted)
	r.terminate()

	written := w.written()
	counted.check(w, "the block log", written.decisions)
	if n := len(written.of("started")); n != kills+1 {
		t.Errorf("the block log holds %d starts, not %d", n, kills+1)
	}
	if n := len(written.of("stopped")); n != 1 {
		t.Errorf("the block log holds %d stops; the resolver was told to stop once", n)
	}
	w.sealsEverything()
	a.terminate()
	national.official().verifies()
}

// Promise 4: whenever the auditor is killed, what it has sealed stays sealed,
// and it goes on where it was, with no record left out or sealed twice.
func TestTheAuditorIsKilled(t *testing.T) {
	w := newWorld(t)
	national := w.found("national")
	serial := national.list("terrorism", "propagande.example")
	w.subscribe(national)
	r := w.startResolver()
	r.enforces("national", serial)

	moment := moments(t, 300*time.Millisecond)
	l := w.load(clients, 0)
	for i := range kills {
		a := w.startAuditor()
		if i%2 == 0 { // else it may die before it has sealed anything
			await.Nil(t, "the auditor seals", func() error { return atLeast(a.metrics(), "cordon_audit_records_total", 1) })
		}
		time.Sleep(moment())
		a.kill9()
	}
	l.covers()
	counted := l.end()
	t.Log(counted)
	r.terminate()
	counted.check(w, "the block log", w.written().decisions)

	a := w.startAuditor()
	w.sealsEverything()
	a.terminate()
	sealed, err := w.sealed()
	if err != nil {
		t.Fatal(err)
	}
	counted.check(w, "the audit log", sealed.decisions)
	national.official().verifies()
}
