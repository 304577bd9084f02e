package blocklist

import (
	"bytes"
	"crypto"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"cordon/signing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a time that a test sets.
type clock struct{ unix atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(c.unix.Load(), 0).UTC() }
func (c *clock) advance(d time.Duration) { c.unix.Add(int64(d / time.Second)) }

// authority signs and publishes lists into a folder, as the real one does.
type authority struct {
	t        testing.TB
	clock    *clock
	folder   string
	repo     *signing.Repository
	people   []crypto.Signer
	online   crypto.Signer
	identity string // of the resolver
	to       string // recipient of what is published
	root     []byte
}

func found(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, clock: new(clock), folder: filepath.Join(t.TempDir(), "publish")}
	a.clock.unix.Store(parse(t, frenchText(t)).Issued.Unix())
	var err error
	a.identity, a.to, err = signing.GenerateIdentity()
	a.must(err)
	public := make([]crypto.PublicKey, 2)
	for i := range public {
		key, err := signing.GenerateKey()
		a.must(err)
		a.people = append(a.people, key)
		public[i] = key.Public()
	}
	a.online, err = signing.GenerateKey()
	a.must(err)
	both := signing.RoleKeys{Keys: public, Threshold: 2}
	one := signing.RoleKeys{Keys: []crypto.PublicKey{a.online.Public()}, Threshold: 1}
	a.repo, err = signing.OpenRepository(signing.RepositoryConfig{
		Publish: a.folder, Staged: filepath.Join(filepath.Dir(a.folder), "staged"), Clock: a.clock.now,
	})
	a.must(err)
	_, err = a.repo.StageRoot(signing.Roles{Root: both, Targets: both, Snapshot: one, Timestamp: one}, a.clock.now().AddDate(1, 0, 0))
	a.must(err)
	a.sign(signing.RoleRoot)
	_, err = a.repo.Publish(signing.Online{})
	a.must(err)
	a.root, err = a.repo.Root()
	a.must(err)
	return a
}

func (a *authority) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) sign(role string) {
	a.t.Helper()
	for _, key := range a.people {
		_, err := a.repo.Sign(role, key)
		a.must(err)
	}
}

func (a *authority) release() {
	a.t.Helper()
	a.sign(signing.RoleTargets)
	_, err := a.repo.Publish(signing.Online{
		Snapshot: a.online, SnapshotExpires: a.clock.now().Add(48 * time.Hour),
		Timestamp: a.online, TimestampExpires: a.clock.now().Add(24 * time.Hour),
	})
	a.must(err)
}

// publish publishes the French list with a serial, after change.
func (a *authority) publish(serial uint64, change ...func(*List)) {
	a.t.Helper()
	l := parse(a.t, frenchText(a.t))
	l.Serial = serial
	for _, f := range change {
		f(l)
	}
	var b bytes.Buffer
	a.must(Encode(&b, l))
	a.publishRaw(b.Bytes())
}

// publishRaw publishes anything as a list.
func (a *authority) publishRaw(compressed []byte) {
	a.t.Helper()
	sealed, err := signing.Seal(compressed, []string{a.to})
	a.must(err)
	_, err = a.repo.StageTarget(sealed, a.clock.now().AddDate(0, 1, 0))
	a.must(err)
	a.release()
}

// publishText compresses and publishes any text as a list.
func (a *authority) publishText(text string) {
	a.t.Helper()
	a.publishRaw(compressed(a.t, text))
}

// copyOf keeps what is published now.
func (a *authority) copyOf() string {
	a.t.Helper()
	dir := filepath.Join(a.t.TempDir(), "copy")
	a.must(os.CopyFS(dir, os.DirFS(a.folder)))
	return dir
}

// put makes folder what is published.
func (a *authority) put(folder string) {
	a.t.Helper()
	a.must(os.RemoveAll(a.folder))
	a.must(os.CopyFS(a.folder, os.DirFS(folder)))
}

// target is the path of the published target.
func (a *authority) target() string {
	a.t.Helper()
	p, err := a.repo.Published()
	a.must(err)
	return filepath.Join(a.folder, p.TargetFile)
}

// journal is a Recorder that remembers, and fails when told to.
type journal struct {
	mu     sync.Mutex
	events []string // "kind data"; guarded by mu
	fail   error    // guarded by mu
	told   chan string
}

func newJournal() *journal { return &journal{told: make(chan string, 100)} }

func (j *journal) Event(kind string, data any) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fail != nil {
		return j.fail
	}
	b, err := json.Marshal(data)
	if err != nil {
		return err
	}
	event := kind + " " + string(b)
	j.events = append(j.events, event)
	j.told <- event
	return nil
}

func (j *journal) failWith(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fail = err
}

// last gives the last event, and how many there are.
func (j *journal) last() (string, int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.events) == 0 {
		return "", 0
	}
	return j.events[len(j.events)-1], len(j.events)
}

// wait waits for an event that holds text.
func (j *journal) wait(t *testing.T, text string) {
	t.Helper()
	limit := time.After(20 * time.Second) // a test that fails should end some day
	for {
		select {
		case event := <-j.told:
			if strings.Contains(event, text) {
				return
			}
		case <-limit:
			t.Fatalf("no event with %s; there are %q", text, j.events)
		}
	}
}

// resolver is the other side: a watcher with all that it needs.
type resolver struct {
	*Watcher
	t       testing.TB
	journal *journal
	metrics *Metrics
	dir     string // of its store
	logged  *bytes.Buffer

	mu      sync.Mutex
	applied []*Loaded // guarded by mu
	deny    error     // what apply returns; guarded by mu

	bad string // a folder that a test put aside
}

// enforcing makes a resolver that follows an authority's folder. Its parts may be
// changed first.
func enforcing(a *authority, change ...func(*Config)) *resolver {
	a.t.Helper()
	return (&resolver{dir: a.t.TempDir(), t: a.t}).start(a, change...)
}

// start is also what a restart does: all but the folder is new.
func (r *resolver) start(a *authority, change ...func(*Config)) *resolver {
	r.t.Helper()
	n := &resolver{t: r.t, dir: r.dir, journal: newJournal(), logged: new(bytes.Buffer)}
	var err error
	n.metrics, err = NewMetrics(prometheus.NewRegistry())
	a.must(err)
	c := Config{
		Name: "french", PinnedRoot: a.root, Identity: a.identity, Source: signing.NewFolderSource(a.folder),
		Store: storeIn(r.t, r.dir), Guard: guardOf(r.t, "dns.isp.example"), Clock: a.clock.now,
		Recorder: n.journal, Metrics: n.metrics, Apply: n.apply,
		Logger: slog.New(slog.NewJSONHandler(n.logged, nil)),
	}
	for _, f := range change {
		f(&c)
	}
	n.Watcher, err = NewWatcher(c)
	a.must(err)
	return n
}

func (r *resolver) apply(l *Loaded) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deny != nil {
		return r.deny
	}
	r.applied = append(r.applied, l)
	return nil
}

// inForce gives serial and origin of the list in force, and how many there were.
func (r *resolver) inForce() (serial uint64, origin Origin, count int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.applied) == 0 {
		return 0, "", 0
	}
	l := r.applied[len(r.applied)-1]
	return l.List.Serial, l.Origin, len(r.applied)
}

func (r *resolver) wantInForce(serial uint64, origin Origin) {
	r.t.Helper()
	if s, o, _ := r.inForce(); s != serial || o != origin {
		r.t.Errorf("in force is serial %d from %q, want %d from %q", s, o, serial, origin)
	}
	if got := testutil.ToFloat64(r.metrics.serial.WithLabelValues("french")); got != float64(serial) {
		r.t.Errorf("cordon_list_serial is %v, want %d", got, serial)
	}
}

func (r *resolver) wantUpdates(applied, refused float64) {
	r.t.Helper()
	for result, want := range map[string]float64{resultApplied: applied, resultRefused: refused, resultHeld: 0} {
		if got := testutil.ToFloat64(r.metrics.updates.WithLabelValues("french", result)); got != want {
			r.t.Errorf("%v updates %s, want %v", got, result, want)
		}
	}
}

// refreshed asks the source once and wants it to go well.
func (r *resolver) refreshed() *resolver {
	r.t.Helper()
	if err := r.refresh(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return r
}
