// Command bench measures cordon beside other resolvers (`make bench-peers`): the
// CPU time that each spends on an answered question, in one run, in turn, round
// by round, in a laboratory internet on loopback addresses.
//
// The figure is the server's own CPU time and not the answers per second: it
// holds on a shared machine, and when the client is the bottleneck. Each server
// stands on one core, client and authoritative servers on another. Quote medians,
// and ratios to another server of the same run.
//
// It needs root (the authoritative servers answer on port 53, since not every
// resolver can be told another) and two cores.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	rounds   int
	duration time.Duration // of one load
	servers  []string
	cases    []string
	cordon   string // path of cordon-resolver
	extra    string // added to cordon's configuration
	out      string // folder of the results; empty: none are written
	cores    [2]int // of the servers, and of everything else
	entries  int    // of the list
	sites    int    // of the internet
	verbose  bool
}

func parse(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 5, "how often each server has its turn in each case")
	f.DurationVar(&o.duration, "time", 2*time.Second, "length of one load")
	servers := f.String("servers", strings.Join(serverNames(), ","), "which servers")
	chosen := f.String("cases", strings.Join(caseNames(), ","), "which cases")
	f.StringVar(&o.cordon, "cordon", "bin/cordon-resolver", "the program to measure; several, NAME=PATH, to compare builds")
	f.StringVar(&o.extra, "config", "", "YAML that is added to cordon's configuration")
	f.StringVar(&o.out, "out", "", "folder for results.json and table.md")
	f.IntVar(&o.cores[0], "core", 0, "core of the servers")
	f.IntVar(&o.cores[1], "client-core", 1, "core of the client and of the authoritative servers")
	f.IntVar(&o.entries, "entries", 100_000, "entries of the list")
	f.IntVar(&o.sites, "sites", 1000, "sites of the laboratory internet")
	f.BoolVar(&o.verbose, "v", false, "tell each load as it ends")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	o.servers, o.cases = strings.Split(*servers, ","), strings.Split(*chosen, ",")
	if o.rounds < 1 || o.entries < 1 || o.sites < 1 || o.duration < time.Second {
		return nil, errors.New("rounds, entries and sites have to be at least 1, and a load at least 1s long")
	}
	return o, nil
}

func run(ctx context.Context, args []string) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("this needs root: the authoritative servers of the laboratory answer on port 53")
	}
	cases, err := chooseCases(o.cases)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "cordon-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // some of the servers change their user
		return err
	}

	lab, err := startLab(filepath.Join(dir, "lab"), o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.stop()) }()
	peers, stop, err := startServers(ctx, filepath.Join(dir, "servers"), lab, o)
	defer stop()
	if err != nil {
		return err
	}
	r := &results{started: time.Now(), args: args, options: o}
	for i := range peers {
		r.versions = append(r.versions, peers[i].version)
	}
	if err := measure(ctx, r, cases, peers, lab, filepath.Join(dir, "questions")); err != nil {
		return err
	}
	r.print(os.Stdout)
	if o.out == "" {
		return nil
	}
	return r.write(o.out)
}

// measure has each server loaded once in each case of each round.
func measure(ctx context.Context, r *results, cases []benchCase, peers []*peer, lab *laboratory, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for round := range r.options.rounds + 1 { // the first fills the caches and does not count
		for _, c := range cases {
			for _, p := range peers {
				if err := ctx.Err(); err != nil {
					return err
				}
				s := p.bare
				if c.listed {
					s = p.listed
				}
				if s == nil {
					continue
				}
				file := filepath.Join(dir, c.name)
				if err := lab.questions(file, c, fmt.Sprintf("r%d-%s", round, p.name)); err != nil {
					return err
				}
				m, err := c.load(ctx, s, file, round == 0, r.options)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", p.name, c.name, err)
				}
				if round > 0 {
					r.add(c.name, p.name, m)
				}
				if r.options.verbose {
					fmt.Fprintf(os.Stderr, "%-14s %-10s %6.2f µs, user %5.2f, %7.0f/s, lost %d, %s\n", c.name, p.name, m.CPU, m.User, m.Rate, m.Lost, m.Responses)
				}
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round, r.options.rounds)
	}
	return nil
}
