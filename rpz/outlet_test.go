package rpz

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"cordon/durable"
)

// given is an outlet that runs, into a file.
type given struct {
	*Outlet
	t    *testing.T
	file string
}

func give(t *testing.T, prepare func(*Outlet), lists ...OutletList) *given {
	t.Helper()
	dir := t.TempDir()
	identity, err := OpenIdentity(filepath.Join(dir, "rpz.json"))
	if err != nil {
		t.Fatal(err)
	}
	g := &given{t: t, file: filepath.Join(dir, "listed.rpz")}
	g.Outlet, err = NewOutlet(OutletConfig{Zone: testZone, Lists: lists, Identity: identity, File: g.file, Retry: 20 * time.Millisecond,
		Clock: time.Now, Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		prepare(g.Outlet)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return g
}

// holds waits until the file holds a text.
func (g *given) holds(text string) string {
	g.t.Helper()
	var last []byte
	for range 2000 {
		last, _ = os.ReadFile(g.file) // not there yet
		if strings.Contains(string(last), text) {
			return string(last)
		}
		time.Sleep(5 * time.Millisecond)
	}
	g.t.Fatalf("the file never holds %q: %s", text, last)
	return ""
}

func serialIn(t *testing.T, file string) uint32 {
	t.Helper()
	rr, err := dns.NewRR(file[:strings.IndexByte(file, '\n')])
	if err != nil {
		t.Fatal(err)
	}
	return rr.(*dns.SOA).Serial
}

func TestTheFileFollowsTheList(t *testing.T) {
	g := give(t, nil, OutletList{"national", true})
	g.Apply(list(t, "domain a.example terrorism"))
	first := serialIn(t, g.holds("\na.example."+testZone))
	if info, err := os.Stat(g.file); err != nil || info.Mode().Perm() != FileMode {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	g.Apply(list(t, "domain b.example terrorism"))
	second := g.holds("\nb.example." + testZone)
	if strings.Contains(second, "a.example") || !after(serialIn(t, second), first) {
		t.Errorf("after serial %d:\n%s", first, second)
	}
}

func TestNoZoneIsMadeBeforeEachRequiredListIsLoaded(t *testing.T) {
	g := give(t, nil, OutletList{"national", true}, OutletList{"other", true}, OutletList{"third", false})
	if err := os.WriteFile(g.file, []byte("of the last run"), 0o640); err != nil {
		t.Fatal(err)
	}
	g.Apply(loaded(t, "national", 80, entry(t, "host a.example minors")))
	g.Apply(loaded(t, "elsewhere", 80, entry(t, "host z.example minors")))
	if lists := g.inForce(); lists != nil {
		t.Errorf("a zone of %d lists would be made", len(lists))
	}
	if err := g.bring(); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(g.file); err != nil || string(got) != "of the last run" {
		t.Fatalf("the file holds %q, %v", got, err)
	}
	g.Apply(loaded(t, "other", 81, entry(t, "host b.example minors")))
	if got := g.holds("b.example"); !strings.Contains(got, "a.example") || strings.Contains(got, "z.example") {
		t.Errorf("the file holds %s", got)
	}
}

func TestAFailureIsCountedAndTriedAgain(t *testing.T) {
	g := give(t, func(o *Outlet) { o.disk = &mending{} }, OutletList{"national", true})
	g.Apply(list(t, "domain a.example terrorism"))
	g.holds("a.example")
	if testutil.ToFloat64(g.failures) == 0 {
		t.Error("no failure was counted: the test does not test")
	}
}

// mending is a file system whose first file cannot be made.
type mending struct {
	durable.OS
	works bool
}

func (m *mending) Create(path string, perm fs.FileMode) (durable.File, error) {
	if !m.works {
		m.works = true
		return nil, fs.ErrPermission
	}
	return m.OS.Create(path, perm)
}
