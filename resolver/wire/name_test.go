package wire

import (
	"strings"
	"testing"
)

func TestReadNameFollowsPointersBackwardsOnly(t *testing.T) {
	header := strings.Repeat("\xff", headerLen)
	tests := []struct {
		name string
		msg  string // behind the header
		at   int    // offset behind the header
		want string // "" for malformed
	}{
		{"no pointer", "\x01A\x00", 0, "\x01a\x00"},
		{"one pointer", "\x01a\x00\x01b\xc0\x0c", 3, "\x01b\x01a\x00"},
		{"two pointers", "\x01a\x00\x01b\xc0\x0c\x01c\xc0\x0f", 7, "\x01c\x01b\x01a\x00"},
		{"a pointer to itself", "\xc0\x0c", 0, ""},
		{"a pointer forwards", "\xc0\x0e\x00", 0, ""},
		{"a pointer back into its own name", "\x01a\xc0\x0c", 0, ""},
		{"two pointers in a circle", "\xc0\x0e\xc0\x0c", 2, ""},
		{"a pointer into the header", "\xc0\x00", 0, ""},
		{"half a pointer", "\x01a\xc0", 0, ""},
		{"a label past the end", "\x05a", 0, ""},
		{"no end", "\x01a", 0, ""},
		{"an extended label", "\x41a\x00", 0, ""},
		{"255 bytes by way of a pointer", strings.Repeat("\x3f"+strings.Repeat("x", 63), 3) + "\x3d" + strings.Repeat("y", 61) + "\x00" + "\xc0\x0c", 255,
			strings.Repeat("\x3f"+strings.Repeat("x", 63), 3) + "\x3d" + strings.Repeat("y", 61) + "\x00"},
		{"a long name made longer", strings.Repeat("\x3f"+strings.Repeat("x", 63), 3) + "\x3d" + strings.Repeat("y", 61) + "\x00" + "\x01z\xc0\x0c", 255, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := readName([]byte(header+tt.msg), headerLen+tt.at)
			if ok != (tt.want != "") || ok && string(got) != tt.want {
				t.Errorf("readName = %q, %v; want %q", got, ok, tt.want)
			}
		})
	}
}

func TestParseNameIsStrict(t *testing.T) {
	for text, want := range map[string]string{
		"www.Example":   "\x03www\x07example\x00",
		"www.example.":  "\x03www\x07example\x00",
		".":             "\x00",
		`a\.b.example`:  "\x03a.b\x07example\x00",
		`\065\000.ARPA`: "\x02a\x00\x04arpa\x00",
	} {
		got, err := ParseName(text)
		if err != nil || string(got) != want {
			t.Errorf("ParseName(%q) = %q, %v; want %q", text, got, err, want)
		}
		if back, err := ParseName(NameText(got)); err != nil || string(back) != want {
			t.Errorf("%q does not survive NameText: %q, %v", text, back, err)
		}
	}
	for _, text := range []string{
		"a..b",
		strings.Repeat("a", 64) + ".example",
		strings.Repeat("a.", 128),
	} {
		if got, err := ParseName(text); err == nil {
			t.Errorf("ParseName(%q) = %q", text, got)
		}
	}
	if got := NameText([]byte{5, 'a'}); !strings.Contains(got, "malformed") {
		t.Errorf("NameText of half a name = %q", got)
	}
}
