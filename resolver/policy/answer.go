package policy

import (
	"encoding/binary"
	"net/netip"

	"github.com/miekg/dns"

	"cordon/blocklist"
	"cordon/blocklog"
	"cordon/resolver/wire"
)

// answer is what the names of one category get, prebuilt when the list is
// loaded.
type answer struct {
	ttl      uint32   // seconds
	a, aaaa  [][]byte // RDATA: addresses of the stop page
	soa      []byte   // RDATA of the SOA that ends an empty answer
	forged   []wire.EDE
	censored []wire.EDE
}

func newAnswer(page blocklist.StopPage, ttl uint32, serial uint64) *answer {
	censored := wire.EDE{Code: dns.ExtendedErrorCodeCensored, Text: page.Page}
	return &answer{
		ttl:  ttl,
		a:    addresses(page.IPv4),
		aaaa: addresses(page.IPv6),
		soa:  SOA(serial, ttl),
		// RFC 8914 §4.5: the address is not the owner's. §4.17: someone other
		// than the operator demanded it.
		forged:   []wire.EDE{{Code: dns.ExtendedErrorCodeForgedAnswer}, censored},
		censored: []wire.EDE{censored},
	}
}

// AppendReply appends the reply that blocks q, of at most limit bytes, and
// says what it did. h covers the question name or a target of its answer: in
// both cases the records are the question name's own, since a CNAME to the stop
// page or to the listed target would give the list away. The reply is the same
// with DO and CD: it bears no signature, and AD is never set.
func (h Hit) AppendReply(dst []byte, q *wire.Query, limit int) ([]byte, blocklog.Action) {
	a := h.answer()
	var b wire.Builder
	b.Start(dst, q, limit)
	var rdata [][]byte
	switch q.Type {
	case dns.TypeA:
		rdata = a.a
	case dns.TypeAAAA:
		rdata = a.aaaa
	}
	if len(rdata) == 0 {
		b.Authority(0, dns.TypeSOA, a.ttl, a.soa)
		return b.Finish(dns.RcodeSuccess, false, a.censored...), blocklog.NoData
	}
	for _, address := range rdata {
		b.Answer(0, q.Type, a.ttl, address)
	}
	return b.Finish(dns.RcodeSuccess, false, a.forged...), blocklog.StopPage
}

func addresses(all []netip.Addr) [][]byte {
	var rdata [][]byte
	for _, a := range all {
		rdata = append(rdata, a.AsSlice())
	}
	return rdata
}

// SOA is the RDATA of a SOA for one empty answer: names as in RFC 6303 §3, the
// serial (its low 32 bits), and the answer's TTL as the time for which
// nothing may be believed (RFC 2308 §5).
func SOA(serial uint64, ttl uint32) []byte {
	rdata := []byte("\x09localhost\x00\x06nobody\x07invalid\x00")
	for _, n := range []uint32{uint32(serial), 3600, 1200, 604800, ttl} {
		rdata = binary.BigEndian.AppendUint32(rdata, n)
	}
	return rdata
}
