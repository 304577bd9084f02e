package authority

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// example reads one of the procedures that ship with cordon.
func example(t testing.TB, name string) *Procedure {
	t.Helper()
	path := filepath.Join("..", "configs", "procedure-"+name+".yaml")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParseProcedure(path, data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheProceduresThatShipSayWhatTheLawsSay(t *testing.T) {
	france, tco, court := example(t, "france"), example(t, "tco"), example(t, "court")

	lasts := func(p *Procedure, clock, want string, effect Effect) {
		t.Helper()
		c, ok := p.Clock(clock)
		if !ok || c.Lasts.String() != want || c.OnExpiry != effect {
			t.Errorf("%s: clock %s is %+v, want %s that %s", p.Name, clock, c, want, effect)
		}
	}
	lasts(france, "removal", "24 hours", Permits)
	lasts(france, "quarter", "3 months", Holds)
	lasts(france, "delisting", "48 hours", Shows)
	lasts(tco, "hour", "1 hour", Permits)
	lasts(tco, "scrutiny", "72 hours", Shows)
	lasts(tco, "contest", "48 hours", Shows)
	lasts(court, "term", "0 hours", Ends)

	if c, _ := france.Category("torture"); slices.Contains(c.Measures, Blocking) {
		t.Error("images of torture may be removed and de-listed, not blocked")
	}
	if court.Proposals.EndDate != Required {
		t.Error("a court order needs an end date")
	}
	if france.Approvals != (Approvals{Number: 2}) {
		t.Errorf("approvals in France: %+v", france.Approvals)
	}
}

func TestParseProcedureRefuses(t *testing.T) {
	data, err := os.ReadFile("../configs/procedure-france.yaml")
	if err != nil {
		t.Fatal(err)
	}
	good := string(data)
	for name, c := range map[string]struct{ old, new, want string }{
		"an unknown key":                    {"country: FR", "contry: FR", "contry"},
		"another format":                    {"cordon-procedure/1", "cordon-procedure/9", `this program reads "cordon-procedure/1"`},
		"a country in small letters":        {"country: FR", "country: fr", "two capital letters"},
		"a delay without a unit":            {"lasts: 24 hours", "lasts: 24h", "write a number and a unit"},
		"a clock that starts on nothing":    {"from: [withdrawn]", "from: [vanished]", `"vanished" is no event`},
		"an effect that is unknown":         {"on_expiry: permits", "on_expiry: explodes", "write shows, permits, holds or ends"},
		"no approvals":                      {"number: 2", "number: 0", "between 1 and 16"},
		"a text in one language only":       {"      en: Clerical error\n", "", `no text in "en"`},
		"a text in a language of its own":   {"      en: Clerical error", "      en: Clerical error\n      de: Versehen", `"de"`},
		"two categories of one name":        {"id: minors", "id: terrorism", "stands twice"},
		"an identifier with a space":        {"id: minors", "id: the minors", "is no identifier"},
		"a day that is none":                {"from: 2025-06-15", "from: 2025-06-31", "is not a day"},
		"a category that ends before":       {"from: 2025-06-15", "from: 2025-06-15\n    until: 2025-06-14", "is before"},
		"a scope that is unknown":           {"scope: host", "scope: zone", `write "host" or "domain"`},
		"a demand that is unknown":          {"request: optional", "request: maybe", "write required, optional or forbidden"},
		"an event of the register's name":   {"id: delisted", "id: lifted", "knows by itself"},
		"a statement that is unknown":       {"may: [propose,", "may: [sing, propose,", `"sing" is no statement`},
		"no one who may lift":               {"review, lift, note]", "review, note]", "no role may lift"},
		"a review date by an unknown clock": {"review_by: recheck", "review_by: never", "is no clock"},
		"permission by what is noted":       {"from: [requested]", "from: [blocked]", "may not start on"},
		"a review date that never starts":   {"review_by: recheck", "review_by: removal", "would have no review date"},
		"a TTL of nothing":                  {"answer_ttl: 60", "answer_ttl: 0", "between 1 and 86400"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseProcedure("p.yaml", []byte(replaceFirst(t, good, c.old, c.new)))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v does not say %q", err, c.want)
			}
			if !strings.Contains(err.Error(), "p.yaml:") {
				t.Errorf("%v names no line", err)
			}
		})
	}
}

func TestParseProcedureTellsTheLineOfEachProblem(t *testing.T) {
	data, err := os.ReadFile("../configs/procedure-france.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), "from: [withdrawn]", "from: [vanished]", 1)
	text = strings.Replace(text, "review_by: recheck", "review_by: never", 1)
	_, err = ParseProcedure("p.yaml", []byte(text))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"from: [vanished]", "review_by: never"} {
		before, _, _ := strings.Cut(text, want)
		place := "p.yaml:" + strconv.Itoa(strings.Count(before, "\n")+1) + ": "
		if !strings.Contains(err.Error(), place) {
			t.Errorf("%v\ndoes not name %s", err, place)
		}
	}
}

func TestSpanEndsAsLawsCount(t *testing.T) {
	for _, c := range []struct{ span, from, want string }{
		{"24 hours", "2026-03-01T10:20:30Z", "2026-03-02T10:20:30Z"},
		{"0 hours", "2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z"},
		{"7 days", "2026-03-01T10:20:30Z", "2026-03-09T00:00:00Z"},
		{"1 month", "2026-01-31T10:20:30Z", "2026-03-01T00:00:00Z"},
		{"3 months", "2026-11-15T23:59:59Z", "2027-02-16T00:00:00Z"},
		{"1 year", "2024-02-29T00:00:00Z", "2025-03-01T00:00:00Z"},
	} {
		s, err := ParseSpan(c.span)
		if err != nil {
			t.Fatal(err)
		}
		if s.String() != c.span {
			t.Errorf("%q is written back as %q", c.span, s)
		}
		from, _ := time.Parse(time.RFC3339, c.from)
		if got := s.After(from).Format(time.RFC3339); got != c.want {
			t.Errorf("%s after %s is %s, want %s", c.span, c.from, got, c.want)
		}
	}
	for _, bad := range []string{"", "24", "24h", "-1 hours", "1.5 hours", "01 hours", "3 fortnights", "99999 days", "1  day"} {
		if s, err := ParseSpan(bad); err == nil {
			t.Errorf("%q was read as %s", bad, s)
		}
	}
}

func FuzzParseProcedure(f *testing.F) {
	for _, name := range []string{"france", "tco", "court"} {
		data, err := os.ReadFile("../configs/procedure-" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("format: cordon-procedure/1\nclocks:\n  - id: x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseProcedure("p.yaml", data)
		if err != nil {
			return
		}
		// What was accepted answers each question that the register asks.
		if _, ok := p.Clock(p.List.ReviewBy); !ok {
			t.Error("accepted without a review clock")
		}
		for _, c := range p.Clocks {
			c.Lasts.After(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		}
	})
}

func replaceFirst(t *testing.T, text, old, replacement string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("the text holds no %q", old)
	}
	return strings.Replace(text, old, replacement, 1)
}
