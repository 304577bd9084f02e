package audit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"cordon/audit/tlog"
	"cordon/blocklog"
)

// Handler serves an audit log read-only: the files of the tlog-tiles layout, and
// under /blocklog/FIRST-LAST the raw records of a sealed range, so that their
// digest can be checked from afar. Nothing else exists; there are no listings.
//
// sealed is the number of the first record that is not sealed ([Sealer.Sealed]):
// what is not sealed is not given out.
func Handler(logDir, blocklogDir string, sealed func() uint64, log *slog.Logger) http.Handler {
	h := &handler{
		tiles: tlog.FolderSource(logDir), blocklog: blocklogDir, sealed: sealed, log: log,
		ranges: make(chan struct{}, 2), bundles: make(chan struct{}, 8),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /blocklog/{range}", h.records)
	mux.HandleFunc("GET /", h.file)
	return mux
}

type handler struct {
	tiles    tlog.Source
	blocklog string
	sealed   func() uint64
	log      *slog.Logger
	// Slots for answers that are held in memory: raw ranges (16 MiB) and files of
	// the log (a bundle can have 16 MiB).
	ranges, bundles chan struct{}
}

// file serves a file of the log.
func (h *handler) file(w http.ResponseWriter, req *http.Request) {
	path := strings.TrimPrefix(req.URL.EscapedPath(), "/")
	if _, ok := tlog.Limit(path); !ok {
		http.NotFound(w, req)
		return
	}
	if !take(req.Context(), h.bundles) {
		return
	}
	defer func() { <-h.bundles }()
	b, err := h.tiles.Read(req.Context(), path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		http.NotFound(w, req)
		return
	case err != nil:
		h.log.Error("serving the audit log failed", "path", path, "error", err)
		http.Error(w, "the file cannot be read", http.StatusInternalServerError)
		return
	}
	if path == "checkpoint" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-cache")
	} else {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Cache-Control", "private, max-age=31536000, immutable")
	}
	h.write(w, b)
}

// records serves raw records.
func (h *handler) records(w http.ResponseWriter, req *http.Request) {
	first, last, ok := parseRange(req.PathValue("range"))
	if !ok {
		http.Error(w, "a range is written FIRST-LAST", http.StatusBadRequest)
		return
	}
	if last >= h.sealed() {
		http.Error(w, "these records are not sealed", http.StatusNotFound)
		return
	}
	if !take(req.Context(), h.ranges) {
		return
	}
	defer func() { <-h.ranges }()
	f := NewFolderRecords(h.blocklog)
	defer f.Close()
	raw, err := f.Records(req.Context(), first, last)
	var damage *blocklog.DamageError
	switch {
	case err == nil:
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Cache-Control", "no-store")
		h.write(w, raw)
	case errors.Is(err, blocklog.ErrRemoved):
		http.Error(w, "the retention of these records has passed", http.StatusGone)
	case errors.Is(err, ErrTooLong):
		http.Error(w, fmt.Sprintf("ask for less than %d bytes at once", maxRange), http.StatusRequestEntityTooLarge)
	case errors.As(err, &damage):
		h.log.Error("the block log is damaged", "first", first, "last", last, "error", err)
		http.Error(w, fmt.Sprintf("the block log is damaged at record %d", damage.Seq), http.StatusInternalServerError)
	default:
		h.log.Error("serving the block log failed", "first", first, "last", last, "error", err)
		http.Error(w, "the records cannot be read", http.StatusInternalServerError)
	}
}

// take waits for a slot; false when the client has gone meanwhile.
func take(ctx context.Context, slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (h *handler) write(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if _, err := w.Write(b); err != nil {
		h.log.Debug("an answer was not taken to its end", "error", err)
	}
}

// parseRange reads "FIRST-LAST": decimal, no sign, no leading zero.
func parseRange(text string) (first, last uint64, ok bool) {
	a, b, found := strings.Cut(text, "-")
	first, err1 := strconv.ParseUint(a, 10, 63)
	last, err2 := strconv.ParseUint(b, 10, 63)
	ok = found && err1 == nil && err2 == nil && first >= 1 && first <= last &&
		text == fmt.Sprintf("%d-%d", first, last)
	return first, last, ok
}

// Serve answers on l, over TLS 1.3 with client certificates, until ctx ends.
func Serve(ctx context.Context, l net.Listener, h http.Handler, t *tls.Config, log *slog.Logger) error {
	t = t.Clone()
	t.MinVersion = tls.VersionTLS13
	t.ClientAuth = tls.RequireAndVerifyClientCert
	if t.ClientCAs == nil {
		return errors.New("serve audit log: no authority for client certificates")
	}
	s := &http.Server{
		Handler:           h,
		TLSConfig:         t,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // 16 MiB over a slow line
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	const connections = 64 // readers are the official, a mirror, a witness
	served := make(chan error, 1)
	go func() { served <- s.ServeTLS(netutil.LimitListener(l, connections), "", "") }()
	select {
	case err := <-served:
		return fmt.Errorf("serve audit log: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := s.Shutdown(grace)
	if err != nil {
		err = s.Close() // those that hang are cut off
	}
	<-served
	if err != nil {
		return fmt.Errorf("stop serving the audit log: %w", err)
	}
	return nil
}
