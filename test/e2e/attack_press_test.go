package e2e

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"cordon/blocklist"
	"cordon/signing"
)

// press makes publications with the keys of an authority, without its programs:
// honest ones (edition), and those that the programs refuse to make (forger).
type press struct {
	t          *testing.T
	repository *signing.Repository
	publish    string // what the repository has published, all of it
	editions   string // a folder for each edition, as it would be served
	laid       int    // number of folders laid out
	recipients []string
	header     blocklist.Header
	serial     uint64 // of the last edition

	// Keys by the newest root; any two sign for root and for targets.
	root, targets       []crypto.Signer
	snapshot, timestamp crypto.Signer
}

// edition is a publication in a folder of its own.
type edition struct {
	dir string
	signing.Publication
	serial uint64
}

// The names that each edition lists, and the one that an edition alone lists.
const (
	listedDomain = "propagande.example" // terrorism, scope domain
	listedHost   = "images.example"     // minors, scope host
)

func onlyIn(serial uint64) string { return fmt.Sprintf("liste-%d.example", serial) }

// newPress takes over what "cordon-authority init" has published, and its keys.
func newPress(a *authority) *press {
	t := a.t
	t.Helper()
	passphrase := []byte(strings.TrimSpace(a.read("keys/passphrase")))
	key := func(name string) crypto.Signer {
		k, err := signing.ReadKey(filepath.Join(a.dir, "keys", name+".key"), passphrase)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	p := &press{
		t: t, publish: a.path(a.name + "/press"), editions: a.path(a.name + "/editions"), recipients: []string{a.recipient},
		root:     []crypto.Signer{key("root-1"), key("root-2"), key("root-3")},
		targets:  []crypto.Signer{key("targets-1"), key("targets-2"), key("targets-3")},
		snapshot: key("snapshot"), timestamp: key("timestamp"),
		header: blocklist.Header{
			Authority: "Office " + a.name, AnswerTTL: 60,
			Categories: map[string]blocklist.StopPage{
				"terrorism": {IPv4: []netip.Addr{a.address}, IPv6: []netip.Addr{netip.MustParseAddr(ipv6Page)}, Page: a.pageOf("terrorism")},
				"minors":    {IPv4: []netip.Addr{a.address}, Page: a.pageOf("minors")},
			},
		},
	}
	p.check(os.CopyFS(p.publish, os.DirFS(a.publish)))
	var err error
	p.repository, err = signing.OpenRepository(signing.RepositoryConfig{Publish: p.publish, Staged: a.path(a.name + "/staged"), Clock: time.Now})
	p.check(err)
	return p
}

func (p *press) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// list is the honest list of a serial.
func (p *press) list(serial uint64) *blocklist.List {
	now := time.Now().UTC().Truncate(time.Second)
	l := &blocklist.List{Header: p.header}
	// A copy, since forgers change it.
	l.Categories = maps.Clone(p.header.Categories)
	l.Serial, l.Issued, l.ValidUntil = serial, now, now.AddDate(0, 1, 0)
	for i, e := range []struct {
		name, category string
		scope          blocklist.Scope
	}{
		{listedDomain, "terrorism", blocklist.ScopeDomain},
		{listedHost, "minors", blocklist.ScopeHost},
		{onlyIn(serial), "terrorism", blocklist.ScopeDomain},
	} {
		l.Entries = append(l.Entries, blocklist.Entry{
			ID: fmt.Sprintf("M-%d", i+1), Name: e.name, Scope: e.scope, Category: e.category,
			LegalBasis: "LCEN 6-1", Decision: "D-" + e.name, Notified: now, InForce: now, ReviewBy: blocklist.DateOf(now.AddDate(0, 3, 0)),
		})
	}
	l.Sort()
	return l
}

// edition makes the next honest publication: a new list, signed by two of three.
func (p *press) edition() edition {
	p.t.Helper()
	p.serial++
	var text bytes.Buffer
	p.check(blocklist.Encode(&text, p.list(p.serial)))
	_, err := p.repository.StageTarget(p.seal(text.Bytes()), time.Now().Add(24*time.Hour))
	p.check(err)
	return p.put()
}

// put has what is staged signed and published, and lays it out.
func (p *press) put() edition {
	p.t.Helper()
	for _, key := range p.targets[:2] {
		_, err := p.repository.Sign(signing.RoleTargets, key)
		p.check(err)
	}
	published, err := p.repository.Publish(signing.Online{
		Snapshot: p.snapshot, Timestamp: p.timestamp,
		SnapshotExpires: time.Now().Add(24 * time.Hour), TimestampExpires: time.Now().Add(24 * time.Hour),
	})
	p.check(err)
	return p.layOut(published)
}

// layOut copies what a publication consists of, without what came before, into
// a new folder.
func (p *press) layOut(published signing.Publication) edition {
	p.t.Helper()
	p.laid++
	e := edition{dir: filepath.Join(p.editions, strconv.Itoa(p.laid)), Publication: published, serial: p.serial}
	for _, folder := range []string{"metadata", "targets"} {
		p.check(os.MkdirAll(filepath.Join(e.dir, folder), 0o700))
	}
	files := []string{e.path("timestamp"), e.path("snapshot"), e.path("targets"), e.path("target")}
	for n := range e.RootVersion {
		files = append(files, filepath.Join(e.dir, "metadata", fmt.Sprintf("%d.root.json", n+1)))
	}
	for _, to := range files {
		from, err := filepath.Rel(e.dir, to)
		p.check(err)
		raw, err := os.ReadFile(filepath.Join(p.publish, from))
		p.check(err)
		p.check(os.WriteFile(to, raw, 0o600))
	}
	return e
}

// rotate publishes a new root after change has been at the keys (those of the root
// excepted), and the present list signed anew under it.
func (p *press) rotate(change func()) edition {
	p.t.Helper()
	change()
	_, err := p.repository.StageRoot(signing.Roles{
		Root: signing.RoleKeys{Keys: public(p.root...), Threshold: 2}, Targets: signing.RoleKeys{Keys: public(p.targets...), Threshold: 2},
		Snapshot: signing.RoleKeys{Keys: public(p.snapshot), Threshold: 1}, Timestamp: signing.RoleKeys{Keys: public(p.timestamp), Threshold: 1},
	}, time.Now().AddDate(1, 0, 0))
	p.check(err)
	for _, key := range p.root[:2] {
		_, err := p.repository.Sign(signing.RoleRoot, key)
		p.check(err)
	}
	_, err = p.repository.RestageTarget(time.Now().Add(24 * time.Hour))
	p.check(err)
	return p.put()
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := signing.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func public(keys ...crypto.Signer) (all []crypto.PublicKey) {
	for _, k := range keys {
		all = append(all, k.Public())
	}
	return all
}

func (p *press) seal(text []byte) []byte {
	p.t.Helper()
	sealed, err := signing.Seal(text, p.recipients)
	p.check(err)
	return sealed
}

// path is that of one of the files that make up an edition, by what it is.
func (e edition) path(part string) string {
	name := map[string]string{
		"root":      fmt.Sprintf("metadata/%d.root.json", e.RootVersion),
		"timestamp": "metadata/timestamp.json",
		"snapshot":  fmt.Sprintf("metadata/%d.snapshot.json", e.SnapshotVersion),
		"targets":   fmt.Sprintf("metadata/%d.targets.json", e.TargetsVersion),
		"target":    e.TargetFile,
	}[part]
	if name == "" {
		panic("an edition has no " + part)
	}
	return filepath.Join(e.dir, filepath.FromSlash(name))
}

// forger falsifies a copy of an edition that nobody has seen yet.
type forger struct {
	*press
	edition
}

func (p *press) forge(e edition) *forger {
	p.t.Helper()
	p.laid++
	dir := filepath.Join(p.editions, strconv.Itoa(p.laid))
	p.check(os.CopyFS(dir, os.DirFS(e.dir)))
	e.dir = dir
	return &forger{press: p, edition: e}
}

// change rewrites one of the files.
func (f *forger) change(part string, change func(raw []byte) []byte) {
	f.t.Helper()
	raw, err := os.ReadFile(f.path(part))
	f.check(err)
	f.check(os.WriteFile(f.path(part), change(raw), 0o600))
}

// text seals a list's text and signs it as the authority would.
func (f *forger) text(text []byte) {
	f.t.Helper()
	f.sign(counterfeit{target: f.seal(compress(f.t, text))})
}

// counterfeit is a publication that is signed as it says, whatever that means.
// Zero values stand for what is right.
type counterfeit struct {
	target  []byte // default: that of the edition
	length  int64  // that is signed for; default that of target
	targets []byte // metadata that is already signed; default: made for target

	by                                 []crypto.Signer // of the targets; default two of three
	snapshotBy, timestampBy            crypto.Signer
	targetsV, snapshotV, timestampV    int64 // versions
	targetsEnd, snapshotEnd, freshTill time.Time
}

// sign writes all that is signed over the target anew.
func (f *forger) sign(c counterfeit) {
	f.t.Helper()
	soon := time.Now().Add(time.Hour)
	for _, d := range []struct {
		set *int64
		to  int64
	}{{&c.targetsV, f.TargetsVersion}, {&c.snapshotV, f.SnapshotVersion}, {&c.timestampV, f.TimestampVersion}} {
		if *d.set == 0 {
			*d.set = d.to
		}
	}
	for _, end := range []*time.Time{&c.targetsEnd, &c.snapshotEnd, &c.freshTill} {
		if end.IsZero() {
			*end = soon
		}
	}
	if c.by == nil {
		c.by = f.press.targets[:2]
	}
	if c.snapshotBy == nil {
		c.snapshotBy = f.snapshot
	}
	if c.timestampBy == nil {
		c.timestampBy = f.timestamp
	}
	if c.target == nil {
		var err error
		c.target, err = os.ReadFile(f.path("target"))
		f.check(err)
	}
	if c.length == 0 {
		c.length = int64(len(c.target))
	}

	sum := sha256.Sum256(c.target)
	if c.targets == nil {
		md := metadata.Targets(utc(c.targetsEnd))
		md.Signed.Version = c.targetsV
		md.Signed.Targets["list"] = &metadata.TargetFiles{Length: c.length, Hashes: metadata.Hashes{"sha256": sum[:]}}
		c.targets = signed(f.t, md, c.by...)
	}
	snapshot := metadata.Snapshot(utc(c.snapshotEnd))
	snapshot.Signed.Version = c.snapshotV
	snapshot.Signed.Meta = map[string]*metadata.MetaFiles{"targets.json": named(c.targetsV, c.targets)}
	snapshotRaw := signed(f.t, snapshot, c.snapshotBy)
	timestamp := metadata.Timestamp(utc(c.freshTill))
	timestamp.Signed.Version = c.timestampV
	timestamp.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": named(c.snapshotV, snapshotRaw)}

	f.TargetsVersion, f.SnapshotVersion, f.TimestampVersion = c.targetsV, c.snapshotV, c.timestampV
	f.TargetFile = fmt.Sprintf("targets/%x.list", sum)
	for part, raw := range map[string][]byte{
		"target": c.target, "targets": c.targets, "snapshot": snapshotRaw, "timestamp": signed(f.t, timestamp, c.timestampBy),
	} {
		f.check(os.WriteFile(f.path(part), raw, 0o600))
	}
}

// signed signs metadata by each of the keys, by one twice if it is there twice.
func signed[T metadata.Roles](t *testing.T, md *metadata.Metadata[T], by ...crypto.Signer) []byte {
	t.Helper()
	for _, key := range by {
		s, err := signature.LoadED25519Signer(key.(ed25519.PrivateKey))
		if err == nil {
			_, err = md.Sign(s)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	raw, err := md.ToBytes(true)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// compress is the outer form of a list's text, before it is sealed.
func compress(t *testing.T, text []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(text, nil)
}

func named(version int64, raw []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(raw)
	return &metadata.MetaFiles{Version: version, Length: int64(len(raw)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}

func utc(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// spell writes a list as blocklist does, but whatever it says.
func spell(t *testing.T, l *blocklist.List) []byte {
	t.Helper()
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	h := l.Header
	h.Categories = maps.Clone(h.Categories)
	for key, page := range h.Categories {
		page.IPv4, page.IPv6 = append([]netip.Addr{}, page.IPv4...), append([]netip.Addr{}, page.IPv6...)
		h.Categories[key] = page
	}
	if err := e.Encode(h); err != nil {
		t.Fatal(err)
	}
	for _, entry := range l.Entries {
		if err := e.Encode(entry); err != nil {
			t.Fatal(err)
		}
	}
	return text.Bytes()
}
