package rpz

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

var (
	secretA = base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	secretB = base64.StdEncoding.EncodeToString([]byte("fedcba9876543210fedcba9876543210"))
)

func TestKeysAreReadAsDigTakesThem(t *testing.T) {
	keys, err := parseKeys(strings.NewReader("# of the fleet\n\nhmac-sha256:Fleet.:" + secretA + "\n  HMAC-SHA512:second:" + secretB + "\nhmac-sha384:third:" + secretB + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, algorithm := range map[string]string{"fleet.": dns.HmacSHA256, "second.": dns.HmacSHA512, "third.": dns.HmacSHA384} {
		if k := keys[name]; k.Name != name || k.Algorithm != algorithm || len(k.secret) != 32 {
			t.Errorf("%s: %s with %s, %d bytes", name, k.Name, k.Algorithm, len(k.secret))
		}
	}
	if len(keys) != 3 {
		t.Errorf("%d keys", len(keys))
	}
}

func TestBadKeysAreRefusedWithoutTellingTheSecret(t *testing.T) {
	weak := base64.StdEncoding.EncodeToString([]byte("fifteen bytes.."))
	for _, c := range []struct{ text, says string }{
		{"", "no key"},
		{"# only this", "no key"},
		{"fleet " + secretA, "1: not a key"},
		{"fleet:" + secretA, "1: not a key"},
		{"hmac-md5:fleet:" + secretA, "hmac-sha256, hmac-sha384 or hmac-sha512"},
		{"hmac-sha1:fleet:" + secretA, "hmac-sha256"},
		{"\nhmac-sha256::" + secretA, "2: the key's name"},
		{"hmac-sha256:fleet:" + secretA[1:], "not base64"},
		{"hmac-sha256:fleet:" + weak, "15 bytes"},
		{"hmac-sha256:fleet:" + secretA + "\nhmac-sha512:FLEET.:" + secretB, "2: key fleet. is there twice"},
	} {
		_, err := parseKeys(strings.NewReader(c.text))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		for _, secret := range []string{secretA, secretA[1:], secretB, weak} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error tells the secret: %v", err)
			}
		}
	}
}

func TestAKeyFileThatOthersReadIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte("hmac-sha256:fleet:"+secretA+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeys(path); err != nil {
		t.Error(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeys(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

// Signatures have to agree with those of another implementation.
func TestSignaturesAreThoseOfTheStandard(t *testing.T) {
	keys, err := parseKeys(strings.NewReader("hmac-sha256:a:" + secretA + "\nhmac-sha384:b:" + secretA + "\nhmac-sha512:c:" + secretA))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		m := new(dns.Msg).SetQuestion(testZone, dns.TypeSOA)
		m.SetTsig(k.Name, k.Algorithm, fudge, time.Now().Unix())
		raw, _, err := dns.TsigGenerate(m, secretA, "", false)
		if err != nil {
			t.Fatal(err)
		}
		if err := dns.TsigVerifyWithProvider(raw, keys, "", false); err != nil {
			t.Errorf("%s: %v", k.Algorithm, err)
		}
		raw[len(raw)-20] ^= 1 // in the MAC
		if err := dns.TsigVerifyWithProvider(raw, keys, "", false); err == nil {
			t.Errorf("%s: a changed signature is good", k.Algorithm)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add("hmac-sha256:fleet:" + secretA)
	f.Add("# x\n\nhmac-sha512:a.b.:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\nhmac-sha384:\\.:AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := parseKeys(strings.NewReader(text))
		if err != nil {
			return
		}
		for name, k := range keys {
			if name != k.Name || !dns.IsFqdn(name) || len(k.secret) < leastSecret {
				t.Errorf("key %q: %q, %d bytes", name, k.Name, len(k.secret))
			}
		}
	})
}
