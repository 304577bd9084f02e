package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// cacheBytes is the bound of each of the two caches that both have, of answers and
// of RRsets: more than is needed.
const cacheBytes = 2 << 30

// million fills each server's caches in turn and asks for what is in them.
func million(ctx context.Context, dir string, l *laboratory, o *options, out io.Writer) error {
	some := filepath.Join(dir, "some")
	if err := writeSome(some, o.names); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d names, signed %v; caches of %d MiB each\n\n", o.names, o.signed, cacheBytes>>20)
	fmt.Fprintf(out, "| | resident, MiB | full | after a rest | most | bytes an RRset | CPU to fill, µs each | sent | of cached ones, µs each | answers | lost | sent |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, name := range o.servers {
		if err := millionOf(ctx, filepath.Join(dir, name), name, some, l, o, out); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func millionOf(ctx context.Context, dir, name, some string, l *laboratory, o *options, out io.Writer) error {
	s, err := start(ctx, dir, name, cacheBytes, l, o)
	if err != nil {
		return err
	}
	defer s.Stop()
	empty, _, err := s.resident()
	if err != nil {
		return err
	}
	fill, err := fill(ctx, s, l, o.names)
	if err != nil {
		return err
	}
	full, _, err := s.resident()
	if err != nil {
		return err
	}
	hits, err := hit(ctx, s, l, some, o.hits)
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

func fillName(i int) string { return fmt.Sprintf("host%07d.%s", i, fillZone) }

// writeSome writes questions for half as many names, in no order, for dnsperf.
func writeSome(file string, names int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	random := rand.New(rand.NewPCG(1, 2))
	w := bufio.NewWriter(f)
	for range names / 2 {
		fmt.Fprintln(w, fillName(random.IntN(names)), "A")
	}
	return w.Flush()
}

// sample is what a load showed.
type sample struct {
	answers, lost int
	cpu           float64 // of the server for each answer, in µs
	sent          int64   // questions to the authority
}

// measured is what the server spends while ask asks.
func measured(s *server, l *laboratory, ask func() (sample, error)) (sample, error) {
	before, err := s.Usage()
	if err != nil {
		return sample{}, err
	}
	sent := l.asked.Load()
	m, err := ask()
	if err != nil {
		return m, err
	}
	after, err := s.Usage()
	if err != nil {
		return m, err
	}
	m.sent = l.asked.Load() - sent
	m.cpu = float64((after.CPU - before.CPU).Nanoseconds()) / 1e3 / float64(m.answers)
	return m, nil
}

// networks are those that names are asked for from, one question at a time each:
// cordon gives one network alone no more than half of the processors.
const networks = 100

// fill asks for every name once, and again where no answer comes.
func fill(ctx context.Context, s *server, l *laboratory, names int) (sample, error) {
	return measured(s, l, func() (sample, error) {
		var group errgroup.Group
		for i := range networks {
			group.Go(func() error { return fillFrom(ctx, s, i, names) })
		}
		return sample{answers: names}, group.Wait()
	})
}

func fillFrom(ctx context.Context, s *server, network, names int) error {
	c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 100, byte(network), 1)}, net.UDPAddrFromAddrPort(s.at))
	if err != nil {
		return err
	}
	defer c.Close()
	reply := make([]byte, 4096)
	for i := network; i < names && ctx.Err() == nil; i += networks {
		packet, err := new(dns.Msg).SetQuestion(fillName(i), dns.TypeA).Pack()
		if err != nil {
			return err
		}
		good := false
		for deadline := time.Now().Add(time.Minute); !good; {
			answered, err := exchange(c, packet, reply, 2*time.Second)
			if err != nil {
				return err
			}
			good = answered && reply[3]&15 == dns.RcodeSuccess && reply[7] == 1
			if !good && (time.Now().After(deadline) || ctx.Err() != nil) {
				return fmt.Errorf("%s: no address (a reply: %v, header %x)", fillName(i), answered, reply[:12])
			}
			if answered && !good { // a failure is remembered for 5 s
				time.Sleep(time.Second)
			}
		}
	}
	return ctx.Err()
}

var (
	completed = regexp.MustCompile(`Queries completed:\s+(\d+)`)
	lost      = regexp.MustCompile(`Queries lost:\s+(\d+)`)
	allGood   = regexp.MustCompile(`Response codes:\s+NOERROR \d+ \(100\.00%\)`)
)

// hit has dnsperf ask the questions of a file for a while, from 50 sockets.
func hit(ctx context.Context, s *server, l *laboratory, file string, long time.Duration) (sample, error) {
	return measured(s, l, func() (m sample, err error) {
		said, err := exec.CommandContext(ctx, "dnsperf", "-s", s.at.Addr().String(), "-p", strconv.Itoa(int(s.at.Port())), "-d", file, "-T", "1", "-c", "50",
			"-O", "suppress=timeout", "-l", strconv.Itoa(int(long.Seconds())), "-q", "500", "-t", "2").CombinedOutput()
		if err != nil {
			return m, fmt.Errorf("dnsperf: %w\n%s", err, said)
		}
		number := func(r *regexp.Regexp) int {
			n := 0
			if found := r.FindSubmatch(said); found != nil {
				n, _ = strconv.Atoi(string(found[1]))
			}
			return n
		}
		if m.answers, m.lost = number(completed), number(lost); m.answers == 0 || !allGood.Match(said) {
			return m, fmt.Errorf("not every question was answered as it should:\n%s", said)
		}
		return m, nil
	})
}
