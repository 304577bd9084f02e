package signing

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// maxMetadata bounds every metadata file, in bytes. A root with forty keys has
// fifteen thousand.
const maxMetadata = 64 << 10

// trust is go-tuf's verified set, led through the workflow of the client (TUF
// 1.0, section 5). go-tuf does the verification; before it sees a file, its shape
// is checked here, since it takes for granted what only an honest signer keeps
// to: a null in the place of an object, a missing entry for the next role or a
// short key would make it panic.
//
// Its Updater is not used: it reads its clock once, trusts its own cache, which
// is neither durable nor checked, over the files it starts from, and takes
// neither a context nor a source that is not a URL.
type trust struct {
	set *trustedmetadata.TrustedMetadata
}

// newTrust starts at a trusted root. Expiry is judged at now; the zero time finds
// nothing expired.
func newTrust(rootRaw []byte, now time.Time) (*trust, error) {
	if _, err := parseRoot(rootRaw); err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	set, err := trustedmetadata.New(rootRaw)
	if err != nil {
		return nil, refusal("trusted root", err)
	}
	set.RefTime = now.UTC()
	return &trust{set: set}, nil
}

func (t *trust) rootVersion() int64 { return t.set.Root.Signed.Version }

// root takes the next root. It must be signed by the present one's keys and by
// its own.
func (t *trust) root(raw []byte) error {
	doing := fmt.Sprintf("root %d", t.rootVersion()+1)
	if _, err := parseRoot(raw); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if _, err := t.set.UpdateRoot(raw); err != nil {
		return refusal(doing, err)
	}
	return nil
}

// timestamp takes a timestamp. One with the version of that held before is left
// aside (same is true), as TUF wants it.
func (t *trust) timestamp(raw []byte) (same bool, err error) {
	if _, err := parseTimestamp(raw); err != nil {
		return false, fmt.Errorf("timestamp: %w", err)
	}
	_, err = t.set.UpdateTimestamp(raw)
	if errors.Is(err, &metadata.ErrEqualVersionNumber{}) {
		return true, nil
	}
	if err != nil {
		return false, refusal("timestamp", err)
	}
	return false, nil
}

// snapshotInfo is what the timestamp says of the snapshot.
func (t *trust) snapshotInfo() *metadata.MetaFiles {
	return t.set.Timestamp.Signed.Meta["snapshot.json"]
}

// snapshot takes a snapshot. One from our own state (held) need not be the one
// that the timestamp names: it is then the floor for the next.
func (t *trust) snapshot(raw []byte, held bool) error {
	if _, err := parseSnapshot(raw); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	if _, err := t.set.UpdateSnapshot(raw, held); err != nil {
		return refusal("snapshot", err)
	}
	return nil
}

// targetsInfo is what the snapshot says of the targets.
func (t *trust) targetsInfo() *metadata.MetaFiles {
	return t.set.Snapshot.Signed.Meta["targets.json"]
}

// targets takes the targets metadata and gives what it says of a target.
func (t *trust) targets(raw []byte, name string) (*metadata.TargetFiles, error) {
	if _, err := parseTargets(raw); err != nil {
		return nil, fmt.Errorf("targets: %w", err)
	}
	md, err := t.set.UpdateTargets(raw)
	if err != nil {
		return nil, refusal("targets", err)
	}
	info := md.Signed.Targets[name]
	if info == nil {
		return nil, fmt.Errorf("targets %d: %w: it does not name %q", md.Signed.Version, ErrIncomplete, name)
	}
	return info, nil
}

// VerifyAccepted verifies a stored publication against the pinned root: chain of
// roots, thresholds of signatures, length and hash of each part and of the
// target. Expiry is not looked at, since the last verified list stays in force.
// Roots that are not newer than the pinned one are passed over, so that a newer
// one may be pinned later.
func VerifyAccepted(pinnedRoot []byte, a *Accepted) error {
	_, err := verifyAccepted(pinnedRoot, a)
	return err
}

func verifyAccepted(pinnedRoot []byte, a *Accepted) (*trust, error) {
	t, err := newTrust(pinnedRoot, time.Time{})
	if err != nil {
		return nil, err
	}
	for _, raw := range a.Roots {
		root, err := parseRoot(raw)
		if err != nil {
			return nil, fmt.Errorf("root after %d: %w", t.rootVersion(), err)
		}
		if root.Signed.Version <= t.rootVersion() {
			continue
		}
		if err := t.root(raw); err != nil {
			return nil, err
		}
	}
	if _, err := t.timestamp(a.Timestamp); err != nil {
		return nil, err
	}
	if err := t.snapshot(a.Snapshot, false); err != nil {
		return nil, err
	}
	info, err := t.targets(a.Targets, a.Name)
	if err != nil {
		return nil, err
	}
	if err := info.VerifyLengthHashes(a.Target); err != nil {
		return nil, refusal("target "+a.Name, err)
	}
	return t, nil
}

// matches tells whether raw is the file that was signed for.
func matches(info *metadata.MetaFiles, raw []byte) bool {
	return info.VerifyLengthHashes(raw) == nil
}

// targetFile is the path below the base of a publication, as consistent
// snapshots want it (TUF 1.0, section 6.2).
func targetFile(name string, info *metadata.TargetFiles) string {
	return "targets/" + hex.EncodeToString(info.Hashes["sha256"]) + "." + name
}

// The parsers below take metadata that need not be signed yet, and vouch for
// its shape alone.

func parseRoot(raw []byte) (*metadata.Metadata[metadata.RootType], error) {
	md, err := parse(metadata.Root, raw)
	if err != nil {
		return nil, err
	}
	if err := checkRoot(&md.Signed); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	return md, nil
}

func parseTimestamp(raw []byte) (*metadata.Metadata[metadata.TimestampType], error) {
	md, err := parse(metadata.Timestamp, raw)
	if err != nil {
		return nil, err
	}
	if err := checkMeta(md.Signed.Version, md.Signed.Meta, "snapshot.json"); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	return md, nil
}

func parseSnapshot(raw []byte) (*metadata.Metadata[metadata.SnapshotType], error) {
	md, err := parse(metadata.Snapshot, raw)
	if err != nil {
		return nil, err
	}
	if err := checkMeta(md.Signed.Version, md.Signed.Meta, "targets.json"); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	return md, nil
}

func parseTargets(raw []byte) (*metadata.Metadata[metadata.TargetsType], error) {
	md, err := parse(metadata.Targets, raw)
	if err != nil {
		return nil, err
	}
	if md.Signed.Version < 1 {
		return nil, fmt.Errorf("%w: version %d", ErrIncomplete, md.Signed.Version)
	}
	for name, info := range md.Signed.Targets {
		// With two hashes, which of them names the file would be chance.
		if len(info.Hashes) != 1 || len(info.Hashes["sha256"]) != sha256.Size || info.Length < 1 {
			return nil, fmt.Errorf("%w: target %q is not named by its length and one sha256", ErrIncomplete, name)
		}
	}
	return md, nil
}

func parse[T metadata.Roles](empty func(...time.Time) *metadata.Metadata[T], raw []byte) (*metadata.Metadata[T], error) {
	if err := checkJSON(raw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	md, err := empty(time.Time{}).FromBytes(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	return md, nil
}

func checkRoot(root *metadata.RootType) error {
	if root.Version < 1 || !root.ConsistentSnapshot {
		return fmt.Errorf("version %d, consistent_snapshot %t: a version from 1 and consistent snapshots are needed", root.Version, root.ConsistentSnapshot)
	}
	for id, key := range root.Keys {
		if got, err := key.ID(); err != nil || got != id {
			return fmt.Errorf("key %s: its id does not fit it", id)
		}
		pub, err := key.ToPublicKey()
		if err != nil {
			return fmt.Errorf("key %s: %w", id, err)
		}
		switch p := pub.(type) {
		case ed25519.PublicKey:
			if len(p) != ed25519.PublicKeySize {
				return fmt.Errorf("key %s: %d bytes are no Ed25519 public key", id, len(p))
			}
		case *ecdsa.PublicKey:
			if p.Curve != elliptic.P256() || key.Scheme != metadata.KeySchemeECDSA_SHA2_P256 {
				return fmt.Errorf("key %s: ECDSA keys are on P-256, with SHA-256", id)
			}
		default:
			return fmt.Errorf("key %s: keys are Ed25519 or ECDSA P-256", id)
		}
	}
	for _, name := range metadata.TOP_LEVEL_ROLE_NAMES {
		role := root.Roles[name]
		if role == nil {
			return fmt.Errorf("no role %s", name)
		}
		ids := slices.Clone(role.KeyIDs)
		slices.Sort(ids)
		if n := len(slices.Compact(ids)); n != len(role.KeyIDs) || role.Threshold < 1 || role.Threshold > n {
			return fmt.Errorf("role %s: threshold %d of %d different keys", name, role.Threshold, n)
		}
		for _, id := range role.KeyIDs {
			if root.Keys[id] == nil {
				return fmt.Errorf("role %s: key %s is not there", name, id)
			}
		}
	}
	return nil
}

// checkMeta wants exactly one entry, bound by length and hash.
func checkMeta(version int64, meta map[string]*metadata.MetaFiles, name string) error {
	info := meta[name]
	if version < 1 || len(meta) != 1 || info == nil {
		return fmt.Errorf("version %d with %d files: a version from 1 and %s alone are needed", version, len(meta), name)
	}
	if info.Version < 1 || info.Length < 1 || info.Length > maxMetadata || len(info.Hashes) != 1 || len(info.Hashes["sha256"]) != sha256.Size {
		return fmt.Errorf("%s is not bound by version, length (at most %d) and one sha256", name, maxMetadata)
	}
	return nil
}

// checkJSON takes one JSON object without null and without two fields of one
// name. Metadata needs neither; go-tuf dereferences what a null leaves nil.
func checkJSON(raw []byte) error {
	const maxDepth = 16
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	// One element for each open object or array: the names met so far, and whether
	// the next token is a name. names is nil for an array.
	type level struct {
		names  map[string]bool
		atName bool
	}
	var open []level
	for {
		token, err := d.Token()
		if err == io.EOF {
			if len(raw) == 0 {
				return errors.New("the file is empty")
			}
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if token == nil {
			return fmt.Errorf("null before byte %d", d.InputOffset())
		}
		if len(open) == 0 && token != json.Delim('{') {
			return errors.New("not a JSON object")
		}
		if closing := token == json.Delim('}') || token == json.Delim(']'); closing {
			if open = open[:len(open)-1]; len(open) == 0 {
				break
			}
		} else if n := len(open); n > 0 && open[n-1].names != nil {
			top := &open[n-1]
			if top.atName {
				name := token.(string)
				if top.names[name] {
					return fmt.Errorf("field %q twice, before byte %d", name, d.InputOffset())
				}
				top.names[name] = true
			}
			top.atName = !top.atName
		}
		switch token {
		case json.Delim('{'):
			open = append(open, level{names: map[string]bool{}, atName: true})
		case json.Delim('['):
			open = append(open, level{})
		}
		if len(open) > maxDepth {
			return fmt.Errorf("nested deeper than %d", maxDepth)
		}
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON object")
	}
	return nil
}
