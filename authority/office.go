package authority

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"

	"cordon/audit/tlog"
	"cordon/blocklist"
	"cordon/signing"
)

// Keys opens private keys by name: an officer's, a signature holder's
// ("targets-1"), or one of the machine's own.
type Keys interface {
	Signer(name string) (crypto.Signer, error)         // an Ed25519 key
	Secret(name, kind string) (secret []byte, _ error) // any other secret, of a kind of package signing
}

// The keys that stay with the machine that publishes.
const (
	KeyRegister  = "register"  // signs the register's checkpoints
	KeySnapshot  = "snapshot"  // TUF role snapshot
	KeyTimestamp = "timestamp" // TUF role timestamp
	KeyList      = "list"      // decrypts staged lists, so that who signs can see what they sign
)

// OfficeConfig says where an authority's folder is and what opens it.
type OfficeConfig struct {
	Dir      string
	Keys     Keys
	Clock    func() time.Time
	ReadOnly bool                  // takes no lock and refuses to change anything
	Waiting  func(lockPath string) // called before waiting for another command; may be nil
}

// Office is an authority at work: its settings, its register as it stands, and
// its publication. One process at a time holds it, unless it only reads.
type Office struct {
	Settings Settings
	Register *Register

	dir        string
	keys       Keys
	clock      func() time.Time
	readOnly   bool
	unlock     func() error
	leaves     []tlog.Leaf // of Register, in order
	log        journal     // open since the first leaf that was appended; nil before
	openLog    func(context.Context) (journal, error)
	repository *signing.Repository
}

// journal is what the office does with the register's log (a *tlog.Log).
type journal interface {
	Size(ctx context.Context) (uint64, error)
	Append(ctx context.Context, leaves ...[]byte) (uint64, error)
	Published(ctx context.Context, index uint64) error
	Close(ctx context.Context) error
}

// OpenOffice reads the settings, takes the lock, and replays the register.
func OpenOffice(ctx context.Context, c OfficeConfig) (*Office, error) {
	settings, err := LoadSettings(c.Dir)
	if err != nil {
		return nil, err
	}
	o := &Office{Settings: settings, dir: c.Dir, keys: c.Keys, clock: c.Clock, readOnly: c.ReadOnly}
	o.openLog = o.openTlog
	o.unlock = func() error { return nil }
	if !c.ReadOnly {
		if o.unlock, err = Lock(c.Dir, c.Waiting); err != nil {
			return nil, err
		}
	}
	if err := o.load(ctx); err != nil {
		return nil, errors.Join(err, o.unlock())
	}
	return o, nil
}

func (o *Office) load(ctx context.Context) error {
	if err := o.replay(ctx); err != nil {
		return err
	}
	procedure, err := os.ReadFile(o.Settings.Procedure)
	if err != nil {
		return fmt.Errorf("read procedure: %w", err)
	}
	if string(procedure) != o.Register.Founded.Procedure {
		return fmt.Errorf("%s is not the procedure that this authority was founded with (SHA-256 %s): put that text back, or found an authority anew",
			o.Settings.Procedure, o.Register.Founded.ProcedureSHA256)
	}
	o.repository, err = signing.OpenRepository(signing.RepositoryConfig{
		Publish: o.Settings.Publish, Staged: filepath.Join(o.dir, StagedDir), Clock: o.clock,
	})
	return err
}

// Lock keeps other commands off an authority's folder until unlock is called.
// Where one is at work it calls waiting, which may be nil, and waits for it.
func Lock(dir string, waiting func(lockPath string)) (unlock func() error, err error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the authority: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		if waiting != nil {
			waiting(path)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f.Close, nil // closing the file releases its lock
}

// Close publishes the register's last checkpoint and releases the lock.
func (o *Office) Close(ctx context.Context) error {
	var err error
	if o.log != nil {
		err = o.log.Close(ctx)
		o.log = nil
	}
	return errors.Join(err, o.unlock())
}

// replay reads the register from its folder, each leaf verified against the
// checkpoint, and replays it.
func (o *Office) replay(ctx context.Context) error {
	verifier, err := tlog.ReadVerifier(filepath.Join(o.dir, VerifierFile))
	if err != nil {
		return err
	}
	reader := tlog.NewReader(tlog.FolderSource(filepath.Join(o.dir, RegisterDir)), verifier)
	checkpoint, err := reader.Checkpoint(ctx)
	if err != nil {
		return fmt.Errorf("read the register's checkpoint: %w", err)
	}
	o.leaves = nil
	for leaf, err := range reader.Leaves(ctx, checkpoint, 0) {
		if err != nil {
			return fmt.Errorf("read the register: %w", err)
		}
		o.leaves = append(o.leaves, tlog.Leaf{Index: leaf.Index, Data: bytes.Clone(leaf.Data)})
	}
	if o.Register, err = Replay(first(o.leaves, len(o.leaves))); err != nil {
		return err
	}
	if o.Register.Size == 0 {
		return errors.New("the register is empty: its founding was interrupted; remove the folder and run \"init\" again")
	}
	if o.Register.Founded.Origin != checkpoint.Origin {
		return fmt.Errorf("the register of %s stands in a log of %s", o.Register.Founded.Origin, checkpoint.Origin)
	}
	return nil
}

// first yields the first n leaves.
func first(leaves []tlog.Leaf, n int) iter.Seq2[tlog.Leaf, error] {
	return func(yield func(tlog.Leaf, error) bool) {
		for _, l := range leaves[:n] {
			if !yield(l, nil) {
				return
			}
		}
	}
}

// openTlog opens the register for writing.
func (o *Office) openTlog(ctx context.Context) (journal, error) {
	secret, err := o.keys.Secret(KeyRegister, signing.KindNoteSigner)
	if err != nil {
		return nil, err
	}
	return openRegister(ctx, o.dir, string(secret))
}

func openRegister(ctx context.Context, dir, skey string) (journal, error) {
	signer, err := note.NewSigner(strings.TrimSpace(skey))
	if err != nil {
		return nil, fmt.Errorf("register key: %w", err)
	}
	// A person waits for each leaf: checkpoints come as fast as they can, and a
	// batch is not waited for.
	return tlog.Open(ctx, filepath.Join(dir, RegisterDir), signer, tlog.Options{
		CheckpointInterval: 100 * time.Millisecond, BatchSize: 1, BatchAge: time.Millisecond,
	})
}

// Now is the office's clock in the register's resolution.
func (o *Office) Now() time.Time { return o.clock().UTC().Truncate(time.Second) }

// prepare opens the register for writing. A leaf that was appended just before a
// kill is only now under a checkpoint: the register is then read again.
func (o *Office) prepare(ctx context.Context) error {
	if o.readOnly {
		return errors.New("the register was opened to be read")
	}
	if o.log != nil {
		return nil
	}
	log, err := o.openLog(ctx)
	if err != nil {
		return fmt.Errorf("open the register: %w", err)
	}
	o.log = log
	size, err := log.Size(ctx)
	if err == nil && size != o.Register.Size {
		err = o.replay(ctx)
	}
	return err
}

// record checks a leaf, appends it, and takes it into the register when a
// published checkpoint covers it.
func (o *Office) record(ctx context.Context, l Leaf) error {
	if err := o.prepare(ctx); err != nil {
		return err
	}
	if err := o.Register.Check(l); err != nil {
		return err
	}
	data, err := MarshalLeaf(l)
	if err != nil {
		return err
	}
	index, err := o.log.Append(ctx, data)
	if err != nil {
		return fmt.Errorf("append to the register: %w", err)
	}
	if index != o.Register.Size {
		return fmt.Errorf("the register has leaf %d where %d was to come: something else writes to it", index, o.Register.Size)
	}
	if err := o.log.Published(ctx, index); err != nil {
		return fmt.Errorf("publish the register's checkpoint: %w", err)
	}
	o.leaves = append(o.leaves, tlog.Leaf{Index: index, Data: data})
	return o.Register.Add(l)
}

// state signs a leaf as an officer and records it. The rules are looked at
// before the key is opened, so that a mistake costs no passphrase; what is
// missing then is the signature alone.
func (o *Office) state(ctx context.Context, l Leaf, by string) error {
	if _, ok := find(o.Register.Founded.Officers, func(f *Officer) bool { return f.Name == by }); !ok {
		_, err := o.Register.officer(by, Propose, o.Now())
		return err
	}
	if err := o.Register.Check(l); err != nil && !errors.Is(err, errSignature) {
		return err
	}
	key, err := o.keys.Signer(by)
	if err != nil {
		return err
	}
	if err := SignStatement(o.Register.Founded.Origin, l, key); err != nil {
		return err
	}
	return o.record(ctx, l)
}

// Proposal is what an officer proposes.
type Proposal struct {
	Name     string
	Scope    blocklist.Scope // 0: the procedure's
	Category string
	Decision string
	Request  *Request
	Ends     Day
}

// Propose opens a measure. The name has to be in the list's one form, and one
// that a resolver's guard would take.
func (o *Office) Propose(ctx context.Context, p Proposal, by string) (*Measure, error) {
	if p.Scope == 0 {
		p.Scope = o.Register.Procedure.Proposals.Scope
	}
	if err := checkListable(blocklist.Entry{Name: p.Name, Scope: p.Scope, Category: p.Category}, o.Settings.pages()); err != nil {
		return nil, err
	}
	category, _ := o.Register.Procedure.Category(p.Category)
	l := &Proposed{
		Type: LeafProposed, At: o.Now(), ID: o.Register.NextID(o.Now()), Name: p.Name, Scope: p.Scope, Category: p.Category,
		Decision: p.Decision, Request: p.Request, Ends: p.Ends, By: by,
	}
	if category != nil {
		l.LegalBasis = category.LegalBasis
	}
	if err := o.state(ctx, l, by); err != nil {
		return nil, err
	}
	return o.Register.byID[l.ID], nil
}

// Approve adds an officer's approval to a measure, named by its id or, where
// that is clear, by its name.
func (o *Office) Approve(ctx context.Context, measure, by string) (*Measure, error) {
	return o.about(ctx, measure, &Stated{Type: LeafApproved, By: by})
}

// Review confirms a measure at its re-check.
func (o *Office) Review(ctx context.Context, measure, by string) (*Measure, error) {
	return o.about(ctx, measure, &Stated{Type: LeafReviewed, By: by})
}

// Lift ends a measure on one of the procedure's grounds.
func (o *Office) Lift(ctx context.Context, measure, ground, by string) (*Measure, error) {
	return o.about(ctx, measure, &Stated{Type: LeafLifted, Ground: ground, By: by})
}

// Note records that one of the procedure's events happened to a measure.
func (o *Office) Note(ctx context.Context, measure, event string, happened time.Time, by string) (*Measure, error) {
	return o.about(ctx, measure, &Stated{Type: LeafNoted, Event: event, Happened: happened.UTC(), By: by})
}

func (o *Office) about(ctx context.Context, measure string, l *Stated) (*Measure, error) {
	l.At = o.Now()
	m, err := o.Register.Find(measure, l.At)
	if err != nil {
		return nil, err
	}
	l.ID, l.Proposal = m.Proposed.ID, m.Digest
	if err := o.state(ctx, l, l.By); err != nil {
		return nil, err
	}
	return m, nil
}

// holders names those whose public keys stand in the folder people, by key id.
func (o *Office) holders() (map[string]string, error) {
	return readHolders(filepath.Join(o.dir, PeopleDir))
}

// named turns key ids into the names of their holders, where they are known.
func named(holders map[string]string, keys []string) []string {
	names := []string{}
	for _, id := range keys {
		if name, ok := holders[id]; ok {
			names = append(names, name)
		} else {
			names = append(names, "key "+id)
		}
	}
	slices.Sort(names)
	return names
}
