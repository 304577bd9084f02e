package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"cordon/blocklog"
)

// streams is what all stream connections share.
type streams struct {
	c         *Config
	m         *metrics
	handler   Handler
	workers   *workers
	admission *admission

	group sync.WaitGroup // one per open connection
	mu    sync.Mutex     // guards open
	open  map[*stream]struct{}
}

// accept takes connections until ctx ends. What goes wrong with one connection
// is counted and nothing else: its errors hold the peer's address.
func (s *streams) accept(ctx context.Context, l *net.TCPListener) error {
	failures := 0
	for {
		conn, err := l.AcceptTCP()
		switch {
		case err == nil:
			failures = 0
			s.admit(ctx, conn)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept at %s: %w", l.Addr(), err)
		default: // too many open files, or a connection that is gone already
			if failures++; failures == maxReadErrors {
				return fmt.Errorf("accept at %s: %w", l.Addr(), err)
			}
			s.c.Log.Warn("accept failed", "listen", l.Addr().String(), "error", err)
			pause(ctx, min(time.Second, 10*time.Millisecond<<min(failures, 8)))
		}
	}
}

// admit starts a connection, or closes it if there are too many.
func (s *streams) admit(ctx context.Context, conn *net.TCPConn) {
	peer := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	client := clientNetwork(peer.Addr())
	if limit, ok := s.admission.admit(client); !ok {
		s.m.refused.WithLabelValues(limit).Inc()
		_ = conn.Close()
		return
	}
	st := newStream(s, conn, Meta{Transport: blocklog.TCP, Peer: peer})
	s.track(st, true)
	s.m.streams.Inc()
	s.group.Go(func() {
		defer s.admission.leave(client)
		defer s.m.streams.Dec()
		defer s.track(st, false)
		s.m.closed.WithLabelValues(st.run(ctx)).Inc()
	})
}

func (s *streams) track(st *stream, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*stream]struct{})
	}
	if open {
		s.open[st] = struct{}{}
	} else {
		delete(s.open, st)
	}
}

// wait returns when all connections have ended.
func (s *streams) wait() {
	s.group.Wait()
	s.workers.wait()
}

// abort closes all connections, whatever is under way.
func (s *streams) abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.open {
		_ = st.conn.Close()
	}
}
