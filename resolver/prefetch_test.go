package resolver

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"cordon/resolver/iterate"
)

// passing is a resolver whose time passes as the test says.
type passing struct {
	*Resolver
	n    *internet
	past atomic.Int64 // nanoseconds
}

func newPassing(t *testing.T, records ...string) *passing {
	t.Helper()
	n := newInternet(t, records...)
	p := &passing{Resolver: newResolver(t, n), n: n}
	begun := time.Now()
	p.clock = func() time.Time { return begun.Add(time.Duration(p.past.Load())) }
	var err error
	p.iterator, err = iterate.New(iterate.Config{
		Exchange: n, Clock: p.clock,
		Roots: []dns.RR{n.records["."][0], n.records["a.root."][0]},
		Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	})
	if err != nil {
		t.Fatal(err)
	}
	enforce(t, p.Resolver, 1)
	return p
}

func (p *passing) pass(d time.Duration) { p.past.Add(int64(d)) }

// renewing lets the workers run until what waited is done.
func (p *passing) renewing(t *testing.T) {
	t.Helper()
	before := p.results()
	ctx, stop := context.WithCancel(t.Context())
	var run sync.WaitGroup
	want := before + len(p.renewals.waiting)
	run.Go(func() { _ = p.renew(ctx) })
	for p.results() < want {
		time.Sleep(time.Millisecond)
	}
	stop()
	run.Wait()
}

func (p *passing) results() (n int) {
	for _, result := range []string{"renewed", "failed"} {
		n += int(testutil.ToFloat64(p.renewals.count.WithLabelValues(result)))
	}
	return n
}

func (p *passing) count(result string) int {
	return int(testutil.ToFloat64(p.renewals.count.WithLabelValues(result)))
}

const site = "www.libre.example."

func TestAnAnswerThatManyAskForIsRenewedBeforeItEnds(t *testing.T) {
	p := newPassing(t, site+" 3600 IN A 192.0.2.10")
	ask(t, p.Resolver, question(site, dns.TypeA), client)
	p.pass(50 * time.Minute)
	ask(t, p.Resolver, question(site, dns.TypeA), client)
	if n := len(p.renewals.waiting); n != 0 {
		t.Errorf("%d renewals of an answer with a sixth of its life left", n)
	}
	p.pass(5 * time.Minute)
	for range 3 {
		if _, waited := ask(t, p.Resolver, question(site, dns.TypeA), client); waited {
			t.Error("a client waits for a renewal")
		}
	}
	if n := len(p.renewals.waiting); n != 1 {
		t.Errorf("%d renewals of one answer", n)
	}
	p.renewing(t)
	if n := p.n.timesAsked(site); n != 2 {
		t.Errorf("asked %d times", n)
	}
	p.pass(10 * time.Minute)
	reply, waited := ask(t, p.Resolver, question(site, dns.TypeA), client)
	if waited || reply.Answer[0].Header().Ttl != 3000 {
		t.Errorf("not renewed: %v", reply.Answer)
	}
}

func TestWhatIsNotWorthARenewalGetsNone(t *testing.T) {
	p := newPassing(t, site+" 9 IN A 192.0.2.10", "checked.example. 3600 IN A 192.0.2.11")
	unchecked := question("checked.example.", dns.TypeA)
	unchecked.CheckingDisabled = true
	ask(t, p.Resolver, question(site, dns.TypeA), client)
	ask(t, p.Resolver, unchecked, client)
	p.pass(8900 * time.Millisecond)
	ask(t, p.Resolver, question(site, dns.TypeA), client)
	p.pass(3590 * time.Second)
	ask(t, p.Resolver, unchecked, client)
	if n := len(p.renewals.waiting); n != 0 {
		t.Errorf("%d renewals", n)
	}

	p.renewals = nil // prefetch: false
	ask(t, p.Resolver, question("other.example.", dns.TypeA), client)
	p.pass(290 * time.Second)
	if _, waited := ask(t, p.Resolver, question("other.example.", dns.TypeA), client); waited {
		t.Error("the denial is not cached")
	}
}

// TestRenewalsHaveBoundedPlacesOfTheirOwn asks for more answers that end soon than
// there is room for, while nobody renews.
func TestRenewalsHaveBoundedPlacesOfTheirOwn(t *testing.T) {
	const names = maxRenewals + 50
	var records []string
	name := func(i int) string { return "n" + string(rune('a'+i%26)) + string(rune('a'+i/26)) + ".example." }
	for i := range names {
		records = append(records, name(i)+" 3600 IN A 192.0.2.10")
	}
	p := newPassing(t, records...)
	for i := range names {
		ask(t, p.Resolver, question(name(i), dns.TypeA), client)
	}
	p.pass(58 * time.Minute)
	for i := range names {
		if _, waited := ask(t, p.Resolver, question(name(i), dns.TypeA), client); waited {
			t.Fatal("a client waits")
		}
	}
	if waiting, dropped := len(p.renewals.waiting), p.count("dropped"); waiting != maxRenewals || dropped != 50 {
		t.Errorf("%d wait, %d were dropped", waiting, dropped)
	}
}

func TestAFailedRenewalLeavesTheAnswerThatThereIs(t *testing.T) {
	p := newPassing(t, site+" 3600 IN A 192.0.2.10")
	ask(t, p.Resolver, question(site, dns.TypeA), client)
	p.pass(58 * time.Minute)
	ask(t, p.Resolver, question(site, dns.TypeA), client)
	p.n.mu.Lock()
	p.n.down = true
	p.n.mu.Unlock()
	p.renewing(t)
	if p.count("failed") != 1 {
		t.Error("the renewal did not fail")
	}
	if reply, waited := ask(t, p.Resolver, question(site, dns.TypeA), client); waited || len(reply.Answer) != 1 {
		t.Errorf("the answer is gone: %v", reply)
	}
}

func TestNoRenewalFollowsAnAliasToAListedName(t *testing.T) {
	p := newPassing(t, "alias.libre.example. 3600 IN CNAME www.propagande.example.", "www.propagande.example. 3600 IN A 192.0.2.66")
	ask(t, p.Resolver, question("alias.libre.example.", dns.TypeA), client)
	before := p.n.timesAsked("www.propagande.example.")
	p.pass(58 * time.Minute)
	ask(t, p.Resolver, question("alias.libre.example.", dns.TypeA), client)
	enforce(t, p.Resolver, 2, "propagande.example")
	p.renewing(t)
	if n := p.n.timesAsked("www.propagande.example."); n != before || before != 1 {
		t.Errorf("a listed name was asked for %d times, %d before it was listed", n, before)
	}
	if reply, _ := ask(t, p.Resolver, question("alias.libre.example.", dns.TypeA), client); !blocked(reply) {
		t.Errorf("not blocked: %v", reply)
	}
}
