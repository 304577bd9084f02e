package resolver

import (
	"fmt"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"cordon/blocklog"
	"cordon/resolver/wire"
)

// What becomes of listed questions while the block log cannot be written
// (blocklog.on_failure).
const (
	onFailureSpool    = "spool"    // they are blocked; records wait in memory, then are counted
	onFailureServfail = "servfail" // they get SERVFAIL
)

// defaultSpool holds some 150,000 decisions, in bytes.
const defaultSpool = 16 << 20

// options are those of the journal.
func (c *BlocklogConfig) options(clock func() time.Time, alarm func(blocklog.Alarm)) blocklog.Options {
	o := blocklog.Options{SegmentBytes: c.SegmentBytes, Clock: clock, Alarm: alarm}
	if c.OnFailure != onFailureServfail {
		if o.SpoolBytes = c.SpoolBytes; o.SpoolBytes == 0 {
			o.SpoolBytes = defaultSpool
		}
	}
	return o
}

// check fills in defaults, too.
func (c *BlocklogConfig) check() error {
	switch c.OnFailure {
	case "":
		c.OnFailure = onFailureSpool
	case onFailureSpool, onFailureServfail:
	default:
		return fmt.Errorf("on_failure: %q; use %s (names stay blocked, records wait in memory) or %s (listed names get SERVFAIL)", c.OnFailure, onFailureSpool, onFailureServfail)
	}
	if c.SpoolBytes != 0 && c.SpoolBytes < 64<<10 || c.SpoolBytes > 4<<30 {
		return fmt.Errorf("spool_bytes: %d; use 65536 (64 KiB) to 4294967296 (4 GiB), or leave it out", c.SpoolBytes)
	}
	return c.checkRetention()
}

// alarmed tells the operator what becomes of the block log.
func (r *Resolver) alarmed(a blocklog.Alarm) {
	switch {
	case a.Full:
		r.log.Error("the block log cannot be written and its spool is full: names are still blocked, and decisions are counted only; make room or mend the disk", "dir", r.config.Blocklog.Dir, "error", a.Err)
	case a.Err != nil && r.config.Blocklog.OnFailure == onFailureServfail:
		r.log.Error("the block log cannot be written: listed names get SERVFAIL; make room or mend the disk", "dir", r.config.Blocklog.Dir, "error", a.Err)
	case a.Err != nil:
		r.log.Error("the block log cannot be written: names are still blocked, and records wait in memory, where a kill would lose them; make room or mend the disk", "dir", r.config.Blocklog.Dir, "error", a.Err)
	default:
		r.log.Warn("the block log is written again", "dir", r.config.Blocklog.Dir, "waited", a.Records, "missing", a.Missing)
	}
}

// unrecorded is said for a listed name that may not be blocked, since that
// cannot be recorded.
var unrecorded = wire.EDE{Code: dns.ExtendedErrorCodeOther, Text: "the block log cannot be written"}

// refused reports whether listed names get SERVFAIL at this moment.
func (r *Resolver) refused() bool {
	return r.config.Blocklog.OnFailure == onFailureServfail && r.journal.Failing()
}

// Commit implements transport.Session: the decisions are with the kernel before
// any of their replies leaves (Promise 3).
func (s *session) Commit() error {
	if len(s.decisions) == 0 {
		return nil
	}
	err := s.journal.Append(s.decisions)
	if err != nil {
		s.metrics.unrecorded.Add(float64(len(s.decisions)))
		s.journal.Refuse(len(s.decisions))
	} else {
		s.count()
	}
	s.decisions, s.categories = s.decisions[:0], s.categories[:0]
	s.matches, s.names = s.matches[:0], s.names[:0]
	return err
}

// counter is a counter of cordon_decisions_total that a session has used. To look
// one up by its labels costs as much as half an answer.
type counter struct {
	list, category string
	action         blocklog.Action
	decisions      prometheus.Counter
}

// count adds the decisions that were written down to the metrics.
func (s *session) count() {
	for i := range s.decisions {
		d := &s.decisions[i]
		s.counter(d.Matches[0].List, s.categories[i], d.Action).Inc()
	}
}

// counter looks among those that were used before: lists and categories are few.
func (s *session) counter(list, category string, action blocklog.Action) prometheus.Counter {
	for i := range s.counters {
		c := &s.counters[i]
		if c.action == action && c.list == list && c.category == category {
			return c.decisions
		}
	}
	c := s.metrics.decisions.WithLabelValues(list, category, action.String())
	if len(s.counters) < 64 {
		s.counters = append(s.counters, counter{list, category, action, c})
	}
	return c
}
