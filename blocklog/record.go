// Package blocklog is the resolver's journal: block decisions and events in one
// sequence, in append-only segment files that the resolver writes and the
// auditor reads. A decision is written (write(2)) before its answer leaves.
//
// No record holds anything about who asked.
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

// Action is what the policy did with a question.
type Action uint8

const (
	// StopPage: the answer is the stop page's address (A, AAAA).
	StopPage Action = iota + 1
	// NoData: an empty answer with a SOA made for the purpose.
	NoData
	// Explained: NODATA with a structured error instead of a forged address.
	Explained
)

// Match names an entry of a list that covered the question or a target of its
// answer.
type Match struct {
	List   string `json:"list"`   // name of the list in the resolver's configuration
	Serial uint64 `json:"serial"` // serial of the list in force
	Entry  string `json:"entry"`  // Entry.ID
}

// Decision is a block decision. The first match is the one that was enforced;
// the others are the entries of other lists that covered the name as well.
type Decision struct {
	Matches   []Match
	Name      []byte // question name: wire form, lower case, uncompressed
	Type      uint16 // question type
	Transport Transport
	Action    Action
	Count     uint32 // equal decisions of one batch merged into this record; at least 1
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
// "list.refused", "guard.held", "guard.released", "override", "exemption",
// "started", "stopped", "gap".
type Event struct {
	Kind string          `json:"type"`
	Data json.RawMessage `json:"data"` // canonical JSON object
}
