// Command memory measures what resolvers do with very many names, in a laboratory
// whose authoritative server has an answer for each:
//
//	million   fills cordon's and Unbound's caches with a million RRsets, and gives
//	          the bytes and the CPU time of each, and that of answers from among
//	          them (`make memory`)
//	flood     asks cordon for names that come once, as fast as it resolves, and
//	          besides for some that are known: whether memory stays within its
//	          bounds, and the known ones are answered (`make flood`)
//
// It needs root: the authoritative servers answer on port 53, since Unbound finds
// no other by itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"cordon/test/stage"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "memory:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	cordon  string // path of cordon-resolver
	servers []string
	names   int
	signed  bool
	hits    time.Duration // how long to ask for what is cached
	flood   time.Duration
	known   int
	clients int // networks that the flood comes from
}

func parse(args []string) (mode string, o *options, err error) {
	o = &options{}
	var servers string
	f := flag.NewFlagSet("memory", flag.ContinueOnError)
	f.StringVar(&o.cordon, "cordon", "bin/cordon-resolver", "the program")
	f.StringVar(&servers, "servers", "cordon,unbound", "million: whose memory")
	f.IntVar(&o.names, "names", 1_000_000, "million: names that are cached")
	f.BoolVar(&o.signed, "signed", false, "million: in a signed zone")
	f.DurationVar(&o.hits, "hits", 20*time.Second, "million: how long to ask for what is cached")
	f.DurationVar(&o.flood, "for", 10*time.Minute, "flood: how long")
	f.IntVar(&o.known, "known", 1000, "flood: names that are known")
	f.IntVar(&o.clients, "clients", 200, "flood: client networks it comes from")
	if len(args) == 0 {
		return "", nil, errors.New("say what to measure: million or flood")
	}
	if err := f.Parse(args[1:]); err != nil {
		return "", nil, err
	}
	o.servers = strings.Split(servers, ",")
	if o.names < 1000 || o.known < 1 || o.clients < 1 || o.clients > 250 {
		return "", nil, errors.New("at least 1,000 names and 1 known one, and 1 to 250 clients")
	}
	return args[0], o, nil
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	mode, o, err := parse(args)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("this needs root: the authoritative servers of the laboratory answer on port 53")
	}
	dir, err := os.MkdirTemp("", "cordon-memory-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := openLaboratory(o.signed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	fmt.Fprintln(out, stage.Machine(time.Now()))
	switch mode {
	case "million":
		err = million(ctx, dir, l, o, out)
	case "flood":
		err = flood(ctx, dir, l, o, out)
	default:
		err = fmt.Errorf("there is nothing called %q to measure; there are million and flood", mode)
	}
	fmt.Fprintln(out, "load average at the end", stage.Load())
	return err
}
