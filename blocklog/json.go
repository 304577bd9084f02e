package blocklog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Canonical marshals v to the one JSON text that this project signs and
// hashes: RFC 8785 restricted to integers, with members sorted by name, no white
// space and no needless escapes. A number with a fraction or an exponent is an
// error; bytes that are not UTF-8 become U+FFFD, since what is recorded here may
// quote hostile input. A [json.RawMessage] is brought into that form.
func Canonical(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	var tree any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	if err := integersOnly(tree); err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(tree); err != nil { // sorts the members of maps
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	// The encoder escapes these two for JavaScript; RFC 8785 §3.2.2.2 does not.
	text := out.Bytes()
	if bytes.Contains(text, []byte(`\u202`)) {
		text = unescapeSeparators(text)
	}
	return bytes.TrimSuffix(text, []byte("\n")), nil
}

func integersOnly(v any) error {
	switch v := v.(type) {
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") || v == "-0" {
			return fmt.Errorf("number %s is not a plain integer", v)
		}
	case []any:
		for _, e := range v {
			if err := integersOnly(e); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, e := range v {
			if err := integersOnly(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// unescapeSeparators replaces \u2028 and \u2029, but not the text `\\u2028`.
func unescapeSeparators(text []byte) []byte {
	var out []byte
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] != '\\':
			out = append(out, text[i])
		case bytes.HasPrefix(text[i:], []byte(`\u2028`)):
			out = append(out, "\u2028"...)
			i += 5
		case bytes.HasPrefix(text[i:], []byte(`\u2029`)):
			out = append(out, "\u2029"...)
			i += 5
		default:
			out = append(out, text[i], text[i+1])
			i++
		}
	}
	return out
}

// NameText is the presentation form of a name in wire form (RFC 1035 §5.1)
// without the trailing dot; dots within a label and bytes that are not
// printable ASCII are escaped, so that it is one line and names one name.
func NameText(wire []byte) string {
	text, n, err := dns.UnpackDomainName(wire, 0)
	if err != nil || n != len(wire) {
		return fmt.Sprintf("(not a name: %x)", wire)
	}
	if text == "." {
		return text
	}
	return strings.TrimSuffix(text, ".")
}

// TypeText is the mnemonic of a question type, or TYPE65400 for one without
// (RFC 3597 §5).
func TypeText(t uint16) string { return dns.Type(t).String() }

// ParseType reads what TypeText gives. It reads TYPE65 as well as HTTPS, so
// that text written before a type had a mnemonic stays readable.
func ParseType(text string) (uint16, error) {
	if t, ok := dns.StringToType[text]; ok {
		return t, nil
	}
	digits, ok := strings.CutPrefix(text, "TYPE")
	t, err := strconv.ParseUint(digits, 10, 16)
	if !ok || err != nil {
		return 0, fmt.Errorf("%q is not a record type", text)
	}
	return uint16(t), nil
}

// WriteJSON renders a record as one line of JSON: seq, time (RFC 3339, UTC),
// type; of a decision ("type":"decision") the enforced match and the question,
// count and, where other lists covered the name too, also; of an event its
// data.
func WriteJSON(w io.Writer, r Record) error {
	line := struct {
		Seq       uint64          `json:"seq"`
		Time      string          `json:"time"`
		Type      string          `json:"type"`
		List      string          `json:"list,omitempty"`
		Serial    *uint64         `json:"serial,omitempty"`
		Entry     string          `json:"entry,omitempty"`
		Name      string          `json:"name,omitempty"`
		Qtype     string          `json:"qtype,omitempty"`
		Transport string          `json:"transport,omitempty"`
		Action    string          `json:"action,omitempty"`
		Count     uint32          `json:"count,omitempty"`
		Also      []Match         `json:"also,omitempty"`
		Data      json.RawMessage `json:"data,omitempty"`
	}{Seq: r.Seq, Time: time.Unix(r.Time, 0).UTC().Format(time.RFC3339)}
	if d := r.Decision; d != nil {
		line.Type = "decision"
		line.List, line.Serial, line.Entry = d.Matches[0].List, &d.Matches[0].Serial, d.Matches[0].Entry
		line.Name, line.Qtype = NameText(d.Name), TypeText(d.Type)
		line.Transport, line.Action, line.Count = d.Transport.String(), d.Action.String(), d.Count
		line.Also = d.Matches[1:]
	} else {
		line.Type, line.Data = r.Event.Kind, r.Event.Data
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(line)
}
