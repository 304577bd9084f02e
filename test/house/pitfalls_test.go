package house

import (
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

const pitfalls = 70 // how many there are

// TestEveryPitfallHasItsTests holds docs/pitfalls.md to the tests that there are,
// and prints what it says is not built.
func TestEveryPitfallHasItsTests(t *testing.T) {
	text, err := os.ReadFile("../../docs/pitfalls.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	sources := map[string]testFile{}
	var missing []string
	for _, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(line, " | ")
		number, err := strconv.Atoi(strings.TrimPrefix(cells[0], "| "))
		if err != nil {
			continue // no row of a pitfall
		}
		if len(cells) != 4 {
			t.Fatalf("row %d has %d cells", number, len(cells))
		}
		if seen[number] || number < 1 || number > pitfalls {
			t.Errorf("%d stands there twice, or is no pitfall", number)
		}
		seen[number] = true
		tests, remark := cells[2], cells[3]
		if strings.Contains(remark, "not built: ") {
			missing = append(missing, cells[0][2:]+" "+cells[1])
		}
		if n := checkTests(t, number, tests, sources); n == 0 && !strings.HasPrefix(remark, "not built: ") && !strings.HasPrefix(remark, "does not apply: ") {
			t.Errorf("%d has neither a test nor a reason", number)
		}
	}
	for n := 1; n <= pitfalls; n++ {
		if !seen[n] {
			t.Errorf("%d is not in the table", n)
		}
	}
	t.Logf("not built, wholly or in part: %d\n%s", len(missing), strings.Join(missing, "\n"))
}

// quoted are the files and tests of a row: a file, then the tests in it.
var quoted = regexp.MustCompile("`([^`]*)`")

// checkTests says how many tests a row names, all of which have to be there.
func checkTests(t *testing.T, number int, cell string, sources map[string]testFile) (named int) {
	t.Helper()
	file := ""
	for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
		if strings.HasSuffix(m[1], "_test.go") {
			file = m[1]
			if _, read := sources[file]; !read {
				sources[file] = readTests(t, file)
			}
			continue
		}
		named++
		function, name, _ := strings.Cut(m[1], "/")
		if !sources[file].functions[function] {
			t.Errorf("%d: there is no %s in %q", number, function, file)
		} else if name != "" && !sources[file].texts[name] {
			t.Errorf("%d: %s in %s has no case %q", number, function, file, name)
		}
	}
	return named
}

// testFile is what may be named of a file of tests.
type testFile struct {
	functions map[string]bool // tests, fuzz targets and benchmarks
	texts     map[string]bool // literals, among them the names of cases
}

func readTests(t *testing.T, file string) testFile {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join("../..", file), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return testFile{}
	}
	f := testFile{functions: map[string]bool{}, texts: map[string]bool{}}
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv == nil && isTest.MatchString(n.Name.Name) {
				f.functions[n.Name.Name] = true
			}
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				if text, err := strconv.Unquote(n.Value); err == nil {
					f.texts[text] = true
				}
			}
		}
		return true
	})
	return f
}

var isTest = regexp.MustCompile(`^(Test|Fuzz|Benchmark)[A-Z]`)
