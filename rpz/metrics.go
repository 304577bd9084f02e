package rpz

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a Primary. Labels name peers, which are the operator's own servers,
// and never anyone else.
type metrics struct {
	transfers  *prometheus.CounterVec
	refused    *prometheus.CounterVec
	notifies   *prometheus.CounterVec
	peerSerial *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer, p *Primary) (*metrics, error) {
	m := &metrics{
		transfers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cordon_rpz_transfers_total",
			Help: "Transfers of the policy zone that peers asked for: in full (axfr), differences (ixfr), or none since the peer has it (current).",
		}, []string{"peer", "kind", "result"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cordon_rpz_refused_total",
			Help: "Questions for the policy zone that were refused. Other than by address: a peer's key or configuration is wrong.",
		}, []string{"reason"}),
		notifies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cordon_rpz_notifies_total",
			Help: "Notifications of a new policy zone, by what became of them.",
		}, []string{"peer", "result"}),
		peerSerial: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cordon_rpz_peer_serial",
			Help: "Serial of the policy zone that a peer has, by its last transfer or its word. Behind cordon_rpz_serial for long: it enforces an old list.",
		}, []string{"peer"}),
	}
	if err := register(reg, m.transfers, m.refused, m.notifies, m.peerSerial); err != nil {
		return nil, err
	}
	for _, reason := range refusals {
		m.refused.WithLabelValues(reason)
	}
	for _, each := range p.peers {
		m.peerSerial.WithLabelValues(each.Name)
	}
	return m, nil
}

// has notes which serial a peer has.
func (m *metrics) has(peer string, serial uint32) {
	m.peerSerial.WithLabelValues(peer).Set(float64(serial))
}

// registerOutlet gives the failures of an outlet, and registers them with what is to be
// seen of its zone.
func registerOutlet(reg prometheus.Registerer, zone func() *Zone) (prometheus.Counter, error) {
	failures := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "cordon_rpz_failures_total",
		Help: "Times that the policy zone could not be brought up to date. Above 0: look at the log and the disk.",
	})
	all := []prometheus.Collector{failures}
	for _, g := range []struct {
		name, help string
		value      func(*Zone) int
	}{
		{"cordon_rpz_serial", "Serial of the policy zone that is given onwards. 0: none, since a list is not loaded.", func(z *Zone) int { return int(z.serial) }},
		{"cordon_rpz_records", "Resource records of the policy zone that is given onwards.", (*Zone).Records},
		{"cordon_rpz_left_out", "Entries in force that the policy zone cannot say. Above 0: the peers do not block these.", func(z *Zone) int { return z.leftAll }},
	} {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: g.name, Help: g.help}, func() float64 {
			if z := zone(); z != nil {
				return float64(g.value(z))
			}
			return 0
		}))
	}
	return failures, register(reg, all...)
}

func register(reg prometheus.Registerer, all ...prometheus.Collector) error {
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}
