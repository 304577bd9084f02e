package authority

import (
	"context"
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cordon/audit/tlog"
	"cordon/audit/tlog/tlogtest"
	"cordon/blocklist"
	"cordon/signing"
)

// folderKeys opens the keys of a folder, all with one passphrase; keys named in
// broken do not open.
type folderKeys struct {
	dir    string
	broken map[string]bool
}

var testPassphrase = []byte("correct horse")

var errBroken = errors.New("the token was pulled out")

func (k *folderKeys) Signer(name string) (crypto.Signer, error) {
	if k.broken[name] {
		return nil, errBroken
	}
	return signing.ReadKey(filepath.Join(k.dir, name+".key"), testPassphrase)
}

func (k *folderKeys) Secret(name, kind string) ([]byte, error) {
	return signing.ReadSecret(filepath.Join(k.dir, name+".key"), kind, testPassphrase)
}

// bureau is an authority founded in a folder of the test's.
type bureau struct {
	t        *testing.T
	dir      string
	now      time.Time
	keys     *folderKeys
	identity string // of the operator who receives the list
}

func found(t *testing.T) *bureau {
	t.Helper()
	b := &bureau{t: t, dir: filepath.Join(tlogtest.Dir(t), "authority"), now: time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)}
	identity, recipient, err := signing.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	b.identity = identity
	settings := DefaultSettings()
	settings.StopPages = map[string]StopPage{}
	for _, s := range []string{"terrorism=192.0.2.1,2001:db8::1,https://stop.example/t", "minors=192.0.2.1,,https://stop.example/m"} {
		category, page, err := ParseStopPage(s)
		if err != nil {
			t.Fatal(err)
		}
		settings.StopPages[category] = page
	}
	if _, err := Found(t.Context(), Founding{
		Dir: b.dir, Name: "Office of the example", Procedure: "../configs/procedure-france.yaml",
		Officers: []string{"alice", "bruno", "chloe"}, Recipients: []Recipient{{Name: "isp", Key: recipient}},
		Root: Holders{3, 2}, Targets: Holders{3, 2}, Settings: settings, Passphrase: testPassphrase, KDFLogN: 2, Clock: b.clock,
	}); err != nil {
		t.Fatal(err)
	}
	b.keys = &folderKeys{dir: filepath.Join(b.dir, "keys"), broken: map[string]bool{}}
	return b
}

func (b *bureau) clock() time.Time { return b.now }

// work runs one command's worth of work, in an office of its own.
func (b *bureau) work(do func(context.Context, *Office) error) error {
	b.t.Helper()
	o, err := OpenOffice(b.t.Context(), OfficeConfig{Dir: b.dir, Keys: b.keys, Clock: b.clock})
	if err != nil {
		b.t.Fatal(err)
	}
	err = do(b.t.Context(), o)
	return errors.Join(err, o.Close(b.t.Context()))
}

func (b *bureau) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// list proposes and approves a name.
func (b *bureau) list(name string) (id string) {
	b.t.Helper()
	b.must(b.work(func(ctx context.Context, o *Office) error {
		m, err := o.Propose(ctx, Proposal{Name: name, Category: "terrorism", Decision: "D-1"}, "alice")
		if err != nil {
			return err
		}
		id = m.Proposed.ID
		for _, by := range []string{"bruno", "chloe"} {
			if _, err := o.Approve(ctx, name, by); err != nil {
				return err
			}
		}
		return nil
	}))
	return id
}

func (b *bureau) sign(holder string) (*Staging, error) {
	b.t.Helper()
	var s *Staging
	err := b.work(func(ctx context.Context, o *Office) error {
		key, err := b.keys.Signer(holder)
		if err != nil {
			return err
		}
		s, err = o.Sign(ctx, key)
		return err
	})
	return s, err
}

func (b *bureau) signed(holders ...string) {
	b.t.Helper()
	for _, h := range holders {
		_, err := b.sign(h)
		b.must(err)
	}
}

func (b *bureau) publish() (*Released, error) {
	b.t.Helper()
	var out *Released
	err := b.work(func(ctx context.Context, o *Office) (err error) {
		out, err = o.Publish(ctx)
		return err
	})
	return out, err
}

// received is what the operator gets: verified from the pinned root on,
// decrypted and parsed.
func (b *bureau) received() *blocklist.List {
	b.t.Helper()
	root, err := os.ReadFile(filepath.Join(b.dir, "publish", "metadata", "1.root.json"))
	b.must(err)
	client, err := signing.NewClient(signing.ClientConfig{
		Root: root, Dir: b.t.TempDir(), Target: "list", Source: signing.NewFolderSource(filepath.Join(b.dir, "publish")), Clock: b.clock,
	})
	b.must(err)
	accepted, err := client.Update(b.t.Context())
	b.must(err)
	list, err := open(accepted.Target, b.identity)
	b.must(err)
	return list
}

// register replays the register as the official reads it.
func (b *bureau) register() *Register {
	b.t.Helper()
	v, err := tlog.ReadVerifier(filepath.Join(b.dir, VerifierFile))
	b.must(err)
	reader := tlog.NewReader(tlog.FolderSource(filepath.Join(b.dir, RegisterDir)), v)
	cp, err := reader.Checkpoint(b.t.Context())
	b.must(err)
	r, err := Replay(reader.Leaves(b.t.Context(), cp, 0))
	b.must(err)
	return r
}

func names(l *blocklist.List) []string {
	list := []string{}
	for _, e := range l.Entries {
		list = append(list, e.Name)
	}
	return list
}

func TestAnAuthorityListsAndLifts(t *testing.T) {
	t.Parallel()
	b := found(t)
	b.list("propagande.example")
	s, err := b.sign("targets-1")
	b.must(err)
	if s.Serial != 1 || s.Complete || !slices.Equal(s.Signed, []string{"targets-1"}) || !slices.Equal(s.Missing, []string{"targets-2", "targets-3"}) {
		t.Fatalf("after the first signature: %+v", s)
	}
	_, err = b.publish()
	refused(t, err, "1 of 2 signatures: run \"sign --key HOLDER\" with one of targets-2, targets-3")
	if s, err = b.sign("targets-3"); err != nil || !s.Complete {
		t.Fatalf("after the second signature: %+v, %v", s, err)
	}
	out, err := b.publish()
	b.must(err)
	list := b.received()
	if out.Serial != 1 || list.Serial != 1 || !slices.Equal(names(list), []string{"propagande.example"}) {
		t.Fatalf("published %+v, received %+v", out, list)
	}

	// The official: what the register says was published is what was received.
	r := b.register()
	b.must(r.CheckList(list))
	if sum, _ := digest(list); sum != out.ListSHA256 {
		t.Errorf("received list %s, told %s", sum, out.ListSHA256)
	}
	list.Serial = 7
	refused(t, r.CheckList(list), "knows of no such publication")
	list.Serial, list.AnswerTTL = 1, 61
	refused(t, r.CheckList(list), "the register says")

	b.now = b.now.Add(time.Hour)
	b.must(b.work(func(ctx context.Context, o *Office) error {
		_, err := o.Lift(ctx, "propagande.example", "gone", "chloe")
		return err
	}))
	b.signed("targets-1", "targets-2")
	out, err = b.publish()
	b.must(err)
	if list := b.received(); list.Serial != 2 || len(list.Entries) != 0 || len(out.Removed) != 1 {
		t.Errorf("after the lift: %+v, %+v", out, list)
	}
}

func TestAStagedListFollowsTheRegister(t *testing.T) {
	t.Parallel()
	b := found(t)
	b.list("a.example")
	b.signed("targets-1")
	id := b.list("b.example")
	b.signed("targets-2") // of what the register says now
	_, err := b.publish()
	refused(t, err, "1 of 2 signatures")

	s, err := b.sign("targets-1")
	b.must(err)
	if !s.Complete || s.Entries != 2 {
		t.Fatalf("the list made anew: %+v", s)
	}
	b.must(b.work(func(ctx context.Context, o *Office) error {
		_, err := o.Lift(ctx, id, "error", "bruno")
		return err
	}))
	_, err = b.publish()
	refused(t, err, "the register has gone on since: run \"sign --key HOLDER\" to make it anew")
	s, err = b.sign("targets-3")
	b.must(err)
	if s.Anew == "" || s.Complete || s.Entries != 1 {
		t.Errorf("after the lift: %+v", s)
	}
}

func TestANewRecipientAsksForANewList(t *testing.T) {
	t.Parallel()
	b := found(t)
	b.signed("targets-1", "targets-2")
	_, recipient, err := signing.GenerateIdentity()
	b.must(err)
	path := filepath.Join(b.dir, "recipients.txt")
	b.must(AddRecipient(path, Recipient{Name: "official", Key: recipient}))
	refused(t, AddRecipient(path, Recipient{Name: "official", Key: recipient}), "stands there already")
	refused(t, AddRecipient(path, Recipient{Name: "again", Key: recipient}), "has the key of official")
	_, err = b.publish()
	refused(t, err, "its recipients have changed")
}

// attack: after the first signature somebody with the machine's rights puts
// another list into its place.
func TestAStagedListThatWasChangedIsSignedByNobody(t *testing.T) {
	for name, change := range map[string]struct {
		do   func(b *bureau)
		want string
	}{
		"its bytes": {func(b *bureau) {
			path := filepath.Join(b.dir, StagedDir, stagedTarget)
			data, err := os.ReadFile(path)
			b.must(err)
			data[len(data)-1] ^= 1
			b.must(os.WriteFile(path, data, 0o600))
		}, "is not the file that"},
		"the list and its metadata": {func(b *bureau) {
			b.restage(func(l *blocklist.List) {
				l.Entries = append(l.Entries, blocklist.Entry{ID: "2026-0666", Name: "victim.example", Scope: blocklist.ScopeDomain, Category: "terrorism",
					LegalBasis: "x", Decision: "x", Notified: l.Issued, InForce: l.Issued, ReviewBy: blocklist.DateOf(l.Issued)})
			})
		}, "it lists 2026-0666 (victim.example), which is not to be listed"},
		"the scope of an entry": {func(b *bureau) {
			b.restage(func(l *blocklist.List) { l.Entries[0].Scope = blocklist.ScopeDomain })
		}, "otherwise than it was approved"},
		"an entry left out": {func(b *bureau) {
			b.restage(func(l *blocklist.List) { l.Entries = nil })
		}, "it leaves out 2026-0001 (a.example)"},
		"the stop page": {func(b *bureau) {
			b.restage(func(l *blocklist.List) {
				page := l.Categories["terrorism"]
				page.Page = "https://elsewhere.example/"
				l.Categories["terrorism"] = page
			})
		}, "its header"},
		"the serial": {func(b *bureau) {
			b.restage(func(l *blocklist.List) { l.Serial = 9 })
		}, "it has serial 9, the next is 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := found(t)
			b.list("a.example")
			b.signed("targets-1")
			change.do(b)
			_, err := b.sign("targets-2")
			refused(t, err, change.want)
			_, err = b.publish()
			if err == nil {
				t.Fatal("it was published")
			}
			// The way out that the error names.
			b.must(b.work(func(_ context.Context, o *Office) error { _, err := o.Discard(); return err }))
			b.signed("targets-1", "targets-2")
			_, err = b.publish()
			b.must(err)
			if got := names(b.received()); !slices.Equal(got, []string{"a.example"}) {
				t.Errorf("published %v", got)
			}
		})
	}
}

// restage puts a changed list into the place of the staged one, as somebody
// could who has the folder and two people's targets keys, but no officer's.
func (b *bureau) restage(change func(*blocklist.List)) {
	b.t.Helper()
	target, err := os.ReadFile(filepath.Join(b.dir, StagedDir, stagedTarget))
	b.must(err)
	identity, err := b.keys.Secret(KeyList, signing.KindIdentity)
	b.must(err)
	list, err := open(target, string(identity))
	b.must(err)
	change(list)
	list.Sort()
	recipients, err := LoadRecipients(filepath.Join(b.dir, "recipients.txt"))
	b.must(err)
	target, err = seal(list, recipients)
	b.must(err)
	r, err := signing.OpenRepository(signing.RepositoryConfig{Publish: filepath.Join(b.dir, "publish"), Staged: filepath.Join(b.dir, StagedDir), Clock: b.clock})
	b.must(err)
	b.must(r.Discard(signing.RoleTargets))
	_, err = r.StageTarget(target, b.now.AddDate(0, 1, 0))
	b.must(err)
	for _, holder := range []string{"targets-1", "targets-3"} {
		key, err := b.keys.Signer(holder)
		b.must(err)
		_, err = r.Sign(signing.RoleTargets, key)
		b.must(err)
	}
}

// failingLog fails at one of its calls, as a full disk or a kill would.
type failingLog struct {
	journal
	at string
}

var errDisk = errors.New("no space left on device")

func (l *failingLog) Append(ctx context.Context, leaves ...[]byte) (uint64, error) {
	if l.at == "append" {
		return 0, errDisk
	}
	return l.journal.Append(ctx, leaves...)
}

func (l *failingLog) Published(ctx context.Context, index uint64) error {
	if l.at == "published" {
		return errDisk
	}
	return l.journal.Published(ctx, index)
}

func TestPublishIsEndedByRunningItAgainWhereverItWasInterrupted(t *testing.T) {
	for name, c := range map[string]struct {
		log, key string
		resumed  bool
	}{
		"before the register's leaf":                 {log: "append"},
		"between the leaf and the checkpoint":        {log: "published", resumed: true},
		"between the checkpoint and the first file":  {key: KeySnapshot, resumed: true},
		"between the checkpoint and the second file": {key: KeyTimestamp, resumed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := found(t)
			b.list("a.example")
			b.signed("targets-1", "targets-2")
			b.keys.broken[c.key] = true
			err := b.work(func(ctx context.Context, o *Office) error {
				open := o.openLog
				o.openLog = func(ctx context.Context) (journal, error) {
					log, err := open(ctx)
					return &failingLog{log, c.log}, err
				}
				_, err := o.Publish(ctx)
				return err
			})
			if !errors.Is(err, errDisk) && !errors.Is(err, errBroken) {
				t.Fatalf("publish: %v", err)
			}
			if _, err := os.Stat(filepath.Join(b.dir, "publish", "metadata", "timestamp.json")); err == nil {
				t.Fatal("the list went out")
			}

			// What goes on meanwhile changes nothing: the register says what
			// is published, and that is ended.
			b.keys.broken = map[string]bool{}
			b.now = b.now.Add(time.Minute)
			if c.resumed {
				b.list("b.example")
				_, err = b.sign("targets-3")
				refused(t, err, "the publication of list 1 was interrupted: run \"publish\" to end it")
				err = b.work(func(_ context.Context, o *Office) error { _, err := o.Discard(); return err })
				refused(t, err, "run \"publish\" to end its publication")
			}
			out, err := b.publish()
			b.must(err)
			if out.Resumed != c.resumed || out.Serial != 1 {
				t.Errorf("the second time: %+v", out)
			}
			if got := names(b.received()); !slices.Equal(got, []string{"a.example"}) {
				t.Errorf("published %v", got)
			}
			if r := b.register(); len(r.Publications) != 1 {
				t.Errorf("the register has %d publications", len(r.Publications))
			}
			b.signed("targets-1", "targets-2")
			if out, err = b.publish(); err != nil || out.Serial != 2 {
				t.Errorf("the next list: %+v, %v", out, err)
			}
		})
	}
}

func TestProposingRefusesWhatAResolverWould(t *testing.T) {
	b := found(t)
	for name, want := range map[string]string{
		"com":             "top-level domain",
		"co.uk":           "public suffix",
		"Propagande.fr.":  "write propagande.fr",
		"münchen.example": "write xn--mnchen-3ya.example",
		"192.0.2.7":       "never addresses",
		"two words.fr":    "labels hold",
		"stop.example":    "stop page",
		"printer.local":   "RFC 6762",
		"toto.localhost":  "RFC 6761",
		"a..example":      "empty label",
		"x.resolver.arpa": "RFC 3172",
	} {
		t.Run(name, func(t *testing.T) {
			err := b.work(func(ctx context.Context, o *Office) error {
				_, err := o.Propose(ctx, Proposal{Name: name, Scope: blocklist.ScopeDomain, Category: "terrorism", Decision: "D"}, "alice")
				return err
			})
			refused(t, err, want)
		})
	}
}

func TestRotatingAKeyOfWhoSignsLists(t *testing.T) {
	t.Parallel()
	b := found(t)
	b.list("a.example")
	b.signed("targets-1", "targets-2")
	_, err := b.publish()
	b.must(err)

	key, err := signing.GenerateKey()
	b.must(err)
	b.must(signing.WriteKey(filepath.Join(b.dir, "keys", "targets-4.key"), key, testPassphrase, 2))
	b.must(b.work(func(_ context.Context, o *Office) error {
		_, err := o.Rotate(Rotation{Role: "targets", Revoke: "zoe"})
		refused(t, err, "name one of targets-1, targets-2, targets-3")
		_, err = o.Rotate(Rotation{Role: "targets", Revoke: "targets-2", Name: "targets-4", New: key.Public()})
		return err
	}))
	b.signed("root-1")
	_, err = b.publish()
	refused(t, err, "run \"sign --key HOLDER\" with one of root-2, root-3")
	b.signed("root-3")
	_, err = b.publish()
	refused(t, err, "revokes keys that signed")
	_, err = b.sign("targets-2")
	if err == nil {
		t.Fatal("a revoked key signed")
	}
	b.signed("targets-1", "targets-4")
	out, err := b.publish()
	b.must(err)
	if out.Serial != 2 || out.Publication.RootVersion != 2 {
		t.Errorf("published %+v", out)
	}
	if got := names(b.received()); !slices.Equal(got, []string{"a.example"}) {
		t.Errorf("published %v", got)
	}
	_, err = b.sign("targets-2")
	refused(t, err, "targets-2 does not sign lists")
}

func TestStatusSaysWhatWaitsAndWhatRunsOut(t *testing.T) {
	t.Parallel()
	b := found(t)
	id := b.list("a.example")
	status := func() (s *Status) {
		o, err := OpenOffice(t.Context(), OfficeConfig{Dir: b.dir, Clock: b.clock, ReadOnly: true})
		b.must(err)
		s, err = o.Status()
		b.must(err)
		b.must(o.Close(t.Context()))
		return s
	}
	if s := status(); s.Serial != 0 || len(s.Staged) != 0 || !slices.Equal(s.Added, []string{id}) || len(s.Expired) != 0 {
		t.Errorf("before the first list: %+v", s)
	}
	b.signed("targets-2")
	if s := status(); len(s.Staged) != 1 || !slices.Equal(s.Staged[0].Missing, []string{"targets-1", "targets-3"}) {
		t.Errorf("after one signature: %+v", s)
	}
	b.signed("targets-1")
	_, err := b.publish()
	b.must(err)
	b.now = b.now.Add(49 * time.Hour)
	if s := status(); s.Serial != 1 || !slices.Equal(s.Expired, []string{"timestamp"}) || len(s.Added) != 0 {
		t.Errorf("two days later: %+v", s)
	}
	b.must(b.work(func(_ context.Context, o *Office) error { _, err := o.Refresh(); return err }))
	if s := status(); len(s.Expired) != 0 {
		t.Errorf("after a refresh: %+v", s)
	}
	b.now = b.now.AddDate(0, 4, 0)
	if s := status(); !strings.Contains(s.Holds, "clock quarter ran out") {
		t.Errorf("four months later: %+v", s)
	}
}

func TestTwoCommandsDoNotWorkAtOnce(t *testing.T) {
	t.Parallel()
	b := found(t)
	o, err := OpenOffice(t.Context(), OfficeConfig{Dir: b.dir, Keys: b.keys, Clock: b.clock})
	b.must(err)
	waited := make(chan string, 1)
	second := make(chan error, 1)
	go func() {
		other, err := OpenOffice(t.Context(), OfficeConfig{Dir: b.dir, Keys: b.keys, Clock: b.clock, Waiting: func(path string) { waited <- path }})
		if err == nil {
			// It opened after the first had closed, so it sees the first's leaf.
			if len(other.Register.Measures) != 1 {
				err = errors.New("the second command saw the register as it was before the first")
			}
			err = errors.Join(err, other.Close(t.Context()))
		}
		second <- err
	}()
	<-waited
	_, err = o.Propose(t.Context(), Proposal{Name: "a.example", Category: "terrorism", Decision: "D"}, "alice")
	b.must(err)
	b.must(o.Close(t.Context()))
	b.must(<-second)
}

func TestFoundingTwiceIsRefused(t *testing.T) {
	t.Parallel()
	b := found(t)
	_, err := Found(t.Context(), Founding{Dir: b.dir, Name: "Other", Procedure: "../configs/procedure-france.yaml", Clock: b.clock})
	refused(t, err, "holds an authority already")
	_, err = Found(t.Context(), Founding{Dir: t.TempDir(), Settings: Settings{Publish: filepath.Join(b.dir, "publish")}, Clock: b.clock})
	refused(t, err, "holds a publication already")
	b.must(os.Remove(filepath.Join(b.dir, SettingsFile)))
	_, err = Found(t.Context(), Founding{Dir: b.dir, Clock: b.clock})
	refused(t, err, "holds what an interrupted \"init\" left")
}

func TestTheOriginIsMadeFromTheName(t *testing.T) {
	t.Parallel()
	if got, want := originOf("Ministère de l’Intérieur (OFAC)"), "cordon/ministere-de-l-interieur-ofac/register"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAnOfficeRefusesAProcedureThatWasChanged(t *testing.T) {
	t.Parallel()
	b := found(t)
	path := filepath.Join(b.dir, "procedure.yaml")
	data, err := os.ReadFile(path)
	b.must(err)
	b.must(os.WriteFile(path, []byte(strings.Replace(string(data), "number: 2", "number: 1", 1)), 0o600))
	_, err = OpenOffice(t.Context(), OfficeConfig{Dir: b.dir, Keys: b.keys, Clock: b.clock})
	refused(t, err, "is not the procedure that this authority was founded with")
}

func TestPrivateFilesAreTheOwnersAlone(t *testing.T) {
	t.Parallel()
	b := found(t)
	err := filepath.WalkDir(b.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(b.dir, path)
		public := strings.HasPrefix(rel, "publish") || strings.HasPrefix(rel, RegisterDir+"/") || strings.HasPrefix(rel, PeopleDir+"/")
		if !public && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", rel, info.Mode())
		}
		return nil
	})
	b.must(err)
}
