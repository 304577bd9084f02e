// Package resolver is the ISP's resolver as one value: New opens everything that
// a configuration names, Run serves until it is told to stop. What happens to a
// packet is in handler.go (without waiting) and resolve.go (with); each step is
// a package below this one.
package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"cordon/blocklist"
	"cordon/blocklog"
	"cordon/resolver/anchors"
	"cordon/resolver/cache"
	"cordon/resolver/iterate"
	"cordon/resolver/local"
	"cordon/resolver/policy"
	"cordon/resolver/transport"
	"cordon/rpz"
)

// Surroundings are what the program around a resolver gives it.
type Surroundings struct {
	Log     *slog.Logger
	Version string
	Clock   func() time.Time
	// Steady is the time since some start by a clock that nobody sets; default: the
	// monotonic reading of Clock.
	Steady func() time.Duration
	Built  time.Time // of the program, which the time cannot be before; zero: not known
	Ready  func()    // called once, when the sockets are open and stored lists are in force
	// Exchange asks authoritative servers; default: over the network.
	Exchange iterate.Exchange
	// Random is iterate.Config.Random.
	Random func(n int) int
}

// Resolver is a resolver with everything open. Its methods are safe for
// concurrent use.
type Resolver struct {
	config  Config
	log     *slog.Logger
	clock   func() time.Time
	version string
	started time.Time
	built   time.Time
	times   *clockWatch
	ready   func()

	policy *policy.Policy
	local  *local.Zones
	// elsewhere are the stub and forward zones, which come before the local ones.
	elsewhere zoneSet
	answers   *cache.Answers
	iterator  *iterate.Resolver
	upstream  *transport.Upstream // nil: Surroundings.Exchange is used
	anchors   *anchors.Tracker
	renewals  *renewals // nil: answers are not renewed before they end
	journal   *blocklog.Journal
	feeds     *feeds // nil: none
	metrics   *metrics
	sessions  sync.Pool // of *session, for workers

	fair         *fairness
	exempt       *exemption
	explanation  policy.Explanation
	certificates *transport.Certificates // nil without encrypted transports

	server         *transport.Server
	watchers       []*blocklist.Watcher
	aside          aside
	protected      atomic.Pointer[blocklist.Protected] // names that no list takes down without a person's word
	protectedStale atomic.Bool                         // their files have changed and cannot be read
	traffic        *blocklist.Popularity               // nil: not counted
	readers        atomic.Uint64                       // reading sessions so far
	shares         shares                              // of blocked answers, while a list is on trial
	listMetrics    *blocklist.Metrics
	retention      retention
	control        *control     // nil: none
	exporter       net.Listener // of the metrics; nil: none
	primary        *rpz.Primary // of the policy zone; nil: none
	outlet         *rpz.Outlet  // that makes it; nil: nothing is given onwards
	registry       *prometheus.Registry
}

// New opens what the configuration names, first of all the block log, whose
// lock makes sure that one resolver alone writes there. The caller calls Run,
// which closes it all again.
func New(c Config, s Surroundings) (_ *Resolver, err error) {
	r := &Resolver{
		config: c, log: s.Log, clock: s.Clock, version: s.Version, ready: s.Ready,
		started: s.Clock(), built: s.Built,
		registry: prometheus.NewRegistry(),
	}
	r.sessions.New = func() any { return r.newSession() }
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	r.journal, err = blocklog.Open(c.Blocklog.Dir, c.Blocklog.options(s.Clock, r.alarmed))
	if err != nil {
		return nil, err
	}
	if err := r.build(s); err != nil {
		return nil, err
	}
	r.metrics = newMetrics(r.registry, r)
	r.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := r.open(); err != nil {
		return nil, err
	}
	return r, nil
}

// build makes the parts that hold no socket.
func (r *Resolver) build(s Surroundings) (err error) {
	c := &r.config
	lists := make([]policy.List, len(c.Lists))
	for i := range c.Lists {
		lists[i] = policy.List{Name: c.Lists[i].Name, Required: c.Lists[i].required()}
	}
	if r.policy, err = policy.New(lists); err != nil {
		return err
	}
	r.local, err = local.New(local.Config{
		QnameMin: true, ExtendedErrors: c.extendedErrors(), InfoURL: c.Policy.InfoURL,
		Name: c.TLS.Name, Designated: c.designations(),
	})
	if err != nil {
		return fmt.Errorf("policy.info_url, tls.name: %w", err)
	}
	r.explanation = policy.Explanation{Contact: c.Policy.StructuredErrors.Contact, Language: c.Policy.StructuredErrors.Language}
	if r.exempt, err = newExemption(c.Exempt); err != nil {
		return err
	}
	if r.fair, err = newFairness(c, r.registry); err != nil {
		return err
	}
	if err := r.openCertificate(); err != nil {
		return err
	}
	if r.elsewhere, err = c.Recursion.elsewhere(); err != nil {
		return err
	}
	r.answers = cache.NewAnswers(c.CacheBytes)
	if r.anchors, err = newTracker(c.Recursion, s); err != nil {
		return err
	}
	if s.Exchange == nil {
		if r.upstream, err = newUpstream(c.Recursion, r.registry); err != nil {
			return err
		}
		s.Exchange = r.upstream
	}
	if r.iterator, err = newIterator(c.Recursion, s, r.anchors.InForce()); err != nil {
		return err
	}
	r.times = newClockWatch(s, r.newestAtHand, r.registry)
	if c.Recursion.Prefetch == nil || *c.Recursion.Prefetch {
		r.renewals = newRenewals(r.registry)
	}
	if r.listMetrics, err = blocklist.NewMetrics(r.registry); err != nil {
		return err
	}
	protected, err := c.Guard.protected()
	if err != nil {
		return fmt.Errorf("guard.%w", err)
	}
	r.protected.Store(protected)
	if c.Guard.Popular.PerMillion > 0 {
		r.traffic = blocklist.NewPopularity(r.clock)
	}
	if err := r.openFeeds(); err != nil {
		return err
	}
	for i := range c.Lists {
		w, err := r.watch(&c.Lists[i])
		if err != nil {
			return fmt.Errorf("list %s: %w", c.Lists[i].Name, err)
		}
		r.watchers = append(r.watchers, w)
	}
	return nil
}

// open opens the sockets.
func (r *Resolver) open() (err error) {
	c := &r.config
	r.server, err = transport.Listen(context.Background(), transport.Config{
		UDP: c.Listen, TCP: c.Listen, DoT: c.DoT, DoH: c.DoH, DoQ: c.DoQ,
		TLS:              transport.TLS{Certificates: r.certificates, Clients: r.exempt.clients},
		Proxies:          c.ProxyFrom,
		InFlight:         c.Workers,
		UDPMaxWait:       c.UDP.MaxWait,
		Streams:          c.Limits.Connections,
		StreamsPerClient: c.Limits.ConnectionsPerClient,
		Idle:             c.Limits.Idle,
		MayShakeHands:    r.mayShakeHands,
		Clock:            r.clock,
		Registerer:       r.registry,
		Log:              r.log,
	})
	if err != nil {
		return err
	}
	if c.Metrics.Listen != "" {
		if r.exporter, err = net.Listen("tcp", c.Metrics.Listen); err != nil {
			return fmt.Errorf("metrics.listen: %w", err)
		}
	}
	if err := r.openRPZ(); err != nil {
		return err
	}
	if c.Control.Socket != "" {
		if r.control, err = newControl(c.Control.Socket, r, r.log); err != nil {
			return err
		}
	}
	return nil
}

// Run applies the stored lists, then serves until ctx ends, and closes
// everything in order: first the sockets, when what is under way has been
// answered, last the block log, with the record of the stop.
func (r *Resolver) Run(ctx context.Context) error {
	defer r.close()
	if err := r.journal.Event("started", r.startRecord()); err != nil {
		return fmt.Errorf("the start cannot be written down, so nothing is answered: %w", err)
	}
	if err := r.announce(); err != nil {
		return err
	}
	if err := r.servedOnwards(); err != nil {
		return err
	}
	for _, w := range r.watchers {
		w.Restore(ctx)
	}
	if r.feeds != nil {
		r.feeds.Restore()
	}

	// What serves the clients ends first; what it stands on ends after it.
	below, endBelow := context.WithCancel(context.WithoutCancel(ctx))
	defer endBelow()
	var background errgroup.Group
	for _, w := range r.watchers {
		background.Go(func() error { giveWay(); return w.Run(below) })
	}
	background.Go(func() error { return newCollector().run(below) })
	background.Go(func() error { return r.times.run(below) })
	background.Go(func() error { return r.iterator.Run(below) })
	if r.renewals != nil {
		background.Go(func() error { return r.renew(below) })
	}
	background.Go(func() error { return r.anchors.Run(below, r.iterator) })
	if r.feeds != nil {
		background.Go(func() error { return r.feeds.Run(below) })
		background.Go(func() error { r.feeds.log.prune(below); return nil })
	}
	background.Go(func() error { r.followProtected(below); return nil })
	background.Go(func() error { r.retain(below); return nil })
	if r.certificates != nil {
		background.Go(func() error { return r.certificates.Run(below) })
	}
	if r.control != nil {
		background.Go(func() error { return r.control.run(below) })
	}
	if r.outlet != nil {
		background.Go(func() error { return r.outlet.Run(below) })
	}
	if r.primary != nil {
		background.Go(func() error { return r.runPrimary(below) })
	}
	if r.exporter != nil {
		background.Go(func() error { return r.exportMetrics(below) })
	}
	if r.ready != nil {
		r.ready()
	}
	r.log.Info("serving", "listen", r.config.Listen, "lists", len(r.config.Lists), "ready", r.policy.Current().Ready())
	err := r.server.Serve(ctx, r)
	endBelow()
	if e := background.Wait(); e != nil && !errors.Is(e, context.Canceled) {
		err = errors.Join(err, e)
	}
	if e := r.journal.Event("stopped", struct{}{}); e != nil {
		err = errors.Join(err, fmt.Errorf("write down the stop: %w", e))
	}
	r.log.Info("stopped")
	return err
}

// startRecord is what the official should know of how this run began. Settings
// that weaken a promise are named (DESIGN "Promises").
func (r *Resolver) startRecord() any {
	record := struct {
		Version string           `json:"version"`
		Lists   []string         `json:"lists"`
		Weaker  []string         `json:"weaker,omitempty"`
		Repair  *blocklog.Repair `json:"repair,omitempty"`
	}{Version: r.version, Lists: []string{}}
	if len(r.config.Lists) == 0 {
		record.Weaker = append(record.Weaker, "no list is configured: nothing is blocked")
	}
	for i := range r.config.Lists {
		l := &r.config.Lists[i]
		record.Lists = append(record.Lists, l.Name)
		if !l.required() {
			record.Weaker = append(record.Weaker, "list "+l.Name+" is not required: until it is loaded, answers are given without it")
		}
	}
	if len(r.config.Lists) > 0 {
		record.Weaker = append(record.Weaker, r.config.Guard.weaker()...)
	}
	if repair := r.journal.Repaired(); repair != (blocklog.Repair{}) {
		record.Repair = &repair
	}
	return record
}

// Close closes a resolver that is not run.
func (r *Resolver) Close() { r.close() }

// close closes what is open, the block log last. It may be called twice.
func (r *Resolver) close() {
	if r.server != nil {
		r.server.Close()
	}
	if r.upstream != nil {
		r.upstream.Close()
	}
	if r.control != nil {
		r.control.listener.Close()
	}
	if r.exporter != nil {
		r.exporter.Close()
	}
	if r.primary != nil {
		r.primary.Close()
	}
	if r.feeds != nil {
		r.feeds.log.close()
	}
	if r.journal != nil {
		if err := r.journal.Close(); err != nil {
			r.log.Error("the block log could not be closed", "error", err)
		}
	}
}

func (r *Resolver) exportMetrics(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.registry, promhttp.HandlerOpts{}))
	return serveHTTP(ctx, &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      30 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
	}, r.exporter)
}

// allowed reports whether questions of peer are answered.
func (r *Resolver) allowed(peer netip.AddrPort) bool {
	addr := peer.Addr().Unmap()
	for _, p := range r.config.AllowFrom {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
