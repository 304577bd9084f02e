package e2e

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"filippo.io/age"

	"cordon/blocklist"
	"cordon/signing"
)

// The whole authority may be mistaken, or be made to sign: a list that is signed
// as it has to be and would take down what no procedure can mean, or that can be
// read in two ways, is refused as a whole.
func TestAttacksOnTheList(t *testing.T) {
	t.Parallel()
	s := newSiege(t)

	// What follows is held against this: what is signed unchanged is taken.
	f := s.forge(s.edition())
	f.text(spell(t, f.list(f.edition.serial)))
	s.show(f.dir)
	s.takes()

	// Entries, as blocklist writes them but does not let pass.
	entry := func(name string, scope blocklist.Scope) func(*blocklist.List) {
		return func(l *blocklist.List) { l.Entries[0].Name, l.Entries[0].Scope = name, scope }
	}
	domain := func(name string) func(*blocklist.List) { return entry(name, blocklist.ScopeDomain) }
	for _, a := range []struct {
		name   string
		change func(l *blocklist.List)
		reason string
	}{
		{"a top-level domain", domain("com"), "guard"},
		{"a top-level domain, scope host", entry("com", blocklist.ScopeHost), "guard"},
		{"the laboratory's own top-level domain", domain("example"), "guard"},
		{"a public suffix", domain("co.uk"), "guard"},
		{"a public suffix, scope host", entry("co.uk", blocklist.ScopeHost), "guard"},
		{"a platform on which others have names", domain("github.io"), "guard"},
		{"a name with nothing but public suffixes below", domain("kawasaki.jp"), "guard"},
		{"localhost", domain("localhost"), "guard"},
		{"all reverse names", domain("in-addr.arpa"), "guard"},
		{"the name by which clients look for other resolvers", domain("_dns.resolver.arpa"), "guard"},
		{"the name of a stop page", func(l *blocklist.List) {
			page := l.Categories["minors"]
			page.Page = "https://" + l.Entries[0].Name + "/minors"
			l.Categories["minors"] = page
		}, "guard"},

		{"the root", domain("."), "format"},
		{"no name", domain(""), "format"},
		{"a name in upper case", domain("Propagande.example"), "format"},
		{"a name with a dot at its end", domain("propagande.example."), "format"},
		{"a name with an empty label", domain("propagande..example"), "format"},
		{"a name in Unicode", domain("münchen.example"), "format"},
		{"an A-label that does not come back", domain("xn--a.example"), "format"},
		{"a label of 64 bytes", domain(strings.Repeat("a", 64) + ".example"), "format"},
		{"a name of 255 bytes", domain(strings.Repeat("a.", 124) + "example"), "format"},
		{"an address", domain("192.0.2.1"), "format"},
		{"a wildcard", domain("*.propagande.example"), "format"},
		{"a name with an escape", domain(`a\.b.example`), "format"},
		{"a name with a NUL", domain("a\x00.example"), "format"},

		{"a name twice", func(l *blocklist.List) { l.Entries[1].Name, l.Entries[1].Scope = l.Entries[0].Name, l.Entries[0].Scope }, "format"},
		{"an id twice", func(l *blocklist.List) { l.Entries[1].ID = l.Entries[0].ID }, "format"},
		{"a category that leads nowhere", func(l *blocklist.List) { l.Entries[0].Category = "gossip" }, "format"},
		{"an id that would not fit into the record", func(l *blocklist.List) { l.Entries[0].ID = strings.Repeat("x", 300) }, "format"},
		{"a decision that turns the writing round", func(l *blocklist.List) { l.Entries[0].Decision = "D-\u202e1" }, "format"},
		{"a stop page at no address", func(l *blocklist.List) { l.Categories["minors"] = blocklist.StopPage{Page: "http://stop.example/"} }, "format"},
		{"a stop page at the unspecified address", func(l *blocklist.List) {
			l.Categories["minors"] = blocklist.StopPage{IPv4: []netip.Addr{netip.IPv4Unspecified()}, Page: "http://stop.example/"}
		}, "format"},
		{"a page that is a script", func(l *blocklist.List) {
			page := l.Categories["minors"]
			page.Page = "javascript:alert(1)"
			l.Categories["minors"] = page
		}, "format"},
		{"an answer that is kept for ever", func(l *blocklist.List) { l.AnswerTTL = 1 << 31 }, "format"},
		{"an answer that is not kept", func(l *blocklist.List) { l.AnswerTTL = 0 }, "format"},
		{"serial 0", func(l *blocklist.List) { l.Serial = 0 }, "format"},
		{"a list that ends before it begins", func(l *blocklist.List) { l.ValidUntil = l.Issued }, "format"},
	} {
		s.under(t, a.name, func(t *testing.T) {
			f := s.forge(s.edition())
			l := f.list(f.edition.serial)
			a.change(l)
			l.Sort()
			f.text(spell(t, l))
			s.attack(f.dir, a.reason)
		})
	}

	// The text itself.
	once := func(old, new string) func([]byte) []byte {
		return func(text []byte) []byte {
			if !bytes.Contains(text, []byte(old)) {
				t.Fatalf("%q is not in the list", old)
			}
			return bytes.Replace(text, []byte(old), []byte(new), 1)
		}
	}
	for _, a := range []struct {
		name   string
		change func(text []byte) []byte
	}{
		{"nothing", func([]byte) []byte { return nil }},
		{"a format of tomorrow", once("cordon-list/1", "cordon-list/2")},
		{"one entry more than is said", once(`"entries":3`, `"entries":2`)},
		{"one entry less than is said", once(`"entries":3`, `"entries":4`)},
		{"more entries than a list may have", once(`"entries":3`, `"entries":2000000000`)},
		{"cut in a line", func(text []byte) []byte { return text[:len(text)-7] }},
		{"cut before the last line feed", func(text []byte) []byte { return text[:len(text)-1] }},
		{"entries out of order", func(text []byte) []byte {
			lines := bytes.SplitAfter(text, []byte("\n"))
			lines[1], lines[2] = lines[2], lines[1]
			return bytes.Join(lines, nil)
		}},
		{"an unknown field", once(`{"id":`, `{"exempt":true,"id":`)},
		{"a field twice", once(`"scope":"domain"`, `"scope":"host","scope":"domain"`)},
		{"a field in upper case", once(`"scope":`, `"Scope":`)},
		{"a field missing", once(`"scope":"domain",`, ``)},
		{"null", once(`"scope":"domain"`, `"scope":null`)},
		{"a name spelled with an escape", once(`"name":"p`, `"name":"\u0070`)},
		{"white space", once(`","name":`, `", "name":`)},
		{"a number with a fraction", once(`"answer_ttl":60`, `"answer_ttl":60.0`)},
		{"a negative number", once(`"answer_ttl":60`, `"answer_ttl":-60`)},
		{"a scope of another kind", once(`"scope":"domain"`, `"scope":"suffix"`)},
		{"bytes that are not UTF-8", once(`"decision":"D-`, "\"decision\":\"\xff")},
		{"a byte order mark", func(text []byte) []byte { return append([]byte("\xef\xbb\xbf"), text...) }},
		{"line feeds of another system", func(text []byte) []byte { return bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")) }},
		{"an empty line", func(text []byte) []byte { return append(text, '\n') }},
		{"another list behind it", func(text []byte) []byte { return append(text, text...) }},
		{"a line without end", func(text []byte) []byte { return append(text, bytes.Repeat([]byte("x"), 64<<20)...) }},
		{"nested without end", func([]byte) []byte { return append(bytes.Repeat([]byte("["), 60<<10), '\n') }},
	} {
		s.under(t, "text: "+a.name, func(t *testing.T) {
			f := s.forge(s.edition())
			f.text(a.change(spell(t, f.list(f.edition.serial))))
			s.attack(f.dir, "format")
		})
	}

	// The envelopes around the text.
	_, stranger, err := signing.GenerateIdentity()
	s.check(err)
	classic, err := age.GenerateX25519Identity()
	s.check(err)
	for _, a := range []struct {
		name   string
		target func(f *forger, text []byte) []byte
		reason string
	}{
		{"for other recipients", func(f *forger, text []byte) []byte {
			sealed, err := signing.Seal(compress(f.t, text), []string{stranger})
			f.check(err)
			return sealed
		}, "recipient"},
		{"for a recipient of another kind", func(f *forger, text []byte) []byte { return sealTo(f, compress(f.t, text), classic.Recipient()) }, "recipient"},
		{"with a passphrase", func(f *forger, text []byte) []byte {
			r, err := age.NewScryptRecipient("a passphrase for tests")
			f.check(err)
			r.SetWorkFactor(1)
			// Whoever tried it would need 16 GiB.
			return bytes.Replace(sealTo(f, compress(f.t, text), r), []byte(" 1\n"), []byte(" 24\n"), 1)
		}, "recipient"},
		{"not encrypted", func(f *forger, text []byte) []byte { return compress(f.t, text) }, "incomplete"},
		{"encrypted and cut before it was signed", func(f *forger, text []byte) []byte {
			sealed := f.seal(compress(f.t, text))
			return sealed[:len(sealed)-1]
		}, "incomplete"},
		{"encrypted and changed before it was signed", func(f *forger, text []byte) []byte {
			sealed := f.seal(compress(f.t, text))
			sealed[len(sealed)-1] ^= 1
			return sealed
		}, "incomplete"},
		{"not compressed", func(f *forger, text []byte) []byte { return f.seal(text) }, "format"},
		{"empty inside", func(f *forger, text []byte) []byte { return f.seal(nil) }, "format"},
		{"compressed and cut", func(f *forger, text []byte) []byte {
			c := compress(f.t, text)
			return f.seal(c[:len(c)-5])
		}, "format"},
		{"compressed with something behind it", func(f *forger, text []byte) []byte {
			return f.seal(append(compress(f.t, text), "something"...))
		}, "format"},
		{"a window of two gigabytes", func(f *forger, text []byte) []byte { return f.seal(wideFrame()) }, "format"},
		{"a gigabyte in few bytes", func(f *forger, text []byte) []byte { return f.seal(bomb(f.t, text)) }, "format"},
	} {
		s.under(t, "envelope: "+a.name, func(t *testing.T) {
			f := s.forge(s.edition())
			f.sign(counterfeit{target: a.target(f, spell(t, f.list(f.edition.serial)))})
			s.attack(f.dir, a.reason)
		})
	}
	s.under(t, "a list of a terabyte is signed for", func(t *testing.T) {
		f := s.forge(s.edition())
		f.sign(counterfeit{length: 1 << 40})
		s.attack(f.dir, "too-large")
	})
	s.sealsEverything()
}

func sealTo(f *forger, text []byte, r age.Recipient) []byte {
	f.t.Helper()
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, r)
	f.check(err)
	_, err = w.Write(text)
	f.check(err)
	f.check(w.Close())
	return sealed.Bytes()
}

// wideFrame is a zstd frame (RFC 8878 §3.1.1) that asks for a window of 2 GiB and
// holds one block of one byte, repeated.
func wideFrame() []byte {
	frame := binary.LittleEndian.AppendUint32(nil, 0xfd2fb528)
	frame = append(frame, 0)     // no content size, no checksum
	frame = append(frame, 21<<3) // 2^(10+21) bytes
	const last, repeated, length = 1, 1 << 1, 1000 << 3
	block := uint32(last | repeated | length)
	return append(frame, byte(block), byte(block>>8), byte(block>>16), 'x')
}

// bomb is a list whose header is right, and a gigabyte of line feeds behind it,
// compressed to what it takes to say so.
func bomb(t *testing.T, text []byte) []byte {
	t.Helper()
	header := text[:bytes.IndexByte(text, '\n')+1]
	frame := binary.LittleEndian.AppendUint32(nil, 0xfd2fb528)
	frame = append(frame, 0, 7<<3) // a window of 128 KiB, which bounds a block too
	block := func(kind, length, last int, content ...byte) {
		h := last | kind<<1 | length<<3
		frame = append(frame, byte(h), byte(h>>8), byte(h>>16))
		frame = append(frame, content...)
	}
	block(0, len(header), 0, header...)
	const size = 128 << 10
	for n := 0; n < 1<<30; n += size {
		block(1, size, 0, '\n')
	}
	block(1, 1, 1, '\n')
	return frame
}
