package resolver

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestWhatIsFlushedIsAskedForAgain(t *testing.T) {
	const alias = "alias.libre.example."
	for _, c := range []struct {
		name  string
		flush Flush
		again bool // whether site is asked for again
	}{
		{"the name", Flush{Name: site}, true},
		{"in another case and without a dot", Flush{Name: "WWW.libre.EXAMPLE"}, true},
		{"the name and the type", Flush{Name: site, Type: "a"}, true},
		{"the type by number", Flush{Name: site, Type: "TYPE1"}, true},
		{"another type", Flush{Name: site, Type: "AAAA"}, false},
		{"a name above", Flush{Name: "libre.example"}, false},
		{"all below a name above", Flush{Name: "libre.example", Below: true}, true},
		{"another name", Flush{Name: "w.libre.example", Below: true}, false},
		{"an alias that leads to it", Flush{Name: alias}, false},
		{"everything", Flush{All: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newInternet(t, site+" 3600 IN A 192.0.2.10", alias+" 3600 IN CNAME "+site)
			r := newResolver(t, n)
			enforce(t, r, 1)
			for _, name := range []string{site, alias} {
				ask(t, r, question(name, dns.TypeA), client)
			}
			before := n.timesAsked(site)
			if _, err := r.Flush(c.flush); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{alias, site} {
				if reply, _ := ask(t, r, question(name, dns.TypeA), client); len(reply.Answer) == 0 {
					t.Errorf("%s has no answer any more", name)
				}
			}
			if again := n.timesAsked(site) > before; again != c.again {
				t.Errorf("asked for again: %t", again)
			}
		})
	}
}

// A name that did not exist a moment ago is the usual reason for a flush.
func TestAFlushForgetsThatANameDoesNotExistAndThatItFailed(t *testing.T) {
	n := newInternet(t)
	r := newResolver(t, n)
	enforce(t, r, 1)
	resolves := func(name string) bool {
		reply, _ := ask(t, r, question(name, dns.TypeA), client)
		return len(reply.Answer) > 0
	}
	flush := func(name string) {
		t.Helper()
		if _, err := r.Flush(Flush{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	add := func(text string) {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.records[rr.Header().Name] = append(n.records[rr.Header().Name], rr)
	}
	if resolves("new.example.") {
		t.Fatal("it exists already")
	}
	add("new.example. 3600 IN A 192.0.2.10")
	if resolves("new.example.") {
		t.Error("the denial was not cached")
	}
	flush("new.example")
	if !resolves("new.example.") {
		t.Error("the denial is still cached")
	}

	add("late.example. 3600 IN A 192.0.2.11")
	n.mu.Lock()
	n.down = true
	n.mu.Unlock()
	if resolves("late.example.") {
		t.Fatal("it resolves without a server")
	}
	n.mu.Lock()
	n.down = false
	n.mu.Unlock()
	if resolves("late.example.") {
		t.Error("the failure was not cached")
	}
	flush("late.example")
	if !resolves("late.example.") {
		t.Error("the failure is still cached")
	}
}

func TestAWrongOrderToFlushIsRefused(t *testing.T) {
	r := newResolver(t, newInternet(t))
	for _, c := range []struct {
		flush Flush
		holds string
	}{
		{Flush{}, "flush what?"},
		{Flush{All: true, Below: true}, "not both at once"},
		{Flush{Name: "a..b"}, "is no name"},
		{Flush{Name: strings.Repeat("l", 64)}, "is no name"},
		{Flush{Name: "a", Type: "0"}, "is no type"},
		{Flush{Name: "a", Type: "TYPE0"}, "is no type"},
		{Flush{Name: "a", Type: "TYPE1x"}, "is no type"},
		{Flush{Name: "a", Type: "ANY"}, "is no type"},
	} {
		if _, err := r.Flush(c.flush); err == nil || !strings.Contains(err.Error(), c.holds) {
			t.Errorf("%+v: %v", c.flush, err)
		}
	}
}
