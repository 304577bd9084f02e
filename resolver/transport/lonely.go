package transport

import (
	"bytes"
	"context"
	"sync"
)

// lonely answers the queries of one connection on which each has a stream of
// its own (DoQ, DoH), so that there are no batches. Safe for concurrent use.
type lonely struct {
	*streams
	mu      sync.Mutex // guards session
	session Session
}

func newLonely(s *streams) *lonely { return &lonely{streams: s, session: s.handler.Session()} }

// fate is what became of a lonely query.
type fate uint8

const (
	replied  fate = iota + 1
	noQuery       // it is none (Drop)
	shed          // no worker is free
	withheld      // its block decision could not be written
	silence       // resolution came to no reply
)

// answer answers one query. It returns when the query costs nothing any more:
// one whose stream was cancelled holds its place among the streams of its
// connection until then.
func (l *lonely) answer(query []byte, from Meta) ([]byte, fate) {
	counts := l.m.of(from.Transport)
	l.mu.Lock()
	reply, verdict := l.session.Answer(nil, query, from)
	var err error
	if verdict == Reply {
		err = l.session.Commit()
	}
	l.mu.Unlock()

	var count [Later + 1]int
	count[verdict]++
	defer func() { counts.count(count, count[0]) }()
	switch {
	case err != nil:
		counts.withheld.Inc()
		return nil, withheld
	case verdict == Reply:
		return reply, replied
	case verdict == Drop:
		return nil, noQuery
	}
	query = bytes.Clone(query)
	done := make(chan []byte, 1)
	if !l.workers.start(func(ctx context.Context) { done <- l.handler.Resolve(ctx, query, from) }) {
		count[0] = 1 // shed
		return nil, shed
	}
	if reply = <-done; reply == nil {
		return nil, silence
	}
	return reply, replied
}
