package rpz

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/miekg/dns"

	"cordon/signing"
)

// Key signs messages between the primary and one peer, or several (TSIG, RFC 8945).
type Key struct {
	Name      string // in lower case, with the trailing dot
	Algorithm string // as TSIG names it: dns.HmacSHA256, ...
	secret    []byte
}

// Keys are keys by name. It signs and verifies for miekg/dns, each key with its own
// algorithm and no other.
type Keys map[string]Key

// algorithms are those that RFC 8945 §6 asks for and those that are stronger.
var algorithms = map[string]struct {
	name string
	hash func() hash.Hash
}{
	"hmac-sha256": {dns.HmacSHA256, sha256.New},
	"hmac-sha384": {dns.HmacSHA384, sha512.New384},
	"hmac-sha512": {dns.HmacSHA512, sha512.New},
}

const (
	leastSecret = 16 // bytes
	maxKeyFile  = 1 << 20
)

// ReadKeys reads a file of keys, one a line, written as dig -y and kdig -y take
// them: "hmac-sha256:NAME:SECRET", the secret in base64. Lines that are empty or
// begin with # say nothing. The file must be closed to others.
func ReadKeys(path string) (Keys, error) {
	text, err := signing.ReadOwnersFile(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	return keys, nil
}

// parseKeys reads the lines of a key file. Its errors begin with the line's number,
// and never hold what may be a secret.
func parseKeys(r io.Reader) (Keys, error) {
	keys := make(Keys)
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}
		if _, twice := keys[key.Name]; twice {
			return nil, fmt.Errorf("%d: key %s is there twice", n, key.Name)
		}
		keys[key.Name] = key
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf(" %w", err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf(" there is no key in it; write hmac-sha256:NAME:SECRET, one a line")
	}
	return keys, nil
}

func parseKey(line string) (Key, error) {
	fields := strings.Split(line, ":")
	if len(fields) != 3 {
		return Key{}, fmt.Errorf("not a key; write hmac-sha256:NAME:SECRET")
	}
	algorithm, known := algorithms[strings.ToLower(fields[0])]
	if !known {
		return Key{}, fmt.Errorf("the algorithm is not known here; use hmac-sha256, hmac-sha384 or hmac-sha512")
	}
	if _, ok := dns.IsDomainName(fields[1]); !ok || fields[1] == "" || fields[1] == "." {
		return Key{}, fmt.Errorf("the key's name is no domain name")
	}
	secret, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil {
		return Key{}, fmt.Errorf("the secret of key %s is not base64", fields[1])
	}
	if len(secret) < leastSecret {
		return Key{}, fmt.Errorf("the secret of key %s has %d bytes; use at least %d, such as from openssl rand -base64 32", fields[1], len(secret), leastSecret)
	}
	return Key{Name: dns.CanonicalName(fields[1]), Algorithm: algorithm.name, secret: secret}, nil
}

// Generate makes the MAC of a message (dns.TsigProvider).
func (k Keys) Generate(msg []byte, t *dns.TSIG) ([]byte, error) {
	key, known := k[dns.CanonicalName(t.Hdr.Name)]
	if !known {
		return nil, dns.ErrSecret
	}
	// The client must not choose a weaker algorithm than the key was made for.
	if dns.CanonicalName(t.Algorithm) != key.Algorithm {
		return nil, dns.ErrKeyAlg
	}
	mac := hmac.New(algorithms[strings.TrimSuffix(key.Algorithm, ".")].hash, key.secret)
	mac.Write(msg)
	return mac.Sum(nil), nil
}

// Verify checks the MAC of a message (dns.TsigProvider). A truncated one is not
// accepted.
func (k Keys) Verify(msg []byte, t *dns.TSIG) error {
	want, err := k.Generate(msg, t)
	if err != nil {
		return err
	}
	got, err := hex.DecodeString(t.MAC)
	if err != nil {
		return err
	}
	if !hmac.Equal(got, want) {
		return dns.ErrSig
	}
	return nil
}

// fudge is by how many seconds clocks may differ (RFC 8945 §10).
const fudge = 300
