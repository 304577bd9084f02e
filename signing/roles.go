package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// The roles of TUF (specification 1.0, section 2.1). Root and targets are signed
// by people, several of them; snapshot and timestamp by keys that stay online.
const (
	RoleRoot      = metadata.ROOT
	RoleTargets   = metadata.TARGETS
	RoleSnapshot  = metadata.SNAPSHOT
	RoleTimestamp = metadata.TIMESTAMP
)

// RoleKeys says who signs for a role: any Threshold of Keys.
type RoleKeys struct {
	Keys      []crypto.PublicKey // Ed25519, or ECDSA P-256 for keys in tokens
	Threshold int
}

// Roles are what a root says.
type Roles struct {
	Root, Targets, Snapshot, Timestamp RoleKeys
}

// KeyID names a public key as TUF does: the SHA-256 of its canonical JSON, in
// hexadecimal.
func KeyID(pub crypto.PublicKey) (string, error) {
	k, err := tufKey(pub)
	if err != nil {
		return "", err
	}
	return k.ID()
}

func tufKey(pub crypto.PublicKey) (*metadata.Key, error) {
	switch p := pub.(type) {
	case ed25519.PublicKey:
		if len(p) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("an Ed25519 public key has %d bytes, not %d", ed25519.PublicKeySize, len(p))
		}
	case *ecdsa.PublicKey:
		if p.Curve != elliptic.P256() {
			return nil, errors.New("an ECDSA key must be on the curve P-256")
		}
	default:
		return nil, fmt.Errorf("keys are Ed25519 or ECDSA P-256, not %T", pub)
	}
	return metadata.KeyFromPublicKey(pub)
}

// tufSigner lets any crypto.Signer (a key from a file, an agent or a token) sign
// metadata.
type tufSigner struct{ key crypto.Signer }

var _ signature.Signer = tufSigner{}

func (s tufSigner) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return s.key.Public(), nil
}

func (s tufSigner) SignMessage(message io.Reader, _ ...signature.SignOption) ([]byte, error) {
	m, err := io.ReadAll(message)
	if err != nil {
		return nil, err
	}
	if _, ok := s.key.Public().(ed25519.PublicKey); ok {
		return s.key.Sign(rand.Reader, m, crypto.Hash(0)) // Ed25519 takes the message itself
	}
	digest := sha256.Sum256(m)
	return s.key.Sign(rand.Reader, digest[:], crypto.SHA256)
}

// newRoot makes the unsigned root of a version from what it shall say.
func newRoot(roles Roles, version int64) (*metadata.Metadata[metadata.RootType], error) {
	root := metadata.Root()
	root.Signed.Version = version
	root.Signed.ConsistentSnapshot = true
	for _, r := range []struct {
		role string
		RoleKeys
	}{
		{RoleRoot, roles.Root}, {RoleTargets, roles.Targets},
		{RoleSnapshot, roles.Snapshot}, {RoleTimestamp, roles.Timestamp},
	} {
		if r.Threshold < 1 || r.Threshold > len(r.Keys) {
			return nil, fmt.Errorf("role %s: threshold %d of %d keys", r.role, r.Threshold, len(r.Keys))
		}
		for i, pub := range r.Keys {
			k, err := tufKey(pub)
			if err != nil {
				return nil, fmt.Errorf("role %s: key %d: %w", r.role, i+1, err)
			}
			if err := root.Signed.AddKey(k, r.role); err != nil {
				return nil, fmt.Errorf("role %s: key %d: %w", r.role, i+1, err)
			}
		}
		role := root.Signed.Roles[r.role]
		if role.Threshold = r.Threshold; len(role.KeyIDs) != len(r.Keys) {
			return nil, fmt.Errorf("role %s: a key is named twice", r.role)
		}
	}
	return root, nil
}

// rolesOf is what a root says, as newRoot takes it.
func rolesOf(root *metadata.Metadata[metadata.RootType]) (Roles, error) {
	var roles Roles
	for role, into := range map[string]*RoleKeys{
		RoleRoot: &roles.Root, RoleTargets: &roles.Targets,
		RoleSnapshot: &roles.Snapshot, RoleTimestamp: &roles.Timestamp,
	} {
		r := root.Signed.Roles[role]
		into.Threshold = r.Threshold
		for _, id := range r.KeyIDs {
			pub, err := root.Signed.Keys[id].ToPublicKey()
			if err != nil {
				return Roles{}, fmt.Errorf("role %s: key %s: %w", role, id, err)
			}
			into.Keys = append(into.Keys, pub)
		}
	}
	return roles, nil
}

// signers tells which keys of a role, as root names them, have validly signed md
// (a *metadata.Metadata of any role), and which are missing.
func signers(root *metadata.Metadata[metadata.RootType], role string, md any) (signed, missing []string) {
	for _, id := range root.Signed.Roles[role].KeyIDs {
		// go-tuf tells only whether a threshold is met: ask it for each key alone.
		alone := metadata.Metadata[metadata.RootType]{Signed: metadata.RootType{
			Keys:  map[string]*metadata.Key{id: root.Signed.Keys[id]},
			Roles: map[string]*metadata.Role{role: {KeyIDs: []string{id}, Threshold: 1}},
		}}
		if alone.VerifyDelegate(role, md) == nil {
			signed = append(signed, id)
		} else {
			missing = append(missing, id)
		}
	}
	return signed, missing
}
