package e2e

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// docs/attacks.md names for each attack the test that makes it, as `TestName` in
// this package, `folder.TestName` in another, with the name of the case behind a
// slash. What it names has to be there.
func TestTheTableOfAttacksNamesTestsThatAreThere(t *testing.T) {
	const table = "../../docs/attacks.md"
	text, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	packages := map[string]*testSources{}
	named := regexp.MustCompile("`((?:[a-z]+(?:/[a-z]+)*\\.)?)(Test[A-Za-z0-9]+)((?:/[^`]+)?)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 50 {
		t.Fatalf("%s names %d tests", table, len(named))
	}
	for _, n := range named {
		folder := strings.TrimSuffix(n[1], ".")
		if folder == "" {
			folder = "test/e2e"
		}
		if packages[folder] == nil {
			if packages[folder], err = parseTests(filepath.Join("../..", folder)); err != nil {
				t.Fatal(err)
			}
		}
		if sources := packages[folder]; !sources.functions[n[2]] {
			t.Errorf("%s: there is no %s in %s", table, n[2], folder)
		} else if sub := strings.TrimPrefix(n[3], "/"); sub != "" && !sources.names(sub) {
			t.Errorf("%s: %s in %s has no case %q", table, n[2], folder, sub)
		}
	}
}

// testSources are what the tests of a package are named by.
type testSources struct {
	functions map[string]bool
	strings   map[string]bool // literals, of which the names of cases are made
}

// names tells whether a case's name, or its parts, stand in the sources.
func (s *testSources) names(sub string) bool {
	if s.strings[sub] {
		return true
	}
	// Put together: "PART is DAMAGE", "text: NAME".
	for _, between := range []string{" is ", ": "} {
		if first, second, ok := strings.Cut(sub, between); ok && (s.strings[first] || s.strings[first+between]) && s.strings[second] {
			return true
		}
	}
	return false
}

func parseTests(dir string) (*testSources, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no tests in %s: %v", dir, err)
	}
	s := &testSources{functions: map[string]bool{}, strings: map[string]bool{}}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				s.functions[n.Name.Name] = n.Recv == nil || s.functions[n.Name.Name]
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
					s.strings[text] = true
				}
			}
			return true
		})
	}
	return s, nil
}
