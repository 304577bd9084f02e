// Command differential asks cordon, Unbound and BIND the same questions in the
// same signed internet and compares what they say (`make differential`): the
// response code, the AD bit and the records of the answer section. Each
// difference is printed with a verdict: a choice that an RFC leaves open
// (explained.go), or none, which fails the run.
//
// With -cold it counts instead how many questions the resolvers send to the
// authoritative servers, and how many answers fail, when nothing is in the cache,
// one of the two servers of each zone is dead, and packets get lost (cold.go).
//
// It needs root: the authoritative servers answer on port 53, since Unbound and
// BIND find no other by themselves.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"cordon/test/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "differential:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	questions int
	seed      uint64
	verbose   bool
	resolvers []program
	atOnce    int // questions being asked

	cold  bool
	zones int     // of the cold run
	loss  float64 // share of the packets lost in each direction
}

func parse(args []string) (*options, error) {
	o := &options{}
	var cordonPath, names string
	f := flag.NewFlagSet("differential", flag.ContinueOnError)
	f.StringVar(&cordonPath, "cordon", "bin/cordon-resolver", "the program")
	f.IntVar(&o.questions, "questions", 6000, "how many questions to ask")
	f.Uint64Var(&o.seed, "seed", 1, "which of the possible questions, and in which order")
	f.BoolVar(&o.verbose, "v", false, "print the answers of explained differences as well, and each cold question that failed")
	f.StringVar(&names, "resolvers", "cordon,unbound,bind", "which programs; the first is compared with the others")
	f.IntVar(&o.atOnce, "at-once", 4, "questions that are asked at a time")
	f.BoolVar(&o.cold, "cold", false, "count upstream queries of cold answers instead")
	f.IntVar(&o.zones, "zones", 150, "zones of the cold run")
	f.Float64Var(&o.loss, "loss", 0.02, "share of the packets that the cold run loses in each direction")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	var err error
	if o.resolvers, err = programs(cordonPath, strings.Split(names, ",")); err != nil {
		return nil, err
	}
	if o.questions < 1 || o.atOnce < 1 || o.zones < 1 || o.zones > maxSites || o.loss < 0 || o.loss >= 1 {
		return nil, fmt.Errorf("ask at least one question, in 1 to %d zones, and lose less than all packets", maxSites)
	}
	return o, nil
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("this needs root: the authoritative servers of the laboratory answer on port 53")
	}
	dir, err := os.MkdirTemp("", "cordon-differential-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.cold {
		return runCold(ctx, dir, o, out)
	}
	return runComparison(ctx, dir, o, out)
}

func runComparison(ctx context.Context, dir string, o *options, out io.Writer) (err error) {
	zones := internet()
	inet, err := lab.Build(zones, time.Now())
	if err != nil {
		return err
	}
	nsd, err := inet.StartNSD(filepath.Join(dir, "nsd"), 53)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, nsd.Stop()) }()

	var all []*resolver
	defer func() {
		for _, r := range all {
			r.Stop()
		}
	}()
	for _, p := range o.resolvers {
		r, err := start(ctx, filepath.Join(dir, p.name), p, inet, "www.libre.example.")
		if err != nil {
			return err
		}
		all = append(all, r)
		fmt.Fprintln(out, r.version)
	}
	asked, err := questions(zones, o.questions, o.seed)
	if err != nil {
		return err
	}
	began := time.Now()
	differences, err := compare(ctx, all, asked, o.atOnce)
	if err != nil {
		return err
	}
	unexplained := report(out, differences, o.verbose)
	fmt.Fprintf(out, "differential: QUESTIONS %d DIFFERENT %d UNEXPLAINED %d (%s)\n",
		len(asked), len(differences), unexplained, time.Since(began).Round(time.Second))
	if unexplained > 0 {
		return fmt.Errorf("%d differences that no rule of explained.go covers", unexplained)
	}
	return nil
}

// report prints the differences by verdict, those without one last, and gives
// the number of the latter.
func report(out io.Writer, all []difference, verbose bool) (unexplained int) {
	byVerdict := map[string][]difference{}
	for _, d := range all {
		v := verdict(d)
		byVerdict[v] = append(byVerdict[v], d)
	}
	for _, e := range explained {
		if n := len(byVerdict[e.choice]); n > 0 {
			fmt.Fprintf(out, "\n%d times: %s\n", n, e.choice)
		}
		for _, d := range byVerdict[e.choice] {
			if verbose {
				fmt.Fprint(out, d)
			} else {
				fmt.Fprintf(out, "  %s\n", d.short())
			}
		}
	}
	for _, d := range byVerdict[""] {
		fmt.Fprintf(out, "\nUNEXPLAINED\n%s", d)
	}
	return len(byVerdict[""])
}
