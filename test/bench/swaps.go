package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"cordon/test/paced"
	"cordon/test/stage"
)

// blockedShare of the questions is for listed names while lists are swapped, in
// percent: so an answer that is not filtered would be seen.
const blockedShare = 5

// swapRun is how lists are swapped under load.
type swapRun struct {
	title   string
	name    string
	entries int
	rounds  int
	swaps   int           // of a round
	every   time.Duration // between the beginnings of two swaps; the next waits for the one before at any rate
	quiet   time.Duration // of the load without swaps
	settle  time.Duration // afterwards, for memory to be given back
}

func swapsEachSecond(ctx context.Context, b *bench) error {
	return b.swapUnderLoad(ctx, &swapRun{
		title: "A list swapped once a second", name: "swaps", entries: b.entries, rounds: b.rounds,
		swaps: max(1, int(2*b.duration/time.Second)), every: time.Second, quiet: max(time.Second, 2*b.duration), settle: 5 * time.Second,
	})
}

func reloadLong(ctx context.Context, b *bench) error {
	return b.swapUnderLoad(ctx, &swapRun{
		title: "The long list swapped ten times", name: "reload", entries: b.long, rounds: 1, swaps: 10, quiet: 10 * b.duration, settle: 20 * time.Second,
	})
}

// swapSample is what one server showed.
type swapSample struct {
	kind                *stage.Kind
	capacity            float64 // answers a second, dnsperf as fast as it goes
	quiet, swapping     []*paced.Result
	took                []time.Duration // from the edition in place to its first blocked answer
	cpu                 time.Duration   // of all swaps and the answers meanwhile
	before, peak, after int             // KiB
}

// swapUnderLoad has one server after the other loaded at half of what it can,
// without and with swaps. One that cannot be told when to take an edition is left
// out.
func (b *bench) swapUnderLoad(ctx context.Context, run *swapRun) error {
	var all []*swapSample
	for _, k := range b.kinds {
		if !k.TakesEditions() {
			b.report.progress("%s: %s has no command that reads a policy zone anew: left out", run.name, k.Name)
			continue
		}
		m, err := b.swapOne(ctx, k, run)
		if m != nil && len(m.swapping) > 0 {
			all = append(all, m)
		}
		if ctx.Err() != nil {
			break // what is known is told all the same
		}
		if err != nil {
			b.report.fail(run.name, k.Name, err)
		}
	}
	if len(all) > 0 {
		b.report.add(run.latencies(all))
		b.report.add(run.memory(all))
	}
	return ctx.Err()
}

func (b *bench) swapOne(ctx context.Context, k *stage.Kind, run *swapRun) (_ *swapSample, err error) {
	dir := filepath.Join(b.stage.Dir, run.name+"-"+k.Name)
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l, err := stage.NewList(dir, run.entries)
	if err != nil {
		return nil, err
	}
	b.report.progress("%s: preparing %d editions of %d names for %s", run.name, run.rounds*run.swaps+1, run.entries, k.Name)
	if err := l.Prepare(ctx, run.rounds*run.swaps+1, k.Form()); err != nil {
		return nil, err
	}
	b.report.progress("%s: starting %s", run.name, k.Name)
	s, err := b.stage.Start(ctx, k, stage.Setup{List: l})
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	b.report.progress("%s: loading it, and waiting until it is idle", run.name)
	file := filepath.Join(b.stage.Dir, "questions")
	if err := (stage.Questions{Blocked: blockedShare}).Write(file, b.stage, l); err != nil {
		return nil, err
	}
	if err := b.warm(ctx, s, file); err != nil {
		return nil, err
	}
	full, err := b.dnsperf(ctx, &load{args: []string{"-c", "250", "-q", "500"}}, s, file, false)
	if err != nil {
		return nil, err
	}
	if err := s.Idle(ctx); err != nil {
		return nil, err
	}
	m := &swapSample{kind: k, capacity: full.Rate}
	now, err := s.Usage()
	if err != nil {
		return nil, err
	}
	m.before = now.Memory
	if err := s.ForgetPeak(); err != nil {
		return nil, err
	}
	for round := range run.rounds {
		q, err := b.pace(ctx, s, file, m.capacity/2, run.quiet)
		if err != nil {
			return m, err
		}
		m.quiet = append(m.quiet, q.Result)
		if err := b.swapRound(ctx, s, l, file, run, m); err != nil {
			return m, err
		}
		b.report.progress("%s: %s, round %d of %d", run.name, k.Name, round+1, run.rounds)
	}
	if m.peak, err = s.Peak(); err != nil {
		return m, err
	}
	select { // a runtime gives memory back when it has had nothing to do for a while
	case <-ctx.Done():
		return m, ctx.Err()
	case <-time.After(run.settle):
	}
	now, err = s.Usage()
	m.after = now.Memory
	return m, err
}

// swapRound swaps under load.
func (b *bench) swapRound(ctx context.Context, s *stage.Server, l *stage.List, file string, run *swapRun, m *swapSample) error {
	before, err := s.Usage()
	if err != nil {
		return err
	}
	asking, err := b.ask(ctx, s, file, m.capacity/2, 0)
	if err != nil {
		return err
	}
	swap := func() error {
		for range run.swaps {
			next := time.After(run.every)
			e, err := s.Enforce(ctx, b.stage, l, 20*time.Millisecond)
			if err != nil {
				return err
			}
			m.took = append(m.took, e.Took)
			if b.verbose {
				b.report.progress("%s: %s, swapped in %v", run.name, s.Kind.Name, e.Took.Round(time.Millisecond))
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-next:
			}
		}
		return nil
	}
	err = swap()
	r, fault := asking.result()
	if err := errors.Join(err, fault); err != nil {
		return err
	}
	m.swapping = append(m.swapping, r)
	after, err := s.Usage()
	m.cpu += after.CPU - before.CPU
	return err
}

func (run *swapRun) latencies(all []*swapSample) *table {
	t := &table{Title: run.title + ": answers",
		Head: []string{"server", "half load, q/s:", "median, quiet µs:", "swapping µs:", "99.9 %, quiet µs:", "swapping µs:", "ratio:", "most, quiet ms:", "swapping ms:", "lost, quiet:", "swapping:", "of:", "unfiltered:", "a swap takes s:", "longest s:", "client busy:"},
		Notes: []string{fmt.Sprintf("%d names, of which one in a hundred changes; %d rounds of %d swaps; %d %% of the questions are for listed names; an answer later than 2 s is lost; half load is half of the answers a second that dnsperf gets", run.entries, run.rounds, run.swaps, blockedShare),
			"a swap takes from the edition in place (for the others: from the command to read the zone) to its first blocked answer; load average before " + stage.Load()},
	}
	for _, m := range all {
		of := func(rs []*paced.Result, f func(*paced.Result) float64) float64 { return median(rs, f) }
		p999 := func(r *paced.Result) float64 { return r.P999 }
		mid := func(r *paced.Result) float64 { return r.Median }
		most := func(r *paced.Result) float64 { return r.Max / 1000 }
		sum := func(rs []*paced.Result, f func(*paced.Result) int) (n int) {
			for _, r := range rs {
				n += f(r)
			}
			return n
		}
		lost := func(r *paced.Result) int { return r.Lost }
		quiet, swapping := of(m.quiet, p999), of(m.swapping, p999)
		t.Rows = append(t.Rows, []string{m.kind.Name, fmt.Sprintf("%.0f", m.capacity/2), micro(of(m.quiet, mid)), micro(of(m.swapping, mid)),
			micro(quiet), micro(swapping), fmt.Sprintf("%.2f", swapping/quiet),
			fmt.Sprintf("%.1f", of(m.quiet, most)), fmt.Sprintf("%.1f", of(m.swapping, most)),
			strconv.Itoa(sum(m.quiet, lost)), strconv.Itoa(sum(m.swapping, lost)), strconv.Itoa(sum(m.swapping, func(r *paced.Result) int { return r.Sent })),
			strconv.Itoa(sum(m.quiet, func(r *paced.Result) int { return r.Unfiltered }) + sum(m.swapping, func(r *paced.Result) int { return r.Unfiltered })),
			seconds(median(m.took, time.Duration.Seconds)), seconds(slices.Max(m.took).Seconds()),
			percent(of(m.swapping, func(r *paced.Result) float64 { return r.Busy }))})
	}
	return t
}

func (run *swapRun) memory(all []*swapSample) *table {
	t := &table{Title: run.title + ": memory", Head: []string{"server", "before MiB:", "most MiB:", "after MiB:", "after to before:", "CPU s a swap:"},
		Notes: []string{fmt.Sprintf("resident, with one list loaded and caches warm; after: %v after the last swap; CPU time holds that of the answers meanwhile", run.settle)}}
	for _, m := range all {
		t.Rows = append(t.Rows, []string{m.kind.Name, mib(m.before), mib(m.peak), mib(m.after), fmt.Sprintf("%.2f", float64(m.after)/float64(m.before)),
			seconds(m.cpu.Seconds() / float64(len(m.took)))})
	}
	return t
}

func mib(kib int) string { return strconv.Itoa(kib / 1024) }

// seconds writes three digits that count.
func seconds(s float64) string {
	if s < 10 {
		return fmt.Sprintf("%.2f", s)
	}
	return fmt.Sprintf("%.1f", s)
}
