// Package dnssec validates what iterate brings back: signatures over RRsets,
// keys against DS records, and proofs of non-existence (RFC 4033 to 4035,
// RFC 5155, RFC 6840). It is pure: no network, no clock of its own, and it
// counts the work it does before doing it.
//
// Names are in presentation form as dns.UnpackDomainName writes them, fully
// qualified and lower case (dns.CanonicalName). That form is the same for equal
// wire names, so comparing it is comparing wire names.
package dnssec

import (
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// Status is the security status of an answer (RFC 4035 §4.3).
type Status uint8

const (
	Indeterminate Status = iota
	Bogus
	Insecure
	Secure
)

// String is the word of RFC 4035 §4.3 for s.
func (s Status) String() string {
	switch s {
	case Bogus:
		return "bogus"
	case Insecure:
		return "insecure"
	case Secure:
		return "secure"
	}
	return "indeterminate"
}

// Verdict is a status and, where it is not Secure, why: the code of an extended
// DNS error (RFC 8914) and a text for people. Code and Text are empty when there
// is nothing to say.
type Verdict struct {
	Status Status
	Code   uint16
	Text   string
	// Exhausted says that the verdict is for lack of work allowance and nothing
	// is known of the data. It comes with Status Bogus, since what was not
	// checked must not be used; it must not be remembered as bogus.
	Exhausted bool
}

func bogus(code uint16, format string, args ...any) Verdict {
	return Verdict{Status: Bogus, Code: code, Text: fmt.Sprintf(format, args...)}
}

func insecure(code uint16, format string, args ...any) Verdict {
	return Verdict{Status: Insecure, Code: code, Text: fmt.Sprintf(format, args...)}
}

// MaxIterations is the highest NSEC3 iteration count that is worked out; a proof
// with more of them is Insecure (RFC 9276 §3.2).
const MaxIterations = 50

// skew is by how much the clocks of signer and validator may differ.
const skew = 5 * time.Minute

// Validator validates for one request tree.
type Validator struct {
	Clock func() time.Time
	Work  *Work
	// RejectSHA1 treats the algorithms 5 and 7 and DS digest 1 as unknown, as
	// RFC 9905 and RFC 9906 would have it in the end.
	RejectSHA1 bool
}

// Limits bounds what validation may cost (CVE-2023-50387, CVE-2023-50868).
type Limits struct {
	Signatures int // signature checks, in those of ECDSA P-256 (Key.cost)
	Failures   int // signature checks that did not verify
	Digests    int // digests of keys, to compare with DS records
	Hashes     int // names hashed for NSEC3; with a long salt one counts as several
}

// DefaultLimits allows several times what a long and honest chain of zones and
// aliases needs, and at worst some milliseconds of computing.
func DefaultLimits() Limits {
	return Limits{Signatures: 64, Failures: 6, Digests: 32, Hashes: 160}
}

// Work counts what a request tree has spent. Not safe for concurrent use.
type Work struct {
	Limit Limits
	Spent Limits
	// Exhausted is set by the first piece of work that was refused.
	Exhausted bool
}

// take allows a piece of work of that cost as long as anything is left.
func (w *Work) take(spent *int, cost, limit int) bool {
	if *spent >= limit {
		w.Exhausted = true
		return false
	}
	*spent += cost
	return true
}

func (w *Work) signature(cost int) bool {
	if w.Spent.Failures >= w.Limit.Failures {
		w.Exhausted = true
		return false
	}
	return w.take(&w.Spent.Signatures, cost, w.Limit.Signatures)
}

func (w *Work) digest() bool { return w.take(&w.Spent.Digests, 1, w.Limit.Digests) }

// hash is for a name with the salt of x. Each iteration hashes a digest of 20
// bytes, the salt and 9 bytes of padding, in blocks of 64.
func (w *Work) hash(x *dns.NSEC3) bool {
	return w.take(&w.Spent.Hashes, (20+len(x.Salt)/2+9+63)/64, w.Limit.Hashes)
}

func exhausted() Verdict {
	return Verdict{Status: Bogus, Code: dns.ExtendedErrorCodeOther, Text: "validation work limit reached", Exhausted: true}
}

// Set is an RRset with the signatures over it.
type Set struct {
	Name string
	Type uint16
	RRs  []dns.RR
	Sigs []*dns.RRSIG
}
