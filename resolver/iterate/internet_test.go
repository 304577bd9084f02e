package iterate

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// internet is a signed internet in memory: zones, the servers that serve them,
// and an Exchange that carries queries to them. Signatures are made by
// miekg/dns, so that signer and validator are not of one hand.
type internet struct {
	t     testing.TB
	zones map[string]*authZone

	mu      sync.Mutex
	now     time.Time // guarded by mu, as all below
	servers map[netip.Addr]*authServer
	log     []sent
}

// sent is one query that was carried.
type sent struct {
	server netip.Addr
	Question
	stream, edns bool
}

// authServer serves zones. behave, if set, may replace what it would answer;
// nil with an error is silence.
type authServer struct {
	zones  []*authZone
	behave func(q *dns.Msg, stream bool, honest func() *dns.Msg) (*dns.Msg, error)
	hold   chan struct{} // if set, no reply before it is closed
}

var errSilence = errors.New("no reply")

func silent(*dns.Msg, bool, func() *dns.Msg) (*dns.Msg, error) { return nil, errSilence }

func newInternet(t testing.TB) *internet {
	return &internet{
		t: t, zones: map[string]*authZone{}, servers: map[netip.Addr]*authServer{},
		now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
}

func (n *internet) clock() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.now
}

func (n *internet) pass(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.now = n.now.Add(d)
}

// queries counts what was sent since it was last called.
func (n *internet) queries() []sent {
	n.mu.Lock()
	defer n.mu.Unlock()
	log := n.log
	n.log = nil
	return log
}

func (n *internet) Exchange(ctx context.Context, server netip.AddrPort, query *dns.Msg, stream bool) (*dns.Msg, error) {
	q := query.Question[0]
	n.mu.Lock()
	n.log = append(n.log, sent{server.Addr(), Question{q.Name, q.Qtype}, stream, query.IsEdns0() != nil})
	s := n.servers[server.Addr()]
	n.mu.Unlock()
	if s == nil {
		return nil, errSilence
	}
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	honest := func() *dns.Msg { return s.answer(query) }
	var m *dns.Msg
	var err error
	if s.behave != nil {
		m, err = s.behave(query, stream, honest)
	} else {
		m = honest()
	}
	if err != nil {
		return nil, err
	}
	// Over the wire and back, as a real one would come.
	wire, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("test server: %w", err)
	}
	m = new(dns.Msg)
	return m, m.Unpack(wire)
}

func (n *internet) server(addr string) *authServer {
	a := netip.MustParseAddr(addr)
	s, ok := n.servers[a]
	if !ok {
		s = &authServer{}
		n.servers[a] = s
	}
	return s
}

type denialMode int

const (
	unsigned denialMode = iota
	withNSEC
	withNSEC3
	withOptOut
)

// zone makes a zone with a name server ns1, ns2, ... at each address, and
// delegates it from the closest zone made before.
func (n *internet) zone(name string, mode denialMode, addrs ...string) *authZone {
	z := &authZone{n: n, name: name, mode: mode, rrs: map[string]map[uint16][]dns.RR{}, sigs: map[string]*dns.RRSIG{}, ttl: 3600, salt: "ab"}
	z.valid = [2]time.Time{n.now.Add(-24 * time.Hour), n.now.Add(30 * 24 * time.Hour)}
	if mode != unsigned {
		z.newKey()
	}
	n.zones[name] = z
	z.add("@ 3600 SOA ns1 hostmaster 1 7200 3600 1209600 300")
	for i, addr := range addrs {
		ns := fmt.Sprintf("ns%d", i+1)
		z.add("@ NS " + ns)
		z.add(ns + " " + family(addr) + " " + addr)
		n.serve(z, addr)
	}
	if name == "." {
		return z
	}
	p := n.parentOf(name)
	for i, addr := range addrs {
		ns := fmt.Sprintf("ns%d.%s", i+1, name)
		p.add(name + " NS " + ns)
		p.add(ns + " " + family(addr) + " " + addr)
	}
	if mode != unsigned {
		p.addRR(z.key.ToDS(dns.SHA256))
	}
	return z
}

func family(addr string) string {
	if strings.Contains(addr, ":") {
		return "AAAA"
	}
	return "A"
}

func (n *internet) serve(z *authZone, addr string) {
	s := n.server(addr)
	s.zones = append(s.zones, z)
}

func (n *internet) parentOf(name string) *authZone {
	for p := parent(name); ; p = parent(p) {
		if z := n.zones[p]; z != nil {
			return z
		}
	}
}

// authZone is a zone and its one key.
type authZone struct {
	n     *internet
	name  string
	mode  denialMode
	ttl   uint32
	rrs   map[string]map[uint16][]dns.RR
	key   *dns.DNSKEY
	priv  crypto.Signer
	valid [2]time.Time
	sigs  map[string]*dns.RRSIG
	// iterations and salt of NSEC3.
	iterations uint16
	salt       string
}

func (z *authZone) newKey() {
	z.key = &dns.DNSKEY{Hdr: dns.RR_Header{Name: z.name, Rrtype: dns.TypeDNSKEY, Class: 1, Ttl: 3600}, Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256}
	priv, err := z.key.Generate(256)
	for err == nil && z.key.KeyTag() == 0 { // which miekg/dns does not sign with
		priv, err = z.key.Generate(256)
	}
	if err != nil {
		z.n.t.Fatal(err)
	}
	z.priv = priv.(crypto.Signer)
	if z.rrs[z.name] != nil {
		delete(z.rrs[z.name], dns.TypeDNSKEY)
	}
	z.addRR(z.key)
	clear(z.sigs)
}

// add takes records in zone file form, relative to the zone.
func (z *authZone) add(lines ...string) {
	z.n.t.Helper()
	for _, line := range lines {
		p := dns.NewZoneParser(strings.NewReader(fmt.Sprintf("$TTL %d\n%s\n", z.ttl, line)), z.name, "")
		rr, ok := p.Next()
		if !ok {
			z.n.t.Fatalf("%q: %v", line, p.Err())
		}
		z.addRR(rr)
	}
}

func (z *authZone) addRR(rr dns.RR) {
	name, t := dns.CanonicalName(rr.Header().Name), rr.Header().Rrtype
	if z.rrs[name] == nil {
		z.rrs[name] = map[uint16][]dns.RR{}
	}
	z.rrs[name][t] = append(z.rrs[name][t], rr)
}

func (z *authZone) remove(name string, t uint16) { delete(z.rrs[name], t) }

// signed is a set with its signature, under owner (which may be expanded from a
// wildcard).
func (z *authZone) signed(set []dns.RR, owner string) []dns.RR {
	var out []dns.RR
	for _, rr := range set {
		rr = dns.Copy(rr)
		rr.Header().Name = owner
		out = append(out, rr)
	}
	if z.mode == unsigned || len(set) == 0 {
		return out
	}
	id := fmt.Sprint(set, z.valid)
	sig := z.sigs[id]
	if sig == nil {
		sig = &dns.RRSIG{
			Hdr:       dns.RR_Header{Ttl: set[0].Header().Ttl},
			Inception: uint32(z.valid[0].Unix()), Expiration: uint32(z.valid[1].Unix()),
			KeyTag: z.key.KeyTag(), SignerName: z.name, Algorithm: z.key.Algorithm,
		}
		if err := sig.Sign(z.priv, set); err != nil {
			z.n.t.Fatal(err)
		}
		z.sigs[id] = sig
	}
	sig = dns.Copy(sig).(*dns.RRSIG)
	sig.Hdr.Name = owner
	return append(out, sig)
}

// names are those of the zone itself, in canonical order: no glue. With ents,
// empty non-terminals too.
func (z *authZone) names(ents bool) []string {
	set := map[string]bool{}
	for name, types := range z.rrs {
		if len(types) == 0 || z.cutAbove(parent(name)) != "" && name != z.name {
			continue
		}
		if z.mode == withOptOut && types[dns.TypeNS] != nil && types[dns.TypeDS] == nil && name != z.name {
			continue
		}
		set[name] = true
		for p := name; ents && p != z.name; p = parent(p) {
			set[p] = true
		}
	}
	var names []string
	for name := range set {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(reversed(a), reversed(b)) })
	return names
}

// reversed sorts as canonical order does, for the plain names of these tests.
func reversed(name string) string {
	labels := dns.SplitDomainName(name)
	slices.Reverse(labels)
	return strings.Join(labels, "\x00")
}

// cutAbove is the delegation at or above name within the zone.
func (z *authZone) cutAbove(name string) string {
	cut := ""
	for n := name; strictlyBelow(z.name, n); n = parent(n) {
		if len(z.rrs[n][dns.TypeNS]) > 0 {
			cut = n
		}
	}
	return cut
}

func (z *authZone) bitmap(name string) []uint16 {
	var types []uint16
	delegation := name != z.name && z.rrs[name][dns.TypeNS] != nil
	for t := range z.rrs[name] {
		if !delegation || t == dns.TypeNS || t == dns.TypeDS {
			types = append(types, t)
		}
	}
	if z.mode == withNSEC {
		types = append(types, dns.TypeNSEC)
	}
	if (z.mode == withNSEC || !delegation || z.rrs[name][dns.TypeDS] != nil) && len(types) > 0 {
		types = append(types, dns.TypeRRSIG)
	}
	slices.Sort(types)
	return types
}

// proof is the denial record that matches name, or covers it.
func (z *authZone) proof(name string) []dns.RR {
	switch z.mode {
	case unsigned:
		return nil
	case withNSEC:
		names := z.names(false)
		at := len(names) - 1
		for i, n := range names {
			if reversed(n) <= reversed(name) {
				at = i
			}
		}
		nsec := &dns.NSEC{Hdr: dns.RR_Header{Name: names[at], Rrtype: dns.TypeNSEC, Class: 1, Ttl: 300},
			NextDomain: names[(at+1)%len(names)], TypeBitMap: z.bitmap(names[at])}
		return z.signed([]dns.RR{nsec}, names[at])
	}
	hashes := map[string]string{}
	var sorted []string
	for _, n := range z.names(true) {
		h := dns.HashName(n, dns.SHA1, z.iterations, z.salt)
		hashes[h] = n
		sorted = append(sorted, h)
	}
	slices.Sort(sorted)
	want := dns.HashName(name, dns.SHA1, z.iterations, z.salt)
	at := len(sorted) - 1
	for i, h := range sorted {
		if h <= want {
			at = i
		}
	}
	owner := strings.ToLower(sorted[at]) + "." + strings.TrimPrefix(z.name, ".")
	nsec3 := &dns.NSEC3{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeNSEC3, Class: 1, Ttl: 300},
		Hash: dns.SHA1, Iterations: z.iterations, SaltLength: uint8(len(z.salt) / 2), Salt: z.salt, HashLength: 20,
		NextDomain: sorted[(at+1)%len(sorted)], TypeBitMap: z.bitmap(hashes[sorted[at]])}
	if z.mode == withOptOut {
		nsec3.Flags = 1
	}
	return z.signed([]dns.RR{nsec3}, owner)
}

func (z *authZone) exists(name string) bool {
	for n, types := range z.rrs {
		if len(types) > 0 && below(name, n) {
			return true
		}
	}
	return false
}

// encloser is the closest encloser of name, and the name one label longer.
func (z *authZone) encloser(name string) (string, string) {
	next := name
	for n := name; ; n = parent(n) {
		if z.exists(n) || n == z.name {
			return n, next
		}
		next = n
	}
}

// denial is SOA and proofs.
func (z *authZone) denial(names ...string) []dns.RR {
	out := z.signed(z.rrs[z.name][dns.TypeSOA], z.name)
	return append(out, z.proofs(names...)...)
}

func (z *authZone) proofs(names ...string) []dns.RR {
	var out []dns.RR
	seen := map[string]bool{}
	for _, name := range names {
		p := z.proof(name)
		if len(p) > 0 && !seen[p[0].Header().Name] {
			seen[p[0].Header().Name] = true
			out = append(out, p...)
		}
	}
	return out
}

// answer is what an honest server says (RFC 1034 §4.3.2, RFC 4035 §3.1, RFC 5155 §7.2).
func (s *authServer) answer(query *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(query)
	q := query.Question[0]
	name := dns.CanonicalName(q.Name)
	defer func() {
		if opt := query.IsEdns0(); opt != nil {
			m.SetEdns0(1232, opt.Do())
		}
	}()
	var z *authZone
	for _, c := range s.zones {
		if below(c.name, name) && (z == nil || len(c.name) > len(z.name)) && (q.Qtype != dns.TypeDS || c.name != name || name == ".") {
			z = c
		}
	}
	if z == nil {
		m.Rcode = dns.RcodeRefused
		return m
	}
	if cut := z.cutAbove(name); cut != "" && (cut != name || q.Qtype != dns.TypeDS) {
		m.Ns = append(m.Ns, z.rrs[cut][dns.TypeNS]...)
		if ds := z.rrs[cut][dns.TypeDS]; ds != nil {
			m.Ns = append(m.Ns, z.signed(ds, cut)...)
		} else {
			enc, next := z.encloser(cut)
			if z.mode == withOptOut {
				enc = parent(cut)
				next = cut
			}
			m.Ns = append(m.Ns, z.proofs(enc, next)...)
		}
		for _, ns := range z.rrs[cut][dns.TypeNS] {
			for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
				m.Extra = append(m.Extra, z.rrs[ns.(*dns.NS).Ns][t]...)
			}
		}
		return m
	}
	m.Authoritative = true
	for d := parent(name); name != z.name && below(z.name, d); d = parent(d) {
		if set := z.rrs[d][dns.TypeDNAME]; set != nil {
			m.Answer = z.signed(set, d)
			target := strings.TrimSuffix(name, d) + set[0].(*dns.DNAME).Target
			if _, ok := dns.IsDomainName(target); !ok || len(target) > 254 {
				m.Rcode = dns.RcodeYXDomain
				return m
			}
			m.Answer = append(m.Answer, &dns.CNAME{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: 1, Ttl: set[0].Header().Ttl}, Target: target})
			return m
		}
		if d == "." {
			break
		}
	}
	if z.exists(name) {
		z.fill(m, name, name, q.Qtype, name)
		return m
	}
	enc, next := z.encloser(name)
	wild := "*." + strings.TrimPrefix(enc, ".")
	if z.rrs[wild] != nil {
		z.fill(m, name, wild, q.Qtype, enc, next, wild)
		if len(m.Answer) > 0 {
			m.Ns = z.proofs(next)
			if z.mode == withNSEC {
				m.Ns = z.proofs(name)
			}
		}
		return m
	}
	m.Rcode = dns.RcodeNameError
	if z.mode == withNSEC {
		next = name
	}
	m.Ns = z.denial(enc, next, wild)
	return m
}

// fill answers from the records at owner, and denies with the proofs named.
func (z *authZone) fill(m *dns.Msg, name, owner string, t uint16, proofs ...string) {
	if set := z.rrs[owner][dns.TypeCNAME]; set != nil && t != dns.TypeCNAME {
		m.Answer = z.signed(set, name)
		return
	}
	for have, set := range z.rrs[owner] {
		if have == t || t == dns.TypeANY {
			m.Answer = append(m.Answer, z.signed(set, name)...)
		}
	}
	if len(m.Answer) > 0 {
		return
	}
	if z.mode == withNSEC && owner != name {
		proofs = []string{name, owner}
	}
	m.Ns = z.denial(proofs...)
}

// resolver resolves in this internet, trusting its root key.
func (n *internet) resolver(change ...func(*Config)) *Resolver {
	n.t.Helper()
	root := n.zones["."]
	c := Config{Exchange: n, Clock: n.clock, DisableIPv6: true}
	for _, ns := range root.rrs["."][dns.TypeNS] {
		c.Roots = append(append(c.Roots, ns), root.rrs[ns.(*dns.NS).Ns][dns.TypeA]...)
	}
	if root.mode != unsigned {
		c.Anchors = []dns.RR{root.key.ToDS(dns.SHA256)}
	}
	for _, f := range change {
		f(&c)
	}
	r, err := New(c)
	if err != nil {
		n.t.Fatal(err)
	}
	return r
}

// ask resolves "name TYPE".
func ask(t testing.TB, r *Resolver, question string, change ...func(*Request)) *Result {
	t.Helper()
	name, typ, _ := strings.Cut(question, " ")
	q := Request{Question: Question{name, dns.StringToType[typ]}}
	for _, f := range change {
		f(&q)
	}
	return r.Resolve(context.Background(), q)
}

// expect compares rcode, status and the data of the answer section.
func expect(t testing.TB, res *Result, rcode int, status dnssec.Status, data ...string) {
	t.Helper()
	var got []string
	for _, rr := range res.Answer {
		if rr.Header().Rrtype != dns.TypeRRSIG {
			got = append(got, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
	}
	if res.Rcode != rcode || res.Status != status || !slices.Equal(got, data) {
		t.Errorf("got %s %s %q EDE %v, want %s %s %q",
			dns.RcodeToString[res.Rcode], res.Status, got, res.EDE, dns.RcodeToString[rcode], status, data)
	}
}

// expectFailure wants SERVFAIL with an extended error.
func expectFailure(t testing.TB, res *Result, ede uint16) {
	t.Helper()
	if res.Rcode != dns.RcodeServerFailure || len(res.Answer) > 0 {
		t.Errorf("got %s %s %v EDE %v, want SERVFAIL", dns.RcodeToString[res.Rcode], res.Status, res.Answer, res.EDE)
	}
	if !slices.ContainsFunc(res.EDE, func(e EDE) bool { return e.Code == ede }) {
		t.Errorf("EDE %v, want %d (%s)", res.EDE, ede, dns.ExtendedErrorCodeToString[ede])
	}
}

func checkingDisabled(q *Request) { q.CheckingDisabled = true }
