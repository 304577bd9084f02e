package authority

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cordon/audit/tlog"
	"cordon/blocklist"
	"cordon/signing"
)

// A list is staged by the first who signs, signed by the others, and published.
// Each of these steps assembles the list anew from the register and compares it
// with what is staged, which the authority can decrypt: nobody signs, and
// nothing goes out, that the register does not say.

// Staging is how far a list or a root that waits for signatures is.
type Staging struct {
	Role      string   `json:"role"` // "targets" (a list) or "root" (keys)
	Version   int64    `json:"version"`
	Serial    uint64   `json:"serial,omitempty"` // of the list
	Entries   int      `json:"entries"`
	Added     []string `json:"added,omitempty"` // ids, against the last published list
	Removed   []string `json:"removed,omitempty"`
	Threshold int      `json:"threshold"`
	Signed    []string `json:"signed"`             // names of those who have
	Missing   []string `json:"missing"`            // names of those who could
	Complete  bool     `json:"complete"`           // enough have signed
	Anew      string   `json:"restaged,omitempty"` // why an earlier staged list, and its signatures, was dropped
}

// stagedNote remembers what a staged list was made from. It is trusted for
// nothing: it says where to look for the list's origin, so that a register that
// went on can be told from a list that was changed.
type stagedNote struct {
	RegisterSize uint64 `json:"register_size"`
	Recipients   string `json:"recipients_sha256"`
}

const (
	stagedNoteFile = "list.json"
	stagedTarget   = "target" // where signing.Repository keeps the staged target
)

// errOutdated: the staged list was right when it was staged.
var errOutdated = errors.New("the staged list is out of date")

// Sign adds a signature to what is staged for the key's role. A key of role
// targets signs the list that follows from the register: it is staged first
// where none is, and staged anew where the register has gone on. musts are ids
// or names of measures that the list has to hold.
func (o *Office) Sign(ctx context.Context, key crypto.Signer, musts ...string) (*Staging, error) {
	id, err := signing.KeyID(key.Public())
	if err != nil {
		return nil, err
	}
	holders, err := o.holders()
	if err != nil {
		return nil, err
	}
	root, err := o.repository.Status(signing.RoleRoot)
	if err == nil && slices.ContainsFunc(root.Needs, func(n signing.Need) bool { return slices.Contains(n.Missing, id) || slices.Contains(n.Signed, id) }) {
		if root, err = o.repository.Sign(signing.RoleRoot, key); err != nil {
			return nil, err
		}
		return staging(root, holders), nil
	}
	if err != nil && !errors.Is(err, signing.ErrNothingStaged) {
		return nil, err
	}
	if err := o.checkListKey(id, holders); err != nil {
		return nil, err
	}
	if err := o.require(musts); err != nil {
		return nil, err
	}
	list, anew, err := o.staged()
	if err != nil {
		return nil, err
	}
	status, err := o.repository.Sign(signing.RoleTargets, key)
	if err != nil {
		return nil, err
	}
	s := staging(status, holders)
	s.Anew = anew
	o.describe(s, list)
	return s, nil
}

// checkListKey refuses a key that no role waits for, before anything is staged.
func (o *Office) checkListKey(id string, holders map[string]string) error {
	roles, err := o.repository.Roles()
	if err != nil {
		return err
	}
	if status, err := o.repository.Status(signing.RoleTargets); err == nil {
		n := status.Needs[0]
		if slices.Contains(n.Missing, id) || slices.Contains(n.Signed, id) {
			return nil
		}
		return fmt.Errorf("%s does not sign lists: %s do", named(holders, []string{id})[0], strings.Join(named(holders, append(n.Missing, n.Signed...)), ", "))
	}
	var may []string
	for _, pub := range roles.Targets.Keys {
		other, err := signing.KeyID(pub)
		if err != nil {
			return err
		}
		if other == id {
			return nil
		}
		may = append(may, other)
	}
	if _, err := o.repository.Status(signing.RoleRoot); err == nil {
		return nil // the staged root may name it: Repository.Sign decides
	}
	return fmt.Errorf("%s does not sign lists: %s do", named(holders, []string{id})[0], strings.Join(named(holders, may), ", "))
}

// require checks that measures are to be listed now, and says why not.
func (o *Office) require(musts []string) error {
	for _, must := range musts {
		m, err := o.Register.Find(must, o.Now())
		if err != nil {
			return err
		}
		if err := o.Register.Withheld(m, o.Now()); err != nil {
			return err
		}
	}
	return nil
}

// staged gives the staged list after it was checked against the register; it
// stages one where there is none, or where the one there is out of date.
func (o *Office) staged() (list *blocklist.List, anew string, err error) {
	status, err := o.repository.Status(signing.RoleTargets)
	if err == nil && o.recorded(status) {
		return nil, "", fmt.Errorf("the publication of list %d was interrupted: run \"publish\" to end it", o.Register.LastPublication().Serial)
	}
	if err == nil {
		list, err = o.checkStaged(status)
		if !errors.Is(err, errOutdated) {
			return list, "", err
		}
		anew = err.Error()
		if err := o.repository.Discard(signing.RoleTargets); err != nil {
			return nil, "", err
		}
	} else if !errors.Is(err, signing.ErrNothingStaged) {
		return nil, "", fmt.Errorf("%w: run \"discard\" and sign again", err)
	}
	list, err = o.stage()
	return list, anew, err
}

// recorded tells whether what is staged is in the register as published.
func (o *Office) recorded(status signing.Status) bool {
	last := o.Register.LastPublication()
	return last != nil && last.TargetSHA256 == status.TargetSHA256 && last.TargetsVersion == status.Version
}

// stage assembles, encrypts and stages the next list.
func (o *Office) stage() (*blocklist.List, error) {
	now := o.Now()
	if err := o.Register.Ready(now); err != nil {
		return nil, err
	}
	list, err := o.Register.Assemble(o.nextSerial(), now, o.Settings.pages())
	if err != nil {
		return nil, err
	}
	if err := o.checkSize(list); err != nil {
		return nil, err
	}
	if err := checkGuard(list); err != nil {
		return nil, fmt.Errorf("every resolver would refuse this list:\n%w\nLift what is named here", err)
	}
	recipients, sum, err := o.recipients()
	if err != nil {
		return nil, err
	}
	target, err := seal(list, recipients)
	if err != nil {
		return nil, err
	}
	noted, err := json.Marshal(stagedNote{RegisterSize: o.Register.Size, Recipients: sum})
	if err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(o.dir, StagedDir, stagedNoteFile), noted, 0o600); err != nil {
		return nil, err
	}
	if _, err := o.repository.StageTarget(target, o.Settings.Expiry.Targets.After(now)); err != nil {
		return nil, err
	}
	return list, nil
}

// checkSize keeps the leaf that will say what was published within what a log
// takes.
func (o *Office) checkSize(list *blocklist.List) error {
	added, removed := o.Register.Changes(o.Register.Listed(list.Issued))
	size := 1024 // the rest of the leaf, with room to spare
	for _, id := range slices.Concat(added, removed) {
		size += len(id) + len(`"",`)
	}
	if size > tlog.MaxLeaf {
		return fmt.Errorf("list %d would change %d entries, too many for one publication: approve or lift in steps, and publish between them", list.Serial, len(added)+len(removed))
	}
	return nil
}

func (o *Office) nextSerial() uint64 {
	if last := o.Register.LastPublication(); last != nil {
		return last.Serial + 1
	}
	return 1
}

// recipients gives those whom the list is for, and a digest of them.
func (o *Office) recipients() ([]Recipient, string, error) {
	list, err := LoadRecipients(o.Settings.Recipients)
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(formatRecipients(list))
	return list, hex.EncodeToString(sum[:]), nil
}

// checkStaged decrypts what is staged and compares it with the list that the
// register asks for. errOutdated where it was right when it was staged; any
// other error says that it is not what was approved.
func (o *Office) checkStaged(status signing.Status) (*blocklist.List, error) {
	target, err := os.ReadFile(filepath.Join(o.dir, StagedDir, stagedTarget))
	if err != nil {
		return nil, fmt.Errorf("read the staged list: %w", err)
	}
	if sum := sha256.Sum256(target); hex.EncodeToString(sum[:]) != status.TargetSHA256 {
		return nil, errors.New("the staged list is not the one that its metadata names: run \"discard\" and sign again, and find out who changed it")
	}
	identity, err := o.keys.Secret(KeyList, signing.KindIdentity)
	if err != nil {
		return nil, err
	}
	list, err := open(target, strings.TrimSpace(string(identity)))
	if err != nil {
		return nil, fmt.Errorf("%w: run \"discard\" and sign again, and find out who changed it", err)
	}
	differs := o.compareWith(o.Register, list)
	var noted stagedNote
	if data, err := os.ReadFile(filepath.Join(o.dir, StagedDir, stagedNoteFile)); err != nil || json.Unmarshal(data, &noted) != nil {
		noted = stagedNote{}
	}
	if differs == nil {
		_, sum, err := o.recipients()
		switch {
		case err != nil:
			return nil, err
		case sum != noted.Recipients:
			return nil, fmt.Errorf("%w: its recipients have changed", errOutdated)
		case !slices.Equal(o.Register.Listed(list.Issued), o.Register.Listed(o.Now())):
			return nil, fmt.Errorf("%w: a clock has run out since it was issued", errOutdated)
		}
		return list, nil
	}
	if n := noted.RegisterSize; 0 < n && n < o.Register.Size {
		if then, err := Replay(first(o.leaves, int(n))); err == nil && o.compareWith(then, list) == nil {
			return nil, fmt.Errorf("%w: the register has gone on since", errOutdated)
		}
	}
	return nil, fmt.Errorf("the staged list is not what the register says:\n%w\nUnless the stop pages in %s were changed meanwhile, somebody changed it: find out who, run \"discard\", and sign again",
		differs, SettingsFile)
}

// compareWith says how a list differs from what a register asks for.
func (o *Office) compareWith(r *Register, list *blocklist.List) error {
	if list.Serial != o.nextSerial() {
		return fmt.Errorf("it has serial %d, the next is %d", list.Serial, o.nextSerial())
	}
	if list.Issued.After(o.Now()) {
		return fmt.Errorf("it was issued in the future (%s)", list.Issued)
	}
	want, err := r.Assemble(list.Serial, list.Issued, o.Settings.pages())
	if err != nil {
		return err
	}
	return compare(list, want)
}

// Discard throws away what is staged, with its signatures.
func (o *Office) Discard() ([]string, error) {
	var gone []string
	for _, role := range []string{signing.RoleTargets, signing.RoleRoot} {
		if status, err := o.repository.Status(role); err == nil && role == signing.RoleTargets && o.recorded(status) {
			return gone, fmt.Errorf("list %d is in the register as published: run \"publish\" to end its publication", o.Register.LastPublication().Serial)
		}
		err := o.repository.Discard(role)
		if errors.Is(err, signing.ErrNothingStaged) {
			continue
		}
		if err != nil {
			return gone, err
		}
		gone = append(gone, role)
	}
	if len(gone) == 0 {
		return nil, fmt.Errorf("discard: %w", signing.ErrNothingStaged)
	}
	return gone, nil
}

// Released is what Publish put out.
type Released struct {
	Serial     uint64   `json:"serial"` // 0 where only keys were published
	Entries    int      `json:"entries"`
	Added      []string `json:"added"`
	Removed    []string `json:"removed"`
	ListSHA256 string   `json:"list_sha256"`
	Folder     string   `json:"folder"`
	Resumed    bool     `json:"resumed"` // an interrupted publication was ended

	Publication signing.Publication `json:"-"`
}

// Publish puts out what is staged, once it has signatures enough. The order is
// what makes a kill at any point harmless: first the register says what will be
// published, then the files go out, timestamp.json last (signing.Repository).
// Killed in between, the next Publish ends it: nothing is ever out that the
// register does not know.
func (o *Office) Publish(ctx context.Context, musts ...string) (*Released, error) {
	rootStaged, err := o.complete(signing.RoleRoot)
	if err != nil {
		return nil, err
	}
	listStaged, err := o.complete(signing.RoleTargets)
	if err != nil {
		return nil, err
	}
	if !rootStaged && !listStaged {
		return nil, errors.New("nothing is staged: run \"sign --key HOLDER\" first")
	}
	if err := o.require(musts); err != nil {
		return nil, err
	}
	out := &Released{Folder: o.Settings.Publish, Added: []string{}, Removed: []string{}}
	if listStaged {
		if err := o.recordPublication(ctx, out); err != nil {
			return nil, err
		}
	}
	online, err := o.online()
	if err != nil {
		return nil, err
	}
	if out.Publication, err = o.repository.Publish(online); err != nil {
		return nil, err
	}
	return out, nil
}

// complete tells whether something is staged for a role; an error where
// signatures are missing.
func (o *Office) complete(role string) (bool, error) {
	status, err := o.repository.Status(role)
	if errors.Is(err, signing.ErrNothingStaged) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%w: run \"discard\" and sign again", err)
	}
	if status.Complete() {
		return true, nil
	}
	holders, err := o.holders()
	if err != nil {
		return false, err
	}
	s := staging(status, holders)
	return false, fmt.Errorf("%d of %d signatures: run \"sign --key HOLDER\" with one of %s", len(s.Signed), s.Threshold, strings.Join(s.Missing, ", "))
}

// recordPublication makes sure that the register says what is about to go out.
func (o *Office) recordPublication(ctx context.Context, out *Released) error {
	if err := o.prepare(ctx); err != nil {
		return err
	}
	status, err := o.repository.Status(signing.RoleTargets)
	if err != nil {
		return err
	}
	out.Resumed = o.recorded(status)
	if !out.Resumed {
		list, err := o.checkStaged(status)
		if errors.Is(err, errOutdated) {
			return fmt.Errorf("%w: run \"sign --key HOLDER\" to make it anew", err)
		}
		if err != nil {
			return err
		}
		sum, err := digest(list)
		if err != nil {
			return err
		}
		added, removed := o.Register.Changes(o.Register.Listed(list.Issued))
		l := &Published{
			Type: LeafPublished, At: o.Now(), Serial: list.Serial, Issued: list.Issued, ValidUntil: list.ValidUntil, ListSHA256: sum,
			TargetSHA256: status.TargetSHA256, TargetBytes: status.TargetLength, TargetsVersion: status.Version,
			Entries: len(list.Entries), Added: added, Removed: removed,
		}
		if err := o.record(ctx, l); err != nil {
			return err
		}
	}
	last := o.Register.LastPublication()
	out.Serial, out.Entries, out.ListSHA256 = last.Serial, last.Entries, last.ListSHA256
	out.Added, out.Removed = last.Added, last.Removed
	return nil
}

// online opens the keys that sign snapshot and timestamp.
func (o *Office) online() (signing.Online, error) {
	snapshot, err := o.keys.Signer(KeySnapshot)
	if err != nil {
		return signing.Online{}, err
	}
	timestamp, err := o.keys.Signer(KeyTimestamp)
	if err != nil {
		return signing.Online{}, err
	}
	return signing.Online{
		Snapshot: snapshot, Timestamp: timestamp,
		SnapshotExpires:  o.Settings.Expiry.Snapshot.After(o.Now()),
		TimestampExpires: o.Settings.Expiry.Timestamp.After(o.Now()),
	}, nil
}

// Refresh signs snapshot and timestamp anew, so that clients go on to take what
// is published for fresh. No person is needed, and no content changes.
func (o *Office) Refresh() (signing.Publication, error) {
	online, err := o.online()
	if err != nil {
		return signing.Publication{}, err
	}
	return o.repository.Refresh(online)
}

// staging names the holders of a status.
func staging(status signing.Status, holders map[string]string) *Staging {
	s := &Staging{Role: status.Role, Version: status.Version, Complete: status.Complete()}
	for _, n := range status.Needs {
		// A root that replaces another has two thresholds: the one that lacks
		// most is shown.
		if s.Threshold == 0 || n.Threshold-len(n.Signed) > s.Threshold-len(s.Signed) {
			s.Threshold, s.Signed, s.Missing = n.Threshold, named(holders, n.Signed), named(holders, n.Missing)
		}
	}
	return s
}

// describe adds what the staged list holds.
func (o *Office) describe(s *Staging, list *blocklist.List) {
	s.Serial, s.Entries = list.Serial, len(list.Entries)
	s.Added, s.Removed = o.Register.Changes(o.Register.Listed(list.Issued))
}
