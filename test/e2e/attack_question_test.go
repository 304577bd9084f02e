package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/blocklist"
	"cordon/blocklog"
)

// blocking is a world in which clients try to get round the block. No reply to
// any of them may hold an address of a listed site.
type blocking struct {
	*siege
	seen map[asked]uint64 // blocked replies that arrived, by question
}

// hidden are the addresses of listed names in the laboratory, in wire form: a
// reply that holds one anywhere has let the site through.
var hidden = func() (all [][]byte) {
	for _, a := range []string{"198.51.100.20", "198.51.100.21", "198.51.100.22", "198.51.100.23", "198.51.100.24", "198.51.100.30", "2001:db8:bad::20", "2001:db8:bad::30"} {
		all = append(all, netip.MustParseAddr(a).AsSlice())
	}
	return all
}()

func leaks(reply []byte) error {
	for _, address := range hidden {
		if bytes.Contains(reply, address) {
			return fmt.Errorf("it holds the address %x of a listed site: %x", address, reply)
		}
	}
	return nil
}

// asks puts a question and checks that nothing leaks; blocked replies are kept
// for the comparison with the block log.
func (b *blocking) asks(name string, qtype uint16, ways ...way) *dns.Msg {
	b.t().Helper()
	reply := b.ask(name, qtype, ways...)
	raw, err := reply.Pack()
	b.check(err)
	if err := leaks(raw); err != nil {
		b.t().Errorf("%s %s: %v", name, dns.TypeToString[qtype], err)
	}
	if isBlocked(reply) {
		tried := newAsking(name, qtype, ways...)
		transport := blocklog.UDP
		if tried.tcp {
			transport = blocklog.TCP
		}
		wire := make([]byte, 256)
		n, err := dns.PackDomainName(dns.Fqdn(name), wire, 0, nil, false)
		b.check(err)
		for i, c := range wire[:n] { // bytes.ToLower would take them for UTF-8
			if c >= 'A' && c <= 'Z' {
				wire[i] = c + 'a' - 'A'
			}
		}
		b.seen[asked{blocklog.NameText(wire[:n]), blocklog.TypeText(qtype), transport.String()}]++
	}
	return reply
}

// blocks asks and wants the whole of a blocked reply.
func (b *blocking) blocks(name, category string, qtype uint16, ways ...way) {
	b.t().Helper()
	reply := b.asks(name, qtype, ways...)
	if reply.IsEdns0() == nil {
		// A client without EDNS cannot be told why. All else is the same.
		told := b.ask(name, qtype)
		if !slices.Equal(addresses(reply), addresses(told)) || len(reply.Answer) != len(told.Answer) || len(reply.Ns) != len(told.Ns) ||
			reply.Rcode != told.Rcode || reply.AuthenticatedData {
			b.t().Errorf("%s %s without EDNS: %v", name, blocklog.TypeText(qtype), reply)
		}
		reply = told
	}
	if err := b.blocked(reply, category); err != nil {
		b.t().Errorf("%s %s: %v", name, blocklog.TypeText(qtype), err)
	}
}

func TestAttacksOnTheBlocking(t *testing.T) {
	t.Parallel()
	b := &blocking{siege: newSiege(t), seen: map[asked]uint64{}}
	random := seeded(t)
	b.under(t, "every type", func(*testing.T) { b.everyType(random) })
	b.under(t, "every way of asking", func(*testing.T) { b.everyWay(random) })
	b.under(t, "names that look like others", func(*testing.T) { b.lookAlikes() })
	b.under(t, "chains that lead to listed names", func(*testing.T) { b.chains() })
	b.under(t, "transfers, classes and opcodes", func(*testing.T) { b.otherOperations() })
	b.under(t, "the name by which clients look for other resolvers", func(*testing.T) { b.otherResolvers() })
	b.under(t, "malformed packets", func(*testing.T) { b.malformed() })
	b.under(t, "streams", func(*testing.T) { b.streams() })
	b.under(t, "a flood of malformed packets between good ones", func(*testing.T) { b.flood(random) })

	// Each reply that a client has as blocked is on record.
	decided := b.written().decisions
	for q, n := range b.seen {
		if decided[q] < n {
			t.Errorf("%v was blocked %d times, and is on record %d times", q, n, decided[q])
		}
	}
	if err := b.holds(b.serial); err != nil {
		t.Error(err)
	}
}

// everyType: a type that slips through is a way round (HTTPS with address hints,
// SVCB, ANY, types that nobody knows yet).
func (b *blocking) everyType(random *rand.Rand) {
	types := []uint16{dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILB, dns.TypeTKEY, dns.TypeURI, dns.TypeCAA, dns.TypeTA, dns.TypeDLV, 65534, 65535}
	for n := range uint16(270) {
		types = append(types, n)
	}
	for range 100 {
		types = append(types, uint16(random.Uint32()))
	}
	for _, qtype := range types {
		if qtype == dns.TypeOPT || qtype == dns.TypeTSIG {
			continue // miekg/dns makes no such question; see malformed
		}
		b.blocks("www."+listedDomain, "terrorism", qtype)
		b.blocks(listedHost, "minors", qtype, do)
	}
}

// everyWay: neither signatures asked for, nor checking disabled, nor any
// transport, case or flag is a way round.
func (b *blocking) everyWay(random *rand.Rand) {
	noRecursion := func(a *asking) { a.query.RecursionDesired = false }
	ad := func(a *asking) { a.query.AuthenticatedData = true }
	tiny := func(a *asking) { a.query.IsEdns0().SetUDPSize(512) }
	zero := func(a *asking) { a.query.IsEdns0().SetUDPSize(0) }
	options := func(a *asking) {
		o := a.query.IsEdns0()
		subnet := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(192, 0, 2, 0)}
		o.Option = append(o.Option, subnet, &dns.EDNS0_LOCAL{Code: 65001, Data: []byte("x")}, &dns.EDNS0_PADDING{Padding: make([]byte, 100)}, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"})
	}
	ways := [][]way{{}, {do}, {cd}, {do, cd}, {ad}, {do, ad}, {noRecursion}, {tiny}, {zero}, {options}, {do, cd, ad, options}, {plain}, {plain, cd}}
	for _, name := range []string{listedDomain, "www." + listedDomain, "a.b.c." + listedDomain, "no.such.name." + listedDomain} {
		for _, w := range ways {
			for _, transport := range [][]way{{}, {overTCP}} {
				for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeDS, dns.TypeDNSKEY, dns.TypeRRSIG, dns.TypeNSEC3, dns.TypeCNAME, dns.TypeSOA, dns.TypeTXT} {
					b.blocks(mixCase(name, random), "terrorism", qtype, slices.Concat(w, transport)...)
				}
			}
		}
	}
	// Scope host covers the name alone.
	for _, w := range ways {
		b.blocks(mixCase(listedHost, random), "minors", dns.TypeA, w...)
		b.blocks(mixCase(listedHost, random), "minors", dns.TypeAAAA, w...)
	}
	for _, below := range []string{"www.", "mail."} {
		if reply := b.asks(below+listedHost, dns.TypeA, do); isBlocked(reply) || reply.Rcode != dns.RcodeSuccess {
			b.t().Errorf("%s%s: %v", below, listedHost, reply)
		}
	}
}

// mixCase writes letters large or small by chance (draft-vixie-dnsext-dns0x20).
func mixCase(name string, random *rand.Rand) string {
	mixed := []byte(name)
	for i, c := range mixed {
		if c >= 'a' && c <= 'z' && random.IntN(2) == 0 {
			mixed[i] = c - 'a' + 'A'
		}
	}
	return string(mixed)
}

// lookAlikes: names are labels and not text. A dot or a NUL within a label makes
// another name of it, which is neither listed nor a way round.
func (b *blocking) lookAlikes() {
	for _, free := range []string{
		`propagande\.example.`,          // one label below the root
		`www.propagande\.example.`,      // and a name below it
		`www\.propagande.example.`,      // one label below example
		`x.www\.propagande.example.`,    // and below that
		`propagande\000.example.`,       // a NUL at its end
		`propagande.example\000.`,       //
		`propagande.example\000.libre.`, // cut by who reads text up to a NUL
		`xpropagande.example.`,          // ends like the name
		`propagandex.example.`,          //
		`propagande.example.example.`,   // begins like it
		`example.propagande.`,           // the other way round
		`propagande.`, `pages.propagande.`,
	} {
		if reply := b.asks(free, dns.TypeA); isBlocked(reply) || reply.Rcode != dns.RcodeNameError {
			b.t().Errorf("%s is not listed and does not exist: %v", free, reply)
		}
	}
	if reply := b.asks("example", dns.TypeSOA, do); isBlocked(reply) || len(reply.Answer) == 0 {
		b.t().Errorf("the name above a listed one: %v", reply)
	}
	for _, listed := range []string{
		`a\.b.propagande.example.`,         // whatever is below
		`\000.propagande.example.`,         //
		`\255\001.propagande.example.`,     //
		`*.propagande.example.`,            //
		`_443._tcp.www.propagande.example`, //
		`xn--a.propagande.example.`,        //
		strings.Repeat("x.", 110) + "propagande.example.",
		strings.Repeat(strings.Repeat("y", 63)+".", 3) + "propagande.example.",
	} {
		b.blocks(listed, "terrorism", dns.TypeA)
		b.blocks(listed, "terrorism", dns.TypeTXT, do)
	}
}

// chains: an alias that is not listed leads to a listed name, from the servers
// and from the cache, and when the list changes between the two.
func (b *blocking) chains() {
	leading := map[string]string{
		"alias.libre.example": "terrorism", "miroir.libre.example": "terrorism", "alias.ancien.example": "terrorism",
		"detour.libre.example":     "terrorism", // two aliases
		"www.vieux.libre.example":  "terrorism", // DNAME
		"a.b.vieux.libre.example":  "terrorism",
		"none.vieux.libre.example": "terrorism",
		"lien.libre.example":       "minors",
	}
	for range 2 { // then from the cache
		for name, category := range leading {
			for _, w := range [][]way{{}, {do}, {cd}, {do, cd}, {overTCP}, {plain}} {
				for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeHTTPS, dns.TypeTXT, dns.TypeANY} {
					if qtype == dns.TypeANY {
						b.asks(name, qtype, w...) // a short answer or a blocked one: nothing leaks
						continue
					}
					b.blocks(name, category, qtype, w...)
				}
			}
		}
		// An alias of the HTTPS kind (RFC 9460 AliasMode).
		for _, w := range [][]way{{}, {do}, {cd}, {do, cd}, {overTCP}} {
			b.blocks("service.libre.example", "terrorism", dns.TypeHTTPS, w...)
		}
	}

	// Taken off the list, the alias resolves, at once; on it again, it is blocked,
	// though it lies in the cache with the other verdict.
	f := b.forge(b.edition())
	without := f.list(f.edition.serial)
	without.Entries = slices.DeleteFunc(without.Entries, func(e blocklist.Entry) bool { return e.Name == listedDomain })
	without.Sort()
	f.text(spell(f.press.t, without))
	b.show(f.dir)
	b.r.enforces("national", f.edition.serial)
	for range 2 {
		if got := addresses(b.ask("alias.libre.example", dns.TypeA, do)); !slices.Equal(got, []string{"198.51.100.20"}) {
			b.t().Errorf("alias.libre.example leads to %v, where nothing is listed", got)
		}
	}
	b.show(b.edition().dir)
	b.takes()
	for name, category := range leading {
		b.blocks(name, category, dns.TypeA)
		b.blocks(name, category, dns.TypeA, do)
	}
}

// otherOperations: what is not a plain question of class IN gives nothing away,
// neither the site nor the list.
func (b *blocking) otherOperations() {
	class := func(c uint16) way { return func(a *asking) { a.query.Question[0].Qclass = c } }
	for _, c := range []uint16{dns.ClassCHAOS, dns.ClassHESIOD, dns.ClassNONE, dns.ClassANY, 0, 2, 65535} {
		for _, name := range []string{"www." + listedDomain, listedHost, "www.libre.example"} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeTXT, dns.TypeANY} {
				if reply := b.asks(name, qtype, class(c)); reply.Rcode != dns.RcodeRefused || len(reply.Answer)+len(reply.Ns) != 0 {
					b.t().Errorf("%s in class %d: %v", name, c, reply)
				}
			}
		}
	}
	for _, transport := range [][]way{{}, {overTCP}} {
		for _, qtype := range []uint16{dns.TypeAXFR, dns.TypeIXFR} {
			b.blocks(listedDomain, "terrorism", qtype, transport...)
			for _, zone := range []string{".", "example", "libre.example"} {
				if reply := b.asks(zone, qtype, transport...); reply.Rcode != dns.RcodeNotImplemented || len(reply.Answer) != 0 {
					b.t().Errorf("a transfer of %s: %v", zone, reply)
				}
			}
		}
	}
	for _, opcode := range []int{dns.OpcodeIQuery, dns.OpcodeStatus, dns.OpcodeNotify, dns.OpcodeUpdate, 6, 15} {
		op := func(a *asking) { a.query.Opcode = opcode }
		reply, err := newAsking("www."+listedDomain, dns.TypeA, op).exchangeAny(b.dns)
		if err != nil || reply.Rcode != dns.RcodeNotImplemented || len(reply.Answer)+len(reply.Ns) != 0 {
			b.t().Errorf("opcode %d: %v, %v", opcode, reply, err)
		}
	}
}

// otherResolvers: an answer to this name that comes from elsewhere would lead
// clients to a resolver that blocks nothing (RFC 9462 §4).
func (b *blocking) otherResolvers() {
	for _, name := range []string{"_dns.resolver.arpa", "_DNS.Resolver.Arpa", "resolver.arpa", "x._dns.resolver.arpa"} {
		for _, qtype := range []uint16{dns.TypeSVCB, dns.TypeHTTPS, dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeDS} {
			for _, w := range [][]way{{}, {do}, {cd}, {overTCP}} {
				reply := b.asks(name, qtype, w...)
				// The laboratory's root knows no arpa: NXDOMAIN would come from there.
				if reply.Rcode != dns.RcodeSuccess || len(reply.Answer) != 0 || len(reply.Ns) != 1 || !strings.EqualFold(reply.Ns[0].Header().Name, "resolver.arpa.") {
					b.t().Errorf("%s %s: %v", name, dns.TypeToString[qtype], reply)
				}
			}
		}
	}
}

// exchangeAny is exchange for what is no question, whose answer repeats none.
func (a *asking) exchangeAny(server netip.AddrPort) (*dns.Msg, error) {
	c := dns.Client{Timeout: 10 * time.Second}
	reply, _, err := c.Exchange(a.query, server.String())
	return reply, err
}
