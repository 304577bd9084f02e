package iterate

import (
	"errors"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// Limits bounds the work of one request, with all that it leads to: nothing that
// is begun on its behalf starts a count of its own (CVE-2020-8616, CVE-2020-12662,
// CVE-2023-50387).
type Limits struct {
	Queries    int           // queries sent
	Addresses  int           // look-ups of name servers' addresses
	InVain     int           // queries of those look-ups, and to what they led, that brought no answer
	Records    int           // records in the replies
	Keys       int           // fetches of DS and DNSKEY
	Aliases    int           // CNAME and DNAME steps
	Depth      int           // look-ups within look-ups
	Referrals  int           // zone cuts on the way to one name
	Time       time.Duration // from start to answer
	Validation dnssec.Limits
}

// DefaultLimits serves deep and badly kept zones. An attacker gets ten queries out
// of one by referrals, and two dozen by aliases, which have to be followed.
func DefaultLimits() Limits {
	return Limits{
		Queries: 96, Addresses: 24, InVain: 8, Records: 2048, Keys: 40, Aliases: 12,
		Depth: 8, Referrals: 24, Time: 10 * time.Second,
		Validation: dnssec.DefaultLimits(),
	}
}

// Spent is what a request took of its limits, as far as it costs processor time.
type Spent struct {
	Queries    int // sent
	Signatures int // checked, in those of ECDSA P-256
	Hashes     int // names hashed for NSEC3
}

// Add adds what another request took.
func (s *Spent) Add(o Spent) {
	s.Queries += o.Queries
	s.Signatures += o.Signatures
	s.Hashes += o.Hashes
}

func (t *task) sum() Spent {
	v, d := &t.v.Work.Spent, &t.deducer.Work.Spent
	return Spent{Queries: t.spent.Queries, Signatures: v.Signatures, Hashes: v.Hashes + d.Hashes}
}

// spend takes one from what is left; the failure names what has run out.
func spend(spent *int, limit int, what string) error {
	if *spent >= limit {
		return &failure{kind: outOfBudget, code: dns.ExtendedErrorCodeOther, text: "limit of one request reached: " + what}
	}
	*spent++
	return nil
}

// errOutOfTime is the cause when Limits.Time, and not the caller, ended a task.
var errOutOfTime = errors.New("out of time")

// failureKind says what a failure tells about the question, and so who may
// remember it.
type failureKind uint8

const (
	unreachable failureKind = iota // the zone's servers give no usable reply
	bogusData                      // validation failed
	badPath                        // a loop, or too deep: true of the way here, not of the question
	outOfBudget                    // true of the request, not of a question within it
	overload                       // too many others ask the same zone or servers: true of the moment
	cancelled                      // the caller went away: true of nothing
)

// failure is why a question has no answer; code and text become the EDE.
type failure struct {
	kind  failureKind
	code  uint16
	text  string
	cause error // of an exchange that failed, else nil
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// asFailure is err as a failure; every error of a task is one.
func asFailure(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return &failure{kind: cancelled, code: dns.ExtendedErrorCodeOther, text: err.Error()}
}

// bogusFailure turns a verdict that is Bogus into the failure it means.
func bogusFailure(v dnssec.Verdict) error {
	f := &failure{kind: bogusData, code: v.Code, text: v.Text}
	if v.Exhausted {
		f.kind = outOfBudget
	}
	return f
}
