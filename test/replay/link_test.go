package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
	"go.uber.org/goleak"

	"cordon/test/stage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers by every transport; its pointer is a process of no weight.
type server struct {
	addresses map[string]netip.AddrPort // by the transport's name
	reply     func(message []byte) []byte
	drop      atomic.Bool  // end each connection instead of the first answer
	seen      atomic.Int64 // connections
}

func (*server) Usage() (stage.Usage, error) { return stage.Usage{}, nil }
func (*server) Alive() error                { return nil }

// good answers NOERROR.
func good(message []byte) []byte {
	b := append([]byte(nil), message...)
	b[2] |= 0x80
	return b
}

func withRcode(code byte) func([]byte) []byte {
	return func(message []byte) []byte {
		b := good(message)
		b[3] |= code
		return b
	}
}

func serve(t *testing.T, reply func([]byte) []byte) *server {
	t.Helper()
	s := &server{addresses: map[string]netip.AddrPort{}, reply: reply}
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		message, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.ProtoMajor != 2 || r.Header.Get("Content-Type") != "application/dns-message" {
			http.Error(w, "not DoH", http.StatusBadRequest)
			return
		}
		if s.drop.CompareAndSwap(true, false) {
			panic(http.ErrAbortHandler)
		}
		if answer := s.reply(message); answer != nil {
			_, _ = w.Write(answer)
		} else {
			<-r.Context().Done()
		}
	}))
	web.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.seen.Add(1)
		}
	}
	web.EnableHTTP2 = true
	web.StartTLS()
	t.Cleanup(func() { web.CloseClientConnections(); web.Close() })
	s.addresses["doh"] = web.Listener.Addr().(*net.TCPAddr).AddrPort()
	conf := &tls.Config{Certificates: web.TLS.Certificates, NextProtos: []string{"dot", "doq"}}

	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"tcp": func(c net.Conn) net.Conn { return c },
		"dot": func(c net.Conn) net.Conn { return tls.Server(c, conf) },
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		s.addresses[name] = l.Addr().(*net.TCPAddr).AddrPort()
		all.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				s.seen.Add(1)
				all.Go(func() { s.stream(wrap(c)) })
			}
		})
	}
	l, err := quic.ListenAddr("127.0.0.1:0", conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s.addresses["doq"] = l.Addr().(*net.UDPAddr).AddrPort()
	all.Go(func() { s.quic(t.Context(), l, &all) })
	return s
}

func (s *server) stream(c net.Conn) {
	defer c.Close()
	for {
		message, err := readFramed(c, new([]byte))
		if err != nil || s.drop.CompareAndSwap(true, false) {
			return
		}
		if answer := s.reply(message); answer != nil {
			if _, err := c.Write(framed(nil, answer)); err != nil {
				return
			}
		}
	}
}

func (s *server) quic(ctx context.Context, l *quic.Listener, all *sync.WaitGroup) {
	for {
		conn, err := l.Accept(ctx)
		if err != nil {
			return
		}
		s.seen.Add(1)
		all.Go(func() {
			for {
				stream, err := conn.AcceptStream(context.Background()) // ends with the connection, which the client ends
				if err != nil {
					return
				}
				message, err := readFramed(stream, new([]byte))
				if err != nil {
					continue
				}
				if s.drop.CompareAndSwap(true, false) {
					_ = conn.CloseWithError(0, "")
					return
				}
				if answer := s.reply(message); answer != nil {
					_, _ = stream.Write(framed(nil, answer))
				}
				_ = stream.Close()
			}
		})
	}
}

// replayed runs a few clients over one transport.
func replayed(t *testing.T, s *server, over *transport) *result {
	t.Helper()
	o := &options{seed: 1, time: 200 * time.Millisecond, late: 2 * time.Second, timeout: 3 * time.Second}
	wire, err := query("www.site1.bench.", dns.TypeA, over.tls)
	if err != nil {
		t.Fatal(err)
	}
	conf := &tls.Config{InsecureSkipVerify: true, ServerName: "example.com", NextProtos: []string{over.alpn}}
	r, err := o.run(t.Context(), over, s, s.addresses[over.name], [][]byte{wire}, 300, conf)
	if err != nil {
		t.Fatal(err)
	}
	if r.asked < 10 {
		t.Fatalf("%d questions: too few to show anything", r.asked)
	}
	return r
}

func TestEveryTransportBringsItsAnswers(t *testing.T) {
	for _, over := range transports {
		t.Run(over.name, func(t *testing.T) {
			s := serve(t, func(message []byte) []byte {
				if id := binary.BigEndian.Uint16(message); over.tls && over.alpn != "dot" && id != 0 {
					t.Errorf("ID %d where RFC 8484 and RFC 9250 want 0", id)
				}
				return good(message)
			})
			r := replayed(t, s, over)
			if r.answered != r.asked || r.failed != 0 || r.bad() != 0 || r.refused != 0 {
				t.Errorf("%+v", r)
			}
			if r.opened != s.seen.Load() || r.opened >= r.asked {
				t.Errorf("%d connections, the server saw %d, for %d questions", r.opened, s.seen.Load(), r.asked)
			}
		})
	}
}

func TestAConnectionThatEndsIsReplacedAndItsQuestionsAskedAgain(t *testing.T) {
	for _, over := range transports {
		t.Run(over.name, func(t *testing.T) {
			s := serve(t, good)
			s.drop.Store(true)
			r := replayed(t, s, over)
			if s.drop.Load() {
				t.Fatal("no connection was dropped")
			}
			// An aborted request of HTTP/2 is a failed answer, not the end of the connection.
			if over.name == "doh" && r.failed == 1 && r.answered == r.asked-1 {
				return
			}
			if r.answered != r.asked {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestAFailureIsNoAnswer(t *testing.T) {
	for _, over := range transports {
		t.Run(over.name, func(t *testing.T) {
			r := replayed(t, serve(t, withRcode(dns.RcodeServerFailure)), over)
			if r.failed != r.asked || r.answered != 0 || r.bad() != 1 {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestASessionIsResumed(t *testing.T) {
	for _, over := range transports {
		if !over.tls {
			continue
		}
		t.Run(over.name, func(t *testing.T) {
			s := serve(t, good)
			conf := &tls.Config{InsecureSkipVerify: true, ServerName: "example.com", NextProtos: []string{over.alpn}}
			c := &client{}
			for range 2 {
				r := &replay{options: &options{timeout: 3 * time.Second, late: time.Second}, transport: over, server: s.addresses[over.name], tls: conf, began: time.Now()}
				if over.quic {
					paths, err := openPaths()
					if err != nil {
						t.Fatal(err)
					}
					defer closePaths(paths)
					r.paths = paths
				}
				wire, err := query("www.site1.bench.", dns.TypeA, true)
				if err != nil {
					t.Fatal(err)
				}
				r.ask(c, question{wire: wire, counts: true})
				r.asked.Add(1)
				r.waitForAnswers()
				r.over.Store(true)
				c.link.stop()
				r.links.Wait()
				if r.answered.Load() != 1 {
					t.Fatal("no answer")
				}
				if _, kept := c.session.Get(""); !kept {
					t.Fatal("no session is kept")
				}
				if c.link = nil; r.resumed.Load() == 1 {
					return
				}
			}
			t.Error("the second connection is not a resumption")
		})
	}
}

func TestSilenceIsLost(t *testing.T) {
	s := serve(t, func([]byte) []byte { return nil })
	o := &options{seed: 1, time: 200 * time.Millisecond, late: 100 * time.Millisecond, timeout: 100 * time.Millisecond}
	r, err := o.run(t.Context(), transports[0], s, s.addresses["tcp"], [][]byte{make([]byte, 12)}, 300, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.answered != 0 || r.bad() != 1 {
		t.Errorf("%+v", r)
	}
}
