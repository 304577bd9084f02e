// Package tlog is a transparency log in a folder, in the C2SP tlog-tiles layout
// (https://c2sp.org/tlog-tiles, hashes as in RFC 6962 §2.1): appended to by one
// process (Tessera does the work), read by anyone from the folder or over HTTPS,
// and verified without trust in whoever serves it.
//
// The audit log and the authority's register are both such logs.
//
// A [Reader] believes nothing but the signature on a checkpoint. Every tile is
// proven to belong under the checkpoint's root before it is used, and every
// leaf is hashed anew and compared with its tile, so an error names the file or
// the leaf that differs.
package tlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	flog "github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"cordon/durable"
)

// openTimeout bounds the wait for a checkpoint when a log is opened: a full disk
// lets Tessera try for ever.
const openTimeout = 30 * time.Second

// MaxLeaf is the length of the longest leaf in bytes, set by tlog-tiles.
const MaxLeaf = 1<<16 - 1

// Options of a log that is written; zero values mean the defaults.
type Options struct {
	CheckpointInterval time.Duration // least time between checkpoints; default 200 ms, at least 100 ms
	BatchSize          uint          // leaves integrated at once; default 256
	BatchAge           time.Duration // longest wait for a batch to fill; default 50 ms

	// Logger gets what Tessera has to say. Tessera logs through a global of the
	// process, so the first Open decides for all; by default nothing is said, and
	// nothing ever goes to the standard error output of a command.
	Logger *slog.Logger
}

var (
	// ErrLocked: another process, or another Log of this one, holds the log. Two
	// writers would lose leaves silently.
	ErrLocked = errors.New("transparency log is in use by another process")
	// ErrBroken: after a failed write, leaves are not where they should be. The
	// log has to be closed and opened again, and looked at.
	ErrBroken = errors.New("transparency log needs to be opened again after a failed write")
)

// Log is the writing side. One process at a time holds it (our own flock). Its
// methods may be called from several goroutines.
type Log struct {
	dir       string
	lock      *os.File
	batchSize int
	appender  *tessera.Appender
	reader    tessera.LogReader
	shutdown  func(context.Context) error
	cancel    context.CancelFunc // ends Tessera's goroutines

	mu     sync.Mutex // held by Append, so that its leaves stand in a row
	broken bool
	closed bool
}

// Open opens or creates the log in dir (0700). signer's name is the log's
// origin. When it returns, a checkpoint covers everything in the log, also what
// was integrated just before a crash. ctx bounds the opening only.
func Open(ctx context.Context, dir string, signer note.Signer, o Options) (*Log, error) {
	if o.CheckpointInterval <= 0 {
		o.CheckpointInterval = 200 * time.Millisecond
	}
	if o.BatchSize == 0 {
		o.BatchSize = tessera.DefaultBatchMaxSize
	}
	if o.BatchAge <= 0 {
		o.BatchAge = 50 * time.Millisecond
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create transparency log: %w", err)
	}
	lock, err := takeLock(dir)
	if err != nil {
		return nil, err
	}
	quiet.Do(func() { redirect(o.Logger) })
	l, err := start(ctx, dir, signer, o)
	if err != nil {
		_ = durable.Unlock(lock)
		return nil, fmt.Errorf("open transparency log %s: %w", dir, err)
	}
	l.lock = lock
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	size, err := l.Size(opening)
	if err == nil && size > 0 {
		err = l.Published(opening, size-1)
	}
	if err != nil {
		l.cancel()
		_ = durable.Unlock(lock)
		return nil, fmt.Errorf("open transparency log %s: %w", dir, err)
	}
	return l, nil
}

// start starts Tessera on the folder, whose lock is held.
func start(ctx context.Context, dir string, signer note.Signer, o Options) (*Log, error) {
	if err := checkSigner(dir, signer); err != nil {
		return nil, err
	}
	// Shutdown has its own order (see Close), so the end of ctx does not end it.
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	driver, err := posix.New(background, posix.Config{Path: dir})
	if err != nil {
		cancel()
		return nil, err
	}
	appender, shutdown, reader, err := tessera.NewAppender(background, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(o.CheckpointInterval).
		WithCheckpointRepublishInterval(0).
		WithBatching(o.BatchSize, o.BatchAge))
	if err != nil {
		cancel()
		return nil, err
	}
	return &Log{
		dir: dir, batchSize: int(o.BatchSize),
		appender: appender, reader: reader, shutdown: shutdown, cancel: cancel,
	}, nil
}

// checkSigner refuses a key that did not sign the log that is there.
func checkSigner(dir string, signer note.Signer) error {
	raw, err := FolderSource(dir).Read(context.Background(), checkpointPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var unverified *note.UnverifiedNoteError
	if _, err := note.Open(raw, note.VerifierList()); !errors.As(err, &unverified) {
		return fmt.Errorf("its checkpoint is not a signed note: %w", err)
	}
	for _, s := range unverified.Note.UnverifiedSigs {
		if s.Name == signer.Name() && s.Hash == signer.KeyHash() {
			return nil
		}
	}
	return fmt.Errorf("its checkpoint is not signed by the key %s+%08x; open it with the key that it was created with", signer.Name(), signer.KeyHash())
}

// takeLock locks the log for as long as the returned file is open.
func takeLock(dir string) (*os.File, error) {
	path := filepath.Join(dir, ".lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock transparency log: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is locked", ErrLocked, path)
		}
		return nil, fmt.Errorf("lock transparency log: %s: %w", path, err)
	}
	return f, nil
}

// quiet guards the one change of klog's global logger, which must not happen
// while Tessera runs.
var quiet sync.Once

// redirect sends what Tessera logs to logger, or nowhere.
func redirect(logger *slog.Logger) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	klog.SetSlogLogger(logger)
}

// Append adds leaves in order and returns the index of the first when all are
// durable. A leaf is at most MaxLeaf bytes. After an error the first leaves, but
// none behind a missing one, may be in the log; where that cannot be said it is
// ErrBroken, for this and every later call.
func (l *Log) Append(ctx context.Context, leaves ...[]byte) (uint64, error) {
	for i, leaf := range leaves {
		if len(leaf) > MaxLeaf {
			return 0, fmt.Errorf("append to transparency log %s: leaf %d has %d bytes, more than %d", l.dir, i, len(leaf), MaxLeaf)
		}
	}
	if len(leaves) == 0 {
		return 0, fmt.Errorf("append to transparency log %s: no leaf", l.dir)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return 0, fmt.Errorf("append to transparency log %s: %w", l.dir, os.ErrClosed)
	case l.broken:
		return 0, fmt.Errorf("append to transparency log %s: %w", l.dir, ErrBroken)
	}
	first, next := uint64(0), uint64(0)
	for done := 0; done < len(leaves); {
		n := min(l.batchSize, len(leaves)-done)
		index, err := l.batch(ctx, leaves[done:done+n])
		if err == nil && done > 0 && index != next {
			l.broken = true
			err = fmt.Errorf("%w: leaf is at %d, not at %d", ErrBroken, index, next)
		}
		if err != nil {
			return 0, fmt.Errorf("append to transparency log %s: %w", l.dir, err)
		}
		if done == 0 {
			first = index
		}
		done += n
		next = index + uint64(n)
	}
	return first, nil
}

// batch adds leaves that Tessera normally integrates at once; it may integrate
// them in several steps, of which one may fail.
func (l *Log) batch(ctx context.Context, leaves [][]byte) (uint64, error) {
	// Once handed over, a leaf cannot be taken back: its future is waited for
	// whatever happens to ctx, and it does resolve.
	ctx = context.WithoutCancel(ctx)
	futures := make([]tessera.IndexFuture, len(leaves))
	for i, leaf := range leaves {
		futures[i] = l.appender.Add(ctx, tessera.NewEntry(leaf))
	}
	var first uint64
	var failed error
	for i, future := range futures {
		index, err := future()
		switch {
		case err != nil && failed == nil:
			failed = err
		case err == nil && failed != nil:
			l.broken = true
			return 0, fmt.Errorf("%w: leaf %d is in the log and one before it is not: %w", ErrBroken, index.Index, failed)
		case err == nil && i == 0:
			first = index.Index
		case err == nil && index.Index != first+uint64(i):
			l.broken = true
			return 0, fmt.Errorf("%w: leaf is at %d, not at %d", ErrBroken, index.Index, first+uint64(i))
		}
	}
	return first, failed
}

// Size is the number of durable leaves.
func (l *Log) Size(ctx context.Context) (uint64, error) {
	size, err := l.reader.IntegratedSize(ctx)
	if err != nil {
		return 0, fmt.Errorf("size of transparency log %s: %w", l.dir, err)
	}
	return size, nil
}

// Published waits until a checkpoint covers index.
func (l *Log) Published(ctx context.Context, index uint64) error {
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		raw, err := l.reader.ReadCheckpoint(ctx)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("wait for a checkpoint of %s: %w", l.dir, err)
		}
		if err == nil {
			var cp flog.Checkpoint
			if _, err := cp.Unmarshal(raw); err != nil {
				return fmt.Errorf("wait for a checkpoint of %s: %w", l.dir, err)
			}
			if cp.Size > index {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for a checkpoint of %s that covers leaf %d: %w", l.dir, index, ctx.Err())
		case <-t.C:
		}
	}
}

// Close publishes a checkpoint that covers every leaf and releases the lock,
// also when that fails or ctx ends first.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	err := l.shutdown(ctx)
	l.cancel()
	if err = errors.Join(err, durable.Unlock(l.lock)); err != nil {
		return fmt.Errorf("close transparency log %s: %w", l.dir, err)
	}
	return nil
}
