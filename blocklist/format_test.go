package blocklist

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

var update = flag.Bool("update", false, "write testdata/french.list.zst anew")

func frenchText(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("testdata/french.list")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func parse(t testing.TB, text string) *List {
	t.Helper()
	l, err := Parse(strings.NewReader(text), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func encode(t testing.TB, l *List) string {
	t.Helper()
	var b bytes.Buffer
	if err := l.Encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestParseReadsEveryField(t *testing.T) {
	l := parse(t, frenchText(t))
	want := Header{
		Format: Format, Authority: "Office central de démonstration", Serial: 42, Entries: 5, AnswerTTL: 60,
		Issued:     time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC),
		ValidUntil: time.Date(2026, 3, 8, 9, 30, 0, 0, time.UTC),
		Categories: map[string]StopPage{
			"minors": {
				IPv4: []netip.Addr{netip.MustParseAddr("192.0.2.80")},
				IPv6: []netip.Addr{netip.MustParseAddr("2001:db8::80")},
				Page: "https://stop.example/minors",
			},
			"terrorism": {
				IPv4: []netip.Addr{netip.MustParseAddr("192.0.2.81"), netip.MustParseAddr("192.0.2.82")},
				Page: "https://stop.example/terrorism?lang=fr&more=1",
			},
		},
	}
	if !reflect.DeepEqual(l.Header, want) {
		t.Errorf("header\n got %+v\nwant %+v", l.Header, want)
	}
	first := Entry{
		ID: "2026-0003", Name: "_sip._tcp.images.example", Scope: ScopeHost, Category: "minors",
		LegalBasis: "LCEN 6-1; CP 227-23", Decision: "PHAROS/2026/3",
		Notified: time.Date(2026, 2, 27, 8, 0, 0, 0, time.UTC),
		InForce:  time.Date(2026, 2, 28, 8, 0, 0, 0, time.UTC),
		ReviewBy: Date{time.Date(2026, 5, 27, 0, 0, 0, 0, time.UTC)},
	}
	if !reflect.DeepEqual(l.Entries[0], first) {
		t.Errorf("first entry\n got %+v\nwant %+v", l.Entries[0], first)
	}
	if e := l.Entries[2]; e.Scope != ScopeDomain || e.Decision != `PHAROS/2026/1 « dit "le premier" »` {
		t.Errorf("third entry is %+v", e)
	}
}

func TestEncodeGivesTheTextBack(t *testing.T) {
	text := frenchText(t)
	l := parse(t, text)
	if got := encode(t, l); got != text {
		t.Errorf("got\n%s\nwant\n%s", got, text)
	}
	sum, err := l.SHA256()
	if err != nil || sum != sha256.Sum256([]byte(text)) {
		t.Errorf("SHA256() = %x, %v", sum, err)
	}
}

func TestEncodeSortsAndCountsWithoutTouchingTheList(t *testing.T) {
	text := frenchText(t)
	l := parse(t, text)
	e := l.Entries
	e[0], e[4] = e[4], e[0]
	e[2], e[3] = e[3], e[2]
	l.Header.Entries, l.Header.Format = 0, ""
	first := e[0].ID
	if got := encode(t, l); got != text {
		t.Errorf("got\n%s\nwant\n%s", got, text)
	}
	if e[0].ID != first || l.Header.Format != "" {
		t.Error("Encode changed the list that it was given")
	}
}

func TestTheCompressedFormOfEarlierReleasesIsRead(t *testing.T) {
	text := frenchText(t)
	if *update {
		var b bytes.Buffer
		if err := Encode(&b, parse(t, text)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("testdata/french.list.zst", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open("testdata/french.list.zst")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, sum, err := decode(t.Context(), f, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(l, parse(t, text)) {
		t.Error("the compressed list and its text differ")
	}
	if sum != sha256.Sum256([]byte(text)) {
		t.Errorf("digest of the text is %x", sum)
	}
}

func TestDecodeUndoesEncode(t *testing.T) {
	l := parse(t, frenchText(t))
	var b bytes.Buffer
	if err := Encode(&b, l); err != nil {
		t.Fatal(err)
	}
	got, err := Decode(&b, Limits{})
	if err != nil || !reflect.DeepEqual(got, l) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// compressed compresses any text.
func compressed(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDecodeIsBounded(t *testing.T) {
	header, rest, _ := strings.Cut(frenchText(t), "\n")
	whole := compressed(t, header+"\n"+rest)
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-1] ^= 1
	for _, c := range []struct {
		name   string
		data   []byte
		limits Limits
		want   string
	}{
		{"a line that never ends", compressed(t, strings.Repeat(" ", 10<<20)), Limits{}, "line 1: is too long"},
		{"endless lines", compressed(t, header+strings.Repeat("\n", 1<<20)), Limits{}, "line 2"},
		{"more bytes than allowed", whole, Limits{MaxBytes: 600}, "limit of 600 bytes"},
		{"more entries than allowed", whole, Limits{MaxEntries: 4}, "limit is set to 4"},
		{"a longer line than allowed", whole, Limits{MaxLine: 100}, "limit is 100 bytes"},
		{"a cut file", whole[:len(whole)-20], Limits{}, "unexpected EOF"},
		{"a changed checksum", flipped, Limits{}, "CRC check failed"},
		{"no zstd at all", []byte(header), Limits{}, "invalid input: magic number mismatch"},
		{"nothing", nil, Limits{}, "header is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := Decode(bytes.NewReader(c.data), c.limits)
			if l != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v; want %q", l, err, c.want)
			}
		})
	}
}

// TestParseRefuses changes one thing in a good list and looks at what is said
// about it.
func TestParseRefuses(t *testing.T) {
	good := frenchText(t)
	long := strings.Repeat("a", 63)
	for _, c := range []struct {
		name     string
		line     int // to change
		old, new string
		at       int // line named in the error, if not line
		field    string
		says     string
	}{
		// The text.
		{"a header that is an array", 1, `{"format"`, `[{"format"`, 0, "", "is not an object"},
		{"an unknown format", 1, `list/1`, `list/2`, 0, "format", `this program reads "cordon-list/1"`},
		{"an unknown header field", 1, `"serial":42`, `"serial":42,"comment":""`, 0, "comment", "is not known"},
		{"a field in other case", 1, `"serial"`, `"Serial"`, 0, "Serial", "is not known"},
		{"a missing header field", 1, `"serial":42,`, ``, 0, "serial", "is missing"},
		{"a repeated header field", 1, `"serial":42`, `"serial":41,"serial":42`, 0, "serial", "is there twice"},
		{"a repeated category", 1, `"terrorism":`, `"minors":`, 0, "categories.minors", "is there twice"},
		{"an unknown entry field", 2, `"id":`, `"note":"x","id":`, 0, "note", "is not known"},
		{"a missing entry field", 3, `,"review_by":"2026-05-26"`, ``, 0, "review_by", "is missing"},
		{"a repeated entry field", 3, `"scope":"host"`, `"scope":"host","scope":"host"`, 0, "scope", "is there twice"},
		{"a key escaped to look new", 3, `"scope":"host"`, `"scope":"host","sc\u006fpe":"domain"`, 0, "scope", "is there twice"},
		{"null for a text", 3, `"PHAROS/2026/2"`, `null`, 0, "decision", "is not a string"},
		{"a number for a text", 3, `"PHAROS/2026/2"`, `2`, 0, "decision", "is not a string"},
		{"null for addresses", 1, `"ipv6":[]`, `"ipv6":null`, 0, "categories.terrorism.ipv6", "is not an array"},
		{"bad JSON", 4, `,"scope"`, `"scope"`, 0, "", "is not JSON"},
		{"garbage behind an entry", 4, `"2026-05-25"}`, `"2026-05-25"}{}`, 0, "", "followed by more"},
		{"an empty line", 4, `{"id":"2026-0001"`, "\n" + `{"id":"2026-0001"`, 0, "", "is not JSON"},
		{"white space", 4, `,"name":`, `, "name":`, 0, "", "one spelling"},
		{"a carriage return", 4, `"2026-05-25"}`, `"2026-05-25"}` + "\r", 0, "", "one spelling"},
		{"fields in another order", 3, `"scope":"host","category":"minors"`, `"category":"minors","scope":"host"`, 0, "", "one spelling"},
		{"a needless escape", 3, `images`, `im\u0061ges`, 0, "", "one spelling"},
		{"bytes that are not UTF-8", 3, `PHAROS`, "PH\xffROS", 0, "", "is not UTF-8"},
		{"a lone surrogate", 3, `PHAROS`, `PH\ud800ROS`, 0, "decision", "U+FFFD"},
		{"a NUL", 3, `PHAROS`, `PH\u0000ROS`, 0, "decision", "U+0000"},
		{"writing turned round", 3, `PHAROS`, "PH\u202eROS", 0, "decision", "U+202E"},
		{"an empty text", 3, `PHAROS/2026/2`, ``, 0, "decision", "is empty"},
		{"space at the end of a text", 3, `PHAROS/2026/2`, `PHAROS `, 0, "decision", "white space"},
		{"a text too long", 3, `PHAROS`, strings.Repeat("x", 1025), 0, "decision", "too long"},

		// The header's values.
		{"serial 0", 1, `"serial":42`, `"serial":0`, 0, "serial", "serials start at 1"},
		{"a serial in quotes", 1, `"serial":42`, `"serial":"42"`, 0, "serial", "unsigned integer"},
		{"a serial with an exponent", 1, `"serial":42`, `"serial":42e0`, 0, "serial", "unsigned integer"},
		{"a negative serial", 1, `"serial":42`, `"serial":-42`, 0, "serial", "unsigned integer"},
		{"a serial past 64 bits", 1, `"serial":42`, `"serial":18446744073709551616`, 0, "serial", "unsigned integer"},
		{"an offset instead of Z", 1, `2026-03-01T09:30:00Z`, `2026-03-01T09:30:00+00:00`, 0, "issued", "UTC to the second"},
		{"a fraction of a second", 1, `2026-03-01T09:30:00Z`, `2026-03-01T09:30:00.5Z`, 0, "issued", "UTC to the second"},
		{"a fraction with a comma", 1, `2026-03-01T09:30:00Z`, `2026-03-01T09:30:00,0Z`, 0, "issued", "UTC to the second"},
		{"a time of before", 1, `2026-03-01T09:30:00Z`, `0001-01-01T00:00:00Z`, 0, "issued", "from 1970"},
		{"validity that ends before the issue", 1, `2026-03-08T09:30:00Z`, `2026-02-08T09:30:00Z`, 0, "valid_until", "is not after issued"},
		{"validity that ends with the issue", 1, `2026-03-08T09:30:00Z`, `2026-03-01T09:30:00Z`, 0, "valid_until", "is not after issued"},
		{"answer TTL 0", 1, `"answer_ttl":60`, `"answer_ttl":0`, 0, "answer_ttl", "1 to 86400"},
		{"answer TTL of over a day", 1, `"answer_ttl":60`, `"answer_ttl":86401`, 0, "answer_ttl", "1 to 86400"},
		{"no categories", 1, `"minors":{"ipv4":["192.0.2.80"],"ipv6":["2001:db8::80"],"page":"https://stop.example/minors"},"terrorism":{"ipv4":["192.0.2.81","192.0.2.82"],"ipv6":[],"page":"https://stop.example/terrorism?lang=fr&more=1"}`, ``, 0, "categories", "has 0 members"},
		{"a category key with a space", 1, `"minors":`, `"the minors":`, 0, "categories", "no category key"},
		{"no stop page address", 1, `["192.0.2.81","192.0.2.82"]`, `[]`, 0, "categories.terrorism", "no stop page address"},
		{"an unspecified address", 1, `192.0.2.81`, `0.0.0.0`, 0, "categories.terrorism.ipv4", "unspecified"},
		{"an unspecified IPv6 address", 1, `2001:db8::80`, `::`, 0, "categories.minors.ipv6", "unspecified"},
		{"a multicast address", 1, `2001:db8::80`, `ff02::1`, 0, "categories.minors.ipv6", "multicast"},
		{"the broadcast address", 1, `192.0.2.81`, `255.255.255.255`, 0, "categories.terrorism.ipv4", "broadcast"},
		{"an address of the other family", 1, `192.0.2.81`, `2001:db8::81`, 0, "categories.terrorism.ipv4", "family"},
		{"a mapped address", 1, `2001:db8::80`, `::ffff:192.0.2.80`, 0, "categories.minors.ipv6", "family"},
		{"an address with a zone", 1, `2001:db8::80`, `fe80::1%eth0`, 0, "categories.minors.ipv6", "family"},
		{"an address twice", 1, `192.0.2.82`, `192.0.2.81`, 0, "categories.terrorism.ipv4", "twice"},
		{"an address that is none", 1, `192.0.2.82`, `stop.example`, 0, "categories.terrorism.ipv4", "not an IP address"},
		{"an address in another spelling", 1, `2001:db8::80`, `2001:DB8::80`, 0, "", "one spelling"},
		{"a page that is no URL", 1, `https://stop.example/minors`, `stop.example`, 0, "categories.minors.page", "http or https"},
		{"a page of another scheme", 1, `https://stop.example/minors`, `javascript://stop.example/`, 0, "categories.minors.page", "http or https"},
		{"a page without a host", 1, `https://stop.example/minors`, `https:///minors`, 0, "categories.minors.page", "http or https"},
		{"a page with a user", 1, `https://stop.example/minors`, `https://u@stop.example/`, 0, "categories.minors.page", "user"},
		{"a page whose host is not canonical", 1, `https://stop.example/minors`, `https://Stop.example/`, 0, "categories.minors.page", "upper-case"},
		{"a page with a space", 1, `https://stop.example/minors`, `https://stop.example/the minors`, 0, "categories.minors.page", "byte ' '"},
		{"a page too long", 1, `https://stop.example/minors`, `https://stop.example/` + strings.Repeat("x", 250), 0, "categories.minors.page", "longer than 255"},

		// The entries' values.
		{"an id with a space", 2, `2026-0003`, `2026 0003`, 0, "id", "no entry id"},
		{"a long id", 2, `2026-0003`, strings.Repeat("1", 65), 0, "id", "no entry id"},
		{"an unknown scope", 2, `"scope":"host"`, `"scope":"zone"`, 0, "scope", `"host" or "domain"`},
		{"a scope in other case", 2, `"scope":"host"`, `"scope":"Host"`, 0, "scope", `"host" or "domain"`},
		{"a category that the header lacks", 2, `"category":"minors"`, `"category":"drugs"`, 0, "category", "the header has minors, terrorism"},
		{"a local time", 2, `2026-02-27T08:00:00Z`, `2026-02-27T08:00:00+01:00`, 0, "notified", "UTC to the second"},
		{"a day without zeros", 2, `2026-05-27`, `2026-5-27`, 0, "review_by", "is not a day"},
		{"a day that there is not", 2, `2026-05-27`, `2026-02-30`, 0, "review_by", "is not a day"},
		{"a time for a day", 2, `2026-05-27`, `2026-05-27T00:00:00Z`, 0, "review_by", "is not a day"},

		// Names.
		{"the root", 3, `"images.example"`, `"."`, 0, "name", "ends in a dot"},
		{"an empty name", 3, `"images.example"`, `""`, 0, "name", "is empty"},
		{"a trailing dot", 3, `"images.example"`, `"images.example."`, 0, "name", "ends in a dot"},
		{"upper case", 3, `"images.example"`, `"Images.example"`, 0, "name", `write "images.example"`},
		{"a U-label", 3, `"images.example"`, `"imäges.example"`, 0, "name", "is not ASCII"},
		{"the Kelvin sign", 3, `"images.example"`, "\"\u212Aimages.example\"", 0, "name", "is not ASCII"},
		{"two dots in a row", 3, `"images.example"`, `"images..example"`, 0, "name", "empty label"},
		{"a leading dot", 3, `"images.example"`, `".images.example"`, 0, "name", "empty label"},
		{"a wildcard", 3, `"images.example"`, `"*.images.example"`, 0, "name", "byte '*'"},
		{"an escape", 3, `"images.example"`, `"images\\.example"`, 0, "name", `byte '\\'`},
		{"a URL", 3, `"images.example"`, `"https://images.example"`, 0, "name", "byte ':'"},
		{"a label of 64 bytes", 3, `"images.example"`, `"a` + long + `.example"`, 0, "name", "label of 64 bytes"},
		{"a name of 254 bytes", 3, `"images.example"`, `"` + strings.Repeat(long+".", 3) + long[:54] + `.example"`, 0, "name", "254 bytes"},
		{"a hyphen at the start of a label", 3, `"images.example"`, `"-images.example"`, 0, "name", "hyphen"},
		{"a hyphen at the end of a label", 3, `"images.example"`, `"images-.example"`, 0, "name", "hyphen"},
		{"an IPv4 address", 3, `"images.example"`, `"192.0.2.1"`, 0, "name", "never addresses"},
		{"an A-label that is not punycode", 3, `"images.example"`, `"xn--a-.example"`, 0, "name", "hyphen"},
		{"an A-label of ASCII", 3, `"images.example"`, `"xn--images.example"`, 0, "name", "A-label"},
		{"an A-label of upper case", 3, `"images.example"`, `"xn--bcher-2pa.example"`, 0, "name", "A-label"},
		{"an A-label that is not normalised", 3, `"images.example"`, `"xn--ecole-6ed.example"`, 0, "name", "A-label"},

		// Between entries.
		{"an id twice", 4, `2026-0001`, `2026-0003`, 0, "id", "is that of line 2 too"},
		{"a name twice with one scope", 5, `"scope":"host"`, `"scope":"domain"`, 0, "name", "with scope domain on line 4 too"},
		{"names out of order", 2, `"_sip._tcp.images.example"`, `"zz.example"`, 3, "name", `comes after "zz.example"`},
		{"ids out of order below one name", 4, `2026-0001`, `2026-0009`, 5, "name", "sort the entries"},
		{"fewer entries than announced", 1, `"entries":5`, `"entries":6`, 1, "entries", "there are fewer"},
		{"more entries than announced", 1, `"entries":5`, `"entries":4`, 1, "entries", "there are more"},
		{"a count past all bounds", 1, `"entries":5`, `"entries":2000000000`, 1, "entries", "limit"},
		{"a negative count", 1, `"entries":5`, `"entries":-1`, 1, "entries", "unsigned integer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := strings.SplitAfter(good, "\n")
			if !strings.Contains(lines[c.line-1], c.old) {
				t.Fatalf("line %d has no %s", c.line, c.old)
			}
			lines[c.line-1] = strings.Replace(lines[c.line-1], c.old, c.new, 1)
			l, err := Parse(strings.NewReader(strings.Join(lines, "")), Limits{})
			var perr *ParseError
			if l != nil || !errors.As(err, &perr) {
				t.Fatalf("got %v, %v; want a *ParseError", l, err)
			}
			at := c.at
			if at == 0 {
				at = c.line
			}
			if perr.Line != at || perr.Field != c.field || !strings.Contains(err.Error(), c.says) {
				t.Errorf("line %d, field %q: %v\nwant line %d, field %q: ...%s...", perr.Line, perr.Field, err, at, c.field, c.says)
			}
			if perr.Remedy == "" {
				t.Errorf("no remedy in %v", err)
			}
		})
	}
}

func TestParseRefusesEveryCutText(t *testing.T) {
	text := frenchText(t)
	for n := range len(text) {
		if l, err := Parse(strings.NewReader(text[:n]), Limits{}); err == nil {
			t.Fatalf("%d of %d bytes were accepted as %v", n, len(text), l)
		}
	}
}

func TestEncodeRefusesWhatParseWould(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(*List)
		says string
	}{
		{"a name that is not canonical", func(l *List) { l.Entries[1].Name = "Images.example" }, `line 2: name "Images.example" has upper-case letters; write "images.example"`},
		{"an entry twice", func(l *List) { l.Entries = append(l.Entries, l.Entries[0]) }, "line 3: id"},
		{"a scope of zero", func(l *List) { l.Entries[1].Scope = 0 }, `line 3: scope "scope(0)" is not known`},
		{"half a second", func(l *List) { l.Entries[0].InForce = l.Entries[0].InForce.Add(time.Second / 2) }, "line 2: in_force"},
		{"a review date within a day", func(l *List) { l.Entries[0].ReviewBy.Time = l.Entries[0].ReviewBy.Add(time.Hour) }, "line 2: review_by"},
		{"no serial", func(l *List) { l.Serial = 0 }, "line 1: serial"},
		{"an invalid address", func(l *List) { l.Categories["minors"].IPv4[0] = netip.Addr{} }, "line 1: categories.minors.ipv4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := parse(t, frenchText(t))
			c.harm(l)
			var b bytes.Buffer
			var perr *ParseError
			if err := l.Encode(&b); !errors.As(err, &perr) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want ...%s...", err, c.says)
			}
			if err := Encode(&b, l); !errors.As(err, &perr) {
				t.Errorf("compressed: got %v", err)
			}
		})
	}
}

func TestEncodeReportsAFullDisk(t *testing.T) {
	full := errors.New("disk full")
	if err := parse(t, frenchText(t)).Encode(failingWriter{full}); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	if err := Encode(failingWriter{full}, parse(t, frenchText(t))); !errors.Is(err, full) {
		t.Errorf("compressed: got %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func FuzzParse(f *testing.F) {
	text := frenchText(f)
	header, _, _ := strings.Cut(text, "\n")
	f.Add([]byte(text))
	f.Add([]byte(header + "\n"))
	f.Add([]byte(strings.Replace(header, `"entries":5`, `"entries":0`, 1) + "\n"))
	f.Add([]byte("{}\n{}\n"))
	f.Add([]byte(`{"categories":{"a":{"ipv4":[]}}}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := Parse(bytes.NewReader(text), Limits{MaxBytes: 1 << 20, MaxEntries: 1000})
		if err != nil {
			if l != nil {
				t.Fatal("a list together with an error")
			}
			return
		}
		var b bytes.Buffer
		if err := l.Encode(&b); err != nil {
			t.Fatalf("accepted, but not written: %v", err)
		}
		if !bytes.Equal(b.Bytes(), text) {
			t.Fatalf("accepted %q, wrote %q", text, b.Bytes())
		}
		for i, line := range bytes.Split(text, []byte("\n"))[1 : len(l.Entries)+1] {
			var e Entry
			if err := readEntry(line, &e); err != nil || !reflect.DeepEqual(e, l.Entries[i]) {
				t.Fatalf("line %d was read as %+v quickly, as %+v (%v) slowly", i+2, l.Entries[i], e, err)
			}
		}
		if _, err := NewIndex(l.Entries); err != nil {
			t.Fatalf("accepted, but not indexed: %v", err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	seed, err := os.ReadFile("testdata/french.list.zst")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(seed[:len(seed)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Decode(bytes.NewReader(data), Limits{MaxBytes: 1 << 20, MaxEntries: 1000})
		if (l == nil) == (err == nil) {
			t.Fatalf("got %v, %v", l, err)
		}
	})
}

// TestQuickTimesAgreeWithTheLibrary compares what quick reads of times and days
// with package time, over texts that are near to both.
func TestQuickTimesAgreeWithTheLibrary(t *testing.T) {
	texts := []string{"2024-02-29T00:00:00Z", "2023-02-29T00:00:00Z", "2026-04-31T23:59:59Z", "2026-12-31T24:00:00Z", "2026-13-01T00:00:00Z",
		"0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-00T00:00:00Z", "2026-01-02T03:04:60Z", "2026-1-02T03:04:05ZZ"}
	random := rand.New(rand.NewPCG(7, 8))
	for range 20000 {
		b := []byte(texts[random.IntN(10)])
		for range random.IntN(3) {
			b[random.IntN(len(b))] = "0123456789-:TZ. "[random.IntN(16)]
		}
		got, ok := quickTime(b)
		want, err := parseTime(string(b))
		if good := err == nil && want.Format(time.RFC3339) == string(b); ok != good || ok && got != want {
			t.Fatalf("%s: %v, %v; the library says %v, %v", b, got, ok, want, err)
		}
		day, ok := quickDay(b[:10])
		if wantDay, err := ParseDate(string(b[:10])); ok != (err == nil) || ok && day != wantDay.Time {
			t.Fatalf("%s: %v, %v; the library says %v, %v", b[:10], day, ok, wantDay, err)
		}
	}
}
