package iterate

import (
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// sentinel lets anyone find out whether a key of the root is trusted here, by
// asking for addresses of names that say so (RFC 8509 §3).
func (r *Resolver) sentinel(q Request, res *Result) *Result {
	if q.CheckingDisabled || res.Status != dnssec.Secure || q.Type != dns.TypeA && q.Type != dns.TypeAAAA {
		return res
	}
	label, _, _ := strings.Cut(q.Name, ".")
	tag, wantTrusted := strings.CutPrefix(label, "root-key-sentinel-is-ta-")
	if !wantTrusted {
		var ok bool
		if tag, ok = strings.CutPrefix(label, "root-key-sentinel-not-ta-"); !ok {
			return res
		}
	}
	n, err := strconv.ParseUint(tag, 10, 16)
	if err != nil || len(tag) != 5 || !r.hasAnchors(".") {
		return res
	}
	if r.trusted(uint16(n)) == wantTrusted {
		return res
	}
	return &Result{Rcode: dns.RcodeServerFailure, TTL: failureTTL}
}

// trusted says whether a trust anchor of the root has the key tag.
func (r *Resolver) trusted(tag uint16) bool {
	for _, rr := range (*r.anchors.Load())["."] {
		if tagOf(rr) == tag {
			return true
		}
	}
	return false
}
