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

	"cordon/test/stage"
)

// memory swaps a list many times, one edition as soon as the one before is in
// force, and reads what is resident on the way.
func memory(ctx context.Context, b *bench) error {
	points := []int{1, 10, 100, 1000}
	points = slices.DeleteFunc(points, func(n int) bool { return n >= b.swaps })
	points = append(points, b.swaps)
	out := &table{Title: "Memory over many swaps", Head: []string{"server", "names:"},
		Notes: []string{"resident, MiB, when the server has come to rest after so many swaps; one name in a hundred changes"}}
	for _, n := range points {
		out.Head = append(out.Head, fmt.Sprintf("after %d:", n))
	}
	out.Head = append(out.Head, "the most:", "s a swap, publication to answer:", "CPU s a swap:")
	for _, entries := range []int{min(10_000, b.entries), b.entries} {
		for _, k := range b.kinds {
			if k.Form() != stage.Signed {
				continue // the others reload seconds for each
			}
			row, err := b.swapMany(ctx, k, entries, points)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				b.report.fail("memory", fmt.Sprintf("%s, %d names", k.Name, entries), err)
				continue
			}
			out.Rows = append(out.Rows, row)
		}
	}
	b.report.add(out)
	return nil
}

func (b *bench) swapMany(ctx context.Context, k *stage.Kind, entries int, points []int) (_ []string, err error) {
	dir := filepath.Join(b.stage.Dir, "memory")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l, err := stage.NewList(dir, entries)
	if err != nil {
		return nil, err
	}
	if err := l.Publish(); err != nil {
		return nil, err
	}
	s, err := b.stage.Start(ctx, k, stage.Setup{List: l})
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	row := []string{k.Name, strconv.Itoa(entries)}
	var took []time.Duration
	before, err := s.Usage()
	if err != nil {
		return nil, err
	}
	for n := 1; n <= points[len(points)-1]; n++ {
		e, err := s.EnforcePublished(ctx, l)
		if err != nil {
			return nil, fmt.Errorf("swap %d: %w", n, err)
		}
		took = append(took, e)
		if !slices.Contains(points, n) {
			continue
		}
		if err := s.Idle(ctx); err != nil {
			return nil, err
		}
		now, err := s.Usage()
		if err != nil {
			return nil, err
		}
		row = append(row, mib(now.Memory))
		b.report.progress("memory: %d names, %d swaps: %d MiB", entries, n, now.Memory/1024)
	}
	after, err := s.Usage()
	if err != nil {
		return nil, err
	}
	peak, err := s.Peak()
	return append(row, mib(peak), seconds(median(took, time.Duration.Seconds)), seconds((after.CPU-before.CPU).Seconds()/float64(len(took)))), err
}
