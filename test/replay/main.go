// Command replay finds how many clients a resolver on one core can serve over TCP,
// DoT, DoH and DoQ, in the manner of DNS Shotgun (`make replay`): thousands of
// simulated clients, each with its own connection, TLS session and timing, ask by a
// plan that does not wait for the server (plan.go). By bisection it finds the most
// clients at which less than 0.1 % of the questions are answered late or not at all,
// for cordon and for Unbound, with the same plan for both.
//
// The server has one core and the clients the other. Where the clients' core is at
// its limit first, the figure is a lower bound and marked so.
//
// It needs root and two cores (see test/stage).
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"cordon/test/stage"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
		os.Exit(1)
	}
}

// transport is one way to a server.
type transport struct {
	name      string
	tls, quic bool
	alpn      string
	served    func(stage.Transports) bool
	port      func(*stage.Server) uint16
	open      func(*replay, *client) link
}

var transports = []*transport{
	{name: "tcp", served: func(stage.Transports) bool { return true }, port: func(s *stage.Server) uint16 { return s.Ports.DNS },
		open: func(r *replay, c *client) link { return openStream(r, c, &plain{}) }},
	{name: "dot", tls: true, alpn: "dot", served: func(t stage.Transports) bool { return t.DoT }, port: func(s *stage.Server) uint16 { return s.Ports.DoT },
		open: func(r *replay, c *client) link { return openStream(r, c, &plain{}) }},
	{name: "doh", tls: true, alpn: "h2", served: func(t stage.Transports) bool { return t.DoH }, port: func(s *stage.Server) uint16 { return s.Ports.DoH },
		open: func(r *replay, c *client) link { return openStream(r, c, newOverHTTP(r.server.String())) }},
	{name: "doq", tls: true, quic: true, alpn: "doq", served: func(t stage.Transports) bool { return t.DoQ }, port: func(s *stage.Server) uint16 { return s.Ports.DoQ },
		open: func(r *replay, c *client) link { return openQUIC(r, c) }},
}

// options are the flags.
type options struct {
	stage.Options
	servers    []string
	transports []*transport
	start      int // clients of the first run
	most       int
	precision  float64
	warm, time time.Duration
	late       time.Duration
	timeout    time.Duration
	share      float64 // of bad answers that is too many
	seed       uint64
	entries    int
	out        string
}

func parse(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("replay", flag.ContinueOnError)
	o.Flags(f)
	servers := f.String("servers", "cordon,unbound", "which servers")
	chosen := f.String("transports", "tcp,dot,doh,doq", "which transports")
	f.IntVar(&o.start, "start", 2000, "clients of the first run; doubled until it is too many")
	f.IntVar(&o.most, "most", 100_000, "clients, at most")
	f.Float64Var(&o.precision, "precision", 0.1, "how near the limit to come, as a share of it")
	f.DurationVar(&o.warm, "warm", 8*time.Second, "of each run, not counted: connections come to their usual number")
	f.DurationVar(&o.time, "time", 10*time.Second, "of each run, counted")
	f.DurationVar(&o.late, "late", time.Second, "an answer after this is late, the time to connect included")
	f.DurationVar(&o.timeout, "timeout", 2*time.Second, "an answer after this is lost")
	f.Float64Var(&o.share, "share", 0.001, "share of questions without a good answer in time that is too many")
	f.Uint64Var(&o.seed, "seed", 1, "of the clients' plan")
	f.IntVar(&o.entries, "entries", 100_000, "entries of the list that the servers have loaded")
	f.StringVar(&o.out, "out", "", "folder for table.md")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	o.servers = strings.Split(*servers, ",")
	for name := range strings.SplitSeq(*chosen, ",") {
		i := slices.IndexFunc(transports, func(t *transport) bool { return t.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no transport %q", name)
		}
		o.transports = append(o.transports, transports[i])
	}
	if o.start < 1 || o.most < o.start || o.precision <= 0 || o.warm < 0 || o.time <= 0 || o.late > o.timeout || o.late <= 0 || o.entries < 100 {
		return nil, errors.New("clients and times have to be above 0, most not below start, late not above timeout, entries at least 100")
	}
	return o, nil
}

func run(ctx context.Context, args []string, w io.Writer) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	kinds, err := o.Kinds(o.servers)
	if err != nil {
		return err
	}
	if err := manyFiles(uint64(o.most) + 1000); err != nil {
		return err
	}
	s, err := stage.Open(o.Options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	runtime.GOMAXPROCS(1) // one core is ours
	l, err := stage.NewList(filepath.Join(s.Dir, "list"), o.entries)
	if err != nil {
		return err
	}
	if err := l.Prepare(ctx, 1, stage.Signed|stage.Zone); err != nil {
		return err
	}
	t := &report{machine: stage.Machine(time.Now()), args: args, options: o}
	for _, k := range kinds {
		t.versions = append(t.versions, k.Version())
	}
	for _, over := range o.transports {
		for _, k := range kinds {
			if !over.served(k.Can) {
				t.none(over.name, k.Name)
				continue
			}
			if err := o.limit(ctx, s, l, k, over, t); err != nil {
				t.fail(over.name, k.Name, err)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := t.write(); err != nil {
				return err
			}
		}
	}
	t.print(w)
	if len(t.failures) > 0 {
		return fmt.Errorf("%d of what was asked for could not be measured; see above", len(t.failures))
	}
	return nil
}

// limit starts a server and finds its limit over one transport.
func (o *options) limit(ctx context.Context, s *stage.Stage, l *stage.List, k *stage.Kind, over *transport, t *report) error {
	v, err := s.Start(ctx, k, stage.Setup{List: l, Encrypted: true, Clients: o.most + 1000})
	if err != nil {
		return err
	}
	defer v.Stop()
	all, err := questions(l, o.Sites, over.tls)
	if err != nil {
		return err
	}
	if err := warm(ctx, v, all); err != nil {
		return fmt.Errorf("fill the cache: %w", err)
	}
	// Who the server is has no part in this, and a stub that keeps a session does not
	// check it again either.
	conf := &tls.Config{InsecureSkipVerify: true, ServerName: stage.ServerName, NextProtos: []string{over.alpn}, MinVersion: tls.VersionTLS13}
	found, err := search(o.start, o.most, o.precision, func(n int) (*result, bool, error) {
		for again := range 2 { // what a noisy machine spoils once is tried again
			if err := v.Idle(ctx); err != nil {
				return nil, false, err
			}
			r, err := o.run(ctx, over, v, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), over.port(v)), all, n, conf)
			if err != nil {
				return nil, false, err
			}
			good := r.bad() < o.share
			t.progress(over, k, r, good)
			if good || again == 1 || r.bad() > 20*o.share {
				return r, good, nil
			}
		}
		panic("unreachable")
	})
	if err != nil {
		return err
	}
	t.add(over.name, k.Name, found)
	return nil
}

// manyFiles lets this process and those it starts have so many open files.
func manyFiles(n uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Cur >= n {
		return nil
	}
	most := limit.Max
	limit.Cur, limit.Max = n, max(n, limit.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("allow %d open files: %w; this machine allows %d, enough for about -most %d (Unbound wants more than three for each client)", n, err, most, most/4)
	}
	return nil
}
