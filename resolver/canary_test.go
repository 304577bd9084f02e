package resolver

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/blocklist"
	"cordon/resolver/transport"
)

// TestAListIsTriedOnOneReaderInSoMany puts a list on trial and asks each of four
// readers, of which one answers by it.
func TestAListIsTriedOnOneReaderInSoMany(t *testing.T) {
	r := newResolver(t, newInternet(t))
	r.config.Guard.Canary = CanaryConfig{OneIn: 4, For: time.Minute, Factor: 3, Least: 10}
	enforce(t, r, 1, "propagande.example")
	var readers []transport.Session
	for range 4 {
		readers = append(readers, r.Session())
	}
	ask := func(s transport.Session, name string) bool {
		t.Helper()
		packet, err := question(name, dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := s.Answer(nil, packet, client)
		if err := s.Commit(); err != nil {
			t.Fatal(err)
		}
		m := new(dns.Msg)
		return m.Unpack(raw) == nil && blocked(m)
	}
	blockedBy := func(name string) (n int) {
		for _, s := range readers {
			if ask(s, name) {
				n++
			}
		}
		return n
	}
	next := newPublisher(t).list(2, "propagande.example", "popular.example")
	index, err := blocklist.NewIndex(next.Entries)
	if err != nil {
		t.Fatal(err)
	}
	c := r.canary("national")
	blockedBy("propagande.example.") // before the trial: does not count
	if err := c.Try(&blocklist.Loaded{Name: "national", List: next, Index: index}); err != nil {
		t.Fatal(err)
	}
	if n := blockedBy("popular.example."); n != 1 {
		t.Errorf("%d of 4 readers block a name that is on trial", n)
	}
	if n := blockedBy("propagande.example."); n != 4 {
		t.Errorf("%d of 4 readers block what is in force", n)
	}
	part, others := c.End()
	if part != (blocklist.Share{Asked: 2, Blocked: 2}) || others != (blocklist.Share{Asked: 6, Blocked: 3}) {
		t.Errorf("counted %+v on trial and %+v elsewhere", part, others)
	}
	if n := blockedBy("popular.example."); n != 0 {
		t.Errorf("%d of 4 readers block it after the trial", n)
	}

	// A list that comes into force ends its own trial.
	if err := c.Try(&blocklist.Loaded{Name: "national", List: next, Index: index}); err != nil {
		t.Fatal(err)
	}
	enforce(t, r, 3, "third.example")
	if r.policy.Trial() != nil || blockedBy("third.example.") != 4 || blockedBy("popular.example.") != 0 {
		t.Error("the trial goes on")
	}
	if err := r.policy.Try("belgian", next, index); err == nil {
		t.Error("a list that is not configured was put on trial")
	}
}

func TestWithoutACanaryNothingIsTried(t *testing.T) {
	r := newResolver(t, newInternet(t))
	if r.canary("national") != nil {
		t.Error("lists are tried by default")
	}
}
