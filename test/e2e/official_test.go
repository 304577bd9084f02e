package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"cordon/oversight"
)

// official is the oversight official of an authority: they follow its register
// and its publication, and the audit log of the world's resolver, and may read
// the lists and the block log.
type official struct {
	*world
	of     *authority
	config string
}

// official writes the configuration in the folder official/NAME.
func (a *authority) official() *official {
	a.t.Helper()
	o := &official{world: a.world, of: a, config: a.path("official/" + a.name + ".yaml")}
	a.write("official/"+a.name+".yaml", fmt.Sprintf(`data: %[1]s
logs:
  - name: register
    kind: register
    source: ../%[1]s/authority/register
    vkey: ../%[1]s/authority/register.vkey
  - name: node1
    kind: audit
    source: ../audit
    vkey: ../keys/audit.vkey
    blocklog: ../resolver/blocklog
publication:
  source: ../%[1]s/publish
  root: %[1]s.root.json
identity: identity
passphrase_file: ../keys/passphrase
`, a.name))
	a.write("official/"+a.name+".root.json", a.read(a.name+"/publish/metadata/1.root.json"))
	return o
}

// run runs a command of cordon-oversight, which has to find nothing.
func (o *official) run(args ...string) string {
	o.t.Helper()
	return o.succeeds("cordon-oversight", append(args, "--config", o.config)...)
}

// show reads what a command prints as JSON.
func (o *official) show(v any, args ...string) {
	o.t.Helper()
	out := o.run(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		o.t.Fatalf("cordon-oversight %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// verifies brings the official's copies up to date and holds them against each
// other and against the block log: nothing is found, and nothing is left out.
func (o *official) verifies() *oversight.Report {
	o.t.Helper()
	o.run("mirror")
	var report oversight.Report
	o.show(&report, "verify")
	for _, f := range report.Findings {
		if f.Severity != oversight.Notice {
			o.t.Errorf("the official finds: %v", f)
		}
	}
	if len(report.NotChecked) > 0 {
		o.t.Errorf("not checked: %v", report.NotChecked)
	}
	written := o.written()
	for _, l := range report.Logs {
		if a := l.Audit; a != nil && (a.Next != written.next || a.Records != written.next-1 || a.Decisions != sum(written.decisions) || a.Removed != 0) {
			o.t.Errorf("the official counts %d records and %d decisions up to %d; the block log has %d records and %d decisions", a.Records, a.Decisions, a.Next-1, written.next-1, sum(written.decisions))
		}
	}
	return &report
}

// countsDecisions compares what the official is shown of the decisions with the
// block log, name by name.
func (o *official) countsDecisions() {
	o.t.Helper()
	var shown []oversight.Decisions
	o.show(&shown, "show", "decisions")
	got, want := map[string]uint64{}, map[string]uint64{}
	for _, d := range shown {
		for _, n := range d.Names {
			got[n.Name] += n.Count
		}
	}
	for q, n := range o.written().decisions {
		want[q.name] += n
	}
	if len(want) == 0 || fmt.Sprint(got) != fmt.Sprint(want) { // maps print sorted
		o.t.Errorf("the official is shown %v, the block log holds %v", got, want)
	}
}

// seesLists compares the lists that the official is shown, oldest first, with
// how many entries each had, and finds each of them applied.
func (o *official) seesLists(entries ...int) {
	o.t.Helper()
	var shown []oversight.ListChange
	o.show(&shown, "show", "lists")
	var got []int
	for _, l := range shown {
		got = append(got, l.Entries)
		if l.Authority != "Office "+o.of.name || len(l.Applied) == 0 || l.Published.IsZero() {
			o.t.Errorf("the official is shown the list %+v", l)
		}
	}
	if !slices.Equal(got, entries) {
		o.t.Errorf("the official is shown lists of %v entries, published were %v", got, entries)
	}
}
