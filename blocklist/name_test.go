package blocklist

import (
	"bytes"
	"strings"
	"testing"
)

func TestCheckNameAccepts(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, name := range []string{
		"propagande.example",
		"a.b.c.d.e.f.g.example",
		"example", // a guard's business, not the format's
		"_dmarc.example.com",
		"under_score.example",
		"3com.example",
		"r3---sn-25ge7nsl.example",
		"xn--rsum-bpad.example",
		"xn--n3h.example",               // a symbol, valid in UTS 46 and in use
		"xn--p1ai.xn--p1ai",             // Cyrillic
		"xn--mgbaam7a8h.xn--mgbaam7a8h", // right to left
		long + ".example",
		strings.Repeat(long+".", 3) + long[:61],
		strings.Repeat("a.", 126) + "a",
	} {
		if err := CheckName(name); err != nil {
			t.Errorf("%v", err)
		}
		wire, err := WireName(name)
		if err != nil || len(wire) != len(name)+2 {
			t.Errorf("WireName(%q) = %q, %v", name, wire, err)
			continue
		}
		if back, err := TextName(wire); back != name || err != nil {
			t.Errorf("TextName(WireName(%q)) = %q, %v", name, back, err)
		}
	}
}

func TestCanonicalName(t *testing.T) {
	for _, c := range []struct{ in, want, says string }{
		{"Propagande.EXAMPLE", "propagande.example", ""},
		{"propagande.example.", "propagande.example", ""},
		{"Résumé.example", "xn--rsum-bpad.example", ""},
		{"RÉSUMÉ.example.", "xn--rsum-bpad.example", ""},
		{"_sip.example", "_sip.example", ""},
		{"propagande.example..", "", "ends in a dot"},
		{"", "", "is empty"},
		{".", "", "is empty"},
		{"a b.example", "", "byte ' '"},
		{"é\u202e.example", "", "no form in A-labels"},
		{"192.0.2.1", "", "never addresses"},
	} {
		got, err := CanonicalName(c.in)
		if got != c.want || (err == nil) != (c.says == "") || (err != nil && !strings.Contains(err.Error(), c.says)) {
			t.Errorf("CanonicalName(%q) = %q, %v; want %q, %q", c.in, got, err, c.want, c.says)
		}
	}
}

func TestWireNameRefusesWhatCheckNameRefuses(t *testing.T) {
	for _, name := range []string{"", ".", "A.example", "a..b", strings.Repeat("a", 64), "xn--images.example"} {
		if wire, err := WireName(name); err == nil {
			t.Errorf("WireName(%q) = %q", name, wire)
		}
	}
}

func TestTextNameEscapes(t *testing.T) {
	for _, c := range []struct{ wire, want string }{
		{"\x00", "."},
		{"\x01a\x00", "a"},
		{"\x03a.b\x00", `a\.b`},
		{"\x03a\\b\x00", `a\\b`},
		{"\x03a\x00b\x01c\x00", `a\000b.c`},
		{"\x01\xff\x01 \x00", `\255.\032`},
	} {
		if got, err := TextName([]byte(c.wire)); got != c.want || err != nil {
			t.Errorf("TextName(%q) = %q, %v; want %q", c.wire, got, err, c.want)
		}
	}
}

func TestTextNameRefusesBrokenNames(t *testing.T) {
	for _, wire := range []string{
		"", "\x01", "\x01a", "\x02a\x00", "\x00\x00", "\x01a\x00a", "\x40" + strings.Repeat("a", 64) + "\x00",
		"\xc0\x0c", strings.Repeat("\x01a", 127) + "\x01a\x00",
	} {
		if got, err := TextName([]byte(wire)); err == nil {
			t.Errorf("TextName(%q) = %q", wire, got)
		}
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"propagande.example", "xn--rsum-bpad.example", "A.example.", "é.example", "xn--a", "a..b", "1.2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		wire, err := WireName(name)
		if (err == nil) != (CheckName(name) == nil) {
			t.Fatal("WireName and CheckName do not agree")
		}
		if err == nil {
			if back, err := TextName(wire); err != nil || back != name {
				t.Fatalf("%q came back as %q, %v", name, back, err)
			}
			if again, err := CanonicalName(name); err != nil || again != name {
				t.Fatalf("canonical %q became %q, %v", name, again, err)
			}
		}
		if c, err := CanonicalName(name); err == nil && CheckName(c) != nil {
			t.Fatalf("CanonicalName(%q) = %q, which is not canonical", name, c)
		}
	})
}

func FuzzTextName(f *testing.F) {
	f.Add([]byte("\x01a\x00"))
	f.Add([]byte("\x03a.b\x01\xff\x00"))
	f.Add([]byte("\xc0\x0c"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		text, err := TextName(wire)
		if err != nil {
			return
		}
		if back, err := WireName(text); err == nil && !bytes.Equal(back, wire) {
			t.Fatalf("%q became %q became %q", wire, text, back)
		}
	})
}
