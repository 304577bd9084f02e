package tlog

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// GenerateKey makes an Ed25519 key for a log of that name (its origin, e.g.
// "isp.example/cordon/audit"; no spaces, no plus sign): a C2SP note signer key,
// which is secret, and the verifier key, which whoever reads the log needs.
func GenerateKey(name string) (skey, vkey string, err error) {
	if name == "" || strings.ContainsAny(name, "+ \t\r\n") {
		return "", "", fmt.Errorf("log name %q: it has to be a word without spaces and plus signs, such as isp.example/audit", name)
	}
	skey, vkey, err = note.GenerateKey(rand.Reader, name)
	if err != nil {
		return "", "", fmt.Errorf("generate log key: %w", err)
	}
	return skey, vkey, nil
}

// ParseKey opens a signer key that GenerateKey made, and gives the verifier key
// that goes with it.
func ParseKey(skey string) (s note.Signer, vkey string, err error) {
	s, err = note.NewSigner(skey)
	if err != nil {
		return nil, "", fmt.Errorf("log key: %w", err)
	}
	// PRIVATE+KEY+NAME+HASH+KEY, of which KEY is an algorithm byte and the seed.
	fields := strings.Split(skey, "+")
	seed, err := base64.StdEncoding.DecodeString(strings.Join(fields[4:], "+"))
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return nil, "", fmt.Errorf("log key of %s: it is not an Ed25519 key", s.Name())
	}
	public, ok := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	if !ok {
		return nil, "", fmt.Errorf("log key of %s: it has no public key", s.Name())
	}
	vkey, err = note.NewEd25519VerifierKey(s.Name(), public)
	if err != nil {
		return nil, "", fmt.Errorf("log key of %s: %w", s.Name(), err)
	}
	return s, vkey, nil
}

// ReadVerifier reads a verifier key from a file of one line (NAME.vkey).
func ReadVerifier(path string) (note.Verifier, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read verifier key: %w", err)
	}
	v, err := note.NewVerifier(strings.TrimSpace(string(raw)))
	if err != nil {
		return nil, fmt.Errorf("read verifier key %s: %w; it should be one line, NAME+HASH+KEY", path, err)
	}
	return v, nil
}
