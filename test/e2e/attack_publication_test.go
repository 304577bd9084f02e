package e2e

import (
	"crypto"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Whoever has the web server, the publishing machine with its online keys, or
// one person's key cannot change what the resolver enforces: the list in force
// stays, the alarm is raised, the refusal is on record, and the next honest
// edition is taken.
func TestAttacksOnThePublication(t *testing.T) {
	t.Parallel()
	s := newSiege(t)
	revoked := s.targets
	old := s.press.edition()
	s.show(s.rotate(func() { s.targets = []crypto.Signer{newKey(t), newKey(t), newKey(t)} }).dir)
	s.takes()
	s.recovers()

	attacks := []struct {
		name   string
		forge  func(f *forger)
		reason string
	}{
		{"an older publication is replayed", func(f *forger) { f.replace(old) }, "rollback"},
		{"an older list is signed anew", func(f *forger) { f.sign(counterfeit{target: f.bytes(old, "target")}) }, "rollback"},
		{"another list is signed under the serial in force", func(f *forger) {
			l := f.list(s.serial)
			l.Entries = l.Entries[1:]
			l.Sort()
			f.text(spell(f.t, l))
		}, "rollback"},
		{"older targets are signed in under a new snapshot", func(f *forger) {
			f.sign(counterfeit{targets: f.bytes(old, "targets"), targetsV: old.targetsV})
		}, "rollback"},
		{"an older snapshot is signed in under a new timestamp", func(f *forger) {
			f.sign(counterfeit{snapshotV: old.snapshotV})
		}, "rollback"},
		{"an older timestamp is put before the new files", func(f *forger) {
			f.put("timestamp", f.bytes(old, "timestamp"))
		}, "rollback"},
		{"the snapshot is that of another moment", func(f *forger) {
			f.put("snapshot", f.bytes(old, "snapshot"))
		}, "incomplete"},

		{"the timestamp has expired", func(f *forger) { f.sign(counterfeit{freshTill: time.Now().Add(-time.Second)}) }, "expired"},
		{"the snapshot has expired", func(f *forger) { f.sign(counterfeit{snapshotEnd: time.Now().Add(-time.Second)}) }, "expired"},
		{"the targets have expired", func(f *forger) { f.sign(counterfeit{targetsEnd: time.Now().Add(-time.Second)}) }, "expired"},

		{"one person signs instead of two", func(f *forger) { f.sign(counterfeit{by: f.press.targets[:1]}) }, "signature"},
		{"one person signs twice", func(f *forger) {
			f.sign(counterfeit{by: []crypto.Signer{f.press.targets[0], f.press.targets[0]}})
		}, "incomplete"},
		{"nobody signs", func(f *forger) { f.sign(counterfeit{by: []crypto.Signer{}}) }, "signature"},
		{"strangers sign", func(f *forger) { f.sign(counterfeit{by: []crypto.Signer{newKey(f.t), newKey(f.t)}}) }, "signature"},
		{"people whose keys were revoked sign", func(f *forger) { f.sign(counterfeit{by: revoked}) }, "signature"},
		{"one person signs with one whose key was revoked", func(f *forger) {
			f.sign(counterfeit{by: []crypto.Signer{f.press.targets[0], revoked[0]}})
		}, "signature"},
		{"people of the root sign a list", func(f *forger) { f.sign(counterfeit{by: f.root}) }, "signature"},
		{"the online keys sign a list", func(f *forger) {
			f.sign(counterfeit{by: []crypto.Signer{f.snapshot, f.timestamp}})
		}, "signature"},
		{"a stranger signs the snapshot", func(f *forger) { f.sign(counterfeit{snapshotBy: newKey(f.t)}) }, "signature"},
		{"a stranger signs the timestamp", func(f *forger) { f.sign(counterfeit{timestampBy: newKey(f.t)}) }, "signature"},
		{"the snapshot's key signs the timestamp", func(f *forger) { f.sign(counterfeit{timestampBy: f.snapshot}) }, "signature"},

		{"a root is signed by one person", func(f *forger) { f.nextRoot(f.rootV+1, f.root[:1]...) }, "signature"},
		{"a root is signed by people who are in no root", func(f *forger) { f.nextRoot(f.rootV+1, newKey(f.t), newKey(f.t)) }, "signature"},
		{"a root leaves a version out", func(f *forger) { f.nextRoot(f.rootV+2, f.root[:2]...) }, "rollback"},
		{"an older root comes again as the next", func(f *forger) {
			raw := f.bytes(f.edition, "root")
			f.rootV++
			f.put("root", raw)
		}, "rollback"},

		{"there is no timestamp", func(f *forger) { f.check(os.Remove(f.path("timestamp"))) }, "incomplete"},
		{"there is no snapshot", func(f *forger) { f.check(os.Remove(f.path("snapshot"))) }, "incomplete"},
		{"there are no targets", func(f *forger) { f.check(os.Remove(f.path("targets"))) }, "incomplete"},
		{"there is no list", func(f *forger) { f.check(os.Remove(f.path("target"))) }, "incomplete"},
		{"there is nothing any more", func(f *forger) { f.check(os.RemoveAll(filepath.Join(f.dir, "metadata"))) }, "incomplete"},
		{"the folder is gone", func(f *forger) { f.check(os.RemoveAll(f.dir)) }, "source"},
	}
	for _, a := range attacks {
		s.under(t, a.name, func(t *testing.T) {
			f := s.forge(s.edition())
			a.forge(f)
			s.attack(f.dir, a.reason)
		})
	}

	// A server that withholds the newer root would keep the revoked in power. The
	// thieves of their keys have the online keys of that time too.
	s.under(t, "newer roots are withheld", func(t *testing.T) {
		before, snapshot, timestamp := s.forge(s.edition()), s.snapshot, s.timestamp
		stolen := s.targets
		s.show(s.rotate(func() {
			s.targets = []crypto.Signer{newKey(t), newKey(t), newKey(t)}
			s.snapshot, s.timestamp = newKey(t), newKey(t)
		}).dir)
		s.takes()
		before.sign(counterfeit{by: stolen, snapshotBy: snapshot, timestampBy: timestamp, targetsV: 1000, snapshotV: 1000, timestampV: 1000})

		metrics := s.r.metrics()
		s.show(before.dir)
		s.refuses(metrics, "signature")
		// Not after a restart either, nor where the client's memory is lost: the list
		// in force keeps the roots that it was verified by.
		for _, lost := range []string{"", "resolver/lists/national/client"} {
			s.r.terminate()
			if lost != "" {
				s.check(os.RemoveAll(s.world.path(lost)))
			}
			s.news()
			s.starts()
			s.refuses(nil, "signature")
		}
		s.recovers()
	})

	// With the online keys alone all numbers of versions can be spent, so that
	// nothing newer can come. New online keys end it.
	s.under(t, "the online keys spend all version numbers", func(t *testing.T) {
		f := s.forge(s.edition())
		f.sign(counterfeit{by: f.press.targets[:1], targetsV: 1 << 52, snapshotV: 1 << 52, timestampV: 1 << 52})
		before := s.r.metrics()
		s.show(f.dir)
		s.refuses(before, "signature")
		s.news()
		before = s.r.metrics()
		s.show(s.edition().dir)
		s.refuses(before, "rollback")
		s.show(s.rotate(func() { s.snapshot, s.timestamp = newKey(t), newKey(t) }).dir)
		s.takes()
		s.recovers()
	})
	s.sealsEverything()
}

// replace puts another edition in the place of this one.
func (f *forger) replace(e edition) {
	f.t.Helper()
	f.check(os.RemoveAll(f.dir))
	f.check(os.CopyFS(f.dir, os.DirFS(e.dir)))
}

// nextRoot puts a root after the newest, with a version and signatures of one's
// choice, that gives all power to the signers.
func (f *forger) nextRoot(version int64, by ...crypto.Signer) {
	f.t.Helper()
	root := metadata.Root(utc(time.Now().Add(time.Hour)))
	root.Signed.Version, root.Signed.ConsistentSnapshot = version, true
	for _, signer := range by {
		key, err := metadata.KeyFromPublicKey(signer.Public())
		f.check(err)
		for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
			f.check(root.Signed.AddKey(key, role))
		}
	}
	f.rootV++
	f.put("root", signed(f.t, root, by...))
}
