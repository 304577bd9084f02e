package stoppage

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"strings"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// document is a page as it is sent, made once at the start: a redirected crowd
// costs a lookup and a write each.
type document struct {
	language string
	plain    []byte
	gzipped  []byte
}

// view is what the template sees.
type view struct {
	Tag        string // language of the page
	Language   Language
	Page       Page
	CSS        template.CSS
	Languages  []choice // empty where there is one language only
	Categories []choice // on the general page
}

// choice is a link to another page of this server. It names no host: the page
// is served under whatever name was asked for.
type choice struct {
	Tag  string // language
	Name string
	URL  string
	Here bool
}

var page = template.Must(template.New("page").Funcs(template.FuncMap{"paragraphs": paragraphs}).Parse(pageHTML))

// render makes the document of one category ("" for the general page) in one
// language.
func render(t *Texts, tag, category string) (document, error) {
	l := t.Languages[tag]
	v := view{Tag: tag, Language: l, Page: l.General, CSS: template.CSS(pageCSS)} //nolint:gosec // our own file
	if category != "" {
		v.Page = l.Categories[category]
	} else {
		for _, c := range t.Categories {
			v.Categories = append(v.Categories, choice{Tag: tag, Name: l.Categories[c].Name, URL: "/" + c + languageQuery(tag)})
		}
	}
	if tags := t.tags(); len(tags) > 1 {
		for _, other := range tags {
			v.Languages = append(v.Languages, choice{Tag: other, Name: t.Languages[other].Name, URL: languageQuery(other), Here: other == tag})
		}
	}
	var plain, gzipped bytes.Buffer
	if err := page.Execute(&plain, v); err != nil {
		return document{}, fmt.Errorf("render page %q in %q: %w", category, tag, err)
	}
	z, err := gzip.NewWriterLevel(&gzipped, gzip.BestCompression)
	if err != nil {
		return document{}, err
	}
	if _, err := z.Write(plain.Bytes()); err != nil {
		return document{}, fmt.Errorf("compress page %q in %q: %w", category, tag, err)
	}
	if err := z.Close(); err != nil {
		return document{}, fmt.Errorf("compress page %q in %q: %w", category, tag, err)
	}
	return document{language: tag, plain: plain.Bytes(), gzipped: gzipped.Bytes()}, nil
}

// languageQuery asks for a language whatever the browser prefers.
func languageQuery(tag string) string { return "?lang=" + tag }

// paragraphs parts a text at its empty lines.
func paragraphs(text string) []string {
	var out []string
	for p := range strings.SplitSeq(text, "\n\n") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// contentSecurityPolicy allows the page its own style sheet, by hash, and
// nothing else (Content Security Policy Level 3). An injected script would run
// under the name of the blocked site.
func contentSecurityPolicy() string {
	sum := sha256.Sum256([]byte(pageCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; " +
		"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
