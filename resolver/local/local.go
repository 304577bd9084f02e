// Package local answers what must not leave this resolver: special-use names
// (RFC 6761, 6762, 7686, 8375, 9476), reverse zones of addresses that mean
// something only nearby (RFC 6303, 7793), what clients ask to learn about the
// resolver itself (DDR, RFC 9462; RESINFO, RFC 9606), and every class but IN.
//
// The names example and test are resolved like any other.
package local

import (
	"net/netip"

	"github.com/miekg/dns"

	"cordon/resolver/wire"
)

// Config says what the resolver tells about itself. The zero value tells as
// little as it can.
type Config struct {
	// Version and Hostname are answered to version.bind and hostname.bind in
	// class CHAOS (and to version.server and id.server, RFC 4892). Empty, the
	// default: REFUSED.
	Version, Hostname string
	// QnameMin, ExtendedErrors and InfoURL are what RESINFO tells (RFC 9606
	// §5): whether QNAME minimisation is used, which extended DNS errors
	// (RFC 8914 INFO-CODEs) clients may see, and an https address with
	// information for people. Without any of them there is no RESINFO record.
	QnameMin       bool
	ExtendedErrors []uint16
	InfoURL        string
	// Name is the resolver's own, which its certificate bears, and Designated
	// are the encrypted transports that it serves, in order of preference: what
	// clients discover under _dns.resolver.arpa (RFC 9462 §4).
	Name       string
	Designated []Designation
}

// Designation is an encrypted transport (RFC 9461).
type Designation struct {
	ALPN  []string // protocols: "dot", "doq", "h2", "h3"
	Port  uint16
	Path  string // URI template of DoH, such as "/dns-query{?dns}"; empty for others
	Hints []netip.Addr
}

// Zones holds the answers. It is immutable and safe for concurrent use.
type Zones struct {
	root  node                // the zones, by their labels from the right
	chaos map[string][]record // TXT records of class CHAOS, by name
}

// Answer is an answer made here. Its records are shared and not to be changed.
type Answer struct {
	Rcode   int
	records []record // answer section, owned by the question name
	soa     *record  // of a negative answer, owned by the zone's apex
	apex    int      // offset of the apex in the question name
}

// Append appends the answer as the reply to q, of at most limit bytes.
func (a Answer) Append(dst []byte, q *wire.Query, limit int) []byte {
	var b wire.Builder
	b.Start(dst, q, limit)
	for _, r := range a.records {
		b.Answer(0, r.typ, r.ttl, r.rdata)
	}
	if a.soa != nil {
		b.Authority(a.apex, a.soa.typ, a.soa.ttl, a.soa.rdata)
	}
	return b.Finish(a.Rcode, false)
}

// Lookup returns the answer to a question that is answered here, or false if it
// is not. name is in wire form and lower case. It does not allocate.
//
// The DS of a zone that really is delegated, without signature, belongs to the
// parent and is resolved, so that a validating client finds the proof that it
// is insecure (RFC 6303 §7, RFC 8375 §4).
func (z *Zones) Lookup(name []byte, qtype, qclass uint16) (Answer, bool) {
	if qclass != dns.ClassINET {
		return z.otherClass(name, qtype, qclass), true
	}
	zone, apex := z.root.find(name)
	if zone == nil || qtype == dns.TypeDS && apex == 0 && zone.delegated {
		return Answer{}, false
	}
	return zone.answer(name, apex, qtype), true
}

// otherClass answers what is not class IN: there is nothing to recurse to.
func (z *Zones) otherClass(name []byte, qtype, qclass uint16) Answer {
	if qclass == dns.ClassCHAOS && (qtype == dns.TypeTXT || qtype == dns.TypeANY) {
		if records, ok := z.chaos[string(name)]; ok {
			return Answer{records: records}
		}
	}
	return Answer{Rcode: dns.RcodeRefused}
}
