package oversight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/note"

	"cordon/audit/tlog"
)

// ErrNotMirrored: there is no copy to read; "mirror" makes one.
var ErrNotMirrored = errors.New("was never mirrored: run \"cordon-oversight mirror\" first")

// mirror is the copy of one log.
type mirror struct {
	name     string
	kind     string
	from     string // address or folder, as configured
	blocklog string // where raw records can be had; may be empty
	dir      string
	verifier note.Verifier
	source   tlog.Source
	client   *http.Client // nil where nothing is remote
	disk     disk
	clock    func() time.Time
}

// Step is how the mirroring of one log, or of the publication, went.
type Step struct {
	Name    string   `json:"name"`
	From    uint64   `json:"from"`              // leaves before
	To      uint64   `json:"to"`                // leaves now
	Lists   []uint64 `json:"lists,omitempty"`   // targets versions of publications that are new
	Finding *Finding `json:"finding,omitempty"` // what was wrong with what was served; the copy was left as it is
	Err     error    `json:"-"`                 // why nothing could be told
	Failed  string   `json:"failed,omitempty"`  // Err, for JSON
}

// Mirror brings the copies up to date, or the one of that name or source. One
// that fails leaves the others alone. The error says why there are no steps.
func (d *Desk) Mirror(ctx context.Context, only string) ([]Step, error) {
	logs := append(d.audits(), nil) // nil stands for the publication
	if r := d.register(); r != nil {
		// The register comes last. What a resolver has applied, and what is
		// published, stood in the register before, so that it must be found there.
		logs = append(logs, r)
	}
	if only != "" {
		m, err := d.log(only)
		if err != nil {
			return nil, err
		}
		logs = []*mirror{m}
	}
	unlock, err := d.exclusive(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var steps []Step
	for _, m := range logs {
		switch {
		case m != nil:
			steps = append(steps, m.attempt(ctx))
		case d.publication != nil:
			steps = append(steps, d.publication.attempt(ctx))
		}
		if ctx.Err() != nil {
			return steps, ctx.Err()
		}
	}
	if only == "" && d.publication != nil {
		// By now the register tells which lists there were besides the newest.
		if err := d.fetchTargets(ctx); err != nil {
			steps = append(steps, Step{Name: publicationName, Err: err})
		}
	}
	for i := range steps {
		if steps[i].Err != nil {
			steps[i].Failed = steps[i].Err.Error()
		}
	}
	return steps, nil
}

// attempt updates the copy and remembers how that went.
func (m *mirror) attempt(ctx context.Context) Step {
	began := m.clock()
	s := Step{Name: m.name}
	s.From, s.To, s.Finding, s.Err = m.update(ctx)
	if ctx.Err() == nil { // being told to stop says nothing of the server
		if err := writeAttempt(m.disk, m.dir, began, s.Finding, s.Err); err != nil {
			s.Err = errors.Join(s.Err, err)
		}
	}
	if s.Err != nil {
		s.Err = fmt.Errorf("mirror %s: %w", m.name, s.Err)
	}
	return s
}

// update fetches what is new. The order is what makes it sound: a checkpoint is
// verified, then held against the newest one seen, then written down as seen,
// and only then followed. Killed anywhere, the next update goes on from there.
func (m *mirror) update(ctx context.Context) (from, to uint64, finding *Finding, err error) {
	held, complete, err := m.held(ctx)
	if err != nil {
		return 0, 0, nil, err
	}
	from, to = held.Size, held.Size
	raw, err := m.source.Read(ctx, layout.CheckpointPath)
	if err != nil {
		return from, to, nil, err
	}
	cp, err := tlog.ParseCheckpoint(raw, m.verifier)
	if err != nil {
		return from, to, &Finding{Severity: Alarm, Code: CodeCheckpoint, Log: m.name,
			What: fmt.Sprintf("what is served as checkpoint is not signed by the key of this log: %v", err)}, nil
	}
	anchor, known, err := m.anchor()
	if err != nil {
		return from, to, nil, err
	}
	served := tlog.NewReader(m.source, m.verifier)
	if known {
		if finding, err = m.continues(ctx, served, anchor, cp); finding != nil || err != nil {
			return from, to, finding, err
		}
	}
	if !known || cp.Size != anchor.Size {
		if err := m.saw(cp); err != nil {
			return from, to, nil, err
		}
	}
	if complete && held.Size == cp.Size {
		return from, to, nil, nil
	}
	if err := m.fetch(ctx, held.Size, cp); err != nil {
		finding, err = m.damaged(err)
		return from, to, finding, err
	}
	return from, cp.Size, nil, nil
}

// held is the checkpoint of what is wholly mirrored; false where nothing is.
func (m *mirror) held(ctx context.Context) (tlog.Checkpoint, bool, error) {
	cp, err := m.local().Checkpoint(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return tlog.Checkpoint{}, false, nil
	}
	if err != nil {
		return tlog.Checkpoint{}, false, fmt.Errorf("%w; the file %s is this folder's own and must not be changed", err, filepath.Join(m.dir, layout.CheckpointPath))
	}
	return cp, true, nil
}

// local reads the copy.
func (m *mirror) local() *tlog.Reader { return tlog.NewReader(tlog.FolderSource(m.dir), m.verifier) }

// copied is held for who cannot do without.
func (m *mirror) copied(ctx context.Context) (tlog.Checkpoint, error) {
	cp, ok, err := m.held(ctx)
	if err == nil && !ok {
		err = ErrNotMirrored
	}
	if err != nil {
		return cp, fmt.Errorf("log %s: %w", m.name, err)
	}
	return cp, nil
}

// damaged tells a file that is not what its checkpoint binds, which is a
// finding, from other failures.
func (m *mirror) damaged(err error) (*Finding, error) {
	var damage *tlog.DamageError
	if !errors.As(err, &damage) {
		return nil, err
	}
	return &Finding{Severity: Alarm, Code: CodeServed, Log: m.name, Leaf: damage.Leaf,
		What: fmt.Sprintf("what is served is not what the log's own checkpoint binds: %s: %s; nothing of it was taken over", damage.Path, damage.Reason)}, nil
}

// fetch copies the leaves from held on, under a checkpoint that is seen.
func (m *mirror) fetch(ctx context.Context, held uint64, cp tlog.Checkpoint) error {
	source := &resuming{Source: m.source, local: tlog.FolderSource(m.dir), taken: map[string]bool{}, distrusted: map[string]bool{}}
	err := m.copyLeaves(ctx, source, held, cp)
	var damage *tlog.DamageError
	for errors.As(err, &damage) && source.taken[damage.Path] && !source.distrusted[damage.Path] {
		// What an interrupted mirroring left is not whole: it is fetched.
		source.distrusted[damage.Path] = true
		err = m.copyLeaves(ctx, source, held, cp)
	}
	if err != nil {
		return err
	}
	// What was written has to be what the checkpoint binds, before it counts.
	for _, err := range m.local().Leaves(ctx, cp, cp.Size) {
		return fmt.Errorf("check the copy in %s: it is damaged, move it away and mirror anew, and keep it: %s", m.dir, err)
	}
	if err := m.disk.replace(filepath.Join(m.dir, layout.CheckpointPath), cp.Raw); err != nil {
		return fmt.Errorf("store checkpoint: %w", err)
	}
	if err := tidy(m.dir, m.disk, held, cp.Size); err != nil {
		return fmt.Errorf("remove what is superseded: %w", err)
	}
	return nil
}

// copyLeaves stores the bundles and tiles from held on, each leaf verified.
func (m *mirror) copyLeaves(ctx context.Context, source tlog.Source, held uint64, cp tlog.Checkpoint) error {
	t, err := resumeTiles(ctx, m.dir, m.disk, held)
	if err != nil {
		return err
	}
	var bundle [][]byte
	for leaf, err := range tlog.NewReader(source, m.verifier).Leaves(ctx, cp, held/layout.EntryBundleWidth*layout.EntryBundleWidth) {
		if err != nil {
			return err
		}
		bundle = append(bundle, leaf.Data)
		if len(bundle) == layout.EntryBundleWidth || leaf.Index == cp.Size-1 {
			if err := t.bundle(bundle); err != nil {
				return err
			}
			bundle = nil
		}
	}
	return t.finish()
}

// conflictsDir holds evidence.
func (m *mirror) conflictsDir() string { return filepath.Join(m.dir, "conflicts") }

// conflicts lists the evidence that is kept.
func (m *mirror) conflicts() ([]string, error) {
	files, err := os.ReadDir(m.conflictsDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, f := range files {
		if filepath.Ext(f.Name()) == ".json" {
			paths = append(paths, filepath.Join(m.conflictsDir(), f.Name()))
		}
	}
	return paths, nil
}
