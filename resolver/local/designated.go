package local

import (
	"errors"
	"fmt"
	"net"

	"github.com/miekg/dns"

	"cordon/resolver/wire"
)

// designatedTTL in seconds is short, so that a transport that is turned off is
// soon not looked for any more.
const designatedTTL = 300

// designated are the SVCB records of _dns.resolver.arpa. The target is never
// ".": that would mean _dns.resolver.arpa itself, a name that no certificate can
// bear.
func designated(name string, all []Designation) ([]record, error) {
	target, err := wire.ParseName(name)
	if err != nil || len(target) <= 1 {
		return nil, errors.Join(fmt.Errorf("%q is not the name of a resolver", name), err)
	}
	var records []record
	for i, d := range all {
		svcb := &dns.SVCB{
			Hdr:      dns.RR_Header{Name: ".", Rrtype: dns.TypeSVCB, Class: dns.ClassINET},
			Priority: uint16(i + 1),
			Target:   dns.Fqdn(name),
			Value:    []dns.SVCBKeyValue{&dns.SVCBAlpn{Alpn: d.ALPN}, &dns.SVCBPort{Port: d.Port}},
		}
		v4, v6 := new(dns.SVCBIPv4Hint), new(dns.SVCBIPv6Hint)
		for _, a := range d.Hints {
			if a.Is4() {
				v4.Hint = append(v4.Hint, net.IP(a.AsSlice()))
			} else {
				v6.Hint = append(v6.Hint, net.IP(a.AsSlice()))
			}
		}
		if len(v4.Hint) > 0 {
			svcb.Value = append(svcb.Value, v4)
		}
		if len(v6.Hint) > 0 {
			svcb.Value = append(svcb.Value, v6)
		}
		if d.Path != "" {
			svcb.Value = append(svcb.Value, &dns.SVCBDoHPath{Template: d.Path})
		}
		packed := make([]byte, dns.Len(svcb))
		end, err := dns.PackRR(svcb, packed, 0, nil, false)
		if err != nil {
			return nil, fmt.Errorf("pack the record for %v: %w", d.ALPN, err)
		}
		const fixed = 1 + 10 // the root as owner; type, class, TTL, length
		records = append(records, record{dns.TypeSVCB, designatedTTL, packed[fixed:end:end]})
	}
	return records, nil
}
