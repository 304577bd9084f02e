package oversight

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cordon/audit"
	"cordon/authority"
	"cordon/blocklist"
	"cordon/blocklog"
	"cordon/signing"
)

func TestAWorldInOrderVerifiesAndSaysWhatWasLookedAt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mirror()
	r := w.verify()
	if !r.OK() {
		t.Fatalf("findings: %v", r.Findings)
	}
	if len(r.NotChecked) != 0 {
		t.Errorf("not checked: %q", r.NotChecked)
	}
	register, log := r.Logs[0].Register, r.Logs[1].Audit
	if register.Serial != 2 || register.Lists != 2 || register.States["listed"] != 1 || register.States["lifted"] != 1 || register.Verified != r.Logs[0].Size {
		t.Errorf("register: %+v", register)
	}
	if log.Records != 8 || log.Decisions != 4 || log.Events != 4 || log.Compared != 6 || len(log.Lists) != 1 || log.Lists[0].Serial != 2 {
		t.Errorf("audit log: %+v", log)
	}
	if r.Publication.Kept != 1 || r.Publication.Compared != 2 {
		t.Errorf("publication: %+v", r.Publication)
	}
	// The one name that is on no list itself is worth knowing.
	if len(r.Findings) != 1 || r.Findings[0].Code != CodeAlias || !strings.Contains(r.Findings[0].What, "alias.libre.example") {
		t.Errorf("notices: %v", r.Findings)
	}
}

func TestWhatWasNotLookedAtIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bare := func(c *Config) {
		c.Publication, c.Identity = PublicationConfig{}, ""
		c.Logs[1].Blocklog = ""
	}
	w.mirror(bare)
	r := w.verify(bare)
	if !r.OK() {
		t.Fatalf("findings: %v", r.Findings)
	}
	said := strings.Join(r.NotChecked, "\n")
	for _, want := range []string{"no block log is at hand", "The publication is not followed"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing in %q", want, said)
		}
	}
	noRegister := func(c *Config) {
		bare(c)
		c.Logs = c.Logs[1:]
	}
	if r := w.verify(noRegister); !r.OK() || !strings.Contains(strings.Join(r.NotChecked, "\n"), "register is not followed") {
		t.Errorf("without register: %v, %q", r.Findings, r.NotChecked)
	}
	noIdentity := func(c *Config) { c.Identity = "" }
	w.mirror(noIdentity)
	if r := w.verify(noIdentity); !r.OK() || !strings.Contains(strings.Join(r.NotChecked, "\n"), "No identity is configured") {
		t.Errorf("without identity: %v, %q", r.Findings, r.NotChecked)
	}
}

func TestWithoutACopyNothingCanBeVerified(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.desk().Verify(t.Context()); !errors.Is(err, ErrNotMirrored) {
		t.Fatalf("got %v", err)
	}
	for _, read := range []func() (any, error){
		func() (any, error) { return w.desk().Lists(t.Context()) },
		func() (any, error) { return w.desk().Decisions(t.Context(), Filter{}) },
		func() (any, error) { return w.desk().Events(t.Context()) },
	} {
		if v, err := read(); !errors.Is(err, ErrNotMirrored) {
			t.Errorf("read %v, %v", v, err)
		}
	}
}

func TestALogThatWasNeverMirroredLeavesTheOthersToBeVerified(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.desk().Mirror(t.Context(), "isp"); err != nil {
		t.Fatal(err)
	}
	r := w.verify()
	if !r.OK() || !slices.Equal(r.Missing, []string{"register"}) || len(r.Logs) != 1 || r.Logs[0].Audit.Compared != 6 {
		t.Errorf("missing %v, findings %v", r.Missing, r.Findings)
	}
	var text bytes.Buffer
	w.must(r.WriteText(&text))
	if !strings.Contains(text.String(), "RESULT: INCOMPLETE. There is no copy of register.") {
		t.Errorf("report:\n%s", text.String())
	}
	lists, err := w.desk().Lists(t.Context())
	if !errors.Is(err, ErrNotMirrored) || len(lists) != 2 || len(lists[1].Applied) != 1 {
		t.Errorf("lists: %v, %v", lists, err)
	}
}

// tamper changes one leaf of an audit log as JSON.
func tamper(t *testing.T, leaf []byte, change func(m map[string]any)) []byte {
	t.Helper()
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(leaf))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		t.Fatal(err)
	}
	change(m)
	b, err := blocklog.Canonical(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The audit log of the world: 0 auditor.started, 1 started, 2 list.applied 1,
// 3 decisions 3 to 5, 4 list.applied 2, 5 decisions 7, 6 stopped, 7
// auditor.stopped. The register: 0 founded, 1 proposed, 2 and 3 approved, 4
// published 1, 5 proposed, 6 and 7 approved, 8 lifted, 9 published 2.
func TestTamperingIsFoundAndNamed(t *testing.T) {
	t.Parallel()
	type edit = func(w *world, leaves [][]byte) [][]byte
	tests := []struct {
		name   string
		log    string
		edit   edit
		code   string
		leaf   uint64
		record uint64 // 0: none
		what   string
	}{
		{"a leaf whose count is altered", "isp", func(w *world, l [][]byte) [][]byte {
			l[5] = tamper(t, l[5], func(m map[string]any) { m["tally"].([]any)[0].(map[string]any)["count"] = 9 })
			return l
		}, CodeRawTally, 5, 7, "does not say what its records say"},
		{"a leaf whose digest is altered", "isp", func(w *world, l [][]byte) [][]byte {
			l[5] = tamper(t, l[5], func(m map[string]any) { m["sha256"] = sha([]byte("x")) })
			return l
		}, CodeRawDigest, 5, 7, "sealed were"},
		{"a leaf that is dropped", "isp", func(w *world, l [][]byte) [][]byte {
			return slices.Delete(l, 3, 4)
		}, CodeHole, 3, 3, "records of the resolver are missing"},
		{"an event that is dropped", "isp", func(w *world, l [][]byte) [][]byte {
			return slices.Delete(l, 6, 7)
		}, CodeHole, 6, 8, "records of the resolver are missing"},
		{"a leaf that stands twice", "isp", func(w *world, l [][]byte) [][]byte {
			return slices.Insert(l, 4, l[3])
		}, CodeOverlap, 4, 3, "covered twice"},
		{"a leaf that is no leaf", "isp", func(w *world, l [][]byte) [][]byte {
			l[1] = []byte(`{"seq":1,"type":"started"}`)
			return l
		}, CodeLeaf, 1, 0, "field is missing"},
		{"a gap that the auditor recorded", "isp", func(w *world, l [][]byte) [][]byte {
			return append(l, w.canonical(audit.Gap{Type: audit.TypeGap, At: start, Expected: 9, Resume: 12, Reason: audit.GapDamaged, Detail: "torn"}))
		}, CodeGap, 8, 9, "expected record 9"},
		{"a list that the register does not know", "isp", func(w *world, l [][]byte) [][]byte {
			l[4] = tamper(t, l[4], func(m map[string]any) { m["data"].(map[string]any)["serial"] = 7 })
			return l
		}, CodeListUnknown, 4, 6, "no such list was published"},
		{"another list under a published serial", "isp", func(w *world, l [][]byte) [][]byte {
			l[4] = tamper(t, l[4], func(m map[string]any) { m["data"].(map[string]any)["list_sha256"] = sha([]byte("x")) })
			return l
		}, CodeListOther, 4, 6, "another list in force than was published"},
		{"a list that changes hands", "isp", func(w *world, l [][]byte) [][]byte {
			l[4] = tamper(t, l[4], func(m map[string]any) { m["data"].(map[string]any)["authority"] = "Somebody" })
			return l
		}, CodeListOther, 4, 6, "was of Office of the example and is of Somebody"},
		{"an older list that comes back", "isp", func(w *world, l [][]byte) [][]byte {
			e := l[2]
			e = tamper(t, e, func(m map[string]any) { m["seq"] = 9; m["at"] = "2026-03-02T12:00:00Z" })
			return append(l, e)
		}, CodeListBack, 8, 9, "went back from list 2 to list 1"},
		{"an older list that comes back by an order on record", "isp", func(w *world, l [][]byte) [][]byte {
			order := audit.Event{Type: "override", Seq: 9, At: start.Add(3 * time.Hour), Data: w.canonical(blocklist.Ordered{
				List: "national", Action: blocklist.RollBack, Serial: 2, To: 1, Name: "dora", Reason: "list 2 breaks a hospital", Account: "ops",
			})}
			back := tamper(t, l[2], func(m map[string]any) { m["seq"] = 10; m["at"] = "2026-03-02T12:00:00Z" })
			return append(l, w.canonical(order), back)
		}, CodeListBack, 9, 10, "from list 2 to list 1 of national on 2 March 2026, 12:00 UTC, by the order of dora"},
		{"a block by an entry that the list does not hold", "isp", func(w *world, l [][]byte) [][]byte {
			l[3] = tamper(t, l[3], func(m map[string]any) { m["tally"].([]any)[0].(map[string]any)["entry"] = "2026-0002" })
			return l
		}, CodeEntry, 3, 3, "by an entry 2026-0002, which list 1 does not hold"},
		{"a block by a list that was never applied", "isp", func(w *world, l [][]byte) [][]byte {
			l[3] = tamper(t, l[3], func(m map[string]any) { m["tally"].([]any)[0].(map[string]any)["list"] = "private" })
			return append(l, w.canonical(audit.Event{Type: "stopped", Seq: 9, At: start.Add(3 * time.Hour), Data: json.RawMessage("{}")}))
		}, CodeListMissing, 3, 3, `of "private"`},
		{"a block by a list long after it was replaced", "isp", func(w *world, l [][]byte) [][]byte {
			d := tamper(t, l[3], func(m map[string]any) {
				m["first_seq"], m["last_seq"] = 9, 11
				m["from"], m["to"] = "2026-03-02T12:00:00Z", "2026-03-02T12:00:01Z"
			})
			return append(l, d)
		}, CodeListStale, 8, 9, "blocked by list 1 of national, which list 2 had replaced"},
		{"an officer's signature that is forged", "register", func(w *world, l [][]byte) [][]byte {
			l[2] = forge(t, l[2])
			return l
		}, CodeRegister, 2, 0, "signature does not fit"},
		{"an approval that is missing", "register", func(w *world, l [][]byte) [][]byte {
			return slices.Delete(l, 3, 4)
		}, CodeRegister, 3, 0, "list 1 is not what was approved"},
		{"a list with a name that was not approved", "register", func(w *world, l [][]byte) [][]byte {
			parsed, err := authority.ParseLeaf(l[9])
			w.must(err)
			p := parsed.(*authority.Published)
			p.Added, p.Entries = append(p.Added, "2026-0003"), p.Entries+1
			l[9], err = authority.MarshalLeaf(p)
			w.must(err)
			return l
		}, CodeRegister, 9, 0, "list 2 is not what was approved: it has 2 entries"},
		{"a publication under another digest", "register", func(w *world, l [][]byte) [][]byte {
			parsed, err := authority.ParseLeaf(l[9])
			w.must(err)
			p := parsed.(*authority.Published)
			p.ListSHA256 = sha([]byte("x"))
			l[9], err = authority.MarshalLeaf(p)
			w.must(err)
			return l
		}, CodeUnapproved, 9, 0, "another text than the register says"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.rewrite(test.log, test.edit(w, w.leaves(test.log)))
			w.mirror()
			r := w.verify()
			if r.OK() {
				t.Fatal("nothing was found")
			}
			for _, f := range r.Findings {
				if f.Code == test.code && f.Log == test.log && f.Leaf != nil && *f.Leaf == test.leaf && f.First == test.record && strings.Contains(f.What, test.what) {
					return
				}
			}
			t.Errorf("findings are\n%v\nand not %s at leaf %d, record %d: …%s…", r.Findings, test.code, test.leaf, test.record, test.what)
		})
	}
}

// forge flips a bit of the signature of an officer's statement.
func forge(t *testing.T, leaf []byte) []byte {
	t.Helper()
	parsed, err := authority.ParseLeaf(leaf)
	if err != nil {
		t.Fatal(err)
	}
	s := parsed.(*authority.Stated)
	s.Signature[3] ^= 1
	b, err := authority.MarshalLeaf(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rogue publishes a list that two key holders signed and the register does not
// know.
func (w *world) rogue(entries func(*blocklist.List), recipient string) {
	w.t.Helper()
	d := w.desk()
	w.mirror()
	identity, err := d.identity()
	w.must(err)
	newest, err := d.publication.newest()
	w.must(err)
	list, err := open(newest.Accepted.Target, identity)
	w.must(err)
	list.Serial++
	entries(list)
	list.Sort()
	var text bytes.Buffer
	w.must(blocklist.Encode(&text, list))
	if recipient == "" {
		recipient, err = signing.Recipient(identity)
		w.must(err)
	}
	target, err := signing.Seal(text.Bytes(), []string{recipient})
	w.must(err)
	w.publishTarget(target)
}

func (w *world) publishTarget(target []byte) {
	w.t.Helper()
	repository, err := signing.OpenRepository(signing.RepositoryConfig{
		Publish: w.path("publish"), Staged: w.path("rogue"), Clock: func() time.Time { return w.now },
	})
	w.must(err)
	_, err = repository.StageTarget(target, w.now.AddDate(0, 3, 0))
	w.must(err)
	keys := keysOf(w.path("authority/keys"))
	for _, holder := range []string{"targets-1", "targets-2"} {
		key, err := keys.Signer(holder)
		w.must(err)
		_, err = repository.Sign(signing.RoleTargets, key)
		w.must(err)
	}
	snapshot, err := keys.Signer("snapshot")
	w.must(err)
	timestamp, err := keys.Signer("timestamp")
	w.must(err)
	_, err = repository.Publish(signing.Online{Snapshot: snapshot, Timestamp: timestamp, SnapshotExpires: w.now.AddDate(0, 0, 7), TimestampExpires: w.now.AddDate(0, 0, 1)})
	w.must(err)
}

func TestASignedListThatNobodyApprovedIsFoundAndItsNamesAreSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rogue(func(l *blocklist.List) {
		e := l.Entries[0]
		e.ID, e.Name = "2026-0009", "journal.example"
		l.Entries = append(l.Entries, e)
	}, "")
	w.mirror()
	r := w.verify()
	f := only(t, r)
	if f.Code != CodeUnregistered || f.Serial != 3 || !strings.Contains(f.What, "it lists journal.example (2026-0009), which was not approved to be listed") {
		t.Fatalf("found %v", f)
	}
}

// only gives the one finding that is more than a notice.
func only(t *testing.T, r *Report) Finding {
	t.Helper()
	var grave []Finding
	for _, f := range r.Findings {
		if f.Severity != Notice {
			grave = append(grave, f)
		}
	}
	if len(grave) != 1 {
		t.Fatalf("findings: %v", grave)
	}
	return grave[0]
}

func TestAListThatTheOfficialCannotOpenIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mirror()
	other, _, err := signing.GenerateIdentity()
	w.must(err)
	w.must(os.Remove(w.path("keys/official")))
	w.must(signing.WriteSecret(w.path("keys/official"), signing.KindIdentity, []byte(other), testPassphrase, 2))
	r := w.verify()
	if r.Count(Warning) != 2 || r.Findings[0].Code != CodeUnreadable || !strings.Contains(r.Findings[0].What, "not encrypted to the official's identity") {
		t.Fatalf("findings: %v", r.Findings)
	}
}

func TestAPublicationThatIsNotWhatWasSignedIsFoundWhileMirroring(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		spoil func(w *world)
		code  string
	}{
		{"too old", func(w *world) { w.now = w.now.AddDate(0, 1, 0) }, CodeExpired},
		{"a byte of the target", func(w *world) { w.flip(w.newestFile("publish/targets/*.list")) }, CodePublication},
		{"targets that are missing", func(w *world) { w.must(os.Remove(w.newestFile("publish/metadata/2.targets.json"))) }, CodePublication},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			test.spoil(w)
			steps, err := w.desk().Mirror(t.Context(), "")
			w.must(err)
			i := slices.IndexFunc(steps, func(s Step) bool { return s.Name == publicationName })
			if f := steps[i].Finding; f == nil || f.Code != test.code {
				t.Fatalf("got %v, %v", steps[i].Finding, steps[i].Err)
			}
			r := w.verify()
			if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Code == test.code && f.Severity != Notice }) {
				t.Errorf("verification says %v", r.Findings)
			}
		})
	}
}

// newestFile gives the target in force, or the file of a pattern.
func (w *world) newestFile(pattern string) string {
	w.t.Helper()
	files, err := filepath.Glob(w.path(pattern))
	w.must(err)
	if strings.HasSuffix(pattern, ".list") {
		p := w.publications()
		return w.path("publish/targets/" + p[len(p)-1].TargetSHA256 + ".list")
	}
	if len(files) != 1 {
		w.t.Fatalf("%s: %v", pattern, files)
	}
	return files[0]
}

// flip changes a byte in the middle of a file.
func (w *world) flip(path string) {
	w.t.Helper()
	b, err := os.ReadFile(path)
	w.must(err)
	b[len(b)/2] ^= 1
	w.must(os.WriteFile(path, b, 0o600))
}

func TestAListThatCameAndWentBetweenTwoRoundsIsStillCompared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(os.Remove(w.path("publish/targets/" + w.publications()[0].TargetSHA256 + ".list")))
	w.mirror()
	r := w.verify()
	if !r.OK() || r.Publication.Compared != 1 || !strings.Contains(strings.Join(r.NotChecked, "\n"), "list 1 of 2 March 2026 could not be had") {
		t.Fatalf("compared %d, findings %v, not checked %q", r.Publication.Compared, r.Findings, r.NotChecked)
	}
}

func TestAResolverThatIsAheadOfTheCopyOfTheRegisterIsNotBlamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rewrite("register", w.leaves("register")[:9]) // as it stood before list 2
	w.mirror()
	w.now = w.now.Add(time.Minute)
	// The audit log grows by a list that the register published meanwhile; it is
	// mirrored alone.
	applied := appliedOf(&authority.Publication{Published: &authority.Published{Serial: 3, ListSHA256: sha([]byte("3")), TargetSHA256: sha([]byte("t"))}})
	w.extend("isp", w.canonical(audit.Event{Type: "list.applied", Seq: 9, At: w.now, Data: w.canonical(applied)}))
	if _, err := w.desk().Mirror(t.Context(), "isp"); err != nil {
		t.Fatal(err)
	}
	r := w.verify()
	if slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Code == CodeListUnknown && f.Serial == 3 }) {
		t.Errorf("blamed: %v", r.Findings)
	}
	if !strings.Contains(strings.Join(r.NotChecked, "\n"), "1 lists were applied after the register was mirrored last") {
		t.Errorf("not checked: %q", r.NotChecked)
	}
	// Once the register is mirrored after it, and does not know the list, it is.
	w.now = w.now.Add(time.Minute)
	if _, err := w.desk().Mirror(t.Context(), "register"); err != nil {
		t.Fatal(err)
	}
	r = w.verify()
	if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Code == CodeListUnknown && f.Serial == 3 }) {
		t.Errorf("not blamed: %v", r.Findings)
	}
}

func TestADamagedCopyIsSaidToBeTheOfficialsOwn(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"logs/isp/tile/entries/000.p/8", "logs/register/tile/0/000.p/10"} {
		w := newWorld(t)
		w.mirror()
		w.flip(filepath.Join(w.path("official"), file))
		r := w.verify()
		if r.Count(Alarm) == 0 || r.Findings[0].Code != CodeMirror || !strings.HasPrefix(file, "logs/"+r.Findings[0].Log+"/") {
			t.Errorf("%s: %v", file, r.Findings)
		}
	}
}

func TestRawRecordsThatWereComparedAreNotDemandedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mirror()
	d := w.desk()
	for range 2 {
		r, err := d.Verify(t.Context())
		w.must(err)
		if !r.OK() || r.Logs[1].Audit.Compared != 6 || r.Logs[1].Audit.Removed != 0 {
			t.Fatalf("compared %d, removed %d, %v", r.Logs[1].Audit.Compared, r.Logs[1].Audit.Removed, r.Findings)
		}
		w.must(os.RemoveAll(w.path("blocklog")))
	}
	if r := w.verify(); r.OK() || r.Findings[0].Code != CodeRawRecords {
		t.Fatalf("another process finds %v", r.Findings)
	}
}

func TestTheReportBeginsWithWhatItComesTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mirror()
	var text bytes.Buffer
	w.must(w.verify().WriteText(&text))
	if !strings.Contains(text.String(), "\n\nRESULT: in order. Nothing that was looked at contradicts what was signed for.\n\nREGISTER register (cordon/office-of-the-example/register)\n") {
		t.Errorf("report:\n%s", text.String())
	}
	w.rewrite("isp", slices.Delete(w.leaves("isp"), 3, 4))
	w.must(os.RemoveAll(w.path("official")))
	w.mirror()
	text.Reset()
	w.must(w.verify().WriteText(&text))
	for _, want := range []string{"RESULT: NOT IN ORDER. 1 alarm and 0 warnings", "ALARMS", "  sequence-hole: isp, leaf 3, records 3 to 5\n    Records of the resolver are missing"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, text.String())
		}
	}
	for line := range strings.Lines(text.String()) {
		if len(line) > lineWidth+1 {
			t.Errorf("a line of %d characters: %s", len(line), line)
		}
	}
}
