package signing

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	timestampPath = "metadata/timestamp.json"

	maxRedirects = 3

	// A fetch may take this long, and for each byte allowed as long as a line of
	// 128 KiB/s takes: so a server that drips (TUF's endless data and slow
	// retrieval) is given up.
	fetchTimeout = 30 * time.Second
	fetchMinRate = 128 << 10 // bytes a second
)

// NewHTTPSSource reads a publication from a web server, object store or CDN. base
// is an https URL without user, query or fragment. timestamp.json is asked for
// with If-None-Match, and read from memory on 304 Not Modified.
//
// client decides about dialing and trust, and keeps its own time-outs; nil means
// [NewHTTPClient] with the system's authorities. Its redirects are limited to
// three, on the same host; its cookies are not used.
func NewHTTPSSource(base string, client *http.Client) (Source, error) {
	u, err := url.Parse(base)
	if err != nil {
		// Its text without the URL, which may hold a password.
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err
		}
		return nil, fmt.Errorf("source: not a URL: %w", err)
	}
	if u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("source %q: an https URL without user, query or fragment is needed", u.Redacted())
	}
	if client == nil {
		client = NewHTTPClient(nil)
	}
	own := *client
	own.Jar = nil
	own.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		if next.URL.Scheme != "https" || next.URL.Host != u.Host {
			return fmt.Errorf("redirected to %s, which is not https on %s", next.URL.Redacted(), u.Host)
		}
		return nil
	}
	return &httpsSource{base: strings.TrimSuffix(u.String(), "/"), client: &own, timeout: fetchTimeout}, nil
}

// NewHTTPClient makes a client with the time-outs that a source wants at each
// step. tls may be nil.
func NewHTTPClient(config *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:        config,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  20 * time.Second,
		IdleConnTimeout:        2 * time.Minute,
		MaxIdleConnsPerHost:    1,
		MaxResponseHeaderBytes: 64 << 10,
	}}
}

type httpsSource struct {
	base    string
	client  *http.Client
	timeout time.Duration

	mu        sync.Mutex
	etag      string // of timestamp, guarded by mu; empty where none is kept
	timestamp []byte // guarded by mu
}

func (s *httpsSource) Fetch(ctx context.Context, path string, max int64) ([]byte, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout+time.Duration(max/fetchMinRate)*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "cordon")
	// Lengths are those of the file; else the transport would ask for gzip.
	req.Header.Set("Accept-Encoding", "identity")
	etag, kept := s.kept()
	if path == timestampPath && etag != "" {
		req.Header.Set("If-None-Match", etag)
	}

	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err // an *url.Error, which names method and URL
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && req.Header.Get("If-None-Match") != "":
		if int64(len(kept)) > max {
			return nil, fmt.Errorf("%s: %w: %d bytes, at most %d", path, ErrTooLarge, len(kept), max)
		}
		return kept, nil
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		return nil, fmt.Errorf("GET %s: %s: %w", req.URL, resp.Status, fs.ErrNotExist)
	case resp.StatusCode == http.StatusForbidden:
		return nil, fmt.Errorf("GET %s: %s (an object store says so of a file that is not there, unless listing is allowed)", req.URL, resp.Status)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("GET %s: %s", req.URL, resp.Status)
	case resp.ContentLength > max:
		return nil, fmt.Errorf("%s: %w: %d bytes, at most %d", path, ErrTooLarge, resp.ContentLength, max)
	case resp.Header.Get("Content-Encoding") != "" && resp.Header.Get("Content-Encoding") != "identity":
		return nil, errors.New("GET " + req.URL.String() + ": the server encodes the file, which was not asked for")
	}
	b, err := readAll(resp.Body, path, max)
	if err != nil {
		return nil, err
	}
	if path == timestampPath {
		s.keep(resp.Header.Get("ETag"), b)
	}
	return b, nil
}

// Forget drops what is kept of a path. The client calls it for a timestamp that
// did not verify: with its ETag, a server would answer 304 for ever, and what is
// bad here would be good there.
func (s *httpsSource) Forget(path string) {
	if path == timestampPath {
		s.keep("", nil)
	}
}

func (s *httpsSource) keep(etag string, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.etag, s.timestamp = etag, b
}

func (s *httpsSource) kept() (etag string, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.etag, s.timestamp
}
