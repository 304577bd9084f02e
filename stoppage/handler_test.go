package stoppage

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func get(s *site, only, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.handler(only).ServeHTTP(w, r)
	return w
}

func TestAnswerSaysWhyAndProtectsItsReader(t *testing.T) {
	s := exampleSite(t)
	w := get(s, "", "http://propagande.example/terrorism", "Accept-Language", "fr")
	if w.Code != 451 {
		t.Errorf("status %d, want 451 (RFC 7725)", w.Code)
	}
	for field, want := range map[string]string{
		"Link":                    `<https://operator.example/blocking>; rel="blocked-by"`,
		"Content-Type":            "text/html; charset=utf-8",
		"Content-Language":        "fr",
		"Vary":                    "Accept-Language, Accept-Encoding",
		"Cache-Control":           "no-store",
		"Content-Security-Policy": contentSecurityPolicy(),
		"Referrer-Policy":         "no-referrer",
		"X-Content-Type-Options":  "nosniff",
		"X-Robots-Tag":            "noindex",
	} {
		if got := w.Header().Get(field); got != want {
			t.Errorf("%s: %q, want %q", field, got, want)
		}
	}
	if got := w.Header().Values("Set-Cookie"); got != nil {
		t.Errorf("it sets a cookie: %q", got)
	}
	if policy := contentSecurityPolicy(); !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") {
		t.Errorf("the policy is %s", policy)
	}
	if !bytes.Equal(w.Body.Bytes(), s.pages["terrorism"]["fr"].plain) {
		t.Error("the body is not the page")
	}
}

func TestPathAndAddressChooseTheCategory(t *testing.T) {
	s := exampleSite(t)
	for _, c := range []struct{ only, target, want string }{
		{"", "/", ""},
		{"", "/terrorism", "terrorism"},
		{"", "/terrorism/", "terrorism"},
		{"", "/minors?lang=en", "minors"},
		{"", "/Terrorism", ""},
		{"", "/terrorism/video", ""},
		{"", "//terrorism", ""},
		{"", "/favicon.ico", ""},
		{"", "/../terrorism", ""},
		{"", "/%74errorism", "terrorism"},
		{"", "/<script>alert(1)</script>", ""},
		{"", "/index.php?q='%20or%201=1", ""},
		{"terrorism", "/", "terrorism"},
		{"terrorism", "/minors", "terrorism"}, // a path of the blocked site
		{"terrorism", "/any/path", "terrorism"},
	} {
		r := httptest.NewRequest(http.MethodGet, "http://blocked.example/", nil)
		u, err := url.Parse("http://blocked.example" + c.target)
		if err != nil {
			t.Fatal(err)
		}
		r.URL = u
		w := httptest.NewRecorder()
		s.handler(c.only).ServeHTTP(w, r)
		lang := w.Header().Get("Content-Language")
		if w.Code != 451 || !bytes.Equal(w.Body.Bytes(), s.pages[c.want][lang].plain) {
			t.Errorf("at an address for %q, %s does not give the page %q (status %d)", c.only, c.target, c.want, w.Code)
		}
	}
}

func TestLanguageIsTheReaders(t *testing.T) {
	s := exampleSite(t)
	long := strings.Repeat("de;q=0.1,", 100)
	for _, c := range []struct{ name, target, accept, want string }{
		{"none asked for gives the default", "/", "", "fr"},
		{"english", "/", "en", "en"},
		{"american english", "/", "en-US,en;q=0.9", "en"},
		{"canadian french first", "/", "fr-CA,en;q=0.9", "fr"},
		{"weights count", "/", "fr;q=0.2,en;q=0.8", "en"},
		{"one that is not there gives the default", "/", "de", "fr"},
		{"one that is not there, then english", "/", "de,en;q=0.5", "en"},
		{"anything", "/", "*", "fr"},
		{"nonsense", "/", ";;;=,,,\x00", "fr"},
		{"chosen on the page wins", "/?lang=en", "fr", "en"},
		{"chosen but not there", "/?lang=xx", "en", "en"},
		{"chosen among other things is the blocked site's", "/?a=b&lang=en", "fr", "fr"},
		{"a long field is read to its last whole item", "/", "en," + long, "en"},
		{"a long field without end", "/", strings.Repeat("e", 10000), "fr"},
		{"many dashes", "/", "a" + strings.Repeat("-a", 5000), "fr"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := get(s, "", c.target, "Accept-Language", c.accept)
			if got := w.Header().Get("Content-Language"); got != c.want || !bytes.Equal(w.Body.Bytes(), s.pages[""][c.want].plain) {
				t.Errorf("page in %q, want %q", got, c.want)
			}
		})
	}
}

func TestPageIsCompressedForThoseWhoTakeIt(t *testing.T) {
	s := exampleSite(t)
	for accept, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "gzip, deflate, br": true, "br;q=1, gzip;q=0.5": true, "deflate,gzip ; q=1": true,
		"gzip;q=0": false, "gzip;q=0.000": false, "gzip;q=x": false, "br": false, "x-gzipped": false, "identity": false,
	} {
		w := get(s, "minors", "/", "Accept-Encoding", accept, "Accept-Language", "fr")
		page := s.pages["minors"]["fr"]
		body := page.plain
		if want {
			body = page.gzipped
		}
		if got := w.Header().Get("Content-Encoding") == "gzip"; got != want || !bytes.Equal(w.Body.Bytes(), body) {
			t.Errorf("Accept-Encoding %q: compressed %v, want %v", accept, got, want)
		}
	}
}

func TestHeadHasNoBodyAndOtherMethodsAreRefused(t *testing.T) {
	s := exampleSite(t)
	counted := 0
	s.count = func(string, string) { counted++ }
	for method, want := range map[string]int{
		"HEAD": 451, "POST": 405, "PUT": 405, "DELETE": 405, "OPTIONS": 405, "TRACE": 405, "CONNECT": 405, "PATCH": 405, "get": 405, "PRI": 405,
	} {
		r := httptest.NewRequest(http.MethodGet, "/terrorism", strings.NewReader("a=b"))
		r.Method = method
		w := httptest.NewRecorder()
		s.handler("").ServeHTTP(w, r)
		if w.Code != want || w.Body.Len() != 0 {
			t.Errorf("%s: status %d with %d bytes, want %d with none", method, w.Code, w.Body.Len(), want)
		}
		if allow := w.Header().Get("Allow"); (want == 405) != (allow == "GET, HEAD") {
			t.Errorf("%s: Allow: %q", method, allow)
		}
	}
	if counted != 1 {
		t.Errorf("%d pages counted, want the one for HEAD", counted)
	}
}

func TestPagesAreCountedByCategoryAndLanguage(t *testing.T) {
	s := exampleSite(t)
	var got []string
	s.count = func(category, language string) { got = append(got, category+"/"+language) }
	get(s, "", "/terrorism?lang=en")
	get(s, "", "/whatever", "Accept-Language", "fr")
	get(s, "minors", "/whatever?lang=en")
	if strings.Join(got, " ") != "terrorism/en /fr minors/en" {
		t.Errorf("counted %q", got)
	}
}

// Nothing that a client sends comes back, and whatever it sends it gets one of
// the pages.
func FuzzRequest(f *testing.F) {
	f.Add("/terrorism", "lang=en", "propagande.example", "fr-FR,fr;q=0.9", "gzip")
	f.Add("/", "", "", "", "")
	f.Add("/<script>", "lang=<script>", "\"><script>", "*;q=0", "gzip;q=0")
	f.Add("//minors//", "lang=en&lang=fr", "a b\r\nX: y", "a-b-c-d-e-f-g", ",;=,")
	f.Add("/\x00\xff", "%zz", "[::1]:80", "i-klingon, x-private, zh-Hant-TW", "GZIP;Q=1")
	s := exampleSite(f)
	known := map[string]bool{}
	for _, byLanguage := range s.pages {
		for _, d := range byLanguage {
			known[string(d.plain)], known[string(d.gzipped)] = true, true
		}
	}
	constant := get(s, "", "/").Header()
	f.Fuzz(func(t *testing.T, path, query, host, accept, encoding string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL = &url.URL{Path: path, RawQuery: query}
		r.Host = host
		r.Header.Set("Accept-Language", accept)
		r.Header.Set("Accept-Encoding", encoding)
		w := httptest.NewRecorder()
		s.handler("").ServeHTTP(w, r)
		if w.Code != 451 || !known[w.Body.String()] {
			t.Fatalf("status %d and %d bytes that are none of the pages", w.Code, w.Body.Len())
		}
		for field, values := range w.Header() {
			switch field {
			case "Content-Language":
				if l := values[0]; l != "fr" && l != "en" {
					t.Errorf("language %q", l)
				}
			case "Content-Encoding", "Content-Length":
			default:
				if strings.Join(values, "\n") != strings.Join(constant[field], "\n") {
					t.Errorf("%s depends on the request: %q", field, values)
				}
			}
		}
	})
}

func BenchmarkPage(b *testing.B) {
	s := exampleSite(b)
	h := s.handler("")
	r := httptest.NewRequest(http.MethodGet, "/terrorism", nil)
	r.Header.Set("Accept-Language", "fr-FR,fr;q=0.9,en-US;q=0.8,en;q=0.7")
	r.Header.Set("Accept-Encoding", "gzip, deflate")
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		w.Body = nil // what is measured is the page, not the copy of it
		h.ServeHTTP(w, r)
	}
}
