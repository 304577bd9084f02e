package stoppage

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestExamplesAreCorrect(t *testing.T) {
	texts := exampleTexts(t)
	if err := texts.Check(); err != nil {
		t.Error(err)
	}
	c := exampleConfig(t)
	if err := c.Check(texts.Categories); err != nil {
		t.Error(err)
	}
	if c.Limits != DefaultConfig().Limits || c.LogLevel != DefaultConfig().LogLevel {
		t.Errorf("the example shows %+v, %q for defaults; they are %+v, %q", c.Limits, c.LogLevel, DefaultConfig().Limits, DefaultConfig().LogLevel)
	}
}

func TestConfigCheckNamesKeyValueAndRemedy(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no address", func(c *Config) { c.Listen = nil }, `listen: names no address; write`},
		{"an address without port", func(c *Config) { c.Listen[0].Address = "192.0.2.1" }, `listen[0].address: "192.0.2.1" is not an IP address with a port; write`},
		{"a host name to listen on", func(c *Config) { c.Listen[0].Address = "localhost:80" }, `listen[0].address: "localhost:80"`},
		{"a category without texts", func(c *Config) { c.Listen[0].Category = "spam" }, `listen[0].category: there are no texts for "spam"; the categories are terrorism, minors`},
		{"a metrics address that is none", func(c *Config) { c.Metrics = "9155" }, `metrics: "9155" is not`},
		{"nobody who blocks", func(c *Config) { c.BlockedBy = "" }, `blocked_by: "" is not a web address`},
		{"a blocker that breaks the header", func(c *Config) { c.BlockedBy = `https://x.example/>; rel="next` }, `blocked_by: `},
		{"a blocker that is no web address", func(c *Config) { c.BlockedBy = "mailto:x@example" }, `blocked_by: `},
		{"no connections", func(c *Config) { c.Limits.Connections = 0 }, `limits.connections: out of range; give a value from 1`},
		{"a tiny header", func(c *Config) { c.Limits.HeaderBytes = 10 }, `limits.header_bytes: out of range`},
		{"no time to read", func(c *Config) { c.Limits.ReadTimeout = 0 }, `limits.read_timeout: out of range`},
		{"a day to write", func(c *Config) { c.Limits.WriteTimeout = 24 * time.Hour }, `limits.write_timeout: out of range`},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := exampleConfig(t)
			c.change(&config)
			err := config.Check([]string{"terrorism", "minors"})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestTextsCheckFindsWhatAReaderWouldMiss(t *testing.T) {
	english := func(change func(*Language)) func(*Texts) {
		return func(x *Texts) {
			l := x.Languages["en"]
			l.Categories = maps.Clone(l.Categories)
			change(&l)
			x.Languages["en"] = l
		}
	}
	for _, c := range []struct {
		name   string
		change func(*Texts)
		want   string
	}{
		{"no category", func(x *Texts) { x.Categories = nil }, "categories: names none"},
		{"a category twice", func(x *Texts) { x.Categories = []string{"minors", "terrorism", "minors"} }, `categories: "minors" stands there twice`},
		{"a category that is no path", func(x *Texts) { x.Categories = append(x.Categories, "Drug offers") }, `categories: "Drug offers" is not a key`},
		{"a category in one language only", english(func(l *Language) { delete(l.Categories, "minors") }), "languages.en.categories.minors: there is no text"},
		{"a text for no category", func(x *Texts) { x.Categories = []string{"minors"} }, "languages.fr.categories.terrorism: not in the list"},
		{"a default language without texts", func(x *Texts) { x.DefaultLanguage = "de" }, `default_language: "de" is not among`},
		{"a tag that is none", func(x *Texts) { x.Languages["english"] = x.Languages["en"] }, "languages.english: not a language tag"},
		{"a tag that is not canonical", func(x *Texts) { x.Languages["EN"] = x.Languages["en"] }, "languages.EN: not a language tag"},
		{"no direction", english(func(l *Language) { l.Direction = "" }), "languages.en.direction"},
		{"no publisher", english(func(l *Language) { l.Publisher = "" }), "languages.en.publisher: is missing"},
		{"no title", english(func(l *Language) { l.General.Title = "" }), "languages.en.general.title: is missing"},
		{"no sections", english(func(l *Language) { l.General.Sections = nil }), "languages.en.general.sections: there are none"},
		{"an empty section", english(func(l *Language) { l.Privacy = Section{Heading: "x"} }), "languages.en.privacy: says nothing"},
		{"a link that runs", english(func(l *Language) { l.Privacy.Links = []Link{{"x", "javascript:alert(1)"}} }), `languages.en.privacy.links[0].url: "javascript:alert(1)"; write a whole address`},
		{"a link to the blocked site", english(func(l *Language) { l.Privacy.Links = []Link{{"x", "/path"}} }), `languages.en.privacy.links[0].url`},
		{"a fact without text", english(func(l *Language) { l.Privacy.Facts = []Fact{{"x", ""}} }), `languages.en.privacy.facts[0].text: is missing`},
	} {
		t.Run(c.name, func(t *testing.T) {
			texts := exampleTexts(t)
			c.change(texts)
			err := texts.Check()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if _, err := New(exampleConfig(t), texts, nil); err == nil {
				t.Error("a server was made of it")
			}
		})
	}
}

func TestLoadConfigReadsTheTextsBesideIt(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../configs")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "cordon-stoppage.yaml")
	c, texts, err := LoadConfig(path)
	if err != nil || len(texts.Languages) != 2 || len(c.Listen) != 1 {
		t.Fatalf("got %+v, %v", c, err)
	}
	if err := os.Remove(filepath.Join(dir, "stoppage-pages.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), path+": pages: ") {
		t.Errorf("without the texts: %v", err)
	}
	if err := os.WriteFile(path, []byte("log_level: info\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), path+": pages: is missing") {
		t.Errorf("without the key: %v", err)
	}
}
