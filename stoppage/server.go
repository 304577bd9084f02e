// Package stoppage serves the page that people see who asked for a blocked
// site: status 451 (RFC 7725), the reasons of the measure and the ways of
// appeal, for each category and in the reader's language.
//
// It takes the load of a popular site led there by mistake: the pages are made
// at the start, and each request is answered once and its connection closed. It
// keeps nothing of who came or what they asked for: there is no access log, the
// HTTP server's own messages (which name client addresses) are dropped, and the
// metrics count pages by category and language.
package stoppage

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
)

// shutdownTime is what requests under way get to end when the server stops.
const shutdownTime = 3 * time.Second

// Server serves the pages and the metrics.
type Server struct {
	config   Config
	site     *site
	registry *prometheus.Registry
	log      *slog.Logger

	pages, metrics []net.Listener // set by Listen; in the order of the configuration
}

// New checks configuration and texts and renders all pages.
func New(c Config, t *Texts, log *slog.Logger) (*Server, error) {
	if err := errors.Join(t.Check(), c.Check(t.Categories)); err != nil {
		return nil, err
	}
	served := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cordon_stoppage_pages_total",
		Help: "Stop pages sent, by category (empty for the general page) and language.",
	}, []string{"category", "language"})
	registry := prometheus.NewRegistry()
	registry.MustRegister(served)

	// A counter per page, made here, so that a request looks nothing up by
	// label and a series exists from the start.
	counters := map[[2]string]prometheus.Counter{}
	for _, category := range append([]string{""}, t.Categories...) {
		for tag := range t.Languages {
			counters[[2]string{category, tag}] = served.WithLabelValues(category, tag)
		}
	}
	s, err := newSite(t, c.BlockedBy, func(category, language string) { counters[[2]string{category, language}].Inc() })
	if err != nil {
		return nil, err
	}
	return &Server{config: c, site: s, registry: registry, log: log}, nil
}

// Listen opens the addresses of the configuration. They stay open until Serve
// returns, which must be called after it.
func (s *Server) Listen(ctx context.Context) error {
	var lc net.ListenConfig
	open := func(address string) (net.Listener, error) {
		l, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
		return l, nil
	}
	for _, l := range s.config.Listen {
		listener, err := open(l.Address)
		if err != nil {
			return err
		}
		s.pages = append(s.pages, listener)
	}
	if s.config.Metrics != "" {
		listener, err := open(s.config.Metrics)
		if err != nil {
			return err
		}
		s.metrics = append(s.metrics, listener)
	}
	return nil
}

func (s *Server) close() {
	for _, l := range append(s.pages, s.metrics...) {
		_ = l.Close() // nothing was accepted on it
	}
	s.pages, s.metrics = nil, nil
}

// Addresses are those that Listen opened, in the order of the configuration.
func (s *Server) Addresses() []net.Addr {
	var out []net.Addr
	for _, l := range s.pages {
		out = append(out, l.Addr())
	}
	return out
}

// MetricsAddress is that of the metrics, nil where there are none.
func (s *Server) MetricsAddress() net.Addr {
	for _, l := range s.metrics {
		return l.Addr()
	}
	return nil
}

// Serve answers until ctx ends, lets requests under way end, and closes the
// addresses that Listen opened.
func (s *Server) Serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for i, l := range s.pages {
		server := s.httpServer(s.site.handler(s.config.Listen[i].Category))
		// One answer for each connection: the crowd of one mistake is served
		// in the order in which it comes, and an idle connection holds no place.
		server.SetKeepAlivesEnabled(false)
		run(ctx, group, server, netutil.LimitListener(l, s.config.Limits.Connections))
		s.log.Info("stop page served", "address", l.Addr().String(), "category", s.config.Listen[i].Category)
	}
	for _, l := range s.metrics {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
		run(ctx, group, s.httpServer(mux), netutil.LimitListener(l, 16))
		s.log.Info("metrics served", "address", l.Addr().String())
	}
	return group.Wait()
}

func (s *Server) httpServer(h http.Handler) *http.Server {
	l := s.config.Limits
	return &http.Server{
		Handler:                      h,
		DisableGeneralOptionsHandler: true,
		MaxHeaderBytes:               l.HeaderBytes,
		ReadTimeout:                  l.ReadTimeout,
		WriteTimeout:                 l.WriteTimeout,
		IdleTimeout:                  l.ReadTimeout,
		ErrorLog:                     log.New(withoutClients{s.log}, "", 0),
	}
}

// run serves on l as part of the group until ctx ends.
func run(ctx context.Context, group *errgroup.Group, server *http.Server, l net.Listener) {
	group.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve on %s: %w", l.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			return server.Close() // the slowest readers have had their time
		}
		return nil
	})
}

// withoutClients passes on those messages of the HTTP server that are about its
// own listeners; the others name the address of a client.
type withoutClients struct{ log *slog.Logger }

func (w withoutClients) Write(message []byte) (int, error) {
	if strings.HasPrefix(string(message), "http: Accept error:") {
		w.log.Error(strings.TrimSpace(string(message)))
	}
	return len(message), nil
}
