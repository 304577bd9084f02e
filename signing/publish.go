package signing

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"cordon/durable"
)

// Online are the keys that stay with the publishing machine, and how long what
// they sign holds. The timestamp's expiry is the time after which clients raise
// an alarm when they get no news.
type Online struct {
	Snapshot         crypto.Signer
	Timestamp        crypto.Signer
	SnapshotExpires  time.Time
	TimestampExpires time.Time
}

// Publication tells what is published. The times are those after which each part
// is refused by clients.
type Publication struct {
	RootVersion      int64
	TargetsVersion   int64 // 0 where only a root is published
	SnapshotVersion  int64
	TimestampVersion int64
	RootExpires      time.Time
	TargetsExpires   time.Time
	SnapshotExpires  time.Time
	TimestampExpires time.Time
	TargetFile       string // path below the published folder: "targets/HASH.list"
	TargetSHA256     string // hexadecimal
	TargetLength     int64
}

// Publish puts out all that is staged, once it has signatures enough, and clears
// it away. timestamp.json comes last and is what makes the rest count: killed
// before, clients see nothing new, and the next Publish does it again.
//
// The first root may be published alone, without online keys.
func (r *Repository) Publish(online Online) (Publication, error) {
	return r.publishing("publish", func(p *published) error {
		root, rootRaw, err := r.rootToPublish(p)
		if err != nil {
			return err
		}
		targets, targetsRaw, err := r.targetsToPublish(p, root)
		if err != nil {
			return err
		}
		if rootRaw == nil && targetsRaw == nil && p.signedUnder(root) {
			if !r.anythingStaged() {
				return ErrNothingStaged
			}
			return r.clearPublished() // a Publish was killed before it came to that
		}

		if targets == nil { // a root alone
			if err := r.write(fmt.Sprintf("%d.root.json", root.Signed.Version), rootRaw); err != nil {
				return err
			}
			return r.clearPublished()
		}
		if targetsRaw != nil {
			if err := r.writeTarget(targets.Signed.Targets[r.target]); err != nil {
				return err
			}
			if err := r.write(fmt.Sprintf("%d.targets.json", targets.Signed.Version), targetsRaw); err != nil {
				return err
			}
		} else {
			targetsRaw = p.targetsRaw
		}
		snapshot, snapshotRaw, err := r.newSnapshot(p, root, targets.Signed.Version, targetsRaw, online)
		if err != nil {
			return err
		}
		timestampRaw, err := r.newTimestamp(p, root, snapshot.Signed.Version, snapshotRaw, online)
		if err != nil {
			return err
		}
		if err := r.write(fmt.Sprintf("%d.snapshot.json", snapshot.Signed.Version), snapshotRaw); err != nil {
			return err
		}
		// A new root is seen as soon as it is there, so it comes as late as it can.
		if rootRaw != nil {
			if err := r.write(fmt.Sprintf("%d.root.json", root.Signed.Version), rootRaw); err != nil {
				return err
			}
		}
		if err := r.write("timestamp.json", timestampRaw); err != nil {
			return err
		}
		return r.clearPublished()
	})
}

// Refresh signs a new timestamp over what is published, and a new snapshot too
// where the key for it is given. Nothing that people signed changes.
func (r *Repository) Refresh(online Online) (Publication, error) {
	return r.publishing("refresh", func(p *published) error {
		if p.timestamp == nil {
			return errors.New("nothing has been published yet")
		}
		version, raw := p.snapshot.Signed.Version, p.snapshotRaw
		if online.Snapshot != nil {
			snapshot, snapshotRaw, err := r.newSnapshot(p, p.root, p.targets.Signed.Version, p.targetsRaw, online)
			if err != nil {
				return err
			}
			version, raw = snapshot.Signed.Version, snapshotRaw
		} else if err := p.root.VerifyDelegate(RoleSnapshot, p.snapshot); err != nil {
			return fmt.Errorf("snapshot %d is not signed by the keys of root %d: refresh with the snapshot key as well: %w", version, p.rootVersion(), err)
		}
		timestampRaw, err := r.newTimestamp(p, p.root, version, raw, online)
		if err != nil {
			return err
		}
		if online.Snapshot != nil {
			if err := r.write(fmt.Sprintf("%d.snapshot.json", version), raw); err != nil {
				return err
			}
		}
		return r.write("timestamp.json", timestampRaw)
	})
}

// Published tells what is published now.
func (r *Repository) Published() (Publication, error) {
	return r.publishing("read what is published", func(*published) error { return nil })
}

// publishing runs do, and tells what is published after it.
func (r *Repository) publishing(doing string, do func(*published) error) (Publication, error) {
	var out Publication
	_, err := r.locked(doing, func(p *published) (Status, error) {
		if err := do(p); err != nil {
			return Status{}, err
		}
		now, err := r.readPublished()
		if err != nil {
			return Status{}, err
		}
		out = now.publication(r.target)
		return Status{}, nil
	})
	return out, err
}

// rootToPublish gives the root that will govern, and its bytes where it is a new
// one.
func (r *Repository) rootToPublish(p *published) (*metadata.Metadata[metadata.RootType], []byte, error) {
	raw, err := r.readStaged(stagedRoot)
	if errors.Is(err, ErrNothingStaged) || err == nil && bytes.Equal(raw, p.rootRaw) {
		if p.root == nil {
			return nil, nil, errors.New("there is no root: stage one first")
		}
		if !p.root.Signed.Expires.After(r.clock()) {
			return nil, nil, fmt.Errorf("root %d expired on %s: stage, sign and publish a new one", p.rootVersion(), p.root.Signed.Expires.Format(time.RFC3339))
		}
		return p.root, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	root, err := r.readStagedRoot()
	if err != nil {
		return nil, nil, err
	}
	if want := p.rootVersion() + 1; root.Signed.Version != want {
		return nil, nil, fmt.Errorf("root %d is staged, where %d comes next: discard it", root.Signed.Version, want)
	}
	return root, raw, r.ready(p, RoleRoot)
}

// targetsToPublish gives the targets that will be in force, nil if there are
// none yet, and their bytes where they are new.
func (r *Repository) targetsToPublish(p *published, root *metadata.Metadata[metadata.RootType]) (*metadata.Metadata[metadata.TargetsType], []byte, error) {
	raw, err := r.readStaged(stagedTargets)
	if errors.Is(err, ErrNothingStaged) || err == nil && bytes.Equal(raw, p.targetsRaw) {
		if p.targets == nil {
			return nil, nil, nil
		}
		if err := root.VerifyDelegate(RoleTargets, p.targets); err != nil {
			return nil, nil, fmt.Errorf("root %d revokes keys that signed targets %d: restage and sign the targets, then publish both: %w",
				root.Signed.Version, p.targets.Signed.Version, err)
		}
		return p.targets, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	targets, err := r.readStagedTargets()
	if err != nil {
		return nil, nil, err
	}
	if want := p.targetsVersion() + 1; targets.Signed.Version != want {
		return nil, nil, fmt.Errorf("targets %d is staged, where %d comes next: discard it", targets.Signed.Version, want)
	}
	return targets, raw, r.ready(p, RoleTargets)
}

// ready refuses what lacks signatures, or would be refused by clients at once.
func (r *Repository) ready(p *published, role string) error {
	s, err := r.status(p, role)
	if err != nil {
		return err
	}
	if !s.Complete() {
		return fmt.Errorf("%w: %s", ErrSignature, s)
	}
	if !s.Expires.After(r.clock()) {
		return fmt.Errorf("%s %d: %w: on %s; discard and stage it again", role, s.Version, ErrExpired, s.Expires.Format(time.RFC3339))
	}
	return nil
}

func (r *Repository) newSnapshot(p *published, root *metadata.Metadata[metadata.RootType], targets int64, targetsRaw []byte, online Online) (*metadata.Metadata[metadata.SnapshotType], []byte, error) {
	snapshot := metadata.Snapshot(tufTime(online.SnapshotExpires))
	snapshot.Signed.Version = p.snapshotVersion() + 1
	snapshot.Signed.Meta = map[string]*metadata.MetaFiles{"targets.json": metaFile(targets, targetsRaw)}
	raw, err := signOnline(r, root, RoleSnapshot, snapshot, online.Snapshot, online.SnapshotExpires)
	return snapshot, raw, err
}

func (r *Repository) newTimestamp(p *published, root *metadata.Metadata[metadata.RootType], snapshot int64, snapshotRaw []byte, online Online) ([]byte, error) {
	timestamp := metadata.Timestamp(tufTime(online.TimestampExpires))
	timestamp.Signed.Version = p.timestampVersion() + 1
	timestamp.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": metaFile(snapshot, snapshotRaw)}
	return signOnline(r, root, RoleTimestamp, timestamp, online.Timestamp, online.TimestampExpires)
}

func signOnline[T metadata.Roles](r *Repository, root *metadata.Metadata[metadata.RootType], role string, md *metadata.Metadata[T], key crypto.Signer, expires time.Time) ([]byte, error) {
	if key == nil {
		return nil, fmt.Errorf("the %s key is needed", role)
	}
	if !expires.After(r.clock()) {
		return nil, fmt.Errorf("the %s would expire on %s, which has passed", role, expires.Format(time.RFC3339))
	}
	if _, err := md.Sign(tufSigner{key}); err != nil {
		return nil, fmt.Errorf("sign the %s: %w", role, err)
	}
	if err := root.VerifyDelegate(role, md); err != nil {
		return nil, fmt.Errorf("the key given is not the %s key of root %d: %w", role, root.Signed.Version, err)
	}
	return encode(md)
}

// metaFile binds metadata by length and hash as well as by version: else one
// that says the same in other bytes would pass.
func metaFile(version int64, raw []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(raw)
	return &metadata.MetaFiles{Version: version, Length: int64(len(raw)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}

func (r *Repository) write(name string, raw []byte) error {
	if err := durable.Replace(r.disk, r.metadataPath(name), raw, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// writeTarget copies the staged target to its published name, unless it is there
// (staged again, or written by a Publish that was killed).
func (r *Repository) writeTarget(info *metadata.TargetFiles) error {
	path := r.targetPath(info)
	if data, err := os.ReadFile(path); err == nil && info.VerifyLengthHashes(data) == nil {
		return nil
	}
	data, err := os.ReadFile(r.stagedPath(stagedTarget))
	if err != nil {
		return err
	}
	if err := info.VerifyLengthHashes(data); err != nil {
		return err
	}
	if err := durable.Replace(r.disk, path, data, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func (r *Repository) anythingStaged() bool {
	_, noRoot := r.readStaged(stagedRoot)
	_, noTargets := r.readStaged(stagedTargets)
	return noRoot == nil || noTargets == nil
}

// clearPublished removes from the staged folder what is published by now, and
// what kills have left over.
func (r *Repository) clearPublished() error {
	p, err := r.readPublished()
	if err != nil {
		return err
	}
	if raw, err := r.readStaged(stagedRoot); err == nil && bytes.Equal(raw, p.rootRaw) {
		if err := r.unstage(stagedRoot); err != nil {
			return err
		}
	}
	if raw, err := r.readStaged(stagedTargets); err == nil && bytes.Equal(raw, p.targetsRaw) {
		if err := r.unstage(stagedTargets, stagedTarget); err != nil {
			return err
		}
	}
	for _, dir := range []string{r.staged, r.metadataPath(""), r.publish + "/targets"} {
		if err := durable.RemoveTemp(r.disk, dir); err != nil {
			return err
		}
	}
	return nil
}

// published is what is in the served folder: the newest root, and what
// timestamp.json leads to. It was signed here, so only its form is checked.
type published struct {
	root      *metadata.Metadata[metadata.RootType]
	timestamp *metadata.Metadata[metadata.TimestampType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	targets   *metadata.Metadata[metadata.TargetsType]

	rootRaw, snapshotRaw, targetsRaw []byte
}

func (r *Repository) readPublished() (*published, error) {
	p := &published{}
	for version := int64(1); ; version++ {
		raw, err := os.ReadFile(r.metadataPath(strconv.FormatInt(version, 10) + ".root.json"))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		if p.root, err = parseRoot(raw); err != nil {
			return nil, fmt.Errorf("%d.root.json: %w", version, err)
		}
		if p.rootRaw = raw; p.root.Signed.Version != version {
			return nil, fmt.Errorf("%d.root.json says it is version %d", version, p.root.Signed.Version)
		}
	}
	raw, err := os.ReadFile(r.metadataPath("timestamp.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	if p.timestamp, err = parseTimestamp(raw); err != nil {
		return nil, fmt.Errorf("timestamp.json: %w", err)
	}
	name := fmt.Sprintf("%d.snapshot.json", p.timestamp.Signed.Meta["snapshot.json"].Version)
	if p.snapshotRaw, err = os.ReadFile(r.metadataPath(name)); err != nil {
		return nil, err
	}
	if p.snapshot, err = parseSnapshot(p.snapshotRaw); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	name = fmt.Sprintf("%d.targets.json", p.snapshot.Signed.Meta["targets.json"].Version)
	if p.targetsRaw, err = os.ReadFile(r.metadataPath(name)); err != nil {
		return nil, err
	}
	if p.targets, err = parseTargets(p.targetsRaw); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// signedUnder tells whether what the online keys signed still holds under root:
// not so when a Publish that changed them was killed half-way.
func (p *published) signedUnder(root *metadata.Metadata[metadata.RootType]) bool {
	return p.timestamp == nil ||
		root.VerifyDelegate(RoleTimestamp, p.timestamp) == nil && root.VerifyDelegate(RoleSnapshot, p.snapshot) == nil
}

func (p *published) rootVersion() int64 {
	if p.root == nil {
		return 0
	}
	return p.root.Signed.Version
}

func (p *published) targetsVersion() int64 {
	if p.targets == nil {
		return 0
	}
	return p.targets.Signed.Version
}

func (p *published) snapshotVersion() int64 {
	if p.snapshot == nil {
		return 0
	}
	return p.snapshot.Signed.Version
}

func (p *published) timestampVersion() int64 {
	if p.timestamp == nil {
		return 0
	}
	return p.timestamp.Signed.Version
}

func (p *published) publication(target string) Publication {
	out := Publication{
		RootVersion: p.rootVersion(), TargetsVersion: p.targetsVersion(),
		SnapshotVersion: p.snapshotVersion(), TimestampVersion: p.timestampVersion(),
	}
	if p.root != nil {
		out.RootExpires = p.root.Signed.Expires
	}
	if p.timestamp == nil {
		return out
	}
	out.TimestampExpires = p.timestamp.Signed.Expires
	out.SnapshotExpires = p.snapshot.Signed.Expires
	out.TargetsExpires = p.targets.Signed.Expires
	if info := p.targets.Signed.Targets[target]; info != nil {
		out.TargetFile = targetFile(target, info)
		out.TargetSHA256 = hex.EncodeToString(info.Hashes["sha256"])
		out.TargetLength = info.Length
	}
	return out
}
