package signing

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// Envelopes are age files (C2SP age) to hybrid recipients: ML-KEM-768 with
// X25519, because a list recorded on its way today must stay secret when X25519
// alone no longer holds. age refuses to mix them with classic recipients.

// GenerateIdentity makes the key pair of a reader of envelopes. The identity
// ("AGE-SECRET-KEY-PQ-1…") is a secret to keep with [WriteSecret]; the recipient
// ("age1pq1…", about 2000 characters) goes to whoever seals.
func GenerateIdentity() (identity, recipient string, err error) {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return "", "", fmt.Errorf("generate an age identity: %w", err)
	}
	return id.String(), id.Recipient().String(), nil
}

// Recipient gives the public half of an identity.
func Recipient(identity string) (string, error) {
	id, err := parseIdentity(identity)
	if err != nil {
		return "", err
	}
	return id.Recipient().String(), nil
}

// Seal encrypts data to hybrid post-quantum age recipients ("age1pq1…"). None,
// one named twice, or one of another kind is an error, since whoever was meant
// in its place could not read the list.
func Seal(data []byte, recipients []string) ([]byte, error) {
	if len(recipients) == 0 {
		return nil, errors.New("seal: no recipients; name at least one age1pq1… recipient")
	}
	seen := make(map[string]int, len(recipients))
	to := make([]age.Recipient, 0, len(recipients))
	for i, s := range recipients {
		r, err := age.ParseHybridRecipient(s)
		if err != nil {
			if strings.HasPrefix(s, "age1") && !strings.HasPrefix(s, "age1pq1") {
				err = errors.New("it is a classic recipient; cordon seals to post-quantum ones (age1pq1…), which age-keygen -pq makes")
			}
			return nil, fmt.Errorf("seal: recipient %d (%s): %w", i+1, shorten(s), err)
		}
		if j, ok := seen[r.String()]; ok {
			return nil, fmt.Errorf("seal: recipients %d and %d are the same (%s)", j, i+1, shorten(s))
		}
		seen[r.String()] = i + 1
		to = append(to, r)
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, to...)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if _, err := w.Write(data); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return sealed.Bytes(), nil
}

// Unseal decrypts what Seal made, wholly or not at all: age authenticates piece
// by piece, so nothing is returned before the last one held. The clear text may
// have at most max bytes, else [ErrTooLarge].
//
// [ErrNotRecipient] means what it says only when data is known to be what was
// signed: verify the publication first, since damage to the part of the header
// that is meant for this identity looks the same. Any other damage is
// [ErrIncomplete].
func Unseal(data []byte, identity string, max int64) ([]byte, error) {
	id, err := parseIdentity(identity)
	if err != nil {
		return nil, err
	}
	r, err := age.Decrypt(bytes.NewReader(data), id)
	if err != nil {
		var none *age.NoIdentityMatchError
		if errors.As(err, &none) {
			return nil, fmt.Errorf("unseal: %w (%s)", ErrNotRecipient, shorten(id.Recipient().String()))
		}
		return nil, fmt.Errorf("unseal: %w: %w", ErrIncomplete, err)
	}
	clear, err := io.ReadAll(io.LimitReader(r, max+1))
	if err != nil {
		return nil, fmt.Errorf("unseal: %w: %w", ErrIncomplete, err)
	}
	if int64(len(clear)) > max {
		return nil, fmt.Errorf("unseal: %w: clear text of more than %d bytes", ErrTooLarge, max)
	}
	return clear, nil
}

// parseIdentity never puts any of the identity into its error.
func parseIdentity(s string) (*age.HybridIdentity, error) {
	id, err := age.ParseHybridIdentity(strings.TrimSpace(s))
	if err != nil {
		return nil, errors.New("not an age post-quantum identity (AGE-SECRET-KEY-PQ-1…)")
	}
	return id, nil
}

// shorten keeps a recipient of 2000 characters recognisable in an error.
func shorten(s string) string {
	if len(s) <= 28 {
		return s
	}
	return s[:16] + "…" + s[len(s)-8:]
}
