package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// benchCase is one way of loading a server.
type benchCase struct {
	name    string
	what    string
	listed  bool // the server has the list loaded
	blocked int  // percent of the questions that are for listed names
	missing bool // each name is asked once
	args    []string
}

// cases are the yardstick. dnsperf has one thread; -c is its sockets.
var cases = []benchCase{
	{name: "cached", what: "cached, 250 client sockets", args: []string{"-c", "250", "-q", "500"}},
	{name: "cached-listed", what: "the same, list loaded", listed: true, args: []string{"-c", "250", "-q", "500"}},
	{name: "few", what: "cached, 8 client sockets", args: []string{"-c", "8", "-q", "500"}},
	{name: "few-listed", what: "the same, list loaded", listed: true, args: []string{"-c", "8", "-q", "500"}},
	{name: "half", what: "half of it blocked, 250 sockets", listed: true, blocked: 50, args: []string{"-c", "250", "-q", "500"}},
	{name: "blocked", what: "all of it blocked, 250 sockets", listed: true, blocked: 100, args: []string{"-c", "250", "-q", "500"}},
	{name: "steady", what: "cached, list loaded, 50,000 q/s, 250 sockets", listed: true, args: []string{"-c", "250", "-q", "500", "-Q", "50000"}},
	{name: "tcp", what: "cached, TCP, 8 pipelined connections", args: []string{"-m", "tcp", "-c", "8", "-q", "400"}},
	{name: "misses", what: "each name asked once", missing: true, args: []string{"-c", "8", "-q", "100"}},
}

func caseNames() (all []string) {
	for _, c := range cases {
		all = append(all, c.name)
	}
	return all
}

func chooseCases(names []string) (chosen []benchCase, err error) {
	for _, n := range names {
		i := slices.IndexFunc(cases, func(c benchCase) bool { return c.name == n })
		if i < 0 {
			return nil, fmt.Errorf("there is no case %q; there are %s", n, strings.Join(caseNames(), ", "))
		}
		chosen = append(chosen, cases[i])
	}
	return chosen, nil
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

// load asks the questions of file and reads the server's CPU time before and
// after. warm goes through the file once, however long that takes, so that all of
// it is cached.
func (c *benchCase) load(ctx context.Context, s *server, file string, warm bool, o *options) (*sample, error) {
	args := append([]string{"-c", strconv.Itoa(o.cores[1]), "dnsperf", "-T", "1", "-s", "127.0.0.1", "-p", strconv.Itoa(int(s.port)),
		"-d", file, "-t", "2", "-O", "suppress=timeout"}, c.args...)
	if warm && !c.missing {
		args = append(args, "-n", "1", "-l", "30")
	} else {
		args = append(args, "-l", fmt.Sprintf("%.1f", o.duration.Seconds()))
	}
	before, err := s.usage()
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, "taskset", args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("dnsperf: %w\n%s", err, out)
	}
	after, err := s.usage()
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
func newSample(out string, before, after usage) (*sample, error) {
	find := func(r *regexp.Regexp) string {
		if m := r.FindStringSubmatch(out); m != nil {
			return m[1]
		}
		return "0"
	}
	m := &sample{Memory: after.memory, Responses: find(responses)}
	m.Answers, _ = strconv.Atoi(find(completed))
	m.Lost, _ = strconv.Atoi(find(lost))
	m.Rate, _ = strconv.ParseFloat(find(rate), 64)
	m.Latency, _ = strconv.ParseFloat(find(latency), 64)
	m.Latency *= 1e6
	if m.Answers == 0 {
		return nil, fmt.Errorf("no answer:\n%s", out)
	}
	m.CPU = float64(after.cpu-before.cpu) / 1e3 / float64(m.Answers)
	if ticks := after.user - before.user + after.system - before.system; ticks > 0 {
		m.User = m.CPU * float64(after.user-before.user) / float64(ticks)
	}
	return m, nil
}

// usage is what a process has used since its start.
type usage struct {
	cpu          time.Duration // of all its threads
	user, system int           // in clock ticks: coarse, used for their proportion alone
	memory       int           // resident, KiB
}

// usage reads proc(5). The scheduler's account is exact to the nanosecond.
func (s *server) usage() (u usage, err error) {
	dir := fmt.Sprintf("/proc/%d/", s.pid())
	tasks, err := os.ReadDir(dir + "task")
	if err != nil {
		return u, err
	}
	for _, t := range tasks {
		b, err := os.ReadFile(dir + "task/" + t.Name() + "/schedstat")
		if err != nil {
			continue // a thread that has ended
		}
		var ns int64
		if _, err := fmt.Sscan(string(b), &ns); err != nil {
			return u, err
		}
		u.cpu += time.Duration(ns)
	}
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return u, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if u.user, err = strconv.Atoi(fields[11]); err != nil {
		return u, err
	}
	if u.system, err = strconv.Atoi(fields[12]); err != nil {
		return u, err
	}
	pages, err := strconv.Atoi(fields[21])
	u.memory = pages * os.Getpagesize() / 1024
	return u, err
}
