package oversight

import (
	"fmt"
	"strings"
	"time"

	"cordon/blocklist"
)

// maxDifferences bounds how many entries a sentence names.
const maxDifferences = 10

// differences says how the entries of a list differ from those approved; empty
// where they do not.
func differences(published, approved []blocklist.Entry) string {
	is := map[string]blocklist.Entry{}
	for _, e := range approved {
		is[e.ID] = e
	}
	var said []string
	for _, e := range published {
		want, ok := is[e.ID]
		delete(is, e.ID)
		switch {
		case !ok:
			said = append(said, fmt.Sprintf("it lists %s (%s), which was not approved to be listed", e.Name, e.ID))
		case firstDifference(e, want) != "":
			said = append(said, fmt.Sprintf("it lists %s otherwise than it was approved (%s)", e.ID, firstDifference(e, want)))
		}
	}
	for _, e := range approved {
		if _, left := is[e.ID]; left {
			said = append(said, fmt.Sprintf("it leaves out %s (%s)", e.Name, e.ID))
		}
	}
	if more := len(said) - maxDifferences; more > 0 {
		said = append(said[:maxDifferences], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(said, "; ")
}

// firstDifference names the first field in which two entries differ; empty where
// none does.
func firstDifference(is, want blocklist.Entry) string {
	for _, f := range []struct{ name, is, want string }{
		{"name", is.Name, want.Name},
		{"scope", is.Scope.String(), want.Scope.String()},
		{"category", is.Category, want.Category},
		{"legal basis", is.LegalBasis, want.LegalBasis},
		{"decision", is.Decision, want.Decision},
		{"notified", stamp(is.Notified), stamp(want.Notified)},
		{"in force", stamp(is.InForce), stamp(want.InForce)},
		{"review by", is.ReviewBy.String(), want.ReviewBy.String()},
	} {
		if f.is != f.want {
			return fmt.Sprintf("%s %s, approved %s", f.name, f.is, f.want)
		}
	}
	return ""
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
