package signing

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"filippo.io/age"
	"filippo.io/age/armor"

	"cordon/durable"
)

// A secret on disk is an armored age file with a passphrase (scrypt), mode 0600.
// Its clear text is one line of JSON that names what it is, and the secret:
//
//	{"format":"cordon-secret/1","kind":"ed25519"}
//	-----BEGIN PRIVATE KEY-----
//	…
//
// so that `age -d` and `openssl pkey` read it without cordon.

// Kinds of secret that cordon keeps.
const (
	KindEd25519    = "ed25519"      // PKCS #8, PEM: a key that signs a role or an officer's statement
	KindIdentity   = "age-identity" // AGE-SECRET-KEY-PQ-1…: opens envelopes
	KindNoteSigner = "note-signer"  // PRIVATE+KEY+…: signs a log's checkpoints (C2SP signed-note)
)

const (
	secretFormat  = "cordon-secret/1"
	maxSecretFile = 64 << 10 // bytes, of the file as of the secret

	// The work that scrypt does is 2^logN. 18 takes about a second and 256 MiB;
	// a file may ask for at most 20, or it could exhaust who opens it.
	defaultLogN = 18
	maxLogN     = 20
)

// secretHeader is the first line of the clear text.
type secretHeader struct {
	Format string `json:"format"`
	Kind   string `json:"kind"`
}

// GenerateKey makes an Ed25519 key. Its file is made by [WriteKey], its name in
// roles by [KeyID].
func GenerateKey() (crypto.Signer, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("generate an Ed25519 key: %w", err)
	}
	return key, nil
}

// WriteKey stores an Ed25519 private key as [WriteSecret] does.
func WriteKey(path string, key crypto.PrivateKey, passphrase []byte, logN int) error {
	k, ok := key.(ed25519.PrivateKey)
	if !ok {
		return fmt.Errorf("write key %s: it is a %T; only Ed25519 private keys are kept in files", path, key)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return fmt.Errorf("write key %s: %w", path, err)
	}
	return WriteSecret(path, KindEd25519, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), passphrase, logN)
}

// ReadKey opens what WriteKey stored.
func ReadKey(path string, passphrase []byte) (crypto.Signer, error) {
	secret, err := ReadSecret(path, KindEd25519, passphrase)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(secret)
	if block == nil || len(bytes.TrimSpace(rest)) != 0 {
		return nil, fmt.Errorf("read key %s: it does not hold one PEM block", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", path, err)
	}
	k, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read key %s: it holds a %T, not an Ed25519 private key", path, key)
	}
	return k, nil
}

// WriteSecret stores a secret of a kind in a new file, encrypted with a
// passphrase and readable by its owner alone, and returns when it is durable. A
// file that is there already is never overwritten ([fs.ErrExist]).
//
// The work to try one passphrase is 2^logN (1 to 20); 0 means 18, about a second
// and 256 MiB. Less than that is for tests.
func WriteSecret(path, kind string, secret, passphrase []byte, logN int) error {
	sealed, err := sealSecret(kind, secret, passphrase, logN)
	if err != nil {
		return fmt.Errorf("write secret %s: %w", path, err)
	}
	if err := durable.WriteNew(durable.OS{}, path, sealed, 0o600); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("write secret: %w; secrets are never overwritten: choose another name, or move it away", err)
		}
		return fmt.Errorf("write secret: %w", err)
	}
	return nil
}

// ReadSecret opens what WriteSecret stored. [ErrPassphrase] where the passphrase
// is wrong; other errors where the file can be read by others than its owner, is
// no file of this format, or holds another kind of secret.
func ReadSecret(path, kind string, passphrase []byte) ([]byte, error) {
	sealed, err := ReadOwnersFile(path, maxSecretFile)
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	secret, err := openSecret(kind, sealed, passphrase)
	if err != nil {
		return nil, fmt.Errorf("read secret %s: %w", path, err)
	}
	return secret, nil
}

// Passphrase gets a passphrase: from the file if one is named, else from the
// environment variable env if it is set, else by prompt, which may be nil where
// there is nobody to ask. The file must be readable by its owner alone; one line
// break at its end is not part of the passphrase.
func Passphrase(file, env string, prompt func(label string) ([]byte, error)) ([]byte, error) {
	var passphrase []byte
	switch value := os.Getenv(env); {
	case file != "":
		b, err := ReadOwnersFile(file, maxSecretFile)
		if err != nil {
			return nil, fmt.Errorf("passphrase file: %w", err)
		}
		b = bytes.TrimSuffix(b, []byte("\n"))
		passphrase = bytes.TrimSuffix(b, []byte("\r"))
		if len(passphrase) == 0 {
			return nil, fmt.Errorf("passphrase file: %s is empty", file)
		}
	case value != "":
		passphrase = []byte(value)
	case prompt != nil:
		b, err := prompt("Passphrase: ")
		if err != nil {
			return nil, fmt.Errorf("ask for a passphrase: %w", err)
		}
		if passphrase = b; len(passphrase) == 0 {
			return nil, errors.New("ask for a passphrase: none was given")
		}
	default:
		return nil, fmt.Errorf("no passphrase: set passphrase_file, or the environment variable %s", env)
	}
	return passphrase, nil
}

func sealSecret(kind string, secret, passphrase []byte, logN int) ([]byte, error) {
	if logN == 0 {
		logN = defaultLogN
	}
	if logN < 1 || logN > maxLogN {
		return nil, fmt.Errorf("scrypt work 2^%d is out of range: 1 to %d", logN, maxLogN)
	}
	if kind == "" || len(secret) == 0 || len(secret) > maxSecretFile/2 {
		return nil, fmt.Errorf("a secret needs a kind and 1 to %d bytes", maxSecretFile/2)
	}
	r, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		return nil, err
	}
	r.SetWorkFactor(logN)
	header, err := json.Marshal(secretHeader{Format: secretFormat, Kind: kind})
	if err != nil {
		return nil, err
	}

	var sealed bytes.Buffer
	armored := armor.NewWriter(&sealed)
	w, err := age.Encrypt(armored, r)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(append(append(header, '\n'), secret...)); err != nil {
		return nil, err
	}
	if err := errors.Join(w.Close(), armored.Close()); err != nil {
		return nil, err
	}
	return sealed.Bytes(), nil
}

func openSecret(kind string, sealed, passphrase []byte) ([]byte, error) {
	if !bytes.HasPrefix(sealed, []byte(armor.Header)) {
		return nil, errors.New("not a key file of cordon (an armored age file)")
	}
	id, err := age.NewScryptIdentity(string(passphrase))
	if err != nil {
		return nil, err
	}
	id.SetMaxWorkFactor(maxLogN)
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(sealed)), id)
	if err != nil {
		if strings.Contains(err.Error(), "not passphrase-encrypted") {
			return nil, errors.New("not a key file of cordon: it is encrypted to a recipient, not with a passphrase")
		}
		var none *age.NoIdentityMatchError
		if errors.As(err, &none) {
			return nil, ErrPassphrase
		}
		return nil, fmt.Errorf("the file is damaged: %w", err)
	}
	clear, err := io.ReadAll(io.LimitReader(r, maxSecretFile))
	if err != nil {
		return nil, fmt.Errorf("the file is damaged: %w", err)
	}

	line, secret, ok := bytes.Cut(clear, []byte("\n"))
	var header secretHeader
	if !ok || json.Unmarshal(line, &header) != nil || header.Format != secretFormat {
		return nil, fmt.Errorf("not a key file of cordon: its first line does not say %s", secretFormat)
	}
	if header.Kind != kind {
		return nil, fmt.Errorf("it holds a secret of kind %q, where %q is needed", header.Kind, kind)
	}
	return secret, nil
}

// ReadOwnersFile reads a file of secrets, of max bytes at most, which nobody but its
// owner may read or write.
func ReadOwnersFile(path string, max int64) ([]byte, error) {
	// Without O_NONBLOCK a named pipe in its place would block us here.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, fmt.Errorf("%s can be used by others than its owner (mode %04o): chmod 600 %s, and consider it read by them", path, perm, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > max {
		return nil, fmt.Errorf("%s is longer than %d bytes: not a file of this kind", path, max)
	}
	return b, nil
}
