package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cordon/test/await"
)

// hostileServer serves a folder over TLS until it is told otherwise.
type hostileServer struct {
	*httptest.Server
	evil        atomic.Pointer[answerer]
	certificate atomic.Pointer[tls.Certificate] // another than its own
	ended       chan struct{}                   // closed when the test ends, for answers that do not
}

// answerer answers a request; false leaves it to the folder.
type answerer func(w http.ResponseWriter, r *http.Request) bool

func serveHostile(t *testing.T, dir string) *hostileServer {
	s := &hostileServer{ended: make(chan struct{})}
	files := http.FileServer(http.Dir(dir))
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if evil := s.evil.Load(); evil != nil && (*evil)(w, r) {
			return
		}
		files.ServeHTTP(w, r)
	}))
	s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if c := s.certificate.Load(); c != nil {
			return &tls.Config{Certificates: []tls.Certificate{*c}}, nil
		}
		return nil, nil // its own
	}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // it would tell of each attack
	s.StartTLS()
	t.Cleanup(func() {
		close(s.ended)
		s.Close()
	})
	return s
}

func (s *hostileServer) turns(evil answerer) { s.evil.Store(&evil) }

// always answers each request.
func always(answer func(w http.ResponseWriter, r *http.Request)) answerer {
	return func(w http.ResponseWriter, r *http.Request) bool {
		answer(w, r)
		return true
	}
}

// on answers requests for paths that hold a text.
func on(part string, answer func(w http.ResponseWriter, r *http.Request)) answerer {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, part) {
			return false
		}
		answer(w, r)
		return true
	}
}

// hijacked answers with bytes of one's own.
func hijacked(say func(c net.Conn)) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		say(c)
	}
}

// endless writes until the other side has had enough.
func endless(w io.Writer, what string) {
	block := strings.Repeat(what, 1+32<<10/len(what))
	for {
		if _, err := io.WriteString(w, block); err != nil {
			return
		}
	}
}

// Whoever has the server, or the way to it, can withhold what is published, and
// make the resolver wait, but not for ever, and not its clients.
func TestAttacksByTheServer(t *testing.T) {
	t.Parallel()
	s := surround(t)
	server := serveHostile(t, s.shown)
	s.world.write("resolver/ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	ca := s.world.path("resolver/ca.pem")
	lists := []subscription{{authority: s.authority, source: server.URL, ca: ca}}

	// Two more lists, whose servers try the resolver's patience, which takes half a
	// minute, while the first one's goes through the rest. What they list is on the
	// first as well, so that it does not show in answers.
	slow := s.forge(s.edition())
	l := slow.list(slow.edition.serial)
	l.Entries = l.Entries[:0:0]
	for _, e := range slow.list(slow.edition.serial).Entries {
		if e.Name != onlyIn(slow.edition.serial) {
			l.Entries = append(l.Entries, e)
		}
	}
	l.Sort()
	slow.text(spell(t, l))
	patient := map[string]*hostileServer{"drips": serveHostile(t, slow.dir), "silent": serveHostile(t, slow.dir)}
	for name, server := range patient {
		s.world.write("resolver/"+name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
		s.check(os.MkdirAll(s.world.path(name+"/publish/metadata"), 0o700))
		s.world.write(name+"/publish/metadata/1.root.json", s.world.read("national/publish/metadata/1.root.json"))
		same := *s.authority
		same.name = name
		lists = append(lists, subscription{authority: &same, source: server.URL, ca: s.world.path("resolver/" + name + ".pem")})
	}
	s.configure(lists...)
	s.begins()
	for name := range patient {
		s.r.enforces(name, slow.edition.serial)
	}
	patient["drips"].turns(always(func(w http.ResponseWriter, r *http.Request) {
		for {
			select {
			case <-patient["drips"].ended:
				return
			case <-r.Context().Done():
				return
			case <-time.After(time.Second):
				io.WriteString(w, " ") // a client that has gone is what is waited for
				w.(http.Flusher).Flush()
			}
		}
	}))
	patient["silent"].turns(always(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-patient["silent"].ended:
		case <-r.Context().Done():
		}
	}))

	stranger := certificateFor(t, server.Listener.Addr().(*net.TCPAddr).IP)
	redirect := func(to string) answerer {
		return always(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to+r.URL.Path, http.StatusFound) })
	}
	for _, a := range []struct {
		name    string
		evil    answerer
		reasons []string
	}{
		{"a timestamp without end", on("timestamp.json", func(w http.ResponseWriter, _ *http.Request) { endless(w, "[") }), []string{"too-large"}},
		{"a root without end", on("root.json", func(w http.ResponseWriter, _ *http.Request) { endless(w, `{"a":`) }), []string{"too-large"}},
		{"a list without end", on("/targets/", func(w http.ResponseWriter, _ *http.Request) { endless(w, "age") }), []string{"too-large"}},
		{"a length of a terabyte", on("timestamp.json", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1099511627776")
			w.WriteHeader(http.StatusOK)
		}), []string{"too-large"}},
		{"less than the length that was said", on("timestamp.json", hijacked(func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
		})), []string{"source"}},
		{"headers without end", always(hijacked(func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			endless(c, "X-Header: value\r\n")
		})), []string{"source"}},
		{"announcements without end", always(hijacked(func(c net.Conn) { endless(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n") })), []string{"source"}},
		{"another protocol", always(hijacked(func(c net.Conn) { endless(c, "220 mail.example ESMTP\r\n") })), []string{"source"}},
		{"hanging up", always(hijacked(func(net.Conn) {})), []string{"source"}},
		{"a bomb of zeros", on("timestamp.json", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			z.Write(make([]byte, 64<<20)) // a client that has gone is what is waited for
			z.Close()
		}), []string{"source"}},
		{"a redirect without TLS", redirect("http://" + server.Listener.Addr().String()), []string{"source"}},
		{"a redirect to another host", redirect("https://127.0.0.2"), []string{"source"}},
		{"a redirect in a circle", redirect(""), []string{"source"}},
		{"nothing changed, though nobody asked", on("root.json", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }), []string{"source"}},
		{"forbidden", always(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }), []string{"source"}},
		{"a page where the file should be", always(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }), []string{"incomplete"}},
		{"not found", always(http.NotFound), []string{"incomplete"}},
	} {
		s.under(t, a.name, func(t *testing.T) {
			before := s.r.metrics()
			// In this order, so that nothing honest is taken between.
			server.turns(a.evil)
			s.show(s.edition().dir)
			s.refuses(before, a.reasons...)
			server.evil.Store(nil)
			s.recovers()
		})
	}
	s.under(t, "the certificate is a stranger's", func(*testing.T) {
		before := s.r.metrics()
		server.certificate.Store(&stranger)
		server.CloseClientConnections()
		s.refuses(before, "source")
		server.certificate.Store(nil)
		s.recovers()
	})
	s.under(t, "a bad timestamp under the name of a good one", func(*testing.T) {
		honest := s.edition()
		f := s.forge(honest)
		good := f.bytes(honest, "timestamp")
		served := bytes.Replace(good, []byte(`"version"`), []byte(`"Version"`), 1)
		tagged := func(content []byte) answerer {
			return on("timestamp.json", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"the same"`)
				if r.Header.Get("If-None-Match") == `"the same"` {
					w.WriteHeader(http.StatusNotModified)
					return
				}
				w.Write(content) // a client that has gone asks again
			})
		}
		before := s.r.metrics()
		server.turns(tagged(served))
		s.show(honest.dir)
		s.refuses(before, "signature", "incomplete")
		server.turns(tagged(good))
		s.takes()
		server.evil.Store(nil)
		s.recovers()
	})
	// A server that says that nothing has changed is believed as long as the
	// timestamp says, and no longer.
	s.under(t, "nothing changes any more", func(*testing.T) {
		f := s.forge(s.edition())
		f.sign(counterfeit{freshTill: time.Now().Add(4 * time.Second)})
		s.show(f.dir)
		s.takes()
		s.news()
		server.turns(on("timestamp.json", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") == "" {
				http.ServeFile(w, r, filepath.Join(f.dir, "metadata", "timestamp.json"))
				return
			}
			w.WriteHeader(http.StatusNotModified)
		}))
		s.show(s.edition().dir)
		s.refuses(nil, "expired")
		server.evil.Store(nil)
		s.recovers()
	})
	s.under(t, "newer roots are withheld", func(t *testing.T) {
		before, snapshot, timestamp, stolen := s.forge(s.edition()), s.snapshot, s.timestamp, s.targets
		s.show(s.rotate(func() {
			s.targets = []crypto.Signer{newKey(t), newKey(t), newKey(t)}
			s.snapshot, s.timestamp = newKey(t), newKey(t)
		}).dir)
		s.takes()
		before.sign(counterfeit{by: stolen, snapshotBy: snapshot, timestampBy: timestamp})
		s.attack(before.dir, "signature")
	})

	// The two servers that made the resolver wait have been given up by now, or
	// will be.
	for name := range patient {
		await.Nil(t, name+" is given up", func() error {
			s.news()
			for _, r := range s.others {
				// A server that is told that nobody listens any more may end its file in
				// time for it to be read.
				if r.List == name && (r.Reason == "source" || r.Reason == "incomplete") {
					return nil
				}
			}
			return fmt.Errorf("refused: %v", s.others)
		})
		m := s.r.metrics()
		if got := m[fmt.Sprintf("cordon_list_serial{list=%q}", name)]; got != float64(slow.edition.serial) {
			t.Errorf("%s: serial %v is in force", name, got)
		}
		if err := atLeast(m, fmt.Sprintf("cordon_list_updates_total{list=%q,result=\"refused\"}", name), 1); err != nil {
			t.Error(err)
		}
	}
	if err := s.holds(s.serial); err != nil {
		t.Error(err)
	}
	s.r.terminate() // also while it waits
	s.sealsEverything()
}

// certificateFor makes a certificate for an address that signs for itself.
func certificateFor(t *testing.T, ip net.IP) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{ip}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
