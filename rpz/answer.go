package rpz

import (
	"errors"
	"iter"
	"net"

	"github.com/miekg/dns"
)

// accept looks at the header of what comes in: anything but one question gets no
// answer at all.
func accept(h dns.Header) dns.MsgAcceptAction {
	const response = 1 << 15
	opcode := int(h.Bits>>11) & 0xF
	if h.Bits&response != 0 || opcode != dns.OpcodeQuery || h.Qdcount != 1 || h.Ancount != 0 || h.Nscount > 1 || h.Arcount > 2 {
		return dns.MsgIgnore
	}
	return dns.MsgAccept
}

// Why something was refused, as it stands in the metrics.
const (
	refusedAddress   = "address"   // not that of a peer
	refusedUnsigned  = "unsigned"  //
	refusedSignature = "signature" // of no key, a wrong one, another peer's, or another time
	refusedQuestion  = "question"  // of a peer: neither a transfer of the zone nor its SOA
)

var refusals = []string{refusedAddress, refusedUnsigned, refusedSignature, refusedQuestion}

// ServeDNS answers one message (dns.Handler). The server has verified the signature,
// if there is one.
func (p *Primary) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	from, why := p.whoAsks(w, q)
	if from == nil {
		p.refuse(w, q, why)
		return
	}
	question := q.Question[0]
	if dns.CanonicalName(question.Name) != p.c.Zone || question.Qclass != dns.ClassINET {
		p.refuse(w, q, refusedQuestion)
		return
	}
	_, overTCP := w.RemoteAddr().(*net.TCPAddr)
	switch {
	case question.Qtype == dns.TypeSOA:
	case question.Qtype == dns.TypeIXFR:
	case question.Qtype == dns.TypeAXFR && overTCP: // RFC 5936 §4.2
	default:
		p.refuse(w, q, refusedQuestion)
		return
	}
	now := p.now.Load()
	if now == nil {
		p.complain(from.Name+"unloaded", "policy zone not given: no list is loaded yet", "peer", from.Name)
		p.fail(w, q, from)
		return
	}
	if question.Qtype == dns.TypeSOA {
		p.write(w, q, from, []dns.RR{now.zone.soa()})
		return
	}
	p.transfer(w, q, from, now, overTCP)
}

// whoAsks finds the peer whose address and key it is, or says what is wrong.
func (p *Primary) whoAsks(w dns.ResponseWriter, q *dns.Msg) (from *peer, why string) {
	address := addressOf(w.RemoteAddr())
	if p.known[address] == "" {
		return nil, refusedAddress
	}
	sig := q.IsTsig()
	if sig == nil {
		return nil, refusedUnsigned
	}
	if w.TsigStatus() != nil {
		return nil, refusedSignature
	}
	if from = p.peers[door{address, dns.CanonicalName(sig.Hdr.Name)}]; from == nil {
		return nil, refusedSignature
	}
	return from, ""
}

// refuse says REFUSED and nothing else: no signature, which would tell a key's
// name from none, and nothing of the zone.
func (p *Primary) refuse(w dns.ResponseWriter, q *dns.Msg, why string) {
	p.metrics.refused.WithLabelValues(why).Inc()
	if who := p.known[addressOf(w.RemoteAddr())]; who != "" {
		// An operator looks for this; who else asks is nobody's business.
		p.complain(why+who, "a peer was refused the policy zone", "peer", who, "because", refusalText(why, w.TsigStatus()))
	}
	m := new(dns.Msg)
	m.SetRcode(q, dns.RcodeRefused)
	_ = w.WriteMsg(m) // who went away gets nothing
}

func refusalText(why string, status error) string {
	switch {
	case why == refusedUnsigned:
		return "it did not sign; give the peer its key"
	case why == refusedQuestion:
		return "it asked for something else than the zone's SOA or a transfer of it; is the zone's name right there?"
	case errors.Is(status, dns.ErrTime):
		return "its clock differs from this one by more than five minutes"
	case errors.Is(status, dns.ErrKeyAlg):
		return "it signed with another algorithm than the key's"
	}
	return "it signed with a key or a secret that is not that peer's"
}

// complain writes a line into the log, at most once in a while.
func (p *Primary) complain(what, text string, args ...any) {
	p.mu.Lock()
	now := p.c.Clock()
	said, before := p.quiet[what]
	tell := !before || now.Sub(said) >= quietFor
	if tell {
		p.quiet[what] = now
	}
	p.mu.Unlock()
	if tell {
		p.c.Log.Warn(text, args...)
	}
}

// fail tells a peer to come again.
func (p *Primary) fail(w dns.ResponseWriter, q *dns.Msg, to *peer) {
	m := new(dns.Msg)
	m.SetRcode(q, dns.RcodeServerFailure)
	p.sign(m, to)
	_ = w.WriteMsg(m) // who went away comes again anyway
}

// write sends one message of an answer, signed.
func (p *Primary) write(w dns.ResponseWriter, q *dns.Msg, to *peer, records []dns.RR) error {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	m.Compress = true
	m.Answer = records
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(dns.DefaultMsgSize, false)
	}
	p.sign(m, to)
	return w.WriteMsg(m)
}

func (p *Primary) sign(m *dns.Msg, to *peer) {
	m.SetTsig(to.key.Name, to.key.Algorithm, fudge, p.c.Clock().Unix())
}

// Kinds of transfers and what became of them, as they stand in the metrics.
const (
	kindFull        = "axfr"
	kindIncremental = "ixfr"
	kindNone        = "current" // the peer has the zone already

	resultSent   = "sent"
	resultFailed = "failed" // the peer did not take it
	resultBusy   = "busy"   // it has transfers enough under way
)

// transfer gives the zone, or what has changed in it.
func (p *Primary) transfer(w dns.ResponseWriter, q *dns.Msg, to *peer, now *history, overTCP bool) {
	select {
	case to.slots <- struct{}{}:
		defer func() { <-to.slots }()
	default:
		p.metrics.transfers.WithLabelValues(to.Name, kindFull, resultBusy).Inc()
		p.complain(to.Name+resultBusy, "policy zone not given: the peer has transfers under way that it does not read", "peer", to.Name)
		p.fail(w, q, to)
		return
	}
	records, kind := now.zone.All(), kindFull
	if q.Question[0].Qtype == dns.TypeIXFR {
		serial, has := serialOf(q)
		if has {
			p.metrics.has(to.Name, serial)
		}
		since := now.since(serial)
		switch {
		case has && !after(now.zone.serial, serial):
			records, kind = one(now.zone.soa()), kindNone
			if serial != now.zone.serial {
				p.complain(to.Name+"ahead", "a peer has a newer policy zone than there is; until it fetches it anew, it keeps what it has", "peer", to.Name, "its_serial", serial, "serial", now.zone.serial)
			}
		case !overTCP: // RFC 1995 §2: the peer comes by TCP
			records, kind = one(now.zone.soa()), kindNone
		case has && since != nil:
			records, kind = now.incremental(since), kindIncremental
		}
	}
	if err := p.send(w, q, to, records); err != nil {
		p.metrics.transfers.WithLabelValues(to.Name, kind, resultFailed).Inc()
		p.c.Log.Warn("policy zone not taken", "peer", to.Name, "kind", kind, "serial", now.zone.serial, "error", err)
		_ = w.Close() // half a transfer must not be taken for a whole one
		return
	}
	p.metrics.transfers.WithLabelValues(to.Name, kind, resultSent).Inc()
	if kind == kindNone {
		return
	}
	p.metrics.has(to.Name, now.zone.serial)
	p.c.Log.Info("policy zone given", "peer", to.Name, "kind", kind, "serial", now.zone.serial)
}

func one(rr dns.RR) iter.Seq[dns.RR] { return func(yield func(dns.RR) bool) { yield(rr) } }

// serialOf is the serial that the peer has (RFC 1995 §3).
func serialOf(q *dns.Msg) (serial uint32, has bool) {
	if len(q.Ns) != 1 {
		return 0, false
	}
	soa, ok := q.Ns[0].(*dns.SOA)
	if !ok {
		return 0, false
	}
	return soa.Serial, true
}

// A message of a transfer is at most 64 KiB long (RFC 1035 §4.2.2). It is filled by
// the length that records have without compression, so that it never grows past
// that.
const maxFilled = 60 << 10

// send writes records, many in a message.
func (p *Primary) send(w dns.ResponseWriter, q *dns.Msg, to *peer, records iter.Seq[dns.RR]) error {
	var batch []dns.RR
	filled := 0
	flush := func() error {
		err := p.write(w, q, to, batch)
		w.TsigTimersOnly(true) // RFC 8945 §5.3.1: after the first message
		batch, filled = batch[:0], 0
		return err
	}
	for rr := range records {
		length := dns.Len(rr)
		if filled+length > maxFilled {
			if err := flush(); err != nil {
				return err
			}
		}
		batch, filled = append(batch, rr), filled+length
	}
	return flush()
}
