package signing

import (
	"errors"
	"fmt"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// What can be wrong with a publication. Each refusal by [Client.Update],
// [VerifyAccepted] or [Unseal] wraps exactly one of these, so that its reason
// can be named the same way in records and metrics (see [Reason]).
var (
	// ErrUnchanged: what is in force is still the newest, and still fresh.
	ErrUnchanged = errors.New("publication unchanged")
	// ErrExpired: a signature's time has run out. Either the authority has
	// stopped publishing or somebody withholds what it publishes (a freeze).
	ErrExpired = errors.New("publication has expired")
	// ErrRollback: something older than what was already seen.
	ErrRollback = errors.New("publication is older than one already seen")
	// ErrSignature: too few valid signatures by keys that the root names.
	ErrSignature = errors.New("publication is not signed by enough of the authority's keys")
	// ErrIncomplete: a file is missing, cut, malformed, or not the one whose
	// length and hash were signed.
	ErrIncomplete = errors.New("publication is incomplete or damaged")
	// ErrTooLarge: a file is longer than was signed, or than the limit.
	ErrTooLarge = errors.New("file is larger than allowed")
	// ErrSource: the source could not be reached or did not answer properly.
	ErrSource = errors.New("source of the publication cannot be read")
	// ErrNotRecipient: the envelope is whole, but not for this identity.
	ErrNotRecipient = errors.New("not a recipient of this envelope")
	// ErrState: the client cannot keep its own state, so that it could not
	// notice a rollback after a restart.
	ErrState = errors.New("client's own folder cannot be used")
)

// What can be wrong with a file that holds a secret, where a caller decides.
var (
	// ErrPassphrase: the passphrase does not open the file.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrNothingStaged: there is nothing to sign or to discard.
	ErrNothingStaged = errors.New("nothing is staged")
)

// Reason names the refusal in err by one stable word, for records and metrics:
// "unchanged", "expired", "rollback", "signature", "incomplete", "too-large",
// "source", "recipient" or "state"; empty for an error that is none of these.
func Reason(err error) string {
	for _, r := range []struct {
		err  error
		word string
	}{
		{ErrUnchanged, "unchanged"},
		{ErrExpired, "expired"},
		{ErrRollback, "rollback"},
		{ErrSignature, "signature"},
		{ErrTooLarge, "too-large"},
		{ErrIncomplete, "incomplete"},
		{ErrSource, "source"},
		{ErrNotRecipient, "recipient"},
		{ErrState, "state"},
	} {
		if errors.Is(err, r.err) {
			return r.word
		}
	}
	return ""
}

// refusal puts an error of go-tuf under one of the sentinels above. What
// encoding/json and the canonical encoder return has no type of TUF's: such a
// file is damaged.
func refusal(doing string, err error) error {
	sentinel := ErrIncomplete
	switch {
	case errors.Is(err, &metadata.ErrExpiredMetadata{}):
		sentinel = ErrExpired
	case errors.Is(err, &metadata.ErrUnsignedMetadata{}):
		sentinel = ErrSignature
	case errors.Is(err, &metadata.ErrBadVersionNumber{}):
		sentinel = ErrRollback
	}
	return fmt.Errorf("%s: %w: %w", doing, sentinel, err)
}
