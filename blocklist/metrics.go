package blocklist

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of all lists of one resolver, one series a list. A watcher registers
// its series at zero when it is made, so that alarms can be written on them.
type Metrics struct {
	serial   *prometheus.GaugeVec
	entries  *prometheus.GaugeVec
	updates  *prometheus.CounterVec
	overdue  *prometheus.GaugeVec
	until    *prometheus.GaugeVec
	checked  *prometheus.GaugeVec
	unstored *prometheus.CounterVec

	quarantined *prometheus.GaugeVec
	pending     *prometheus.GaugeVec
	held        *prometheus.GaugeVec
	rolledBack  *prometheus.GaugeVec
	reviews     *prometheus.GaugeVec

	source *prometheus.GaugeVec
}

// Results of cordon_list_updates_total.
const (
	resultApplied = "applied"
	resultRefused = "refused"
	resultHeld    = "held" // by a guard, for a person to release
)

// NewMetrics registers the metrics of lists; once a process and registry. reg may
// be nil.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"list"})
	}
	m := &Metrics{
		serial:  gauge("cordon_list_serial", "Serial of the list in force; 0 before the first."),
		entries: gauge("cordon_list_entries", "Entries of the list in force."),
		updates: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "cordon_list_updates_total",
			Help: "Updates of the list, by what became of them. A refused one leaves the list in force as it is."}, []string{"list", "result"}),
		overdue: gauge("cordon_list_overdue", "1 when the list in force is past its valid_until: it is still enforced, but a newer one is due."),
		until:   gauge("cordon_list_valid_until_seconds", "Unix time of the valid_until of the list in force; 0 before the first."),
		checked: gauge("cordon_list_checked_seconds", "Unix time at which the source was last found to hold the list in force, or gave it; 0 if never."),
		unstored: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "cordon_list_store_failures_total",
			Help: "Lists in force that could not be stored: a restart would start with an older one."}, []string{"list"}),
		quarantined: gauge("cordon_list_quarantined", "Entries of the list in force that a guard or a person has set aside: they are not enforced until a person releases them."),
		pending:     gauge("cordon_list_pending", "Entries of the list whose in_force lies ahead."),
		held:        gauge("cordon_list_held", "Serial of the list that a guard holds as a whole until a person releases it; 0 if there is none."),
		reviews:     gauge("cordon_list_reviews_overdue", "Entries of the list in force whose review_by has passed: the authority has to re-check them or take them off."),
		rolledBack:  gauge("cordon_list_rolled_back", "1 when a person has put an earlier list in force again; it ends when a newer one comes."),
	}
	m.source = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "cordon_list_source_failing",
		Help: "1 while a source of the list (its number in the configuration, from 1) fails or is behind another one. The list is current as long as one source is not."}, []string{"list", "source"})
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.serial, m.entries, m.updates, m.overdue, m.until, m.checked, m.unstored,
		m.quarantined, m.pending, m.held, m.rolledBack, m.reviews, m.source} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// announce makes the series of a list, at zero.
func (m *Metrics) announce(list string) {
	for _, v := range []*prometheus.GaugeVec{m.serial, m.entries, m.overdue, m.until, m.checked,
		m.quarantined, m.pending, m.held, m.rolledBack, m.reviews} {
		v.WithLabelValues(list)
	}
	for _, result := range []string{resultApplied, resultRefused, resultHeld} {
		m.updates.WithLabelValues(list, result)
	}
	m.unstored.WithLabelValues(list)
}

// inForce shows a list that has come into force.
func (m *Metrics) inForce(l *Loaded) {
	m.serial.WithLabelValues(l.Name).Set(float64(l.List.Serial))
	m.entries.WithLabelValues(l.Name).Set(float64(len(l.List.Entries)))
	m.until.WithLabelValues(l.Name).Set(float64(l.List.ValidUntil.Unix()))
}

// standing shows what guards and people have stopped.
func (m *Metrics) standing(v *View) {
	if v.Running != nil {
		m.quarantined.WithLabelValues(v.Name).Set(float64(len(v.Running.Aside)))
		m.pending.WithLabelValues(v.Name).Set(float64(v.Running.Pending))
	}
	held, back := 0.0, 0.0
	if v.Held != nil {
		held = float64(v.Held.Serial)
	}
	if v.Rollback != nil {
		back = 1
	}
	m.held.WithLabelValues(v.Name).Set(held)
	m.rolledBack.WithLabelValues(v.Name).Set(back)
}

func (m *Metrics) update(list, result string) { m.updates.WithLabelValues(list, result).Inc() }
