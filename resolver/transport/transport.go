// Package transport is sockets and nothing else: it reads packets, asks a
// Handler, and sends replies, over UDP and TCP (RFC 1035 §4.2, RFC 7766), TLS
// (DoT, RFC 7858), HTTPS (DoH, RFC 8484) and QUIC (DoQ, RFC 9250). A packet that
// can be answered at once is answered on the goroutine that read it; the others
// go to a bounded number of workers. Its other half, Upstream, asks
// authoritative servers (RFC 5452).
//
// Addresses of clients are never logged, counted by, or part of an error.
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
	Peer      netip.AddrPort // the client: behind a proxy, whom the proxy names
	Certified bool           // the client has shown a certificate of TLS.Clients
}

// Stream says whether replies may have the size that a stream allows
// (wire.Query.Limit).
func (m Meta) Stream() bool { return m.Transport != blocklog.UDP }

// Encrypted says whether others can see no more of the query than its length.
func (m Meta) Encrypted() bool { return m.Transport > blocklog.TCP }

// Verdict says what became of a packet.
type Verdict uint8

const (
	// Reply: the reply was appended; send it after Commit.
	Reply Verdict = iota + 1
	// Drop: send nothing (RFC 8906, or a packet that is no query). A stream on
	// which it comes up is closed: its peer does not speak DNS.
	Drop
	// Later: it needs resolution; hand it to Handler.Resolve on another goroutine.
	Later
)

// Session is the state that one reading goroutine has with the handler. It is
// not safe for concurrent use.
type Session interface {
	// Answer appends the reply to query to dst, if it can be had without
	// waiting. dst may have a prefix, which stays as it is. The reply must fit
	// what the query says and the transport allows (wire.Query.Limit with
	// from.Stream()): it is sent as it is. query is valid until Answer returns.
	Answer(dst, query []byte, from Meta) ([]byte, Verdict)
	// Commit writes down the block decisions that Answer has taken since the
	// last Commit. It is called after each batch of at most 64 queries, if
	// Answer returned Reply at least once, and no reply of the batch is sent
	// before it returned nil. When it fails, none of the batch's replies is
	// sent, those of names that are not listed included, and they are counted
	// as withheld; the clients ask again. What is to be answered differently
	// when the block log cannot be written (SERVFAIL, a spool) is for the
	// handler to decide before Commit returns an error.
	Commit() error
}

// Handler answers queries.
type Handler interface {
	// Session is called once by each reading goroutine: per UDP socket, per
	// stream connection.
	Session() Session
	// Resolve answers a query that Answer put off; it has already written down
	// what it decided when it returns. The reply must fit as for Answer; nil
	// means: send nothing. query is the callee's to keep. ctx ends when the
	// shutdown's patience does; time limits of a resolution are the handler's.
	Resolve(ctx context.Context, query []byte, from Meta) []byte
}
