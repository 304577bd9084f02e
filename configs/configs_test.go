package configs_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"cordon/configs"
)

type sample struct {
	Name    string            `yaml:"name"`
	Port    uint16            `yaml:"port"`
	Size    int               `yaml:"size"`
	Ratio   float64           `yaml:"ratio"`
	On      bool              `yaml:"on"`
	Wait    time.Duration     `yaml:"wait"`
	Listen  netip.AddrPort    `yaml:"listen"`
	Allowed []netip.Prefix    `yaml:"allowed"`
	Texts   map[string]string `yaml:"texts"`
	Limits  *limits           `yaml:"limits"`
	Lists   []limits          `yaml:"lists"`
	Any     map[string]any    `yaml:"any"`
	Shared  `yaml:",inline"`
	Hidden  string `yaml:"-"`
}

type Shared struct {
	State string `yaml:"state"`
}

type limits struct {
	Bytes int64         `yaml:"bytes"`
	Idle  time.Duration `yaml:"idle"`
}

func TestLoadReadsEachKindOfValue(t *testing.T) {
	path := write(t, `
# a comment
name: "a name"   # quoted
port: 5300
size: -3
ratio: 0.5
on: true
wait: 1m30s
listen: 127.0.0.1:5300
allowed: [10.0.0.0/8, "2001:db8::/32"]
texts:
  fr: |
    deux
    lignes
  en: one line
limits:
  bytes: 1048576
  idle: 10s
lists:
  - bytes: 1
  - idle: 24h
any:
  nested: {list: [1, two]}
state: below
`)
	got := sample{Hidden: "kept"}
	if err := configs.Load(path, &got); err != nil {
		t.Fatal(err)
	}
	want := sample{
		Name: "a name", Port: 5300, Size: -3, Ratio: 0.5, On: true, Wait: 90 * time.Second,
		Listen:  netip.MustParseAddrPort("127.0.0.1:5300"),
		Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")},
		Texts:   map[string]string{"fr": "deux\nlignes\n", "en": "one line"},
		Limits:  &limits{Bytes: 1 << 20, Idle: 10 * time.Second},
		Lists:   []limits{{Bytes: 1}, {Idle: 24 * time.Hour}},
		Any:     map[string]any{"nested": map[string]any{"list": []any{uint64(1), "two"}}},
		Shared:  Shared{State: "below"},
		Hidden:  "kept",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read\n%+v\nwant\n%+v", got, want)
	}
}

func TestLoadKeepsDefaultsOfKeysLeftOut(t *testing.T) {
	got := sample{Port: 53, Limits: &limits{Bytes: 7, Idle: time.Second}, Wait: time.Minute}
	if err := configs.Load(write(t, "limits:\n  idle: 5s\n"), &got); err != nil {
		t.Fatal(err)
	}
	if got.Port != 53 || got.Wait != time.Minute || got.Limits.Bytes != 7 || got.Limits.Idle != 5*time.Second {
		t.Errorf("defaults were not kept: %+v, limits %+v", got, *got.Limits)
	}
}

// Each wrong file gives an error whose first line holds place, value and
// remedy.
func TestLoadRefuses(t *testing.T) {
	for _, c := range []struct {
		name, file string
		want       string // in the first line of the error, after the file's path
	}{
		{"an unknown key", "name: x\nnmae: y\n", `:2:1: unknown key "nmae"; known here: allowed, any, lim`},
		{"an unknown key deep down", "limits:\n  bites: 3\n", `:2:3: limits: unknown key "bites"; known here: bytes, idle`},
		{"a key in another case", "Name: x\n", `:1:1: unknown key "Name"`},
		{"a hidden field", "hidden: x\n", `:1:1: unknown key "hidden"`},
		{"an unexported field", "common: 1\n", `:1:1: unknown key "common"`},
		{"a key twice", "name: x\nport: 1\nname: y\n", `:3:1: mapping key "name" already defined at [1:1]`},
		{"a key twice in a map", "texts: {a: x, a: y}\n", `:1:15: mapping key "a" already defined`},
		{"a number for a text", "name: 012\n", `:1:7: name: 012 is not a text; put it between quotes: "012"`},
		{"a boolean for a text", "name: yes\nstate: true\n", `:2:8: state: true is not a text`},
		{"a text for a number", "port: \"53\"\n", `:1:7: port: "53" is not a whole number`},
		{"a fraction for a whole number", "size: 1.5\n", `:1:7: size: 1.5 is not a whole number`},
		{"an octal number", "size: 010\n", `:1:7: size: 010 is not a plain whole number`},
		{"a hexadecimal number", "size: 0x10\n", `:1:7: size: 0x10 is not a plain`},
		{"a number with a size unit", "size: 1MB\n", `:1:7: size: "1MB" is not a whole number`},
		{"a number too great", "port: 65536\n", `:1:7: port: 65536 is out of range; give a number from 0 to 65535`},
		{"a number below zero", "port: -1\n", `:1:7: port: -1 is out of range`},
		{"a number past 64 bits", "limits: {bytes: 9223372036854775808}\n", `from -9223372036854775808 to 9223372036854775807`},
		{"yes for a boolean", "on: yes\n", `:1:5: on: "yes" is not true or false`},
		{"a duration without unit", "wait: 10\n", `:1:7: wait: 10 is not a duration; write a number with its unit, such as "10s"`},
		{"a duration that is none", "wait: 10 sec\n", `:1:7: wait: "10 sec" is not a duration`},
		{"an address without port", "listen: 127.0.0.1\n", `:1:9: listen: "127.0.0.1": not an ip:port`},
		{"a prefix that is none", "allowed:\n  - 10.0.0.0/8\n  - 10.0.0.0/33\n", `:3:5: allowed[1]: "10.0.0.0/33": `},
		{"a text for a list", "allowed: 10.0.0.0/8\n", `:1:10: allowed: takes a list, not "10.0.0.0/8"`},
		{"a list for settings", "limits: []\n", `:1:9: limits: takes settings of its own (key: value), not a list`},
		{"settings for a text", "name: {a: b}\n", `name: takes one text, not settings`},
		{"a key without value", "name:\nport: 1\n", `name: has no value; give it one, or remove the key`},
		{"a null", "limits: ~\n", `limits: has no value`},
		{"an anchor", "name: &a x\n", `name: anchors (&), aliases (*) and tags (!) are not read here`},
		{"an alias", "name: &a x\nstate: *a\n", `name: anchors (&)`},
		{"an alias to nothing", "name: *a\n", `:1:7: name: anchors (&)`},
		{"a tag", "name: !!binary aGk=\n", `anchors (&), aliases (*) and tags (!)`},
		{"a merge key", "<<: {name: x}\n", `:1:1: << is not a plain key`},
		{"an anchor in an untyped value", "any: {a: [&x 1]}\n", `any.a[0]: anchors (&)`},
		{"two documents", "name: x\n---\nname: y\n", `:2: a second document starts here`},
		{"a list at the top", "- name\n", `takes settings of its own`},
		{"a text at the top", "name\n", `takes settings of its own`},
		{"an empty file", "", `: no setting in the file`},
		{"a file of comments", "# name: x\n", `: no setting in the file`},
		{"an open quote", "name: \"x\n", `:1:7: could not find end character of double-quoted text`},
		{"a tab as indentation", "limits:\n\tbytes: 1\n", `:2:`},
		{"a line too long", "name: " + strings.Repeat("x", 9000) + "\n", `:1: line longer than 8192 bytes`},
		{"brackets without end", "any: " + strings.Repeat("[", 100) + "\n", `:1: brackets nested more than 64 deep`},
		{"dashes without end", "allowed: \n" + strings.Repeat("- ", 100) + "\n", `:2:`},
		{"a file too long", strings.Repeat("# comment\n", configs.MaxSize/10+1), `: longer than 1048576 bytes`},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, c.file)
			err := configs.Load(path, &sample{})
			if err == nil {
				t.Fatal("the file was read")
			}
			first, _, _ := strings.Cut(err.Error(), "\n")
			rest, named := strings.CutPrefix(first, path)
			if !named {
				t.Errorf("the file is not named first: %s", first)
			}
			if !strings.Contains(rest, c.want) {
				t.Errorf("error reads\n%s\nwant in its first line\n%s", err, c.want)
			}
		})
	}
}

func TestLoadTellsAllErrorsAtOnceWithTheirLines(t *testing.T) {
	err := configs.Load(write(t, "name: 1\nport: x\nwait: 3\n"), &sample{})
	if err == nil {
		t.Fatal("the file was read")
	}
	for _, want := range []string{":1:7: name: ", ":2:7: port: ", ":3:7: wait: ", ">  2 | port: x"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in\n%s", want, err)
		}
	}
}

func TestLoadShowsNoMoreThanTenErrors(t *testing.T) {
	err := configs.Load(write(t, "allowed:\n"+strings.Repeat("  - x\n", 25)), &sample{})
	if err == nil || !strings.HasSuffix(err.Error(), ": and 15 more") || strings.Count(err.Error(), "allowed[") != 10 {
		t.Errorf("error reads\n%v", err)
	}
}

func TestLoadOfAMissingFileNamesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yaml")
	err := configs.Load(path, &sample{})
	if !os.IsNotExist(unwrapAll(err)) || !strings.Contains(err.Error(), path) {
		t.Errorf("error reads %v", err)
	}
}

func TestLoadRefusesATargetThatIsNoStruct(t *testing.T) {
	for _, v := range []any{nil, sample{}, new(int), (*sample)(nil)} {
		if err := configs.Parse("f", []byte("name: x\n"), v); err == nil {
			t.Errorf("read into %T", v)
		}
	}
}

func TestResolve(t *testing.T) {
	base := configs.Dir("/etc/cordon/cordon-resolver.yaml")
	for p, want := range map[string]string{
		"":               "",
		"/var/lib/x":     "/var/lib/x",
		"keys/a.vkey":    "/etc/cordon/keys/a.vkey",
		"../shared/root": "/etc/shared/root",
	} {
		if got := configs.Resolve(base, p); got != want {
			t.Errorf("Resolve(%q, %q) = %q, want %q", base, p, got, want)
		}
	}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func unwrapAll(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		err = u.Unwrap()
	}
}
