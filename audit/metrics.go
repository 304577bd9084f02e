package audit

import "github.com/prometheus/client_golang/prometheus"

// metrics of a sealer. Alarms belong on the lag, the gaps and the failures.
type metrics struct {
	size     prometheus.Gauge
	lag      prometheus.Gauge
	records  prometheus.Counter
	gaps     *prometheus.CounterVec
	failures prometheus.Counter
	waiting  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		size: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cordon_audit_size",
			Help: "Leaves in the audit log.",
		}),
		lag: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cordon_audit_lag_records",
			Help: "Records of the block log that are not sealed yet.",
		}),
		records: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cordon_audit_records_total",
			Help: "Records of the block log that were sealed since the start.",
		}),
		gaps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cordon_audit_gaps_total",
			Help: "Places where the block log did not go on as it was sealed, by reason. Any is an alarm.",
		}, []string{"reason"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cordon_audit_failures_total",
			Help: "Attempts to read the block log or to write the audit log that failed and are made again.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cordon_audit_blocklog_missing",
			Help: "1 while there is no block log to seal.",
		}),
	}
	for _, reason := range []string{GapDamaged, GapRemoved, GapRewritten} {
		m.gaps.WithLabelValues(reason)
	}
	if r != nil {
		r.MustRegister(m.size, m.lag, m.records, m.gaps, m.failures, m.waiting)
	}
	return m
}
