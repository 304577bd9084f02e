package oversight

import (
	"fmt"
	"io"
	"strconv"
)

// WriteLists writes list changes for people.
func WriteLists(w io.Writer, all []ListChange) error {
	p := &printer{w: w}
	if len(all) == 0 {
		p.line("no list was published yet")
	}
	for i, l := range all {
		if i > 0 {
			p.line("")
		}
		published := "not in the register that is followed"
		if !l.Published.IsZero() {
			published = "published " + clock(l.Published)
		}
		p.line("list %d of %s: %s, %s", l.Serial, printable(l.Authority), published, count(uint64(l.Entries), "entry"))
		var rows [][]string
		for _, c := range l.Added {
			rows = append(rows, []string{"  + " + c.ID, c.Name, c.Scope, c.Category, "decision " + c.Decision})
		}
		for _, c := range l.Lifted {
			why := "ended"
			if c.Ground != "" {
				why = "lifted: " + c.Ground
			}
			rows = append(rows, []string{"  - " + c.ID, c.Name, c.Scope, c.Category, why + ", decision " + c.Decision})
		}
		if len(rows) > 0 {
			p.table([]int{20, 40, 6, 12, 36}, []string{"    ENTRY", "NAME", "SCOPE", "CATEGORY", ""}, rows)
		}
		for _, a := range l.Applied {
			p.line("  in force at %s (%s) since %s", a.Log, printable(a.List), clock(a.At))
		}
	}
	return p.err
}

// WriteDecisions writes counts for people: a row for each day and entry, and one
// below it for each name where there are several.
func WriteDecisions(w io.Writer, all []Decisions) error {
	p := &printer{w: w}
	if len(all) == 0 {
		p.line("no decisions")
		return p.err
	}
	var rows [][]string
	var total uint64
	for _, d := range all {
		total += d.Count
		first := []string{d.Day, d.Log, d.List, d.Entry}
		if len(d.Names) != 1 || d.Other > 0 {
			rows = append(rows, append(first, "(all names)", strconv.FormatUint(d.Count, 10)))
			first = []string{"", "", "", ""}
		}
		for _, n := range d.Names {
			rows = append(rows, append(first[:4:4], n.Name, strconv.FormatUint(n.Count, 10)))
			first = []string{"", "", "", ""}
		}
		if d.Other > 0 {
			rows = append(rows, append(first[:4:4], "(further names)", strconv.FormatUint(d.Other, 10)))
		}
	}
	p.table([]int{0, 20, 16, 20, 60, 0}, []string{"DAY", "LOG", "LIST", "ENTRY", "NAME", "BLOCKS"}, rows)
	p.line("")
	p.line("%s in all", count(total, "block"))
	return p.err
}

// WriteEvents writes events for people.
func WriteEvents(w io.Writer, all []Happening) error {
	p := &printer{w: w}
	if len(all) == 0 {
		p.line("no events")
		return p.err
	}
	var rows [][]string
	for _, h := range all {
		record := "-"
		if h.Seq > 0 {
			record = fmt.Sprint(h.Seq)
		}
		rows = append(rows, []string{clock(h.At), h.Log, record, h.Type, h.What})
	}
	p.table([]int{0, 20, 0, 16, 70}, []string{"TIME (UTC)", "LOG", "RECORD", "EVENT", "WHAT"}, rows)
	return p.err
}
