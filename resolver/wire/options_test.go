package wire

import (
	"bytes"
	"testing"

	"github.com/miekg/dns"
)

// nsid is an option that a caller may add to every reply.
var nsid = []byte{0, dns.EDNS0NSID, 0, 2, 'n', '1'}

func TestRepliesCarryTheCallersOptionsAndAreWholeBlocks(t *testing.T) {
	stored := storedExample(t)
	for name, reply := range map[string]func(q *Query) []byte{
		"an error":           func(q *Query) []byte { return AppendError(nil, q, dns.RcodeRefused, MaxStream, EDE{18, "text"}) },
		"behind a prefix":    func(q *Query) []byte { return AppendError([]byte("12"), q, dns.RcodeRefused, MaxStream)[2:] },
		"one from the cache": func(q *Query) []byte { return Patch(nil, stored, q, 0, MaxStream) },
		"one of many blocks": func(q *Query) []byte {
			var b Builder
			b.Start(nil, q, MaxStream)
			for range 20 {
				b.Answer(0, dns.TypeTXT, 1, append([]byte{200}, make([]byte, 200)...))
			}
			return b.Finish(0, false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := parsed(t, "www.example.", dns.TypeA, withEDNS(1232, false))
			q.Options, q.Pad = nsid, 468
			got := reply(q)
			if len(got)%468 != 0 {
				t.Errorf("%d bytes are no whole blocks", len(got))
			}
			options := unpack(t, got).IsEdns0().Option
			if first, ok := options[0].(*dns.EDNS0_NSID); !ok || first.Nsid != "6e31" {
				t.Errorf("options %v", options)
			}
			last, ok := options[len(options)-1].(*dns.EDNS0_PADDING)
			if !ok || !bytes.Equal(last.Padding, make([]byte, len(last.Padding))) {
				t.Errorf("options %v", options)
			}
		})
	}
}

func TestPaddingKeepsTheLimit(t *testing.T) {
	for _, limit := range []int{100, 467, 468, 600} {
		q := parsed(t, "www.example.", dns.TypeA, withEDNS(1232, false))
		q.Pad = 468
		got := AppendError(nil, q, dns.RcodeSuccess, limit)
		if want := min(limit, 468); len(got) != want {
			t.Errorf("limit %d: %d bytes, want %d", limit, len(got), want)
		}
		unpack(t, got)
	}
}

func TestOptionsTakeTheirRoomFromTheRecords(t *testing.T) {
	q := parsed(t, "www.example.", dns.TypeA, withEDNS(1232, false))
	plain := AppendError(nil, q, dns.RcodeSuccess, MaxStream)
	record := 12 + 4
	for _, tt := range []struct {
		limit     int
		truncated bool
	}{{len(plain) + record + len(nsid), false}, {len(plain) + record + len(nsid) - 1, true}} {
		q.Options = nsid
		var b Builder
		b.Start(nil, q, tt.limit)
		b.Answer(0, dns.TypeA, 60, []byte{192, 0, 2, 1})
		got := b.Finish(0, false)
		if m := unpack(t, got); m.Truncated != tt.truncated || len(got) > tt.limit {
			t.Errorf("limit %d: truncated %v, %d bytes", tt.limit, m.Truncated, len(got))
		}
	}
}

func TestParseForgetsTheOptionsOfTheLastReply(t *testing.T) {
	q := parsed(t, "www.example.", dns.TypeA)
	q.Options, q.Pad = nsid, 468
	if err := q.Parse(question(t, "other.example.", dns.TypeA)); err != nil || q.Options != nil || q.Pad != 0 {
		t.Errorf("%v, options %v, padding to %d", err, q.Options, q.Pad)
	}
}

func TestFreshnessIsTheLowestTTL(t *testing.T) {
	const soa = "example. 300 IN SOA ns.example. x.example. 1 2 3 4 "
	for name, tt := range map[string]struct {
		answer, authority []string
		want              uint32
	}{
		"of the answer":                               {answer: []string{"www.example. 50 IN CNAME a.example.", "a.example. 20 IN A 192.0.2.1"}, authority: []string{"example. 5 IN NS ns.example."}, want: 20},
		"of one that may not be kept":                 {answer: []string{"www.example. 0 IN A 192.0.2.1"}, want: 0},
		"of nothing, by the SOA's minimum":            {authority: []string{soa + "60"}, want: 60},
		"of nothing, by the SOA's own":                {authority: []string{soa + "900"}, want: 300},
		"of nothing at all":                           {want: 0},
		"of nothing, with a record that says nothing": {authority: []string{"example. 50 IN NS ns.example."}, want: 0},
	} {
		m := new(dns.Msg)
		m.SetQuestion("www.example.", dns.TypeA)
		m.Response, m.Compress = true, true
		m.Answer, m.Ns = records(t, tt.answer...), records(t, tt.authority...)
		packet, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if got := Freshness(packet); got != tt.want {
			t.Errorf("%s: %d s, want %d", name, got, tt.want)
		}
	}
}

func FuzzFreshness(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00\x00\x84\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04abcd"))
	f.Fuzz(func(_ *testing.T, reply []byte) { Freshness(reply) }) // must not panic
}
