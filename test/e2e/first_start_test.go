package e2e

import (
	"os"
	"testing"

	"cordon/test/await"

	"github.com/miekg/dns"
)

// Promise 2: nothing is answered unfiltered, neither before the first list nor
// after a restart with nothing to fetch from.
func TestNothingIsAnsweredUnfiltered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	national := w.found("national")
	w.subscribe(national)
	r := w.startResolver()

	// The authority has published no list yet.
	for _, question := range []struct {
		name  string
		qtype uint16
		ways  []way
	}{
		{"www.libre.example", dns.TypeA, nil},
		{"www.libre.example", dns.TypeA, []way{overTCP}},
		{"www.propagande.example", dns.TypeA, []way{do, cd}},
		{"version.bind", dns.TypeTXT, nil},
	} {
		reply := w.ask(question.name, question.qtype, question.ways...)
		_, notReady := extended(reply)[dns.ExtendedErrorCodeNotReady]
		if reply.Rcode != dns.RcodeServerFailure || !notReady || len(reply.Answer) != 0 {
			t.Errorf("before the first list %s is answered with %v", question.name, reply)
		}
	}
	if ready := r.metrics()["cordon_ready"]; ready != 0 {
		t.Errorf("cordon_ready is %v", ready)
	}

	r.enforces("national", national.list("terrorism", "propagande.example"))
	if err := w.blocked(w.ask("www.propagande.example", dns.TypeA), "terrorism"); err != nil {
		t.Error(err)
	}
	if got := addresses(w.ask("www.libre.example", dns.TypeA)); len(got) != 1 || got[0] != "192.0.2.10" {
		t.Errorf("www.libre.example is at %v", got)
	}

	// The source is gone when the resolver starts again.
	r.terminate()
	if err := os.RemoveAll(national.publish); err != nil {
		t.Fatal(err)
	}
	r = w.startResolver()
	if err := w.blocked(w.ask("www.propagande.example", dns.TypeA), "terrorism"); err != nil {
		t.Error(err)
	}
	if got := addresses(w.ask("www.libre.example", dns.TypeA)); len(got) != 1 || got[0] != "192.0.2.10" {
		t.Errorf("www.libre.example is at %v", got)
	}
	await.Nil(t, "the missing source raises an alarm", func() error {
		return atLeast(r.metrics(), `cordon_list_updates_total{list="national",result="refused"}`, 1)
	})
	if serial := r.metrics()[`cordon_list_serial{list="national"}`]; serial != 1 {
		t.Errorf("the serial in force is %v", serial)
	}
}
