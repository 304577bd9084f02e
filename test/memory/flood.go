package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// counts are of one kind of question.
type counts struct{ asked, answered, failed atomic.Int64 }

// knownRate is how many questions for known names are asked in a second.
const knownRate = 200

// flood asks for names that come once, half of which exist, from many client
// networks, each with one question at a time; and from another network for known
// names. What is known was asked for twice before: a name that is asked for once
// has no claim to stay.
func flood(ctx context.Context, dir string, l *laboratory, o *options, out io.Writer) error {
	s, err := start(ctx, filepath.Join(dir, "cordon"), "cordon", 0, l, o)
	if err != nil {
		return err
	}
	defer s.Stop()
	for range 2 {
		for i := range o.known {
			if reply, _, err := (&dns.Client{Timeout: 5 * time.Second}).ExchangeContext(ctx, knownQuestion(i), s.at.String()); err != nil || len(reply.Answer) != 1 {
				return fmt.Errorf("ask for a known name: %v, %v", reply, err)
			}
		}
	}
	before := l.askedKnown.Load()
	began := time.Now()
	until, stop := context.WithTimeout(ctx, o.flood)
	defer stop()
	var group sync.WaitGroup
	var unknown, known counts
	times := make([]time.Duration, 0, int(o.flood.Seconds()+1)*knownRate)
	errs := make(chan error, o.clients+1)
	for i := range o.clients {
		group.Go(func() { errs <- floodFrom(until, s, i, &unknown) })
	}
	group.Go(func() { errs <- askKnown(until, s, o, &known, &times) })
	fmt.Fprintf(out, "| after | names asked | answered | CPU, µs each | resident, MiB | most | known: asked | answered | sent on |\n|---|---|---|---|---|---|---|---|---|\n")
	var last int64
	usage, err := s.Usage()
	if err != nil {
		return err
	}
	for tick := time.NewTicker(max(o.flood/20, time.Second)); until.Err() == nil; {
		select {
		case <-tick.C:
		case <-until.Done():
			tick.Stop()
		}
		now, most, err := s.resident()
		if err != nil {
			return err
		}
		used, err := s.Usage()
		if err != nil {
			return err
		}
		n := unknown.answered.Load()
		fmt.Fprintf(out, "| %s | %d | %d | %.0f | %.0f | %.0f | %d | %d | %d |\n", time.Since(began).Round(time.Second), unknown.asked.Load(), n,
			float64((used.CPU-usage.CPU).Microseconds())/float64(max(n-last, 1)), now, most, known.asked.Load(), known.answered.Load(), l.askedKnown.Load()-before)
		last, usage = n, used
	}
	group.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	slices.Sort(times)
	if len(times) > 0 {
		fmt.Fprintf(out, "\nknown names: %d failed, median %s, 99 %% within %s, the longest %s\n", known.failed.Load(),
			times[len(times)/2].Round(time.Microsecond), times[len(times)*99/100].Round(time.Microsecond), times[len(times)-1].Round(time.Microsecond))
	}
	return ctx.Err()
}

func knownQuestion(i int) *dns.Msg {
	return new(dns.Msg).SetQuestion(fmt.Sprintf("host%d.%s", i, knownZone), dns.TypeA)
}

// floodFrom asks from one network for one name after the other.
func floodFrom(ctx context.Context, s *server, network int, n *counts) error {
	c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 100, byte(network), 1)}, net.UDPAddrFromAddrPort(s.at))
	if err != nil {
		return err
	}
	defer c.Close()
	random := rand.New(rand.NewPCG(uint64(network), 3)) //nolint:gosec // a number of the loop
	zones := []string{fillZone, noneZone}
	reply := make([]byte, 4096)
	for i := 0; ctx.Err() == nil; i++ {
		m := new(dns.Msg).SetQuestion(fmt.Sprintf("%016x.%s", random.Uint64(), zones[i%2]), dns.TypeA)
		packet, err := m.Pack()
		if err != nil {
			return err
		}
		n.asked.Add(1)
		answered, err := exchange(c, packet, reply, time.Second)
		if err != nil {
			return err
		}
		if answered {
			n.answered.Add(1)
		}
	}
	return nil
}

// askKnown asks at a steady rate for known names, in no order.
func askKnown(ctx context.Context, s *server, o *options, n *counts, times *[]time.Duration) error {
	c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 101, 0, 1)}, net.UDPAddrFromAddrPort(s.at))
	if err != nil {
		return err
	}
	defer c.Close()
	random := rand.New(rand.NewPCG(1, 4))
	reply := make([]byte, 4096)
	for tick := time.NewTicker(time.Second / knownRate); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return nil
		}
		packet, err := knownQuestion(random.IntN(o.known)).Pack()
		if err != nil {
			return err
		}
		n.asked.Add(1)
		began := time.Now()
		answered, err := exchange(c, packet, reply, 2*time.Second)
		switch {
		case err != nil:
			return err
		case answered && reply[3]&15 == dns.RcodeSuccess && reply[7] == 1:
			n.answered.Add(1)
			*times = append(*times, time.Since(began))
		default:
			n.failed.Add(1)
		}
	}
}

// exchange sends a packet and waits for its reply; false when none comes.
func exchange(c *net.UDPConn, packet, reply []byte, patience time.Duration) (bool, error) {
	if _, err := c.Write(packet); err != nil {
		return false, nil //nolint:nilerr // an ICMP message: nobody answers
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return false, err
	}
	for {
		n, err := c.Read(reply)
		if err != nil {
			return false, nil //nolint:nilerr // too late
		}
		if n >= 12 && reply[0] == packet[0] && reply[1] == packet[1] { // not one that was given up
			return true, nil
		}
	}
}
