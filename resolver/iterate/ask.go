package iterate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// cursor goes through the servers of one zone for one question: the fastest
// first, one that may be unreachable last, each a bounded number of times. Names
// of servers whose address is not known are looked up only when the known ones
// give nothing.
type cursor struct {
	t       *task
	z       *zone
	servers []candidate
	names   []string // addresses not yet looked up
	sent    int
	note    string // why the last server was of no use
	looped  bool   // an address was not found because of the way here
	busy    bool   // a server was not asked, or an address not found, for overload
	// fallen counts how many ways of falling back were taken.
	fallen int
	// seeking: a name was looked up. The counts are those of the task before the
	// last one.
	seeking                    bool
	queries, inVain, vainNames int
	child                      []string // servers that only the zone itself names
}

type candidate struct {
	addr  netip.AddrPort
	tries int
	done  bool // has answered, or is of no use
}

const (
	maxTries    = 3    // queries to one address for one question
	maxSent     = 9    // queries to all of them
	minNames    = 2    // name servers of a request that may cost what they will, so that one provider out of order does not take down who has another
	explore     = 20   // one in so many questions goes to any server rather than the fastest
	maxServerNS = 20   // NS records of a zone that are used
	maxGlue     = 40   // addresses of a zone that are used
	maxForeign  = 2    // of these, that came from who may not speak for the name
	ednsSize    = 1232 // fits every path without fragments (RFC 9715)
)

func (t *task) cursor(z *zone) *cursor {
	c := &cursor{t: t, z: z}
	for _, server := range z.servers {
		c.servers = append(c.servers, candidate{addr: server})
	}
	for _, ns := range z.ns {
		usable := false
		for _, addr := range z.glue[ns] {
			usable = c.add(addr) || usable
		}
		if !usable {
			for _, addr := range t.cachedAddresses(ns) {
				usable = c.add(addr) || usable
			}
		}
		if !usable {
			c.names = append(c.names, ns)
		}
	}
	for i := len(c.names) - 1; i > 0; i-- {
		j := t.r.config.Random(i + 1)
		c.names[i], c.names[j] = c.names[j], c.names[i]
	}
	return c
}

// add takes addr into the list, unless it may not be asked.
func (c *cursor) add(addr netip.Addr) bool {
	if !c.t.r.config.mayAsk(addr) {
		return false
	}
	server := netip.AddrPortFrom(addr, c.t.r.config.Port)
	for _, have := range c.servers {
		if have.addr == server {
			return true
		}
	}
	if len(c.servers) < maxGlue {
		c.servers = append(c.servers, candidate{addr: server})
	}
	return true
}

// next is the server to ask now; nil when there is none left.
func (c *cursor) next(ctx context.Context) (*candidate, error) {
	if c.sent >= maxSent {
		return nil, nil
	}
	for {
		if s := c.best(0, false); s != nil {
			return s, nil
		}
		if len(c.names) == 0 {
			if !c.fallBack() {
				break
			}
			continue
		}
		if err := c.seek(); err != nil {
			return nil, err
		}
		name := c.names[0]
		c.names = c.names[1:]
		found, err := c.t.findAddresses(ctx, c.z, name)
		if err != nil {
			f := asFailure(err)
			if f.kind == outOfBudget || f.kind == cancelled {
				return nil, err
			}
			c.looped = c.looped || f.kind == badPath
			c.busy = c.busy || f.kind == overload
			c.note = fmt.Sprintf("%s: %s", name, f.text)
			// Those beside it, which the same servers would have to tell, come last.
			slices.SortStableFunc(c.names, func(a, b string) int {
				return cmp.Compare(beside(a, name), beside(b, name))
			})
		}
		for _, addr := range found {
			c.add(addr)
		}
	}
	for tries := range maxTries {
		// What is backed off from gets one chance, the last.
		if s := c.best(tries, tries == 0); s != nil {
			return s, nil
		}
	}
	return nil, nil
}

// beside is 1 for names in the same place, and 0 for others.
func beside(a, b string) int {
	if parent(a) == parent(b) {
		return 1
	}
	return 0
}

// seek allows another name to be looked up, which means that the last one was in
// vain. A few names of nobody, or of somebody who does not serve the zone, are a
// mistake; many are an attack (NXNSAttack, CVE-2020-8616).
func (c *cursor) seek() error {
	c.writeOff()
	t := c.t
	if t.vainNames >= minNames && t.spent.InVain >= t.r.config.Limits.InVain {
		return &failure{kind: outOfBudget, code: dns.ExtendedErrorCodeOther, text: "limit of one request reached: name servers without use"}
	}
	c.seeking, c.queries, c.inVain, c.vainNames = true, t.spent.Queries, t.spent.InVain, t.vainNames
	return nil
}

// writeOff counts what the last look-up of a name, and asking the servers that it
// brought, cost without use. What look-ups within it have written off is in that.
func (c *cursor) writeOff() {
	if c.seeking {
		c.t.spent.InVain = c.inVain + c.t.spent.Queries - c.queries
		c.t.vainNames = c.vainNames + 1
	}
}

// fallBack finds further servers in places that are less to be relied on, one
// place at a time; false when there are no more.
func (c *cursor) fallBack() bool {
	c.fallen++
	switch c.fallen {
	case 1:
		if len(c.servers) == 0 { // as where two zones have their servers in each other
			for _, addr := range c.z.foreign {
				c.add(addr)
			}
		}
		c.addParentGlue(c.z.ns)
	case 2:
		c.child = c.t.childServers(c.z)
		c.names = append(c.names, c.child...)
	case 3:
		c.addParentGlue(c.child)
	default:
		return false
	}
	return true
}

// addParentGlue adds what the parents of the servers' own zones gave.
func (c *cursor) addParentGlue(servers []string) {
	for _, ns := range servers {
		for _, addr := range c.t.parentGlue(ns) {
			c.add(addr)
		}
	}
}

// best is the fastest of the servers that were tried that often.
func (c *cursor) best(tries int, downToo bool) *candidate {
	var fit []*candidate
	var best *candidate
	var bestRTT time.Duration
	for i := range c.servers {
		s := &c.servers[i]
		if s.done || s.tries != tries {
			continue
		}
		rtt, down := c.t.r.servers.rank(s.addr.Addr(), c.z.name)
		if down && !downToo {
			continue
		}
		fit = append(fit, s)
		rtt += time.Duration(c.t.r.config.Random(10)) * time.Millisecond // equals take turns
		if best == nil || rtt < bestRTT {
			best, bestRTT = s, rtt
		}
	}
	if random := c.t.r.config.Random; len(fit) > 1 && !downToo && random(explore) == explore-1 {
		return fit[random(len(fit))]
	}
	return best
}

// ask puts q to the zone's servers until one gives a usable reply. Asked again,
// it goes on with the servers that were not yet heard.
func (t *task) ask(ctx context.Context, c *cursor, q Question) (r *reply, err error) {
	defer func() {
		if err != nil {
			c.writeOff()
		}
	}()
	var spare *reply
	for {
		s, err := c.next(ctx)
		if err != nil {
			return nil, err
		}
		if s == nil {
			break
		}
		s.tries++
		c.sent++
		msg, err := t.exchange(ctx, c.z, s.addr, q)
		if err != nil {
			switch f := asFailure(err); {
			case f.kind == outOfBudget, f.kind == cancelled, errors.Is(err, errZoneBusy):
				return nil, err
			case f.kind == overload:
				c.busy, s.tries, c.note = true, maxTries, f.text
			case c.note == "":
				c.note = fmt.Sprintf("%s at %s gives no reply", c.z.name, s.addr.Addr())
			}
			continue
		}
		s.done = true
		r, why := t.read(c.z, q, msg)
		if r == nil {
			// A failure may be of this one name; only who disclaims the zone is lame.
			if msg.Rcode == dns.RcodeRefused || msg.Rcode == dns.RcodeNotAuth || msg.Rcode == dns.RcodeSuccess && !msg.Truncated && why != tooManyRecords {
				t.r.servers.setLame(s.addr.Addr(), c.z.name)
			}
			c.note = fmt.Sprintf("%s at %s %s", c.z.name, s.addr.Addr(), why)
			continue
		}
		t.noteChildServers(c.z, r, msg)
		if r.doubtful {
			if r.kind == noData {
				t.r.servers.setLame(s.addr.Addr(), c.z.name)
			}
			spare = r
			continue
		}
		return r, nil
	}
	if spare != nil {
		return spare, nil
	}
	return nil, c.failure(q)
}

func (c *cursor) failure(q Question) error {
	f := &failure{kind: unreachable, code: dns.ExtendedErrorCodeNoReachableAuthority, text: "no server of " + c.z.name + " answers for " + q.String()}
	switch {
	case c.busy:
		f.kind = overload
	case c.looped:
		f.kind = badPath
	}
	for _, s := range c.servers {
		if s.done {
			f.code = dns.ExtendedErrorCodeNetworkError // something was heard
		}
	}
	if c.note != "" {
		f.text += ": " + c.note
	}
	return f
}

// cachedAddresses are the addresses of a name server that are at hand.
func (t *task) cachedAddresses(ns string) []netip.Addr {
	var addrs []netip.Addr
	for _, q := range t.addressQuestions(ns) {
		if s, ok := t.cached(q); ok {
			addrs = append(addrs, addressesIn(s.RRs)...)
		}
	}
	return addrs
}

// findAddresses looks up the addresses of ns, a server of z: one family, and the
// other only if that has none.
func (t *task) findAddresses(ctx context.Context, z *zone, ns string) ([]netip.Addr, error) {
	limits := &t.r.config.Limits
	if below(z.name, ns) {
		// Only the zone's own servers could tell: the parent should have (RFC 9471).
		return nil, &failure{kind: unreachable, code: dns.ExtendedErrorCodeNoReachableAuthority, text: "no glue for " + ns}
	}
	var last error
	for _, q := range t.addressQuestions(ns) {
		if err := spend(&t.spent.Addresses, limits.Addresses, "look-ups of name servers"); err != nil {
			return nil, err
		}
		f, err := t.lookup(ctx, q)
		if err != nil {
			k := asFailure(err).kind
			if k == outOfBudget || k == cancelled {
				return nil, err
			}
			last = err
			if k == unreachable {
				break // the same servers would have to tell the other family
			}
			continue
		}
		if f.target != "" {
			break // an alias is no name server (RFC 2181 §10.3)
		}
		if len(f.sets) > 0 {
			return addressesIn(f.sets[0].RRs), nil
		}
		if f.rcode == dns.RcodeNameError {
			break
		}
	}
	if last == nil {
		last = &failure{kind: unreachable, code: dns.ExtendedErrorCodeNoReachableAuthority, text: ns + " has no address"}
	}
	return nil, last
}

// parentGlue are the addresses of ns that came with the delegation of the zone it
// lies in: second best, for when that zone itself gives none or wrong ones.
func (t *task) parentGlue(ns string) []netip.Addr {
	for n := ns; n != "."; n = parent(n) {
		if z := t.knownZone(n); z != nil && len(z.glue[ns]) > 0 {
			return z.glue[ns]
		}
	}
	return nil
}

func (t *task) addressQuestions(ns string) []Question {
	var qs []Question
	if !t.r.config.DisableIPv4 {
		qs = append(qs, Question{ns, dns.TypeA})
	}
	if !t.r.config.DisableIPv6 {
		qs = append(qs, Question{ns, dns.TypeAAAA})
	}
	return qs
}

func addressesIn(rrs []dns.RR) []netip.Addr {
	var addrs []netip.Addr
	for _, rr := range rrs {
		if a, ok := addressOf(rr); ok {
			addrs = append(addrs, a)
		}
	}
	return addrs
}
