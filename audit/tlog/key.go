package tlog

import (
	"crypto/rand"
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
