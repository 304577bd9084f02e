package iterate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// slow holds the queries to a server for names below a zone until it is opened.
// The others are carried one at a time.
type slow struct {
	oneAtATime
	addr    string // "" holds nothing
	zone    string
	entered chan struct{}
	open    chan struct{}
}

func newSlow(n *internet) *slow {
	return &slow{oneAtATime: oneAtATime{internet: n}, entered: make(chan struct{}, 1000), open: make(chan struct{})}
}

func (s *slow) Exchange(ctx context.Context, server netip.AddrPort, q *dns.Msg, stream bool) (*dns.Msg, error) {
	if server.Addr().String() == s.addr && strictlyBelow(s.zone, q.Question[0].Name) {
		s.entered <- struct{}{}
		select {
		case <-s.open:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.oneAtATime.Exchange(ctx, server, q, stream)
}

func TestASlowZoneUnderAFloodDoesNotHoldUpOthers(t *testing.T) {
	n, example, plain := smallInternet(t, withNSEC)
	n.serve(example, otherAddr) // of one server with the slow zone
	n.delegate("example.com.", "example.com. NS ns1.plain.org.")
	const perZone = 20
	s := newSlow(n)
	r := n.resolver(func(c *Config) {
		c.Exchange, c.PerZone, c.PerServer = s, perZone, perZone+1
	})
	plain.add("* A 203.0.113.82")
	ask(t, r, "ns1.plain.org. A") // so that nothing but the flood has to be asked for
	ask(t, r, "example.com. SOA")
	s.addr, s.zone = otherAddr, "plain.org."

	var flood sync.WaitGroup
	results := make([]*Result, perZone)
	for i := range results {
		flood.Go(func() { results[i] = ask(t, r, fmt.Sprintf("r%d.plain.org. A", i)) })
	}
	for range perZone {
		<-s.entered
	}
	for i := range 50 {
		res := ask(t, r, fmt.Sprintf("more%d.plain.org. A", i))
		expectFailure(t, res, dns.ExtendedErrorCodeNoReachableAuthority)
		if res.TTL != 0 {
			t.Errorf("the failure is kept for %s", res.TTL)
		}
	}
	expect(t, ask(t, r, "www.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
	if got := r.Refused(); got.Zone != 50 || got.Server != 0 {
		t.Errorf("counted %+v", got)
	}
	close(s.open)
	flood.Wait()
	for _, res := range results {
		expect(t, res, dns.RcodeSuccess, dnssec.Insecure, "203.0.113.82")
	}
	// What was refused has left nothing behind.
	expect(t, ask(t, r, "more1.plain.org. A"), dns.RcodeSuccess, dnssec.Insecure, "203.0.113.82")
	if len(r.flights.ofZone)+len(r.flights.ofServer)+len(r.flights.running) > 0 {
		t.Errorf("still counted: %v %v", r.flights.ofZone, r.flights.ofServer)
	}
}

func TestABusyServerIsPassedOver(t *testing.T) {
	n := newInternet(t)
	n.zone(".", unsigned, rootAddr)
	n.zone("example.", unsigned, exampleAddr, otherAddr).add("* A 192.0.2.80")
	r := n.resolver(func(c *Config) { c.PerServer = 1 })
	ask(t, r, "first.example. A")
	// One query to each server, of another zone, that waits until it is let go.
	letGo, busy := make(chan struct{}), sync.WaitGroup{}
	hold := func(addr string) {
		entered := make(chan struct{})
		k := flightKey{server: netip.AddrPortFrom(netip.MustParseAddr(addr), 53)}
		busy.Go(func() {
			_, _ = r.flights.do(t.Context(), k, "other.", time.Hour, func(context.Context) (*dns.Msg, error) {
				close(entered)
				<-letGo
				return nil, errors.New("let go")
			})
		})
		<-entered
	}
	hold(exampleAddr)
	for i := range 20 {
		expect(t, ask(t, r, fmt.Sprintf("w%d.example. A", i)), dns.RcodeSuccess, dnssec.Insecure, "192.0.2.80")
	}
	hold(otherAddr)
	res := ask(t, r, "both.example. A")
	expectFailure(t, res, dns.ExtendedErrorCodeNoReachableAuthority)
	if res.TTL != 0 || r.Refused().Server == 0 {
		t.Errorf("kept for %s; %+v", res.TTL, r.Refused())
	}
	close(letGo)
	busy.Wait()
	expect(t, ask(t, r, "both.example. A"), dns.RcodeSuccess, dnssec.Insecure, "192.0.2.80")
	for addr, st := range r.servers.by {
		if st.failures > 0 {
			t.Errorf("%s was blamed", addr)
		}
	}
}

func TestFlightsOfWhoWentAwayLeaveNothingBehind(t *testing.T) {
	f := newFlights(10, 10)
	began := make(chan struct{})
	k := flightKey{server: netip.MustParseAddrPort("192.0.2.1:53")}
	run := func(ctx context.Context) (*dns.Msg, error) {
		began <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var all sync.WaitGroup
	var leave []context.CancelFunc
	for range 10 {
		ctx, cancel := context.WithCancel(t.Context())
		leave = append(leave, cancel)
		all.Go(func() {
			if m, err := f.do(ctx, k, "example.", time.Hour, run); m != nil || !errors.Is(err, context.Canceled) {
				t.Errorf("%v, %v", m, err)
			}
		})
	}
	<-began
	go func() { // whoever begins anew leaves as well
		for range began {
		}
	}()
	for _, l := range leave {
		l()
	}
	all.Wait()
	close(began)
	if len(f.running)+len(f.ofZone)+len(f.ofServer) > 0 {
		t.Errorf("left: %v %v %v", f.running, f.ofZone, f.ofServer)
	}
}
