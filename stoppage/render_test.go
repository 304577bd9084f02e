package stoppage

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"io"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

var update = flag.Bool("update", false, "write the golden pages anew")

// everyPage calls check with each page of the example.
func everyPage(t *testing.T, check func(t *testing.T, name string, d document)) {
	s := exampleSite(t)
	if len(s.pages) != 3 {
		t.Fatalf("%d kinds of page, want the general one and two categories", len(s.pages))
	}
	for category, byLanguage := range s.pages {
		for tag, d := range byLanguage {
			name := category + "." + tag
			if category == "" {
				name = "general." + tag
			}
			t.Run(name, func(t *testing.T) { check(t, name, d) })
		}
	}
}

func TestPagesReadAsTheGoldenFiles(t *testing.T) {
	everyPage(t, func(t *testing.T, name string, d document) {
		path := filepath.Join("testdata", name+".html")
		if *update {
			if err := os.WriteFile(path, d.plain, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(d.plain, want) {
			t.Errorf("the page differs from %s; look at it, then go test ./stoppage -update", path)
		}
	})
}

func TestCompressedPagesHoldThePlainOnes(t *testing.T) {
	everyPage(t, func(t *testing.T, _ string, d document) {
		z, err := gzip.NewReader(bytes.NewReader(d.gzipped))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(z)
		if err != nil || !bytes.Equal(got, d.plain) {
			t.Errorf("%d bytes, %v; want the %d of the plain page", len(got), err, len(d.plain))
		}
	})
}

// What a browser loads, a screen reader announces and a keyboard reaches.
func TestPagesAreSelfContainedAndAccessible(t *testing.T) {
	everyPage(t, func(t *testing.T, name string, d document) {
		root, err := html.Parse(bytes.NewReader(d.plain))
		if err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		ids := map[string]bool{}
		level := 0
		for n := range root.Descendants() {
			if n.Type != html.ElementNode {
				continue
			}
			count[n.Data]++
			switch n.Data {
			case "script", "img", "iframe", "object", "embed", "form", "input", "base", "video", "audio", "svg":
				t.Errorf("there is a <%s>", n.Data)
			case "html":
				if attr(n, "lang") != d.language || attr(n, "dir") == "" {
					t.Errorf("<html> says lang=%q dir=%q", attr(n, "lang"), attr(n, "dir"))
				}
			case "link":
				if attr(n, "rel") != "icon" || attr(n, "href") != "data:," {
					t.Errorf("<link> loads %q", attr(n, "href"))
				}
			case "h1", "h2", "h3", "h4":
				now := int(n.Data[1] - '0')
				if now > level+1 {
					t.Errorf("<h%d> follows <h%d>", now, level)
				}
				level = now
			case "nav":
				if attr(n, "aria-label") == "" && attr(n, "aria-labelledby") == "" {
					t.Error("a <nav> has no name")
				}
			case "a":
				checkLink(t, n)
			}
			for _, a := range n.Attr {
				if a.Key == "src" || a.Key == "srcset" || a.Key == "style" || strings.HasPrefix(a.Key, "on") {
					t.Errorf("<%s> has %s=%q", n.Data, a.Key, a.Val)
				}
				if a.Key == "id" && ids[a.Val] {
					t.Errorf("id %q stands twice", a.Val)
				} else if a.Key == "id" {
					ids[a.Val] = true
				}
			}
		}
		for tag, want := range map[string]int{"h1": 1, "main": 1, "header": 1, "footer": 1, "title": 1, "style": 1} {
			if count[tag] != want {
				t.Errorf("%d <%s>, want %d", count[tag], tag, want)
			}
		}
		if !ids["content"] || count["nav"] == 0 || count["h2"] < 3 {
			t.Errorf("landmarks or headings are missing: %v", count)
		}
		if bytes.Contains(d.plain, []byte("ZgotmplZ")) || bytes.Contains(d.plain, []byte("@import")) || bytes.Contains(d.plain, []byte("url(")) {
			t.Error("a text was refused by the template, or the style sheet loads something")
		}
	})
}

// checkLink holds that a link stays on this server by path alone, or goes
// outside without telling from where.
func checkLink(t *testing.T, n *html.Node) {
	t.Helper()
	u, err := url.Parse(attr(n, "href"))
	if err != nil {
		t.Errorf("link to %q: %v", attr(n, "href"), err)
		return
	}
	outside := u.Scheme != "" || u.Host != ""
	if outside && !strings.Contains(attr(n, "rel"), "noreferrer") {
		t.Errorf("link to %s tells where its reader comes from", u)
	}
	if strings.HasPrefix(attr(n, "href"), "?lang=") && attr(n, "hreflang") != u.Query().Get("lang") {
		t.Errorf("link to language %q says hreflang=%q", u.Query().Get("lang"), attr(n, "hreflang"))
	}
	text := ""
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			text += d.Data
		}
	}
	if strings.TrimSpace(text) == "" {
		t.Errorf("link to %s has no text", u)
	}
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func TestEachCategoryGivesReasonsAndWaysOfAppeal(t *testing.T) {
	s := exampleSite(t)
	for category, article := range map[string]string{"terrorism": "421-2-5", "minors": "227-23"} {
		for tag, appeal := range map[string]string{"fr": "deux mois", "en": "two months"} {
			body := string(s.pages[category][tag].plain)
			for _, want := range []string{article, "6-1", appeal, "Arcom", "mailto:recours-" + map[string]string{"terrorism": "terrorisme", "minors": "mineurs"}[category]} {
				if !strings.Contains(body, want) {
					t.Errorf("%s in %s does not say %q", category, tag, want)
				}
			}
		}
	}
}

func TestPolicyAllowsTheStyleOfThePage(t *testing.T) {
	everyPage(t, func(t *testing.T, _ string, d document) {
		_, rest, _ := strings.Cut(string(d.plain), "<style>")
		style, _, ok := strings.Cut(rest, "</style>")
		if !ok || style == "" {
			t.Fatal("there is no style sheet")
		}
		sum := sha256.Sum256([]byte(style))
		want := "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
		if policy := contentSecurityPolicy(); !strings.Contains(policy, want) {
			t.Errorf("the policy is %s; the page's style needs %s", policy, want)
		}
	})
}

// Text is text, whatever characters it has.
func TestTextsAreEscaped(t *testing.T) {
	texts := exampleTexts(t)
	l := texts.Languages["fr"]
	l.General.Title = `<script>alert("x")</script>`
	l.General.Lead = `</style><img src=x onerror=alert(1)>`
	l.General.Sections = []Section{{Heading: "<b>", Links: []Link{{"<i>", `https://x.example/"onclick="alert(1)`}}}}
	texts.Languages["fr"] = l
	d, err := render(texts, "fr", "")
	if err != nil {
		t.Fatal(err)
	}
	root, err := html.Parse(bytes.NewReader(d.plain))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if n.Data == "script" || n.Data == "img" || n.Data == "b" || n.Data == "i" || attr(n, "onclick") != "" {
			t.Errorf("a text became markup: <%s>", n.Data)
		}
	}
}

// WCAG 2.2 success criterion 1.4.6 (AAA): 7 to 1 for text, in both schemes; the
// page is for everyone.
func TestColoursHaveEnoughContrast(t *testing.T) {
	light, dark, ok := strings.Cut(pageCSS, "prefers-color-scheme: dark")
	if !ok {
		t.Fatal("there is no dark scheme")
	}
	for scheme, css := range map[string]string{"light": light, "dark": dark} {
		colours := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6});`).FindAllStringSubmatch(css, -1) {
			if _, seen := colours[m[1]]; !seen {
				colours[m[1]] = luminance(t, m[2])
			}
		}
		for _, pair := range [][2]string{
			{"text", "page"}, {"text", "card"}, {"soft", "page"}, {"soft", "card"}, {"notice", "page"},
			{"accent", "page"}, {"accent", "card"}, {"accent", "accent-soft"},
		} {
			a, b := colours[pair[0]], colours[pair[1]]
			if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < 7 {
				t.Errorf("%s: %s on %s has a contrast of %.2f", scheme, pair[0], pair[1], ratio)
			}
		}
	}
}

func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	channel := func(shift uint) float64 {
		c := float64(n>>shift&0xff) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*channel(16) + 0.7152*channel(8) + 0.0722*channel(0)
}
