package e2e

import (
	"fmt"
	"os/user"
	"strings"
	"testing"

	"cordon/test/await"

	"github.com/miekg/dns"
)

// The day that must not come again (Orange, 17 October 2016; Piracy Shield, 19
// October 2024; Denmark, March 2012): the authority signs a list that names what
// half the country uses, and another that is far too long. Nobody is led to the
// stop page, the operator sees why, and one command with a reason rules it.
func TestASignedMistakeIsStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.found("national")
	first := a.list("terrorism", "propagande.example")
	w.subscribe(a)
	w.write("resolver/resolver.yaml", w.read("resolver/resolver.yaml")+"guard:\n  additions: {least: 6, percent: 0}\n")
	r, _ := w.startResolver(), w.startAuditor()
	r.enforces("national", first)
	conf := w.path("resolver/resolver.yaml")
	list := func(args ...string) string {
		t.Helper()
		return w.succeeds("cordon-resolver", append(append([]string{"list"}, args...), "--config", conf)...)
	}
	expect := func(blocked bool, names ...string) {
		t.Helper()
		for _, name := range names {
			if err := w.blocked(w.ask(name, dns.TypeA), "terrorism"); (err == nil) != blocked {
				t.Errorf("%s: blocked is to be %v: %v", name, blocked, err)
			}
		}
	}
	holds := func(text string, all ...string) {
		t.Helper()
		for _, one := range all {
			if !strings.Contains(text, one) {
				t.Errorf("it does not say %q:\n%s", one, text)
			}
		}
	}
	orange := []string{"google.fr", "fr.wikipedia.org", "ovh.com", "drive.usercontent.google.com"}

	second := a.list("terrorism", append([]string{"www.ancien.example"}, orange...)...)
	r.enforces("national", second)
	expect(false, orange...)
	expect(false, "www.google.fr", "www.ovh.com")
	expect(true, "propagande.example", "www.ancien.example") // the rest of the list is enforced
	holds(w.succeeds("cordon-resolver", "status", "--config", conf), "4 entries are SET ASIDE")
	holds(w.succeeds("cordon-resolver", "why", "www.google.fr", "--config", conf), "www.google.fr is not listed", "NOT ENFORCED (quarantined)", "is a protected name (the starter set)")
	held := list("held")
	holds(held, append([]string{"is below the protected name google.com"}, orange...)...)
	if err := atLeast(r.metrics(), `cordon_list_quarantined{list="national"}`, 4); err != nil {
		t.Error(err)
	}
	holds(strings.Join(w.written().of("guard.held"), "\n"), append([]string{`"guard":"protected"`}, orange...)...)
	holds(r.log.String(), "entry set aside", "google.fr")

	// Too many at once.
	var flood []string
	for i := range 8 {
		flood = append(flood, fmt.Sprintf("site%d.ouvert", i))
	}
	third := a.list("terrorism", flood...)
	await.Nil(t, "the third list is held", func() error {
		return atLeast(r.metrics(), `cordon_list_updates_total{list="national",result="held"}`, 1)
	})
	expect(false, flood...)
	expect(true, "propagande.example", "www.ancien.example")
	const why = "adds 8 entries to 6, where at most 6 are added at once"
	holds(w.succeeds("cordon-resolver", "status", "--config", conf), fmt.Sprintf("serial %d is HELD", third), why)
	holds(r.log.String(), "list held as a whole", why)
	holds(list("diff", "national", "running", "held"), "site7.ouvert", "8 of 8 differences")
	w.write("questions", "site1.ouvert\nwww.site2.ouvert\nwww.libre.example\n")
	holds(list("dry-run", "national", "--questions", w.path("questions")), "+ site1.ouvert A would be blocked", "2 of 3 questions")
	await.Nil(t, "the hold is on record", func() error {
		if got := strings.Join(w.written().of("guard.held"), "\n"); !strings.Contains(got, why) {
			return fmt.Errorf("the block log holds %s", got)
		}
		return nil
	})

	// A release wants a name and a reason, and says who asked.
	if out := w.fails("cordon-resolver", "list", "release", "national", "--update", fmt.Sprint(third), "--config", conf); !strings.Contains(out, `"name", "reason"`) {
		t.Errorf("without a name and a reason: %s", out)
	}
	list("release", "national", "--update", fmt.Sprint(third), "--name", "Alice Martin", "--reason", "confirmed by telephone")
	expect(true, flood...)
	expect(false, orange...)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	holds(strings.Join(w.written().of("guard.released"), "\n"), `"action":"release-update"`, "Alice Martin", "confirmed by telephone", me.Username)
	r.enforces("national", third)

	// It outlasts a kill.
	r.kill9()
	r = w.startResolver()
	expect(true, "propagande.example", flood[0])
	expect(false, orange...)

	// And the official has it all.
	w.sealsEverything()
}
