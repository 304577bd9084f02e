package resolver

import (
	"github.com/prometheus/client_golang/prometheus"

	"cordon/resolver/anchors"
	"cordon/resolver/cache"
	"cordon/resolver/iterate"
)

// metrics are the resolver's own counters; the packages below register theirs
// with the same registry. No label ever says who asked or what was asked.
type metrics struct {
	decisions  *prometheus.CounterVec
	unrecorded prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, r *Resolver) *metrics {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cordon_decisions_total",
			Help: "Questions that were blocked, by list, category of the entry, and action.",
		}, []string{"list", "category", "action"}),
		unrecorded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cordon_blocklog_failures_total",
			Help: "Block decisions that could not be written down; their answers were withheld. Above 0: look at the disk.",
		}),
	}
	reg.MustRegister(m.decisions, m.unrecorded,
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "cordon_blocklog_records_total",
			Help: "Records written to the block log since the start.",
		}, func() float64 { return float64(r.journal.Stats().Records) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "cordon_blocklog_failing",
			Help: "1 while the block log cannot be written (blocklog.on_failure says what is done). Look at the disk at once.",
		}, func() float64 { return oneIf(r.journal.Failing()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "cordon_blocklog_waiting_records",
			Help: "Records in memory that wait for the disk. A kill loses them.",
		}, func() float64 { return float64(r.journal.Stats().Waiting) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "cordon_blocklog_missing_total",
			Help: "Questions that were blocked and are on record as a number only, in a gap event: the spool was full.",
		}, func() float64 { return float64(r.journal.Stats().Missing) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "cordon_guard_files_failing",
			Help: "1 while a file of protected names, or the ranking, has changed and cannot be read: the names that were read before hold.",
		}, func() float64 { return oneIf(r.protectedStale.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "cordon_blocklog_unsealed_records",
			Help: "Records of the block log that the auditor had not sealed when it was last looked (blocklog.sealed); 0 where that is not set.",
		}, func() float64 { return float64(r.retention.unsealed.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "cordon_blocklog_sealing_failing",
			Help: "1 when the auditor has not said for 10 minutes what is sealed, or what it says cannot be: nothing is removed from the block log. Look at the auditor.",
		}, func() float64 { return oneIf(r.retention.failing.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "cordon_ready",
			Help: "1 when every required list is in force; at 0 all answers are SERVFAIL.",
		}, func() float64 { return oneIf(r.policy.Current().Ready()) }))
	const refused = "Queries to authoritative servers that were not sent, since too many to the same zone (recursion.per_zone) or server (recursion.per_server) waited for replies."
	for bound, value := range map[string]func(iterate.Refused) uint64{
		"zone":   func(f iterate.Refused) uint64 { return f.Zone },
		"server": func(f iterate.Refused) uint64 { return f.Server },
	} {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "cordon_upstream_refused_total", Help: refused, ConstLabels: prometheus.Labels{"bound": bound},
		}, func() float64 { return float64(value(r.iterator.Refused())) }))
	}
	for _, c := range []struct {
		name, help string
		value      func(cache.AnswersStats) float64
	}{
		{"cordon_cache_hits_total", "Questions answered from the cache of whole answers.", func(s cache.AnswersStats) float64 { return float64(s.Hits) }},
		{"cordon_cache_misses_total", "Questions that the cache of whole answers could not answer.", func(s cache.AnswersStats) float64 { return float64(s.Misses) }},
		{"cordon_cache_evictions_total", "Answers evicted from the cache to stay within its bound.", func(s cache.AnswersStats) float64 { return float64(s.Evicted) }},
	} {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: c.name, Help: c.help},
			func() float64 { return c.value(r.answers.Stats()) }))
	}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cordon_cache_bytes",
		Help: "Memory of the cache of whole answers, in bytes.",
	}, func() float64 { return float64(r.answers.Stats().Bytes) }))
	reg.MustRegister(anchorMetrics{r})
	return m
}

// anchorMetrics counts the trust anchors by zone and state when it is asked.
type anchorMetrics struct{ *Resolver }

var (
	anchorCount = prometheus.NewDesc("cordon_trust_anchors", "Trust anchors of DNSSEC validation, by zone and state (RFC 5011).", []string{"zone", "state"}, nil)
	anchorAlarm = prometheus.NewDesc("cordon_trust_anchors_alarm", "1 while the trust anchors need a person: cordon-resolver status says why.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m anchorMetrics) Describe(to chan<- *prometheus.Desc) { to <- anchorCount; to <- anchorAlarm }

// Collect implements prometheus.Collector.
func (m anchorMetrics) Collect(to chan<- prometheus.Metric) {
	s := m.anchors.Status()
	for _, z := range s.Zones {
		count := map[string]int{}
		for _, a := range z.Anchors {
			count[a.State]++
		}
		for _, state := range anchors.States() {
			to <- prometheus.MustNewConstMetric(anchorCount, prometheus.GaugeValue, float64(count[state]), z.Zone, state)
		}
	}
	to <- prometheus.MustNewConstMetric(anchorAlarm, prometheus.GaugeValue, oneIf(s.Alarm != ""))
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
