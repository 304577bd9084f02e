package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"cordon/oversight"
)

// Two of three holders of keys can sign a list that nobody has approved, and
// resolvers have to take it: nothing there tells it from an honest one. The
// official is told, by the register that does not know it.
func TestAListThatNobodyApproved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	national := w.found("national")
	serial := national.list("terrorism", listedDomain)
	w.subscribe(national)
	r := w.startResolver()
	w.startAuditor()
	r.enforces("national", serial)
	official := national.official()
	w.sealsEverything()
	official.verifies()

	press := newPress(national)
	press.recipients = append(press.recipients, w.overseer)
	press.version, press.serial = 1, serial // what has been published
	rogue := press.edition()
	f := press.forge(rogue)
	for _, part := range []string{"target", "targets", "snapshot", "timestamp"} {
		from, err := filepath.Rel(f.dir, f.path(part))
		press.check(err)
		press.check(os.WriteFile(filepath.Join(national.publish, from), f.bytes(f.edition, part), 0o600))
	}
	r.enforces("national", rogue.serial)
	if err := w.blocked(w.ask(onlyIn(rogue.serial), dns.TypeA), "terrorism"); err != nil {
		t.Error(err)
	}
	w.sealsEverything()
	_, _, _ = output("cordon-oversight", "mirror", "--config", official.config) // what it finds, verify tells
	got := official.alarms()
	if !slices.ContainsFunc(got, func(f oversight.Finding) bool { return f.Code == oversight.CodeUnregistered }) {
		t.Errorf("the official finds %v", got)
	}
	if !slices.ContainsFunc(got, func(f oversight.Finding) bool {
		return f.Code == oversight.CodeListUnknown && f.Serial == rogue.serial
	}) {
		t.Errorf("that the resolver has applied it, the official does not find: %v", got)
	}
}

// alarms gives those that verify tells of; it has to fail by them.
func (o *official) alarms() (all []oversight.Finding) {
	o.t.Helper()
	var report oversight.Report
	if out := o.fails("cordon-oversight", "verify", "--json", "--config", o.config); json.Unmarshal([]byte(out), &report) != nil {
		o.t.Fatalf("verify failed otherwise than by a finding: %s", out)
	}
	for _, f := range report.Findings {
		if f.Severity != oversight.Notice {
			all = append(all, f)
		}
	}
	return all
}

// Whoever takes over the resolver can rewrite its block log. What is sealed does
// not change by it: the official is told which records are not those.
func TestTheBlockLogIsTamperedWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	national := w.found("national")
	serial := national.list("terrorism", listedDomain)
	w.subscribe(national)
	r, a := w.startResolver(), w.startAuditor()
	r.enforces("national", serial)
	for _, name := range []string{"first.", "second.", "third."} {
		if err := w.blocked(w.ask(name+listedDomain, dns.TypeA), "terrorism"); err != nil {
			t.Error(err)
		}
		w.sealsEverything()
	}
	r.terminate()
	a.terminate()
	official := national.official()
	official.verifies()

	segment := w.path("resolver/blocklog/00000000000000000001.blog")
	honest, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	second := uint64(0) // number of the record
	for _, record := range w.blocklog() {
		if record.Decision != nil && bytes.HasPrefix(record.Decision.Name, []byte("\x06second")) {
			second = record.Seq
		}
	}
	for _, c := range []struct {
		name   string
		change func(log []byte) []byte
		code   string // of the first finding, which is about that record
	}{
		{"a name is changed, and the checksum with it", func(log []byte) []byte { return rename(t, log, "second", "secund") }, oversight.CodeRawDigest},
		{"a name is changed", func(log []byte) []byte { return bytes.Replace(log, []byte("\x06second"), []byte("\x06secund"), 1) }, oversight.CodeRawRecords},
		{"a record is taken out", func(log []byte) []byte {
			from, to := frame(t, log, "second")
			return slices.Delete(log, from, to)
		}, oversight.CodeRawRecords},
		{"it ends before that record", func(log []byte) []byte {
			from, _ := frame(t, log, "second")
			return log[:from]
		}, oversight.CodeRawRecords},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(segment, c.change(bytes.Clone(honest)), 0o600); err != nil {
				t.Fatal(err)
			}
			found := official.alarms()
			if found[0].Code != c.code || found[0].First != second || found[0].Last != second {
				t.Errorf("the official finds %v, where record %d is not what was sealed", found, second)
			}
		})
	}
	if err := os.WriteFile(segment, honest, 0o600); err != nil {
		t.Fatal(err)
	}
	official.verifies()
}

// frame gives where the record of a decision on a name begins and ends in a
// segment: length and checksum, four bytes each, stand before its body
// (blocklog/codec.go).
func frame(t *testing.T, log []byte, label string) (from, to int) {
	t.Helper()
	const header = 24 // of a segment
	at := bytes.Index(log, []byte(label))
	for from = header; from < at; from = to {
		if to = from + 8 + int(binary.BigEndian.Uint32(log[from:])); to > at {
			return from, to
		}
	}
	t.Fatalf("no record holds %s", label)
	return 0, 0
}

// rename changes a label and makes the record's checksum fit.
func rename(t *testing.T, log []byte, label, other string) []byte {
	t.Helper()
	if len(label) != len(other) {
		panic(fmt.Sprintf("%s is not as long as %s", other, label))
	}
	from, to := frame(t, log, label)
	log = bytes.Replace(log, []byte(label), []byte(other), 1)
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	sum.Write(log[from : from+4]) // of a hash, neither write fails
	sum.Write(log[from+8 : to])
	binary.BigEndian.PutUint32(log[from+4:], sum.Sum32())
	return log
}
