package oversight

import (
	"context"

	"cordon/audit"
	"cordon/blocklog"
)

// rawRecords gives raw records to one verification, less those that an earlier
// one of this process has compared. A nil *rawRecords has none.
type rawRecords struct {
	from  audit.Records
	done  func() error
	good  map[uint64]bool // first records of ranges that were compared and right; shared
	asked []uint64        // first records of those asked for now
	spare uint64          // ranges that did not have to be asked for
}

// source is what audit.Verify takes.
func (r *rawRecords) source() audit.Records {
	if r == nil {
		return nil
	}
	return r
}

// Records implements audit.Records. What was compared already counts as removed,
// which settle sets right.
func (r *rawRecords) Records(ctx context.Context, first, last uint64) ([]byte, error) {
	if r.good[first] {
		r.spare++
		return nil, blocklog.ErrRemoved
	}
	raw, err := r.from.Records(ctx, first, last)
	if err == nil {
		r.asked = append(r.asked, first)
	}
	return raw, err
}

// settle remembers what was right.
func (r *rawRecords) settle(report *audit.Report) {
	if r == nil {
		return
	}
	report.Removed -= r.spare
	report.Compared += r.spare
	if report.Unreported > 0 {
		return // some of them may not have been right
	}
	wrong := map[uint64]bool{}
	for _, f := range report.Findings {
		wrong[f.First] = true
	}
	for _, first := range r.asked {
		if !wrong[first] {
			r.good[first] = true
		}
	}
}

func (r *rawRecords) close() error {
	if r == nil || r.done == nil {
		return nil
	}
	return r.done()
}
