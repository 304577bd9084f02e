package e2e

import (
	"os/user"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// TestAnOperatorMakesTheResolverForget goes by the commands that an operator
// types, with the mistakes that one makes.
func TestAnOperatorMakesTheResolverForget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.found("national")
	serial := a.list("terrorism", "propagande.example")
	w.subscribe(a)
	r := w.startResolver()
	r.enforces("national", serial)
	flush := func(args ...string) []string {
		return append(append([]string{"flush"}, args...), "--config", w.path("resolver/resolver.yaml"))
	}
	know := func() {
		t.Helper()
		if got := addresses(w.ask("www.libre.example", dns.TypeA)); len(got) == 0 {
			t.Fatal("www.libre.example does not resolve")
		}
	}
	for _, c := range []struct {
		args  []string
		holds string
	}{
		{[]string{"www.libre.example"}, "forgotten: 1 answers, "},
		{[]string{"www.libre.example."}, "forgotten: 1 answers, "},
		{[]string{"WWW.Libre.Example", "--type", "a"}, "forgotten: 1 answers, "},
		{[]string{"www.libre.example", "--type", "AAAA"}, "forgotten: 0 answers, "},
		{[]string{"libre.example"}, "forgotten: 0 answers, "},
		{[]string{"libre.example", "--below"}, "forgotten: 1 answers, "},
		{[]string{"--all"}, "forgotten: 1 answers, "},
		{[]string{"www.libre.example", "--json"}, `"answers": 1`},
	} {
		know()
		if out := w.succeeds("cordon-resolver", flush(c.args...)...); !strings.Contains(out, c.holds) {
			t.Errorf("flush %v: %s", c.args, out)
		}
		w.succeeds("cordon-resolver", flush("--all")...)
	}
	for _, c := range []struct {
		args  []string
		holds string
	}{
		{nil, "flush what? Give a name, or all"},
		{[]string{"www.libre.example", "--all"}, "not both at once"},
		{[]string{"--all", "--type", "A"}, "not both at once"},
		{[]string{"www.libre.example", "--type", "ANYTHING"}, `"ANYTHING" is no type of records; write such as AAAA or TYPE65`},
		{[]string{"www..example"}, `"www..example" is no name`},
		{[]string{"a", "b"}, "accepts at most 1 arg"},
	} {
		if out := w.fails("cordon-resolver", flush(c.args...)...); !strings.Contains(out, c.holds) {
			t.Errorf("flush %v: %s", c.args, out)
		}
	}
	// A listed name stays blocked whatever is forgotten, and who gave the order is known.
	if err := w.blocked(w.ask("propagande.example", dns.TypeA), "terrorism"); err != nil {
		t.Error(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if log := r.log.String(); !strings.Contains(log, "caches flushed over the control socket") || !strings.Contains(log, `"account":"`+me.Username+`"`) {
		t.Errorf("the log does not say who gave the order: %s", log)
	}
}
