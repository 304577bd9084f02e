package resolver

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running starts the resolver and returns what stops it and waits.
func running(t *testing.T, r *Resolver) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan struct{})
	r.ready = func() { close(ready) }
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("the resolver did not start: %v", err)
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("the resolver ended with %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// events reads the kinds of the events in the block log.
func events(t *testing.T, dir string) (kinds []string) {
	t.Helper()
	for _, record := range records(t, dir) {
		if record.Event != nil {
			kinds = append(kinds, record.Event.Kind)
		}
	}
	return kinds
}

// recorded is how many questions the block log says were blocked; equal ones
// of a batch are one record.
func recorded(t *testing.T, dir string) (n uint64) {
	t.Helper()
	for _, record := range records(t, dir) {
		if record.Decision != nil {
			n += uint64(record.Decision.Count)
		}
	}
	return n
}

// TestReloadUnderLoad has clients on both transports ask for a listed, an
// unlisted and a CNAME name while the list is swapped all the time: each answer
// is one that some generation gives, and each block that a client saw is on
// record. The race detector watches.
func TestReloadUnderLoad(t *testing.T) {
	n := newInternet(t,
		"www.libre.example. 3600 IN A 192.0.2.10",
		"alias.libre.example. 3600 IN CNAME www.propagande.example.",
		"www.propagande.example. 3600 IN A 192.0.2.66")
	r := newResolver(t, n)
	enforce(t, r, 1, "propagande.example")
	stop := running(t, r)
	udp, tcp := r.server.UDP()[0].String(), r.server.TCP()[0].String()

	var seenBlocked atomic.Uint64
	var clients, reloads sync.WaitGroup
	done := make(chan struct{})
	reloads.Go(func() {
		for serial := uint64(2); ; serial++ {
			select {
			case <-done:
				return
			default:
			}
			if serial%2 == 0 {
				enforce(t, r, serial)
			} else {
				enforce(t, r, serial, "propagande.example")
			}
		}
	})
	for _, c := range []struct{ network, address string }{{"udp", udp}, {"tcp", tcp}, {"udp", udp}} {
		clients.Go(func() {
			client := dns.Client{Net: c.network, Timeout: 5 * time.Second}
			for i := range 300 {
				name := []string{"www.libre.example.", "alias.libre.example.", "www.propagande.example."}[i%3]
				reply, _, err := client.Exchange(question(name, dns.TypeA), c.address)
				if err != nil {
					t.Errorf("%s over %s: %v", name, c.network, err)
					return
				}
				switch {
				case reply.Rcode != dns.RcodeSuccess || len(reply.Answer) == 0:
					t.Errorf("%s: %v", name, reply)
				case blocked(reply) && name == "www.libre.example.":
					t.Errorf("a name that was never listed was blocked: %v", reply)
				case blocked(reply):
					seenBlocked.Add(1)
				}
			}
		})
	}
	clients.Wait()
	close(done)
	reloads.Wait()
	stop()

	if seenBlocked.Load() == 0 {
		t.Fatal("no client saw a blocked answer: the test does not test")
	}
	if got := recorded(t, r.config.Blocklog.Dir); got < seenBlocked.Load() {
		t.Errorf("clients saw %d blocked answers, %d are on record", seenBlocked.Load(), got)
	}
}

func TestStartAndStopAreOnRecord(t *testing.T) {
	r := newResolver(t, newInternet(t))
	running(t, r)()
	if got := strings.Join(events(t, r.config.Blocklog.Dir), " "); got != "started stopped" {
		t.Errorf("on record: %s", got)
	}
}

func TestASecondResolverOnTheSameBlockLogDoesNotStart(t *testing.T) {
	r := newResolver(t, newInternet(t))
	if _, err := New(r.config, Surroundings{Log: r.log, Clock: r.clock}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("got %v", err)
	}
}

func TestTheControlSocketAnswersItsGroupAlone(t *testing.T) {
	n := newInternet(t)
	r := newResolver(t, n)
	path := filepath.Join(t.TempDir(), "control.sock")
	var err error
	if r.control, err = newControl(path, r, r.log); err != nil {
		t.Fatal(err)
	}
	enforce(t, r, 5, "propagande.example")
	running(t, r)

	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Fatalf("the socket's mode is %v, %v", info.Mode(), err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	get := func(at string) (int, string) {
		t.Helper()
		resp, err := (&http.Client{Transport: transport}).Get("http://resolver" + at)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	for _, c := range []struct {
		at     string
		status int
		holds  string
	}{
		{"/status", 200, `"serial": 5`},
		{"/status", 200, `"ready": true`},
		{"/why?name=WWW.Propagande.example.", 200, `"listed": true`},
		{"/why?name=libre.example", 200, `"listed": false`},
		{"/why?name=a..b", 400, "a..b"},
		{"/dump", 404, ""},
	} {
		if status, body := get(c.at); status != c.status || !strings.Contains(body, c.holds) {
			t.Errorf("%s: %d %s", c.at, status, body)
		}
	}
}
