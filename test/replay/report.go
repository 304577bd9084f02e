package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cordon/test/stage"
)

// report is what was found.
type report struct {
	machine  string
	args     []string
	options  *options
	versions []string
	rows     []string
	failures []string
}

// progress tells a run, on standard error.
func (*report) progress(over *transport, k *stage.Kind, r *result, good bool) {
	verdict := "good"
	if !good {
		verdict = "too many"
	}
	fmt.Fprintf(os.Stderr, "%s  %s, %s, %d clients: %s; %.3f %% bad (late %d, failed %d of %d), %.0f q/s, %d connections (%d resumed, %d not had), median %v, 99 %% %v, server %.0f %%, clients %.0f %%, behind %v\n",
		time.Now().Format(time.TimeOnly), k.Name, over.name, r.clients, verdict, 100*r.bad(), r.late, r.failed, r.asked, r.perSecond, r.opened, r.resumed, r.refused,
		r.median, r.p99, 100*r.serverShare, 100*r.clientShare, r.behind.Round(time.Millisecond))
}

func (t *report) none(over, server string) {
	t.rows = append(t.rows, fmt.Sprintf("| %s | %s | not served by this version | | | | | | | | |", over, server))
}

func (t *report) fail(over, server string, err error) {
	t.failures = append(t.failures, fmt.Sprintf("%s, %s: %v", over, server, err))
	fmt.Fprintf(os.Stderr, "FAILED %s, %s: %v\n", over, server, err)
}

func (t *report) add(over, server string, f found) {
	limit, r := "none", f.bad
	if f.good != nil {
		r = f.good
		limit = fmt.Sprintf("**%d**", r.clients)
		switch {
		case f.bad == nil && !r.bounded():
			limit += " or more (not searched further)"
		case f.bad == nil || f.bad.bounded():
			limit += " or more (the clients' core is the limit)"
		}
	}
	next := ""
	if f.bad != nil {
		next = fmt.Sprintf("%d: %.2f %%", f.bad.clients, 100*f.bad.bad())
	}
	t.rows = append(t.rows, fmt.Sprintf("| %s | %s | %s | %.0f | %.0f, %.0f %% | %.1f | %.1f | %.0f %% | %.0f %% | %d | %s |", over, server, limit, r.perSecond,
		float64(r.opened)/(t.options.warm+t.options.time).Seconds(), 100*float64(r.resumed)/float64(max(r.opened, 1)),
		r.median.Seconds()*1000, r.p99.Seconds()*1000, 100*r.serverShare, 100*r.clientShare, r.memory/1024, next))
}

// print writes the table in Markdown.
func (t *report) print(w io.Writer) {
	fmt.Fprintf(w, "%s\n`replay %s`; %s\n\n", t.machine, strings.Join(t.args, " "), strings.Join(t.versions, "; "))
	fmt.Fprintf(w, "### The most clients with less than %g %% of answers late or missing\n\n", 100*t.options.share)
	fmt.Fprintln(w, "| transport | server | clients | questions/s | connections/s, resumed | median ms | 99 % ms | server's core | clients' core | MiB | the next that was tried, bad |")
	fmt.Fprintln(w, "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
	for _, r := range t.rows {
		fmt.Fprintln(w, r)
	}
	b := usual
	fmt.Fprintf(w, "\n- late: after %v, the time to connect included; missing: not within %v, or not NOERROR; %d names listed, %d %% of the questions blocked, all others cached\n", t.options.late, t.options.timeout, t.options.entries, listedShare)
	fmt.Fprintf(w, "- a client opens a page every %v on the average (log-normal between clients, sigma %g), with %.0f questions %v apart, and closes its connection after %v: %.2f questions a second; seed %d\n",
		b.pause, b.spread, b.burst, b.within, b.idle, b.perClient(), t.options.seed)
	fmt.Fprintf(w, "- each run %v, of which the first %v do not count; load average afterwards %s\n", t.options.warm+t.options.time, t.options.warm, stage.Load())
	for _, f := range t.failures {
		fmt.Fprintf(w, "- not measured: %s\n", f)
	}
	fmt.Fprintln(w)
}

// write keeps what is known so far.
func (t *report) write() error {
	if t.options.out == "" {
		return nil
	}
	if err := os.MkdirAll(t.options.out, 0o755); err != nil {
		return err
	}
	var b strings.Builder
	t.print(&b)
	return os.WriteFile(filepath.Join(t.options.out, "table.md"), []byte(b.String()), 0o644)
}
