// Package dnssec validates what iterate brings back: signatures over RRsets,
// keys against DS records, and proofs of non-existence (RFC 4033 to 4035,
// RFC 5155, RFC 6840). It is pure: no network, no clock of its own, and it
// counts the work it does.
package dnssec

// Status is the security status of an answer (RFC 4035 §4.3).
type Status uint8

const (
	Indeterminate Status = iota
	Bogus
	Insecure
	Secure
)
