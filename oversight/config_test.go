package oversight

import (
	"path/filepath"
	"strings"
	"testing"

	"cordon/configs"
)

func TestTheExampleIsAConfigurationAndSaysTheDefaults(t *testing.T) {
	t.Parallel()
	data, err := configs.Examples.ReadFile("cordon-oversight.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := Config{}
	if err := configs.Parse("cordon-oversight.yaml", data, &c); err != nil {
		t.Fatal(err)
	}
	c.Resolve(func(p string) string { return configs.Resolve("/x", p) })
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if d := DefaultConfig(); c.Interval != d.Interval || c.LogLevel != d.LogLevel {
		t.Errorf("the example says %v and %q, the defaults are %v and %q", c.Interval, c.LogLevel, d.Interval, d.LogLevel)
	}
}

func TestPathsAreMadeAbsoluteAndAddressesAndKeysAreNot(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	c := Config{Data: "d", Logs: []LogConfig{{Source: "https://a.example/", Vkey: s.vkey, CA: "ca"}, {Source: "s", Vkey: "v", Blocklog: "https://b.example/"}},
		Publication: PublicationConfig{Source: "p", Root: "/r"}}
	c.Resolve(func(p string) string {
		if p == "" || filepath.IsAbs(p) {
			return p
		}
		return "/x/" + p
	})
	want := Config{Data: "/x/d", Logs: []LogConfig{{Source: "https://a.example/", Vkey: s.vkey, CA: "/x/ca"}, {Source: "/x/s", Vkey: "/x/v", Blocklog: "https://b.example/"}},
		Publication: PublicationConfig{Source: "/x/p", Root: "/r"}}
	if c.Data != want.Data || c.Logs[0] != want.Logs[0] || c.Logs[1] != want.Logs[1] || c.Publication != want.Publication {
		t.Errorf("got %+v", c)
	}
}

func TestAMistakeInTheConfigurationIsNamed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no folder", func(c *Config) { c.Data = "" }, "data: it is missing"},
		{"no log", func(c *Config) { c.Logs, c.Publication, c.Identity = nil, PublicationConfig{}, "" }, "logs: there is none"},
		{"a log of no kind", func(c *Config) { c.Logs[0].Kind = "diary" }, `logs[0].kind: "diary" is not a kind of log; write audit or register`},
		{"a name that leaves the folder", func(c *Config) { c.Logs[1].Name = "../x" }, `logs[1].name: "../x"`},
		{"a name twice", func(c *Config) { c.Logs[1].Name = c.Logs[0].Name }, "stands twice"},
		{"two registers", func(c *Config) { c.Logs[1].Kind = KindRegister }, "there are 2 registers"},
		{"no key", func(c *Config) { c.Logs[1].Vkey = "" }, "logs[1].vkey: it is missing"},
		{"plain http", func(c *Config) { c.Logs[1].Source = "http://isp.example/" }, "logs[1].source: it has to be an https:// address"},
		{"a password in an address", func(c *Config) { c.Publication.Source = "https://me:secret@isp.example/" }, "publication.source: it has to be an https:// address without user"},
		{"a certificate without key", func(c *Config) { c.Logs[1].Source, c.Logs[1].Cert = "https://isp.example/", "c" }, "cert and key go together"},
		{"a certificate for a folder", func(c *Config) { c.Logs[1].CA = "ca" }, "so ca, cert and key have no effect"},
		{"the block log of a register", func(c *Config) { c.Logs[0].Blocklog = "/b" }, "logs[0].blocklog: only an audit log has one"},
		{"the mirror of itself", func(c *Config) { c.Logs[0].Source = c.Data + "/logs/register" }, "is the mirror itself"},
		{"a publication without root", func(c *Config) { c.Publication.Root = "" }, "publication.root: it is missing"},
		{"a publication without register", func(c *Config) { c.Logs = c.Logs[1:] }, "publication: without the authority's register"},
		{"an identity for nothing", func(c *Config) { c.Publication = PublicationConfig{} }, "identity: it has no effect"},
		{"no pause", func(c *Config) { c.Interval = 0 }, "interval: 0s is not between"},
	} {
		w := &world{t: t, dir: "/w"}
		c := w.config()
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		test.change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want …%s…", test.name, err, test.want)
		}
	}
}

func TestALogIsNamedAfterItsKey(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	if name, err := NameOf(s.vkey); err != nil || name != "isp-example-audit" {
		t.Errorf("%q, %v", name, err)
	}
	if _, err := NameOf("/does/not/exist"); err == nil {
		t.Error("a file that is not there has a name")
	}
}
