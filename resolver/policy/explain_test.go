package policy

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/miekg/dns"

	"cordon/blocklist"
	"cordon/blocklog"
	"cordon/resolver/wire"
)

// explained asks for a type and gives the reply with the text of its only
// extended error.
func explained(t *testing.T, qtype uint16, limit int, e *Explanation) (*dns.Msg, string) {
	t.Helper()
	listed := entry("T-1", "propagande.example", blocklist.ScopeDomain, "terrorism")
	listed.LegalBasis, listed.Decision = "LCEN 6-1 <b>", "OFAC-2026-17"
	p := enforcing(t, listed)
	m := new(dns.Msg)
	m.SetQuestion("www.propagande.example.", qtype)
	m.SetEdns0(4096, true)
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var q wire.Query
	if err := q.Parse(packet); err != nil {
		t.Fatal(err)
	}
	hit, ok := p.Current().Match(q.Name())
	if !ok {
		t.Fatal("not listed")
	}
	raw, action := hit.AppendExplained(nil, &q, limit, e)
	reply := new(dns.Msg)
	if err := reply.Unpack(raw); err != nil || len(raw) > limit {
		t.Fatalf("%d bytes: %v", len(raw), err)
	}
	if action != blocklog.Explained {
		t.Errorf("recorded as %v", action)
	}
	options := reply.IsEdns0().Option
	if len(options) != 1 {
		t.Fatalf("options %v", options)
	}
	ede := options[0].(*dns.EDNS0_EDE)
	if ede.InfoCode != dns.ExtendedErrorCodeCensored {
		t.Errorf("EDE %d", ede.InfoCode)
	}
	return reply, ede.ExtraText
}

func TestAnExplainedAnswerIsNODATAWithOneErrorForEveryType(t *testing.T) {
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeTXT} {
		reply, text := explained(t, qtype, wire.MaxUDP, &Explanation{Contact: []string{"mailto:recours@isp.example", "https://isp.example/?a&b"}, Language: "fr"})
		if reply.Rcode != dns.RcodeSuccess || len(reply.Answer) != 0 || len(reply.Ns) != 1 || reply.AuthenticatedData {
			t.Errorf("reply %v", reply)
		}
		want := `{"c":["mailto:recours@isp.example","https://isp.example/?a&b"],"l":"fr","j":"LCEN 6-1 <b>","o":"Test authority","fdbs":[{"db":"national","id":"OFAC-2026-17"}]}`
		if text != want {
			t.Errorf("%s\nwant\n%s", text, want)
		}
	}
}

func TestTheStopPageIsTheContactWhereNoneIsSet(t *testing.T) {
	_, text := explained(t, dns.TypeA, wire.MaxUDP, &Explanation{})
	var got map[string]any
	if err := json.Unmarshal([]byte(text), &got); err != nil || !reflect.DeepEqual(got["c"], []any{page}) {
		t.Errorf("%s %v", text, err)
	}
	if _, there := got["s"]; there { // not allowed with EDE 16
		t.Errorf("a suberror: %s", text)
	}
}

// TestTheTextsGoFirstWhenSpaceIsShort shortens the reply byte by byte: what is
// left is whole JSON, and fields go in one order.
func TestTheTextsGoFirstWhenSpaceIsShort(t *testing.T) {
	order := []string{"c l j o fdbs", "c l o fdbs", "c fdbs", "c", ""}
	at := 0
	for limit := wire.MaxUDP; limit >= 150; limit-- {
		_, text := explained(t, dns.TypeA, limit, &Explanation{Language: "fr"})
		fields := ""
		if text != "" {
			var got map[string]any
			if err := json.Unmarshal([]byte(text), &got); err != nil {
				t.Fatalf("limit %d: %q: %v", limit, text, err)
			}
			for _, f := range []string{"c", "l", "j", "o", "fdbs"} {
				if _, there := got[f]; there {
					fields += " " + f
				}
			}
			fields = fields[1:]
		}
		for at < len(order)-1 && fields != order[at] {
			at++
		}
		if fields != order[at] {
			t.Fatalf("limit %d: fields %q", limit, fields)
		}
	}
	if at != len(order)-1 {
		t.Errorf("only %q was reached", order[at])
	}
}
