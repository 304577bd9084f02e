package blocklist

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/idna"
)

// Lengths of RFC 1035 §2.3.4, in bytes. A name of 255 bytes on the wire is at
// most 253 characters long in text without the trailing dot.
const (
	maxWireName = 255
	maxTextName = 253
	maxLabel    = 63
	maxLabels   = (maxWireName - 1) / 2
)

// aLabels turns A-labels into U-labels and back. Hyphens are not its business:
// labels such as "r3---x" are in use, and an A-label is known by its prefix.
var aLabels = idna.New(
	idna.MapForLookup(),
	idna.BidiRule(),
	idna.ValidateLabels(true),
	idna.CheckHyphens(false),
	idna.StrictDomainName(true),
)

// CheckName tells whether name has the one form in which a list may hold it:
// LDH labels and labels with underscores (RFC 5890 §2.3.1, RFC 8552) in lower
// case, A-labels that survive the way to Unicode and back (RFC 5891 §5.3, §5.4),
// no trailing dot, at most 253 bytes, and not an IP address. The error says
// what is wrong and what to write instead.
func CheckName(name string) error {
	problem, remedy := nameProblem(name)
	if problem == "" {
		return nil
	}
	return fmt.Errorf("name %s: %s; %s", quote(name), problem, remedy)
}

// CanonicalName turns a name as a person writes it (upper case, Unicode, one
// trailing dot) into the form of CheckName, or says why it cannot.
func CanonicalName(name string) (string, error) {
	canonical := strings.TrimSuffix(name, ".")
	if !isASCII(canonical) {
		a, err := aLabels.ToASCII(canonical)
		if err != nil {
			return "", fmt.Errorf("name %s has no form in A-labels: %w", quote(name), err)
		}
		canonical = a
	}
	canonical = asciiLower(canonical)
	if err := CheckName(canonical); err != nil {
		return "", err
	}
	return canonical, nil
}

// nameProblem is CheckName in two parts, both empty for a good name.
func nameProblem(name string) (problem, remedy string) {
	switch {
	case name == "":
		return "is empty", "write the name without a trailing dot"
	case strings.HasSuffix(name, "."):
		return "ends in a dot", "leave the trailing dot away"
	case len(name) > maxTextName:
		return fmt.Sprintf("is %d bytes long", len(name)), fmt.Sprintf("a DNS name has at most %d", maxTextName)
	case !isASCII(name):
		return "is not ASCII", "write internationalised labels as A-labels (xn--...)"
	case asciiLower(name) != name:
		return "has upper-case letters", fmt.Sprintf("write %s", quote(asciiLower(name)))
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if problem, remedy = labelProblem(label); problem != "" {
			return problem, remedy
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" {
		// No top-level domain is all digits (RFC 3696 §2), every IPv4 address
		// in text ends so.
		return "ends in a number, as an IP address does", "list names only, never addresses"
	}
	return "", ""
}

func labelProblem(label string) (problem, remedy string) {
	switch {
	case label == "":
		return "has an empty label", "write one dot between labels"
	case len(label) > maxLabel:
		return fmt.Sprintf("has a label of %d bytes", len(label)), fmt.Sprintf("a label has at most %d", maxLabel)
	case label[0] == '-' || label[len(label)-1] == '-':
		return fmt.Sprintf("has a label with a hyphen at an end (%q)", label), "hyphens stand only inside a label (RFC 5890 §2.3.1)"
	}
	for i := range len(label) {
		switch c := label[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return fmt.Sprintf("has the byte %q in a label", c), "labels hold a-z, 0-9, hyphen and underscore"
		}
	}
	if !strings.HasPrefix(label, "xn--") {
		return "", ""
	}
	unicode, err := aLabels.ToUnicode(label)
	if err != nil {
		return fmt.Sprintf("has a label that is no A-label (%q: %v)", label, err), "encode the label anew from its Unicode form"
	}
	back, err := aLabels.ToASCII(unicode)
	if err != nil || back != label {
		return fmt.Sprintf("has an A-label that does not round-trip (%q becomes %q)", label, back), "encode the label anew from its Unicode form"
	}
	return "", ""
}

// WireName gives a name in the form of CheckName as uncompressed wire format
// (RFC 1035 §3.1), which is how the query path holds names.
func WireName(name string) ([]byte, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	return appendWire(make([]byte, 0, len(name)+2), name), nil
}

// appendWire appends a name that CheckName accepts.
func appendWire(wire []byte, name string) []byte {
	for label := range strings.SplitSeq(name, ".") {
		wire = append(wire, byte(len(label)))
		wire = append(wire, label...)
	}
	return append(wire, 0)
}

// errWire is all there is to say of bytes that are no name: they come from the
// program, not from a person.
var errWire = errors.New("not a name in uncompressed wire format")

// TextName gives a name in wire format as text without a trailing dot ("." for
// the root). It is the inverse of WireName; bytes that a list could not hold
// are escaped as in RFC 1035 §5.1.
func TextName(wire []byte) (string, error) {
	if len(wire) == 0 || len(wire) > maxWireName {
		return "", errWire
	}
	var text strings.Builder
	for rest := wire; ; {
		n := int(rest[0])
		if n == 0 {
			if len(rest) != 1 {
				return "", errWire
			}
			break
		}
		if n > maxLabel || len(rest) < n+2 {
			return "", errWire
		}
		if text.Len() > 0 {
			text.WriteByte('.')
		}
		for _, c := range rest[1 : n+1] {
			switch {
			case c == '.' || c == '\\':
				text.WriteByte('\\')
				text.WriteByte(c)
			case c <= ' ' || c > '~':
				fmt.Fprintf(&text, `\%03d`, c)
			default:
				text.WriteByte(c)
			}
		}
		rest = rest[n+1:]
	}
	if text.Len() == 0 {
		return ".", nil
	}
	return text.String(), nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// asciiLower lowers A to Z alone: DNS knows no other letters (RFC 4343 §3).
func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// quote shows a value from outside in an error: quoted, and cut where it is long.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%q... (%d bytes)", s[:most], len(s))
	}
	return fmt.Sprintf("%q", s)
}
