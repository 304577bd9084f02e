package iterate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/miekg/dns"
)

// exchange asks one server: with EDNS and a cookie unless it is known not to
// understand, and over TCP when the reply is cut short (RFC 7766 §5) or could be
// anybody's.
func (t *task) exchange(ctx context.Context, z *zone, server netip.AddrPort, q Question) (*dns.Msg, error) {
	known, addr := t.r.servers, server.Addr()
	k := flightKey{server: server, Question: q, recurse: z.forward}
	// Without EDNS there are no signatures, so a signed zone is never asked so.
	plain := z.status < signedZone && known.plain(addr)
	k.edns, k.cookie, k.stream = !plain, !plain && known.sendsCookie(addr), known.altersCase(addr)
	msg, err := t.believed(ctx, z, &k)
	if err != nil {
		return nil, err
	}
	unknown := msg.Rcode == dns.RcodeFormatError || msg.Rcode == dns.RcodeNotImplemented
	if unknown && msg.IsEdns0() == nil && !plain && z.status < signedZone && known.mayBePlain(addr) {
		k.edns, k.cookie = false, false
		again, err := t.believed(ctx, z, &k)
		if err != nil {
			return nil, err
		}
		if again.Rcode != msg.Rcode {
			known.setPlain(addr)
		} else {
			k.edns = true
		}
		msg = again
	} else if msg.Rcode == dns.RcodeFormatError && k.cookie && known.mayDropCookie(addr) {
		k.cookie = false
		if msg, err = t.believed(ctx, z, &k); err != nil {
			return nil, err
		}
		if msg.Rcode != dns.RcodeFormatError {
			known.dropCookie(addr)
		}
	}
	if msg.Truncated && !k.stream {
		k.stream = true
		return t.believed(ctx, z, &k)
	}
	return msg, nil
}

// believed sends k and gets a reply that can be believed, by TCP if need be, which
// k then says.
func (t *task) believed(ctx context.Context, z *zone, k *flightKey) (*dns.Msg, error) {
	known, addr := t.r.servers, k.server.Addr()
	msg, err := t.send(ctx, z, *k)
	if k.stream && err != nil && asFailure(err).kind == unreachable {
		known.setAltersCase(addr, false) // it may do better by UDP
	}
	if doubted, altersCase := doubt(err); doubted {
		// Either a forger or the server itself, which is then asked by TCP at once
		// for a while; if it cannot do that, the forger gains nothing by it.
		k.stream = true
		if msg, err = t.send(ctx, z, *k); err == nil && altersCase {
			known.setAltersCase(addr, true)
		}
	}
	for tries := 0; err == nil && msg.Rcode == dns.RcodeBadCookie && k.cookie && tries < 2; tries++ {
		k.stream = k.stream || tries > 0 // once with the cookie just learned, then by TCP (RFC 7873 §5.3)
		msg, err = t.send(ctx, z, *k)
	}
	return msg, err
}

// doubt says whether err is of a reply that could be anybody's, and whether that
// is for the case of its question.
func doubt(err error) (doubted, altersCase bool) {
	var e interface{ AlteredCase() bool }
	if !errors.As(err, &e) {
		return false, false
	}
	return true, e.AlteredCase()
}

// send sends one query and waits for its reply, together with whoever else asks
// the same now.
func (t *task) send(ctx context.Context, z *zone, k flightKey) (*dns.Msg, error) {
	if err := t.alive(ctx); err != nil {
		return nil, err
	}
	if err := spend(&t.spent.Queries, t.r.config.Limits.Queries, "queries"); err != nil {
		return nil, err
	}
	r, addr := t.r, k.server.Addr()
	timeout := r.servers.timeout(addr)
	if k.stream {
		timeout = maxTimeout // the handshake and a long reply take round trips of their own
	}
	counts := z.name
	if z.forward {
		counts = ""
	}
	msg, err := r.flights.do(ctx, k, counts, timeout, func(ctx context.Context) (*dns.Msg, error) {
		return r.exchange(ctx, k)
	})
	if err != nil {
		if gone := t.alive(ctx); gone != nil {
			return nil, gone
		}
		f := &failure{kind: unreachable, code: dns.ExtendedErrorCodeNoReachableAuthority, text: fmt.Sprintf("asking %s: %v", addr, err), cause: err}
		if errors.Is(err, errZoneBusy) || errors.Is(err, errServerBusy) {
			f.kind, f.text = overload, z.name+": "+err.Error()
		}
		return nil, f
	}
	// A message can hold thousands of records, none of them of use.
	t.spent.Records += len(msg.Answer) + len(msg.Ns) + len(msg.Extra)
	if t.spent.Records > r.config.Limits.Records {
		return nil, &failure{kind: outOfBudget, code: dns.ExtendedErrorCodeOther, text: "limit of one request reached: records"}
	}
	return msg, nil
}

// exchange carries out what k stands for, and notes what it shows of the server.
func (r *Resolver) exchange(ctx context.Context, k flightKey) (*dns.Msg, error) {
	addr, cookie := k.server.Addr(), ""
	if k.cookie {
		cookie = r.servers.cookieFor(addr)
	}
	start := r.config.Clock()
	msg, err := r.config.Exchange.Exchange(ctx, k.server, k.query(cookie), k.stream)
	doubted, _ := doubt(err)
	switch {
	case err != nil && !doubted && (ctx.Err() == nil || context.Cause(ctx) == errNoReply):
		r.servers.silent(addr)
	case err == nil && !k.stream:
		r.servers.answered(addr, r.config.Clock().Sub(start), k, msg.IsEdns0() != nil)
	}
	if err == nil && cookie != "" {
		r.servers.learnCookie(addr, cookie, msg, k.stream)
	}
	return msg, err
}

// alive returns the failure that ctx's end means, if it has ended.
func (t *task) alive(ctx context.Context) error {
	switch cause := context.Cause(ctx); cause {
	case nil:
		return nil
	case errOutOfTime:
		return &failure{kind: outOfBudget, code: dns.ExtendedErrorCodeNoReachableAuthority, text: "limit of one request reached: time"}
	default:
		return &failure{kind: cancelled, code: dns.ExtendedErrorCodeOther, text: cause.Error()}
	}
}

// query is the message that k stands for, with cookie unless that is "".
func (k flightKey) query(cookie string) *dns.Msg {
	m := new(dns.Msg)
	m.RecursionDesired = k.recurse
	m.CheckingDisabled = k.recurse // it is checked here
	m.Question = []dns.Question{{Name: k.Name, Qtype: k.Type, Qclass: dns.ClassINET}}
	if k.edns {
		m.SetEdns0(ednsSize, true)
	}
	if cookie != "" {
		opt := m.IsEdns0()
		opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie})
	}
	return m
}
