package signing

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"
)

func TestEachRecipientOpensAnEnvelopeAndNobodyElse(t *testing.T) {
	id1, to1 := identity(t)
	id2, to2 := identity(t)
	stranger, _ := identity(t)
	data := bytes.Repeat([]byte("entry\n"), 30_000) // some pieces of 64 KiB
	sealed, err := Seal(data, []string{to1, to2})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{id1, id2, id1 + "\n"} {
		got, err := Unseal(sealed, id, int64(len(data)))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	}
	if got, err := Unseal(sealed, stranger, int64(len(data))); !errors.Is(err, ErrNotRecipient) || got != nil {
		t.Errorf("a stranger: %d bytes, %v", len(got), err)
	}
	if got, err := Unseal(sealed, id1, int64(len(data))-1); !errors.Is(err, ErrTooLarge) || got != nil {
		t.Errorf("over the limit: %d bytes, %v", len(got), err)
	}
	if to, err := Recipient(id1); err != nil || to != to1 {
		t.Errorf("recipient of an identity: %.20s, %v", to, err)
	}
}

func TestAnEnvelopeOpensWhollyOrNotAtAll(t *testing.T) {
	id, to := identity(t)
	sealed, err := Seal(bytes.Repeat([]byte("entry\n"), 30_000), []string{to})
	if err != nil {
		t.Fatal(err)
	}
	header := bytes.Index(sealed, []byte("\n---"))
	for name, damaged := range map[string][]byte{
		"empty":               nil,
		"cut in the header":   sealed[:header/2],
		"cut after it":        sealed[:header+50],
		"cut in a piece":      sealed[:len(sealed)/2],
		"cut between pieces":  sealed[:header+4+43+1+16+2*(64<<10+16)],
		"its last byte":       change(sealed, len(sealed)-1),
		"a byte of the MAC":   change(sealed, header+20),
		"something follows":   append(bytes.Clone(sealed), 'x'),
		"a byte in the midst": change(sealed, len(sealed)/2),
	} {
		got, err := Unseal(damaged, id, 1<<20)
		if !errors.Is(err, ErrIncomplete) || got != nil {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestSealRefusesWhomItCannotReach(t *testing.T) {
	_, to := identity(t)
	classic, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	mistyped := to[:len(to)-1] + "q"
	if mistyped == to {
		mistyped = to[:len(to)-1] + "p"
	}
	for name, c := range map[string]struct {
		to   []string
		says string
	}{
		"nobody":            {nil, "no recipients"},
		"one twice":         {[]string{to, to}, "recipients 1 and 2 are the same"},
		"a classic one":     {[]string{to, classic.Recipient().String()}, "recipient 2 (age1"},
		"a typing mistake":  {[]string{mistyped}, "recipient 1 (age1pq1"},
		"an identity":       {[]string{classic.String()}, "recipient 1"},
		"an empty line":     {[]string{to, ""}, "recipient 2"},
		"of a mixed number": {[]string{strings.ToUpper(to[:20]) + to[20:]}, "recipient 1"},
	} {
		if _, err := Seal([]byte("x"), c.to); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnErrorNeverShowsAnIdentity(t *testing.T) {
	id, _ := identity(t)
	for _, bad := range []string{id[:len(id)-1], id + "x", "AGE-SECRET-KEY-1" + id[19:]} {
		_, err := Unseal([]byte("age-encryption.org/v1\n"), bad, 1)
		if err == nil || strings.Contains(err.Error(), bad[20:40]) {
			t.Errorf("got %v", err)
		}
		if _, err = Recipient(bad); err == nil || strings.Contains(err.Error(), bad[20:40]) {
			t.Errorf("got %v", err)
		}
	}
}

func identity(t testing.TB) (id, to string) {
	t.Helper()
	id, to, err := GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(to, "age1pq1") || !strings.HasPrefix(id, "AGE-SECRET-KEY-PQ-1") {
		t.Fatalf("not post-quantum: %.20s", to)
	}
	return id, to
}

func change(raw []byte, at int) []byte {
	raw = bytes.Clone(raw)
	raw[at] ^= 1
	return raw
}
