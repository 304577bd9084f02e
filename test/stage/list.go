package stage

import (
	"bufio"
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"cordon/blocklist"
	"cordon/signing"
)

// StopPage is where listed names lead to.
const StopPage = "192.0.2.80"

// turnover: of one entry in so many, an edition has another than the one before.
const turnover = 100

// List is a list in the forms in which the servers take it: signed and published
// in a folder for cordon, as a response policy zone for the others. It comes out in
// editions, which differ in one entry in a hundred: odd ones have one set of these,
// even ones the other.
type List struct {
	Entries int
	Folder  string // the publication; watched by cordon
	RPZ     string // the edition in place as a zone file

	root, identity, passphrase string // files

	dir       string
	recipient string
	repo      *signing.Repository
	people    []crypto.Signer
	online    crypto.Signer
	serial    uint64
	prepared  [][]byte // the timestamp.json of each prepared edition
	editions  int      // prepared
	next      int      // of them
}

// NewList founds an authority with as few people as there can be, and publishes
// nothing yet. dir is made.
func NewList(dir string, entries int) (*List, error) {
	l := &List{
		Entries: entries, dir: dir, Folder: filepath.Join(dir, "publish"), RPZ: filepath.Join(dir, "list.rpz"),
		root: filepath.Join(dir, "root.json"), identity: filepath.Join(dir, "identity"), passphrase: filepath.Join(dir, "passphrase"),
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	identity, recipient, err := signing.GenerateIdentity()
	if err != nil {
		return nil, err
	}
	l.recipient = recipient
	if err := os.WriteFile(l.passphrase, []byte("bench\n"), 0o600); err != nil {
		return nil, err
	}
	const quick = 4 // log2 of the work to open it: it keeps no secret
	if err := signing.WriteSecret(l.identity, signing.KindIdentity, []byte(identity), []byte("bench"), quick); err != nil {
		return nil, err
	}
	return l, l.found()
}

func (l *List) found() (err error) {
	public := make([]crypto.PublicKey, 2)
	for i := range public {
		key, err := signing.GenerateKey()
		if err != nil {
			return err
		}
		l.people, public[i] = append(l.people, key), key.Public()
	}
	if l.online, err = signing.GenerateKey(); err != nil {
		return err
	}
	l.repo, err = signing.OpenRepository(signing.RepositoryConfig{Publish: l.Folder, Staged: filepath.Join(l.dir, "staged"), Clock: time.Now})
	if err != nil {
		return err
	}
	both := signing.RoleKeys{Keys: public, Threshold: 2}
	one := signing.RoleKeys{Keys: []crypto.PublicKey{l.online.Public()}, Threshold: 1}
	if _, err := l.repo.StageRoot(signing.Roles{Root: both, Targets: both, Snapshot: one, Timestamp: one}, time.Now().AddDate(1, 0, 0)); err != nil {
		return err
	}
	if err := l.sign(signing.RoleRoot); err != nil {
		return err
	}
	if _, err := l.repo.Publish(signing.Online{}); err != nil {
		return err
	}
	root, err := l.repo.Root()
	if err != nil {
		return err
	}
	return os.WriteFile(l.root, root, 0o600)
}

func (l *List) sign(role string) error {
	for _, key := range l.people {
		if _, err := l.repo.Sign(role, key); err != nil {
			return err
		}
	}
	return nil
}

// Publish makes the next edition and publishes it. The files of the one before
// are removed, those of prepared editions are not.
func (l *List) Publish() error {
	if l.editions != 0 {
		return errors.New("editions are prepared: put the next of them in place")
	}
	before, err := l.repo.Published()
	if err != nil {
		return err
	}
	if err := l.publish(); err != nil {
		return err
	}
	if before.TargetFile == "" {
		return nil
	}
	return os.Remove(filepath.Join(l.Folder, before.TargetFile))
}

func (l *List) publish() error {
	l.serial++
	now := time.Now().UTC().Truncate(time.Second)
	list := &blocklist.List{Header: blocklist.Header{
		Authority: "Bench", Serial: l.serial, Issued: now, ValidUntil: now.AddDate(0, 1, 0), AnswerTTL: 60,
		Categories: map[string]blocklist.StopPage{"terrorism": {IPv4: []netip.Addr{netip.MustParseAddr(StopPage)}, Page: "https://stop.example/"}},
	}}
	list.Entries = make([]blocklist.Entry, l.Entries)
	for i := range list.Entries {
		list.Entries[i] = blocklist.Entry{
			ID: fmt.Sprintf("2026-%07d", i), Name: l.name(i, l.serial), Scope: blocklist.ScopeDomain, Category: "terrorism",
			LegalBasis: "LCEN 6-1", Decision: fmt.Sprintf("D-%07d", i), Notified: now, InForce: now, ReviewBy: blocklist.DateOf(now.AddDate(0, 3, 0)),
		}
	}
	return l.Issue(list)
}

// Issue signs a list and publishes it.
func (l *List) Issue(list *blocklist.List) error {
	now := list.Issued
	list.Sort()
	var encoded bytes.Buffer
	if err := blocklist.Encode(&encoded, list); err != nil {
		return err
	}
	sealed, err := signing.Seal(encoded.Bytes(), []string{l.recipient})
	if err != nil {
		return err
	}
	if _, err := l.repo.StageTarget(sealed, now.AddDate(0, 1, 0)); err != nil {
		return err
	}
	if err := l.sign(signing.RoleTargets); err != nil {
		return err
	}
	_, err = l.repo.Publish(signing.Online{
		Snapshot: l.online, SnapshotExpires: now.AddDate(0, 0, 2), Timestamp: l.online, TimestampExpires: now.AddDate(0, 0, 1),
	})
	return err
}

// Config is what cordon's configuration says of the list, which it finds at source.
func (l *List) Config(source string) string {
	return fmt.Sprintf("lists:\n  - name: national\n    source: %s\n    root: %s\n    identity: %s\n    passphrase_file: %s\n    accept_first: true\n",
		source, l.root, l.identity, l.passphrase)
}

// Form is one in which servers take a list.
type Form int

// Forms can be combined.
const (
	Signed Form = 1 << iota
	Zone
)

// Prepare makes editions ahead, in the forms given, so that no signing falls into
// what is measured, and puts the first in place. Called once.
func (l *List) Prepare(editions int, forms Form) error {
	l.editions = editions
	for range editions {
		if forms&Signed == 0 {
			break
		}
		if err := l.publish(); err != nil {
			return err
		}
		stamp, err := os.ReadFile(l.timestamp())
		if err != nil {
			return err
		}
		l.prepared = append(l.prepared, stamp)
	}
	for edition := range uint64(2) {
		if forms&Zone == 0 {
			break
		}
		if err := l.writeZone(l.zone(edition), edition); err != nil {
			return err
		}
	}
	_, err := l.Next()
	return err
}

// Next puts the next prepared edition in place, by one rename as a publication
// does, and gives the time just before it.
func (l *List) Next() (at time.Time, err error) {
	if l.next == l.editions {
		return at, errors.New("no more editions are prepared")
	}
	l.next++
	l.serial = uint64(l.next)
	if _, err := os.Stat(l.zone(l.serial)); err == nil {
		waiting := filepath.Join(l.dir, "waiting.rpz")
		at = time.Now()
		if err := errors.Join(os.Link(l.zone(l.serial), waiting), os.Rename(waiting, l.RPZ)); err != nil {
			return at, err
		}
	}
	if l.prepared == nil {
		return at, nil
	}
	waiting := filepath.Join(l.dir, "timestamp.json")
	if err := os.WriteFile(waiting, l.prepared[l.next-1], 0o644); err != nil {
		return at, err
	}
	at = time.Now()
	return at, os.Rename(waiting, l.timestamp())
}

func (l *List) timestamp() string { return filepath.Join(l.Folder, "metadata", "timestamp.json") }

func (l *List) zone(edition uint64) string {
	return filepath.Join(l.dir, "list-"+strconv.FormatUint(edition%2, 10)+".rpz")
}

// writeZone writes an edition as a response policy zone.
func (l *List) writeZone(path string, edition uint64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	b := bufio.NewWriterSize(f, 1<<20)
	fmt.Fprintf(b, "$ORIGIN rpz.bench.\n$TTL 60\n@ SOA ns1.rpz.bench. hostmaster.rpz.bench. %d 3600 1200 604800 60\n@ NS localhost.\n", edition+1)
	for i := range l.Entries {
		fmt.Fprintf(b, "%s A %s\n*.%[1]s A %[2]s\n", l.name(i, edition), StopPage)
	}
	return errors.Join(b.Flush(), f.Close())
}

// Stable is a name that stands in every edition, near the n-th.
func (l *List) Stable(n int) string {
	if n%turnover == 0 && l.Entries > 1 {
		n = (n + 1) % l.Entries
	}
	return l.name(n, 0)
}

// Mark is a name that stands in the edition in place and not in the one before.
// There are many; n chooses.
func (l *List) Mark(n int) string {
	marks := (l.Entries + turnover - 1) / turnover
	return l.name(n%marks*turnover, l.serial)
}

// name is the n-th name of an edition: of the length of usual names, each
// different, and none that exists.
func (l *List) name(n int, edition uint64) string {
	set := uint64(0)
	if n%turnover == 0 {
		set = edition % 2
	}
	random := rand.NewPCG(uint64(n), set)
	bits := random.Uint64()
	b := make([]byte, 0, 24)
	for range 3 + bits%6 {
		b = append(b, 'a'+byte(random.Uint64()%26))
	}
	b = append(b, 'a'+byte(set))
	number := strconv.FormatInt(int64(n), 36)
	for range 5 - len(number) {
		b = append(b, '0')
	}
	b = append(b, number...)
	ends := [...]string{".com", ".net", ".org", ".info", ".fr", ".de", ".nl", ".online"}
	return string(append(b, ends[bits>>32%uint64(len(ends))]...))
}
