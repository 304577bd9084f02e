// Package transport is sockets and nothing else: it reads packets, asks a
// Handler, and sends replies. A packet that can be answered at once is answered
// on the goroutine that read it; the others go to bounded workers.
package transport

import (
	"context"
	"net/netip"

	"cordon/blocklog"
)

// Meta is what is known of a packet besides its bytes. Peer is used for access
// control and limits while the packet is answered and never stored.
type Meta struct {
	Transport blocklog.Transport
	Peer      netip.AddrPort
}

// Verdict says what became of a packet.
type Verdict uint8

const (
	// Reply: the reply was appended; send it after Commit.
	Reply Verdict = iota + 1
	// Drop: send nothing (RFC 8906, or a packet that is no query).
	Drop
	// Later: it needs resolution; hand it to Handler.Resolve on another goroutine.
	Later
)

// Session is the state that one reading goroutine has with the handler. It is
// not safe for concurrent use.
type Session interface {
	// Answer appends the reply to query to dst, if it can be had without
	// waiting.
	Answer(dst, query []byte, from Meta) ([]byte, Verdict)
	// Commit writes down the block decisions that Answer has taken since the
	// last Commit. Replies may be sent only after it returned nil; else each
	// one of the batch is withheld or, by policy, answered SERVFAIL.
	Commit() error
}

// Handler answers queries.
type Handler interface {
	Session() Session
	// Resolve answers a query that Answer put off; it has already written down
	// what it decided. nil means: send nothing.
	Resolve(ctx context.Context, query []byte, from Meta) []byte
}
