package main

import (
	"strings"
	"testing"
	"time"

	"cordon/test/stage"
)

const said = `
  Queries sent:         1000
  Queries completed:    990 (99.00%)
  Queries lost:         10 (1.00%)

  Response codes:       NOERROR 990 (100.00%)
  Run time (s):         0.010000
  Queries per second:   99000.000000

  Average Latency (s):  0.001500 (min 0.000009, max 0.010000)
`

func TestASampleIsTheServersTimeDividedByTheAnswers(t *testing.T) {
	m, err := newSample(said, stage.Usage{CPU: time.Second, User: 10, System: 10}, stage.Usage{CPU: time.Second + 9900*time.Microsecond, User: 13, System: 11, Memory: 7})
	if err != nil {
		t.Fatal(err)
	}
	want := sample{CPU: 10, User: 7.5, Rate: 99000, Latency: 1500, Answers: 990, Lost: 10, Memory: 7, Responses: "NOERROR 990 (100.00%)"}
	if *m != want {
		t.Errorf("sample %+v, want %+v", *m, want)
	}
	if _, err := newSample("Queries completed: 0", stage.Usage{}, stage.Usage{}); err == nil {
		t.Error("a load without an answer is a sample")
	}
}

func TestRatiosAreToUnboundWithoutAList(t *testing.T) {
	r := &loadResults{}
	for _, cpu := range []float64{4, 2, 9} {
		r.add("cached", "unbound", &sample{CPU: cpu})
	}
	r.add("blocked", "cordon", &sample{CPU: 3})
	if got := r.ratio(r.rows[1]); got != "0.75" {
		t.Errorf("ratio %s to a median of 4, want 0.75", got)
	}
	var b strings.Builder
	r.print(&b)
	if !strings.Contains(b.String(), "| cached | unbound | 4.00 | 2.00 | 9.00 | 1.00 |") {
		t.Errorf("table:\n%s", b.String())
	}
}

func TestUnknownNamesAreRefused(t *testing.T) {
	if _, _, err := choose([]string{"cached", "no-such"}); err == nil {
		t.Error("a case that is not there was taken")
	}
	if _, err := (&stage.Options{}).Kinds([]string{"no-such"}); err == nil {
		t.Error("a server that is not there was taken")
	}
	loads, chosen, err := choose([]string{"steady", "dot"})
	if err != nil || len(loads) != 1 || loads[0].name != "dot" || len(chosen) != 1 || chosen[0].name != "steady" {
		t.Errorf("chosen %v and %v, %v", loads, chosen, err)
	}
}

func TestATableIsMarkdownThatPutsNumbersToTheRight(t *testing.T) {
	var b strings.Builder
	(&table{Title: "Title", Head: []string{"server", "lost:"}, Rows: [][]string{{"cordon", "0"}}, Notes: []string{"a note"}}).print(&b)
	if want := "### Title\n\n| server | lost |\n|---|---:|\n| cordon | 0 |\n\n- a note\n\n"; b.String() != want {
		t.Errorf("table:\n%s\nwant:\n%s", b.String(), want)
	}
}
