package signing

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// quick is far too little work for scrypt but in tests.
const quick = 2

var passphrase = []byte("correct horse battery staple")

func TestAKeyIsReadBackAsItWasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	key := newKey(t)
	if err := WriteKey(path, key, passphrase, quick); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	got, err := ReadKey(path, passphrase)
	if err != nil || !got.(ed25519.PrivateKey).Equal(key) {
		t.Fatalf("read back: %v", err)
	}
	message := []byte("listed")
	sig, err := got.Sign(nil, message, crypto.Hash(0))
	if err != nil || !ed25519.Verify(key.Public().(ed25519.PublicKey), message, sig) {
		t.Errorf("its signature does not verify: %v", err)
	}
	if raw := readFile(t, path); bytes.Contains(raw, []byte("PRIVATE KEY")) || bytes.Contains(raw, []byte("ed25519")) {
		t.Error("the file tells what it holds")
	}
}

func TestASecretFileIsNeverOverwritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := WriteSecret(path, KindIdentity, []byte("first"), passphrase, quick); err != nil {
		t.Fatal(err)
	}
	err := WriteSecret(path, KindIdentity, []byte("second"), passphrase, quick)
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("second write: %v", err)
	}
	if got, err := ReadSecret(path, KindIdentity, passphrase); err != nil || string(got) != "first" {
		t.Errorf("got %q, %v", got, err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	if err := WriteSecret(link, KindIdentity, []byte("third"), passphrase, quick); !errors.Is(err, fs.ErrExist) {
		t.Errorf("through a dangling link: %v", err)
	}
}

func TestASecretFileThatCannotBeUsedSaysWhy(t *testing.T) {
	good := func(t *testing.T, path string) {
		if err := WriteSecret(path, KindNoteSigner, []byte("PRIVATE+KEY+x"), passphrase, quick); err != nil {
			t.Fatal(err)
		}
	}
	cases := map[string]struct {
		make func(t *testing.T, path string)
		says string
	}{
		"not there":        {func(*testing.T, string) {}, "no such file"},
		"read by a group":  {func(t *testing.T, path string) { good(t, path); chmod(t, path, 0o640) }, "chmod 600"},
		"read by everyone": {func(t *testing.T, path string) { good(t, path); chmod(t, path, 0o604) }, "chmod 600"},
		"a folder": {func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		"a named pipe": {func(t *testing.T, path string) {
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		"empty":      {func(t *testing.T, path string) { writeFile(t, path, nil) }, "not a key file"},
		"an SSH key": {func(t *testing.T, path string) { writeFile(t, path, []byte("-----BEGIN OPENSSH PRIVATE KEY-----\n")) }, "not a key file"},
		"too long":   {func(t *testing.T, path string) { writeFile(t, path, make([]byte, maxSecretFile+1)) }, "longer than"},
		"cut": {func(t *testing.T, path string) {
			good(t, path)
			raw := readFile(t, path)
			writeFile(t, path, raw[:len(raw)-60])
		}, "damaged"},
		"encrypted to a recipient": {func(t *testing.T, path string) {
			id, err := age.GenerateHybridIdentity()
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, path, armored(t, "x", id.Recipient()))
		}, "not with a passphrase"},
		"of another program": {func(t *testing.T, path string) {
			writeFile(t, path, armored(t, "just text\n", scryptRecipient(t, quick)))
		}, "does not say cordon-secret/1"},
		"another kind": {func(t *testing.T, path string) {
			if err := WriteKey(path, newKey(t), passphrase, quick); err != nil {
				t.Fatal(err)
			}
		}, `kind "ed25519", where "note-signer" is needed`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "secret")
			c.make(t, path)
			secret, err := ReadSecret(path, KindNoteSigner, passphrase)
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %q, error %v, want one with %q and the path", secret, err, c.says)
			}
			if errors.Is(err, ErrPassphrase) {
				t.Errorf("blamed on the passphrase: %v", err)
			}
		})
	}
}

func TestAWrongPassphraseIsToldApart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := WriteSecret(path, KindIdentity, []byte("x"), passphrase, quick); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSecret(path, KindIdentity, []byte("wrong")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("got %v", err)
	}
	if _, err := ReadSecret(path, KindIdentity, nil); err == nil || errors.Is(err, ErrPassphrase) {
		t.Errorf("an empty one: %v", err)
	}
}

func TestTheWorkOfScryptIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	for _, logN := range []int{-1, maxLogN + 1} {
		if err := WriteSecret(path, KindIdentity, []byte("x"), passphrase, logN); err == nil {
			t.Errorf("2^%d was taken", logN)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused write left a file: %v", err)
	}
	// The header alone claims 2^21; nobody has to have done the work.
	raw := armored(t, "x", scryptRecipient(t, quick))
	claimed, err := io.ReadAll(armor.NewReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(claimed, []byte(" 2\n"))
	claimed = append(append(append([]byte{}, claimed[:i]...), " 21\n"...), claimed[i+3:]...)
	var file bytes.Buffer
	w := armor.NewWriter(&file)
	if _, err := w.Write(claimed); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, file.Bytes())
	if _, err := ReadSecret(path, KindIdentity, passphrase); err == nil || !strings.Contains(err.Error(), "work factor too large") {
		t.Errorf("2^21 in a file: %v", err)
	}
}

func TestOnlyEd25519KeysAreKeptInFiles(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := WriteKey(path, key, passphrase, quick); err == nil {
		t.Error("an ECDSA key was taken")
	}
	if err := WriteSecret(path, KindEd25519, []byte("no PEM"), passphrase, quick); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKey(path, passphrase); err == nil {
		t.Error("a file without a key in it was read as one")
	}
}

func TestPassphrase(t *testing.T) {
	const env = "CORDON_TEST_PASSPHRASE"
	asked := func(answer string) func(string) ([]byte, error) {
		return func(string) ([]byte, error) { return []byte(answer), nil }
	}
	file := func(t *testing.T, content string, mode fs.FileMode) string {
		path := filepath.Join(t.TempDir(), "passphrase")
		writeFile(t, path, []byte(content))
		chmod(t, path, mode)
		return path
	}
	cases := map[string]struct {
		content string // of a file of mode, unless that is 0
		mode    fs.FileMode
		env     string
		prompt  func(string) ([]byte, error)
		want    string // "" for an error
	}{
		"a file goes before all else":        {"from file\n", 0o600, "from env", asked("asked"), "from file"},
		"a file without a line break":        {"from file", 0o400, "", nil, "from file"},
		"a file from elsewhere":              {"from file\r\n", 0o600, "", nil, "from file"},
		"only one line break is cut":         {"from file\n\n", 0o600, "", nil, "from file\n"},
		"blanks belong to it":                {" from file \n", 0o600, "", nil, " from file "},
		"a file that others can read":        {"from file", 0o644, "from env", nil, ""},
		"an empty file":                      {"\n", 0o600, "from env", nil, ""},
		"the environment goes before asking": {"", 0, "from env", asked("asked"), "from env"},
		"somebody is asked":                  {"", 0, "", asked("asked"), "asked"},
		"somebody answers nothing":           {"", 0, "", asked(""), ""},
		"nobody is there":                    {"", 0, "", nil, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Setenv(env, c.env)
			path := ""
			if c.mode != 0 {
				path = file(t, c.content, c.mode)
			}
			got, err := Passphrase(path, env, c.prompt)
			if string(got) != c.want || (err == nil) != (c.want != "") {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
	if _, err := Passphrase("", env, nil); err == nil || !strings.Contains(err.Error(), env) {
		t.Errorf("the error does not name the variable: %v", err)
	}
}

func armored(t *testing.T, clear string, to age.Recipient) []byte {
	t.Helper()
	var file bytes.Buffer
	a := armor.NewWriter(&file)
	w, err := age.Encrypt(a, to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, clear); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func scryptRecipient(t *testing.T, logN int) age.Recipient {
	t.Helper()
	r, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(logN)
	return r
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
