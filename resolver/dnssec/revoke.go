package dnssec

import "github.com/miekg/dns"

// Revokes says whether a key has revoked itself: record, of the set keys, has the
// REVOKE bit, and the key so marked has signed the set (RFC 5011 §2.1). The
// status is Secure if so, else Bogus.
func (v *Validator) Revokes(zone string, keys Set, record *dns.DNSKEY) Verdict {
	if record.Flags&dns.REVOKE == 0 {
		return bogus(dns.ExtendedErrorCodeDNSBogus, "the key %d of %s is not marked as revoked", record.KeyTag(), zone)
	}
	k, err := v.anyKey(zone, record)
	if err != nil {
		return bogus(dns.ExtendedErrorCodeDNSBogus, "the key %d of %s: %v", record.KeyTag(), zone, err)
	}
	return v.VerifyRRset(keys, &KeySet{Zone: zone, keys: []Key{k}}).Verdict
}
