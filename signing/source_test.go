package signing

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestAListIsFollowedOverHTTPS(t *testing.T) {
	a := found(t)
	a.list("first")
	var got304 atomic.Int64
	files := http.FileServer(http.Dir(a.folder))
	base, client := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/timestamp.json") {
			w.Header().Set("ETag", fmt.Sprintf(`"%x"`, readFile(t, filepath.Join(a.folder, "metadata", "timestamp.json"))[100:300]))
		}
		rec := &statusWriter{ResponseWriter: w}
		http.StripPrefix("/lists/fr", files).ServeHTTP(rec, req)
		if rec.status == http.StatusNotModified {
			got304.Add(1)
		}
	})
	s := source(t, base+"/lists/fr/", client)

	r := a.resolver()
	r.from(s).takes("first")
	r.refuses(ErrUnchanged)
	if got304.Load() != 1 {
		t.Errorf("answered 304 %d times, want 1", got304.Load())
	}
	a.list("second")
	r.takes("second")
	// What is read from memory goes stale like anything else.
	r.refuses(ErrUnchanged)
	a.now = a.now.Add(2 * time.Hour)
	r.refuses(ErrExpired)
	if got304.Load() != 3 {
		t.Errorf("answered 304 %d times, want 3", got304.Load())
	}
}

func TestABadTimestampWithAnETagIsNotKept(t *testing.T) {
	a := found(t)
	a.list("first")
	var bad atomic.Bool
	bad.Store(true)
	files := http.FileServer(http.Dir(a.folder))
	base, client := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/timestamp.json") {
			w.Header().Set("ETag", `"always"`)
			if bad.Load() {
				fmt.Fprint(w, "<html>a login page</html>")
				return
			}
		}
		files.ServeHTTP(w, req)
	})
	r := a.resolver()
	r.from(source(t, base, client)).refuses(ErrIncomplete)
	bad.Store(false)
	r.takes("first")
}

func TestHTTPSFetch(t *testing.T) {
	const limit = 100
	body := strings.Repeat("x", limit)
	var conns atomic.Int64
	hang := make(chan struct{})
	elsewhere, _ := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("another host was asked") })
	base, client := serve(t, func(w http.ResponseWriter, req *http.Request) {
		conns.Add(1)
		switch strings.TrimPrefix(req.URL.Path, "/") {
		case "whole", "redirected/3":
			fmt.Fprint(w, body)
		case "long":
			fmt.Fprint(w, body+"x")
		case "long.unsaid": // no Content-Length
			fmt.Fprint(w, body)
			w.(http.Flusher).Flush()
			fmt.Fprint(w, body)
		case "cut":
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "x")
		case "gone":
			w.WriteHeader(http.StatusGone)
		case "forbidden":
			w.WriteHeader(http.StatusForbidden)
		case "broken":
			w.WriteHeader(http.StatusInternalServerError)
		case "unasked.304":
			w.WriteHeader(http.StatusNotModified)
		case "packed":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			fmt.Fprint(z, body)
			if err := z.Close(); err != nil {
				t.Error(err)
			}
		case "redirected/0", "redirected/1", "redirected/2":
			http.Redirect(w, req, fmt.Sprintf("/redirected/%d", req.URL.Path[len(req.URL.Path)-1]-'0'+1), http.StatusFound)
		case "round":
			http.Redirect(w, req, "/round", http.StatusFound)
		case "elsewhere":
			http.Redirect(w, req, elsewhere+"/whole", http.StatusFound)
		case "in.the.clear":
			http.Redirect(w, req, "http://"+req.Host+"/whole", http.StatusFound)
		case "hanging":
			select {
			case <-hang:
			case <-req.Context().Done():
			}
		default:
			http.NotFound(w, req)
		}
	})
	defer close(hang)
	s := source(t, base, client)

	for path, want := range map[string]error{
		"whole":        nil,
		"redirected/0": nil,
		"long":         ErrTooLarge,
		"long.unsaid":  ErrTooLarge,
		"cut":          ErrSource,
		"missing":      ErrIncomplete,
		"gone":         ErrIncomplete,
		"forbidden":    ErrSource,
		"broken":       ErrSource,
		"unasked.304":  ErrSource,
		"packed":       ErrSource,
		"round":        ErrSource,
		"elsewhere":    ErrSource,
		"in.the.clear": ErrSource,
	} {
		got, err := s.Fetch(t.Context(), path, limit)
		if want == nil {
			if err != nil || string(got) != body {
				t.Errorf("%s: %q, %v", path, got, err)
			}
		} else if err == nil || Reason(sourceError(path, err)) != Reason(want) {
			t.Errorf("%s: %q, %v; want %v", path, got, err, want)
		}
		if (path == "elsewhere" || path == "in.the.clear") && !strings.Contains(err.Error(), "which is not https on") {
			t.Errorf("%s: not refused as such: %v", path, err)
		}
	}

	s.(*httpsSource).timeout = time.Millisecond
	if _, err := s.Fetch(t.Context(), "hanging", limit); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server that hangs: %v", err)
	}

	before := conns.Load()
	for _, path := range []string{"../whole", "/whole", "a/../whole", "whole?x", "whole#x", "%2e%2e/whole", "a//b", "", ".", `a\b`, "WHOLE", "a b"} {
		if _, err := s.Fetch(t.Context(), path, limit); err == nil {
			t.Errorf("path %q was fetched", path)
		}
	}
	if conns.Load() != before {
		t.Error("a path that leaves the base reached the server")
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Fetch(ctx, "whole", limit); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: %v", err)
	}
}

func TestAnHTTPSSourceIsHTTPS(t *testing.T) {
	for _, base := range []string{"http://lists.example", "lists.example", "", "https://", "https://me:secret@lists.example", "https://lists.example?x=y", "https://lists.example/#x", "ftp://lists.example", "https://lists.example:port", "https://me:secret@lists.example:%zz"} {
		_, err := NewHTTPSSource(base, nil)
		if err == nil {
			t.Errorf("%q was taken", base)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	if _, err := NewHTTPSSource("https://lists.example/fr", nil); err != nil {
		t.Error(err)
	}
}

func TestFolderFetch(t *testing.T) {
	const limit = 100
	dir := filepath.Join(t.TempDir(), "publish")
	if err := os.MkdirAll(filepath.Join(dir, "metadata"), 0o700); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	body := bytes.Repeat([]byte("x"), limit)
	writeFile(t, in("whole"), body)
	writeFile(t, in("long"), append(body, 'x'))
	writeFile(t, filepath.Join(filepath.Dir(dir), "outside"), body)
	for link, to := range map[string]string{"inside.link": "whole", "outside.link": "../outside", "dangling": "nowhere"} {
		if err := os.Symlink(to, in(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(in("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := NewFolderSource(dir)
	for path, want := range map[string]error{
		"whole":        nil,
		"inside.link":  nil,
		"long":         ErrTooLarge,
		"missing":      ErrIncomplete,
		"dangling":     ErrIncomplete,
		"metadata":     ErrSource,
		"pipe":         ErrSource,
		"outside.link": ErrSource,
		"../outside":   ErrSource,
		"whole/x":      ErrSource,
	} {
		got, err := s.Fetch(t.Context(), path, limit)
		if want == nil {
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%s: %q, %v", path, got, err)
			}
		} else if err == nil || Reason(sourceError(path, err)) != Reason(want) {
			t.Errorf("%s: %q, %v; want %v", path, got, err, want)
		}
	}
	if _, err := NewFolderSource(in("nowhere")).Fetch(t.Context(), "whole", limit); !errors.Is(err, ErrSource) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// serve answers over TLS on the loopback, until the test ends.
func serve(t *testing.T, handle http.HandlerFunc) (base string, client *http.Client) {
	t.Helper()
	server := httptest.NewTLSServer(handle)
	t.Cleanup(server.Close)
	return server.URL, server.Client()
}

func source(t *testing.T, base string, client *http.Client) Source {
	t.Helper()
	s, err := NewHTTPSSource(base, client)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
