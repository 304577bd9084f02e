package audit

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"

	"cordon/audit/tlog"
	"cordon/audit/tlog/tlogtest"
	"cordon/blocklog"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("CORDON_TEST_SEAL_UNTIL_KILLED"); dir != "" {
		sealUntilKilled(dir, os.Getenv("CORDON_TEST_KEY"))
		return
	}
	goleak.VerifyTestMain(m)
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// site is a block log and an audit log side by side.
type site struct {
	t        *testing.T
	blocklog string
	log      string
	skey     string
	signer   note.Signer
	verifier note.Verifier
	now      time.Time
	registry *prometheus.Registry // of the last seal
}

func newSite(t *testing.T) *site {
	t.Helper()
	skey, vkey, err := tlog.GenerateKey("isp.example/audit")
	if err != nil {
		t.Fatal(err)
	}
	signer, _, err := tlog.ParseKey(skey)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	dir := tlogtest.Dir(t)
	return &site{t: t, blocklog: dir + "/blocklog", log: dir + "/audit", skey: skey, signer: signer, verifier: verifier, now: noon}
}

// copy is the site as it stands, for a test of its own.
func (s *site) copy(t *testing.T) *site {
	t.Helper()
	c := *s
	dir := tlogtest.Dir(t)
	c.t, c.blocklog, c.log = t, dir+"/blocklog", dir+"/audit"
	for from, to := range map[string]string{s.blocklog: c.blocklog, s.log: c.log} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	return &c
}

func (s *site) clock() time.Time { return s.now }

// resolve runs a resolver for as long as do lasts.
func (s *site) resolve(do func(j *blocklog.Journal)) {
	s.t.Helper()
	j, err := blocklog.Open(s.blocklog, blocklog.Options{SegmentBytes: 2000, Clock: s.clock})
	if err != nil {
		s.t.Fatal(err)
	}
	do(j)
	if err := j.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// block journals one decision for each name.
func (s *site) block(names ...string) {
	s.t.Helper()
	s.resolve(func(j *blocklog.Journal) {
		for _, n := range names {
			if err := j.Append([]blocklog.Decision{decision(n)}); err != nil {
				s.t.Fatal(err)
			}
		}
	})
}

func (s *site) event(kind string, data any) {
	s.t.Helper()
	s.resolve(func(j *blocklog.Journal) {
		if err := j.Event(kind, data); err != nil {
			s.t.Fatal(err)
		}
	})
}

func (s *site) open() *tlog.Log {
	s.t.Helper()
	l, err := tlog.Open(s.t.Context(), s.log, s.signer, tlog.Options{CheckpointInterval: 100 * time.Millisecond, BatchAge: time.Millisecond})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close(context.Background()) })
	return l
}

func (s *site) sealer(l *tlog.Log) *Sealer {
	s.t.Helper()
	s.registry = prometheus.NewRegistry()
	sealer, err := NewSealer(SealerConfig{
		Blocklog: s.blocklog, Log: l, LogDir: s.log, Verifier: s.verifier,
		Poll: time.Millisecond, Retry: time.Millisecond, Version: "test", Clock: s.clock, Metrics: s.registry,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return sealer
}

// seal starts an auditor and stops it: it seals everything there is.
func (s *site) seal() {
	s.t.Helper()
	l := s.open()
	ended, cancel := context.WithCancel(s.t.Context())
	cancel()
	if err := s.sealer(l).Run(ended); err != nil {
		s.t.Fatal(err)
	}
	if err := l.Close(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) reader() (*tlog.Reader, tlog.Checkpoint) {
	s.t.Helper()
	r := tlog.NewReader(tlog.FolderSource(s.log), s.verifier)
	cp, err := r.Checkpoint(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return r, cp
}

// leaves parses every leaf.
func (s *site) leaves() []Leaf {
	s.t.Helper()
	r, cp := s.reader()
	var all []Leaf
	for l, err := range r.Leaves(s.t.Context(), cp, 0) {
		if err != nil {
			s.t.Fatal(err)
		}
		leaf, err := ParseLeaf(l.Data)
		if err != nil {
			s.t.Fatalf("leaf %d: %v\n%s", l.Index, err, l.Data)
		}
		all = append(all, leaf)
	}
	return all
}

// story is the leaves in short: "decisions 1-3", "event started 4".
func (s *site) story() string {
	s.t.Helper()
	var out []string
	for _, l := range s.leaves() {
		switch {
		case l.Decisions != nil:
			out = append(out, fmt.Sprintf("decisions %d-%d", l.First, l.Last))
		case l.Event != nil:
			out = append(out, fmt.Sprintf("%s %d", l.Type, l.First))
		case l.Gap != nil:
			out = append(out, fmt.Sprintf("gap %s %d>%d", l.Gap.Reason, l.Gap.Expected, l.Gap.Resume))
		case l.Type == TypeStarted:
			out = append(out, "on")
		default:
			out = append(out, "off")
		}
	}
	return strings.Join(out, ", ")
}

func (s *site) verify() *Report {
	s.t.Helper()
	r, cp := s.reader()
	raw := NewFolderRecords(s.blocklog)
	defer raw.Close()
	report, err := Verify(s.t.Context(), r, cp, raw)
	if err != nil {
		s.t.Fatal(err)
	}
	return report
}

func (s *site) metric(name string) float64 {
	s.t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	sum, found := 0.0, false
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			found = true
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	if !found {
		s.t.Fatalf("there is no metric %s", name)
	}
	return sum
}

func wire(name string) []byte {
	var b []byte
	for label := range strings.SplitSeq(name, ".") {
		b = append(b, byte(len(label)))
		b = append(b, label...)
	}
	return append(b, 0)
}

func decision(name string) blocklog.Decision {
	return blocklog.Decision{
		Matches: []blocklog.Match{{List: "ofac", Serial: 7, Entry: "E-1"}}, Name: wire(name),
		Type: 1, Transport: blocklog.UDP, Action: blocklog.StopPage, Count: 1,
	}
}

func TestEveryRecordIsSealedByOneLeafAndVerifies(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.event("started", map[string]any{"version": "1"})
	s.block("a.example", "b.example", "a.example")
	s.event("list.applied", map[string]any{"list": "ofac", "serial": 8})
	s.event("stopped", struct{}{})
	s.seal()
	if got, want := s.story(), "on, started 1, decisions 2-4, list.applied 5, stopped 6, off"; got != want {
		t.Fatalf("leaves are\n%s, want\n%s", got, want)
	}
	d := s.leaves()[2].Decisions
	if len(d.Tally) != 2 || d.Tally[0].Name != "a.example" || d.Tally[0].Count != 2 || d.Tally[1].Count != 1 {
		t.Errorf("tally is %+v", d.Tally)
	}
	if !d.From.Equal(noon) || !d.To.Equal(noon) {
		t.Errorf("range is from %v to %v", d.From, d.To)
	}
	r := s.verify()
	if !r.OK() || r.Leaves != 6 || r.Records != 6 || r.Events != 3 || r.Decisions != 3 || r.Compared != 4 || r.Next != 7 {
		t.Errorf("report is %+v", r)
	}
	if size, lag, records := s.metric("cordon_audit_size"), s.metric("cordon_audit_lag_records"), s.metric("cordon_audit_records_total"); size != 6 || lag != 0 || records != 6 {
		t.Errorf("metrics: size %v, lag %v, records %v", size, lag, records)
	}
	if problems, err := testutil.GatherAndLint(s.registry); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
}

func TestALeafLooksAsThePlanSays(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.block("a.example")
	s.event("list.applied", map[string]any{"list": "ofac"})
	s.seal()
	r, cp := s.reader()
	var got []string
	for l, err := range r.Leaves(t.Context(), cp, 0) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(l.Data))
	}
	leaves := s.leaves()
	for i, want := range []string{
		`{"at":"2026-03-01T12:00:00Z","next_seq":1,"type":"auditor.started","version":"test"}`,
		fmt.Sprintf(`{"bytes":%d,"first_seq":1,"from":"2026-03-01T12:00:00Z","last_seq":1,"sha256":"%x","tally":[{"action":"stop-page","count":1,"entry":"E-1","list":"ofac","name":"a.example","qtype":"A","serial":7,"transport":"udp"}],"to":"2026-03-01T12:00:00Z","type":"decisions"}`,
			leaves[1].Decisions.Bytes, leaves[1].Decisions.SHA256),
		fmt.Sprintf(`{"at":"2026-03-01T12:00:00Z","data":{"list":"ofac"},"seq":2,"sha256":"%x","type":"list.applied"}`, leaves[2].Event.SHA256),
	} {
		if got[i] != want {
			t.Errorf("leaf %d is\n%s, want\n%s", i, got[i], want)
		}
	}
}

func TestSealingGoesOnWhereTheLogsLastLeafEnded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range 4 {
		s.block(fmt.Sprintf("n%d.example", i), "x.example")
		s.seal()
	}
	if got, want := s.story(), "on, decisions 1-2, off, on, decisions 3-4, off, on, decisions 5-6, off, on, decisions 7-8, off"; got != want {
		t.Fatalf("leaves are\n%s, want\n%s", got, want)
	}
	if r := s.verify(); !r.OK() {
		t.Errorf("findings: %v", r.Findings)
	}
}

func TestARunningAuditorSealsEventsAtOnceAndDecisionsAfterTheInterval(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	j, err := blocklog.Open(s.blocklog, blocklog.Options{Clock: s.clock})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	l := s.open()
	sealer, err := NewSealer(SealerConfig{
		Blocklog: s.blocklog, Log: l, LogDir: s.log, Verifier: s.verifier,
		Interval: 30 * time.Millisecond, Poll: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- sealer.Run(ctx) }()
	published := func(index uint64) {
		t.Helper()
		if err := l.Published(t.Context(), index); err != nil {
			t.Fatal(err)
		}
	}
	published(0) // the start
	if err := j.Event("started", struct{}{}); err != nil {
		t.Fatal(err)
	}
	published(1)
	if err := j.Append([]blocklog.Decision{decision("a.example")}); err != nil {
		t.Fatal(err)
	}
	published(2)
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := s.story(), "on, started 1, decisions 2-2, off"; got != want {
		t.Errorf("leaves are %s, want %s", got, want)
	}
	if sealer.Sealed() != 3 {
		t.Errorf("sealed up to %d", sealer.Sealed())
	}
}

func TestAFailingDiskDelaysSealingAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.block("a.example", "b.example")
	l := s.open()
	if err := os.WriteFile(s.log+"/tile", nil, 0o600); err != nil { // no place for tiles
		t.Fatal(err)
	}
	sealer := s.sealer(l)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- sealer.Run(ctx) }()
	for s.metric("cordon_audit_failures_total") < 2 {
		sealer.wait(t.Context(), time.Millisecond)
	}
	if lag := s.metric("cordon_audit_lag_records"); lag != 2 {
		t.Errorf("lag is %v while sealing fails", lag)
	}
	if err := os.Remove(s.log + "/tile"); err != nil {
		t.Fatal(err)
	}
	if err := l.Published(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := s.story(), "on, decisions 1-2, off"; got != want {
		t.Errorf("leaves are %s, want %s", got, want)
	}
}

// sealUntilKilled is the child of the test below.
func sealUntilKilled(dir, skey string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	signer, vkey, err := tlog.ParseKey(skey)
	fail(err)
	verifier, err := note.NewVerifier(vkey)
	fail(err)
	l, err := tlog.Open(context.Background(), dir+"/audit", signer, tlog.Options{BatchAge: time.Millisecond})
	fail(err)
	s, err := NewSealer(SealerConfig{
		Blocklog: dir + "/blocklog", Log: l, LogDir: dir + "/audit", Verifier: verifier,
		Interval: time.Millisecond, Poll: time.Millisecond,
	})
	fail(err)
	fmt.Println("sealing")
	fail(s.Run(context.Background()))
}

// What the resolver is told is never ahead of what is sealed: it removes by it.
func TestTheResolverIsToldWhatIsSealed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	told := s.blocklog + "-sealed.json"
	j, err := blocklog.Open(s.blocklog, blocklog.Options{Clock: s.clock})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for range 7 {
		if err := j.Append([]blocklog.Decision{decision("a.example")}); err != nil {
			t.Fatal(err)
		}
	}
	l := s.open()
	sealer := s.sealer(l)
	sealer.c.Sealed = told
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sealer.Run(ended); err != nil {
		t.Fatal(err)
	}
	got, err := blocklog.ReadSealed(told)
	if err != nil || got.Next != 8 || got.Next != sealer.Sealed() {
		t.Errorf("told %+v, %v; sealed up to %d", got, err, sealer.Sealed())
	}

	sealer = s.sealer(l)
	sealer.c.Sealed = "/proc/no/such/place" // that it cannot be told holds nothing up
	if err := j.Append([]blocklog.Decision{decision("b.example")}); err != nil {
		t.Fatal(err)
	}
	if err := sealer.Run(ended); err != nil || sealer.Sealed() != 9 {
		t.Errorf("sealed up to %d, %v", sealer.Sealed(), err)
	}
}

func TestKillingTheAuditorLeavesNoHoleAndNoRecordTwice(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := strings.TrimSuffix(s.blocklog, "/blocklog")
	records := 0
	for range 5 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "CORDON_TEST_SEAL_UNTIL_KILLED="+dir, "CORDON_TEST_KEY="+s.skey)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "sealing\n" {
			t.Fatalf("the child says %q, %v", line, err)
		}
		s.resolve(func(j *blocklog.Journal) {
			for range 100 + rand.IntN(400) {
				if err := j.Append([]blocklog.Decision{decision(fmt.Sprintf("n%d.example", records))}); err != nil {
					t.Fatal(err)
				}
				records++
			}
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		})
		io.Copy(io.Discard, out)
		c.Wait() // "signal: killed"
	}
	s.seal()
	r := s.verify()
	if !r.OK() || r.Records != uint64(records) || r.Removed != 0 {
		t.Errorf("%d records, report is %+v", records, r)
	}
}

func TestASealerNeedsBothLogs(t *testing.T) {
	if _, err := NewSealer(SealerConfig{}); err == nil {
		t.Error("a sealer of nothing was made")
	}
}
