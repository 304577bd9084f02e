package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/test/lab"
)

// reply is a message with these flags and this answer section.
func reply(t *testing.T, rcode int, ad bool, records ...string) answer {
	t.Helper()
	m := &dns.Msg{}
	m.Rcode, m.AuthenticatedData = rcode, ad
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return answerOf(m)
}

func TestOrderTTLAndCaseOfNamesAreFree(t *testing.T) {
	a := reply(t, dns.RcodeSuccess, true, "www.Libre.example. 60 CNAME Target.example.", "target.example. 7 A 192.0.2.1")
	b := reply(t, dns.RcodeSuccess, true, "target.example. 3600 A 192.0.2.1", "www.libre.example. 30 CNAME target.EXAMPLE.")
	if !a.equal(b) {
		t.Errorf("%v and %v differ", a, b)
	}
}

func TestWhatIsComparedMakesADifference(t *testing.T) {
	base := reply(t, dns.RcodeSuccess, true, "a.example. 60 A 192.0.2.1")
	for what, other := range map[string]answer{
		"response code": reply(t, dns.RcodeNameError, true, "a.example. 60 A 192.0.2.1"),
		"AD":            reply(t, dns.RcodeSuccess, false, "a.example. 60 A 192.0.2.1"),
		"data":          reply(t, dns.RcodeSuccess, true, "a.example. 60 A 192.0.2.2"),
		"more records":  reply(t, dns.RcodeSuccess, true, "a.example. 60 A 192.0.2.1", "a.example. 60 A 192.0.2.2"),
		"case of text":  reply(t, dns.RcodeSuccess, true, `a.example. 60 TXT "A"`),
		"silence":       {silent: true},
	} {
		if base.equal(other) {
			t.Errorf("%s: %v and %v are the same", what, base, other)
		}
	}
}

// What would be a fault of a validating resolver is explained by no rule,
// whoever it is that differs.
func TestFaultsAreExplainedByNothing(t *testing.T) {
	type side struct {
		rcode   int
		ad      bool
		records []string
	}
	www := []string{"www.broken.many. 60 A 192.0.2.1"}
	for name, f := range map[string]struct {
		q            question
		ours, theirs side
	}{
		"bogus data is given": {question{name: "www.broken.many.", qtype: dns.TypeA},
			side{dns.RcodeSuccess, false, www}, side{dns.RcodeServerFailure, false, nil}},
		"good data is refused": {question{name: "www.nsec.many.", qtype: dns.TypeA},
			side{dns.RcodeServerFailure, false, nil}, side{dns.RcodeSuccess, true, []string{"www.nsec.many. 60 A 192.0.2.1"}}},
		"good data is refused with CD": {question{name: "www.broken.many.", qtype: dns.TypeA, cd: true},
			side{dns.RcodeServerFailure, false, nil}, side{dns.RcodeSuccess, false, www}},
		"AD is missing": {question{name: "www.nsec.many.", qtype: dns.TypeA, do: true},
			side{dns.RcodeSuccess, false, nil}, side{dns.RcodeSuccess, true, nil}},
		"AD is set on what is not validated": {question{name: "www.unsigned.many.", qtype: dns.TypeA, do: true},
			side{dns.RcodeSuccess, true, []string{"www.unsigned.many. 60 A 192.0.2.1"}}, side{dns.RcodeSuccess, false, []string{"www.unsigned.many. 60 A 192.0.2.1"}}},
		"AD is set with CD": {question{name: "www.broken.many.", qtype: dns.TypeA, cd: true},
			side{dns.RcodeSuccess, true, www}, side{dns.RcodeSuccess, false, www}},
		"signatures are missing": {question{name: "here.nsec.many.", qtype: dns.TypeCNAME, do: true},
			side{dns.RcodeSuccess, true, nil}, side{dns.RcodeSuccess, true, []string{"here.nsec.many. 60 CNAME www.nsec.many."}}},
		"a missing name exists": {question{name: "nx.nsec.many.", qtype: dns.TypeA},
			side{dns.RcodeSuccess, true, nil}, side{dns.RcodeNameError, true, nil}},
		"an alias is not followed": {question{name: "here.nsec.many.", qtype: dns.TypeA},
			side{dns.RcodeSuccess, true, []string{"here.nsec.many. 60 CNAME www.nsec.many."}},
			side{dns.RcodeSuccess, true, []string{"here.nsec.many. 60 CNAME www.nsec.many.", "www.nsec.many. 60 A 192.0.2.1"}}},
		"a DNAME is not followed": {question{name: "x.old.nsec.many.", qtype: dns.TypeA},
			side{dns.RcodeSuccess, true, []string{"old.nsec.many. 60 DNAME wild.nsec.many."}},
			side{dns.RcodeSuccess, true, []string{"old.nsec.many. 60 DNAME wild.nsec.many.", "x.old.nsec.many. 60 CNAME x.wild.nsec.many."}}},
	} {
		for _, peer := range []string{"unbound", "bind"} {
			d := difference{f.q, peer, reply(t, f.ours.rcode, f.ours.ad, f.ours.records...), reply(t, f.theirs.rcode, f.theirs.ad, f.theirs.records...)}
			if v := verdict(d); v != "" {
				t.Errorf("%s (%s): explained by %q", name, peer, v)
			}
		}
	}
}

func TestUnexplainedDifferencesAreCountedAndShown(t *testing.T) {
	served := reply(t, dns.RcodeSuccess, true, "www.nsec.many. 60 A 192.0.2.1")
	unsure := served
	unsure.ad = false
	var out bytes.Buffer
	n := report(&out, []difference{
		{question{name: "www.nsec.many.", qtype: dns.TypeA}, "bind", unsure, served},
		{question{name: "www.nsec.many.", qtype: dns.TypeA, cd: true}, "bind", unsure, served},
	}, false)
	if n != 1 || !strings.Contains(out.String(), "UNEXPLAINED\n  www.nsec.many. A\n") || !strings.Contains(out.String(), "RFC 4035 section 3.2.3") {
		t.Errorf("%d unexplained, want 1; the report:\n%s", n, out.String())
	}
}

func TestColdZonesCanBeSigned(t *testing.T) {
	inet, err := lab.Build(coldZones(4), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if hints := inet.RootHints(); !strings.Contains(hints, alive(rootZone).String()) || !strings.Contains(hints, dead(rootZone).String()) {
		t.Errorf("the hints do not name both servers of the root:\n%s", hints)
	}
}

// The internet can be signed, and every kind of question is asked in it.
func TestQuestionsCoverTheInternet(t *testing.T) {
	zones := internet()
	if _, err := lab.Build(zones, time.Now()); err != nil {
		t.Fatal(err)
	}
	asked, err := questions(zones, 6000, 1)
	if err != nil {
		t.Fatal(err)
	}
	again, err := questions(zones, 6000, 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(asked) != 6000 || !slices.Equal(asked, again) {
		t.Errorf("%d questions, want 6000, the same each time", len(asked))
	}
	for what, is := range map[string]func(question) bool{
		"with CD":     func(q question) bool { return q.cd },
		"with AD":     func(q question) bool { return q.ad && !q.do },
		"plain":       func(q question) bool { return !q.ad && !q.do && !q.cd },
		"below DNAME": func(q question) bool { return strings.Contains(q.name, ".old.") },
		"wildcard":    func(q question) bool { return strings.HasPrefix(q.name, "zz.wild.") },
		"expired":     func(q question) bool { return strings.Contains(q.name, "expired.") && !q.cd },
		"bogus":       func(q question) bool { return strings.Contains(q.name, "broken.") && !q.cd },
		"insecure":    func(q question) bool { return strings.HasSuffix(q.name, ".unsigned.large.") },
		"DS":          func(q question) bool { return q.qtype == dns.TypeDS },
	} {
		if !slices.ContainsFunc(asked, is) {
			t.Errorf("no question of this kind: %s", what)
		}
	}
}
