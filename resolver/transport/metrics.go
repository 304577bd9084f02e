package transport

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"cordon/blocklog"
)

// metrics of the listening side. None is by client.
type metrics struct {
	udp, tcp, dot, doh, doq transportMetrics
	receiveErrors           prometheus.Counter
	streams                 prometheus.Gauge
	refused                 *prometheus.CounterVec // by reason
	closed                  *prometheus.CounterVec // by reason
}

// of gives the counters of a transport.
func (m *metrics) of(t blocklog.Transport) *transportMetrics {
	switch t {
	case blocklog.UDP:
		return &m.udp
	case blocklog.DoT:
		return &m.dot
	case blocklog.DoH:
		return &m.doh
	case blocklog.DoQ:
		return &m.doq
	}
	return &m.tcp
}

// transportMetrics are the counters of one transport.
type transportMetrics struct {
	answered, dropped, resolved       prometheus.Counter // cordon_queries_total by verdict
	shedQueries, withheld, sendErrors prometheus.Counter
}

// count adds what became of a batch.
func (t *transportMetrics) count(verdicts [Later + 1]int, shed int) {
	add := func(c prometheus.Counter, n int) {
		if n > 0 {
			c.Add(float64(n))
		}
	}
	add(t.answered, verdicts[Reply])
	add(t.dropped, verdicts[Drop])
	add(t.resolved, verdicts[Later]-shed)
	add(t.shedQueries, shed)
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	queries := counters("cordon_queries_total",
		"Queries by transport and by what became of them: answered at once, dropped, handed to resolution (resolved), shed in overload.",
		"transport", "verdict")
	withheld := counters("cordon_replies_withheld_total",
		"Replies not sent because their block decisions could not be written.", "transport")
	sendErrors := counters("cordon_send_errors_total",
		"Replies that could not be sent.", "transport")
	m := &metrics{
		receiveErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cordon_receive_errors_total", Help: "Failed reads from the UDP sockets.",
		}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cordon_streams", Help: "Open connections of clients, with those that shake hands.",
		}),
		refused: counters("cordon_streams_refused_total",
			"Connections closed at once because of a limit: total, client, or handshakes (of one client network in a second).", "reason"),
		closed: counters("cordon_streams_closed_total",
			"Connections by why they ended: client, idle, slow (the peer did not take its replies), protocol, withheld, shutdown, handshake (none, or a bad one), refused (a limit, when the client was known).", "reason"),
	}
	of := func(transport string) transportMetrics {
		return transportMetrics{
			answered:    queries.WithLabelValues(transport, "answered"),
			dropped:     queries.WithLabelValues(transport, "dropped"),
			resolved:    queries.WithLabelValues(transport, "resolved"),
			shedQueries: queries.WithLabelValues(transport, "shed"),
			withheld:    withheld.WithLabelValues(transport),
			sendErrors:  sendErrors.WithLabelValues(transport),
		}
	}
	for t := blocklog.UDP; t <= blocklog.DoQ; t++ {
		*m.of(t) = of(t.String())
	}
	return m, register(r, queries, withheld, sendErrors, m.receiveErrors, m.streams, m.refused, m.closed)
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

// register registers all with r, or none if r is nil.
func register(r prometheus.Registerer, cs ...prometheus.Collector) error {
	if r == nil {
		return nil
	}
	var errs []error
	for _, c := range cs {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}

// upstreamMetrics are the counters of Upstream.
type upstreamMetrics struct {
	udp, tcp               upstreamTransport
	nearMisses, suspicious prometheus.Counter
	alteredCase, noCookie  prometheus.Counter
	connected              prometheus.Counter
}

// upstreamTransport are the counters of Upstream for one transport.
type upstreamTransport struct {
	name                        string
	queries, timeouts, failures prometheus.Counter
}

func newUpstreamMetrics(r prometheus.Registerer) (*upstreamMetrics, error) {
	queries := counters("cordon_upstream_queries_total",
		"Queries sent to authoritative servers.", "transport")
	failed := counters("cordon_upstream_failures_total",
		"Queries to authoritative servers without a reply: timeout, or error (no route, connection refused, unusable reply).",
		"transport", "reason")
	m := &upstreamMetrics{
		nearMisses: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cordon_upstream_near_misses_total",
			Help: "Datagrams from a server's address that were no reply to the query, and ICMP errors; all waited past.",
		}),
		suspicious: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cordon_upstream_suspicious_total",
			Help: "Queries that had so many near misses that the server was asked by TCP.",
		}),
		connected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cordon_upstream_connections_total",
			Help: "TCP connections to authoritative servers that were begun; each may carry many queries.",
		}),
	}
	doubted := counters("cordon_upstream_doubted_total",
		"Replies that were right but for what a forger cannot know: the case of the name (recursion.mix_case), the cookie. The server was asked by TCP.",
		"reason")
	m.alteredCase, m.noCookie = doubted.WithLabelValues("case"), doubted.WithLabelValues("cookie")
	of := func(transport string) upstreamTransport {
		return upstreamTransport{
			name:     transport,
			queries:  queries.WithLabelValues(transport),
			timeouts: failed.WithLabelValues(transport, "timeout"),
			failures: failed.WithLabelValues(transport, "error"),
		}
	}
	m.udp, m.tcp = of("udp"), of("tcp")
	return m, register(r, queries, failed, m.nearMisses, m.suspicious, m.connected, doubted)
}
