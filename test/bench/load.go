package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"cordon/test/stage"
)

// load is one way of loading a server with dnsperf, as fast as it answers.
type load struct {
	name    string
	what    string
	listed  bool // the server has the list loaded
	blocked int  // percent of the questions that are for listed names
	missing bool // each name is asked once
	tls     bool
	args    []string
}

// allLoads are the yardstick. dnsperf has one thread; -c is its sockets.
var allLoads = []load{
	{name: "cached", what: "cached, 250 client sockets", args: []string{"-c", "250", "-q", "500"}},
	{name: "cached-listed", what: "the same, list loaded", listed: true, args: []string{"-c", "250", "-q", "500"}},
	{name: "few", what: "cached, 8 client sockets", args: []string{"-c", "8", "-q", "500"}},
	{name: "few-listed", what: "the same, list loaded", listed: true, args: []string{"-c", "8", "-q", "500"}},
	{name: "half", what: "half of it blocked, 250 sockets", listed: true, blocked: 50, args: []string{"-c", "250", "-q", "500"}},
	{name: "blocked", what: "all of it blocked, 250 sockets", listed: true, blocked: 100, args: []string{"-c", "250", "-q", "500"}},
	{name: "tcp", what: "cached, TCP, 8 pipelined connections", args: []string{"-m", "tcp", "-c", "8", "-q", "400"}},
	{name: "dot", what: "cached, TLS, 8 pipelined connections", tls: true, args: []string{"-m", "dot", "-c", "8", "-q", "400"}},
	{name: "misses", what: "each name asked once", missing: true, args: []string{"-c", "8", "-q", "100"}},
}

func loadNames() (all []string) {
	for _, c := range allLoads {
		all = append(all, c.name)
	}
	return all
}

// sample is what one load of one server showed.
type sample struct {
	CPU       float64 `json:"cpu_us"`     // the server's CPU time for each answer, in µs
	User      float64 `json:"user_us"`    // of it in user space
	Rate      float64 `json:"rate"`       // answers a second
	Latency   float64 `json:"latency_us"` // mean, in µs
	Answers   int     `json:"answers"`
	Lost      int     `json:"lost"`
	Memory    int     `json:"memory_kib"` // resident
	Responses string  `json:"responses"`  // by response code, as dnsperf counts them
}

// perCore is the answers that a second of the server's CPU time gives.
func (s *sample) perCore() float64 { return 1e6 / s.CPU }

// peer is a program running twice: without a list, and with it.
type peer struct {
	kind         *stage.Kind
	bare, listed *stage.Server
}

func (p *peer) stop() {
	for _, s := range []*stage.Server{p.bare, p.listed} {
		if s != nil {
			s.Stop()
		}
	}
}

// loads has each server loaded once in each case of each round.
func (b *bench) loads(ctx context.Context, cases []load) error {
	l, err := b.list(ctx, "list")
	if err != nil {
		return err
	}
	var peers []*peer
	defer func() {
		for _, p := range peers {
			p.stop()
		}
	}()
	for _, k := range b.kinds {
		p := &peer{kind: k}
		if p.bare, err = b.stage.Start(ctx, k, stage.Setup{Encrypted: true}); err == nil {
			p.listed, err = b.stage.Start(ctx, k, stage.Setup{List: l})
		}
		if err != nil {
			p.stop()
			b.report.fail("loads", k.Name, err)
			continue
		}
		peers = append(peers, p)
	}
	file := filepath.Join(b.stage.Dir, "questions")
	for round := range b.rounds + 1 { // the first fills the caches and does not count
		for _, c := range cases {
			for i := 0; i < len(peers); i++ {
				p := peers[i]
				m, err := b.turn(ctx, &c, p, l, file, round)
				switch {
				case ctx.Err() != nil:
					return ctx.Err()
				case err != nil:
					b.report.fail(c.name, p.kind.Name, err)
					if p.bare.Alive() == nil && p.listed.Alive() == nil {
						continue
					}
					p.stop()
					peers = append(peers[:i:i], peers[i+1:]...)
					i--
				case m != nil && round > 0:
					b.report.loads.add(c.name, p.kind.Name, m)
				}
			}
		}
		b.report.progress("loads: round %d of %d", round, b.rounds)
	}
	return nil
}

// turn is one load of one server; nil where it does not serve that.
func (b *bench) turn(ctx context.Context, c *load, p *peer, l *stage.List, file string, round int) (*sample, error) {
	if c.tls && !p.kind.Can.DoT {
		return nil, nil
	}
	s := p.bare
	if c.listed {
		s = p.listed
	}
	q := stage.Questions{Blocked: c.blocked}
	if c.missing {
		q.Missing = fmt.Sprintf("r%d-%s", round, p.kind.Name)
	}
	if err := q.Write(file, b.stage, l); err != nil {
		return nil, err
	}
	m, err := b.dnsperf(ctx, c, s, file, round == 0 && !c.missing)
	if err == nil && b.verbose {
		b.report.progress("%-14s %-10s %6.2f µs, user %5.2f, %7.0f/s, lost %d, %s", c.name, p.kind.Name, m.CPU, m.User, m.Rate, m.Lost, m.Responses)
	}
	return m, err
}

// dnsperf asks the questions of file and reads the server's CPU time before and
// after. warm goes through the file once, however long that takes, so that all of
// it is cached.
func (b *bench) dnsperf(ctx context.Context, c *load, s *stage.Server, file string, warm bool) (*sample, error) {
	port := s.Ports.DNS
	if c.tls {
		port = s.Ports.DoT
	}
	args := append([]string{"dnsperf", "-T", "1", "-s", "127.0.0.1", "-p", strconv.Itoa(int(port)), "-d", file, "-t", "2", "-O", "suppress=timeout"}, c.args...)
	if warm {
		args = append(args, "-n", "1", "-l", "30")
	} else {
		args = append(args, "-l", fmt.Sprintf("%.1f", b.duration.Seconds()))
	}
	args = b.stage.OnClientCore(args...)
	before, err := s.Usage()
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("dnsperf: %w\n%s", err, out)
	}
	after, err := s.Usage()
	if err != nil {
		return nil, err
	}
	return newSample(string(out), before, after)
}

var (
	completed = regexp.MustCompile(`Queries completed:\s+(\d+)`)
	lost      = regexp.MustCompile(`Queries lost:\s+(\d+)`)
	rate      = regexp.MustCompile(`Queries per second:\s+([\d.]+)`)
	latency   = regexp.MustCompile(`Average Latency \(s\):\s+([\d.]+)`)
	responses = regexp.MustCompile(`Response codes:\s+(.*)`)
)

// newSample reads what dnsperf said of a load.
func newSample(out string, before, after stage.Usage) (*sample, error) {
	find := func(r *regexp.Regexp) string {
		if m := r.FindStringSubmatch(out); m != nil {
			return m[1]
		}
		return "0"
	}
	m := &sample{Memory: after.Memory, Responses: find(responses)}
	m.Answers, _ = strconv.Atoi(find(completed))
	m.Lost, _ = strconv.Atoi(find(lost))
	m.Rate, _ = strconv.ParseFloat(find(rate), 64)
	m.Latency, _ = strconv.ParseFloat(find(latency), 64)
	m.Latency *= 1e6
	if m.Answers == 0 {
		return nil, fmt.Errorf("no answer:\n%s", out)
	}
	m.CPU = float64(after.CPU-before.CPU) / 1e3 / float64(m.Answers)
	if ticks := after.User - before.User + after.System - before.System; ticks > 0 {
		m.User = m.CPU * float64(after.User-before.User) / float64(ticks)
	}
	return m, nil
}
