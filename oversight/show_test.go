package oversight

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"cordon/audit"
)

// written gives what a writer writes, less white space at the ends of lines.
func written[T any](t *testing.T, write func(*bytes.Buffer, T) error, v T) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestListsAreShownWithTheirDecisions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mirror()
	lists, err := w.desk().Lists(t.Context())
	w.must(err)
	const want = `list 1 of Office of the example: published 2026-03-02 10:06:00, 1 entry
    ENTRY      NAME                SCOPE   CATEGORY
  + 2026-0001  propagande.example  domain  terrorism  decision D-1
  in force at isp (national) since 2026-03-02 11:00:02

list 2 of Office of the example: published 2026-03-02 10:15:00, 1 entry
    ENTRY      NAME                SCOPE   CATEGORY
  + 2026-0002  images.example      host    minors     decision D-2
  - 2026-0001  propagande.example  domain  terrorism  lifted: gone, decision D-1
  in force at isp (national) since 2026-03-02 11:00:06
`
	got := written(t, func(b *bytes.Buffer, v []ListChange) error { return WriteLists(b, v) }, lists)
	if mask(got) != mask(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// mask hides minutes and seconds: how often a clock is read is no one's concern.
func mask(s string) string {
	fields := strings.Split(s, ":")
	for i := 1; i < len(fields); i++ {
		if len(fields[i]) >= 2 && fields[i][0] >= '0' && fields[i][0] <= '9' && fields[i][1] >= '0' && fields[i][1] <= '9' {
			fields[i] = "00" + fields[i][2:]
		}
	}
	return strings.Join(fields, ":")
}

func TestDecisionsAreCountedByDayEntryAndName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := audit.Decisions{Type: audit.TypeDecisions, FirstSeq: 9, LastSeq: 400, From: start.AddDate(0, 0, 1), To: start.AddDate(0, 0, 1),
		Tally: []audit.Line{{List: "national", Serial: 2, Entry: "2026-0002", Name: "images.example", Qtype: "AAAA", Transport: "tcp", Action: "stop-page", Count: 5}},
		Other: []audit.Other{{List: "national", Serial: 2, Entry: "2026-0002", Count: 7}}}
	w.extend("isp", w.canonical(d))
	w.mirror()
	all, err := w.desk().Decisions(t.Context(), Filter{})
	w.must(err)
	const want = `DAY         LOG  LIST      ENTRY      NAME                    BLOCKS
2026-03-02  isp  national  2026-0001  (all names)             3
                                      alias.libre.example     1
                                      propagande.example      1
                                      www.propagande.example  1
2026-03-02  isp  national  2026-0002  images.example          1
2026-03-03  isp  national  2026-0002  (all names)             12
                                      images.example          5
                                      (further names)         7

16 blocks in all
`
	if got := written(t, func(b *bytes.Buffer, v []Decisions) error { return WriteDecisions(b, v) }, all); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, test := range []struct {
		filter Filter
		count  uint64
	}{
		{Filter{Entry: "2026-0002"}, 13},
		{Filter{Day: start}, 4},
		{Filter{Entry: "2026-0002", Day: start.AddDate(0, 0, 1)}, 12},
		{Filter{Entry: "2026-0003"}, 0},
	} {
		some, err := w.desk().Decisions(t.Context(), test.filter)
		w.must(err)
		var sum uint64
		for _, d := range some {
			sum += d.Count
		}
		if sum != test.count {
			t.Errorf("%+v: %d blocks, want %d", test.filter, sum, test.count)
		}
	}
}

func TestEventsAreShownInTheOrderOfTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mirror()
	all, err := w.desk().Events(t.Context())
	w.must(err)
	var kinds []string
	for i, h := range all {
		kinds = append(kinds, h.Type)
		if i > 0 && h.At.Before(all[i-1].At) {
			t.Errorf("%s stands behind %s", h.At, all[i-1].At)
		}
	}
	if got := strings.Join(kinds, " "); got != "started list.applied list.applied stopped auditor.started auditor.stopped" {
		t.Errorf("events: %s", got)
	}
	text := written(t, func(b *bytes.Buffer, v []Happening) error { return WriteEvents(b, v) }, all)
	if !strings.Contains(text, "2       list.applied     national: list 1 in force, 1 entry, from fetch\n") {
		t.Errorf("events:\n%s", text)
	}
}

func TestWhatALogSaysCannotDriveTheTerminal(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := WriteEvents(&b, []Happening{{At: time.Unix(0, 0), Log: "isp", Type: "x", What: "\x1b[2J\u202ehidden"}}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\u202e") {
		t.Errorf("%q", b.String())
	}
}
