// Package blocklog is the resolver's journal: block decisions and events in one
// sequence, in append-only segment files that the resolver writes and the
// auditor reads. A decision is written (write(2)) before its answer leaves.
//
// No record holds anything about who asked.
//
// A segment is a file named by the number of its first record
// ("00000000000000000001.blog"): a header of 24 bytes, then records, each with
// its length and a CRC32C in front. The formats stand in segment.go and
// codec.go. Closed segments and everything before the last second are durable
// against power failure; what [Journal.Append] returned nil for is durable
// against kill -9.
package blocklog

import "encoding/json"

// Transport is how a question came in. It says nothing about who sent it.
type Transport uint8

const (
	UDP Transport = iota + 1
	TCP
	DoT
	DoH
	DoQ
)

// String is the word that JSON lines and audit leaves use.
func (t Transport) String() string {
	switch t {
	case UDP:
		return "udp"
	case TCP:
		return "tcp"
	case DoT:
		return "dot"
	case DoH:
		return "doh"
	case DoQ:
		return "doq"
	}
	return "unknown"
}

// Action is what the policy did with a question.
type Action uint8

const (
	// StopPage: the answer is the stop page's address (A, AAAA).
	StopPage Action = iota + 1
	// NoData: an empty answer with a SOA made for the purpose.
	NoData
	// Explained: NODATA with a structured error instead of a forged address.
	Explained

	// What only the operator's own feeds do, in a journal of their own. The
	// official lists know none of it.

	// NXDomain: there is no such name.
	NXDomain
	// Dropped: nothing was answered.
	Dropped
	// TCPOnly: a word to ask again by TCP.
	TCPOnly
	// LocalData: records of the feed.
	LocalData
)

// String is the word that JSON lines and audit leaves use.
func (a Action) String() string {
	switch a {
	case StopPage:
		return "stop-page"
	case NoData:
		return "nodata"
	case Explained:
		return "explained"
	case NXDomain:
		return "nxdomain"
	case Dropped:
		return "drop"
	case TCPOnly:
		return "tcp-only"
	case LocalData:
		return "local-data"
	}
	return "unknown"
}

// Match names an entry of a list that covered the question or a target of its
// answer.
type Match struct {
	List   string `json:"list"`   // name of the list in the resolver's configuration; 1 to 255 bytes
	Serial uint64 `json:"serial"` // serial of the list in force
	Entry  string `json:"entry"`  // Entry.ID; 1 to 255 bytes
}

// Decision is a block decision. The first match is the one that was enforced;
// the others are the entries of other lists that covered the name as well.
type Decision struct {
	Matches   []Match // 1 to MaxMatches
	Name      []byte  // question name: wire form, lower case, uncompressed
	Type      uint16  // question type
	Transport Transport
	Action    Action
	Count     uint32 // equal decisions of one batch merged into this record; at least 1 (0 is written as 1)
}

// Record is a decision or an event with its place in the sequence. Exactly one
// of Decision and Event is set.
type Record struct {
	Seq      uint64 // first is 1; grows by one with each record, restarts included
	Time     int64  // seconds since the epoch
	Decision *Decision
	Event    *Event
}

// Event is anything else that the journal keeps: "list.applied",
// "list.refused", "list.dumped", "list.served", "guard.held", "guard.released",
// "override", "exemption", "started", "stopped", "gap".
type Event struct {
	Kind string          `json:"type"` // lower-case letters, digits, "." and "-"; 1 to 64 bytes; not of the auditor's own
	Data json.RawMessage `json:"data"` // canonical JSON object, at most MaxEventData bytes
}

const (
	// MaxMatches bounds the lists that one decision can name.
	MaxMatches = 32
	// MaxEventData bounds an event's data, in bytes, so that the event fits
	// into one leaf of the audit log (65,535 bytes).
	MaxEventData = 60000
)
