package main

import (
	"context"
	"fmt"

	"cordon/test/stage"
)

// twoCores compares each server with one thread on one core and with two on two.
// The client shares the second core, so answers a second say nothing; what two
// cores give is twice the ratio of the CPU time that an answer takes.
func twoCores(ctx context.Context, b *bench) error {
	l, err := b.list(ctx, "cores")
	if err != nil {
		return err
	}
	file, err := b.questions()
	if err != nil {
		return err
	}
	ways := []load{
		{name: "as fast as it goes, 250 sockets", args: []string{"-c", "250", "-q", "500"}},
		{name: "30,000 a second, 250 sockets", args: []string{"-c", "250", "-q", "500", "-Q", "30000"}},
	}
	type pair struct {
		kind    *stage.Kind
		servers [2]*stage.Server
		samples [2][2][]*sample // by way, and one or two cores
	}
	var pairs []*pair
	for _, k := range b.kinds {
		p := &pair{kind: k}
		for n, cores := range [][]int{{b.stage.Core}, {b.stage.Core, b.stage.ClientCore}} {
			if p.servers[n], err = b.stage.Start(ctx, k, stage.Setup{List: l, Cores: cores}); err != nil {
				break
			}
			defer p.servers[n].Stop()
			if err = b.warm(ctx, p.servers[n], file); err != nil {
				break
			}
		}
		if err != nil {
			b.report.fail("cores", k.Name, err)
			continue
		}
		pairs = append(pairs, p)
	}
	for round := range b.rounds {
		for w := range ways {
			for _, p := range pairs {
				for n, s := range p.servers {
					m, err := b.dnsperf(ctx, &ways[w], s, file, false)
					switch {
					case ctx.Err() != nil:
						return ctx.Err()
					case err != nil:
						b.report.fail("cores", p.kind.Name, err)
						continue
					}
					p.samples[w][n] = append(p.samples[w][n], m)
				}
			}
		}
		b.report.progress("cores: round %d of %d", round+1, b.rounds)
	}
	out := &table{Title: "Two cores beside one", Head: []string{"server", "load", "one core, µs/answer:", "two cores, µs/answer:", "two cores give:"},
		Notes: []string{fmt.Sprintf("cached answers, %d names listed; medians of %d rounds of %v; the client is on the second core in both settings", l.Entries, b.rounds, b.duration)}}
	cpu := func(s *sample) float64 { return s.CPU }
	for _, p := range pairs {
		for w := range ways {
			one, two := median(p.samples[w][0], cpu), median(p.samples[w][1], cpu)
			if one == 0 || two == 0 {
				continue
			}
			out.Rows = append(out.Rows, []string{p.kind.Name, ways[w].name, fmt.Sprintf("%.2f", one), fmt.Sprintf("%.2f", two), fmt.Sprintf("%.2f times one", 2*one/two)})
		}
	}
	b.report.add(out)
	return nil
}
