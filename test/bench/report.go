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
)

// results are the samples of a run, by case and server, in the order in which
// they first came.
type results struct {
	started  time.Time
	args     []string
	options  *options
	versions []string
	rows     []*row
}

type row struct {
	Case    string    `json:"case"`
	Server  string    `json:"server"`
	Samples []*sample `json:"samples"`
}

func (r *results) add(c, server string, s *sample) {
	i := slices.IndexFunc(r.rows, func(x *row) bool { return x.Case == c && x.Server == server })
	if i < 0 {
		i = len(r.rows)
		r.rows = append(r.rows, &row{Case: c, Server: server})
	}
	r.rows[i].Samples = append(r.rows[i].Samples, s)
}

// median of one figure of the row's samples.
func (r *row) median(of func(*sample) float64) float64 {
	all := make([]float64, len(r.Samples))
	for i, s := range r.Samples {
		all[i] = of(s)
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

func (r *row) cpu() float64 { return r.median(func(s *sample) float64 { return s.CPU }) }

// baseline is what ratios are to: Unbound without a list, with the same clients.
var baseline = map[string]string{"cached-listed": "cached", "half": "cached", "blocked": "cached", "few-listed": "few"}

func (r *results) ratio(x *row) string {
	in := cmp.Or(baseline[x.Case], x.Case)
	i := slices.IndexFunc(r.rows, func(y *row) bool { return y.Case == in && y.Server == "unbound" })
	if i < 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", x.cpu()/r.rows[i].cpu())
}

// print writes the table in Markdown.
func (r *results) print(w io.Writer) {
	fmt.Fprintf(w, "%s; bench %s; %s\n\n", r.started.Format(time.DateOnly), strings.Join(r.args, " "), strings.Join(r.versions, "; "))
	fmt.Fprintln(w, "| case | server | CPU µs/answer | min | max | to Unbound | of it user | answers/s | per core | lost | latency µs | MiB |")
	fmt.Fprintln(w, "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
	for _, x := range r.rows {
		lost, least, most := 0, x.Samples[0].CPU, x.Samples[0].CPU
		for _, s := range x.Samples {
			lost += s.Lost
			least, most = min(least, s.CPU), max(most, s.CPU)
		}
		fmt.Fprintf(w, "| %s | %s | %.2f | %.2f | %.2f | %s | %.2f | %.0f | %.0f | %d | %.0f | %d |\n", x.Case, x.Server, x.cpu(), least, most, r.ratio(x),
			x.median(func(s *sample) float64 { return s.User }), x.median(func(s *sample) float64 { return s.Rate }),
			x.median((*sample).perCore), lost, x.median(func(s *sample) float64 { return s.Latency }), x.Samples[len(x.Samples)-1].Memory/1024)
	}
	fmt.Fprintln(w)
	for _, x := range r.rows {
		fmt.Fprintf(w, "%s, %s: %s\n", x.Case, x.Server, x.Samples[len(x.Samples)-1].Responses)
	}
}

// write puts results.json (all samples) and table.md into dir.
func (r *results) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(struct {
		Started  time.Time `json:"started"`
		Args     []string  `json:"args"`
		Versions []string  `json:"versions"`
		Rows     []*row    `json:"rows"`
	}{r.started, r.args, r.versions, r.rows}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.json"), append(b, '\n'), 0o644); err != nil {
		return err
	}
	var table strings.Builder
	r.print(&table)
	return os.WriteFile(filepath.Join(dir, "table.md"), []byte(table.String()), 0o644)
}
