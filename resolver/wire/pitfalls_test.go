package wire

import (
	"bytes"
	"testing"

	"github.com/miekg/dns"
)

// RFC 6891 §6.1.2: an option that is not known is ignored, and not sent back. Nor
// is one that is known and for which nobody gave an answer.
func TestOptionsOfTheClientAreNotSentBack(t *testing.T) {
	secret := []byte("what the client sent")
	packet := question(t, "www.example.", dns.TypeA, withEDNS(1232, true,
		&dns.EDNS0_LOCAL{Code: 65001, Data: secret},
		&dns.EDNS0_LOCAL{Code: 65001, Data: secret},
		&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{192, 0, 2, 0}},
		&dns.EDNS0_NSID{Code: dns.EDNS0NSID},
	))
	stored := storedExample(t)
	for name, reply := range map[string]func(q *Query) []byte{
		"an error":           func(q *Query) []byte { return AppendError(nil, q, dns.RcodeRefused, MaxUDP) },
		"one from the cache": func(q *Query) []byte { return Patch(nil, stored, q, 0, MaxUDP) },
	} {
		var q Query
		if err := q.Parse(packet); err != nil {
			t.Fatal(err)
		}
		got := reply(&q)
		opt := unpack(t, got).IsEdns0()
		if opt == nil || bytes.Contains(got, secret) {
			t.Fatalf("%s: %v", name, opt)
		}
		for _, o := range opt.Option {
			if o.Option() != dns.EDNS0EDE { // our own
				t.Errorf("%s: option %d", name, o.Option())
			}
		}
	}
}
