// Command bench measures cordon beside other resolvers (`make bench-peers`): the
// CPU time that each spends on an answered question, latencies at a fixed rate, and
// what changing a long list costs; in one run, in turn, round by round, in a
// laboratory internet on loopback addresses.
//
// The figure for loads is the server's own CPU time and not the answers per second:
// it holds on a shared machine, and when the client is the bottleneck. Each server
// stands on one core, client and authoritative servers on another. Quote medians,
// and ratios to another server of the same run. Latencies want a quiet machine: the
// load average is printed with them.
//
// It needs root and two cores (see test/stage). A server that cannot be measured is
// named at the end, and does not keep the others from it.
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

	"cordon/test/paced"
	"cordon/test/stage"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == pacedCommand { // a client in a process of its own; see study.ask
		if err := paced.Command(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench paced:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	stage.Options
	rounds   int
	duration time.Duration // of one load
	servers  []string
	cases    []string
	out      string // folder of the results; empty: none are written
	entries  int    // of the list
	long     int    // entries of the long list
	swaps    int    // of the case memory
	rate     int    // questions a second of the case steady
	verbose  bool
}

func parse(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	o.Flags(f)
	f.IntVar(&o.rounds, "rounds", 5, "how often each server has its turn in each case")
	f.DurationVar(&o.duration, "time", 2*time.Second, "length of one load")
	servers := f.String("servers", strings.Join(stage.Names(), ","), "which servers")
	chosen := f.String("cases", strings.Join(loadNames(), ","), "which cases; also: "+strings.Join(studyNames(), ", ")+"; or all")
	f.StringVar(&o.out, "out", "", "folder for results.json and table.md, written after each case")
	f.IntVar(&o.entries, "entries", 100_000, "entries of the list")
	f.IntVar(&o.long, "long", 1_000_000, "entries of the long list (reload, enforcement)")
	f.IntVar(&o.swaps, "swaps", 1000, "how often the list is swapped in the case memory")
	f.IntVar(&o.rate, "rate", 50_000, "questions a second of the case steady")
	f.BoolVar(&o.verbose, "v", false, "tell each load as it ends")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	o.servers, o.cases = strings.Split(*servers, ","), strings.Split(*chosen, ",")
	if *chosen == "all" {
		o.cases = append(loadNames(), studyNames()...)
	}
	if o.rounds < 1 || o.entries < 100 || o.long < 100 || o.swaps < 1 || o.rate < 1 || o.duration < 100*time.Millisecond {
		return nil, errors.New("rounds, swaps and rate have to be at least 1, entries 100, and a load 100ms long")
	}
	return o, nil
}

func run(ctx context.Context, args []string) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	loads, studies, err := choose(o.cases)
	if err != nil {
		return err
	}
	kinds, err := o.Kinds(o.servers)
	if err != nil {
		return err
	}
	s, err := stage.Open(o.Options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	r := &report{machine: stage.Machine(time.Now()), args: args, options: o}
	for _, k := range kinds {
		r.versions = append(r.versions, k.Version())
	}
	r.printHeader(os.Stdout)
	b := &bench{options: o, stage: s, kinds: kinds, report: r}
	if len(loads) > 0 {
		if err := b.loads(ctx, loads); err != nil {
			r.fail("loads", "", err)
		}
		r.loads.print(os.Stdout)
		r.save()
	}
	for _, st := range studies {
		if ctx.Err() != nil {
			break
		}
		r.progress("%s: %s", st.name, st.what)
		if err := st.run(ctx, b); err != nil {
			r.fail(st.name, "", err)
		}
		r.save()
	}
	r.progress("done")
	r.printFailures(os.Stdout)
	r.save()
	if len(r.failures) > 0 {
		return fmt.Errorf("%d of what was asked for could not be measured; see above", len(r.failures))
	}
	return ctx.Err()
}

// bench is one run.
type bench struct {
	*options
	stage  *stage.Stage
	kinds  []*stage.Kind
	report *report
}

// list makes the list of a case, in one edition and as a policy zone.
func (b *bench) list(ctx context.Context, name string) (*stage.List, error) {
	l, err := stage.NewList(filepath.Join(b.stage.Dir, name), b.entries)
	if err != nil {
		return nil, err
	}
	return l, l.Prepare(ctx, 1, stage.Signed|stage.Zone)
}

// questions writes those for names that are cached, for dnsperf.
func (b *bench) questions() (file string, err error) {
	file = filepath.Join(b.stage.Dir, "questions")
	return file, stage.Questions{}.Write(file, b.stage, nil)
}

// study is a case with servers of its own.
type study struct {
	name string
	what string
	run  func(context.Context, *bench) error
}

var studies = []study{
	{"steady", "latency at a fixed rate, cached, 250 sockets", steady},
	{"cores", "CPU per answer with one core and with two", twoCores},
	{"swaps", "latency at half load while the list is swapped once a second", swapsEachSecond},
	{"reload", "the long list swapped ten times at half load", reloadLong},
	{"enforcement", "from publication to the first blocked answer", enforcement},
	{"memory", "memory over many swaps", memory},
}

func studyNames() (all []string) {
	for _, s := range studies {
		all = append(all, s.name)
	}
	return all
}

// choose finds the cases by their names.
func choose(names []string) (loads []load, chosen []study, err error) {
next:
	for _, n := range names {
		for _, c := range allLoads {
			if c.name == n {
				loads = append(loads, c)
				continue next
			}
		}
		for _, s := range studies {
			if s.name == n {
				chosen = append(chosen, s)
				continue next
			}
		}
		return nil, nil, fmt.Errorf("there is no case %q; there are %s", n, strings.Join(append(loadNames(), studyNames()...), ", "))
	}
	return loads, chosen, nil
}
