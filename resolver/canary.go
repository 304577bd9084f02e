package resolver

import (
	"sync/atomic"

	"cordon/blocklist"
	"cordon/resolver/policy"
)

// part says which lists a session answers by.
type part uint8

const (
	uncounted part = iota // a worker: by the lists in force
	rest                  // a reader: by the lists in force
	canaries              // a reader: by a list on trial, while one is
)

// shares counts what readers were asked and what of it they blocked while a list is
// on trial. It only grows; a trial looks at the difference.
type shares [canaries + 1]struct{ asked, blocked atomic.Uint64 }

func (s *shares) of(p part) blocklist.Share {
	return blocklist.Share{Asked: s[p].asked.Load(), Blocked: s[p].blocked.Load()}
}

// reader tells a new reading session which part it has: one in so many tries new
// lists. The others come first, so that a node with few readers tries nothing.
func (r *Resolver) reader() part {
	n := uint64(r.config.Guard.Canary.OneIn)
	if n == 0 {
		return rest
	}
	if r.readers.Add(1)%n == 0 {
		return canaries
	}
	return rest
}

// lists gives the generation by which this question is answered.
func (s *session) lists() *policy.Generation {
	s.counted = false
	if trial := s.policy.Trial(); trial != nil && s.part != uncounted {
		s.counted = true
		s.shares[s.part].asked.Add(1)
		if s.part == canaries {
			return trial
		}
	}
	return s.policy.Current()
}

// canary is how lists of that name are tried; nil where they are not.
func (r *Resolver) canary(name string) *blocklist.Canary {
	c := r.config.Guard.Canary
	if c.OneIn == 0 {
		return nil
	}
	var before [canaries + 1]blocklist.Share // of the goroutine that tries
	since := func(p part) blocklist.Share {
		now := r.shares.of(p)
		return blocklist.Share{Asked: now.Asked - before[p].Asked, Blocked: now.Blocked - before[p].Blocked}
	}
	var node func(serial uint64) bool
	if c.Node != "" {
		node = func(serial uint64) bool { return blocklist.Chosen(c.Node, name, serial, uint64(c.Nodes)) }
	}
	return &blocklist.Canary{
		Node: node, Wait: c.Wait,
		For: c.For, Factor: float64(c.Factor), Least: uint64(c.Least),
		Try: func(l *blocklist.Loaded) error {
			before[rest], before[canaries] = r.shares.of(rest), r.shares.of(canaries)
			return r.policy.Try(name, l.List, l.Index)
		},
		End: func() (part, others blocklist.Share) {
			r.policy.EndTrial(name)
			return since(canaries), since(rest)
		},
	}
}
