package stage

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"

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
	since     time.Time // the editions' date
	rest      [2][]byte // of the text of even and odd editions; nil until wanted
	prepared  [][]byte  // the timestamp.json of each prepared edition
	editions  int       // prepared
	next      int       // of them
}

// NewList founds an authority with as few people as there can be, and publishes
// nothing yet. dir is made.
func NewList(dir string, entries int) (*List, error) {
	l := &List{
		Entries: entries, dir: dir, Folder: filepath.Join(dir, "publish"), RPZ: filepath.Join(dir, "list.rpz"),
		since: time.Now().UTC().Truncate(time.Second),
		root:  filepath.Join(dir, "root.json"), identity: filepath.Join(dir, "identity"), passphrase: filepath.Join(dir, "passphrase"),
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
	text, err := l.text(l.serial)
	if err != nil {
		return err
	}
	return l.issue(text)
}

// Issue signs a list of the caller's and publishes it.
func (l *List) Issue(list *blocklist.List) error {
	list.Sort()
	var encoded bytes.Buffer
	if err := blocklist.Encode(&encoded, list); err != nil {
		return err
	}
	return l.issue(encoded.Bytes())
}

// issue signs a list's compressed text and publishes it.
func (l *List) issue(text []byte) error {
	sealed, err := signing.Seal(text, []string{l.recipient})
	if err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Second)
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

// text is an edition as cordon-list/1, compressed. Its first line alone tells it
// from the next but one: the others are kept, compressed, as a zstd frame of their
// own, since a million of them take seconds to write.
func (l *List) text(serial uint64) ([]byte, error) {
	list := &blocklist.List{Header: blocklist.Header{
		Authority: "Bench", Serial: serial, Issued: l.since, ValidUntil: l.since.AddDate(0, 1, 0), AnswerTTL: 60,
		Categories: map[string]blocklist.StopPage{"terrorism": {IPv4: []netip.Addr{netip.MustParseAddr(StopPage)}, Page: "https://stop.example/"}},
	}}
	var head bytes.Buffer
	if err := list.Encode(&head); err != nil {
		return nil, err
	}
	// The header of a list without entries, but for their number.
	first := bytes.Replace(head.Bytes(), []byte(`"entries":0`), fmt.Appendf(nil, `"entries":%d`, l.Entries), 1)
	rest := &l.rest[serial%2]
	if *rest == nil {
		list.Entries = l.entries(serial)
		var err error
		if *rest, err = frame(func(w io.Writer) error { return list.Encode(&pastLine{w: w}) }); err != nil {
			return nil, err
		}
	}
	begin, err := frame(func(w io.Writer) error {
		_, err := w.Write(first)
		return err
	})
	return append(begin, *rest...), err
}

// frame is what write writes, compressed.
func frame(write func(io.Writer) error) ([]byte, error) {
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return nil, err
	}
	err = errors.Join(write(z), z.Close())
	return b.Bytes(), err
}

// pastLine passes on what comes after the first line.
type pastLine struct {
	w    io.Writer
	past bool
}

func (p *pastLine) Write(b []byte) (int, error) {
	n := len(b)
	if !p.past {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			return n, nil
		}
		p.past, b = true, b[end+1:]
	}
	if _, err := p.w.Write(b); err != nil {
		return 0, err
	}
	return n, nil
}

func (l *List) entries(edition uint64) []blocklist.Entry {
	all := make([]blocklist.Entry, l.Entries)
	for i := range all {
		all[i] = blocklist.Entry{
			ID: fmt.Sprintf("2026-%07d", i), Name: l.name(i, edition), Scope: blocklist.ScopeDomain, Category: "terrorism",
			LegalBasis: "LCEN 6-1", Decision: fmt.Sprintf("D-%07d", i), Notified: l.since, InForce: l.since, ReviewBy: blocklist.DateOf(l.since.AddDate(0, 3, 0)),
		}
	}
	return all
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
func (l *List) Prepare(ctx context.Context, editions int, forms Form) error {
	l.editions = editions
	for range editions {
		if forms&Signed == 0 {
			break
		}
		if err := errors.Join(ctx.Err(), l.publish()); err != nil {
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
		if err := errors.Join(ctx.Err(), l.writeZone(l.zone(edition), edition)); err != nil {
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
