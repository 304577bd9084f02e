package rpz

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// What became of a notification, as it stands in the metrics.
const (
	notifyTaken      = "acknowledged"
	notifyRefused    = "refused"    // the peer answered with an error
	notifyUnanswered = "unanswered" // after all tries
)

// A notification is repeated with longer and longer waits (RFC 1996 §3.6): after 1, 2,
// 4, 8 and 16 seconds. A peer that none reaches asks by itself, see refresh.
const (
	notifyTries = 6
	notifyWait  = time.Second // for the first answer
)

// notify tells one peer of each new zone, until ctx ends.
func (p *Primary) notify(ctx context.Context, to *peer) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-to.news:
		}
		result := p.tell(ctx, to)
		if ctx.Err() != nil {
			return
		}
		p.metrics.notifies.WithLabelValues(to.Name, result).Inc()
		if result != notifyTaken {
			p.complain(to.Name+result, "a peer was not told of the new policy zone; it finds out when it next asks", "peer", to.Name, "result", result)
		}
	}
}

// tell sends the notification until it is answered.
func (p *Primary) tell(ctx context.Context, to *peer) string {
	wait := notifyWait
	for range notifyTries {
		m := new(dns.Msg)
		m.SetNotify(p.c.Zone)
		p.sign(m, to)
		client := dns.Client{Net: "udp", Timeout: wait, TsigProvider: p.c.Keys, Dialer: &net.Dialer{LocalAddr: p.sourceFor(to.Notify.Addr())}}
		begun := time.Now()
		reply, _, err := client.ExchangeContext(ctx, m, to.Notify.String())
		switch {
		case ctx.Err() != nil:
			return notifyUnanswered
		case err == nil && reply.Rcode == dns.RcodeSuccess:
			return notifyTaken
		case err == nil:
			return notifyRefused
		}
		// An error that comes at once (nobody listens there) is no reason to hurry.
		rest := time.NewTimer(wait - time.Since(begun))
		select {
		case <-ctx.Done():
		case <-rest.C:
		}
		rest.Stop()
		wait *= 2
	}
	return notifyUnanswered
}

// sourceFor is the address that a notification leaves from: one that peers ask at,
// since they take notifications from there alone.
func (p *Primary) sourceFor(to netip.Addr) net.Addr {
	for _, at := range p.c.Listen {
		if a := at.Addr(); !a.IsUnspecified() && a.Is4() == to.Unmap().Is4() {
			return net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
		}
	}
	return nil
}
