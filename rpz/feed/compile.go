package feed

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Zone is the rules of one feed, compiled. Immutable.
type Zone struct {
	Name   string // of the feed, in the configuration
	Origin string // of the zone: fully qualified, lower case
	SOA    dns.SOA
	Counts Counts
	// Shunned says of rules and records why they are not in force, one a line, at
	// most maxShunned of them.
	Shunned []string

	qnames  *names
	servers *names
	clients addresses
	answers addresses
	locals  []Local
}

// Counts are what became of a feed's rules. A rule is a trigger with its action,
// however many records its local data have. A record that is left out of local data
// counts besides its rule, which holds without it.
type Counts struct {
	Active      int `json:"active"`
	Unsupported int `json:"unsupported"` // good, and not known here
	Refused     int `json:"refused"`     // would lead to a stop page
	Invalid     int `json:"invalid"`     // not to be understood
}

const maxShunned = 100

// StopPages tells what leads to an official stop page. A feed's local data must
// not (Promise 1).
type StopPages interface {
	StopPageAddress(netip.Addr) bool
	StopPageName(name []byte) bool // wire form, lower case
}

// compiler makes a Zone of the records of one.
type compiler struct {
	zone    *Zone
	origin  []byte // wire form
	pages   StopPages
	clients map[netip.Prefix]rule
	answers map[netip.Prefix]rule
	local   map[string]rule // what has local data, by its name
	soa     bool
}

// newCompiler returns a compiler of the feed of that name, whose zone is origin
// (fully qualified, lower case).
func newCompiler(name, origin string, pages StopPages) (*compiler, error) {
	w, err := wireName(origin)
	if err != nil {
		return nil, fmt.Errorf("zone: %w", err)
	}
	return &compiler{
		zone:   &Zone{Name: name, Origin: origin, qnames: newNames(), servers: newNames()},
		origin: w, pages: pages,
		clients: map[netip.Prefix]rule{}, answers: map[netip.Prefix]rule{}, local: map[string]rule{},
	}, nil
}

// errNoZone is wrapped where records are not those of the feed's zone at all.
var errNoZone = errors.New("not the zone of this feed")

// add takes the next record. It fails where the records cannot be the feed's; what
// is wrong with single rules is counted and named.
func (c *compiler) add(rr dns.RR) error {
	h := rr.Header()
	owner, err := wireName(h.Name)
	if err != nil {
		return err
	}
	labels, inside := relative(owner, c.origin)
	if soa, ok := rr.(*dns.SOA); ok {
		if !inside || len(labels) > 0 {
			return fmt.Errorf("the SOA is of %s, the feed's zone is %s: %w; set zone to the name that the feed's provider gives", h.Name, c.zone.Origin, errNoZone)
		}
		if !c.soa {
			c.soa, c.zone.SOA = true, *soa
		}
		return nil
	}
	switch h.Rrtype {
	case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeNSEC3PARAM, dns.TypeDNSKEY, dns.TypeDS, dns.TypeCDS, dns.TypeCDNSKEY, dns.TypeZONEMD:
		return nil // of the zone itself, where it is signed
	}
	switch {
	case !inside || h.Class != dns.ClassINET:
		c.shun(&c.zone.Counts.Invalid, h.Name, fmt.Errorf("it is not in the zone %s, class IN", c.zone.Origin))
	case len(labels) > 0: // else about the zone: its NS records and the like
		c.rule(strings.ToLower(h.Name), labels, rr)
	}
	return nil
}

// finish gives the zone.
func (c *compiler) finish() (*Zone, error) {
	if !c.soa {
		return nil, fmt.Errorf("there is no SOA record of %s: %w; is it whole, and is zone the name that the feed's provider gives?", c.zone.Origin, errNoZone)
	}
	z := c.zone
	z.clients, z.answers = newAddresses(ruled(c.clients)), newAddresses(ruled(c.answers))
	z.qnames.clip()
	z.servers.clip()
	z.locals = slices.Clip(z.locals)
	return z, nil
}

func ruled(rules map[netip.Prefix]rule) []prefixRule {
	all := make([]prefixRule, 0, len(rules))
	for p, r := range rules {
		all = append(all, prefixRule{p, r})
	}
	return all
}

// rule takes a record of a rule, whose name is owner.
func (c *compiler) rule(owner string, labels []string, rr dns.RR) {
	counts := &c.zone.Counts
	t, err := readTrigger(labels)
	if err != nil {
		c.shunAs(owner, err)
		return
	}
	if cname, ok := rr.(*dns.CNAME); ok {
		action, err := actionOf(cname, t)
		if err != nil {
			c.shunAs(owner, err)
			return
		}
		if action != LocalData {
			switch old, taken := c.set(t, rule(action)); {
			case !taken:
				counts.Active++
			case old != rule(action):
				c.shun(&counts.Invalid, owner, errors.New("it has an action or records already"))
			}
			return
		}
	}
	r, known := c.local[owner]
	if !known {
		r = firstLocal + rule(len(c.zone.locals))
		if _, taken := c.set(t, r); taken {
			c.shun(&counts.Invalid, owner, errors.New("it has an action already"))
			return
		}
		counts.Active++
		c.zone.locals = append(c.zone.locals, Local{})
		c.local[owner] = r
	}
	if err := c.extend(&c.zone.locals[r-firstLocal], rr); err != nil {
		c.shunAs(owner, err)
	}
}

// set sets the rule of a trigger, unless it has one.
func (c *compiler) set(t trigger, r rule) (old rule, taken bool) {
	switch t.kind {
	case ClientIP, ResponseIP:
		rules := c.clients
		if t.kind == ResponseIP {
			rules = c.answers
		}
		if old, taken = rules[t.prefix]; !taken {
			rules[t.prefix] = r
		}
		return old, taken
	}
	table := c.zone.qnames
	if t.kind == NSDName {
		table = c.zone.servers
	}
	if table.put(t.name, t.wild, r) {
		return 0, false
	}
	exact, wild := table.get(t.name[:len(t.name)-1])
	if t.wild {
		return wild, true
	}
	return exact, true
}

// shunAs counts and names what is not in force, by the kind of its error.
func (c *compiler) shunAs(owner string, err error) {
	count := &c.zone.Counts.Invalid
	var unsupported unsupportedError
	switch {
	case errors.As(err, &unsupported):
		count = &c.zone.Counts.Unsupported
	case errors.Is(err, errStopPage):
		count = &c.zone.Counts.Refused
	}
	c.shun(count, owner, err)
}

func (c *compiler) shun(count *int, owner string, err error) {
	*count++
	if len(c.zone.Shunned) < maxShunned {
		c.zone.Shunned = append(c.zone.Shunned, owner+" "+err.Error())
	}
}
