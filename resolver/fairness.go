package resolver

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"cordon/blocklog"
	"cordon/resolver/cookie"
	"cordon/resolver/fairuse"
	"cordon/resolver/iterate"
	"cordon/resolver/transport"
	"cordon/resolver/wire"
)

// padTo is the block size that replies are padded to (RFC 8467 §4.1).
const padTo = 468

// fairness is what keeps clients from each other's harm. All that it knows of a
// client is in memory and bounded.
type fairness struct {
	cookies    cookie.Secrets
	queries    *fairuse.Rates // nil: no bound, as of the two below
	udpReplies *fairuse.Rates
	handshakes *fairuse.Rates
	work       *fairuse.Work
	nsid       []byte // the whole option; nil: none
	keepalive  []byte // the whole option
	throttled  *prometheus.CounterVec
}

func newFairness(c *Config, reg prometheus.Registerer) (*fairness, error) {
	f := &fairness{
		queries:    fairuse.NewRates(c.Limits.Queries),
		udpReplies: fairuse.NewRates(c.Limits.UDPReplies),
		handshakes: fairuse.NewRates(c.Limits.Handshakes),
		work:       fairuse.NewWork(c.Workers, runtime.GOMAXPROCS(0)),
		throttled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cordon_throttled_total",
			Help: "Questions not answered in full because their client network took too much, by limit: queries, udp_replies, work (its part of what resolutions take: places and processor time).",
		}, []string{"limit"}),
	}
	if c.NSID != "" {
		f.nsid = appendOption(nil, dns.EDNS0NSID, []byte(c.NSID))
	}
	// In units of 100 ms (RFC 7828 §3.1).
	f.keepalive = appendOption(nil, dns.EDNS0TCPKEEPALIVE, binary.BigEndian.AppendUint16(nil, uint16(min(c.Limits.Idle/(100*time.Millisecond), 0xffff))))
	if c.Cookies.SecretFile == "" {
		f.cookies = make(cookie.Secrets, 1)
		rand.Read(f.cookies[0][:]) // never fails (crypto/rand)
	} else {
		text, err := os.ReadFile(c.Cookies.SecretFile)
		if err == nil {
			f.cookies, err = cookie.ParseSecrets(text)
		}
		if err != nil {
			return nil, fmt.Errorf("cookies.secret_file: %s: %w", c.Cookies.SecretFile, err)
		}
	}
	for _, limit := range []string{"queries", "udp_replies", "work"} {
		f.throttled.WithLabelValues(limit)
	}
	return f, reg.Register(f.throttled)
}

func appendOption(dst []byte, code uint16, data []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, code)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(data)))
	return append(dst, data...)
}

// mayShakeHands is transport.Config.MayShakeHands.
func (r *Resolver) mayShakeHands(client netip.Addr) bool {
	return r.fair.handshakes.Allow(client, r.clock())
}

// addOptions puts into the session's query what each of its replies carries
// besides extended errors, and says what the client's cookie is worth; 0: it
// has none.
func (s *session) addOptions(from transport.Meta) cookie.State {
	q := &s.query
	if !q.EDNS {
		return 0
	}
	if from.Encrypted() {
		q.Pad = padTo
	}
	options := s.options[:0]
	var state cookie.State
	if data, ok := q.Option(dns.EDNS0COOKIE); ok {
		now := s.clock()
		if state = s.fair.cookies.Check(data, from.Peer.Addr(), now); state != cookie.Malformed {
			options = binary.BigEndian.AppendUint16(options, dns.EDNS0COOKIE)
			options = binary.BigEndian.AppendUint16(options, cookie.Len)
			options = s.fair.cookies.Append(options, data, from.Peer.Addr(), now)
		}
	}
	if s.fair.nsid != nil {
		if _, asked := q.Option(dns.EDNS0NSID); asked {
			options = append(options, s.fair.nsid...)
		}
	}
	if from.Transport == blocklog.TCP || from.Transport == blocklog.DoT { // the others have time-outs of their own
		if _, asked := q.Option(dns.EDNS0TCPKEEPALIVE); asked {
			options = append(options, s.fair.keepalive...)
		}
	}
	s.options, q.Options = options, options
	return state
}

// throttle answers a question of a client network that takes too much, or
// reports false.
func (s *session) throttle(dst []byte, from transport.Meta, has cookie.State, limit int) ([]byte, transport.Verdict, bool) {
	f := s.fair
	if f.queries == nil && f.udpReplies == nil {
		return nil, 0, false
	}
	now := s.clock()
	udp := from.Transport == blocklog.UDP
	switch {
	case !f.queries.Allow(from.Peer.Addr(), now):
		f.throttled.WithLabelValues("queries").Inc()
		if udp {
			return dst, transport.Drop, true
		}
		return wire.AppendError(dst, &s.query, dns.RcodeRefused, limit, tooMany), transport.Reply, true
	case udp && has != cookie.Good && !f.udpReplies.Allow(from.Peer.Addr(), now):
		f.throttled.WithLabelValues("udp_replies").Inc()
		// Half get nothing; the others a reply no longer than the question that
		// lets a client show its address: by a cookie, or by TCP. A forged source
		// can do neither.
		s.slip = !s.slip
		switch {
		case s.slip:
			return dst, transport.Drop, true
		case has == cookie.New:
			return wire.AppendError(dst, &s.query, dns.RcodeBadCookie, limit), transport.Reply, true
		}
		return wire.AppendTruncated(dst, &s.query, limit), transport.Reply, true
	}
	return nil, 0, false
}

// tooMany is said to a client that can be told (RFC 8914 §4.19).
var tooMany = wire.EDE{Code: dns.ExtendedErrorCodeProhibited, Text: "too many questions from this network"}

// Prices are what the steps of a resolution cost in processor time, rather too
// much than too little (docs/decisions/0034): what is charged is counted and not
// measured, so that it does not depend on what else the machine does.
const (
	priceOfAQuestion  = 60 * time.Microsecond
	priceOfAQuery     = 120 * time.Microsecond // to a server, with its reply
	priceOfASignature = 150 * time.Microsecond // of ECDSA P-256
	priceOfAHash      = 20 * time.Microsecond  // with the most iterations that are computed
)

// price is what a resolution has cost, besides the question itself.
func price(s iterate.Spent) time.Duration {
	return time.Duration(s.Queries)*priceOfAQuery + time.Duration(s.Signatures)*priceOfASignature + time.Duration(s.Hashes)*priceOfAHash
}

// overWorked answers a question that has to wait, of a client network whose part
// of the resolutions is used up; nil: nothing is sent.
func (r *Resolver) overWorked(packet []byte, from transport.Meta) []byte {
	r.fair.throttled.WithLabelValues("work").Inc()
	var q wire.Query
	if from.Transport == blocklog.UDP || q.Parse(packet) != nil {
		return nil
	}
	return wire.AppendError(nil, &q, dns.RcodeServerFailure, q.Limit(true), tooMany)
}
