package oversight

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"cordon/authority"
	"cordon/signing"
)

// publicationName names the publication where logs have their names.
const publicationName = "publication"

// publication is the copy of what the authority publishes.
type publication struct {
	dir    string
	root   []byte // pinned
	source signing.Source
	disk   disk
	clock  func() time.Time
	have   map[string]bool // digests of the targets in listsDir; nil: not read yet
}

// kept is a publication that verified, as it was signed and encrypted, and when
// the official first had it.
type kept struct {
	At       time.Time        `json:"at"`
	Accepted signing.Accepted `json:"accepted"`
}

// maxTarget bounds a list, in bytes, as signing.Client does by default.
const maxTarget = 256 << 20

// listName is the path of the target that holds the list (signing.Client's
// default).
const listName = "list"

func (p *publication) listsDir() string { return filepath.Join(p.dir, "lists") }

func (p *publication) targetPath(sha256 string) string {
	return filepath.Join(p.dir, "targets", sha256)
}

// attempt takes over what is newly published and remembers how that went.
func (p *publication) attempt(ctx context.Context) Step {
	began := p.clock()
	s := Step{Name: publicationName}
	s.Lists, s.Finding, s.Err = p.update(ctx)
	if ctx.Err() == nil {
		if err := writeAttempt(p.disk, p.dir, began, s.Finding, s.Err); err != nil {
			s.Err = errors.Join(s.Err, err)
		}
	}
	if s.Err != nil {
		s.Err = fmt.Errorf("mirror %s: %w", publicationName, s.Err)
	}
	return s
}

// update follows the publication as a resolver does.
func (p *publication) update(ctx context.Context) ([]uint64, *Finding, error) {
	client, err := signing.NewClient(signing.ClientConfig{
		Root: p.root, Dir: filepath.Join(p.dir, "client"), Target: listName, Source: p.source, Clock: p.clock, MaxTarget: maxTarget,
	})
	if err != nil {
		return nil, nil, err
	}
	newest, err := p.newest()
	if err != nil {
		return nil, nil, err
	}
	if newest != nil {
		if err := client.Confirm(&newest.Accepted); err != nil {
			return nil, nil, fmt.Errorf("the newest publication kept in %s: %w", p.listsDir(), err)
		}
	}
	a, err := client.Update(ctx)
	switch {
	case errors.Is(err, signing.ErrUnchanged):
		return nil, nil, nil
	case err != nil && newest == nil && p.nothingYet(ctx):
		return nil, nil, nil
	case err != nil:
		return p.refused(err)
	}
	about, err := a.Publication()
	if err != nil {
		return nil, nil, err
	}
	data, err := json.Marshal(kept{At: p.clock().UTC(), Accepted: *a})
	if err != nil {
		return nil, nil, err
	}
	if err := p.disk.replace(filepath.Join(p.listsDir(), fmt.Sprintf("%020d.json", about.TargetsVersion)), data); err != nil {
		return nil, nil, fmt.Errorf("keep the publication: %w", err)
	}
	if p.have != nil {
		p.have[about.TargetSHA256] = true
	}
	return []uint64{uint64(about.TargetsVersion)}, nil, client.Confirm(a)
}

// nothingYet tells whether no list was published yet: timestamp.json comes with
// the first.
func (p *publication) nothingYet(ctx context.Context) bool {
	_, err := p.source.Fetch(ctx, "metadata/timestamp.json", 64<<10)
	return errors.Is(err, fs.ErrNotExist)
}

// refused makes a finding of what is wrong with a publication. A source that
// cannot be reached, and a client that cannot keep its state, are none.
func (p *publication) refused(err error) ([]uint64, *Finding, error) {
	switch signing.Reason(err) {
	case "expired":
		return nil, &Finding{Severity: Warning, Code: CodeExpired, Log: publicationName,
			What: fmt.Sprintf("its signatures have run out: the authority has stopped to renew them, or somebody holds newer ones back: %v", err)}, nil
	case "rollback", "signature", "incomplete", "too-large":
		return nil, &Finding{Severity: Alarm, Code: CodePublication, Log: publicationName,
			What: fmt.Sprintf("what is served is not what the authority signed; resolvers refuse it too (reason %q): %v", signing.Reason(err), err)}, nil
	}
	return nil, nil, err
}

// newest is the publication that was kept last; nil where there is none.
func (p *publication) newest() (*kept, error) {
	files, err := p.files()
	if err != nil || len(files) == 0 {
		return nil, err
	}
	return readKept(files[len(files)-1])
}

// files are the publications that were kept, the oldest first.
func (p *publication) files() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(p.listsDir(), "*.json"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files) // the names have as many digits as any number
	return files, nil
}

func readKept(path string) (*kept, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("publication that was kept: %w", err)
	}
	k := &kept{}
	if err := json.Unmarshal(data, k); err != nil {
		return nil, fmt.Errorf("publication that was kept in %s: %w", path, err)
	}
	return k, nil
}

// target gives a list that was kept, by its digest; fs.ErrNotExist where it was
// not.
func (p *publication) target(want string) ([]byte, error) {
	data, err := os.ReadFile(p.targetPath(want))
	if err != nil {
		return nil, err
	}
	if got := digest(data); got != want {
		return nil, fmt.Errorf("%s is damaged: its digest is %s", p.targetPath(want), got)
	}
	return data, nil
}

// fetchTargets fetches those lists that the register says were published and
// that are not at hand: they came and went between two rounds. The register
// binds them by digest. One that is gone is no failure here; verification says
// that it could not look at it.
func (d *Desk) fetchTargets(ctx context.Context) error {
	p := d.publication
	have, err := p.digests()
	if err != nil {
		return err
	}
	published, err := d.published(ctx)
	if err != nil {
		return err
	}
	for _, l := range published {
		if have[l.TargetSHA256] || l.TargetBytes > maxTarget {
			continue
		}
		if _, err := p.target(l.TargetSHA256); err == nil {
			continue
		}
		raw, err := p.source.Fetch(ctx, "targets/"+l.TargetSHA256+"."+listName, l.TargetBytes)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("fetch list %d: %w", l.Serial, err)
		}
		if digest(raw) != l.TargetSHA256 {
			continue // not the one; the newest is told apart by its signatures
		}
		if err := p.disk.replace(p.targetPath(l.TargetSHA256), raw); err != nil {
			return fmt.Errorf("keep list %d: %w", l.Serial, err)
		}
	}
	return nil
}

// digests are those of the targets in the publications that were kept.
func (p *publication) digests() (map[string]bool, error) {
	if p.have != nil {
		return p.have, nil
	}
	files, err := p.files()
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, file := range files {
		k, err := readKept(file)
		if err != nil {
			return nil, err
		}
		have[digest(k.Accepted.Target)] = true
	}
	p.have = have
	return have, nil
}

// digest is a SHA-256 as the register and the block log write it.
func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// published are the publications in the copy of the register, whether or not its
// rules allow them; none where there is no copy.
func (d *Desk) published(ctx context.Context) ([]*authority.Published, error) {
	m := d.register()
	if m == nil {
		return nil, nil
	}
	cp, ok, err := m.held(ctx)
	if err != nil || !ok {
		return nil, err
	}
	var all []*authority.Published
	for leaf, err := range m.local().Leaves(ctx, cp, 0) {
		if err != nil {
			return all, nil // verification says what is wrong with it
		}
		parsed, err := authority.ParseLeaf(leaf.Data)
		if err != nil {
			continue
		}
		if l, ok := parsed.(*authority.Published); ok {
			all = append(all, l)
		}
	}
	return all, nil
}
