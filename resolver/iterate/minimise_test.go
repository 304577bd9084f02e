package iterate

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// The name functions are run for every label of every question, so they are
// written without allocation; what they say is what miekg/dns says.
func TestNamesAreTakenApartAsTheLibraryDoes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	labels := []string{"a", "b", "example", `\.`, `a\.b`, `\\`, `a\\`, `\\\.a`, `\000`, `\\\\`, "*", `a\"`}
	name := func() string {
		var b strings.Builder
		for range random.IntN(5) {
			b.WriteString(labels[random.IntN(len(labels))] + ".")
		}
		if b.Len() == 0 {
			return "."
		}
		return b.String()
	}
	for range 20_000 {
		a, b := name(), name()
		if random.IntN(2) == 0 && a != "." {
			b = strings.TrimSuffix(labels[random.IntN(len(labels))]+"."+a, "..") // related more often than by chance
		}
		if got, want := below(a, b), dns.IsSubDomain(a, b); got != want {
			t.Fatalf("below(%q, %q) = %v, want %v", a, b, got, want)
		}
		starts := dns.Split(b)
		for n := -1; n <= len(starts)+1; n++ {
			want := "."
			switch {
			case n >= len(starts):
				want = b
			case n > 0:
				want = b[starts[len(starts)-n]:]
			}
			if got := lastLabels(b, n); got != want {
				t.Fatalf("lastLabels(%q, %d) = %q, want %q", b, n, got, want)
			}
		}
		if got, want := parent(b), lastLabels(b, len(starts)-1); got != want {
			t.Fatalf("parent(%q) = %q, want %q", b, got, want)
		}
	}
}
