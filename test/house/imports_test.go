// Package house holds the project to its design: who may import whom, and which
// test holds each pitfall.
package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// allowed says which packages of cordon a package may import besides those in
// the same row; a trailing "/..." covers the package and everything below. The order is the
// design's: who is further down knows nothing of who is further up.
var allowed = []struct {
	pkg string
	may []string
}{
	{"cordon/cmd/cordon-demo", []string{"cordon/cmd/internal/...", "cordon/configs", "cordon/blocklog", "cordon/test/lab"}},
	{"cordon/cmd/cordon-resolver", []string{"cordon/cmd/internal/...", "cordon/resolver", "cordon/rpz/feed", "cordon/blocklist", "cordon/blocklog", "cordon/signing"}},
	{"cordon/cmd/cordon-auditor", []string{"cordon/cmd/internal/...", "cordon/configs", "cordon/audit/...", "cordon/signing"}},
	{"cordon/cmd/cordon-authority", []string{"cordon/cmd/internal/...", "cordon/configs", "cordon/authority/...", "cordon/signing", "cordon/blocklist", "cordon/audit/tlog"}},
	{"cordon/cmd/cordon-oversight", []string{"cordon/cmd/internal/...", "cordon/configs", "cordon/oversight/...", "cordon/signing"}},
	{"cordon/cmd/cordon-stoppage", []string{"cordon/cmd/internal/...", "cordon/configs", "cordon/stoppage"}},
	{"cordon/cmd/internal/...", []string{"cordon/signing"}},

	{"cordon/resolver", []string{"cordon/resolver/...", "cordon/blocklist", "cordon/rpz/...", "cordon/blocklog", "cordon/signing", "cordon/configs"}},
	{"cordon/resolver/transport", []string{"cordon/resolver/wire", "cordon/resolver/cookie", "cordon/blocklog"}},
	{"cordon/resolver/wire", nil},
	{"cordon/resolver/policy", []string{"cordon/resolver/wire", "cordon/blocklist", "cordon/blocklog"}},
	{"cordon/resolver/cache", []string{"cordon/resolver/wire", "cordon/resolver/dnssec"}},
	{"cordon/resolver/anchors", []string{"cordon/resolver/dnssec", "cordon/durable"}},
	{"cordon/resolver/iterate", []string{"cordon/resolver/iterate/...", "cordon/resolver/dnssec", "cordon/resolver/cache", "cordon/resolver/cookie"}},
	{"cordon/resolver/iterate/...", []string{"cordon/resolver/dnssec", "cordon/resolver/cache"}},
	{"cordon/resolver/dnssec", nil},
	{"cordon/resolver/local", []string{"cordon/resolver/wire"}},
	{"cordon/resolver/rpl", nil},
	{"cordon/resolver/cookie", nil},
	{"cordon/resolver/fairuse", nil},

	{"cordon/blocklist", []string{"cordon/signing", "cordon/durable"}},
	{"cordon/rpz", []string{"cordon/blocklist", "cordon/signing", "cordon/durable"}},
	{"cordon/rpz/feed", []string{"cordon/rpz", "cordon/durable"}},
	{"cordon/signing", []string{"cordon/durable"}},
	{"cordon/authority", []string{"cordon/blocklist", "cordon/signing", "cordon/audit/tlog", "cordon/configs", "cordon/durable"}},
	{"cordon/blocklog", []string{"cordon/durable"}},
	{"cordon/audit/tlog", []string{"cordon/durable"}},
	{"cordon/audit/tlog/tlogtest", nil},
	{"cordon/audit", []string{"cordon/audit/tlog", "cordon/blocklog", "cordon/signing", "cordon/durable"}},
	{"cordon/oversight", []string{"cordon/audit", "cordon/audit/tlog", "cordon/authority", "cordon/blocklist", "cordon/blocklog", "cordon/signing", "cordon/durable"}},
	{"cordon/stoppage", []string{"cordon/configs"}},
	{"cordon/configs", nil},
	{"cordon/durable", nil},
	{"cordon/durable/durabletest", []string{"cordon/durable"}},
	{"cordon/test/lab", nil},
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range packages(t) {
		if strings.HasPrefix(p.ImportPath, "cordon/test/") && p.ImportPath != "cordon/test/lab" {
			continue // suites may see everything
		}
		row := slices.IndexFunc(allowed, func(r struct {
			pkg string
			may []string
		}) bool {
			return covers(r.pkg, p.ImportPath)
		})
		if row < 0 {
			t.Errorf("package %s stands in no row of the table: say here what it may import", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			if !strings.HasPrefix(imported, "cordon/") || covers(allowed[row].pkg, imported) {
				continue
			}
			if !slices.ContainsFunc(allowed[row].may, func(m string) bool { return covers(m, imported) }) {
				t.Errorf("package %s imports %s, which the design does not let it know", p.ImportPath, imported)
			}
		}
	}
}

// TestResolverNeverReachesTheAuditChannel looks at the whole dependency tree
// of the resolver program, not at direct imports alone (Promise 4).
func TestResolverNeverReachesTheAuditChannel(t *testing.T) {
	for _, dep := range strings.Fields(goList(t, "-deps", "cordon/cmd/cordon-resolver")) {
		if covers("cordon/audit/...", dep) || strings.Contains(dep, "transparency-dev/tessera") {
			t.Errorf("cordon-resolver depends on %s", dep)
		}
	}
}

// TestNoDrawerForOddments refuses packages whose name says nothing.
func TestNoDrawerForOddments(t *testing.T) {
	for _, p := range packages(t) {
		switch path.Base(p.ImportPath) {
		case "util", "utils", "common", "helpers", "misc", "shared", "base":
			t.Errorf("package %s: name it by what it is for", p.ImportPath)
		}
	}
}

func covers(pattern, pkg string) bool {
	if below, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == below || strings.HasPrefix(pkg, below+"/")
	}
	return pkg == pattern
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

// packages lists every package of the module with what its non-test files
// import.
func packages(t *testing.T) []goPackage {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(goList(t, "-json=ImportPath,Imports", "cordon/...")))
	var all []goPackage
	for {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("read the output of go list: %v", err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("go list found %d packages: the test does not see the module", len(all))
	}
	return all
}

func goList(t *testing.T, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}
