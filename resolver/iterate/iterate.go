// Package iterate goes from the root to the answer: delegations, name servers,
// budgets (RFC 1034 §5.3.3, RFC 9156). What it brings back has been validated
// by resolver/dnssec.
package iterate

import (
	"context"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// Exchange sends one query to one server and returns the server's reply. The
// reply has already been matched to the query (source, ID, question); what does
// not match was dropped and waited past. stream asks for TCP.
type Exchange interface {
	Exchange(ctx context.Context, server netip.AddrPort, query *dns.Msg, stream bool) (*dns.Msg, error)
}

// Question is what is to be resolved; Name is fully qualified and lower case.
type Question struct {
	Name string
	Type uint16
}

// Request is a question and how it is asked.
type Request struct {
	Question
	// CheckingDisabled returns data without regard to validation (RFC 4035 §3.2.2).
	CheckingDisabled bool
	// Stop is asked for each CNAME and DNAME target before it is followed. When
	// it says yes, resolution ends there and Result.Stopped names the target.
	// May be nil.
	Stop func(target string) bool
}

// EDE is an extended DNS error (RFC 8914).
type EDE struct {
	Code uint16
	Text string
}

// Result is the outcome of a request. Sections hold RRSIG and denial records
// too; who serves it strips what a client did not ask for.
type Result struct {
	Rcode     int
	Answer    []dns.RR // the CNAME chain in order, then the answer
	Authority []dns.RR // SOA and proofs of a negative answer
	Status    dnssec.Status
	EDE       []EDE
	TTL       time.Duration // for how long the whole may be cached; 0: not at all
	Stopped   string        // the target at which Stop ended the chain, or ""
}

// Config of a Resolver. Exchange, Roots and Clock are required.
type Config struct {
	Exchange   Exchange
	Clock      func() time.Time
	Roots      []dns.RR // root hints: NS and A/AAAA
	Anchors    []dns.RR // trust anchors: DS or DNSKEY; none means no validation
	Port       uint16   // port of authoritative servers; default 53 (another one is for laboratories)
	CacheBytes int64    // bound of the RRset cache; default 64 MiB
}

// Resolver resolves from the root. Safe for concurrent use.
type Resolver struct{}

// New returns a resolver with an empty cache.
func New(c Config) (*Resolver, error) { panic("not built") }

// Resolve answers r. It returns a Result with Rcode SERVFAIL and EDE where
// resolution or validation fails; ctx bounds the time.
func (r *Resolver) Resolve(ctx context.Context, q Request) *Result { panic("not built") }
