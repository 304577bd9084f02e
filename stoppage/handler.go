package stoppage

import (
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/text/language"
)

// maxLanguages is how much of an Accept-Language field is looked at, in bytes;
// what people send is far below.
const maxLanguages = 256

// site is everything that can be answered, made at the start and never changed.
type site struct {
	pages     map[string]map[string]document // by category ("" is the general page), then language
	languages []string                       // in the order of the matcher; the first is the default
	byQuery   map[string]string              // "lang=fr" -> "fr"
	matcher   language.Matcher
	blockedBy string // Link field
	policy    string // Content-Security-Policy field
	count     func(category, language string)
}

// newSite renders all pages. count is called for each page sent.
func newSite(t *Texts, blockedBy string, count func(category, language string)) (*site, error) {
	s := &site{
		pages:     map[string]map[string]document{},
		languages: t.tags(),
		byQuery:   map[string]string{},
		blockedBy: "<" + blockedBy + `>; rel="blocked-by"`,
		policy:    contentSecurityPolicy(),
		count:     count,
	}
	var tags []language.Tag
	for _, l := range s.languages {
		tag, err := language.Parse(l)
		if err != nil {
			return nil, err
		}
		tags = append(tags, tag)
		s.byQuery[strings.TrimPrefix(languageQuery(l), "?")] = l
	}
	s.matcher = language.NewMatcher(tags)
	for _, category := range append([]string{""}, t.Categories...) {
		s.pages[category] = map[string]document{}
		for _, l := range s.languages {
			d, err := render(t, l, category)
			if err != nil {
				return nil, err
			}
			s.pages[category][l] = d
		}
	}
	return s, nil
}

// handler serves the pages at one address; only is its category, "" where the
// path decides. Nothing of the request goes into the answer: method, path,
// query and three header fields choose among answers made before, and the host
// name is not looked at.
func (s *site) handler(only string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store") // RFC 7725 section 3: a 451 is cacheable by default, and would outlive the lift
		h.Set("Content-Security-Policy", s.policy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Robots-Tag", "noindex")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}

		category := only
		if category == "" {
			category = s.categoryOf(r.URL.Path)
		}
		d := s.pages[category][s.languageOf(r)]
		body := d.plain
		if acceptsGzip(r.Header.Values("Accept-Encoding")) {
			body = d.gzipped
			h.Set("Content-Encoding", "gzip")
		}
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Language", d.language)
		h.Set("Content-Length", strconv.Itoa(len(body)))
		h.Set("Link", s.blockedBy)
		h.Set("Vary", "Accept-Language, Accept-Encoding")
		w.WriteHeader(http.StatusUnavailableForLegalReasons)
		s.count(category, d.language)
		if r.Method == http.MethodGet {
			_, _ = w.Write(body) // a reader who has gone needs nothing more
		}
	})
}

// categoryOf gives the category that a path names, "" for any other path: it is
// then one of the blocked site's.
func (s *site) categoryOf(path string) string {
	category := strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/")
	if _, ok := s.pages[category]; ok {
		return category
	}
	return ""
}

// languageOf gives the language that was chosen on the page, else the best of
// those that the browser asks for (RFC 9110 section 12.5.4), else the default.
func (s *site) languageOf(r *http.Request) string {
	if l, ok := s.byQuery[r.URL.RawQuery]; ok {
		return l
	}
	wanted := r.Header.Get("Accept-Language")
	if len(wanted) > maxLanguages {
		wanted = wanted[:maxLanguages]
		wanted = wanted[:max(0, strings.LastIndexByte(wanted, ','))]
	}
	_, i := language.MatchStrings(s.matcher, wanted)
	return s.languages[i]
}

// acceptsGzip tells whether an Accept-Encoding field names gzip and does not
// refuse it (RFC 9110 section 12.5.3).
func acceptsGzip(fields []string) bool {
	for _, field := range fields {
		for part := range strings.SplitSeq(field, ",") {
			coding, parameters, _ := strings.Cut(part, ";")
			if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
				continue
			}
			name, weight, _ := strings.Cut(strings.TrimSpace(parameters), "=")
			if !strings.EqualFold(name, "q") {
				return true
			}
			q, err := strconv.ParseFloat(weight, 64)
			return err == nil && q > 0
		}
	}
	return false
}
