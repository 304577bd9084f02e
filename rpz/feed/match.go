package feed

import (
	"bytes"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// Set is the feeds in force at one moment, in order of precedence. Immutable.
type Set struct {
	zones []*Zone
	// The first feed with rules that only an answer can trigger; len(zones): none.
	waits   int
	servers bool // a feed has NSDNAME rules
}

// NewSet puts zones into force together, the first before the others.
func NewSet(zones []*Zone) *Set {
	s := &Set{zones: zones, waits: len(zones)}
	for i, z := range zones {
		if s.waits == len(zones) && (len(z.answers.prefixes) > 0 || z.servers.used > 0) {
			s.waits = i
		}
		s.servers = s.servers || z.servers.used > 0
	}
	return s
}

// Match is the rule that holds. The zero Match is none.
type Match struct {
	Zone    *Zone
	Trigger Trigger
	rule    rule
	name    []byte // what the rule names, of QName and NSDName; shared with what was asked
	wild    bool
	prefix  netip.Prefix // of ClientIP and ResponseIP
}

// Action is what the rule does; 0 where there is none.
func (m *Match) Action() Action { return m.rule.action() }

// Local is the local data, where that is the action.
func (m *Match) Local() *Local { return &m.Zone.locals[m.rule-firstLocal] }

// Entry names the rule for a record, in at most 255 bytes. It names no address of
// a client: of ClientIP rules it tells the kind alone.
func (m *Match) Entry() string {
	text := ""
	switch m.Trigger {
	case QName, NSDName:
		text, _, _ = dns.UnpackDomainName(m.name, 0) // a name, as the table holds no other
		text = strings.TrimSuffix(text, ".")
		if m.wild {
			text = strings.TrimSuffix("*."+text, ".")
		}
	case ResponseIP:
		text = m.prefix.String()
	}
	if m.Trigger != QName {
		text = strings.TrimSpace(m.Trigger.String() + " " + text)
	}
	const most = 255
	if len(text) > most {
		text = text[:most]
	}
	return text
}

// Question is what is known before there is an answer.
type Question struct {
	Name   []byte // wire form, lower case
	Client netip.Addr
}

// Answer is what is known of an answer.
type Answer interface {
	// Target is the i-th name that the answer leads to, wire form, lower case; nil
	// past the last.
	Target(i int) []byte
	// Address is the i-th address in the answer; false past the last.
	Address(i int) (netip.Addr, bool)
	// Server is the i-th server name of the zones that answer, wire form, lower
	// case; nil past the last.
	Server(i int) []byte
}

// NeedServers reports whether Answer.Server is asked for.
func (s *Set) NeedServers() bool { return s.servers }

// Question finds the rule for a question. final says that no answer can
// trigger one of higher precedence; where it is false, Answer decides, and m is
// what holds if there is none. It does not allocate.
func (s *Set) Question(q Question) (m Match, final bool) {
	for i, z := range s.zones {
		if m := z.question(q.Name, q.Client, true); m.rule != 0 {
			return m, i <= s.waits
		}
	}
	return Match{}, false
}

// Answer finds the rule for a question and its answer, by the order of §5 of the
// draft: the names of the chain in order, the question's first; for each, the
// feeds in order; in each feed, ClientIP, QName, ResponseIP, NSDName; of
// prefixes the longest and of equal ones that of the smallest address; of server
// names the smallest. Addresses stand at the end of the chain. It does not allocate.
func (s *Set) Answer(q Question, a Answer) Match {
	name := q.Name
	for i := 0; ; i++ {
		next := a.Target(i)
		for _, z := range s.zones {
			if m := z.question(name, q.Client, i == 0); m.rule != 0 {
				return m
			}
			if next != nil {
				continue
			}
			if m := z.address(a); m.rule != 0 {
				return m
			}
			if m := z.server(a); m.rule != 0 {
				return m
			}
		}
		if next == nil {
			return Match{}
		}
		name = next
	}
}

// Named gives the rule of each feed that a name (wire form, lower case) triggers, in
// order of precedence: for people.
func (s *Set) Named(name []byte) (all []Match) {
	for _, z := range s.zones {
		if m := z.question(name, netip.Addr{}, false); m.rule != 0 {
			all = append(all, m)
		}
	}
	return all
}

// question tries what is known without an answer.
func (z *Zone) question(name []byte, client netip.Addr, first bool) Match {
	if first && len(z.clients.spans) > 0 {
		if p, ok := z.clients.longest(client); ok {
			return Match{Zone: z, Trigger: ClientIP, rule: p.rule, prefix: p.prefix}
		}
	}
	if r, from, wild := z.qnames.lookup(name); r != 0 {
		return Match{Zone: z, Trigger: QName, rule: r, name: name[from:], wild: wild}
	}
	return Match{}
}

func (z *Zone) address(a Answer) (best Match) {
	if len(z.answers.spans) == 0 {
		return best
	}
	var at netip.Addr
	for i := 0; ; i++ {
		addr, ok := a.Address(i)
		if !ok {
			return best
		}
		p, ok := z.answers.longest(addr)
		if !ok {
			continue
		}
		longer := best.rule == 0 || bitsOf(p.prefix) > bitsOf(best.prefix)
		if longer || bitsOf(p.prefix) == bitsOf(best.prefix) && keyOf(addr).compare(keyOf(at)) < 0 {
			best, at = Match{Zone: z, Trigger: ResponseIP, rule: p.rule, prefix: p.prefix}, addr
		}
	}
}

func (z *Zone) server(a Answer) (best Match) {
	if z.servers.used == 0 {
		return best
	}
	var smallest []byte
	for i := 0; ; i++ {
		name := a.Server(i)
		if name == nil {
			return best
		}
		r, from, wild := z.servers.lookup(name)
		if r != 0 && (smallest == nil || canonicalLess(name, smallest)) {
			best, smallest = Match{Zone: z, Trigger: NSDName, rule: r, name: name[from:], wild: wild}, name
		}
	}
}

// canonicalLess compares names in wire form, lower case, in the order of RFC 4034
// §6.1: by labels, the last first.
func canonicalLess(a, b []byte) bool {
	var atA, atB [128]uint8
	n, m := offsets(a, &atA), offsets(b, &atB)
	for n > 0 && m > 0 {
		n--
		m--
		x, y := int(atA[n]), int(atB[m])
		if c := bytes.Compare(a[x+1:x+1+int(a[x])], b[y+1:y+1+int(b[y])]); c != 0 {
			return c < 0
		}
	}
	return n < m
}

// offsets finds where the labels of a name begin.
func offsets(name []byte, at *[128]uint8) (labels int) {
	for i := 0; i < len(name) && name[i] != 0 && labels < len(at); i += 1 + int(name[i]) {
		at[labels] = uint8(i)
		labels++
	}
	return labels
}
