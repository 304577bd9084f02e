package blocklog

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func crcOf(b []byte) []byte {
	return binary.BigEndian.AppendUint32(nil, crc32.Checksum(b, castagnoli))
}

// encode is the encoding of a whole record.
func encode(r Record) []byte {
	var b []byte
	if r.Decision != nil {
		b = appendDecision(nil, r.Seq, r.Time, r.Decision)
	} else {
		b = appendEvent(nil, r.Seq, r.Time, r.Event)
	}
	seal(b)
	return b
}

func FuzzDecode(f *testing.F) {
	d := decision("www.example", 3)
	d.Matches = append(d.Matches, Match{"b", 2, "c"})
	f.Add(encode(Record{Seq: 1, Time: 5, Decision: &d}))
	f.Add(encode(Record{Seq: 9, Time: 5, Event: &Event{"started", []byte(`{"a":[1,"\u0001"]}`)}}))
	f.Add([]byte{})
	f.Add(make([]byte, 40))
	f.Fuzz(func(t *testing.T, raw []byte) {
		// A fuzzer does not guess checksums: try the bytes also with a right one.
		if len(raw) > frameSize && len(raw) <= MaxRecord {
			sealed := slices.Clone(raw)
			seal(sealed)
			check(t, sealed)
		}
		check(t, raw)
	})
}

func check(t *testing.T, raw []byte) {
	r, n, err := Decode(raw)
	if err != nil {
		return
	}
	if again := encode(r); !bytes.Equal(again, raw[:n]) {
		t.Fatalf("%x decodes to %+v, which encodes to %x", raw[:n], r, again)
	}
	if err := WriteJSON(new(bytes.Buffer), r); err != nil {
		t.Fatalf("%+v has no JSON: %v", r, err)
	}
}

func TestEveryFlippedBitOfARecordIsNoticed(t *testing.T) {
	raw := encode(Record{Seq: 1, Time: 5, Decision: new(decision("www.example", 3))})
	for i := range raw {
		for bit := range 8 {
			raw[i] ^= 1 << bit
			if _, n, err := Decode(raw); err == nil && n == len(raw) {
				t.Errorf("bit %d of byte %d", bit, i)
			}
			raw[i] ^= 1 << bit
		}
	}
}

func TestBytesBehindTheLastFieldAreRefused(t *testing.T) {
	raw := append(encode(Record{Seq: 1, Time: 5, Decision: new(decision("www.example", 3))}), 192, 0, 2, 1)
	seal(raw)
	if _, _, err := Decode(raw); err == nil || !strings.Contains(err.Error(), "4 bytes follow") {
		t.Fatalf("Decode gave %v", err)
	}
}

// The promise of the design: no record holds a client's address, nor anything
// derived from one. Whoever adds a field has to come here and say what it is.
func TestARecordHasNoPlaceForWhoAsked(t *testing.T) {
	allowed := map[string]string{
		"Record.Seq": "uint64", "Record.Time": "int64", // seconds
		"Record.Decision": "*blocklog.Decision", "Record.Event": "*blocklog.Event",
		"Decision.Matches": "[]blocklog.Match", "Decision.Name": "[]uint8", "Decision.Type": "uint16",
		"Decision.Transport": "blocklog.Transport", "Decision.Action": "blocklog.Action", "Decision.Count": "uint32",
		"Match.List": "string", "Match.Serial": "uint64", "Match.Entry": "string",
		"Event.Kind": "string", "Event.Data": "json.RawMessage",
	}
	for _, typ := range []reflect.Type{
		reflect.TypeFor[Record](), reflect.TypeFor[Decision](), reflect.TypeFor[Match](), reflect.TypeFor[Event](),
	} {
		for i := range typ.NumField() {
			f := typ.Field(i)
			key := typ.Name() + "." + f.Name
			if allowed[key] != f.Type.String() {
				t.Errorf("%s %s is not among the fields that a record may have", key, f.Type)
			}
			delete(allowed, key)
		}
	}
	if len(allowed) > 0 {
		t.Errorf("fields of the list that no longer exist: %v", allowed)
	}
	// And the encoding is the fields, byte for byte.
	d := decision("www.example", 3)
	raw := encode(Record{Seq: 1, Time: 5, Decision: &d})
	fields := frameSize + prefixSize + 4 + 2 + 1 + 1 + 1 + len(d.Name) + 1 + 1 + len("ofac") + 8 + 1 + len("E-1")
	if len(raw) != fields {
		t.Errorf("the encoding has %d bytes, its fields %d", len(raw), fields)
	}
}

func TestCanonicalJSON(t *testing.T) {
	for _, c := range []struct {
		in   any
		want string
	}{
		{map[string]any{"b": 1, "a": []any{true, nil, "x"}}, `{"a":[true,null,"x"],"b":1}`},
		{json.RawMessage(" { \"b\" : 1 , \"a\" : \"\\u0041<>&\" } "), `{"a":"A<>&","b":1}`},
		{map[string]any{"s": "\u2028 \\u2028 \x01 \""}, "{\"s\":\"\u2028 \\\\u2028 \\u0001 \\\"\"}"},
		{map[string]any{"s": "\xff"}, "{\"s\":\"\ufffd\"}"},
		{map[string]any{"n": uint64(1<<64 - 1)}, `{"n":18446744073709551615}`},
	} {
		got, err := Canonical(c.in)
		if err != nil || string(got) != c.want {
			t.Errorf("%v: %s, %v; want %s", c.in, got, err, c.want)
		}
		again, err := Canonical(json.RawMessage(got))
		if err != nil || !bytes.Equal(again, got) {
			t.Errorf("%s is not its own canonical form: %s, %v", got, again, err)
		}
	}
	for _, bad := range []any{1.5, json.RawMessage("1e3"), json.RawMessage("-0"), json.RawMessage("{"), make(chan int)} {
		if got, err := Canonical(bad); err == nil {
			t.Errorf("%v became %s", bad, got)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	f.Add([]byte(`{"b":1,"a":"\u2028\\u2029"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		once, err := Canonical(json.RawMessage(raw))
		if err != nil {
			return
		}
		twice, err := Canonical(json.RawMessage(once))
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%q: %q, then %q, %v", raw, once, twice, err)
		}
	})
}

func TestRecordsAsJSONLines(t *testing.T) {
	d := decision("www.example", 3)
	d.Name = []byte("\x05a.b\x00\"\x07example\x00")
	d.Type = 65400
	d.Matches = append(d.Matches, Match{"other", 0, "X"})
	for _, c := range []struct {
		record Record
		want   string
	}{
		{
			Record{Seq: 4, Time: noon.Unix(), Decision: &d},
			`{"seq":4,"time":"2026-03-01T12:00:00Z","type":"decision","list":"ofac","serial":7,"entry":"E-1","name":"a\\.b\\000\\\".example","qtype":"TYPE65400","transport":"udp","action":"stop-page","count":3,"also":[{"list":"other","serial":0,"entry":"X"}]}`,
		},
		{
			Record{Seq: 5, Time: noon.Unix(), Event: &Event{"list.applied", []byte(`{"list":"ofac","serial":8}`)}},
			`{"seq":5,"time":"2026-03-01T12:00:00Z","type":"list.applied","data":{"list":"ofac","serial":8}}`,
		},
	} {
		var out strings.Builder
		if err := WriteJSON(&out, c.record); err != nil || out.String() != c.want+"\n" {
			t.Errorf("got  %swant %s\n%v", out.String(), c.want, err)
		}
	}
}

func TestEveryTypeIsReadBackFromItsText(t *testing.T) {
	for n := range 1 << 16 {
		if got, err := ParseType(TypeText(uint16(n))); err != nil || got != uint16(n) {
			t.Fatalf("type %d is written %s and read as %d, %v", n, TypeText(uint16(n)), got, err)
		}
	}
	if got, err := ParseType("TYPE65"); err != nil || got != 65 {
		t.Errorf("TYPE65 is read as %d, %v", got, err)
	}
	for _, bad := range []string{"", "TYPE", "TYPE65536", "TYPE-1", "65"} {
		if got, err := ParseType(bad); err == nil {
			t.Errorf("%q is read as %d", bad, got)
		}
	}
}
