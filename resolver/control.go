package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"cordon/blocklist"
	"cordon/resolver/policy"
)

// Status is what `cordon-resolver status` shows.
type Status struct {
	Version string           `json:"version"`
	Started time.Time        `json:"started"`
	Ready   bool             `json:"ready"` // every required list is loaded; before that all answers are SERVFAIL
	Lists   []policy.Summary `json:"lists"`
	Waiting []string         `json:"waiting"` // configured lists that are not loaded yet
}

// Why is what `cordon-resolver why NAME` shows.
type Why struct {
	Name     string            `json:"name"`
	Listed   bool              `json:"listed"`
	Covering []policy.Covering `json:"covering"` // the first is enforced
	Ready    bool              `json:"ready"`
}

// control serves the operator's questions over a UNIX socket: whoever may open
// the socket (owner and group, 0660) may ask.
type control struct {
	listener net.Listener
	server   *http.Server
}

func newControl(path string, r *Resolver, log *slog.Logger) (*control, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("control.socket: %w", err)
	}
	// A socket that a killed process left behind is not served by anyone; the
	// block log's lock has already shown that no other resolver runs here.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("control.socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control.socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("control.socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, r.Status()) })
	mux.HandleFunc("GET /why", func(w http.ResponseWriter, req *http.Request) {
		why, err := r.Why(req.FormValue("name"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		writeJSON(w, why)
	})
	return &control{listener: l, server: &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      10 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}, nil
}

// run serves until ctx ends.
func (c *control) run(ctx context.Context) error { return serveHTTP(ctx, c.server, c.listener) }

// serveHTTP serves until ctx ends, then lets requests under way finish for a
// few seconds.
func serveHTTP(ctx context.Context, s *http.Server, l net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	err := s.Shutdown(grace)
	if err != nil {
		s.Close()
	}
	<-failed
	return nil
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.Encode(v) // a reader that went away is its own affair
}

// Status reports what is in force.
func (r *Resolver) Status() Status {
	g := r.policy.Current()
	s := Status{Version: r.version, Started: r.started, Ready: g.Ready(), Lists: g.Lists(), Waiting: []string{}}
	serials := g.Serials()
	for _, l := range r.config.Lists {
		if _, loaded := serials[l.Name]; !loaded {
			s.Waiting = append(s.Waiting, l.Name)
		}
	}
	return s
}

// Why says which entries cover a name as a person writes it.
func (r *Resolver) Why(name string) (Why, error) {
	canonical, err := blocklist.CanonicalName(name)
	if err != nil {
		return Why{}, err
	}
	wire, err := blocklist.WireName(canonical)
	if err != nil {
		return Why{}, err
	}
	g := r.policy.Current()
	w := Why{Name: canonical, Covering: g.Covering(wire), Ready: g.Ready()}
	w.Listed = len(w.Covering) > 0
	return w, nil
}
