package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"cordon/test/lab"
)

var (
	rootAt = netip.MustParseAddr("127.0.61.1")
	fillAt = netip.MustParseAddr("127.0.61.2")
)

// The zones of the authority. It has an address for every name of fill. and of
// known., and no name below none. does exist.
const (
	fillZone  = "fill."
	knownZone = "known."
	noneZone  = "none."
)

// laboratory is a root and the zones that an authority makes up.
type laboratory struct {
	inet  *lab.Internet
	stop  context.CancelFunc
	ended chan error

	conn  *net.UDPConn
	group sync.WaitGroup
	// key signs fill., where it is signed.
	key     *dns.DNSKEY
	private crypto.Signer

	asked      atomic.Int64 // questions that came to the authority
	askedKnown atomic.Int64 // of these, for names of known.
}

// openLaboratory starts its servers.
func openLaboratory(signed bool) (_ *laboratory, err error) {
	l := &laboratory{ended: make(chan error, 1)}
	root := lab.Zone{Name: ".", Servers: []netip.Addr{rootAt}, Denial: lab.NSEC, Records: fmt.Sprintf(
		"$TTL 86400\n@ SOA a.servers. hostmaster.servers. 2026010101 7200 3600 1209600 300\n@ NS a.servers.\na.servers. A %s\n", rootAt)}
	for _, z := range []string{fillZone, knownZone, noneZone} {
		root.Records += fmt.Sprintf("%[1]s NS ns.%[1]s\nns.%[1]s A %[2]s\n", z, fillAt)
	}
	if signed {
		l.key = &dns.DNSKEY{Hdr: dns.RR_Header{Name: fillZone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 86400}, Flags: dns.ZONE | dns.SEP, Protocol: 3, Algorithm: dns.ECDSAP256SHA256}
		private, err := l.key.Generate(256)
		if err != nil {
			return nil, err
		}
		l.private = private.(crypto.Signer)
		root.Records += l.key.ToDS(dns.SHA256).String() + "\n"
	}
	if l.inet, err = lab.Build([]lab.Zone{root}, time.Now()); err != nil {
		return nil, err
	}
	server, err := l.inet.Listen(53)
	if err != nil {
		return nil, err
	}
	if l.conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(fillAt, 53))); err != nil {
		server.Close()
		return nil, err
	}
	if err := l.conn.SetReadBuffer(8 << 20); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	go func() { l.ended <- server.Serve(ctx) }()
	for range 4 {
		l.group.Go(l.serve)
	}
	return l, nil
}

func (l *laboratory) close() error {
	l.stop()
	err := errors.Join(l.conn.Close(), <-l.ended)
	l.group.Wait()
	return err
}

func (l *laboratory) serve() {
	packet := make([]byte, 4096)
	for {
		n, from, err := l.conn.ReadFromUDPAddrPort(packet)
		if err != nil {
			return // closed
		}
		q := new(dns.Msg)
		if q.Unpack(packet[:n]) != nil || len(q.Question) != 1 {
			continue
		}
		if reply, err := l.answer(q).Pack(); err == nil {
			_, _ = l.conn.WriteToUDPAddrPort(reply, from)
		}
	}
}

// answer makes up what the authority says.
func (l *laboratory) answer(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative, m.Compress = true, true
	opt := q.IsEdns0()
	if opt != nil {
		m.SetEdns0(1232, opt.Do())
	}
	name, t := dns.CanonicalName(q.Question[0].Name), q.Question[0].Qtype
	zone := name[strings.LastIndexByte(strings.TrimSuffix(name, "."), '.')+1:]
	l.asked.Add(1)
	if zone == knownZone {
		l.askedKnown.Add(1)
	}
	header := dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: 86400}
	switch {
	case t == dns.TypeDNSKEY && name == fillZone && l.key != nil:
		m.Answer = append(m.Answer, l.key)
	case zone == noneZone && name != noneZone:
		m.Rcode = dns.RcodeNameError
	case t == dns.TypeNS && name == zone:
		m.Answer = append(m.Answer, &dns.NS{Hdr: header, Ns: "ns." + zone})
	case t == dns.TypeA && name == "ns."+zone:
		m.Answer = append(m.Answer, &dns.A{Hdr: header, A: fillAt.AsSlice()})
	case t == dns.TypeA && name != zone:
		m.Answer = append(m.Answer, &dns.A{Hdr: header, A: net.IPv4(192, 0, 2, byte(len(name)))})
	}
	if len(m.Answer) == 0 {
		m.Ns = append(m.Ns, &dns.SOA{Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 3600}, Ns: "ns." + zone, Mbox: "hostmaster." + zone, Serial: 1, Refresh: 7200, Retry: 3600, Expire: 1209600, Minttl: 3600})
		return m
	}
	if zone == fillZone && l.key != nil && opt != nil && opt.Do() {
		m.Answer = append(m.Answer, l.sign(m.Answer))
	}
	return m
}

func (l *laboratory) sign(set []dns.RR) *dns.RRSIG {
	now := time.Now()
	sig := &dns.RRSIG{
		Hdr: dns.RR_Header{Ttl: set[0].Header().Ttl}, KeyTag: l.key.KeyTag(), SignerName: fillZone, Algorithm: l.key.Algorithm,
		Inception: uint32(now.Add(-time.Hour).Unix()), Expiration: uint32(now.Add(30 * 24 * time.Hour).Unix()), //nolint:gosec // until 2106
	}
	if err := sig.Sign(l.private, set); err != nil {
		panic(err) // the key has no tag, one time in 65,536
	}
	return sig
}
