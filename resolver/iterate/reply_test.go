package iterate

import (
	"testing"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

func message(t testing.TB, rcode int, aa bool, answer, authority []string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.Response, m.Rcode, m.Authoritative = true, rcode, aa
	for _, s := range answer {
		m.Answer = append(m.Answer, mustRecord(t, s))
	}
	for _, s := range authority {
		m.Ns = append(m.Ns, mustRecord(t, s))
	}
	return m
}

func TestRepliesAreReadForWhatTheySay(t *testing.T) {
	const soa = "example. 300 SOA a. b. 1 1 1 1 1"
	type list = []string
	for _, c := range []struct {
		name              string
		q                 Question
		rcode             int
		aa                bool
		answer, authority list
		want              replyKind // 0: of no use
	}{
		{"an answer", Question{"www.example.", 1}, 0, true, list{"www.example. A 192.0.2.1"}, nil, answer},
		{"in another case", Question{"www.example.", 1}, 0, true, list{"WWW.Example. A 192.0.2.1"}, nil, answer},
		{"a CNAME", Question{"www.example.", 1}, 0, true, list{"www.example. CNAME x.example."}, nil, alias},
		{"two CNAMEs", Question{"www.example.", 1}, 0, true, list{"www.example. CNAME x.example.", "www.example. CNAME y.example."}, nil, 0},
		{"one CNAME, twice", Question{"www.example.", 1}, 0, true, list{"www.example. CNAME x.example.", "www.example. CNAME x.example."}, nil, alias},
		{"a CNAME and NXDOMAIN of its target", Question{"www.example.", 1}, dns.RcodeNameError, true, list{"www.example. CNAME x.example."}, list{soa}, alias},
		{"a DNAME with its CNAME", Question{"x.www.example.", 1}, 0, true, list{"www.example. DNAME y.", "x.www.example. CNAME x.y."}, nil, redirect},
		{"a DNAME at the name is none for it", Question{"www.example.", 1}, 0, true, list{"www.example. DNAME y."}, list{soa}, noData},
		{"YXDOMAIN with a DNAME", Question{"x.www.example.", 1}, dns.RcodeYXDomain, true, list{"www.example. DNAME y."}, nil, redirect},
		{"YXDOMAIN without", Question{"www.example.", 1}, dns.RcodeYXDomain, true, list{"www.example. A 192.0.2.1"}, nil, 0},
		{"no data", Question{"www.example.", 1}, 0, true, nil, list{soa}, noData},
		{"no data, said of a cache too", Question{"www.example.", 1}, 0, false, nil, list{soa}, noData},
		{"no data, no SOA", Question{"www.example.", 1}, 0, true, nil, nil, noData},
		{"nothing", Question{"www.example.", 1}, 0, false, nil, nil, noData},
		{"another type than was asked for", Question{"www.example.", 28}, 0, false, list{"www.example. A 192.0.2.1"}, nil, noData},
		{"no such name", Question{"www.example.", 1}, dns.RcodeNameError, true, nil, list{soa}, noName},
		{"no such name, by the SOA of another zone", Question{"www.example.", 1}, dns.RcodeNameError, true, nil, list{"other. SOA a. b. 1 1 1 1 1"}, 0},
		{"no such name, by the SOA of a sister", Question{"www.example.", 1}, dns.RcodeNameError, false, nil, list{"sub.example. SOA a. b. 1 1 1 1 1"}, 0},
		{"a referral", Question{"www.sub.example.", 1}, 0, false, nil, list{"sub.example. NS a."}, referral},
		{"a referral to the name itself", Question{"sub.example.", 1}, 0, false, nil, list{"sub.example. NS a."}, referral},
		{"the same for its DS", Question{"sub.example.", dns.TypeDS}, 0, false, nil, list{"sub.example. NS a."}, 0},
		{"a referral to the zone asked", Question{"www.example.", 1}, 0, false, nil, list{"example. NS a."}, 0},
		{"a referral upward", Question{"www.example.", 1}, 0, false, nil, list{". NS a."}, 0},
		{"a referral to a sister of the name", Question{"www.example.", 1}, 0, false, nil, list{"sub.example. NS a."}, 0},
		{"no DS, by the child", Question{"sub.example.", dns.TypeDS}, 0, true, nil, list{"sub.example. SOA a. b. 1 1 1 1 1"}, 0},
		{"an answer of another class", Question{"www.example.", 1}, 0, false, list{"www.example. CH A 192.0.2.1"}, nil, noData},
		{"a failure", Question{"www.example.", 1}, dns.RcodeServerFailure, true, list{"www.example. A 192.0.2.1"}, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, why := readReply("example.", "example.", c.q, message(t, c.rcode, c.aa, c.answer, c.authority))
			if got := kindOf(r); got != c.want || (r == nil) != (why != "") {
				t.Errorf("kind %d (%s), want %d", got, why, c.want)
			}
		})
	}
}

func kindOf(r *reply) replyKind {
	if r == nil {
		return 0
	}
	return r.kind
}

func TestOnlyTheChainOfTheQuestionIsKept(t *testing.T) {
	m := message(t, 0, true, []string{
		"b.example. CNAME c.example.", "unasked.example. A 192.0.2.66", "a.example. CNAME b.example.",
		"c.example. A 192.0.2.1", "c.example. TXT x", "d.other. A 192.0.2.66",
	}, nil)
	r, _ := readReply("example.", "example.", Question{"a.example.", dns.TypeA}, m)
	var got []string
	for _, s := range r.answer {
		got = append(got, s.Name)
	}
	if len(got) != 3 || got[0] != "a.example." || got[1] != "b.example." || got[2] != "c.example." {
		t.Errorf("%v", got)
	}
}

func FuzzReadReply(f *testing.F) {
	m := message(f, 0, true, []string{"a.example. CNAME b.example.", "b.example. A 192.0.2.1"}, []string{"example. SOA a. b. 1 1 1 1 1", "sub.example. NS a."})
	packed, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add("a.example.", uint16(dns.TypeA), packed)
	f.Add("sub.example.", uint16(dns.TypeDS), packed)
	f.Fuzz(func(t *testing.T, name string, typ uint16, packet []byte) {
		m := new(dns.Msg)
		name, err := canonical(name)
		if err != nil || m.Unpack(packet) != nil || !below("example.", name) {
			return
		}
		r, _ := readReply("example.", "example.", Question{name, typ}, m)
		if r == nil {
			return
		}
		for _, section := range [][]string{names(r.answer), names(r.authority)} {
			for _, n := range section {
				if !below("example.", n) {
					t.Fatalf("kept %s from outside the zone", n)
				}
			}
		}
		if r.kind == referral && (!strictlyBelow("example.", r.cut("example.").Name) || !below(r.cut("example.").Name, name)) {
			t.Fatalf("a referral for %s to %s", name, r.cut("example.").Name)
		}
	})
}

func names(sets []dnssec.Set) (out []string) {
	for _, s := range sets {
		out = append(out, s.Name)
	}
	return out
}
