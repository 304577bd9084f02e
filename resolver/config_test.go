package resolver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const least = `listen: [127.0.0.1:5300]
lists:
  - name: national
    source: publish
    root: root.json
    identity: identity
store: lists
blocklog: {dir: blocklog}
`

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolver.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheLeastConfigurationHasSafeDefaults(t *testing.T) {
	path := write(t, least)
	c, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.AllowFrom) != 2 || !c.AllowFrom[0].Addr().IsLoopback() || !c.AllowFrom[1].Addr().IsLoopback() {
		t.Errorf("answers questions from %v; want this host alone", c.AllowFrom)
	}
	if !c.Lists[0].required() {
		t.Error("a list is not required by default")
	}
	if c.Lists[0].Poll != time.Minute || c.Recursion.Port != 53 {
		t.Errorf("poll %v, port %d", c.Lists[0].Poll, c.Recursion.Port)
	}
	for _, p := range []string{c.Store, c.Blocklog.Dir, c.Lists[0].Source[0], c.Lists[0].Root, c.Lists[0].Identity} {
		if filepath.Dir(p) != filepath.Dir(path) {
			t.Errorf("path %s was not taken from the folder of the file", p)
		}
	}
}

func TestAWrongConfigurationNamesFileSettingValueAndRemedy(t *testing.T) {
	for _, c := range []struct {
		name, old, new string
		want           []string
	}{
		{"unknown setting", "store: lists", "stroe: lists", []string{"stroe", ":7"}},
		{"no address", "listen: [127.0.0.1:5300]", "listen: []", []string{"listen", "127.0.0.1:53"}},
		{"not an address", "127.0.0.1:5300", "localhost", []string{"listen", "localhost"}},
		{"plain HTTP", "source: publish", "source: http://lists.example/", []string{"lists[0] (national)", "http://lists.example/", "https://"}},
		{"one bad mirror", "source: publish", "source: [publish, ftp://lists.example/]", []string{"lists[0] (national)", "ftp://lists.example/", "https://"}},
		{"no mirror", "source: publish", "source: []", []string{"source: 0 of them", "mirrors"}},
		{"no root of trust", "    root: root.json\n", "", []string{"lists[0] (national)", "root: missing", "authority"}},
		{"no identity", "    identity: identity\n", "", []string{"identity: missing", "recipient"}},
		{"a name for a path", "name: national", "name: ../national", []string{"../national", "a-z"}},
		{"no store", "store: lists\n", "", []string{"store: missing", "/var/lib/cordon"}},
		{"no block log", "blocklog: {dir: blocklog}\n", "", []string{"blocklog.dir: missing"}},
		{"too eager", "    source: publish", "    poll: 10ms\n    source: publish", []string{"poll: 10ms", "1s to 24h"}},
		{"prefix with host bits", "store:", "allow_from: [192.0.2.1/24]\nstore:", []string{"192.0.2.1/24", "192.0.2.0/24"}},
		{"the same list twice", "store:", "  - {name: national, source: b, root: b, identity: b}\nstore:", []string{"lists[1]", "national", "twice"}},
		{"too small a cache", "store:", "cache_bytes: 1000\nstore:", []string{"cache_bytes: 1000", "1048576"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(least, c.old) {
				t.Fatalf("the case changes nothing: %q", c.old)
			}
			path := write(t, strings.Replace(least, c.old, c.new, 1))
			_, err := LoadConfig(path)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range append(c.want, path) {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("the error does not name %q:\n%v", w, err)
				}
			}
		})
	}
}

func TestRootHintsAndAnchorsOfTheInternetAreBuiltIn(t *testing.T) {
	hints, err := rootHints("")
	if err != nil || len(hints) != 39 {
		t.Errorf("%d root hints, want 13 servers with name and two addresses each; %v", len(hints), err)
	}
	anchors, err := trustAnchors("")
	if err != nil || len(anchors) != 2 {
		t.Errorf("%d trust anchors, want both root keys; %v", len(anchors), err)
	}
	if _, err := trustAnchors(write(t, ". 60 IN A 192.0.2.1\n")); err == nil || !strings.Contains(err.Error(), "DS, DNSKEY") {
		t.Errorf("an address as a trust anchor: %v", err)
	}
	if _, err := rootHints(write(t, "; nothing\n")); err == nil || !strings.Contains(err.Error(), "no record") {
		t.Errorf("an empty file of hints: %v", err)
	}
}
