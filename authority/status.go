package authority

import (
	"crypto"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cordon/signing"
)

// Status is how an authority stands: what is published and until when it is
// good, what waits for whom, and what stops the next publication.
type Status struct {
	Authority    string    `json:"authority"`
	Procedure    string    `json:"procedure"`
	RegisterSize uint64    `json:"register_size"`
	Serial       uint64    `json:"serial"` // of the last published list; 0: none yet
	Entries      int       `json:"entries"`
	ValidUntil   time.Time `json:"valid_until,omitzero"`
	ListSHA256   string    `json:"list_sha256,omitempty"`
	Folder       string    `json:"folder"`
	Recipients   []string  `json:"recipients"`

	RootExpires      time.Time `json:"root_expires"`
	TargetsExpires   time.Time `json:"targets_expires,omitzero"`
	SnapshotExpires  time.Time `json:"snapshot_expires,omitzero"`
	TimestampExpires time.Time `json:"timestamp_expires,omitzero"`

	Staged      []Staging `json:"staged"`
	Interrupted bool      `json:"interrupted"` // "publish" has to end a publication
	Added       []string  `json:"added"`       // ids that the next list adds
	Removed     []string  `json:"removed"`
	Holds       string    `json:"holds,omitempty"` // why nothing may be published now
	Expired     []string  `json:"expired"`         // what has run out
}

// Status tells how the authority stands. It opens no key.
func (o *Office) Status() (*Status, error) {
	published, err := o.repository.Published()
	if err != nil {
		return nil, err
	}
	recipients, _, err := o.recipients()
	if err != nil {
		return nil, err
	}
	holders, err := o.holders()
	if err != nil {
		return nil, err
	}
	now := o.Now()
	s := &Status{
		Authority: o.Register.Founded.Authority, Procedure: o.Register.Procedure.Name, RegisterSize: o.Register.Size,
		Folder: o.Settings.Publish, Recipients: []string{}, Staged: []Staging{}, Expired: []string{},
		RootExpires: published.RootExpires, TargetsExpires: published.TargetsExpires,
		SnapshotExpires: published.SnapshotExpires, TimestampExpires: published.TimestampExpires,
	}
	for _, r := range recipients {
		s.Recipients = append(s.Recipients, r.Name)
	}
	if last := o.Register.LastPublication(); last != nil {
		s.Serial, s.Entries, s.ValidUntil, s.ListSHA256 = last.Serial, last.Entries, last.ValidUntil, last.ListSHA256
	}
	for _, role := range []string{signing.RoleRoot, signing.RoleTargets} {
		status, err := o.repository.Status(role)
		if errors.Is(err, signing.ErrNothingStaged) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%w: run \"discard\" and sign again", err)
		}
		s.Staged = append(s.Staged, *staging(status, holders))
		s.Interrupted = s.Interrupted || role == signing.RoleTargets && o.recorded(status)
	}
	s.Added, s.Removed = o.Register.Changes(o.Register.Listed(now))
	if err := o.Register.Ready(now); err != nil {
		s.Holds = err.Error()
	}
	for _, e := range []struct {
		what string
		at   time.Time
	}{{"root", s.RootExpires}, {"targets", s.TargetsExpires}, {"snapshot", s.SnapshotExpires}, {"timestamp", s.TimestampExpires}, {"list", s.ValidUntil}} {
		if !e.at.IsZero() && !now.Before(e.at) {
			s.Expired = append(s.Expired, e.what)
		}
	}
	return s, nil
}

// Rotation changes who signs a role (root, targets, snapshot or timestamp).
type Rotation struct {
	Role   string
	Revoke string           // name of the holder whose key no longer counts; "" only adds
	Name   string           // of the holder of the new key; "" only revokes
	New    crypto.PublicKey //
}

// Rotate stages the root that follows from a rotation. It needs the signatures
// of holders of the present root and of its own; where it revokes a key that
// signed the present list, a new list is signed and published with it.
func (o *Office) Rotate(r Rotation) (*Staging, error) {
	roles, err := o.repository.Roles()
	if err != nil {
		return nil, err
	}
	keys := map[string]*signing.RoleKeys{
		signing.RoleRoot: &roles.Root, signing.RoleTargets: &roles.Targets,
		signing.RoleSnapshot: &roles.Snapshot, signing.RoleTimestamp: &roles.Timestamp,
	}[r.Role]
	if keys == nil {
		return nil, fmt.Errorf("role %q: write root, targets, snapshot or timestamp", r.Role)
	}
	holders, err := o.holders()
	if err != nil {
		return nil, err
	}
	if r.Revoke != "" {
		var others []string
		kept := slices.DeleteFunc(slices.Clone(keys.Keys), func(pub crypto.PublicKey) bool {
			id, err := signing.KeyID(pub)
			others = append(others, named(holders, []string{id})[0])
			return err == nil && holders[id] == r.Revoke
		})
		if len(kept) == len(keys.Keys) {
			return nil, fmt.Errorf("%s signs nothing in role %s: name one of %s", r.Revoke, r.Role, strings.Join(others, ", "))
		}
		keys.Keys = kept
	}
	if r.New != nil {
		if !identifier.MatchString(r.Name) {
			return nil, fmt.Errorf("holder %q: a name is up to 32 small letters, digits, - and _, a letter first", r.Name)
		}
		for id, name := range holders {
			if newID, err := signing.KeyID(r.New); name == r.Name && (err != nil || newID != id) {
				return nil, fmt.Errorf("holder %s has another key already: choose a new name", r.Name)
			}
		}
		keys.Keys = append(keys.Keys, r.New)
		if err := writeHolder(filepath.Join(o.dir, PeopleDir), r.Name, r.New); err != nil {
			return nil, err
		}
	}
	status, err := o.repository.StageRoot(roles, o.Settings.Expiry.Root.After(o.Now()))
	if err != nil {
		return nil, err
	}
	if holders, err = o.holders(); err != nil {
		return nil, err
	}
	return staging(status, holders), nil
}
