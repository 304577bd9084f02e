package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cordon/test/stage"
)

// report is what a run found.
type report struct {
	machine  string
	args     []string
	options  *options
	versions []string
	loads    loadResults
	tables   []*table
	failures []string
}

// table is what a study found, ready for a document.
type table struct {
	Title string     `json:"title"`
	Head  []string   `json:"head"` // of columns; the first ones that do not end in a colon hold words
	Rows  [][]string `json:"rows"`
	Notes []string   `json:"notes,omitempty"`
}

// progress tells a person how far it is, on standard error.
func (*report) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}

// fail notes what could not be measured; the rest goes on.
func (r *report) fail(c, server string, err error) {
	if server != "" {
		c += ", " + server
	}
	r.failures = append(r.failures, fmt.Sprintf("%s: %v", c, err))
	r.progress("FAILED %s: %v", c, err)
}

// add prints a table at once, so that a run that is cut short has said what it
// knows, and keeps it.
func (r *report) add(t *table) {
	t.Notes = append(t.Notes, "load average afterwards "+stage.Load())
	r.tables = append(r.tables, t)
	t.print(os.Stdout)
}

func (r *report) printHeader(w io.Writer) {
	fmt.Fprintf(w, "%s\n`bench %s`; %s\n\n", r.machine, strings.Join(r.args, " "), strings.Join(r.versions, "; "))
}

func (r *report) printFailures(w io.Writer) {
	for _, f := range r.failures {
		fmt.Fprintf(w, "not measured: %s\n", f)
	}
}

// print writes the table in Markdown.
func (t *table) print(w io.Writer) {
	fmt.Fprintf(w, "### %s\n\n|", t.Title)
	for _, h := range t.Head {
		fmt.Fprintf(w, " %s |", strings.TrimSuffix(h, ":"))
	}
	fmt.Fprint(w, "\n|")
	for _, h := range t.Head {
		if strings.HasSuffix(h, ":") {
			fmt.Fprint(w, "---:|")
		} else {
			fmt.Fprint(w, "---|")
		}
	}
	fmt.Fprintln(w)
	for _, row := range t.Rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
	}
	fmt.Fprintln(w)
	for _, n := range t.Notes {
		fmt.Fprintf(w, "- %s\n", n)
	}
	fmt.Fprintln(w)
}

// save puts results.json (all samples) and table.md into the folder of the
// results, over what it put there before.
func (r *report) save() {
	if r.options.out == "" {
		return
	}
	if err := r.write(r.options.out); err != nil {
		r.progress("results are not saved: %v", err)
	}
}

func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(struct {
		Machine  string   `json:"machine"`
		Args     []string `json:"args"`
		Versions []string `json:"versions"`
		Loads    []*row   `json:"loads"`
		Tables   []*table `json:"tables"`
		Failures []string `json:"failures"`
	}{r.machine, r.args, r.versions, r.loads.rows, r.tables, r.failures}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.json"), append(b, '\n'), 0o644); err != nil {
		return err
	}
	var text strings.Builder
	r.printHeader(&text)
	r.loads.print(&text)
	for _, t := range r.tables {
		t.print(&text)
	}
	r.printFailures(&text)
	return os.WriteFile(filepath.Join(dir, "table.md"), []byte(text.String()), 0o644)
}

// loadResults are the samples of the loads, by case and server, in the order in
// which they first came.
type loadResults struct{ rows []*row }

type row struct {
	Case    string    `json:"case"`
	Server  string    `json:"server"`
	Samples []*sample `json:"samples"`
}

func (r *loadResults) add(c, server string, s *sample) {
	i := slices.IndexFunc(r.rows, func(x *row) bool { return x.Case == c && x.Server == server })
	if i < 0 {
		i = len(r.rows)
		r.rows = append(r.rows, &row{Case: c, Server: server})
	}
	r.rows[i].Samples = append(r.rows[i].Samples, s)
}

// median of one figure of all samples.
func median[T any](samples []T, of func(T) float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	all := make([]float64, len(samples))
	for i, s := range samples {
		all[i] = of(s)
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

func (r *row) cpu() float64 { return median(r.Samples, func(s *sample) float64 { return s.CPU }) }

// baseline is what ratios are to: Unbound without a list, with the same clients.
var baseline = map[string]string{"cached-listed": "cached", "half": "cached", "blocked": "cached", "few-listed": "few"}

func (r *loadResults) ratio(x *row) string {
	in := cmp.Or(baseline[x.Case], x.Case)
	i := slices.IndexFunc(r.rows, func(y *row) bool { return y.Case == in && y.Server == "unbound" })
	if i < 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", x.cpu()/r.rows[i].cpu())
}

// print writes the table in Markdown, in the order of the cases.
func (r *loadResults) print(w io.Writer) {
	if len(r.rows) == 0 {
		return
	}
	place := func(x *row) int {
		return slices.IndexFunc(allLoads, func(c load) bool { return c.name == x.Case })
	}
	rows := slices.Clone(r.rows)
	slices.SortStableFunc(rows, func(a, b *row) int { return cmp.Compare(place(a), place(b)) })
	fmt.Fprintln(w, "### CPU time for each answer\n\n| case | server | CPU µs/answer | min | max | to Unbound | of it user | answers/s | per core | lost | latency µs | MiB |")
	fmt.Fprintln(w, "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
	for _, x := range rows {
		lost, least, most := 0, x.Samples[0].CPU, x.Samples[0].CPU
		for _, s := range x.Samples {
			lost += s.Lost
			least, most = min(least, s.CPU), max(most, s.CPU)
		}
		fmt.Fprintf(w, "| %s | %s | %.2f | %.2f | %.2f | %s | %.2f | %.0f | %.0f | %d | %.0f | %d |\n", x.Case, x.Server, x.cpu(), least, most, r.ratio(x),
			median(x.Samples, func(s *sample) float64 { return s.User }), median(x.Samples, func(s *sample) float64 { return s.Rate }),
			median(x.Samples, (*sample).perCore), lost, median(x.Samples, func(s *sample) float64 { return s.Latency }), x.Samples[len(x.Samples)-1].Memory/1024)
	}
	fmt.Fprintln(w)
	for _, x := range rows {
		fmt.Fprintf(w, "- %s, %s: %s\n", x.Case, x.Server, x.Samples[len(x.Samples)-1].Responses)
	}
	fmt.Fprintln(w)
}
