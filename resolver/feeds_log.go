package resolver

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cordon/blocklog"
	"cordon/resolver/transport"
	"cordon/resolver/wire"
	"cordon/rpz/feed"
)

// feedLog is the journal of what feeds decide, apart from the block log: the auditor
// does not seal it, and its failure touches no answer of a list.
type feedLog struct {
	journal   *blocklog.Journal
	servfail  bool // on failure, instead of a spool
	keep      time.Duration
	dir       string
	clock     func() time.Time
	log       *slog.Logger
	decisions *prometheus.CounterVec
	refused   prometheus.Counter
}

func (r *Resolver) openFeedLog() (*feedLog, error) {
	c := &r.config.Feeds.Log
	l := &feedLog{
		servfail: c.OnFailure == onFailureServfail, keep: c.Keep, dir: c.Dir, clock: r.clock, log: r.log,
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cordon_feed_decisions_total",
			Help: "Questions that a feed decided, by feed and action.",
		}, []string{"feed", "action"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cordon_feed_refused_answers_total",
			Help: "Answers of feeds that would have led to a stop page or a listed name, and had no data instead. Above 0: look at the feeds' local data.",
		}),
	}
	var err error
	if l.journal, err = blocklog.Open(c.Dir, c.journal().options(r.clock, l.alarmed)); err != nil {
		return nil, err
	}
	r.registry.MustRegister(l.decisions, l.refused,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "cordon_feedlog_failing",
			Help: "1 while the feeds' log cannot be written (feeds.log.on_failure says what is done). Look at the disk.",
		}, func() float64 { return oneIf(l.journal.Failing()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "cordon_feedlog_missing_total",
			Help: "Decisions of feeds that are on record as a number only, in a gap event: the spool was full.",
		}, func() float64 { return float64(l.journal.Stats().Missing) }))
	return l, nil
}

// write writes a decision down before its answer leaves, one write(2) each, so that
// no trouble with this log holds up a batch with answers of lists. False: it could
// not be, and the question gets SERVFAIL.
//
// A rule that goes by the client's address is recorded without the question's name
// and type: with them, the record would say what that client asked.
func (l *feedLog) write(q *wire.Query, m *feed.Match, action blocklog.Action, from transport.Meta) bool {
	if l.servfail && l.journal.Failing() {
		l.journal.Refuse(1)
		return false
	}
	d := blocklog.Decision{
		Matches:   []blocklog.Match{{List: m.Zone.Name, Serial: uint64(m.Zone.SOA.Serial), Entry: m.Entry()}},
		Name:      q.Name(),
		Type:      q.Type,
		Transport: from.Transport,
		Action:    action,
		Count:     1,
	}
	if m.Trigger == feed.ClientIP {
		d.Name, d.Type = []byte{0}, 0
	}
	if err := l.journal.Append([]blocklog.Decision{d}); err != nil {
		l.journal.Refuse(1)
		l.log.Error("a feed's decision could not be written down; the question gets SERVFAIL", "dir", l.dir, "error", err)
		return false
	}
	l.decisions.WithLabelValues(m.Zone.Name, action.String()).Inc()
	return true
}

func (l *feedLog) alarmed(a blocklog.Alarm) {
	switch {
	case a.Full:
		l.log.Error("the feeds' log cannot be written and its spool is full: decisions are counted only; make room or mend the disk", "dir", l.dir, "error", a.Err)
	case a.Err != nil && l.servfail:
		l.log.Error("the feeds' log cannot be written: questions that feeds decide get SERVFAIL; make room or mend the disk", "dir", l.dir, "error", a.Err)
	case a.Err != nil:
		l.log.Error("the feeds' log cannot be written: records wait in memory; make room or mend the disk", "dir", l.dir, "error", a.Err)
	default:
		l.log.Warn("the feeds' log is written again", "dir", l.dir, "waited", a.Records, "missing", a.Missing)
	}
}

const pruneEvery = time.Hour

// prune removes old records until ctx ends.
func (l *feedLog) prune(ctx context.Context) {
	look := func() {
		if _, err := blocklog.Prune(l.dir, math.MaxUint64, l.clock().Add(-l.keep)); err != nil {
			l.log.Warn("old records of the feeds' log stay", "error", err)
		}
	}
	look()
	every(ctx, pruneEvery, look)
}

func (l *feedLog) close() {
	if err := l.journal.Close(); err != nil {
		l.log.Error("the feeds' log could not be closed", "dir", l.dir, "error", err)
	}
}
