package iterate

import (
	"strings"

	"github.com/miekg/dns"
)

// The bounds of RFC 9156 §2.3: after minimiseOne steps of one label each, the
// labels that are left are shared out among the steps that are left.
// Names of servers, which are no secret, get a few, since whoever delegates a zone
// chooses them; and a request gets the most for all its names together, or each
// alias could cost as much again (CAMP).
const (
	minimiseOne     = 4
	minimiseMax     = 10
	minimiseServers = 2
)

// minimiser shows each zone no more of a name than it needs to see (RFC 9156).
// It is relaxed: what is no proof ends it, and the full question is asked.
type minimiser struct {
	q     Question
	have  int // labels that are known to exist or to be of no interest
	steps int
	max   int // steps that there may be
	off   bool
}

// next is the question to ask in a zone of n labels.
func (m *minimiser) next(n int) Question {
	m.have = max(m.have, n)
	left := dns.CountLabel(m.q.Name) - m.have
	if m.off || left <= 1 || m.steps >= m.max {
		return m.q
	}
	labels := 1
	if m.steps >= minimiseOne {
		labels = (left + m.max - m.steps - 1) / (m.max - m.steps)
	}
	if labels >= left {
		return m.q
	}
	// A rather than NS: some servers answer for NS only at the cut (§2.1). Who
	// asks for NS has nothing to hide behind another type.
	asked := Question{lastLabels(m.q.Name, m.have+labels), dns.TypeA}
	if m.q.Type == dns.TypeNS {
		asked.Type = dns.TypeNS
	}
	return asked
}

// deeper notes that asked exists and is no zone cut.
func (m *minimiser) deeper(asked Question) {
	m.have = dns.CountLabel(asked.Name)
	m.steps++
}

// lastLabels is the name made of the last n labels of name.
func lastLabels(name string, n int) string {
	if n <= 0 {
		return "."
	}
	off := 0
	for range dns.CountLabel(name) - n {
		off, _ = dns.NextLabel(name, off)
	}
	return name[off:]
}

// parent is name without its leftmost label.
func parent(name string) string {
	off, last := dns.NextLabel(name, 0)
	if last {
		return "."
	}
	return name[off:]
}

// below says whether name is at or below zone; both are canonical.
func below(zone, name string) bool {
	if zone == "." {
		return true
	}
	before, ok := strings.CutSuffix(name, zone)
	if !ok || before == "" {
		return ok
	}
	// The label before ends in a dot, and not in one of its own.
	labels, ok := strings.CutSuffix(before, ".")
	own := len(labels) - len(strings.TrimRight(labels, `\`))
	return ok && own%2 == 0
}

// strictlyBelow says whether name is below zone and not zone itself.
func strictlyBelow(zone, name string) bool { return zone != name && below(zone, name) }
