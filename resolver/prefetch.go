package resolver

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"cordon/resolver/iterate"
	"cordon/resolver/wire"
)

// An answer that is asked for again shortly before it ends is looked up anew in
// the background, so that nobody has to wait for it then. That work has places of
// its own: it takes none from questions that wait, and what finds no place there
// is left to expire.

// renewal is a question whose answer is to be looked up anew.
type renewal struct {
	name  []byte // wire form, lower case
	qtype uint16
	do    bool
	left  time.Duration // that the answer had, when it was asked for
}

// renewals are those that wait for a place; nil if answers are not renewed.
type renewals struct {
	waiting chan renewal
	count   *prometheus.CounterVec
}

const (
	renewalWorkers = 16
	maxRenewals    = 256 // that wait
)

func newRenewals(reg prometheus.Registerer) *renewals {
	n := &renewals{
		waiting: make(chan renewal, maxRenewals),
		count: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cordon_prefetches_total",
			Help: "Answers looked up anew shortly before they ended, by what came of it; dropped: there was no place.",
		}, []string{"result"}),
	}
	reg.MustRegister(n.count)
	for _, result := range []string{"renewed", "failed", "dropped"} {
		n.count.WithLabelValues(result)
	}
	return n
}

// add takes in a question whose answer ends soon. It does not wait.
func (n *renewals) add(q *wire.Query, left time.Duration) {
	if n == nil || q.CD {
		return
	}
	select {
	case n.waiting <- renewal{bytes.Clone(q.Name()), q.Type, q.DO, left}:
	default:
		n.count.WithLabelValues("dropped").Inc()
	}
}

// renew works until ctx ends.
func (r *Resolver) renew(ctx context.Context) error {
	var workers sync.WaitGroup
	for range renewalWorkers {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case n := <-r.renewals.waiting:
					result := "failed"
					if r.renewOne(ctx, n) {
						result = "renewed"
					}
					r.renewals.count.WithLabelValues(result).Inc()
				}
			}
		})
	}
	workers.Wait()
	return ctx.Err()
}

// renewOne puts a new answer in the place of an old one, and says whether there is
// one. A failure leaves the old one until its end, and what leads to a listed name
// is nobody's business.
func (r *Resolver) renewOne(ctx context.Context, n renewal) bool {
	ctx, cancel := context.WithTimeout(ctx, r.config.Recursion.Timeout)
	defer cancel()
	result := r.iterator.Resolve(ctx, iterate.Request{
		Question: iterate.Question{Name: wire.NameText(n.name), Type: n.qtype},
		Stop:     r.listed,
		Renew:    n.left,
	})
	if result.Stopped != "" || result.Rcode == dns.RcodeServerFailure {
		return false
	}
	stored, err := wire.Store(outcome(n.name, n.qtype, n.do, false, result))
	if err != nil {
		return false
	}
	if r.feeds != nil {
		r.serversOf(ctx, r.feeds.Current(), n.name, stored)
	}
	r.answers.Put(n.name, n.qtype, n.do, false, stored, min(result.TTL, maxStored), r.clock())
	return true
}
