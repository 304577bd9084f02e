package local

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"cordon/resolver/wire"
)

// ttl of all records here, in seconds (RFC 6303 §3).
const ttl = 10800

// typeRESINFO is the record of RFC 9606, which has the form of TXT.
const typeRESINFO = 261

// undelegated are special-use top-level domains: the root does not have them,
// and asking it would tell it what people look for.
var undelegated = []string{
	"invalid", // RFC 6761 §6.4
	"local",   // RFC 6762 §22.1
	"onion",   // RFC 7686 §2
	"alt",     // RFC 9476 §3.2
}

// delegated are zones that every resolver serves empty and to which the world
// delegates without signature.
var delegated = []string{
	"home.arpa", // RFC 8375 §4

	// RFC 6303 §4.1: RFC 1918
	"10.in-addr.arpa", "168.192.in-addr.arpa",
	"16.172.in-addr.arpa", "17.172.in-addr.arpa", "18.172.in-addr.arpa", "19.172.in-addr.arpa",
	"20.172.in-addr.arpa", "21.172.in-addr.arpa", "22.172.in-addr.arpa", "23.172.in-addr.arpa",
	"24.172.in-addr.arpa", "25.172.in-addr.arpa", "26.172.in-addr.arpa", "27.172.in-addr.arpa",
	"28.172.in-addr.arpa", "29.172.in-addr.arpa", "30.172.in-addr.arpa", "31.172.in-addr.arpa",
	// RFC 6303 §4.2: this network, link local, documentation, broadcast
	// (127.in-addr.arpa is in loopback)
	"0.in-addr.arpa", "254.169.in-addr.arpa", "2.0.192.in-addr.arpa", "100.51.198.in-addr.arpa",
	"113.0.203.in-addr.arpa", "255.255.255.255.in-addr.arpa",
	// RFC 6303 §4.3: the unspecified address (::1 is in loopback)
	strings.Repeat("0.", 32) + "ip6.arpa",
	// RFC 6303 §4.4 to 4.6: unique local, link local, documentation
	"d.f.ip6.arpa", "8.e.f.ip6.arpa", "9.e.f.ip6.arpa", "a.e.f.ip6.arpa", "b.e.f.ip6.arpa",
	"8.b.d.0.1.0.0.2.ip6.arpa",
}

// loopback are the reverse zones of the loopback addresses (RFC 6303 §4.2,
// §4.3), and the name in each that has a PTR to localhost (RFC 1912 §4.1).
var loopback = map[string]string{
	"127.in-addr.arpa":                           "1.0.0.127.in-addr.arpa",
	"1." + strings.Repeat("0.", 31) + "ip6.arpa": "1." + strings.Repeat("0.", 31) + "ip6.arpa",
}

// New builds the zones. It fails if a setting does not fit in a record.
func New(c Config) (*Zones, error) {
	z := &Zones{chaos: make(map[string][]record)}
	for _, apex := range undelegated {
		z.root.add(mustName(apex), emptyZone(apex))
	}
	for _, apex := range delegated {
		z.addDelegated(apex)
	}
	for i := 64; i < 128; i++ { // shared address space (RFC 7793)
		z.addDelegated(strconv.Itoa(i) + ".100.in-addr.arpa")
	}
	for apex, name := range loopback {
		zone := z.addDelegated(apex)
		zone.addName(name, mustName(apex), record{dns.TypePTR, ttl, mustName("localhost")})
	}
	z.addLocalhost()
	if err := z.addResolver(c); err != nil {
		return nil, err
	}
	return z, z.addChaos(c)
}

func (z *Zones) addDelegated(apex string) *zone {
	zone := emptyZone(apex)
	zone.delegated = true
	z.root.add(mustName(apex), zone)
	return zone
}

// addLocalhost adds localhost and everything below it (RFC 6761 §6.3).
func (z *Zones) addLocalhost() {
	addresses := []record{
		{dns.TypeA, ttl, []byte{127, 0, 0, 1}},
		{dns.TypeAAAA, ttl, []byte{15: 1}},
	}
	zone := emptyZone("localhost")
	zone.anyName, zone.below = true, addresses
	apex := string(mustName("localhost"))
	zone.names[apex] = append(addresses, zone.names[apex]...)
	z.root.add([]byte(apex), zone)
}

// addResolver adds resolver.arpa. No name below it gets NXDOMAIN (RFC 9462
// §6.4). While no encrypted transport is served, _dns.resolver.arpa is as empty
// as the others: the client is to stay with what it has.
func (z *Zones) addResolver(c Config) error {
	var info []string
	if c.QnameMin {
		info = append(info, "qnamemin")
	}
	if len(c.ExtendedErrors) > 0 {
		var codes []string
		for _, code := range c.ExtendedErrors {
			codes = append(codes, strconv.Itoa(int(code)))
		}
		info = append(info, "exterr="+strings.Join(codes, ","))
	}
	if c.InfoURL != "" {
		if !strings.HasPrefix(c.InfoURL, "https://") {
			return fmt.Errorf("information address %q for RESINFO must begin with https:// (RFC 9606 §5)", c.InfoURL)
		}
		info = append(info, "infourl="+c.InfoURL)
	}
	zone := emptyZone("resolver.arpa")
	zone.anyName = true
	apex := string(mustName("resolver.arpa"))
	if len(info) > 0 {
		rdata, err := text(info...)
		if err != nil {
			return fmt.Errorf("what RESINFO tells: %w", err)
		}
		zone.names[apex] = append(zone.names[apex], record{typeRESINFO, ttl, rdata})
	}
	if len(c.Designated) > 0 {
		records, err := designated(c.Name, c.Designated)
		if err != nil {
			return fmt.Errorf("what DDR tells: %w", err)
		}
		zone.addName("_dns.resolver.arpa", mustName("resolver.arpa"), records...)
	}
	z.root.add([]byte(apex), zone)
	return nil
}

func (z *Zones) addChaos(c Config) error {
	for _, id := range []struct {
		names []string
		value string
	}{
		{[]string{"version.bind", "version.server"}, c.Version},
		{[]string{"hostname.bind", "id.server"}, c.Hostname},
	} {
		if id.value == "" {
			continue
		}
		rdata, err := text(id.value)
		if err != nil {
			return fmt.Errorf("answer to %s: %w", id.names[0], err)
		}
		for _, name := range id.names {
			z.chaos[string(mustName(name))] = []record{{dns.TypeTXT, 0, rdata}}
		}
	}
	return nil
}

// emptyZone returns a zone with nothing but SOA and NS (RFC 6303 §3).
func emptyZone(apex string) *zone {
	name := mustName(apex)
	soa := append([]byte(nil), name...)
	soa = append(soa, mustName("nobody.invalid")...)
	for _, v := range []uint32{1, 3600, 1200, 604800, ttl} { // serial, refresh, retry, expire, minimum
		soa = binary.BigEndian.AppendUint32(soa, v)
	}
	z := &zone{soa: record{dns.TypeSOA, ttl, soa}}
	z.names = map[string][]record{string(name): {z.soa, {dns.TypeNS, ttl, name}}}
	return z
}

// addName adds records to a name of the zone, and makes the names between it
// and the apex exist.
func (z *zone) addName(text string, apex []byte, records ...record) {
	name := mustName(text)
	z.names[string(name)] = append(z.names[string(name)], records...)
	for name = name[1+name[0]:]; len(name) > len(apex); name = name[1+name[0]:] {
		if _, ok := z.names[string(name)]; !ok {
			z.names[string(name)] = nil
		}
	}
}

// text is the RDATA of a TXT record (RFC 1035 §3.3.14).
func text(parts ...string) ([]byte, error) {
	var rdata []byte
	for _, p := range parts {
		if len(p) > 255 {
			return nil, fmt.Errorf("%q has %d bytes, at most 255 fit", p, len(p))
		}
		rdata = append(append(rdata, byte(len(p))), p...)
	}
	return rdata, nil
}

// mustName is the wire form of a name written in this file.
func mustName(text string) []byte {
	name, err := wire.ParseName(text)
	if err != nil {
		panic(err)
	}
	return name
}
