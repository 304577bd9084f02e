package dnssec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/miekg/dns"
)

// maxRecords bounds the records of one RRset. A message of 64 KiB holds about
// four thousand of the smallest; no honest set comes near (CVE-2024-1737).
const maxRecords = 512

// canonicalRdata returns the RDATA of each record in canonical form and order,
// without duplicates (RFC 4034 §6.2, §6.3).
func canonicalRdata(rrs []dns.RR) ([][]byte, error) {
	if len(rrs) > maxRecords {
		return nil, fmt.Errorf("%d records in one RRset, limit %d", len(rrs), maxRecords)
	}
	all := make([][]byte, 0, len(rrs))
	for _, rr := range rrs {
		rr = dns.Copy(rr)
		rr.Header().Name = "." // one byte, so that RDATA starts at a known offset
		lowerRdataNames(rr)
		buf := make([]byte, dns.Len(rr)+1)
		n, err := dns.PackRR(rr, buf, 0, nil, false)
		if err != nil {
			return nil, fmt.Errorf("packing %s record: %w", dns.TypeToString[rr.Header().Rrtype], err)
		}
		const header = 1 + 10
		if n < header {
			return nil, fmt.Errorf("packing %s record: no header", dns.TypeToString[rr.Header().Rrtype])
		}
		all = append(all, buf[header:n])
	}
	slices.SortFunc(all, bytes.Compare)
	return slices.CompactFunc(all, bytes.Equal), nil
}

// lowerRdataNames lower-cases the names within RDATA for the types that RFC 4034
// §6.2 lists as corrected by RFC 6840 §5.1: not NSEC, not HINFO.
func lowerRdataNames(rr dns.RR) {
	lower := func(names ...*string) {
		for _, n := range names {
			*n = dns.CanonicalName(*n)
		}
	}
	switch x := rr.(type) {
	case *dns.NS:
		lower(&x.Ns)
	case *dns.MD:
		lower(&x.Md)
	case *dns.MF:
		lower(&x.Mf)
	case *dns.CNAME:
		lower(&x.Target)
	case *dns.SOA:
		lower(&x.Ns, &x.Mbox)
	case *dns.MB:
		lower(&x.Mb)
	case *dns.MG:
		lower(&x.Mg)
	case *dns.MR:
		lower(&x.Mr)
	case *dns.PTR:
		lower(&x.Ptr)
	case *dns.MINFO:
		lower(&x.Rmail, &x.Email)
	case *dns.MX:
		lower(&x.Mx)
	case *dns.RP:
		lower(&x.Mbox, &x.Txt)
	case *dns.AFSDB:
		lower(&x.Hostname)
	case *dns.RT:
		lower(&x.Host)
	case *dns.PX:
		lower(&x.Map822, &x.Mapx400)
	case *dns.NAPTR:
		lower(&x.Replacement)
	case *dns.KX:
		lower(&x.Exchanger)
	case *dns.SRV:
		lower(&x.Target)
	case *dns.DNAME:
		lower(&x.Target)
	}
}

// signedData is what sig signs: its own RDATA without the signature, then the
// records in canonical form under owner (RFC 4034 §3.1.8.1).
func signedData(sig *dns.RRSIG, owner string, rdata [][]byte) ([]byte, error) {
	name, signer := wireName(owner), wireName(dns.CanonicalName(sig.SignerName))
	if name == nil || signer == nil {
		return nil, fmt.Errorf("owner %q or signer %q is no name", owner, sig.SignerName)
	}
	be := binary.BigEndian
	var b []byte
	b = be.AppendUint16(b, sig.TypeCovered)
	b = append(b, sig.Algorithm, sig.Labels)
	b = be.AppendUint32(b, sig.OrigTtl)
	b = be.AppendUint32(b, sig.Expiration)
	b = be.AppendUint32(b, sig.Inception)
	b = be.AppendUint16(b, sig.KeyTag)
	b = append(b, signer...)
	for _, rd := range rdata {
		b = append(b, name...)
		b = be.AppendUint16(b, sig.TypeCovered)
		b = be.AppendUint16(b, sig.Hdr.Class)
		b = be.AppendUint32(b, sig.OrigTtl)
		b = be.AppendUint16(b, uint16(len(rd))) // #nosec G115 -- RDATA that was packed fits
		b = append(b, rd...)
	}
	return b, nil
}
