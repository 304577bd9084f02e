package stoppage

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"sort"

	"golang.org/x/text/language"

	"cordon/configs"
)

// Texts is the file of texts: all that a page says, by language and category.
// Nothing of it stands in the code.
type Texts struct {
	Categories      []string            `yaml:"categories"`       // keys, in the order of the general page
	DefaultLanguage string              `yaml:"default_language"` // key of Languages
	Languages       map[string]Language `yaml:"languages"`        // by BCP 47 tag
}

// Language is everything in one language.
type Language struct {
	Name       string          `yaml:"name"`      // of the language, in itself
	Direction  string          `yaml:"direction"` // "ltr" or "rtl"
	Publisher  string          `yaml:"publisher"` // who speaks, at the head of each page
	Labels     Labels          `yaml:"labels"`
	General    Page            `yaml:"general"`    // where the category is not known
	Categories map[string]Page `yaml:"categories"` // the same keys in each language
	Privacy    Section         `yaml:"privacy"`    // at the foot of each page
}

// Labels are the words of the frame around the text.
type Labels struct {
	Skip        string `yaml:"skip"`         // link past the head, for keyboards and screen readers
	Languages   string `yaml:"languages"`    // names the choice of languages
	Categories  string `yaml:"categories"`   // heads the list of categories
	Code        string `yaml:"code"`         // "Error 451"
	CodeMeaning string `yaml:"code_meaning"` // what that says (RFC 7725)
}

// Page is one page's text.
type Page struct {
	Name     string    `yaml:"name"` // of the category, in the list on the general page
	Title    string    `yaml:"title"`
	Lead     string    `yaml:"lead"`
	Sections []Section `yaml:"sections"`
}

// Section is a heading with what stands below it, in the order of the fields.
type Section struct {
	Heading string   `yaml:"heading"`
	Text    string   `yaml:"text"` // paragraphs, parted by empty lines
	Facts   []Fact   `yaml:"facts"`
	Points  []string `yaml:"points"`
	Links   []Link   `yaml:"links"`
}

// Fact is a term with its text.
type Fact struct {
	Term string `yaml:"term"`
	Text string `yaml:"text"`
}

// Link leads to the outside; it is followed only when the reader asks for it.
type Link struct {
	Text string `yaml:"text"`
	URL  string `yaml:"url"` // https, http or mailto
}

// LoadTexts reads and checks the file of texts at path.
func LoadTexts(path string) (*Texts, error) {
	var t Texts
	if err := configs.Load(path, &t); err != nil {
		return nil, err
	}
	if err := t.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &t, nil
}

// A category's key is the path of its page.
var categoryKey = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// Check says what is missing or wrong, all at once: a page that lacks a way of
// appeal in one language is found here and not by the person who needs it.
func (t *Texts) Check() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if len(t.Categories) == 0 {
		fail("categories: names none; list the categories of the procedure")
	}
	for i, c := range t.Categories {
		if !categoryKey.MatchString(c) {
			fail("categories: %q is not a key; use lower-case letters, digits and dashes, 32 at most", c)
		}
		if slices.Contains(t.Categories[:i], c) {
			fail("categories: %q stands there twice; remove one", c)
		}
	}
	if _, ok := t.Languages[t.DefaultLanguage]; !ok {
		fail("default_language: %q is not among the languages; add its texts or name another", t.DefaultLanguage)
	}
	for _, tag := range t.tags() {
		l := t.Languages[tag]
		if parsed, err := language.Parse(tag); err != nil || parsed.String() != tag {
			fail("languages.%s: not a language tag; use one of BCP 47, such as \"fr\" or \"pt-BR\"", tag)
		}
		errs = append(errs, l.check("languages."+tag, t.Categories)...)
	}
	return errors.Join(errs...)
}

// tags gives the languages, the default one first, then by tag.
func (t *Texts) tags() []string {
	tags := make([]string, 0, len(t.Languages))
	for tag := range t.Languages {
		tags = append(tags, tag)
	}
	sort.Slice(tags, func(i, j int) bool {
		if (tags[i] == t.DefaultLanguage) != (tags[j] == t.DefaultLanguage) {
			return tags[i] == t.DefaultLanguage
		}
		return tags[i] < tags[j]
	})
	return tags
}

func (l *Language) check(at string, categories []string) (errs []error) {
	if l.Direction != "ltr" && l.Direction != "rtl" {
		errs = append(errs, fmt.Errorf("%s.direction: %q; write ltr (left to right) or rtl", at, l.Direction))
	}
	for _, f := range []struct{ key, text string }{
		{"name", l.Name},
		{"publisher", l.Publisher},
		{"labels.skip", l.Labels.Skip},
		{"labels.languages", l.Labels.Languages},
		{"labels.categories", l.Labels.Categories},
		{"labels.code", l.Labels.Code},
		{"labels.code_meaning", l.Labels.CodeMeaning},
	} {
		errs = append(errs, present(at+"."+f.key, f.text)...)
	}
	errs = append(errs, l.General.check(at+".general")...)
	errs = append(errs, l.Privacy.check(at+".privacy")...)
	for _, c := range categories {
		page, ok := l.Categories[c]
		if !ok {
			errs = append(errs, fmt.Errorf("%s.categories.%s: there is no text for this category; write it", at, c))
			continue
		}
		errs = append(errs, present(at+".categories."+c+".name", page.Name)...)
		errs = append(errs, page.check(at+".categories."+c)...)
	}
	for c := range l.Categories {
		if !slices.Contains(categories, c) {
			errs = append(errs, fmt.Errorf("%s.categories.%s: not in the list of categories; add it there or remove the text", at, c))
		}
	}
	return errs
}

func (p *Page) check(at string) (errs []error) {
	errs = append(errs, present(at+".title", p.Title)...)
	errs = append(errs, present(at+".lead", p.Lead)...)
	if len(p.Sections) == 0 {
		errs = append(errs, fmt.Errorf("%s.sections: there are none; give the reasons and the ways of appeal", at))
	}
	for i := range p.Sections {
		errs = append(errs, p.Sections[i].check(fmt.Sprintf("%s.sections[%d]", at, i))...)
	}
	return errs
}

func (s *Section) check(at string) (errs []error) {
	errs = append(errs, present(at+".heading", s.Heading)...)
	if s.Text == "" && len(s.Facts) == 0 && len(s.Points) == 0 && len(s.Links) == 0 {
		errs = append(errs, fmt.Errorf("%s: says nothing below its heading; add text, facts, points or links", at))
	}
	for i, f := range s.Facts {
		errs = append(errs, present(fmt.Sprintf("%s.facts[%d].term", at, i), f.Term)...)
		errs = append(errs, present(fmt.Sprintf("%s.facts[%d].text", at, i), f.Text)...)
	}
	for i, l := range s.Links {
		errs = append(errs, present(fmt.Sprintf("%s.links[%d].text", at, i), l.Text)...)
		u, err := url.Parse(l.URL)
		if err != nil || !(u.Scheme == "mailto" && u.Opaque != "" || (u.Scheme == "https" || u.Scheme == "http") && u.Host != "") {
			errs = append(errs, fmt.Errorf("%s.links[%d].url: %q; write a whole address, of scheme https, http or mailto", at, i, l.URL))
		}
	}
	return errs
}

func present(at, text string) []error {
	if text == "" {
		return []error{fmt.Errorf("%s: is missing; write it", at)}
	}
	return nil
}
