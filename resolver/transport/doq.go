package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"

	"cordon/blocklog"
	"cordon/resolver/wire"
)

// Error codes of DoQ (RFC 9250 §8.4).
const (
	doqNoError          = 0x0
	doqInternalError    = 0x1
	doqProtocolError    = 0x2
	doqRequestCancelled = 0x3
	doqExcessiveLoad    = 0x4
)

// mostCancelled streams of a connection that has cancelled more than it let
// finish: past it the connection is closed.
const mostCancelled = 256

// doqLinger is how long the last replies of a connection have to leave.
const doqLinger = 200 * time.Millisecond

// errNoMessage: a stream that does not hold one whole message and nothing else,
// or one that DoQ does not allow; it ends the connection (RFC 9250 §4.3.3).
var errNoMessage = errors.New("transport: no DoQ message")

// acceptDoQ takes DoQ connections until ctx ends.
func (s *streams) acceptDoQ(ctx context.Context, q quicSocket) error {
	l, err := s.listenOn(q, s.doq, s.quicConfig(-1))
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("accept at %s by QUIC: %w", q.address(), err)
		}
		s.group.Go(func() {
			d := &doqConn{lonely: newLonely(s), conn: conn}
			s.m.closed.WithLabelValues(d.run(ctx)).Inc()
		})
	}
}

// doqConn is one DoQ connection.
type doqConn struct {
	*lonely
	conn                *quic.Conn
	working             sync.WaitGroup
	inWork              atomic.Int64 // streams that working waits for
	cancelled, finished atomic.Int64
}

// run serves the connection to its end and says why it ended. When ctx ends it
// takes no more streams, and finishes those that it has.
func (d *doqConn) run(ctx context.Context) (reason string) {
	for reason == "" {
		accepting, cancel := context.WithTimeout(ctx, d.c.Idle)
		stream, err := d.conn.AcceptStream(accepting)
		cancel()
		switch {
		case err == nil:
			d.inWork.Add(1)
			d.working.Go(func() {
				defer d.inWork.Add(-1)
				d.serve(stream)
			})
		case ctx.Err() != nil:
			reason = closedShutdown
		case errors.Is(err, context.DeadlineExceeded): // kept alive, but never asked
			reason = closedIdle
		default:
			reason = closedReason(err)
		}
	}
	replying := d.inWork.Load() > 0
	d.working.Wait()
	if replying {
		// Closing drops what has not left yet, and the library does not tell when
		// it has.
		pause(d.conn.Context(), doqLinger)
	}
	_ = d.conn.CloseWithError(doqNoError, "")
	return reason
}

// closedReason is why a connection ended by itself.
func closedReason(err error) string {
	var application *quic.ApplicationError
	var idle *quic.IdleTimeoutError
	switch {
	case errors.As(err, &idle):
		return closedIdle
	case errors.As(err, &application) && !application.Remote && application.ErrorCode == doqProtocolError:
		return closedProtocol
	case errors.As(err, &application) && !application.Remote && application.ErrorCode == doqExcessiveLoad:
		return closedRefused
	}
	return closedByClient
}

// serve answers the query of one stream.
func (d *doqConn) serve(stream *quic.Stream) {
	defer stream.ReleaseStreamCredit()
	_ = stream.SetReadDeadline(d.c.Clock().Add(d.c.Idle)) // fails only if closed
	query, err := readDoQ(stream)
	switch {
	case errors.Is(err, errNoMessage):
		_ = d.conn.CloseWithError(doqProtocolError, "")
		return
	case err != nil: // cancelled, too slow, or the connection has ended
		stream.CancelRead(doqRequestCancelled)
		stream.CancelWrite(doqRequestCancelled)
		d.cancel()
		return
	}
	reply, fate := d.answer(query, quicMeta(d.conn, blocklog.DoQ))
	switch fate {
	case replied:
		d.send(stream, reply)
	case noQuery:
		_ = d.conn.CloseWithError(doqProtocolError, "")
	case shed:
		stream.CancelWrite(doqExcessiveLoad)
	default:
		stream.CancelWrite(doqInternalError)
	}
}

func (d *doqConn) send(stream *quic.Stream, reply []byte) {
	_ = stream.SetWriteDeadline(d.c.Clock().Add(d.c.Write)) // fails only if closed
	frame := append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reply)), uint16(len(reply))), reply...)
	_, err := stream.Write(frame)
	if err == nil {
		err = stream.Close()
	}
	if err != nil {
		d.m.doq.sendErrors.Inc()
		stream.CancelWrite(doqRequestCancelled)
		d.cancel()
		return
	}
	d.finished.Add(1)
}

// cancel counts a stream that came to nothing by the peer's doing, and closes a
// connection that has little else.
func (d *doqConn) cancel() {
	if n := d.cancelled.Add(1); n > mostCancelled && n > d.finished.Load() {
		_ = d.conn.CloseWithError(doqExcessiveLoad, "")
	}
}

// readDoQ reads a stream to its end: one message behind its length, with ID 0
// and without the option for idle connections, which QUIC has itself (RFC 9250
// §4.2, §4.2.1, §5.5.2).
func readDoQ(stream io.Reader) ([]byte, error) {
	buf := make([]byte, 2+512)
	n := 0
	for {
		if n == len(buf) {
			if n > 2+maxQuery {
				return nil, errNoMessage
			}
			buf = append(buf, make([]byte, min(len(buf), 3+maxQuery-len(buf)))...)
		}
		m, err := stream.Read(buf[n:])
		n += m
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if n < 2+2 || n != 2+int(binary.BigEndian.Uint16(buf)) || n > 2+maxQuery {
		return nil, errNoMessage
	}
	query := buf[2:n]
	var q wire.Query
	_ = q.Parse(query) // what is wrong with it is the handler's to say
	if _, keepalive := q.Option(dns.EDNS0TCPKEEPALIVE); keepalive || binary.BigEndian.Uint16(query) != 0 {
		return nil, errNoMessage
	}
	return query, nil
}
