package feed

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// errStopPage: a rule would lead to an official stop page, which only a signed
// list may do (Promise 1).
var errStopPage = errors.New("leads to the stop page of an official list: it is left out, and the name has no data")

// actionOf reads what a CNAME of a rule says (§3 of the draft).
func actionOf(rr *dns.CNAME, t trigger) (Action, error) {
	target := strings.ToLower(rr.Target)
	switch target {
	case ".":
		return NXDomain, nil
	case "*.":
		return NoData, nil
	case "rpz-passthru.":
		return Passthru, nil
	case "rpz-drop.":
		return Drop, nil
	case "rpz-tcp-only.":
		return TCPOnly, nil
	}
	if strings.HasPrefix(target, specialPrefix) && strings.Count(target, ".") == 1 {
		return 0, unsupportedError("the action " + target + " is not known")
	}
	// The old way to write Passthru: the name leads to itself (§3.3 of the draft).
	if t.kind == QName && !t.wild {
		if w, err := wireName(target); err == nil && string(w) == string(t.name) {
			return Passthru, nil
		}
	}
	return LocalData, nil
}

// extend adds a record to local data.
func (c *compiler) extend(l *Local, rr dns.RR) error {
	if cname, ok := rr.(*dns.CNAME); ok {
		return c.extendAlias(l, cname)
	}
	if l.CName != nil {
		return errors.New("it has a CNAME, which stands alone (RFC 1034 §3.6.2)")
	}
	r := Record{Type: rr.Header().Rrtype, TTL: rr.Header().Ttl}
	leads := ""
	switch rr := rr.(type) {
	case *dns.A:
		r.Addr, _ = netip.AddrFromSlice(rr.A.To4())
	case *dns.AAAA:
		r.Addr, _ = netip.AddrFromSlice(rr.AAAA.To16())
	case *dns.MX:
		leads = rr.Mx
	case *dns.SRV:
		leads = rr.Target
	case *dns.PTR:
		leads = rr.Ptr
	case *dns.TXT:
	default:
		return unsupportedError("records of type " + dns.Type(r.Type).String() + " are not supported and left out")
	}
	if leads != "" {
		var err error
		if r.Leads, err = wireName(leads); err != nil {
			return err
		}
	}
	if r.Addr.IsValid() && c.pages.StopPageAddress(r.Addr) || r.Leads != nil && c.pages.StopPageName(r.Leads) {
		return errStopPage
	}
	data, err := rdata(rr)
	if err != nil {
		return fmt.Errorf("its record cannot be packed: %w", err)
	}
	r.Data = data
	if slices.ContainsFunc(l.Records, func(o Record) bool { return o.Type == r.Type && string(o.Data) == string(r.Data) }) {
		return nil
	}
	if len(l.Records) == maxLocal {
		return fmt.Errorf("it has more than %d records; the rest is left out", maxLocal)
	}
	l.Records = append(l.Records, r)
	return nil
}

// maxLocal bounds the records of one rule, as an answer has to hold them.
const maxLocal = 64

func (c *compiler) extendAlias(l *Local, rr *dns.CNAME) error {
	if len(l.Records) > 0 || l.CName != nil {
		return errors.New("it has other records, beside which no CNAME may stand (RFC 1034 §3.6.2)")
	}
	target := rr.Target
	suffix, prepend := strings.CutPrefix(target, "*.")
	if prepend {
		target = suffix
	}
	name, err := wireName(target)
	if err != nil {
		return err
	}
	if c.pages.StopPageName(name) {
		return errStopPage
	}
	l.CName, l.Prepend, l.TTL = name, prepend, rr.Hdr.Ttl
	return nil
}

// rdata packs the data of a record, uncompressed.
func rdata(rr dns.RR) ([]byte, error) {
	buf := make([]byte, dns.Len(rr)+1)
	off, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		return nil, err
	}
	h, err := dns.PackDomainName(rr.Header().Name, make([]byte, 256), 0, nil, false)
	if err != nil {
		return nil, err
	}
	return slices.Clone(buf[h+10 : off]), nil
}
