package resolver

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"cordon/blocklog"
)

// retention removes segments of the block log that are sealed and older than
// blocklog.keep, and tells when sealing falls behind. What is sealed it learns from
// the file that the auditor keeps (blocklog.sealed), and from nothing else: where
// that is missing, cannot be read or cannot be, nothing is removed.
type retention struct {
	unsealed atomic.Uint64 // records
	failing  atomic.Bool   // what is sealed is not known, or sealing has stopped
}

const (
	retentionLook = time.Minute
	// sealedLate is for how long the auditor may say nothing: it looks every
	// second.
	sealedLate = 10 * time.Minute
)

// retain looks every minute until ctx ends.
func (r *Resolver) retain(ctx context.Context) {
	if r.config.Blocklog.Sealed == "" {
		return
	}
	every(ctx, retentionLook, r.lookAtSealing)
}

// lookAtSealing does it once.
func (r *Resolver) lookAtSealing() {
	sealed, err := r.sealed()
	if was := r.retention.failing.Swap(err != nil); err != nil && !was {
		r.log.Error("the sealing of the block log is not as it should be, and nothing is removed from it; answers go on: look at the auditor", "error", err)
	} else if err == nil && was {
		r.log.Info("the block log is being sealed again", "next_seq", sealed)
	}
	if err != nil || r.config.Blocklog.Keep == 0 {
		return
	}
	removed, err := blocklog.Prune(r.config.Blocklog.Dir, sealed, r.clock().Add(-r.config.Blocklog.Keep))
	if err != nil {
		r.log.Error("old segments of the block log could not all be removed; this is tried again", "error", err)
	}
	if len(removed) == 0 {
		return
	}
	first, _, err := blocklog.Bounds(r.config.Blocklog.Dir)
	if err == nil {
		err = r.journal.Event("blocklog.removed", struct {
			Segments int    `json:"segments"`
			FirstSeq uint64 `json:"first_seq"` // of what is left
			Keep     string `json:"keep"`
		}{len(removed), first, r.config.Blocklog.Keep.String()})
	}
	if err != nil {
		r.log.Error("the removal of old segments could not be recorded", "segments", len(removed), "error", err)
	}
	r.log.Info("old segments of the block log removed", "segments", len(removed), "first_seq", first)
}

// sealed is the number of the first record that is not sealed. It notes how many
// there are.
func (r *Resolver) sealed() (uint64, error) {
	s, err := blocklog.ReadSealed(r.config.Blocklog.Sealed)
	if err != nil {
		return 0, err
	}
	next := r.journal.Stats().Next
	if s.Next > next {
		return 0, fmt.Errorf("%s says that records up to %d are sealed, and there are %d", r.config.Blocklog.Sealed, s.Next-1, next-1)
	}
	r.retention.unsealed.Store(next - s.Next)
	if age := r.clock().Sub(s.At); age > sealedLate {
		return 0, fmt.Errorf("the auditor has said nothing for %s; %d records are not sealed", age.Truncate(time.Second), next-s.Next)
	}
	return s.Next, nil
}

// checkRetention looks at blocklog.keep and blocklog.sealed.
func (c *BlocklogConfig) checkRetention() error {
	switch {
	case c.Keep < 0 || c.Keep > 0 && c.Keep < 24*time.Hour:
		return fmt.Errorf("keep: %s; use 24h or more, or 0s for ever", c.Keep)
	case c.Keep > 0 && c.Sealed == "":
		return errors.New("sealed: missing; keep needs the file in which the auditor says what is sealed (sealed in its configuration), since nothing else may be removed")
	}
	return nil
}
