package iterate

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// DNS64 gives networks without IPv4 addresses for what has no others (RFC 6147),
// in the form of RFC 6052.

// wellKnown is the prefix that stands for the Internet only (RFC 6052 §3.1).
var wellKnown = netip.MustParsePrefix("64:ff9b::/96")

// checkDNS64 accepts the prefix lengths of RFC 6052 §2.2.
func checkDNS64(p netip.Prefix) error {
	if p.IsValid() && (!p.Addr().Is6() || p != p.Masked() || !slices.Contains([]int{32, 40, 48, 56, 64, 96}, p.Bits())) {
		return fmt.Errorf("iterate: DNS64 prefix %s: use an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits, such as %s", p, wellKnown)
	}
	return nil
}

// translate is follow with DNS64. Who validates for himself (CD) could not
// believe what is made here, and makes it himself (RFC 6147 §5.5).
func (t *task) translate(ctx context.Context, q Request) *Result {
	switch {
	case q.CheckingDisabled:
	case q.Type == dns.TypePTR:
		if mapped, ok := reverseIPv4(t.r.config.DNS64, q.Name); ok {
			return t.translatePTR(ctx, q, mapped)
		}
	case q.Type == dns.TypeAAAA:
		return t.translateAAAA(ctx, q)
	}
	return t.follow(ctx, q)
}

// translateAAAA makes AAAA records of A records where there are none of their
// own (RFC 6147 §5.1). A name that does not exist has neither (§5.1.2), and
// failed validation stays failed.
func (t *task) translateAAAA(ctx context.Context, q Request) *Result {
	own := t.follow(ctx, q)
	if own.Stopped != "" || own.Rcode == dns.RcodeNameError || own.Status == dnssec.Bogus || slices.ContainsFunc(own.Answer, isNative) {
		return own
	}
	q.Type = dns.TypeA
	res := t.follow(ctx, q)
	if res.Stopped != "" {
		return res
	}
	made := false
	for i, rr := range res.Answer {
		a, ok := rr.(*dns.A)
		if !ok {
			continue
		}
		addr, ok := embed(t.r.config.DNS64, a.A)
		if !ok {
			return own
		}
		made = true
		ttl := min(a.Hdr.Ttl, uint32(own.TTL.Seconds())) // §5.1.7; #nosec G115 -- at most a day
		res.Answer[i] = &dns.AAAA{Hdr: dns.RR_Header{Name: a.Hdr.Name, Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: ttl}, AAAA: addr.AsSlice()}
	}
	if !made {
		return own
	}
	res.Answer = slices.DeleteFunc(res.Answer, func(rr dns.RR) bool { // signatures of what is no more
		sig, ok := rr.(*dns.RRSIG)
		return ok && sig.TypeCovered == dns.TypeA
	})
	res.Status, res.TTL = min(res.Status, dnssec.Insecure), min(res.TTL, own.TTL)
	return res
}

// isNative says whether rr is an AAAA record that is of use without IPv4 (RFC
// 6147 §5.1.4).
func isNative(rr dns.RR) bool {
	a, ok := rr.(*dns.AAAA)
	if !ok {
		return false
	}
	addr, ok := netip.AddrFromSlice(a.AAAA)
	return ok && !addr.Is4In6()
}

// translatePTR answers for an address made here with an alias to the name of the
// IPv4 address in it (RFC 6147 §5.3.1).
func (t *task) translatePTR(ctx context.Context, q Request, mapped string) *Result {
	alias := &dns.CNAME{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: mapped}
	q.Name = mapped
	res := t.follow(ctx, q)
	if res.Status != dnssec.Bogus {
		alias.Hdr.Ttl = uint32(res.TTL.Seconds()) // #nosec G115 -- at most a day
		res.Answer = append([]dns.RR{alias}, res.Answer...)
		res.Status = min(res.Status, dnssec.Insecure)
	}
	return res
}

// embed puts an IPv4 address behind prefix (RFC 6052 §2.2): bits 64 to 71 stay 0.
func embed(prefix netip.Prefix, ipv4 []byte) (netip.Addr, bool) {
	addr, ok := netip.AddrFromSlice(ipv4)
	if addr = addr.Unmap(); !ok || !addr.Is4() {
		return netip.Addr{}, false
	}
	if prefix == wellKnown && !isPublic(addr) {
		return netip.Addr{}, false
	}
	made, at := prefix.Addr().As16(), prefix.Bits()/8
	for _, b := range addr.As4() {
		if at == 8 {
			at++
		}
		made[at] = b
		at++
	}
	return netip.AddrFrom16(made), true
}

// reverseIPv4 is the in-addr.arpa name for an ip6.arpa name of an address that
// embed makes with prefix.
func reverseIPv4(prefix netip.Prefix, name string) (string, bool) {
	digits := strings.Split(strings.TrimSuffix(name, ".ip6.arpa."), ".")
	if len(digits) != 32 {
		return "", false
	}
	var raw [16]byte
	for i, d := range digits {
		n, err := strconv.ParseUint(d, 16, 4)
		if err != nil || len(d) != 1 {
			return "", false
		}
		raw[15-i/2] |= byte(n) << (4 * (i % 2))
	}
	if !prefix.Contains(netip.AddrFrom16(raw)) {
		return "", false
	}
	var v4 [4]byte
	at := prefix.Bits() / 8
	for i := range v4 {
		if at == 8 {
			at++
		}
		v4[i] = raw[at]
		at++
	}
	back, ok := embed(prefix, v4[:])
	if !ok || back != netip.AddrFrom16(raw) {
		return "", false
	}
	return fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa.", v4[3], v4[2], v4[1], v4[0]), true
}
