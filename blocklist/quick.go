package blocklist

import (
	"bytes"
	"strings"
	"time"
)

// quickReader reads entries in the one spelling of the format; see read.
type quickReader struct {
	leads [][]byte          // what stands before each value of an entry
	words map[string]string // see once
	texts texts
}

func newQuickReader() *quickReader {
	q := &quickReader{words: make(map[string]string)}
	for i, key := range entryFields {
		lead := `","` + key + `":"`
		if i == 0 {
			lead = `{"` + key + `":"`
		}
		q.leads = append(q.leads, []byte(lead))
	}
	return q
}

// read reads an entry in the spelling of the format, without a thought to any
// other; false for a line that it cannot read, or that may have another spelling.
// Most of the time that a long list takes would go into taking JSON apart, and
// into writing it down again to compare.
//
// What it reads has one spelling: the keys and what stands between the values are
// compared byte by byte, no value has an escape or a character that wants one
// (check refuses those of JavaScript, U+2028 and U+2029), and a time or a day of
// that length that can be read is written in that way.
func (q *quickReader) read(text []byte, e *Entry) bool {
	var values [9][]byte // of entryFields
	for i, field := range q.leads {
		rest, ok := bytes.CutPrefix(text, field)
		end := bytes.IndexByte(rest, '"')
		if !ok || end < 0 {
			return false
		}
		for _, c := range rest[:end] {
			if c < ' ' || c == '\\' {
				return false
			}
		}
		values[i], text = rest[:end], rest[end:]
	}
	if string(text) != "\"}\n" {
		return false
	}
	var ok [3]bool
	e.ID, e.Name, e.Decision = q.texts.keep(values[0]), q.texts.keep(values[1]), q.texts.keep(values[5])
	e.Category, e.LegalBasis = q.once(values[3]), q.once(values[4])
	e.Notified, ok[0] = quickTime(values[6])
	e.InForce, ok[1] = quickTime(values[7])
	e.ReviewBy.Time, ok[2] = quickDay(values[8])
	var err error
	e.Scope, err = ParseScope(string(values[2]))
	return err == nil && ok == [3]bool{true, true, true}
}

// quickTime reads a time in the one form of the format; false for any other, and
// for one that does not exist.
func quickTime(b []byte) (time.Time, bool) {
	if len(b) != len("2006-01-02T15:04:05Z") || b[10] != 'T' || b[13] != ':' || b[16] != ':' || b[19] != 'Z' {
		return time.Time{}, false
	}
	day, ok := quickDay(b[:10])
	h, ok1 := digits(b[11:13])
	m, ok2 := digits(b[14:16])
	s, ok3 := digits(b[17:19])
	if !ok || !ok1 || !ok2 || !ok3 || h > 23 || m > 59 || s > 59 {
		return time.Time{}, false
	}
	return day.Add(time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second), true
}

func quickDay(b []byte) (time.Time, bool) {
	if len(b) != len("2006-01-02") || b[4] != '-' || b[7] != '-' {
		return time.Time{}, false
	}
	y, ok := digits(b[:4])
	m, ok1 := digits(b[5:7])
	d, ok2 := digits(b[8:10])
	if !ok || !ok1 || !ok2 || m < 1 || m > 12 || d < 1 {
		return time.Time{}, false
	}
	t := time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC)
	return t, t.Day() == d // time.Date makes 1 March of 29 February where there is none
}

func digits(b []byte) (n int, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// once keeps texts that repeat from entry to entry in memory once.
func (q *quickReader) once(text []byte) string {
	if kept, ok := q.words[string(text)]; ok {
		return kept
	}
	s := q.texts.keep(text)
	q.words[s] = s
	return s
}

// texts keeps many short texts in few pieces of memory: one by one they would take
// half as much again, and the garbage collector would have three million more things to mark
// in a long list.
type texts struct{ piece strings.Builder }

const pieceSize = 64 << 10 // bytes

func (t *texts) keep(text []byte) string {
	if t.piece.Cap()-t.piece.Len() < len(text) {
		// What was kept holds on to the piece that it is in.
		t.piece = strings.Builder{}
		t.piece.Grow(max(pieceSize, len(text)))
	}
	from := t.piece.Len()
	t.piece.Write(text)
	return t.piece.String()[from:]
}
