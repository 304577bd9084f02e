package authority

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cordon/configs"
)

// settingsIn writes an authority.yaml and loads it.
func settingsIn(t *testing.T, text string) (Settings, string, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, SettingsFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := LoadSettings(dir)
	return s, dir, err
}

func TestTheExampleSettingsAreCompleteAndTheDefaults(t *testing.T) {
	text, err := configs.Examples.ReadFile("cordon-authority.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s, dir, err := settingsIn(t, string(text))
	if err != nil {
		t.Fatal(err)
	}
	fields := reflect.TypeFor[Settings]()
	for i := range fields.NumField() {
		if key := fields.Field(i).Tag.Get("yaml"); !strings.Contains(string(text), "\n"+key+":") {
			t.Errorf("the example does not show %s", key)
		}
	}
	want := DefaultSettings()
	for _, p := range []*string{&want.Procedure, &want.Publish, &want.Keys, &want.Recipients} {
		*p = filepath.Join(dir, *p)
	}
	if len(s.StopPages) != 2 || len(s.pages()["minors"].IPv6) != 1 {
		t.Errorf("stop pages of the example: %+v", s.StopPages)
	}
	s.StopPages = nil
	if !reflect.DeepEqual(s, want) {
		t.Errorf("the example says %+v, the defaults are %+v", s, want)
	}
}

func TestSettingsAreReadAsTheyWereWritten(t *testing.T) {
	want := DefaultSettings()
	want.Publish, want.PassphraseFile = "/srv/a folder/\"publish\"", "/run/secret"
	want.Expiry.Timestamp = Span{Hours: 1}
	category, page, err := ParseStopPage("terrorism=192.0.2.1,2001:db8::1,https://stop.example/?a=b,c")
	if err != nil {
		t.Fatal(err)
	}
	want.StopPages = map[string]StopPage{category: page}
	got, dir, err := settingsIn(t, string(want.format()))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*string{&want.Procedure, &want.Keys, &want.Recipients} {
		*p = filepath.Join(dir, *p)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestSettingsRefuse(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"an unknown key":     {"pubblish: x\n", "pubblish"},
		"an empty folder":    {"keys: \"\"\n", "keys is empty"},
		"a delay of nothing": {"expiry:\n  root: 0 hours\n", "expiry.root is nothing"},
		"a delay in minutes": {"expiry:\n  root: 5 minutes\n", "the unit is hours"},
		"no address":         {"stop_pages:\n  x:\n    ipv4: [nowhere]\n", "nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := settingsIn(t, c.text)
			refused(t, err, c.want)
		})
	}
}

func TestParseStopPageRefuses(t *testing.T) {
	for _, bad := range []string{"", "terrorism", "terrorism=192.0.2.1,http://x/", "terrorism=2001:db8::1,,http://x/", "terrorism=,192.0.2.1,http://x/", "terrorism=a,b,c"} {
		if _, page, err := ParseStopPage(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, page)
		}
	}
}

func FuzzParseRecipients(f *testing.F) {
	f.Add([]byte("# those\nisp age1pq1abc\n\nofficial age1pq1def\n"))
	f.Add([]byte("isp  age1pq1abc \r\n"))
	f.Add([]byte("isp\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseRecipients("r", data)
		if err != nil {
			return
		}
		again, err := parseRecipients("r", formatRecipients(list))
		if err != nil || !reflect.DeepEqual(again, list) {
			t.Errorf("%q was read as %v, and written and read again as %v, %v", data, list, again, err)
		}
	})
}

func FuzzParseLeaf(f *testing.F) {
	o := newOffice(f, example(f, "france"))
	m := o.list("a.example")
	o.publish()
	o.must(o.state(LeafLifted, m, "alice"))
	for _, leaf := range o.raw {
		f.Add(leaf)
	}
	f.Add([]byte(`{"type":"approved","at":"2026-03-02T10:00:00Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseLeaf(data)
		if err != nil {
			return
		}
		again, err := MarshalLeaf(l)
		if err != nil || string(again) != string(data) {
			t.Errorf("%q was read and is written as %q, %v", data, again, err)
		}
		// A leaf from outside never panics the register, at whatever place.
		r := *o.Register
		r.Measures = append([]*Measure{}, r.Measures...)
		_ = r.Check(l)
		_ = new(Register).Check(l)
	})
}
