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
	"reflect"
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
	editions   string   // a folder for each edition, as it would be served
	laid       int      // number of such folders
	roots      [][]byte // metadata, from version 1 on
	version    int64    // of targets, snapshot and timestamp in the last edition
	serial     uint64   // of the list in it
	recipients []string
	header     blocklist.Header

	// Keys by the newest root; any two sign for root and for targets.
	root, targets       []crypto.Signer
	snapshot, timestamp crypto.Signer
}

// edition is a publication in a folder of its own.
type edition struct {
	dir    string
	serial uint64
	// Versions, by which the files are named.
	rootV, targetsV, snapshotV, timestampV int64
	targetFile                             string
}

// The names that each edition lists, and the one that an edition alone lists.
const (
	listedDomain = "propagande.example" // terrorism, scope domain
	listedHost   = "images.example"     // minors, scope host
)

func onlyIn(serial uint64) string { return fmt.Sprintf("liste-%d.example", serial) }

// newPress takes over the root that "cordon-authority init" has published, and
// all keys.
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
	return &press{
		t: t, editions: a.path(a.name + "/editions"), recipients: []string{a.recipient},
		roots:    [][]byte{[]byte(a.read(a.name + "/publish/metadata/1.root.json"))},
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
}

func (p *press) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// list is the honest list of a serial.
func (p *press) list(serial uint64) *blocklist.List {
	now := utc(time.Now())
	l := &blocklist.List{Header: p.header}
	l.Categories = maps.Clone(p.header.Categories) // forgers change it
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

// edition makes the next honest publication, with a new list.
func (p *press) edition() edition {
	p.t.Helper()
	p.serial++
	var text bytes.Buffer
	p.check(blocklist.Encode(&text, p.list(p.serial)))
	return p.publish(p.seal(text.Bytes()))
}

// publish lays out the next publication, signed by two of three.
func (p *press) publish(target []byte) edition {
	p.t.Helper()
	p.laid++
	p.version++
	e := edition{
		dir: filepath.Join(p.editions, strconv.Itoa(p.laid)), serial: p.serial, rootV: int64(len(p.roots)),
		targetsV: p.version, snapshotV: p.version, timestampV: p.version,
	}
	for _, folder := range []string{"metadata", "targets"} {
		p.check(os.MkdirAll(filepath.Join(e.dir, folder), 0o700))
	}
	for i, root := range p.roots {
		p.check(os.WriteFile(filepath.Join(e.dir, "metadata", fmt.Sprintf("%d.root.json", i+1)), root, 0o600))
	}
	f := &forger{press: p, edition: e}
	f.sign(counterfeit{target: target})
	return f.edition
}

// rotate publishes a new root after change has been at the keys (those of the root
// excepted), and the next list under it.
func (p *press) rotate(change func()) edition {
	p.t.Helper()
	change()
	root := metadata.Root(utc(time.Now().AddDate(1, 0, 0)))
	root.Signed.Version, root.Signed.ConsistentSnapshot = int64(len(p.roots))+1, true
	for role, keys := range map[string][]crypto.Signer{
		metadata.ROOT: p.root, metadata.TARGETS: p.targets, metadata.SNAPSHOT: {p.snapshot}, metadata.TIMESTAMP: {p.timestamp},
	} {
		for _, k := range keys {
			key, err := metadata.KeyFromPublicKey(k.Public())
			p.check(err)
			p.check(root.Signed.AddKey(key, role))
		}
		root.Signed.Roles[role].Threshold = min(2, len(keys))
	}
	p.roots = append(p.roots, signed(p.t, root, p.root[:2]...))
	return p.edition()
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := signing.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
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
		"root":      fmt.Sprintf("metadata/%d.root.json", e.rootV),
		"timestamp": "metadata/timestamp.json",
		"snapshot":  fmt.Sprintf("metadata/%d.snapshot.json", e.snapshotV),
		"targets":   fmt.Sprintf("metadata/%d.targets.json", e.targetsV),
		"target":    e.targetFile,
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

// bytes reads a file of an edition.
func (f *forger) bytes(e edition, part string) []byte {
	f.t.Helper()
	raw, err := os.ReadFile(e.path(part))
	f.check(err)
	return raw
}

// put writes one of the files.
func (f *forger) put(part string, raw []byte) {
	f.t.Helper()
	f.check(os.WriteFile(f.path(part), raw, 0o600))
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
	targetsV, snapshotV, timestampV    int64 // versions; default those of the edition
	targetsEnd, snapshotEnd, freshTill time.Time
}

// sign writes all that is signed over the target anew.
func (f *forger) sign(c counterfeit) {
	f.t.Helper()
	or(&c.targetsV, f.edition.targetsV)
	or(&c.snapshotV, f.edition.snapshotV)
	or(&c.timestampV, f.edition.timestampV)
	later := time.Now().Add(24 * time.Hour)
	or(&c.targetsEnd, later)
	or(&c.snapshotEnd, later)
	or(&c.freshTill, later)
	or(&c.snapshotBy, f.snapshot)
	or(&c.timestampBy, f.timestamp)
	if c.by == nil {
		c.by = f.press.targets[:2]
	}
	if c.target == nil {
		c.target = f.bytes(f.edition, "target")
	}
	or(&c.length, int64(len(c.target)))

	sum := sha256.Sum256(c.target)
	if c.targets == nil {
		md := metadata.Targets(utc(c.targetsEnd))
		md.Signed.Version = c.targetsV
		md.Signed.Targets["list"] = &metadata.TargetFiles{Length: c.length, Hashes: metadata.Hashes{"sha256": sum[:]}}
		c.targets = signed(f.t, md, c.by...)
	}
	snapshot := metadata.Snapshot(utc(c.snapshotEnd))
	snapshot.Signed.Version = c.snapshotV
	snapshot.Signed.Meta = map[string]*metadata.MetaFiles{"targets.json": bound(c.targetsV, c.targets)}
	snapshotRaw := signed(f.t, snapshot, c.snapshotBy)
	timestamp := metadata.Timestamp(utc(c.freshTill))
	timestamp.Signed.Version = c.timestampV
	timestamp.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": bound(c.snapshotV, snapshotRaw)}

	f.edition.targetsV, f.edition.snapshotV, f.edition.timestampV = c.targetsV, c.snapshotV, c.timestampV
	f.targetFile = fmt.Sprintf("targets/%x.list", sum)
	f.put("target", c.target)
	f.put("targets", c.targets)
	f.put("snapshot", snapshotRaw)
	f.put("timestamp", signed(f.t, timestamp, c.timestampBy))
}

// or sets what is not set.
func or[T any](value *T, otherwise T) {
	if reflect.ValueOf(value).Elem().IsZero() {
		*value = otherwise
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
	return append(raw, '\n')
}

// bound binds metadata by version, length and hash.
func bound(version int64, raw []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(raw)
	return &metadata.MetaFiles{Version: version, Length: int64(len(raw)), Hashes: metadata.Hashes{"sha256": sum[:]}}
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
