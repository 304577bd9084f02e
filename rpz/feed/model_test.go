package feed

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// model is what Set does, said as simply as can be: all rules are tried.
type model struct {
	rules []modelRule // of all feeds
}

type modelRule struct {
	feed   int
	kind   Trigger
	name   string // with "*." in front for a wildcard
	prefix netip.Prefix
	action Action
}

func (m *model) names(feed int, kind Trigger, name string) (best *modelRule) {
	for i := range m.rules {
		r := &m.rules[i]
		if r.feed != feed || r.kind != kind {
			continue
		}
		if r.name == name {
			return r
		}
		if below, wild := strings.CutPrefix(r.name, "*."); wild && name != below && dns.IsSubDomain(below, name) {
			if best == nil || len(r.name) > len(best.name) {
				best = r
			}
		}
	}
	return best
}

func (m *model) addresses(feed int, kind Trigger, addrs []netip.Addr) (best *modelRule) {
	var at netip.Addr
	for _, a := range addrs {
		for i := range m.rules {
			r := &m.rules[i]
			if r.feed != feed || r.kind != kind || !r.prefix.Contains(a) {
				continue
			}
			if best == nil || bitsOf(r.prefix) > bitsOf(best.prefix) || bitsOf(r.prefix) == bitsOf(best.prefix) && a.Unmap().Compare(at) < 0 {
				best, at = r, a
			}
		}
	}
	return best
}

func (m *model) answer(feeds int, client netip.Addr, chain []string, addrs []netip.Addr, servers []string) *modelRule {
	for i, name := range chain {
		for feed := range feeds {
			if i == 0 {
				if r := m.addresses(feed, ClientIP, []netip.Addr{client}); r != nil {
					return r
				}
			}
			if r := m.names(feed, QName, name); r != nil {
				return r
			}
			if i < len(chain)-1 {
				continue
			}
			if r := m.addresses(feed, ResponseIP, addrs); r != nil {
				return r
			}
			var best *modelRule
			smallest := ""
			for _, s := range servers {
				if r := m.names(feed, NSDName, s); r != nil && (best == nil || reversed(s) < reversed(smallest)) {
					best, smallest = r, s
				}
			}
			if best != nil {
				return best
			}
		}
	}
	return nil
}

// reversed sorts names of one-letter labels in canonical order.
func reversed(name string) string {
	labels := dns.SplitDomainName(name)
	var b strings.Builder
	for i := len(labels) - 1; i >= 0; i-- {
		b.WriteString(labels[i] + "\x00")
	}
	return b.String()
}

// TestMatchingIsWhatTheModelSays draws rules and questions from a small world, in
// which they meet often.
func TestMatchingIsWhatTheModelSays(t *testing.T) {
	const feeds = 3
	r := rand.New(rand.NewPCG(1, 2))
	name := func() string {
		n := ""
		for range 1 + r.IntN(4) {
			n += string("abc"[r.IntN(3)]) + "."
		}
		return n
	}
	addr := func() netip.Addr {
		if r.IntN(3) == 0 {
			return netip.AddrFrom16([16]byte{0x20, 1, 15: byte(r.IntN(8))})
		}
		return netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(2)), byte(r.IntN(8))})
	}
	actions := []Action{NXDomain, NoData, Passthru, Drop, TCPOnly}
	for round := range 300 {
		var m model
		texts := make([]strings.Builder, feeds)
		seen := map[string]bool{}
		for range r.IntN(25) {
			rule := modelRule{feed: r.IntN(feeds), kind: []Trigger{QName, QName, NSDName, ClientIP, ResponseIP}[r.IntN(5)], action: actions[r.IntN(len(actions))]}
			owner := ""
			switch rule.kind {
			case QName, NSDName:
				rule.name = name()
				if r.IntN(2) == 0 {
					rule.name = "*." + rule.name
				}
				owner = rule.name
				if rule.kind == NSDName {
					owner += "rpz-nsdname."
				}
			default:
				a := addr()
				rule.prefix = netip.PrefixFrom(a, r.IntN(a.BitLen()+1)).Masked()
				if r.IntN(3) == 0 {
					rule.prefix = netip.PrefixFrom(a, a.BitLen())
				}
				owner = ownerOf(rule.prefix) + rule.kind.String() + "."
			}
			if key := fmt.Sprint(rule.feed, owner); seen[key] {
				continue
			} else {
				seen[key] = true
			}
			m.rules = append(m.rules, rule)
			target := map[Action]string{NXDomain: ".", NoData: "*.", Passthru: "rpz-passthru.", Drop: "rpz-drop.", TCPOnly: "rpz-tcp-only."}[rule.action]
			fmt.Fprintf(&texts[rule.feed], "%s%s CNAME %s\n", owner, origin, target)
		}
		var zones []*Zone
		for i := range texts {
			z := compile(t, texts[i].String())
			if z.Counts.Invalid+z.Counts.Unsupported > 0 {
				t.Fatalf("rules were not taken: %v", z.Shunned)
			}
			zones = append(zones, z)
		}
		s := NewSet(zones)
		for range 60 {
			client := addr()
			chain := []string{name()}
			for range r.IntN(3) {
				chain = append(chain, name())
			}
			a := said{targets: chain[1:], t: t}
			var addrs []netip.Addr
			for range r.IntN(3) {
				addrs = append(addrs, addr())
				a.addresses = append(a.addresses, addrs[len(addrs)-1].String())
			}
			for range r.IntN(3) {
				a.servers = append(a.servers, name())
			}
			q := Question{Name: wire(t, chain[0]), Client: client}
			want := m.answer(feeds, client, chain, addrs, a.servers)
			got := s.Answer(q, a)
			if (want == nil) != (got.Action() == 0) || want != nil && (got.Action() != want.action || got.Zone != zones[want.feed] || got.Trigger != want.kind) {
				t.Fatalf("round %d: %v from %v, addresses %v, servers %v: got %v by %q, want %+v\n%v", round, chain, client, addrs, a.servers, got.Action(), got.Entry(), want, m.rules)
			}
			// What the question alone decides, the answer does not change.
			if early, final := s.Question(q); final && early.Action() != got.Action() {
				t.Fatalf("round %d: %v was final and became %v", round, early.Action(), got.Action())
			}
		}
	}
}

// ownerOf writes a prefix as rules do.
func ownerOf(p netip.Prefix) string {
	text := fmt.Sprintf("%d.", p.Bits())
	if p.Addr().Is4() {
		b := p.Addr().As4()
		return text + fmt.Sprintf("%d.%d.%d.%d.", b[3], b[2], b[1], b[0])
	}
	b := p.Addr().As16()
	for i := 14; i >= 0; i -= 2 {
		text += fmt.Sprintf("%x.", int(b[i])<<8|int(b[i+1]))
	}
	return text
}

// TestPrefixesAreLaidOutAsTheyCover compares the table with the plain meaning of
// prefixes, up to the ends of the address space.
func TestPrefixesAreLaidOutAsTheyCover(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		rules := map[netip.Prefix]rule{}
		random := func() netip.Addr {
			var b [16]byte
			edge := []byte{0, 0xff, byte(r.Uint32())}[r.IntN(3)]
			for i := range b {
				b[i] = edge
			}
			b[r.IntN(16)] ^= 1 << r.IntN(8)
			if r.IntN(2) == 0 {
				return netip.AddrFrom4([4]byte(b[:4]))
			}
			return netip.AddrFrom16(b)
		}
		for range r.IntN(6) {
			a := random().Unmap()
			rules[netip.PrefixFrom(a, r.IntN(a.BitLen()+1)).Masked()] = rule(NXDomain)
		}
		table := newAddresses(ruled(rules))
		ask := []netip.Addr{random()}
		for p := range rules {
			ask = append(ask, p.Addr(), p.Addr().Prev())
		}
		for _, a := range ask {
			if !a.IsValid() {
				continue
			}
			var want netip.Prefix
			for p := range rules {
				if p.Contains(a.Unmap()) && (!want.IsValid() || p.Bits() > want.Bits()) {
					want = p
				}
			}
			got, ok := table.longest(a)
			if ok != want.IsValid() || ok && got.prefix != want {
				t.Fatalf("%v in %v: %v %v, want %v", a, rules, got.prefix, ok, want)
			}
		}
	}
}
