package blocklist

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"cordon/signing"
)

// Origin says from where a list came into force.
type Origin string

// The two origins, as they stand in the block log.
const (
	OriginStore Origin = "store" // from disk, at the start
	OriginFetch Origin = "fetch" // from the source
)

// Loaded is a list that has passed everything and may be enforced. It is
// immutable: the query path, the watcher and the console may share it.
type Loaded struct {
	Name         string // of the list in the resolver's configuration
	List         *List
	Index        *Index    // over those of List.Entries that are enforced
	Aside        []Aside   // those that are not, though in force; by number
	Pending      int       // how many are not in force yet
	Ripe         time.Time // when the next of these will be; zero if there is none
	AsOf         time.Time // when the index was built
	Origin       Origin
	ListSHA256   string // hex; of the list's text, as the register names it
	TargetSHA256 string // hex; of the encrypted target, as the authority signed it
}

// Aside is a SetAside with the entry's number in the list.
type Aside struct {
	Entry uint32
	SetAside
}

// enforces tells whether an entry of the same name and scope is enforced. l may
// be nil.
func (l *Loaded) enforces(e *Entry) bool {
	if l == nil {
		return false
	}
	for _, n := range l.Index.Covering(nil, appendWire(nil, e.Name)) {
		if is := &l.List.Entries[n]; is.Name == e.Name && is.Scope == e.Scope {
			return true
		}
	}
	return false
}

// aside gives what is set aside of the entry with that number; nil where it is
// not.
func (l *Loaded) aside(number uint32) *Aside {
	i, ok := slices.BinarySearchFunc(l.Aside, number, func(a Aside, n uint32) int { return cmp.Compare(a.Entry, n) })
	if !ok {
		return nil
	}
	return &l.Aside[i]
}

// build gives the list with an index over what is enforced of it: neither what is
// set aside nor what is not in force at now (docs/decisions/0011).
func (l *Loaded) build(ctx context.Context, aside []Aside, now time.Time) (*Loaded, error) {
	b := *l
	b.Aside, b.Pending, b.Ripe, b.AsOf = aside, 0, time.Time{}, now
	var err error
	b.Index, err = newIndex(ctx, l.List.Entries, func(number int) bool {
		if len(aside) > 0 && aside[0].Entry == uint32(number) {
			aside = aside[1:]
			return false
		}
		from := l.List.Entries[number].InForce
		if !from.After(now) {
			return true
		}
		b.Pending++
		if b.Ripe.IsZero() || from.Before(b.Ripe) {
			b.Ripe = from
		}
		return false
	})
	return &b, err
}

// reviewed is build with what the guards set aside, of which st is told.
func (l *Loaded) reviewed(ctx context.Context, st *standing, g *Guard, running *Loaded, now time.Time) (*Loaded, error) {
	aside, err := st.review(ctx, g, l.List, running, now)
	if err != nil {
		return nil, err
	}
	return l.build(ctx, aside, now)
}

// opener turns a publication into a list that may be reviewed, from the network
// and from the store in the same way.
type opener struct {
	name     string
	root     []byte // pinned
	identity string // age; secret
	limits   Limits
	guard    *Guard
}

// open verifies, decrypts, parses and guards the structure, in this order, until ctx
// ends. What it gives has no index yet (see build). The error is a *refusal that names all that
// is known of the list.
func (o *opener) open(ctx context.Context, a *signing.Accepted, origin Origin) (*Loaded, error) {
	target := sha256.Sum256(a.Target)
	l := &Loaded{Name: o.name, Origin: origin, TargetSHA256: hex.EncodeToString(target[:])}
	refused := func(reason string, err error) error {
		r := &refusal{reason: reason, target: l.TargetSHA256, err: err}
		if l.List != nil {
			r.serial = l.List.Serial
		}
		return r
	}
	if err := signing.VerifyAccepted(o.root, a); err != nil {
		return nil, refused("", err)
	}
	// What is sealed is never longer than its envelope.
	text, err := signing.Unseal(a.Target, o.identity, int64(len(a.Target)))
	if err != nil {
		return nil, refused("", err)
	}
	list, sum, err := decode(ctx, bytes.NewReader(text), o.limits)
	if err != nil {
		return nil, refused("format", err)
	}
	l.List, l.ListSHA256 = list, hex.EncodeToString(sum[:])
	if err := o.guard.Check(ctx, Update{Next: list}); err != nil {
		return nil, refused("guard", err)
	}
	return l, nil
}

// reopen opens what is stored.
func (o *opener) reopen(ctx context.Context, a *signing.Accepted) (*Loaded, error) {
	return o.open(ctx, a, OriginStore)
}

// refusal is why a list did not come into force, with what is known of it.
type refusal struct {
	reason string // a stable word; empty where err has one of signing's
	serial uint64 // 0 if not known
	target string // hex SHA-256; empty if not known
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// Reason names the refusal in err by one stable word, for records, metrics and
// tests: those of signing.Reason, and "format" (not a list of cordon-list/1),
// "guard" (see Guard), "policy" (the resolver would not take it), "store" (what
// is stored cannot be used); "internal" for an error that is none of these.
func Reason(err error) string {
	var r *refusal
	if errors.As(err, &r) && r.reason != "" {
		return r.reason
	}
	if word := signing.Reason(err); word != "" {
		return word
	}
	return "internal"
}

// notBehind makes sure that a list does not replace a later one, whatever TUF
// says: the metadata's versions and the list's serial are counted apart.
func notBehind(next, running *Loaded, stored uint64) error {
	behind := func(format string, args ...any) error {
		return &refusal{serial: next.List.Serial, target: next.TargetSHA256,
			err: fmt.Errorf("list serial %d: %w: "+format, append([]any{next.List.Serial, signing.ErrRollback}, args...)...)}
	}
	switch serial := next.List.Serial; {
	case running != nil && serial < running.List.Serial:
		return behind("serial %d is in force", running.List.Serial)
	case running != nil && serial == running.List.Serial && next.ListSHA256 != running.ListSHA256:
		return behind("another list is in force under the same serial; the authority has to publish with a new one")
	case serial < stored:
		return behind("serial %d is stored", stored)
	}
	return nil
}
