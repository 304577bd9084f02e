package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"cordon/blocklog"
	"cordon/test/await"
)

// Two authorities, each with a root of trust of its own, are enforced side by
// side. What one does, or fails to do, does not touch the other's list.
func TestTwoAuthoritiesSideBySide(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	national, abroad := w.found("national"), w.found("abroad")
	serialNational := national.list("terrorism", "propagande.example")
	serialAbroad := abroad.list("minors", "www.propagande.example", "nonsigne.ouvert")
	w.subscribe(national, abroad)
	r, a := w.startResolver(), w.startAuditor()
	r.enforces("national", serialNational)
	r.enforces("abroad", serialAbroad)

	// Both list the name: the first answers, both are on record.
	expect := func(name, category string, lists ...string) {
		t.Helper()
		if err := w.blocked(w.ask(name, dns.TypeA), category); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := listsOf(w.lastDecision()); !slices.Equal(got, lists) {
			t.Errorf("%s: on record are the lists %v, not %v", name, got, lists)
		}
	}
	expect("www.propagande.example", "terrorism", "national", "abroad")
	expect("video.propagande.example", "terrorism", "national")
	expect("www.nonsigne.ouvert", "minors", "abroad")
	w.sealsEverything()

	// One publishes what is damaged. Its list stays in force, with an alarm.
	timestamp := filepath.Join(abroad.publish, "metadata", "timestamp.json")
	whole, err := os.ReadFile(timestamp)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(timestamp, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	await.Nil(t, "the damage raises an alarm", func() error {
		return atLeast(r.metrics(), `cordon_list_updates_total{list="abroad",result="refused"}`, 1)
	})
	expect("www.nonsigne.ouvert", "minors", "abroad")

	// The other goes on meanwhile.
	serialNational = national.list("minors", "www.ancien.example")
	r.enforces("national", serialNational)
	expect("www.ancien.example", "minors", "national")
	expect("www.propagande.example", "terrorism", "national", "abroad")
	m := r.metrics()
	for series, value := range map[string]float64{
		`cordon_list_updates_total{list="national",result="refused"}`: 0,
		`cordon_list_serial{list="abroad"}`:                           float64(serialAbroad),
		`cordon_ready`:                                                1,
	} {
		if m[series] != value {
			t.Errorf("%s is %v, not %v", series, m[series], value)
		}
	}
	var refused struct{ List, Reason string }
	if all := w.written().of("list.refused"); len(all) != 1 || json.Unmarshal([]byte(all[0]), &refused) != nil || refused.List != "abroad" || refused.Reason != "incomplete" {
		t.Errorf("the refusals on record are %v", all)
	}

	// Over a restart too: both stored lists are in force from the first answer.
	r.terminate()
	r = w.startResolver()
	expect("www.nonsigne.ouvert", "minors", "abroad")
	expect("www.ancien.example", "minors", "national")

	// The damage is mended, and the list goes on where it was.
	if err := os.WriteFile(timestamp, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	r.enforces("abroad", abroad.lift("nonsigne.ouvert"))
	if got := addresses(w.ask("www.nonsigne.ouvert", dns.TypeA)); !slices.Equal(got, []string{"192.0.2.70"}) {
		t.Errorf("www.nonsigne.ouvert is at %v after it was lifted", got)
	}
	expect("www.propagande.example", "terrorism", "national", "abroad")
	w.sealsEverything()
	a.terminate()

	// Each official sees the other's list named, and says that it is the other's.
	national.official().verifies("node1: 3 blocks by lists of Office abroad, whose register is not followed here, were not held against decisions.")
	abroad.official().verifies("node1: 6 blocks by lists of Office national, whose register is not followed here, were not held against decisions.")
}

// lastDecision is the newest block decision of the block log.
func (w *world) lastDecision() *blocklog.Decision {
	w.t.Helper()
	all := w.blocklog()
	for _, r := range slices.Backward(all) {
		if r.Decision != nil {
			return r.Decision
		}
	}
	w.t.Fatal("the block log holds no decision")
	return nil
}

// listsOf names the lists that covered a name, the enforced one first.
func listsOf(d *blocklog.Decision) (names []string) {
	for _, m := range d.Matches {
		names = append(names, m.List)
	}
	return names
}

// A list comes over HTTPS from a server that knows nothing but files. What has
// not changed is not sent again (RFC 9110 section 13.1.2).
func TestAListOverHTTPS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	national := w.found("national")
	serial := national.list("terrorism", "propagande.example")
	server := serveFiles(t, national.publish)
	w.configure(subscription{authority: national, source: server.URL, ca: server.ca(w)})
	r := w.startResolver()
	r.enforces("national", serial)

	before := server.notModified.Load()
	await.Nil(t, "the unchanged publication is answered with 304", func() error {
		if got := server.notModified.Load() - before; got < 2 {
			return fmt.Errorf("%d times", got)
		}
		return nil
	})
	fetched := server.targets.Load()
	r.enforces("national", national.list("minors", "images.example"))
	if got := server.targets.Load(); got != fetched+1 {
		t.Errorf("for one new list %d were fetched", got-fetched)
	}
	if err := w.blocked(w.ask("images.example", dns.TypeA), "minors"); err != nil {
		t.Error(err)
	}

	// The server fails: an alarm, and nothing else changes.
	server.broken.Store(true)
	await.Nil(t, "the failing server raises an alarm", func() error {
		return atLeast(r.metrics(), `cordon_list_updates_total{list="national",result="refused"}`, 1)
	})
	if err := w.blocked(w.ask("images.example", dns.TypeA), "minors"); err != nil {
		t.Error(err)
	}
	server.broken.Store(false)
	r.enforces("national", national.lift("images.example"))
	if got := addresses(w.ask("images.example", dns.TypeA)); !slices.Equal(got, []string{"198.51.100.30"}) {
		t.Errorf("images.example is at %v after it was lifted", got)
	}
}

// fileServer serves a folder over TLS, with the SHA-256 of a file as its ETag.
type fileServer struct {
	*httptest.Server
	notModified atomic.Int64 // answers 304
	targets     atomic.Int64 // lists that were sent
	broken      atomic.Bool  // every answer is 500
}

func serveFiles(t *testing.T, dir string) *fileServer {
	s := &fileServer{}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.broken.Load() {
			http.Error(w, "broken", http.StatusInternalServerError)
			return
		}
		path := filepath.Join(dir, filepath.FromSlash(filepath.Clean("/"+r.URL.Path)))
		data, err := os.ReadFile(path)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		etag := fmt.Sprintf(`"%x"`, sha256.Sum256(data))
		w.Header().Set("ETag", etag)
		if strings.Contains(r.Header.Get("If-None-Match"), etag) {
			s.notModified.Add(1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/targets/") {
			s.targets.Add(1)
		}
		w.Write(data) // a client that has gone needs nothing more
	}))
	t.Cleanup(s.Close)
	return s
}

// ca writes the certificate that the server's is checked against.
func (s *fileServer) ca(w *world) string {
	w.t.Helper()
	w.write("resolver/ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	return w.path("resolver/ca.pem")
}
