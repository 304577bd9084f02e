// Package feed reads response policy zones (RPZ, draft-vixie-dnsop-dns-rpz) in:
// the operator's own feeds of malware and phishing names, from files or by zone
// transfer (RFC 5936, RFC 1995, RFC 8945). It says which rule of which feed a
// question or its answer triggers. What is said to the client is for the caller.
//
// Feeds are a class of their own. They come after the official list, which no
// rule of theirs weakens, and none of their records can lead to a stop page
// (docs/decisions/0037-feeds.md).
//
// A Zone is one feed's rules, compiled and immutable (compile.go, names.go,
// addresses.go). A Set is all feeds in force, in order of precedence, reached
// through one atomic pointer (match.go). Feeds keeps them fresh and on disk
// (feeds.go, file.go, transfer.go, store.go), and raises the alarm where one is
// empty, stale or broken.
package feed

import "net/netip"

// Action is what a rule does with a question (§3 of the draft).
type Action uint8

const (
	// Passthru: no rule of this or a later feed applies.
	Passthru Action = iota + 1
	// NXDomain: there is no such name.
	NXDomain
	// NoData: the name has no records of that type.
	NoData
	// Drop: there is no answer.
	Drop
	// TCPOnly: over UDP, a word to ask again by TCP; else as Passthru.
	TCPOnly
	// LocalData: the rule's own records.
	LocalData
)

// String is the word that metrics and status use.
func (a Action) String() string {
	switch a {
	case Passthru:
		return "passthru"
	case NXDomain:
		return "nxdomain"
	case NoData:
		return "nodata"
	case Drop:
		return "drop"
	case TCPOnly:
		return "tcp-only"
	case LocalData:
		return "local-data"
	}
	return "none"
}

// Trigger is what a rule goes by (§4 of the draft), in order of precedence.
type Trigger uint8

const (
	ClientIP   Trigger = iota + 1 // the address of who asks
	QName                         // the question's name, or one that its answer leads to
	ResponseIP                    // an address in the answer
	NSDName                       // the name of a server of the zone that answers, or of one above it
)

// String is the label that marks the trigger in a rule's name; that of a QNAME
// rule is empty there.
func (t Trigger) String() string {
	switch t {
	case ClientIP:
		return "rpz-client-ip"
	case QName:
		return "qname"
	case ResponseIP:
		return "rpz-ip"
	case NSDName:
		return "rpz-nsdname"
	}
	return "none"
}

// rule is what a Zone keeps of a rule: 0 is none, a small number the action, a
// larger one the place of its local data.
type rule uint32

const firstLocal = rule(LocalData) + 1

func (r rule) action() Action {
	if r >= firstLocal {
		return LocalData
	}
	return Action(r)
}

// Local is the local data of a rule. Immutable.
type Local struct {
	// CName is where the name leads instead: wire form, lower case; nil where
	// there are Records. With Prepend the question's name stands in front of it
	// (a target of *.garden.example, §3.6 of the draft).
	CName   []byte
	Prepend bool
	TTL     uint32 // of CName, in seconds
	Records []Record
}

// Record is a record of local data.
type Record struct {
	Type uint16
	TTL  uint32 // seconds
	Data []byte // RDATA, uncompressed
	// Leads is the name in Data, wire form, lower case (MX, SRV, PTR); nil: none.
	Leads []byte
	// Addr is the address in Data (A, AAAA).
	Addr netip.Addr
}
