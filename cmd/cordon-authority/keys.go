package main

import (
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cordon/authority"
	"cordon/cmd/internal/program"
	"cordon/cmd/internal/terminal"
	"cordon/signing"
)

// keyring opens keys from files. The machine's own keys share one passphrase; a
// person's key may have one of its own.
type keyring struct {
	dir          string
	machineFile  string // passphrase_file of authority.yaml
	personalFile string // --passphrase-file
	personalKey  string // --key-file: where a person's key is, if not in dir

	machine []byte // once it is known
}

var machineKeys = []string{authority.KeyRegister, authority.KeySnapshot, authority.KeyTimestamp, authority.KeyList}

// Signer implements authority.Keys. name may also be a path.
func (k *keyring) Signer(name string) (crypto.Signer, error) {
	path := k.path(name)
	if slices.Contains(machineKeys, name) {
		passphrase, err := k.machinePassphrase()
		if err != nil {
			return nil, err
		}
		return readKey(path, passphrase)
	}
	if k.personalKey != "" {
		path = k.personalKey
	}
	if k.personalFile == "" && (k.machineFile != "" || os.Getenv(program.PassphraseVariable) != "") {
		passphrase, err := k.machinePassphrase()
		if err != nil {
			return nil, err
		}
		key, err := readKey(path, passphrase)
		if !errors.Is(err, signing.ErrPassphrase) {
			return key, err
		}
		// A key that was taken away has a passphrase of its own: ask for it.
		own, asking := terminal.Prompt("Passphrase of " + path + ": ")
		if asking != nil {
			return nil, fmt.Errorf("%w: name the file with its passphrase with --passphrase-file", err)
		}
		return readKey(path, own)
	}
	passphrase, err := signing.Passphrase(k.personalFile, program.PassphraseVariable, func(string) ([]byte, error) {
		return terminal.Prompt("Passphrase of " + path + ": ")
	})
	if err != nil {
		return nil, err
	}
	return readKey(path, passphrase)
}

// Secret implements authority.Keys.
func (k *keyring) Secret(name, kind string) ([]byte, error) {
	passphrase, err := k.machinePassphrase()
	if err != nil {
		return nil, err
	}
	secret, err := signing.ReadSecret(k.path(name), kind, passphrase)
	return secret, missing(k.path(name), err)
}

func (k *keyring) machinePassphrase() ([]byte, error) {
	if k.machine != nil {
		return k.machine, nil
	}
	passphrase, err := signing.Passphrase(k.machineFile, program.PassphraseVariable, func(string) ([]byte, error) {
		return terminal.Prompt("Passphrase of the authority's own keys: ")
	})
	k.machine = passphrase
	return passphrase, err
}

func (k *keyring) path(name string) string {
	if strings.ContainsRune(name, filepath.Separator) || strings.HasSuffix(name, ".key") {
		return name
	}
	return filepath.Join(k.dir, name+".key")
}

func readKey(path string, passphrase []byte) (crypto.Signer, error) {
	key, err := signing.ReadKey(path, passphrase)
	return key, missing(path, err)
}

// missing says what to do about a key that is not there.
func missing(path string, err error) error {
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(path)
	files, _ := filepath.Glob(filepath.Join(dir, "*.key"))
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".key"))
	}
	if len(names) == 0 {
		return fmt.Errorf("there is no key %s: name the file where you keep it", path)
	}
	return fmt.Errorf("there is no key %s: name the file where you keep it, or one that is there: %s", path, strings.Join(names, ", "))
}
