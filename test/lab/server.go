package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

const (
	udpSize      = 1232 // of answers over UDP, in bytes (RFC 9715)
	streamIdle   = 10 * time.Second
	portAttempts = 20
)

// Server answers for an internet on its loopback addresses, UDP and TCP.
type Server struct {
	port    uint16
	servers []*dns.Server
}

// Listen opens the given port at each address of the internet; 0 stands for a
// port that is free at all of them. Serve has to be called after it, or Close.
func (i *Internet) Listen(port uint16) (*Server, error) {
	attempts := 1
	if port == 0 {
		attempts = portAttempts
	}
	var err error
	for range attempts {
		var s *Server
		if s, err = i.listen(port); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func (i *Internet) listen(port uint16) (_ *Server, err error) {
	s := &Server{port: port}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	for _, address := range i.Servers() {
		var zones []*signedZone
		for _, z := range i.zones {
			for _, a := range z.servers {
				if a == address {
					zones = append(zones, z)
				}
			}
		}
		handler := handlerFor(zones)
		at := net.JoinHostPort(address.String(), strconv.Itoa(int(s.port)))
		packets, err := net.ListenPacket("udp", at)
		if err != nil {
			return nil, fmt.Errorf("laboratory server: %w", err)
		}
		s.servers = append(s.servers, &dns.Server{PacketConn: packets, Handler: handler, UDPSize: udpSize})
		s.port = packets.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		streams, err := net.Listen("tcp", netip.AddrPortFrom(address, s.port).String())
		if err != nil {
			return nil, fmt.Errorf("laboratory server: %w", err)
		}
		s.servers = append(s.servers, &dns.Server{
			Listener: streams, Handler: handler, ReadTimeout: streamIdle, WriteTimeout: streamIdle,
			MaxTCPQueries: -1, // on one connection: no limit
			IdleTimeout:   func() time.Duration { return streamIdle },
		})
	}
	return s, nil
}

// Port is the one that all addresses listen on.
func (s *Server) Port() uint16 { return s.port }

// Close gives the ports up without serving.
func (s *Server) Close() {
	for _, d := range s.servers {
		if d.PacketConn != nil {
			_ = d.PacketConn.Close()
		}
		if d.Listener != nil {
			_ = d.Listener.Close()
		}
	}
}

// Serve answers until ctx ends, then closes the ports.
func (s *Server) Serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, d := range s.servers {
		started := make(chan struct{})
		d.NotifyStartedFunc = func() { close(started) }
		ended := make(chan struct{})
		group.Go(func() error {
			defer close(ended)
			if err := d.ActivateAndServe(); err != nil && !errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("laboratory server: %w", err)
			}
			return nil
		})
		group.Go(func() error {
			// A server can be shut down only after it has started.
			select {
			case <-started:
			case <-ended:
				return nil
			}
			<-ctx.Done()
			return d.ShutdownContext(context.WithoutCancel(ctx))
		})
	}
	return group.Wait()
}

// handlerFor answers from the zones of one address.
func handlerFor(zones []*signedZone) dns.HandlerFunc {
	return func(w dns.ResponseWriter, query *dns.Msg) {
		msg := new(dns.Msg)
		msg.SetReply(query)
		msg.RecursionAvailable = false
		limit := dns.MaxMsgSize
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			limit = dns.MinMsgSize
		}
		opt := query.IsEdns0()
		do := opt != nil && opt.Do()
		if opt != nil {
			msg.SetEdns0(udpSize, do)
			if limit == dns.MinMsgSize {
				limit = min(max(int(opt.UDPSize()), dns.MinMsgSize), udpSize)
			}
		}
		switch {
		case opt != nil && opt.Version() != 0:
			msg.Rcode = dns.RcodeBadVers
		case query.Opcode != dns.OpcodeQuery:
			msg.Rcode = dns.RcodeNotImplemented
		case len(query.Question) != 1:
			msg.Rcode = dns.RcodeFormatError
		case query.Question[0].Qclass != dns.ClassINET || query.Question[0].Qtype == dns.TypeAXFR || query.Question[0].Qtype == dns.TypeIXFR:
			msg.Rcode = dns.RcodeRefused
		default:
			answer(zones, msg, do)
		}
		msg.Truncate(limit)
		_ = w.WriteMsg(msg) // an asker who has gone needs nothing more
	}
}
