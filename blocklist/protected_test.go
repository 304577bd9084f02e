package blocklist

import (
	"strings"
	"testing"
)

func guardedBy(p *Protected) func() *Protected { return func() *Protected { return p } }

func protecting(t testing.TB, names ...string) *Protected {
	t.Helper()
	p := NewProtected()
	if err := p.AddFile(strings.NewReader(strings.Join(names, "\n")), "names.txt"); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAProtectedNameCoversItselfItsParentsAndAllBelow(t *testing.T) {
	p := protecting(t, "# comment", "", "files.usercontent.big.example", "Bücher.example", "blogspot.com", "service.gouv.fr")
	for _, c := range []struct {
		entry string // a trailing slash means scope domain
		says  string // empty where it is not covered
	}{
		{"files.usercontent.big.example", "is a protected name (names.txt)"},
		{"files.usercontent.big.example/", "is a protected name"},
		{"a.b.files.usercontent.big.example", "is below the protected name files.usercontent.big.example"},
		{"usercontent.big.example", "is above the protected name files.usercontent.big.example"},
		{"big.example/", "is above the protected name"},
		{"other.usercontent.big.example/", ""},
		{"xfiles.usercontent.big.example", ""},
		{"ig.example", ""},
		{"xn--bcher-kva.example", "is a protected name"},
		{"blogspot.com", "is a protected name"},
		{"someone.blogspot.com", ""}, // below a public suffix are other people's names
		{"service.gouv.fr/", "is a protected name"},
		{"other.gouv.fr/", ""},
	} {
		e := listed(c.entry)[0]
		if got := p.covers(&e); c.says == "" && got != "" || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q, want %q", c.entry, got, c.says)
		}
	}
}

func TestTheStarterSetHoldsWhatWentDownBefore(t *testing.T) {
	p := NewProtected()
	if err := p.AddStarter(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"google.fr", "fr.wikipedia.org", "ovh.com", "drive.usercontent.google.com", "google.com", "www.facebook.com", "impots.gouv.fr"} {
		if e := listed(name + "/")[0]; p.covers(&e) == "" {
			t.Errorf("%s is not covered", name)
		}
	}
	if e := listed("propagande.example/")[0]; p.covers(&e) != "" {
		t.Error("propagande.example is covered")
	}
}

func TestAWrongFileOfProtectedNamesNamesTheLine(t *testing.T) {
	err := NewProtected().AddFile(strings.NewReader("good.example\n*.bad.example\n"), "names.txt")
	if err == nil || !strings.Contains(err.Error(), `names.txt line 2: name "*.bad.example"`) {
		t.Errorf("got %v", err)
	}
}

func TestARankingProtectsItsFirstRanks(t *testing.T) {
	p := NewProtected()
	if err := p.AddRanking(strings.NewReader("rank,domain\r\n1,google.com\r\n2,*bad*\r\n3,third.example\r\n4,fourth.example\r\n"), "tranco.csv", 3); err != nil {
		t.Fatal(err)
	}
	if p.Len() != 2 {
		t.Errorf("%d names, want 2", p.Len())
	}
	if e := listed("www.third.example")[0]; !strings.Contains(p.covers(&e), "tranco.csv, rank 3") {
		t.Errorf("says %q", p.covers(&e))
	}
	for _, text := range []string{"", "<html>no such file</html>", "google.com,1\n", "4,fourth.example\n"} {
		if err := NewProtected().AddRanking(strings.NewReader(text), "tranco.csv", 3); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func FuzzProtected(f *testing.F) {
	f.Add("google.com\n# x\n", "1,google.com\n")
	f.Add("Bücher.example", "\"1\",\"a\nb\"\n")
	f.Fuzz(func(t *testing.T, names, ranking string) {
		p := NewProtected()
		_ = p.AddFile(strings.NewReader(names), "names")
		_ = p.AddRanking(strings.NewReader(ranking), "ranking", 100)
		for name := range p.names {
			if err := CheckName(name); err != nil {
				t.Fatalf("holds a name that no entry can have: %v", err)
			}
			e := Entry{Name: name, Scope: ScopeHost}
			if p.covers(&e) == "" {
				t.Fatalf("%s does not cover itself", name)
			}
		}
	})
}
