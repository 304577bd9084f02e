package signing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"cordon/durable"
)

const (
	defaultMaxTarget = 256 << 20 // bytes

	// maxRoots bounds how many new roots one Update follows. More than that go on
	// with the next one, since each root is kept as soon as it has verified.
	maxRoots = 32
)

// Accepted is a publication that verified: everything that is needed to verify
// it again from disk, without the network and without regard to expiry.
type Accepted struct {
	Roots     [][]byte // root metadata after the pinned one, in order of version
	Timestamp []byte
	Snapshot  []byte
	Targets   []byte // targets metadata, signed by the threshold
	Name      string // target path
	Target    []byte // the target itself (an age envelope)
}

// Publication tells what a publication says of itself. It verifies nothing: see
// [VerifyAccepted].
func (a *Accepted) Publication() (Publication, error) {
	p := published{}
	var err error
	if len(a.Roots) > 0 {
		if p.root, err = parseRoot(a.Roots[len(a.Roots)-1]); err != nil {
			return Publication{}, fmt.Errorf("root: %w", err)
		}
	}
	if p.timestamp, err = parseTimestamp(a.Timestamp); err != nil {
		return Publication{}, fmt.Errorf("timestamp: %w", err)
	}
	if p.snapshot, err = parseSnapshot(a.Snapshot); err != nil {
		return Publication{}, fmt.Errorf("snapshot: %w", err)
	}
	if p.targets, err = parseTargets(a.Targets); err != nil {
		return Publication{}, fmt.Errorf("targets: %w", err)
	}
	return p.publication(a.Name), nil
}

// ClientConfig says what a client trusts and where it keeps its state.
type ClientConfig struct {
	Root      []byte // the pinned root metadata
	Dir       string // the client's own state, 0700, of this client alone; made if missing
	Target    string // target path to follow, "list" when empty
	Source    Source
	Mirrors   []Source // of the same publication, asked after Source
	Clock     func() time.Time
	MaxTarget int64        // bytes; default 256 MiB
	Log       *slog.Logger // what was found damaged and dropped; may be nil

	// Told is called for each source that was asked, with its number (0 is Source) and
	// what was wrong with it, nil for nothing; may be nil.
	Told func(number int, err error)
}

// Client follows one publication, as TUF 1.0, section 5, says. It is used by one
// goroutine at a time, and one folder by one client.
//
// What it has seen it never goes behind, over restarts too: roots, timestamp and
// snapshot are durable in its folder as soon as each has verified. Which
// publication is in force it learns from [Client.Confirm] alone and forgets with
// the process, since only the owner knows what it has in its store.
type Client struct {
	pinned  []byte
	target  string
	mirrors []mirror
	source  Source // of them, the one that is being asked
	told    func(number int, err error)
	clock   func() time.Time
	max     int64
	state   *state

	// What the owner has in force, nil until it has said so; and its bytes.
	inForce    *metadata.Metadata[metadata.TargetsType]
	inForceRaw []byte
}

// NewClient checks the configuration and loads what the client has seen before;
// it does not touch the network.
func NewClient(c ClientConfig) (*Client, error) { return newClient(c, durable.OS{}) }

func newClient(c ClientConfig, d durable.Disk) (*Client, error) {
	if c.Target == "" {
		c.Target = "list"
	}
	if c.MaxTarget == 0 {
		c.MaxTarget = defaultMaxTarget
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Told == nil {
		c.Told = func(int, error) {}
	}
	switch {
	case c.Dir == "" || c.Source == nil || c.Clock == nil || c.MaxTarget < 0:
		return nil, errors.New("client of a publication: a folder, a source and a clock are needed")
	case !targetName.MatchString(c.Target):
		return nil, fmt.Errorf("client of a publication: target %q: a name of a-z, 0-9, '.', '_', '-' is needed", c.Target)
	}
	if _, err := newTrust(c.Root, time.Time{}); err != nil {
		return nil, fmt.Errorf("client of a publication: pinned root: %w", err)
	}
	state, err := loadState(d, c.Dir, c.Root, c.Log)
	if err != nil {
		return nil, fmt.Errorf("client of a publication: %w: %w", ErrState, err)
	}
	client := &Client{pinned: c.Root, target: c.Target, told: c.Told, clock: c.Clock, max: c.MaxTarget, state: state}
	for _, source := range append([]Source{c.Source}, c.Mirrors...) {
		client.mirrors = append(client.mirrors, mirror{source: source})
	}
	return client, nil
}

// update asks the source in hand; see Update.
func (c *Client) update(ctx context.Context) (*Accepted, error) {
	t, err := c.state.trust(c.clock())
	if err != nil {
		return nil, fmt.Errorf("update: %w", err)
	}
	if err := c.followRoots(ctx, t); err != nil {
		return nil, fmt.Errorf("update: %w", err)
	}
	if err := c.followTimestamp(ctx, t); err != nil {
		return nil, fmt.Errorf("update: %w", err)
	}
	if err := c.followSnapshot(ctx, t); err != nil {
		return nil, fmt.Errorf("update: %w", err)
	}
	a, err := c.fetchTarget(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("update: %w", err)
	}
	return a, nil
}

// Confirm tells the client that an accepted publication is in force and durable
// in its owner's store, so that the next Update is [ErrUnchanged]. An owner that
// starts with a publication from its store confirms it before the first Update:
// that also gives back to a client whose folder was lost what it must not go
// behind.
func (c *Client) Confirm(a *Accepted) error {
	if a.Name != c.target {
		return fmt.Errorf("confirm: target %q, where this client follows %q", a.Name, c.target)
	}
	t, err := verifyAccepted(c.pinned, a)
	if err != nil {
		return fmt.Errorf("confirm: %w", err)
	}
	if err := c.state.adopt(a); err != nil {
		return fmt.Errorf("confirm: %w: %w", ErrState, err)
	}
	c.inForce, c.inForceRaw = t.set.Targets[RoleTargets], bytes.Clone(a.Targets)
	return nil
}

// followRoots takes each root after the newest held, until there is no next one
// (TUF 5.3).
func (c *Client) followRoots(ctx context.Context, t *trust) error {
	for range maxRoots {
		path := fmt.Sprintf("metadata/%d.root.json", t.rootVersion()+1)
		raw, err := c.source.Fetch(ctx, path, maxMetadata)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return sourceError(path, err)
		}
		if err := t.root(raw); err != nil {
			return err
		}
		if err := c.state.addRoot(t.rootVersion(), raw); err != nil {
			return fmt.Errorf("%w: %w", ErrState, err)
		}
	}
	if t.rootVersion() < c.state.rootFloor {
		return fmt.Errorf("%w: root %d is the newest that can be had, but this client has held root %d, which was damaged on disk; "+
			"if another authority was pinned in its place on purpose, remove %s",
			ErrRollback, t.rootVersion(), c.state.rootFloor, c.state.dir)
	}
	return nil
}

// followTimestamp takes the newest timestamp, after the one held (TUF 5.4).
func (c *Client) followTimestamp(ctx context.Context, t *trust) error {
	if held := c.state.timestamp; held != nil {
		// One that has expired still bars what is older. One that no longer verifies
		// was signed by a key that a new root has revoked: it bars nothing, which is
		// how TUF recovers from a stolen key (5.3.11).
		if _, err := t.timestamp(held); err != nil && !errors.Is(err, ErrExpired) {
			if err := c.state.dropTimestamp(err); err != nil {
				return fmt.Errorf("%w: %w", ErrState, err)
			}
		}
	}
	raw, err := c.source.Fetch(ctx, timestampPath, maxMetadata)
	if err != nil {
		return sourceError(timestampPath, err)
	}
	same, err := t.timestamp(raw)
	if err != nil {
		if f, ok := c.source.(interface{ Forget(path string) }); ok && !errors.Is(err, ErrExpired) {
			f.Forget(timestampPath)
		}
		return err
	}
	if same {
		return nil
	}
	if err := c.state.setTimestamp(raw); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	return nil
}

// followSnapshot takes the snapshot that the timestamp names, after the one held
// (TUF 5.5).
func (c *Client) followSnapshot(ctx context.Context, t *trust) error {
	info := t.snapshotInfo()
	if held := c.state.snapshot; held != nil {
		err := t.snapshot(held, true)
		switch {
		case matches(info, held):
			return err
		case t.set.Snapshot == nil: // not even loaded: of a key that was revoked
			if t.set.Timestamp.Signed.IsExpired(t.set.RefTime) {
				return err
			}
			if err := c.state.dropSnapshot(err); err != nil {
				return fmt.Errorf("%w: %w", ErrState, err)
			}
		}
	}
	path := fmt.Sprintf("metadata/%d.snapshot.json", info.Version)
	raw, err := c.source.Fetch(ctx, path, info.Length)
	if err != nil {
		return sourceError(path, err)
	}
	if err := t.snapshot(raw, false); err != nil {
		return err
	}
	if err := c.state.setSnapshot(raw); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	return nil
}

// fetchTarget takes targets metadata and target (TUF 5.6 and 5.7), unless they
// are in force already.
func (c *Client) fetchTarget(ctx context.Context, t *trust) (*Accepted, error) {
	targets := c.inForceRaw
	if !matches(t.targetsInfo(), targets) {
		path := fmt.Sprintf("metadata/%d.targets.json", t.targetsInfo().Version)
		var err error
		if targets, err = c.source.Fetch(ctx, path, t.targetsInfo().Length); err != nil {
			return nil, sourceError(path, err)
		}
	}
	info, err := t.targets(targets, c.target)
	if err != nil {
		return nil, err
	}
	if err := c.compare(t); err != nil {
		return nil, err
	}
	if info.Length > c.max {
		return nil, fmt.Errorf("target %s: %w: %d bytes are signed for, at most %d are taken", c.target, ErrTooLarge, info.Length, c.max)
	}
	target := c.state.keptTarget(info)
	if target == nil {
		path := targetFile(c.target, info)
		if target, err = c.source.Fetch(ctx, path, info.Length); err != nil {
			return nil, sourceError(path, err)
		}
		if err := info.VerifyLengthHashes(target); err != nil {
			return nil, refusal(path, err)
		}
		if err := c.state.keepTarget(target); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrState, err)
		}
	}
	return &Accepted{
		Roots:     c.state.roots(),
		Timestamp: bytes.Clone(c.state.timestamp),
		Snapshot:  bytes.Clone(c.state.snapshot),
		Targets:   targets,
		Name:      c.target,
		Target:    target,
	}, nil
}

// compare holds the targets in hand against those in force. These bar what is
// older, even where the snapshot that would tell was lost, unless their keys have
// been revoked.
func (c *Client) compare(t *trust) error {
	if c.inForce == nil || t.set.Root.VerifyDelegate(RoleTargets, c.inForce) != nil {
		return nil
	}
	had, has := c.inForce.Signed, t.set.Targets[RoleTargets].Signed
	switch {
	case has.Version < had.Version:
		return fmt.Errorf("targets %d: %w: %d are in force", has.Version, ErrRollback, had.Version)
	case has.Version > had.Version:
		return nil
	case !has.Targets[c.target].Equal(*had.Targets[c.target]):
		return fmt.Errorf("targets %d: %w: another target was signed under the same version", has.Version, ErrRollback)
	}
	return ErrUnchanged
}

// sourceError puts an error of a source under one of the sentinels.
func sourceError(path string, err error) error {
	switch {
	case errors.Is(err, ErrTooLarge), errors.Is(err, ErrSource):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s: %w", ErrIncomplete, path, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrSource, path, err)
}
