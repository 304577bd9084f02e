package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"cordon/audit/tlog"
	"cordon/blocklog"
	"cordon/durable"
)

// SealerConfig says what is sealed into what.
type SealerConfig struct {
	Blocklog string        // folder of the block log
	Log      *tlog.Log     // the audit log, for writing; the caller closes it after Run
	LogDir   string        // its folder
	Verifier note.Verifier // of its key
	Interval time.Duration // between decisions leaves; default 10 s
	Poll     time.Duration // between looks at the block log; default 200 ms
	Retry    time.Duration // after a failure; default 2 s
	Version  string        // of the program, for the leaf of its start
	Clock    func() time.Time
	Logger   *slog.Logger
	Metrics  prometheus.Registerer // nil for none
	Sealed   string                // file that tells the resolver what is sealed; empty: none
}

// Sealer seals one block log into one audit log. Its position is nowhere but in
// the audit log: after a crash, and after each failure, it goes on where the last
// leaf ended.
type Sealer struct {
	c       SealerConfig
	m       *metrics
	next    atomic.Uint64 // number of the first record that is not sealed
	started bool          // this Run has written its leaf
	pending *tally        // decisions read and not sealed
	since   time.Time     // when the first of them was read
	told    time.Time     // when the resolver was last told what is sealed
}

// NewSealer checks the configuration; it touches neither log.
func NewSealer(c SealerConfig) (*Sealer, error) {
	if c.Blocklog == "" || c.Log == nil || c.LogDir == "" || c.Verifier == nil {
		return nil, errors.New("sealer: block log, audit log, its folder and its verifier are needed")
	}
	if c.Interval <= 0 {
		c.Interval = 10 * time.Second
	}
	if c.Poll <= 0 {
		c.Poll = 200 * time.Millisecond
	}
	if c.Retry <= 0 {
		c.Retry = 2 * time.Second
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Sealer{c: c, m: newMetrics(c.Metrics), pending: newTally()}, nil
}

// Sealed is the number of the first record that is not sealed yet; 0 before Run
// has read the audit log.
func (s *Sealer) Sealed() uint64 { return s.next.Load() }

// errReopen: the block log has to be opened again to see what became of it.
var errReopen = errors.New("block log changed under the reader")

// Run seals until ctx ends; then it seals what is there, and the leaf of its
// end. Failures are logged, counted and tried again, except tlog.ErrBroken.
func (s *Sealer) Run(ctx context.Context) error {
	for ended := false; ; {
		err := s.session(ctx)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, tlog.ErrBroken), ended:
			return fmt.Errorf("seal block log %s: %w", s.c.Blocklog, err)
		}
		ended = ctx.Err() != nil // one more attempt, then it is the next start's
		if errors.Is(err, errReopen) {
			s.wait(ctx, s.c.Poll)
			continue
		}
		s.m.failures.Inc()
		s.c.Logger.Error("sealing failed; trying again", "blocklog", s.c.Blocklog, "error", err)
		s.measureLag()
		s.wait(ctx, s.c.Retry)
	}
}

// session seals from the audit log's last leaf on, until ctx ends or something
// fails.
func (s *Sealer) session(ctx context.Context) error {
	s.pending = newTally()
	// What is under way is finished when ctx ends: a stop seals everything.
	work, cancel := withGrace(ctx, 30*time.Second)
	defer cancel()
	p, err := s.position(work)
	if err != nil {
		return err
	}
	s.next.Store(p.next)
	if err := s.start(work); err != nil {
		return err
	}
	if err := s.awaitBlocklog(ctx); err != nil {
		if ctx.Err() != nil { // there is nothing to seal
			return s.append(work, Mark{TypeStopped, s.now(), s.c.Version, s.next.Load()}, s.next.Load())
		}
		return err
	}
	if err := s.agree(work, p); err != nil {
		return err
	}
	r, err := blocklog.OpenReader(s.c.Blocklog, s.next.Load())
	if err != nil {
		return err
	}
	defer r.Close()
	return s.follow(ctx, work, r)
}

// withGrace is a context that ends d after ctx.
func withGrace(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	grace, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-grace.Done():
		}
		cancel()
	})
	return grace, func() { stop(); cancel() }
}

// start writes the leaf of the start, once.
func (s *Sealer) start(ctx context.Context) error {
	if s.started {
		return nil
	}
	if err := s.append(ctx, Mark{TypeStarted, s.now(), s.c.Version, s.next.Load()}, s.next.Load()); err != nil {
		return err
	}
	s.started = true
	return nil
}

// follow seals what r reads. ctx ends the waiting, work what is under way.
func (s *Sealer) follow(ctx, work context.Context, r *blocklog.Reader) error {
	for {
		rec, raw, err := r.Next()
		var damage *blocklog.DamageError
		switch {
		case err == nil:
			err = s.take(work, r, rec, raw)
		case errors.Is(err, io.EOF):
			stop := ctx.Err() != nil
			if err := s.sealIfDue(work, r, stop); err != nil {
				return err
			}
			s.m.lag.Set(float64(r.At() - s.next.Load()))
			s.tell(stop)
			if stop {
				return s.append(work, Mark{TypeStopped, s.now(), s.c.Version, s.next.Load()}, s.next.Load())
			}
			s.wait(ctx, s.c.Poll)
			continue
		case errors.As(err, &damage):
			err = s.pass(work, r, damage)
		}
		if err != nil {
			return err
		}
		if err := work.Err(); err != nil {
			return err
		}
	}
}

// take adds a record to the pending range, or seals it.
func (s *Sealer) take(ctx context.Context, r *blocklog.Reader, rec blocklog.Record, raw []byte) error {
	if rec.Event != nil {
		e := sealEvent(rec, raw)
		if err := s.seal(ctx, r); err != nil {
			return err
		}
		if err := r.Sync(); err != nil {
			return err
		}
		if err := s.append(ctx, e, rec.Seq+1); err != nil {
			return err
		}
		s.m.records.Inc()
		return nil
	}
	fits, err := s.pending.add(rec, raw)
	if err != nil {
		return err
	}
	if !fits {
		if err := s.seal(ctx, r); err != nil {
			return err
		}
		if fits, err = s.pending.add(rec, raw); err != nil || !fits {
			return fmt.Errorf("record %d fits into no leaf: %w", rec.Seq, err)
		}
	}
	if s.pending.first == rec.Seq {
		s.since = s.c.Clock()
	}
	return s.sealIfDue(ctx, r, false)
}

// sealIfDue seals the pending range when its time has come, or now.
func (s *Sealer) sealIfDue(ctx context.Context, r *blocklog.Reader, now bool) error {
	if now || !s.pending.empty() && s.c.Clock().Sub(s.since) >= s.c.Interval {
		return s.seal(ctx, r)
	}
	return nil
}

// seal writes the leaf of the pending range. The raw records are made durable
// first, so that no power failure takes back what is sealed.
func (s *Sealer) seal(ctx context.Context, r *blocklog.Reader) error {
	if s.pending.empty() {
		return nil
	}
	if err := r.Sync(); err != nil {
		return err
	}
	leaf := s.pending.leaf()
	if err := s.append(ctx, leaf, leaf.LastSeq+1); err != nil {
		return err
	}
	s.m.records.Add(float64(leaf.LastSeq - leaf.FirstSeq + 1))
	s.pending = newTally()
	return nil
}

// pass goes on behind damage, and puts it on record.
func (s *Sealer) pass(ctx context.Context, r *blocklog.Reader, damage *blocklog.DamageError) error {
	if err := s.seal(ctx, r); err != nil {
		return err
	}
	resume, err := r.Skip()
	if errors.Is(err, io.EOF) {
		return errReopen // the newest segment was cut or replaced
	}
	if err != nil {
		return err
	}
	return s.gap(ctx, resume, GapDamaged, damage.Error())
}

// gap writes a gap leaf and raises the alarm.
func (s *Sealer) gap(ctx context.Context, resume uint64, reason, detail string) error {
	detail = strings.ToValidUTF8(detail[:min(len(detail), 1000)], "\ufffd")
	expected := s.next.Load()
	if err := s.append(ctx, Gap{TypeGap, s.now(), expected, resume, reason, detail}, resume); err != nil {
		return err
	}
	s.m.gaps.WithLabelValues(reason).Inc()
	s.c.Logger.Error("the block log does not go on as it was sealed", "reason", reason, "expected_seq", expected, "resume_seq", resume, "detail", detail)
	return nil
}

// append writes a leaf, after which next is the first record not sealed.
func (s *Sealer) append(ctx context.Context, leaf any, next uint64) error {
	data, err := blocklog.Canonical(leaf)
	if err != nil {
		return fmt.Errorf("audit leaf: %w", err)
	}
	index, err := s.c.Log.Append(ctx, data)
	if err != nil {
		return err
	}
	s.next.Store(next)
	s.m.size.Set(float64(index + 1))
	s.c.Logger.Debug("sealed", "leaf", index, "next_seq", next)
	return nil
}

// tell says what is sealed to the resolver, once a second or now. That it cannot
// be told is an alarm, and holds nothing else up: the resolver then removes nothing.
func (s *Sealer) tell(now bool) {
	at := s.c.Clock()
	if s.c.Sealed == "" || !now && at.Sub(s.told) < time.Second {
		return
	}
	s.told = at
	if err := (blocklog.Sealed{Next: s.next.Load(), At: s.now()}).Write(durable.OS{}, s.c.Sealed); err != nil {
		s.m.failures.Inc()
		s.c.Logger.Error("the resolver cannot be told what is sealed", "file", s.c.Sealed, "error", err)
	}
}

// measureLag looks how far the block log has come while sealing does not.
func (s *Sealer) measureLag() {
	if _, end, err := blocklog.Bounds(s.c.Blocklog); err == nil && end > s.next.Load() {
		s.m.lag.Set(float64(end - s.next.Load()))
	}
}

func (s *Sealer) now() time.Time { return s.c.Clock().UTC().Truncate(time.Second) }

func (s *Sealer) wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
