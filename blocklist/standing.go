package blocklist

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"cordon/durable"
)

// Ruling is a person's word on what a guard has stopped, or on what a guard has
// not: who, why, and from which account.
type Ruling struct {
	Name    string    `json:"name"`    // of the person, as given
	Reason  string    `json:"reason"`  // as given
	Account string    `json:"account"` // the local account that asked, as the kernel tells it
	At      time.Time `json:"at"`      // UTC, seconds
}

func (r *Ruling) check() error {
	for _, text := range []struct {
		field, value string
		most         int
	}{{"name", r.Name, 128}, {"reason", r.Reason, maxText}, {"account", r.Account, 128}} {
		if err := checkText(text.field, text.value, text.most); err != nil {
			return fmt.Errorf("%s %s %s; %s", text.field, quote(text.value), err.Problem, err.Remedy)
		}
	}
	return nil
}

// guardPerson stands where the guards' names do, for an entry that a person has
// set aside.
const guardPerson = "person"

// SetAside is an entry of a list in force that is not enforced: by a guard
// (quarantine), or by a person. It stays so until it is released, whatever
// becomes of the reason: traffic is forgotten at a restart, and what a person has
// to say should not be said by an edit of a file. It is bound to the entry's text:
// the same id in other words is another entry.
type SetAside struct {
	ID      string    `json:"id"`
	SHA256  string    `json:"sha256"` // hex; of the entry's line in the list
	Name    string    `json:"name"`
	Scope   Scope     `json:"scope"`
	Guard   string    `json:"guard"`            // "protected", "popular", or "person"
	Because string    `json:"because"`          //
	Serial  uint64    `json:"serial"`           // of the list that was looked at
	Since   time.Time `json:"since"`            // UTC, seconds
	Ruling  *Ruling   `json:"ruling,omitempty"` // of the person
	Said    bool      `json:"said"`             // it is on record
}

// Released is an entry that a person has let come into force.
type Released struct {
	ID      string `json:"id"`
	SHA256  string `json:"sha256"`
	Name    string `json:"name"`
	Guard   string `json:"guard"`   // that had set it aside
	Because string `json:"because"` // what it said
	Ruling  Ruling `json:"ruling"`
}

// Order is what a person has told the resolver to do. It is saved before it is
// recorded and recorded before it has any effect: one that a crash catches in
// between is recorded and carried out at the next start.
type Order struct {
	Action  Action     `json:"action"`
	Serial  uint64     `json:"serial"`                // of the list in force; of the other one for ReleaseUpdate and HoldUpdate
	SHA256  string     `json:"list_sha256,omitempty"` // of that list, for these
	Entries []SetAside `json:"entries,omitempty"`     // for Release and Hold
	To      uint64     `json:"to,omitempty"`          // for RollBack
	Ruling  Ruling     `json:"ruling"`
}

// Action is the kind of an Order.
type Action string

// The actions, as they stand in records.
const (
	Release       Action = "release"        // let entries come into force that are set aside
	Hold          Action = "hold"           // set entries aside that are in force
	ReleaseUpdate Action = "release-update" // let a held list come into force
	HoldUpdate    Action = "hold-update"    // hold a list that is on trial, here or elsewhere
	RollBack      Action = "rollback"       // go back to the list before
)

// obey changes the standing as an order says.
func (st *standing) obey(o *Order) {
	concerned := func(id, digest string) bool {
		return slices.ContainsFunc(o.Entries, func(s SetAside) bool { return s.ID == id && s.SHA256 == digest })
	}
	switch o.Action {
	case Release:
		st.Aside = slices.DeleteFunc(st.Aside, func(s SetAside) bool { return concerned(s.ID, s.SHA256) })
		for _, s := range o.Entries {
			st.Released = append(st.Released, Released{ID: s.ID, SHA256: s.SHA256, Name: s.Name, Guard: s.Guard, Because: s.Because, Ruling: o.Ruling})
		}
	case Hold:
		st.Released = slices.DeleteFunc(st.Released, func(r Released) bool { return concerned(r.ID, r.SHA256) })
		st.Aside = append(st.Aside, o.Entries...)
	case ReleaseUpdate:
		if st.Held != nil && st.Held.ListSHA256 == o.SHA256 {
			st.Held.Released = &o.Ruling
		}
	case HoldUpdate:
		st.Held = &HeldUpdate{
			Serial: o.Serial, ListSHA256: o.SHA256, Guard: guardPerson, Since: o.Ruling.At, Said: true,
			Because: "is held by " + o.Ruling.Name + ": " + o.Ruling.Reason,
		}
	case RollBack:
		st.Rollback = &Rollback{From: o.Serial, To: o.To, Ruling: o.Ruling}
	}
	st.Order = nil
}

// HeldUpdate is a list that was held as a whole.
type HeldUpdate struct {
	Serial     uint64    `json:"serial"`
	ListSHA256 string    `json:"list_sha256"` // hex
	Guard      string    `json:"guard"`       // "size", "canary" or "person"
	Because    string    `json:"because"`
	Entries    int       `json:"entries"`
	Change               // against the list in force
	Since      time.Time `json:"since"`              // UTC, seconds
	Released   *Ruling   `json:"released,omitempty"` // let into force, and perhaps not yet there
	Said       bool      `json:"said"`
}

// Rollback is a list that was put in force again in place of a newer one. It ends
// when a list comes that is newer than both.
type Rollback struct {
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
	Ruling Ruling `json:"ruling"`
}

// standing is what is known of a list beyond what its authority has signed. It is
// durable, and nothing in it can make more be enforced than was signed.
type standing struct {
	Format   string      `json:"format"` // standingFormat
	List     string      `json:"list"`
	Aside    []SetAside  `json:"aside"`
	Released []Released  `json:"released"`
	Held     *HeldUpdate `json:"held,omitempty"`
	Rollback *Rollback   `json:"rollback,omitempty"`
	Order    *Order      `json:"order,omitempty"` // not on record yet
}

const (
	standingFormat = "cordon-standing/1"
	standingFile   = "standing.json"
	standingBad    = "standing.damaged" // for a person to look at
	maxStanding    = 1 << 30            // bytes
)

func newStanding(list string) *standing {
	return &standing{Format: standingFormat, List: list, Aside: []SetAside{}, Released: []Released{}}
}

// clone lets a change be tried: the elements are not changed in place.
func (s *standing) clone() *standing {
	c := *s
	c.Aside, c.Released = slices.Clone(s.Aside), slices.Clone(s.Released)
	if s.Held != nil {
		held := *s.Held
		c.Held = &held
	}
	return &c
}

// standing reads what was saved; an empty one, without an error, where there is
// nothing.
func (s *Store) standing() (*standing, error) {
	empty := newStanding(filepath.Base(s.dir))
	f, err := os.Open(filepath.Join(s.dir, standingFile))
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxStanding))
	if err != nil {
		return empty, err
	}
	st, err := parseStanding(raw)
	if err == nil && st.List != empty.List {
		err = fmt.Errorf("it is of list %s", quote(st.List))
	}
	if err != nil {
		return empty, fmt.Errorf("%s: %w; quarantine and rulings begin anew, and it is kept as %s", f.Name(), err, standingBad)
	}
	return st, nil
}

func parseStanding(raw []byte) (*standing, error) {
	in := json.NewDecoder(bytes.NewReader(raw))
	in.DisallowUnknownFields()
	st := new(standing)
	if err := in.Decode(st); err != nil {
		return nil, err
	}
	if st.Format != standingFormat {
		return nil, fmt.Errorf("format %s is not known here", quote(st.Format))
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more follows the object")
	}
	return st, nil
}

// keepDamaged puts what cannot be read out of the way of the next save.
func (s *Store) keepDamaged() error {
	return errors.Join(s.disk.Rename(filepath.Join(s.dir, standingFile), filepath.Join(s.dir, standingBad)), s.disk.SyncDir(s.dir))
}

// saveStanding replaces what was saved, durably and whole.
func (s *Store) saveStanding(st *standing) error {
	raw, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return durable.Replace(s.disk, filepath.Join(s.dir, standingFile), raw, 0o600)
}

// digest of an entry's line.
func (e *Entry) digest(line *spelling) string {
	text, err := line.entry(e)
	if err != nil {
		return "" // an entry that Parse accepted has a line; "" matches nothing
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// review looks at each entry of a list whose structure has passed: it adds to the
// standing what the guards set aside, drops what concerns neither this list nor the
// one in force, and gives the entries that are not enforced, by number. Where ctx ends first the standing is
// of no use.
func (st *standing) review(ctx context.Context, g *Guard, next *List, running *Loaded, now time.Time) ([]Aside, error) {
	var (
		aside     []Aside
		line      = newSpelling()
		wire      [maxWireName]byte
		setAside  = make(map[string]*SetAside, len(st.Aside)) // by id
		released  = make(map[string]string, len(st.Released)) // id to digest
		found     []SetAside
		protected = g.protected()
		present   = make(map[string]bool) // ids known to the standing that the list holds
	)
	for i := range st.Aside {
		setAside[st.Aside[i].ID] = &st.Aside[i]
	}
	for _, r := range st.Released {
		released[r.ID] = r.SHA256
	}
	put := func(number int, s *SetAside) {
		aside = append(aside, Aside{Entry: uint32(number), SetAside: *s})
	}
	for i := range next.Entries {
		if err := ended(ctx, i); err != nil {
			return nil, err
		}
		e := &next.Entries[i]
		known, releasedAs := setAside[e.ID], released[e.ID]
		var digest string
		if known != nil || releasedAs != "" {
			digest = e.digest(line)
			present[e.ID+digest] = true
		}
		switch {
		case known != nil && known.SHA256 == digest:
			put(i, known)
			continue
		case releasedAs != "" && releasedAs == digest:
			continue
		}
		guard, because := guardProtected, protected.covers(e)
		if because == "" {
			guard, because = guardPopular, g.popular(e, wire[:0])
			if because != "" && running.enforces(e) {
				continue // what is asked for now is what was asked for before it was
			}
		}
		if because == "" {
			continue
		}
		found = append(found, SetAside{
			ID: e.ID, SHA256: e.digest(line), Name: e.Name, Scope: e.Scope,
			Guard: guard, Because: because, Serial: next.Serial, Since: now.UTC().Truncate(time.Second),
		})
		present[e.ID+found[len(found)-1].SHA256] = true
		put(i, &found[len(found)-1])
	}
	st.Aside = append(st.Aside, found...)
	st.prune(present, running)
	return aside, nil
}

// prune drops what concerns neither the list under review, whose entries are
// present, nor the one in force, to which a person may go back.
func (st *standing) prune(present map[string]bool, running *Loaded) {
	if running == nil {
		return // what is known may be of the list that the source will give
	}
	for _, a := range running.Aside {
		present[a.ID+a.SHA256] = true
	}
	ids := make(map[string]bool, len(st.Released))
	for _, r := range st.Released {
		ids[r.ID] = true
	}
	line := newSpelling()
	for i := range running.List.Entries {
		if e := &running.List.Entries[i]; ids[e.ID] {
			present[e.ID+e.digest(line)] = true
		}
	}
	st.Aside = slices.DeleteFunc(st.Aside, func(s SetAside) bool { return !present[s.ID+s.SHA256] })
	st.Released = slices.DeleteFunc(st.Released, func(r Released) bool { return !present[r.ID+r.SHA256] })
}
