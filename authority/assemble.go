package authority

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"cordon/blocklist"
	"cordon/signing"
)

// Assemble gives the list that follows from the register as it stands, for a
// serial and a time of issue. pages are the stop pages of the categories that
// are listed. The same register, serial, time and pages give the same text: two
// people who assemble it apart can compare digests.
func (r *Register) Assemble(serial uint64, issued time.Time, pages map[string]blocklist.StopPage) (*blocklist.List, error) {
	l := &blocklist.List{
		Header: blocklist.Header{
			Format: blocklist.Format, Authority: r.Founded.Authority, Serial: serial,
			Issued: issued, ValidUntil: r.Procedure.List.Validity.After(issued),
			AnswerTTL: r.Procedure.List.AnswerTTL, Categories: map[string]blocklist.StopPage{},
		},
		Entries: r.Entries(issued),
	}
	for _, c := range r.Procedure.Categories {
		if page, ok := pages[c.ID]; ok {
			l.Categories[c.ID] = page
		}
	}
	if len(l.Categories) == 0 {
		return nil, errors.New("there is no stop page to lead people to: add one for each category to stop_pages in authority.yaml")
	}
	for _, e := range l.Entries {
		if _, ok := l.Categories[e.Category]; !ok {
			return nil, fmt.Errorf("measure %s (%s): category %s has no stop page: add it to stop_pages in authority.yaml", e.ID, e.Name, e.Category)
		}
	}
	l.Sort()
	return l, nil
}

// digest is the SHA-256 of a list's text, in hexadecimal.
func digest(l *blocklist.List) (string, error) {
	sum, err := l.SHA256()
	if err != nil {
		return "", fmt.Errorf("write list %d: %w", l.Serial, err)
	}
	return hex.EncodeToString(sum[:]), nil
}

// maxList bounds the compressed list, in bytes.
const maxList = 64 << 20

// seal compresses a list and encrypts it to its recipients.
func seal(l *blocklist.List, recipients []Recipient) ([]byte, error) {
	if len(recipients) == 0 {
		return nil, errors.New("the list has no recipients: run \"recipient add NAME age1pq…\" for each operator and for the official")
	}
	var text bytes.Buffer
	if err := blocklist.Encode(&text, l); err != nil {
		return nil, fmt.Errorf("write list %d: %w", l.Serial, err)
	}
	if text.Len() > maxList {
		return nil, fmt.Errorf("list %d has %d bytes compressed, at most %d can be published", l.Serial, text.Len(), maxList)
	}
	var keys []string
	for _, r := range recipients {
		keys = append(keys, r.Key)
	}
	target, err := signing.Seal(text.Bytes(), keys)
	if err != nil {
		return nil, fmt.Errorf("encrypt list %d: %w", l.Serial, err)
	}
	return target, nil
}

// open is the inverse of seal, for the authority's own identity.
func open(target []byte, identity string) (*blocklist.List, error) {
	text, err := signing.Unseal(target, identity, maxList)
	if err != nil {
		return nil, fmt.Errorf("decrypt the staged list: %w", err)
	}
	l, err := blocklist.Decode(bytes.NewReader(text), blocklist.Limits{})
	if err != nil {
		return nil, fmt.Errorf("read the staged list: %w", err)
	}
	return l, nil
}

// compare says how a list differs from the one that the register asks for; nil
// where their texts are the same.
func compare(got, want *blocklist.List) error {
	a, err := digest(got)
	if err != nil {
		return err
	}
	b, err := digest(want)
	if err != nil {
		return err
	}
	if a == b {
		return nil
	}
	has := map[string]blocklist.Entry{}
	for _, e := range want.Entries {
		has[e.ID] = e
	}
	var differences []error
	for _, e := range got.Entries {
		approved, ok := has[e.ID]
		switch {
		case !ok:
			differences = append(differences, fmt.Errorf("it lists %s (%s), which is not to be listed", e.ID, e.Name))
		case approved != e:
			differences = append(differences, fmt.Errorf("it lists %s (%s) otherwise than it was approved", e.ID, e.Name))
		}
		delete(has, e.ID)
	}
	for _, e := range want.Entries {
		if _, left := has[e.ID]; left {
			differences = append(differences, fmt.Errorf("it leaves out %s (%s)", e.ID, e.Name))
		}
	}
	if len(differences) == 0 {
		differences = append(differences, errors.New("its header (serial, dates, stop pages) is another"))
	}
	return errors.Join(differences...)
}
