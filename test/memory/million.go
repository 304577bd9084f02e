package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// cacheBytes is the bound of each of the two caches that both have, of answers and
// of RRsets: more than is needed.
const cacheBytes = 2 << 30

// million fills each server's caches in turn and asks for what is in them.
func million(ctx context.Context, dir string, l *laboratory, o *options, out io.Writer) error {
	all, some := filepath.Join(dir, "all"), filepath.Join(dir, "some")
	random := rand.New(rand.NewPCG(1, 2))
	if err := writeQuestions(all, o.names, func(i int) int { return i }); err != nil {
		return err
	}
	if err := writeQuestions(some, o.names/2, func(int) int { return random.IntN(o.names) }); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d names, signed %v; caches of %d MiB each\n\n", o.names, o.signed, cacheBytes>>20)
	fmt.Fprintf(out, "| | resident, MiB | full | after a rest | most | bytes an RRset | CPU to fill, µs each | sent | of cached ones, µs each | answers | lost | sent |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, name := range o.servers {
		if err := millionOf(ctx, filepath.Join(dir, name), name, all, some, l, o, out); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func millionOf(ctx context.Context, dir, name, all, some string, l *laboratory, o *options, out io.Writer) error {
	s, err := start(ctx, dir, name, cacheBytes, l, o)
	if err != nil {
		return err
	}
	defer s.stop()
	empty, _, err := s.resident()
	if err != nil {
		return err
	}
	fill, err := load(ctx, s, l, all, "-n", "1", "-q", "100", "-t", "5")
	if err != nil {
		return err
	}
	full, _, err := s.resident()
	if err != nil {
		return err
	}
	hits, err := load(ctx, s, l, some, "-l", strconv.Itoa(int(o.hits.Seconds())), "-q", "500", "-t", "2")
	if err != nil {
		return err
	}
	select { // the runtime gives back what it does not need
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Minute):
	}
	rested, most, err := s.resident()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "| %s | %.0f | %.0f | %.0f | %.0f | %.0f | %.1f | %d | %.2f | %d | %d | %d |\n", name, empty, full, rested, most,
		(rested-empty)*(1<<20)/float64(fill.answers), fill.cpu, fill.sent, hits.cpu, hits.answers, fill.lost+hits.lost, hits.sent)
	return nil
}

func writeQuestions(file string, n int, name func(i int) int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	for i := range n {
		fmt.Fprintf(w, "host%07d.%s A\n", name(i), fillZone)
	}
	return w.Flush()
}

// sample is what a load showed.
type sample struct {
	answers, lost int
	cpu           float64 // of the server for each answer, in µs
	sent          int64   // questions to the authority
}

var (
	completed = regexp.MustCompile(`Queries completed:\s+(\d+)`)
	lost      = regexp.MustCompile(`Queries lost:\s+(\d+)`)
	codes     = regexp.MustCompile(`Response codes:\s+NOERROR \d+ \(100\.00%\)`)
)

// load has dnsperf ask the questions of a file, from 50 sockets.
func load(ctx context.Context, s *server, l *laboratory, file string, args ...string) (m sample, err error) {
	before, err := s.usage()
	if err != nil {
		return m, err
	}
	m.sent = -l.asked.Load()
	args = append([]string{"-s", s.at.Addr().String(), "-p", strconv.Itoa(int(s.at.Port())), "-d", file, "-T", "1", "-c", "50", "-O", "suppress=timeout"}, args...)
	said, err := exec.CommandContext(ctx, "dnsperf", args...).CombinedOutput()
	if err != nil {
		return m, fmt.Errorf("dnsperf: %w\n%s", err, said)
	}
	after, err := s.usage()
	if err != nil {
		return m, err
	}
	m.sent += l.asked.Load()
	number := func(r *regexp.Regexp) int {
		n := 0
		if found := r.FindSubmatch(said); found != nil {
			n, _ = strconv.Atoi(string(found[1]))
		}
		return n
	}
	if m.answers, m.lost = number(completed), number(lost); m.answers == 0 || !codes.Match(said) {
		return m, fmt.Errorf("not every question was answered as it should:\n%s", said)
	}
	m.cpu = float64((after.CPU - before.CPU).Nanoseconds()) / 1e3 / float64(m.answers)
	return m, nil
}
