// Package signing is the trust in a list: keys and their custody, the TUF roles
// that sign it (The Update Framework specification 1.0), the client that
// verifies what was published, and the age envelopes that keep it confidential.
package signing

import (
	"context"
	"crypto"
	"time"
)

// Source gives the files of a publication by their path below its base
// ("metadata/timestamp.json", "targets/3f…a1.list").
type Source interface {
	// Fetch returns the whole file. fs.ErrNotExist where there is none; an
	// error before more than max bytes were read where the file is longer.
	Fetch(ctx context.Context, path string, max int64) ([]byte, error)
}

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

// ClientConfig says what a client trusts and where it keeps its state.
type ClientConfig struct {
	Root      []byte // the pinned root metadata
	Dir       string // the client's own cache, 0700
	Target    string // target path to follow, e.g. "list"
	Source    Source
	Clock     func() time.Time
	MaxTarget int64 // bytes; default 256 MiB
}

// Client follows one publication.
type Client struct{}

// NewClient checks the configuration; it does not touch the network.
func NewClient(c ClientConfig) (*Client, error) { panic("not built") }

// Update asks the source for news. ErrUnchanged when the publication that was
// accepted last is still the newest and still fresh.
func (c *Client) Update(ctx context.Context) (*Accepted, error) { panic("not built") }

// Confirm tells the client that an accepted publication is in force and
// durable in its owner's store, so that the next Update is ErrUnchanged.
func (c *Client) Confirm(a *Accepted) error { panic("not built") }

// VerifyAccepted verifies a stored publication against the pinned root: chain
// of roots, threshold of signatures, length and hash of the target. Expiry is
// not looked at, since the last verified list stays in force.
func VerifyAccepted(pinnedRoot []byte, a *Accepted) error { panic("not built") }

// WriteKey stores a private key in a new file (0600, never overwritten),
// encrypted with a passphrase (age scrypt).
func WriteKey(path string, key crypto.PrivateKey, passphrase []byte, logN int) error {
	panic("not built")
}

// ReadKey opens what WriteKey stored.
func ReadKey(path string, passphrase []byte) (crypto.Signer, error) { panic("not built") }

// Seal encrypts data to hybrid post-quantum age recipients ("age1pq1…").
func Seal(data []byte, recipients []string) ([]byte, error) { panic("not built") }

// Unseal decrypts what Seal made. ErrNotRecipient where identity is not one of
// its recipients.
func Unseal(data []byte, identity string, max int64) ([]byte, error) { panic("not built") }
