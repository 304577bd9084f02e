package oversight

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"cordon/authority"
)

// WriteText writes the report for people: first what it comes to, then what each
// part says, then every finding, then what was not looked at.
func (r *Report) WriteText(w io.Writer) error {
	p := &printer{w: w}
	p.line("Verification of %s", minute(r.At))
	p.line("")
	p.paragraph("", r.conclusion())
	for _, l := range r.Logs {
		p.line("")
		l.write(p)
	}
	if r.Publication != nil {
		p.line("")
		p.line("PUBLICATION")
		p.paragraph("  ", fmt.Sprintf("Publications kept, each with the signatures that the authority's root of trust asks for: %d. Lists decrypted and compared, entry by entry, with what was approved: %d.",
			r.Publication.Kept, r.Publication.Compared))
	}
	for _, part := range []struct {
		severity Severity
		title    string
	}{
		{Alarm, "ALARMS (not as it was signed for)"},
		{Warning, "WARNINGS (irregular, to be explained)"},
		{Notice, "WORTH KNOWING (in order)"},
	} {
		if r.Count(part.severity) == 0 {
			continue
		}
		p.line("")
		p.line("%s", part.title)
		for _, f := range r.Findings {
			if f.Severity != part.severity {
				continue
			}
			p.line("")
			p.line("  %s: %s", f.Code, f.Where())
			p.paragraph("    ", sentence(f.What))
		}
	}
	if r.Unreported > 0 {
		p.line("")
		p.paragraph("  ", fmt.Sprintf("%d more findings are not shown.", r.Unreported))
	}
	if len(r.NotChecked) > 0 {
		p.line("")
		p.line("NOT CHECKED")
		for _, n := range r.NotChecked {
			p.paragraph("  - ", n)
		}
	}
	return p.err
}

// conclusion is the answer in a sentence or two.
func (r *Report) conclusion() string {
	alarms, warnings := uint64(r.Count(Alarm)), uint64(r.Count(Warning))
	switch {
	case alarms > 0:
		return fmt.Sprintf("RESULT: NOT IN ORDER. %s and %s, see below. An alarm means that a record, a list or a log is not what was signed for: keep the folder of the mirrors as it is; it holds the evidence.",
			count(alarms, "alarm"), count(warnings, "warning"))
	case warnings > 0:
		return fmt.Sprintf("RESULT: %s to be explained, see below. No record, list or log contradicts what was signed for.", count(warnings, "warning"))
	}
	if len(r.Missing) > 0 {
		return fmt.Sprintf("RESULT: INCOMPLETE. There is no copy of %s. Nothing of the rest contradicts what was signed for.", strings.Join(r.Missing, ", "))
	}
	s := "RESULT: in order. Nothing that was looked at contradicts what was signed for."
	if len(r.NotChecked) > 0 {
		s += " What was not looked at is listed at the end."
	}
	return s
}

func (l *LogReport) write(p *printer) {
	title := "REGISTER"
	if l.Kind == KindAudit {
		title = "AUDIT LOG"
	}
	p.line("%s %s (%s)", title, l.Name, l.Origin)
	text := fmt.Sprintf("%s in the copy, each proven to be in the log that its key signed.", count(l.Size, "leaf"))
	if l.Checkpoints > 0 {
		text += fmt.Sprintf(" Signed states of the log seen since %s: %d, all of one history to which was only added.", day(l.Since), l.Checkpoints)
	}
	if !l.Mirrored.IsZero() {
		text += fmt.Sprintf(" Last mirrored on %s.", minute(l.Mirrored))
	}
	p.paragraph("  ", text)
	if r := l.Register; r != nil {
		r.write(p, l.Size)
	}
	if a := l.Audit; a != nil {
		a.write(p)
	}
}

func (r *RegisterReport) write(p *printer, size uint64) {
	text := fmt.Sprintf("Kept by %s under the procedure %s, with %s.", r.Authority, r.Procedure, count(uint64(r.Officers), "officer"))
	var states []string
	for _, s := range []authority.State{authority.StateProposed, authority.StateApproved, authority.StateListed, authority.StateLifted, authority.StateEnded} {
		if n := r.States[string(s)]; n > 0 {
			states = append(states, fmt.Sprintf("%d %s", n, s))
		}
	}
	text += fmt.Sprintf(" %s", count(uint64(r.Measures), "measure"))
	if len(states) > 0 {
		text += " (" + strings.Join(states, ", ") + ")"
	}
	if r.Lists == 0 {
		text += "; no list was published yet."
	} else {
		text += fmt.Sprintf("; %s published, the last, list %d with %s, on %s.", count(uint64(r.Lists), "list"), r.Serial, count(uint64(r.Entries), "entry"), minute(r.Published))
	}
	if r.Verified == size {
		text += " Each statement was signed by an officer who might make it, and each list holds what was approved and nothing else."
	} else {
		text += fmt.Sprintf(" Only the first %d leaves keep the rules.", r.Verified)
	}
	p.paragraph("  ", text)
}

func (a *AuditReport) write(p *printer) {
	text := fmt.Sprintf("%s of the resolver: %s to block and %s.", count(a.Records, "record"), count(a.Decisions, "decision"), count(a.Events, "event"))
	if a.Compared > 0 {
		text += fmt.Sprintf(" Leaves whose raw records were compared: %d.", a.Compared)
	}
	for _, l := range a.Lists {
		text += fmt.Sprintf(" In force: list %d of %s (%s), since %s.", l.Serial, l.Authority, l.List, minute(l.Since))
	}
	p.paragraph("  ", text)
}

// lineWidth is how wide text is set, in characters.
const lineWidth = 96

// printer writes lines and keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// paragraph sets text; prefix stands before its first line, spaces before the
// others. A word that is longer than a line, such as a path, stays whole.
func (p *printer) paragraph(prefix, text string) {
	line, rest := prefix, strings.Repeat(" ", len(prefix))
	empty := true
	for _, word := range strings.Fields(printable(text)) {
		if !empty && len(line)+1+len(word) > lineWidth {
			p.line("%s", line)
			line, empty = rest, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	p.line("%s", line)
}

// printable keeps what logs say, hostile names for instance, from driving the
// terminal.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' || c >= 0x7f && c < 0xa0 || c == 0x2028 || c == 0x2029 || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 {
			return '\ufffd'
		}
		return c
	}, s)
}

// sentence begins with a capital and ends with a full stop.
func sentence(s string) string {
	if s == "" {
		return s
	}
	if c := s[0]; c >= 'a' && c <= 'z' {
		s = string(c-'a'+'A') + s[1:]
	}
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

// irregular are the plurals that are not made with an s.
var irregular = map[string]string{"leaf": "leaves", "entry": "entries"}

// count is "1 leaf", "2 leaves".
func count(n uint64, word string) string {
	if n == 1 {
		return "1 " + word
	}
	if p, ok := irregular[word]; ok {
		return fmt.Sprintf("%d %s", n, p)
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// table writes rows under a head, in columns that fit them; no column is wider
// than its limit (0: none), the rest of a cell is cut with an ellipsis.
func (p *printer) table(limits []int, head []string, rows [][]string) {
	all := append([][]string{head}, rows...)
	width := make([]int, len(head))
	for _, row := range all {
		for i := range row {
			row[i] = printable(row[i])
			if limits[i] > 0 && len([]rune(row[i])) > limits[i] {
				row[i] = string([]rune(row[i])[:limits[i]-1]) + "…"
			}
			width[i] = max(width[i], len([]rune(row[i])))
		}
	}
	for _, row := range all {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-len([]rune(cell))+2))
			}
		}
		p.line("%s", strings.TrimRight(b.String(), " "))
	}
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// clock is a time in a table.
func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}
