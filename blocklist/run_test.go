package blocklist

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cordon/durable/durabletest"
	"cordon/signing"
)

// run runs a resolver's watcher until the test ends or stop is called.
func (r *resolver) run() (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("Run returned %v", err)
		}
		ended <- nil
	}
	r.t.Cleanup(stop)
	return stop
}

// watching makes the watcher depend on what the folder tells: it polls once in
// an hour, which no test waits for.
func watching(dir string) func(*Config) {
	return func(c *Config) {
		c.WatchDirs, c.Poll = []string{dir}, time.Hour
		c.Source = signing.NewFolderSource(dir)
	}
}

func TestRunFollowsAFolder(t *testing.T) {
	a := found(t)
	a.publish(42)
	r := enforcing(a, watching(a.folder))
	stop := r.run()
	r.journal.wait(t, `"serial":42`)
	for serial := uint64(43); serial < 46; serial++ {
		a.publish(serial)
		r.journal.wait(t, fmt.Sprintf(`"serial":%d`, serial))
	}
	a.publish(46, func(l *List) { l.Entries[0].Name = "com" })
	r.journal.wait(t, `"reason":"guard"`)
	a.publish(47)
	r.journal.wait(t, `"serial":47`)
	stop()

	// Started again it enforces the stored list, then what has come since.
	a.publish(48)
	r = r.start(a, watching(a.folder))
	stop = r.run()
	r.journal.wait(t, `"serial":47`)
	r.journal.wait(t, `"serial":48`)
	stop()
	if o := r.applied[0].Origin; o != OriginStore {
		t.Errorf("the first list came from %q", o)
	}
}

func TestRunWaitsForAFolderThatIsNotThereYet(t *testing.T) {
	a := found(t)
	a.publish(42)
	dir := filepath.Join(t.TempDir(), "not", "yet", "publish")
	r := enforcing(a, watching(dir))
	r.run()
	r.journal.wait(t, `"reason":"source"`)
	a.must(os.MkdirAll(filepath.Dir(dir), 0o755))
	a.must(os.CopyFS(dir+".new", os.DirFS(a.folder)))
	a.must(os.Rename(dir+".new", dir))
	r.journal.wait(t, `"serial":42`)

	// It goes away, and comes back file by file.
	a.must(os.RemoveAll(dir))
	r.journal.wait(t, "list.refused")
	a.publish(43)
	a.must(os.CopyFS(dir, os.DirFS(a.folder)))
	r.journal.wait(t, `"serial":43`)
}

func TestRunFollowsLinksThatAreSwapped(t *testing.T) {
	for _, what := range []string{"publish", "publish/metadata"} {
		t.Run(what, func(t *testing.T) {
			a := found(t)
			base := t.TempDir()
			link := func(to string) {
				a.must(os.Symlink(to, filepath.Join(base, "new")))
				a.must(os.Rename(filepath.Join(base, "new"), filepath.Join(base, what)))
			}
			put := func(name string) string {
				a.must(os.CopyFS(filepath.Join(base, name), os.DirFS(a.folder)))
				return name
			}
			a.publish(42)
			first := put("first")
			a.publish(43)
			second := put("second")
			if what == "publish/metadata" {
				// os.Root, by which the folder is read, follows no link out of it.
				a.must(os.Mkdir(filepath.Join(base, "publish"), 0o755))
				for _, release := range []string{first, second} {
					a.must(os.CopyFS(filepath.Join(base, "publish", release), os.DirFS(filepath.Join(base, release, "metadata"))))
				}
				a.must(os.CopyFS(filepath.Join(base, "publish", "targets"), os.DirFS(filepath.Join(base, second, "targets"))))
			}
			link(first)
			r := enforcing(a, watching(filepath.Join(base, "publish")))
			r.run()
			r.journal.wait(t, `"serial":42`)
			link(second)
			r.journal.wait(t, `"serial":43`)

			// The folder that is now behind the link is watched as well.
			a.publish(44)
			if what == "publish" {
				a.must(os.CopyFS(filepath.Join(base, "third"), os.DirFS(a.folder)))
				a.must(replaceFiles(filepath.Join(base, "third"), filepath.Join(base, second)))
				r.journal.wait(t, `"serial":44`)
			}
		})
	}
}

// replaceFiles renames the files of one publication over those of another,
// timestamp.json last.
func replaceFiles(from, to string) error {
	for _, pattern := range []string{"targets/*", "metadata/*.*.json", "metadata/timestamp.json"} {
		paths, err := filepath.Glob(filepath.Join(from, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			below, err := filepath.Rel(from, path)
			if err != nil {
				return err
			}
			if err := os.Rename(path, filepath.Join(to, below)); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestRunGetsOverFilesThatComeHalfWritten(t *testing.T) {
	a := found(t)
	a.publish(42)
	dir := t.TempDir()
	a.must(os.CopyFS(dir, os.DirFS(a.folder)))
	r := enforcing(a, watching(dir))
	r.run()
	r.journal.wait(t, `"serial":42`)

	// Written in place and in the worst order, the timestamp by halves.
	a.publish(43)
	timestamp, err := os.ReadFile(filepath.Join(a.folder, "metadata/timestamp.json"))
	a.must(err)
	f, err := os.Create(filepath.Join(dir, "metadata/timestamp.json"))
	a.must(err)
	_, err = f.Write(timestamp[:len(timestamp)/2])
	a.must(err)
	r.journal.wait(t, `"reason":"incomplete"`)
	_, err = f.Write(timestamp[len(timestamp)/2:])
	a.must(errors.Join(err, f.Close()))
	a.must(replaceFiles(a.folder, dir))
	r.journal.wait(t, `"serial":43`)
	r.wantInForce(43, OriginFetch)
}

func TestRunPollsAFolderThatTellsNothing(t *testing.T) {
	a := found(t)
	a.publish(42)
	r := enforcing(a, func(c *Config) { c.Poll = 20 * time.Millisecond })
	r.run()
	r.journal.wait(t, `"serial":42`)
	a.publish(43)
	r.journal.wait(t, `"serial":43`)
}

func TestRunFollowsAWebServer(t *testing.T) {
	a := found(t)
	a.publish(42)
	var broken atomic.Bool
	files := http.FileServer(http.Dir(a.folder))
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if broken.Load() {
			http.Error(w, "down for maintenance", http.StatusServiceUnavailable)
			return
		}
		files.ServeHTTP(w, q)
	}))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	client := signing.NewHTTPClient(&tls.Config{RootCAs: roots})
	defer client.CloseIdleConnections()
	source, err := signing.NewHTTPSSource(server.URL, client)
	a.must(err)
	r := enforcing(a, func(c *Config) { c.Source, c.Poll = source, 20*time.Millisecond })
	stop := r.run()
	defer stop()
	r.journal.wait(t, `"serial":42`)
	broken.Store(true)
	r.journal.wait(t, `"reason":"source"`)
	a.publish(43)
	broken.Store(false)
	r.journal.wait(t, `"serial":43`)
}

// Two lists, one of which fails in every way it can: the other goes on.
func TestAFailingListTouchesNoOther(t *testing.T) {
	good, bad := found(t), found(t)
	good.publish(1)
	r := enforcing(good, watching(good.folder))
	b := enforcing(bad, watching(filepath.Join(t.TempDir(), "gone")), func(c *Config) {
		c.Name, c.Metrics = "belgian", r.metrics
		s, err := openStore(r.dir, "belgian", durabletest.Quick{})
		good.must(err)
		c.Store = s
	})
	r.run()
	b.run()
	b.journal.wait(t, `"reason":"source"`)
	r.journal.wait(t, `"serial":1`)
	good.publish(2)
	r.journal.wait(t, `"serial":2`)
	r.wantUpdates(2, 0)
}

func TestRunEndsWhileItFetches(t *testing.T) {
	a := found(t)
	asked := make(chan struct{})
	r := enforcing(a, func(c *Config) { c.Source = silent{asked} })
	stop := r.run()
	<-asked
	stop()
	r.wantUpdates(0, 0)
	if event, n := r.journal.last(); n != 0 {
		t.Errorf("a shutdown was recorded as %s", event)
	}
	if strings.Contains(r.logged.String(), "refused") {
		t.Errorf("a shutdown was logged as a refusal: %s", r.logged)
	}
}

// silent is a source that answers when it is told to stop.
type silent struct{ asked chan struct{} }

func (s silent) Fetch(ctx context.Context, _ string, _ int64) ([]byte, error) {
	close(s.asked)
	<-ctx.Done()
	return nil, ctx.Err()
}
