package blocklist

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func guardOf(t testing.TB, own ...string) *Guard {
	t.Helper()
	g, err := NewGuard(GuardConfig{OwnNames: own, Elsewhere: func() map[string]string {
		return map[string]string{"page.neighbour.example": "the stop page of category minors of list belgian"}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestGuardOfStructure(t *testing.T) {
	g := guardOf(t, "dns.isp.example", "resolver.isp.co.uk")
	for _, c := range []struct {
		entry string // a trailing slash means scope domain
		says  string // empty where the entry passes
	}{
		{"propagande.example", ""},
		{"propagande.example/", ""},
		{"a.b.c.propagande.example/", ""},
		{"site.test/", ""},
		{"site.co.uk/", ""},
		{"site.com/", ""},
		{"_sip.site.com", ""},
		{"xn--rsum-bpad.example/", ""},

		{"", "is the root"},
		{"./", "is the root"},
		{"com", "top-level domain"},
		{"com/", "top-level domain"},
		{"example/", "top-level domain"},
		{"test/", "top-level domain"},
		{"xn--p1ai", "top-level domain"},
		{"notatld/", "top-level domain"},

		{"co.uk", "public suffix"},
		{"co.uk/", "public suffix"},
		{"gouv.fr/", "public suffix"},
		{"anything.ck", "public suffix"}, // *.ck
		{"www.ck/", ""},                  // !www.ck
		{"kawasaki.jp/", "nothing but public suffixes below"},
		{"kawasaki.jp", ""},
		{"city.kawasaki.jp/", ""}, // !city.kawasaki.jp

		{"github.io/", "platform"},
		{"github.io", ""},
		{"someone.github.io/", ""},
		{"blogspot.com/", "platform"},
		{"blogspot.com", ""},
		{"someone.blogspot.com", ""},
		{"x.compute.amazonaws.com/", "platform"},                        // *.compute.amazonaws.com
		{"compute.amazonaws.com/", "nothing but public suffixes below"}, // above them all

		{"localhost", `special-use name (RFC 6761)`},
		{"a.localhost/", "special-use"},
		{"printer.local", "special-use name (RFC 6762)"},
		{"abcdef.onion/", "special-use name (RFC 7686)"},
		{"name.alt", "special-use"},
		{"arpa/", "special-use"},
		{"home.arpa/", "special-use"},
		{"resolver.arpa", "special-use"},
		{"_dns.resolver.arpa", "special-use"},
		{"1.0.0.127.in-addr.arpa", "special-use"},
		{"a.invalid", "special-use"},
		{"vpn.corp.internal/", "special-use"},
		{"local.example/", ""}, // only as the top label

		{"stop.gov.example", "is the name of the stop page of category terrorism"},
		{"stop.gov.example/", "is the name of the stop page of category terrorism"},
		{"gov.example/", "covers stop.gov.example, the name of the stop page"},
		{"gov.example", ""},
		{"other.gov.example/", ""},
		{"xstop.gov.example/", ""},
		{"below.stop.gov.example/", ""},
		{"page.neighbour.example", "is the name of the stop page of category minors of list belgian"},
		{"neighbour.example/", "covers page.neighbour.example, the name of the stop page of category minors of list belgian"},
		{"neighbour.example", ""},
		{"dns.isp.example", "is the name of the resolver"},
		{"isp.example/", "covers dns.isp.example, the name of the resolver"},
		{"isp.example", ""},
		{"isp.co.uk/", "covers resolver.isp.co.uk"},
	} {
		t.Run(c.entry, func(t *testing.T) {
			l := &List{Entries: listed(c.entry)}
			l.Categories = map[string]StopPage{
				"terrorism": {Page: "https://stop.gov.example:8443/terrorism"},
				"minors":    {Page: "http://192.0.2.80/minors"},
				"drugs":     {Page: "http://[2001:db8::80]:8080/"},
			}
			err := g.Check(t.Context(), Update{Next: l})
			if c.says == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			var gerr *GuardError
			if !errors.As(err, &gerr) || gerr.Guard != "structure" || gerr.Total != 1 || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want ...%s...", err, c.says)
			}
		})
	}
}

func TestGuardNamesEachEntryButNotWithoutEnd(t *testing.T) {
	l := parse(t, frenchText(t))
	for i := range 50 {
		l.Entries = append(l.Entries, Entry{ID: fmt.Sprint("bad-", i), Name: "co.uk", Scope: ScopeDomain})
	}
	var err *GuardError
	if !errors.As(guardOf(t).Check(t.Context(), Update{Next: l}), &err) {
		t.Fatal("accepted")
	}
	if err.Total != 50 || len(err.Findings) != maxFindings {
		t.Errorf("%d of %d findings", len(err.Findings), err.Total)
	}
	if f := err.Findings[0]; f.Line != 7 || f.ID != "bad-0" || f.Remedy == "" {
		t.Errorf("first finding is %+v", f)
	}
	want := `guard structure: list line 7: entry bad-0, name "co.uk" with scope domain is a public suffix, below which anybody registers names; list the registered name below it (and 49 more entries)`
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

func TestGuardLetsTheGoldenListPass(t *testing.T) {
	if err := guardOf(t).Check(t.Context(), Update{Next: parse(t, frenchText(t))}); err != nil {
		t.Error(err)
	}
}

func TestNewGuardRefusesNamesThatAreNotCanonical(t *testing.T) {
	_, err := NewGuard(GuardConfig{OwnNames: []string{"Resolver.example"}})
	if err == nil || !strings.Contains(err.Error(), `write "resolver.example"`) {
		t.Errorf("got %v", err)
	}
}
