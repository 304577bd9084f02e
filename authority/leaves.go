package authority

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"cordon/blocklist"
)

// A leaf of the register is one of the types below as canonical JSON: the
// fields in the order in which they are declared here, no white space, times in
// UTC to the second. Replay refuses a leaf that is written in any other way, so
// that one content has one digest.

// The types of leaves.
const (
	LeafFounded   = "founded"
	LeafProposed  = "proposed"
	LeafApproved  = "approved"
	LeafReviewed  = "reviewed"
	LeafNoted     = "noted"
	LeafLifted    = "lifted"
	LeafPublished = "published"
)

// Founded is the first leaf of a register: who keeps it, by which law, and who
// may sign in it.
type Founded struct {
	Type            string    `json:"type"`
	At              time.Time `json:"at"`
	Authority       string    `json:"authority"`
	Origin          string    `json:"origin"`    // of the register's checkpoints; a part of what officers sign
	Procedure       string    `json:"procedure"` // text of the procedure file
	ProcedureSHA256 string    `json:"procedure_sha256"`
	Officers        []Officer `json:"officers"`
}

// Officer is a person who may sign statements, with the dates of the
// habilitation (both days included).
type Officer struct {
	Name  string    `json:"name"`
	Role  string    `json:"role"`
	Key   PublicKey `json:"key"`
	From  Day       `json:"from"`
	Until Day       `json:"until"` // empty: no end was set
}

// PublicKey is an Ed25519 public key, in standard base64.
type PublicKey ed25519.PublicKey

// MarshalText writes the key.
func (k PublicKey) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, k), nil
}

// UnmarshalText reads a key.
func (k *PublicKey) UnmarshalText(text []byte) error {
	b, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil || len(b) != ed25519.PublicKeySize {
		return fmt.Errorf("%q is no Ed25519 public key in base64", text)
	}
	*k = b
	return nil
}

// Proposed opens a measure.
type Proposed struct {
	Type       string          `json:"type"`
	At         time.Time       `json:"at"`
	ID         string          `json:"id"`
	Name       string          `json:"name"` // as blocklist.CheckName asks for
	Scope      blocklist.Scope `json:"scope"`
	Category   string          `json:"category"`
	LegalBasis string          `json:"legal_basis"`
	Decision   string          `json:"decision"`
	Request    *Request        `json:"request,omitempty"`
	Ends       Day             `json:"ends"` // last day of the measure; empty: none
	By         string          `json:"by"`
	Signature  Signature       `json:"signature"`
}

// Request is the removal request (the notice) to publisher or host.
type Request struct {
	At time.Time `json:"at"` // when it was sent
	To string    `json:"to"` // to whom, or its reference
}

// Stated is what an officer says about a measure that was proposed: it is
// approved, was reviewed and stands, is lifted, or something happened to it.
type Stated struct {
	Type      string    `json:"type"`
	At        time.Time `json:"at"`
	ID        string    `json:"id"`
	Proposal  string    `json:"proposal_sha256"`  // digest of the proposed leaf: what the officer had before their eyes
	Ground    string    `json:"ground,omitempty"` // lifted
	Event     string    `json:"event,omitempty"`  // noted
	Happened  time.Time `json:"happened,omitzero"`
	By        string    `json:"by"`
	Signature Signature `json:"signature"`
}

// Published is a list that was signed by the threshold of keys. It is appended
// before the list goes out.
type Published struct {
	Type           string    `json:"type"`
	At             time.Time `json:"at"`
	Serial         uint64    `json:"serial"`
	Issued         time.Time `json:"issued"` // as in the list's header
	ValidUntil     time.Time `json:"valid_until"`
	ListSHA256     string    `json:"list_sha256"` // of the list in clear, uncompressed
	TargetSHA256   string    `json:"target_sha256"`
	TargetBytes    int64     `json:"target_bytes"`
	TargetsVersion int64     `json:"targets_version"` // of the TUF metadata that names the target
	Entries        int       `json:"entries"`
	Added          []string  `json:"added"`   // ids that the list before did not hold, in order
	Removed        []string  `json:"removed"` // ids that it held and this one does not, in order
}

// Signature is an Ed25519 signature, in standard base64.
type Signature []byte

// MarshalText writes the signature.
func (s Signature) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, s), nil
}

// UnmarshalText reads a signature.
func (s *Signature) UnmarshalText(text []byte) (err error) {
	*s, err = base64.StdEncoding.Strict().DecodeString(string(text))
	return err
}

// Leaf is one of *Founded, *Proposed, *Stated and *Published.
type Leaf interface {
	// when gives the time that the leaf names.
	when() time.Time
}

func (l *Founded) when() time.Time   { return l.At }
func (l *Proposed) when() time.Time  { return l.At }
func (l *Stated) when() time.Time    { return l.At }
func (l *Published) when() time.Time { return l.At }

// MarshalLeaf writes a leaf as canonical JSON.
func MarshalLeaf(l Leaf) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(l); err != nil {
		return nil, fmt.Errorf("write register leaf: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// ParseLeaf reads a leaf. It has to be written exactly as MarshalLeaf writes
// it; an unknown type or field is an error, since whoever verifies the register
// must not pass over what they do not understand.
func ParseLeaf(data []byte) (Leaf, error) {
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(data, &kind); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	var l Leaf
	switch kind.Type {
	case LeafFounded:
		l = &Founded{}
	case LeafProposed:
		l = &Proposed{}
	case LeafApproved, LeafReviewed, LeafNoted, LeafLifted:
		l = &Stated{}
	case LeafPublished:
		l = &Published{}
	default:
		return nil, fmt.Errorf("a leaf of type %q is unknown to this program", kind.Type)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(l); err != nil {
		return nil, fmt.Errorf("a leaf of type %q: %w", kind.Type, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("a leaf of type %q: something follows the object", kind.Type)
	}
	if again, err := MarshalLeaf(l); err != nil || !bytes.Equal(again, data) {
		return nil, fmt.Errorf("a leaf of type %q is not written canonically", kind.Type)
	}
	return l, nil
}

// statementContext separates signatures of officers from all other uses of
// their keys.
const statementContext = "cordon register statement/1\n"

// signedBytes is what an officer signs: the purpose, the register it is for,
// and the leaf without its signature. The origin keeps a statement from being
// carried over into another register.
func signedBytes(origin string, l Leaf) ([]byte, error) {
	switch s := l.(type) {
	case *Proposed:
		bare := *s
		bare.Signature = nil
		l = &bare
	case *Stated:
		bare := *s
		bare.Signature = nil
		l = &bare
	default:
		return nil, fmt.Errorf("a %T carries no officer's signature", l)
	}
	leaf, err := MarshalLeaf(l)
	if err != nil {
		return nil, err
	}
	return append([]byte(statementContext+origin+"\n"), leaf...), nil
}

// SignStatement puts an officer's signature on a *Proposed or *Stated leaf for
// the register of that origin. key is the officer's Ed25519 key.
func SignStatement(origin string, l Leaf, key crypto.Signer) error {
	message, err := signedBytes(origin, l)
	if err != nil {
		return err
	}
	signature, err := key.Sign(rand.Reader, message, crypto.Hash(0))
	if err != nil {
		return fmt.Errorf("sign statement: %w", err)
	}
	switch s := l.(type) {
	case *Proposed:
		s.Signature = signature
	case *Stated:
		s.Signature = signature
	}
	return nil
}

// errSignature is what is wrong with a leaf whose signature alone is wrong.
var errSignature = errors.New("the signature does not fit the statement and the officer's key")

func verifyStatement(origin string, l Leaf, key PublicKey, signature Signature) error {
	message, err := signedBytes(origin, l)
	if err != nil {
		return err
	}
	if !ed25519.Verify(ed25519.PublicKey(key), message, signature) {
		return errSignature
	}
	return nil
}

// digestOf is the SHA-256 of a leaf as it stands in the register, in
// hexadecimal.
func digestOf(l Leaf) (string, error) {
	data, err := MarshalLeaf(l)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}
