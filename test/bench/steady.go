package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"cordon/test/paced"
	"cordon/test/stage"
)

// pacedCommand has this program be the client (see main).
const pacedCommand = "paced"

// asking is a client at a fixed rate, in a process of its own.
type asking struct {
	cmd  *exec.Cmd
	stop func() error // ends a load without a length
	out  bytes.Buffer
	said bytes.Buffer
}

// ask begins a load at a fixed rate. Without a length it goes on until result is
// called.
func (b *bench) ask(ctx context.Context, s *stage.Server, file string, rate float64, length time.Duration) (*asking, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := b.stage.OnClientCore(self, pacedCommand, "-server", s.Address(), "-questions", file, "-rate", strconv.FormatFloat(rate, 'f', 0, 64),
		"-time", length.String(), "-site", ".bench", "-stop-page", stage.StopPage)
	a := &asking{cmd: exec.CommandContext(ctx, args[0], args[1:]...)}
	a.cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
	a.cmd.Stdout, a.cmd.Stderr = &a.out, &a.said
	in, err := a.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	a.stop = in.Close
	return a, a.cmd.Start()
}

// result waits for the end of the load, or ends one without a length.
func (a *asking) result() (*paced.Result, error) {
	_ = a.stop() // has no error that matters: the process reads it or has ended
	if err := a.cmd.Wait(); err != nil {
		return nil, fmt.Errorf("client: %w\n%s", err, a.said.Bytes())
	}
	r := &paced.Result{}
	if err := json.Unmarshal(a.out.Bytes(), r); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return r, nil
}

// warm goes through the questions once, so that all is cached.
func (b *bench) warm(ctx context.Context, s *stage.Server, file string) error {
	_, err := b.dnsperf(ctx, &load{args: []string{"-c", "8", "-q", "100"}}, s, file, true)
	return err
}

// paceSample is one round of a load at a fixed rate.
type paceSample struct {
	*paced.Result
	cpu float64 // of the server, µs for each answer
}

// pace loads a server for one round.
func (b *bench) pace(ctx context.Context, s *stage.Server, file string, rate float64, length time.Duration) (*paceSample, error) {
	before, err := s.Usage()
	if err != nil {
		return nil, err
	}
	a, err := b.ask(ctx, s, file, rate, length)
	if err != nil {
		return nil, err
	}
	r, err := a.result()
	if err != nil {
		return nil, err
	}
	after, err := s.Usage()
	if err != nil {
		return nil, err
	}
	if r.Answered == 0 {
		return nil, fmt.Errorf("no answer to %d questions", r.Sent)
	}
	return &paceSample{r, float64(after.CPU-before.CPU) / 1e3 / float64(r.Answered)}, nil
}

// steady compares latencies at one rate, in many short turns, so that what the
// machine does besides falls on all alike.
func steady(ctx context.Context, b *bench) error {
	l, err := b.list(ctx, "steady")
	if err != nil {
		return err
	}
	file, err := b.questions()
	if err != nil {
		return err
	}
	type turn struct {
		what    string
		server  *stage.Server
		samples []*paceSample
	}
	var turns []*turn
	for _, k := range b.kinds {
		for _, list := range []*stage.List{nil, l} {
			s, err := b.stage.Start(ctx, k, stage.Setup{List: list})
			if err == nil {
				defer s.Stop()
				err = b.warm(ctx, s, file)
			}
			if err != nil {
				b.report.fail("steady", k.Name, err)
				continue
			}
			what := "no list"
			if list != nil {
				what = fmt.Sprintf("%d names", l.Entries)
			}
			turns = append(turns, &turn{what: what, server: s})
		}
	}
	const finer = 3 // turns of a round: short ones, many of them
	for round := range b.rounds * finer {
		for _, t := range turns {
			m, err := b.pace(ctx, t.server, file, float64(b.rate), b.duration)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				b.report.fail("steady", t.server.Kind.Name, err)
				continue
			}
			t.samples = append(t.samples, m)
		}
		if round%finer == finer-1 {
			b.report.progress("steady: round %d of %d", round/finer+1, b.rounds)
		}
	}
	out := &table{Title: fmt.Sprintf("Latency at %d questions a second, in µs", b.rate),
		Head: []string{"server", "list", "median:", "99 %:", "99.9 %:", "most:", "lost:", "asked a second:", "CPU µs/answer:", "client busy:", "client without a core:"},
		Notes: []string{fmt.Sprintf("medians of %d turns of %v, taken in alternation; 250 client sockets, random times of asking; from the send call to the kernel's time stamp of the answer", b.rounds*finer, b.duration),
			"load average before " + stage.Load()}}
	for _, t := range turns {
		if len(t.samples) == 0 {
			continue
		}
		lost := 0
		for _, s := range t.samples {
			lost += s.Lost
		}
		of := func(f func(*paceSample) float64) float64 { return median(t.samples, f) }
		out.Rows = append(out.Rows, []string{t.server.Kind.Name, t.what,
			micro(of(func(s *paceSample) float64 { return s.Median })), micro(of(func(s *paceSample) float64 { return s.P99 })),
			micro(of(func(s *paceSample) float64 { return s.P999 })), micro(of(func(s *paceSample) float64 { return s.Max })), strconv.Itoa(lost),
			fmt.Sprintf("%.0f", of(func(s *paceSample) float64 { return s.Rate() })), fmt.Sprintf("%.2f", of(func(s *paceSample) float64 { return s.cpu })),
			percent(of(func(s *paceSample) float64 { return s.Busy })), percent(of(func(s *paceSample) float64 { return s.Slipped }))})
	}
	b.report.add(out)
	return nil
}

// micro writes µs, with a decimal where it matters.
func micro(us float64) string {
	if us < 100 {
		return fmt.Sprintf("%.1f", us)
	}
	return fmt.Sprintf("%.0f", us)
}

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }
