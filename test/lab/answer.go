package lab

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// maxAliases bounds a chain of aliases within one server.
const maxAliases = 8

// reply is an answer in the making (RFC 1034 section 4.3.2).
type reply struct {
	zones  []*signedZone // of the server
	zone   *signedZone   // that of the name being answered for
	msg    *dns.Msg
	do     bool            // the asker wants signatures and proofs (RFC 4035 section 3.1)
	proven map[string]bool // owners of the denial records added
}

func (r *reply) signed() bool { return r.do && r.zone.denial != Unsigned }

// answer fills msg, a reply to the question in it, from the zones of one
// server. do is the DO bit.
func answer(zones []*signedZone, msg *dns.Msg, do bool) {
	q := msg.Question[0]
	name := dns.CanonicalName(q.Name)
	zone := zoneFor(zones, name, q.Qtype)
	if zone == nil {
		msg.Rcode = dns.RcodeRefused
		return
	}
	r := &reply{zones: zones, zone: zone, msg: msg, do: do, proven: map[string]bool{}}
	msg.Authoritative = true
	r.resolve(name, q.Qtype, 0)
	r.addNameServers()
	r.addAddresses()
}

// zoneFor gives the zone that has to answer: the lowest one above name, but the
// parent's for a DS (RFC 4035 section 3.1.4.1).
func zoneFor(zones []*signedZone, name string, qtype uint16) (best *signedZone) {
	var own *signedZone // the zone whose top is name
	for _, z := range zones {
		switch {
		case !dns.IsSubDomain(z.name, name):
		case z.name == name:
			own = z
		case best == nil || dns.CountLabel(z.name) > dns.CountLabel(best.name):
			best = z
		}
	}
	if own != nil && (qtype != dns.TypeDS || best == nil) {
		return own
	}
	return best
}

// resolve answers for one name of the chain.
func (r *reply) resolve(name string, qtype uint16, aliases int) {
	if cut := r.zone.cutAbove(name); cut != "" && (cut != name || qtype != dns.TypeDS) {
		r.refer(cut, aliases > 0)
		return
	}
	if owner := r.dname(name); owner != "" {
		r.follow(r.throughDNAME(owner, name), qtype, aliases)
		return
	}
	if n, ok := r.zone.nodes[name]; ok {
		r.fromNode(n, name, name, qtype, aliases)
		return
	}
	encloser := r.encloser(name)
	wildcard := dns.CanonicalName("*." + encloser)
	if n, ok := r.zone.nodes[wildcard]; ok {
		r.fromNode(n, wildcard, name, qtype, aliases)
		return
	}
	r.msg.Rcode = dns.RcodeNameError
	r.addSOA()
	r.proveNoName(name, encloser)
}

// fromNode answers with what stands at owner: name itself, or the wildcard that
// covers it.
func (r *reply) fromNode(n *node, owner, name string, qtype uint16, aliases int) {
	wild := owner != name
	if target := n.rrsets[dns.TypeCNAME]; len(target) > 0 && len(n.rrsets[qtype]) == 0 && qtype != dns.TypeANY {
		r.addAnswer(n, dns.TypeCNAME, name)
		if wild {
			r.proveNoCloser(name)
		}
		r.follow(dns.CanonicalName(target[0].(*dns.CNAME).Target), qtype, aliases)
		return
	}
	if qtype == dns.TypeANY && len(n.rrsets) > 0 {
		qtype = n.sortedTypes()[0] // one RRset is enough (RFC 8482 section 4.1)
	}
	if len(n.rrsets[qtype]) > 0 {
		r.addAnswer(n, qtype, name)
		if wild {
			r.proveNoCloser(name)
		}
		return
	}
	r.addSOA()
	r.proveNoType(owner)
	if wild {
		r.proveNoCloser(name)
	}
	if strings.HasPrefix(owner, "*.") { // asked for as such too, as NSD does
		r.proveEncloser(parent(owner))
	}
}

// follow goes on with the target of an alias, in whatever zone of this server it
// is. (A resolver has to ask again, all the same: the server's word counts for
// the zone that it was asked as.)
func (r *reply) follow(target string, qtype uint16, aliases int) {
	zone := zoneFor(r.zones, target, qtype)
	if target == "" || qtype == dns.TypeCNAME || aliases >= maxAliases || zone == nil {
		return
	}
	for _, rr := range r.msg.Answer { // a loop ends where it closes
		if rr.Header().Rrtype == dns.TypeCNAME && dns.CanonicalName(rr.Header().Name) == target {
			return
		}
	}
	r.zone = zone
	r.resolve(target, qtype, aliases+1)
}

// dname gives the owner of a DNAME strictly above name, "" where there is none.
func (r *reply) dname(name string) string {
	for name != r.zone.name {
		name = parent(name)
		if len(r.zone.at(name, dns.TypeDNAME)) > 0 {
			return name
		}
	}
	return ""
}

// throughDNAME adds the DNAME and the CNAME made from it, and gives the latter's
// target (RFC 6672 section 3.1); "" where that would be too long.
func (r *reply) throughDNAME(owner, name string) string {
	n := r.zone.nodes[owner]
	r.addAnswer(n, dns.TypeDNAME, owner)
	d := n.rrsets[dns.TypeDNAME][0].(*dns.DNAME)
	target := dns.CanonicalName(name[:len(name)-len(owner)] + d.Target)
	if _, ok := dns.IsDomainName(target); !ok {
		r.msg.Rcode = dns.RcodeYXDomain
		return ""
	}
	r.msg.Answer = append(r.msg.Answer, &dns.CNAME{
		Hdr:    dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: d.Hdr.Ttl},
		Target: target,
	})
	return target
}

// refer sends the asker to the servers of a delegation (RFC 4035 section 3.1.4).
// After an alias the answer section stays authoritative.
func (r *reply) refer(cut string, afterAlias bool) {
	if !afterAlias {
		r.msg.Authoritative = false
	}
	n := r.zone.nodes[cut]
	r.addAuthority(n, dns.TypeNS)
	if !r.signed() {
		return
	}
	if len(n.rrsets[dns.TypeDS]) > 0 {
		r.addAuthority(n, dns.TypeDS)
		return
	}
	r.proveNoType(cut)
}

// encloser gives the longest existing name above name (RFC 4592 section 3.3.1).
func (r *reply) encloser(name string) string {
	for name = parent(name); name != r.zone.name; name = parent(name) {
		if _, ok := r.zone.nodes[name]; ok {
			break
		}
	}
	return name
}

// addAnswer adds an RRset under the name that was asked for, which is not its
// owner's where a wildcard was expanded.
func (r *reply) addAnswer(n *node, rrtype uint16, name string) {
	rrs := n.rrsets[rrtype]
	if r.signed() {
		rrs = slices.Concat(rrs, n.sigs[rrtype])
	}
	for _, rr := range rrs {
		if rr.Header().Name != name {
			rr = dns.Copy(rr)
			rr.Header().Name = name
		}
		r.msg.Answer = append(r.msg.Answer, rr)
	}
}

func (r *reply) addAuthority(n *node, rrtype uint16) {
	r.msg.Ns = append(r.msg.Ns, n.rrsets[rrtype]...)
	if r.signed() {
		r.msg.Ns = append(r.msg.Ns, n.sigs[rrtype]...)
	}
}

// addSOA adds the SOA that limits how long the denial is kept (RFC 2308 section
// 3).
func (r *reply) addSOA() {
	n := r.zone.nodes[r.zone.name]
	rrs := n.rrsets[dns.TypeSOA]
	if r.signed() {
		rrs = slices.Concat(rrs, n.sigs[dns.TypeSOA])
	}
	for _, rr := range rrs {
		rr = dns.Copy(rr)
		rr.Header().Ttl = min(rr.Header().Ttl, r.zone.negativeTTL())
		r.msg.Ns = append(r.msg.Ns, rr)
	}
}

// addNameServers adds the zone's NS records to a positive answer, but not to
// those that are large already.
func (r *reply) addNameServers() {
	if q := r.msg.Question[0].Qtype; q == dns.TypeDNSKEY || q == dns.TypeDS {
		return
	}
	if len(r.msg.Answer) == 0 || r.msg.Rcode != dns.RcodeSuccess || r.endsInAlias() {
		return
	}
	for _, rr := range r.msg.Ns {
		if t := rr.Header().Rrtype; t == dns.TypeSOA || t == dns.TypeNS {
			return // a denial, or a referral
		}
	}
	for _, rr := range r.msg.Answer {
		if rr.Header().Rrtype == dns.TypeNS && rr.Header().Name == r.zone.name {
			return
		}
	}
	proofs := r.msg.Ns
	r.msg.Ns = nil
	r.addAuthority(r.zone.nodes[r.zone.name], dns.TypeNS)
	r.msg.Ns = append(r.msg.Ns, proofs...)
}

// endsInAlias tells whether the answer is an alias that was not asked for: the
// chain leaves the server, or was made from a DNAME.
func (r *reply) endsInAlias() bool {
	q := r.msg.Question[0].Qtype
	return !slices.ContainsFunc(r.msg.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == q }) ||
		q == dns.TypeCNAME && r.msg.Answer[0].Header().Rrtype == dns.TypeDNAME
}

// addAddresses adds the addresses of the hosts that the answer names: without
// them a delegation into itself cannot be followed, nor the root be primed
// (RFC 9471; RFC 9609 section 4.1).
func (r *reply) addAddresses() {
	added := map[string]bool{}
	for _, rr := range r.msg.Answer {
		if t := rr.Header().Rrtype; t == dns.TypeA || t == dns.TypeAAAA {
			added[rr.Header().Name] = true // they stand there already
		}
	}
	for _, rr := range slices.Concat(r.msg.Answer, r.msg.Ns) {
		var host string
		switch rr := rr.(type) {
		case *dns.NS:
			host = dns.CanonicalName(rr.Ns)
		case *dns.MX:
			host = dns.CanonicalName(rr.Mx)
		case *dns.SRV:
			host = dns.CanonicalName(rr.Target)
		default:
			continue
		}
		n := r.zone.nodes[host]
		if n == nil || added[host] {
			continue
		}
		added[host] = true
		for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
			r.msg.Extra = append(r.msg.Extra, n.rrsets[t]...)
			if r.signed() {
				r.msg.Extra = append(r.msg.Extra, n.sigs[t]...)
			}
		}
	}
}
