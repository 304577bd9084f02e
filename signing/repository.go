package signing

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"golang.org/x/sys/unix"

	"cordon/durable"
)

// RepositoryConfig says where the authority's side keeps what.
type RepositoryConfig struct {
	Publish string           // folder that is served: metadata/ and targets/; made if missing
	Staged  string           // folder of what waits for signatures, 0700; made if missing
	Target  string           // target path; "list" when empty
	Clock   func() time.Time // refuses what has already expired
}

// Repository is the authority's side of a publication. Root and targets are
// staged, then signed by one person after another, each perhaps in a process of
// their own ([Repository.Sign]), then published with the online keys
// ([Repository.Publish]). All its state is in the two folders; a lock file
// keeps two processes from working on them at once.
type Repository struct {
	publish string
	staged  string
	target  string
	clock   func() time.Time
	disk    durable.Disk
}

// Files in the staged folder.
const (
	stagedRoot    = "root.json"
	stagedTargets = "targets.json"
	stagedTarget  = "target"
	lockFile      = "lock"
)

// targetName keeps target paths to one plain element, so that nothing has to be
// escaped in URLs or folders.
var targetName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// OpenRepository makes the folders where they are missing.
func OpenRepository(c RepositoryConfig) (*Repository, error) { return openRepository(c, durable.OS{}) }

func openRepository(c RepositoryConfig, d durable.Disk) (*Repository, error) {
	if c.Target == "" {
		c.Target = "list"
	}
	switch {
	case c.Publish == "" || c.Staged == "":
		return nil, errors.New("repository: both the folder to publish and the staged folder must be named")
	case c.Clock == nil:
		return nil, errors.New("repository: no clock")
	case !targetName.MatchString(c.Target):
		return nil, fmt.Errorf("repository: target %q: a name of a-z, 0-9, '.', '_', '-' is needed", c.Target)
	}
	r := &Repository{publish: c.Publish, staged: c.Staged, target: c.Target, clock: c.Clock, disk: d}
	for _, dir := range []string{r.metadataPath(""), filepath.Join(r.publish, "targets")} {
		if err := durable.MakeDir(r.disk, dir, 0o755); err != nil {
			return nil, fmt.Errorf("repository: %w", err)
		}
	}
	if err := durable.MakeDir(r.disk, r.staged, 0o700); err != nil {
		return nil, fmt.Errorf("repository: %w", err)
	}
	return r, nil
}

// StageRoot stages the first root, or the one that follows the newest. To rotate
// keys, take [Repository.Roles], change them, and stage the result: it needs the
// thresholds of both roots. Where it revokes keys that signed the present
// targets, stage these again too ([Repository.RestageTarget]), and publish both.
func (r *Repository) StageRoot(roles Roles, expires time.Time) (Status, error) {
	return r.stage(RoleRoot, expires, func(p *published) error {
		root, err := newRoot(roles, p.rootVersion()+1)
		if err != nil {
			return err
		}
		root.Signed.Expires = tufTime(expires)
		return r.writeStaged(stagedRoot, root)
	})
}

// StageTarget stages data (an envelope) as the next target, and the targets
// metadata that names it, unsigned.
func (r *Repository) StageTarget(data []byte, expires time.Time) (Status, error) {
	return r.stage(RoleTargets, expires, func(p *published) error {
		if len(data) == 0 {
			return errors.New("the target is empty")
		}
		sum := sha256.Sum256(data)
		info := &metadata.TargetFiles{Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": sum[:]}}
		if err := durable.Replace(r.disk, r.stagedPath(stagedTarget), data, 0o600); err != nil {
			return err
		}
		return r.stageTargets(p, info, expires)
	})
}

// RestageTarget stages the published target anew, under the next version: to
// renew its expiry, or to have it signed by other keys.
func (r *Repository) RestageTarget(expires time.Time) (Status, error) {
	return r.stage(RoleTargets, expires, func(p *published) error {
		if p.targets == nil {
			return errors.New("nothing has been published yet")
		}
		return r.stageTargets(p, p.targets.Signed.Targets[r.target], expires)
	})
}

// Sign adds one signature to what is staged for a role (root or targets). A key
// that is not in the role, or that has signed already, is refused.
func (r *Repository) Sign(role string, key crypto.Signer) (Status, error) {
	return r.locked("sign "+role, func(p *published) (Status, error) {
		id, err := KeyID(key.Public())
		if err != nil {
			return Status{}, err
		}
		s, err := r.status(p, role)
		if err != nil {
			return Status{}, err
		}
		wanted := false
		for _, n := range s.Needs {
			for _, signed := range n.Signed {
				if signed == id {
					return Status{}, fmt.Errorf("key %s has signed %s %d already; another person has to sign", id, role, s.Version)
				}
			}
			for _, missing := range n.Missing {
				wanted = wanted || missing == id
			}
		}
		if !wanted {
			return Status{}, fmt.Errorf("key %s is not one of the keys of role %s in root %d", id, role, s.Needs[len(s.Needs)-1].Root)
		}

		if role == RoleRoot {
			root, err := r.readStagedRoot()
			if err == nil {
				err = addSignature(root, id, key)
			}
			if err == nil {
				err = r.writeStaged(stagedRoot, root)
			}
			if err != nil {
				return Status{}, err
			}
		} else {
			targets, err := r.readStagedTargets()
			if err == nil {
				err = addSignature(targets, id, key)
			}
			if err == nil {
				err = r.writeStaged(stagedTargets, targets)
			}
			if err != nil {
				return Status{}, err
			}
		}
		return r.status(p, role)
	})
}

// Status tells how far a staged root or targets is; [ErrNothingStaged] where
// there is none.
func (r *Repository) Status(role string) (Status, error) {
	return r.locked("status of "+role, func(p *published) (Status, error) { return r.status(p, role) })
}

// Discard throws away what is staged for a role, with its signatures.
func (r *Repository) Discard(role string) error {
	_, err := r.locked("discard "+role, func(*published) (Status, error) {
		files := map[string][]string{RoleRoot: {stagedRoot}, RoleTargets: {stagedTargets, stagedTarget}}[role]
		if files == nil {
			return Status{}, notByPeople(role)
		}
		if _, err := os.Stat(r.stagedPath(files[0])); errors.Is(err, fs.ErrNotExist) {
			return Status{}, fmt.Errorf("%s: %w", role, ErrNothingStaged)
		}
		return Status{}, r.unstage(files...)
	})
	return err
}

// Roles gives what the newest published root says.
func (r *Repository) Roles() (Roles, error) {
	var roles Roles
	_, err := r.locked("read the roles", func(p *published) (Status, error) {
		if p.root == nil {
			return Status{}, errors.New("no root has been published yet")
		}
		var err error
		roles, err = rolesOf(p.root)
		return Status{}, err
	})
	return roles, err
}

// Root gives the newest published root metadata, which resolvers pin.
func (r *Repository) Root() ([]byte, error) {
	var raw []byte
	_, err := r.locked("read the root", func(p *published) (Status, error) {
		if p.root == nil {
			return Status{}, errors.New("no root has been published yet")
		}
		raw = p.rootRaw
		return Status{}, nil
	})
	return raw, err
}

// stage runs make where nothing is staged for the role yet.
func (r *Repository) stage(role string, expires time.Time, make func(*published) error) (Status, error) {
	return r.locked("stage "+role, func(p *published) (Status, error) {
		if err := r.clearPublished(); err != nil {
			return Status{}, err
		}
		switch s, err := r.status(p, role); {
		case err == nil:
			return Status{}, fmt.Errorf("there is one staged (%s): publish or discard it first", s)
		case !errors.Is(err, ErrNothingStaged):
			return Status{}, fmt.Errorf("what is staged cannot be read; discard it: %w", err)
		}
		if !expires.After(r.clock()) {
			return Status{}, fmt.Errorf("it would expire on %s, which has passed", expires.Format(time.RFC3339))
		}
		if role == RoleTargets && p.root == nil {
			if _, err := r.readStagedRoot(); err != nil {
				return Status{}, fmt.Errorf("there is no root that names the keys of its role: stage one first: %w", err)
			}
		}
		if err := make(p); err != nil {
			return Status{}, err
		}
		return r.status(p, role)
	})
}

func (r *Repository) stageTargets(p *published, info *metadata.TargetFiles, expires time.Time) error {
	if info == nil {
		return fmt.Errorf("the published targets do not name %q", r.target)
	}
	targets := metadata.Targets(tufTime(expires))
	targets.Signed.Version = p.targetsVersion() + 1
	targets.Signed.Targets[r.target] = info
	return r.writeStaged(stagedTargets, targets)
}

// governing is the root whose keys have to sign targets now: the staged one, as
// all that is staged is published together, else the newest published.
func (r *Repository) governing(p *published) (*metadata.Metadata[metadata.RootType], error) {
	root, err := r.readStagedRoot()
	switch {
	case err == nil && root.Signed.Version > p.rootVersion():
		return root, nil
	case err != nil && !errors.Is(err, ErrNothingStaged):
		return nil, err
	case p.root == nil:
		return nil, errors.New("there is no root yet")
	}
	return p.root, nil
}

// checkStagedTarget makes sure that people sign for the file that is there, and
// that this file is what is published.
func (r *Repository) checkStagedTarget(p *published, info *metadata.TargetFiles) error {
	path := r.stagedPath(stagedTarget)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) { // restaged, or published but not yet cleared away
		path = r.targetPath(info)
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return err
	}
	if err := info.VerifyLengthHashes(data); err != nil {
		return fmt.Errorf("%s is not the file that %s names: discard and stage it again: %w", path, r.stagedPath(stagedTargets), err)
	}
	return nil
}

// addSignature signs, in the place of an invalid signature by the same key if
// there is one.
func addSignature[T metadata.Roles](md *metadata.Metadata[T], id string, key crypto.Signer) error {
	kept := md.Signatures[:0]
	for _, s := range md.Signatures {
		if s.KeyID != id {
			kept = append(kept, s)
		}
	}
	md.Signatures = kept
	if _, err := md.Sign(tufSigner{key}); err != nil {
		return fmt.Errorf("sign with key %s: %w", id, err)
	}
	return nil
}

func (r *Repository) readStagedRoot() (*metadata.Metadata[metadata.RootType], error) {
	raw, err := r.readStaged(stagedRoot)
	if err != nil {
		return nil, err
	}
	root, err := parseRoot(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.stagedPath(stagedRoot), err)
	}
	return root, nil
}

func (r *Repository) readStagedTargets() (*metadata.Metadata[metadata.TargetsType], error) {
	raw, err := r.readStaged(stagedTargets)
	if err != nil {
		return nil, err
	}
	targets, err := parseTargets(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.stagedPath(stagedTargets), err)
	}
	return targets, nil
}

func (r *Repository) readStaged(name string) ([]byte, error) {
	raw, err := os.ReadFile(r.stagedPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", strings.TrimSuffix(name, ".json"), ErrNothingStaged)
	}
	return raw, err
}

func (r *Repository) writeStaged(name string, md interface{ ToBytes(bool) ([]byte, error) }) error {
	raw, err := encode(md)
	if err != nil {
		return err
	}
	return durable.Replace(r.disk, r.stagedPath(name), raw, 0o600)
}

// unstage removes files in the order given: the metadata first, so that what is
// left after a kill is a target that nothing names.
func (r *Repository) unstage(names ...string) error {
	for _, name := range names {
		if err := durable.Remove(r.disk, r.stagedPath(name)); err != nil {
			return err
		}
	}
	return nil
}

// locked runs do on what is published, while no other process works on the
// folders.
func (r *Repository) locked(doing string, do func(*published) (Status, error)) (Status, error) {
	lock, err := os.OpenFile(r.stagedPath(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return Status{}, fmt.Errorf("%s: %w", doing, err)
	}
	defer lock.Close() // releases the lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return Status{}, fmt.Errorf("%s: lock %s: %w", doing, lock.Name(), err)
	}
	p, err := r.readPublished()
	if err != nil {
		return Status{}, fmt.Errorf("%s: %w", doing, err)
	}
	s, err := do(p)
	if err != nil {
		return Status{}, fmt.Errorf("%s: %w", doing, err)
	}
	return s, nil
}

func notByPeople(role string) error {
	return fmt.Errorf("role %q is not one that people sign: root or targets", role)
}

func (r *Repository) stagedPath(name string) string { return filepath.Join(r.staged, name) }

func (r *Repository) metadataPath(name string) string {
	return filepath.Join(r.publish, "metadata", name)
}

func (r *Repository) targetPath(info *metadata.TargetFiles) string {
	return filepath.Join(r.publish, filepath.FromSlash(targetFile(r.target, info)))
}

// encode is the form in which metadata is published. It ends with a line break,
// as a text file does.
func encode(md interface{ ToBytes(bool) ([]byte, error) }) ([]byte, error) {
	raw, err := md.ToBytes(true)
	if err != nil {
		return nil, err
	}
	raw = append(bytes.TrimSpace(raw), '\n')
	if len(raw) > maxMetadata {
		return nil, fmt.Errorf("metadata of %d bytes: clients take at most %d", len(raw), maxMetadata)
	}
	return raw, nil
}

// tufTime is a time as TUF writes it: UTC, in whole seconds.
func tufTime(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
