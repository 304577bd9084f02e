package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"cordon/blocklog"
)

// ErrTooLong: a range of raw records is longer than can be had in one piece. No
// range that one leaf seals is.
var ErrTooLong = errors.New("range of records is too long")

// Records gives the raw records of a sealed range of the block log, as they
// stand in its segments.
type Records interface {
	// Records gives the records first to last, concatenated. The error is
	// blocklog.ErrRemoved where their retention has passed, and a
	// *blocklog.DamageError (or its text, from afar) where they are damaged.
	Records(ctx context.Context, first, last uint64) ([]byte, error)
}

// maxRange bounds a raw range in bytes: the longest that is sealed, and a
// record.
const maxRange = maxRaw + blocklog.MaxRecord

// FolderRecords reads from a block log at hand. It is for one goroutine, and
// quick when ranges follow one another; it has to be closed.
type FolderRecords struct {
	dir    string
	reader *blocklog.Reader // nil before the first range and after an error
}

// NewFolderRecords reads from the block log in dir.
func NewFolderRecords(dir string) *FolderRecords { return &FolderRecords{dir: dir} }

// Records implements the interface of that name.
func (f *FolderRecords) Records(ctx context.Context, first, last uint64) ([]byte, error) {
	if f.reader == nil || f.reader.At() != first {
		f.Close()
		r, err := blocklog.OpenReader(f.dir, first)
		if err != nil {
			return nil, err
		}
		f.reader = r
	}
	var all []byte
	for next := first; next <= last; next++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		_, raw, err := f.reader.Next()
		if err == nil && len(all)+len(raw) > maxRange {
			err = fmt.Errorf("%w: records %d to %d are more than %d bytes", ErrTooLong, first, last, maxRange)
		}
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("the block log in %s ends before record %d: %w", f.dir, next, io.ErrUnexpectedEOF)
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		all = append(all, raw...)
	}
	return all, nil
}

// Close releases the open segment.
func (f *FolderRecords) Close() error {
	if f.reader == nil {
		return nil
	}
	r := f.reader
	f.reader = nil
	return r.Close()
}

// HTTPRecords demands raw ranges from an auditor's server at base.
type HTTPRecords struct {
	base   string
	client *http.Client
}

// NewHTTPRecords demands from the server at base ("https://audit.isp.example:8446/").
func NewHTTPRecords(base string, client *http.Client) *HTTPRecords {
	return &HTTPRecords{base: base, client: client}
}

// Records implements the interface of that name.
func (h *HTTPRecords) Records(ctx context.Context, first, last uint64) ([]byte, error) {
	address, err := url.JoinPath(h.base, "blocklog", fmt.Sprintf("%d-%d", first, last))
	if err != nil {
		return nil, fmt.Errorf("demand records: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("demand records: %w", err)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("demand records: %w", err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusGone:
		return nil, fmt.Errorf("demand records: %s: %w", address, blocklog.ErrRemoved)
	default:
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 500)) // only to be shown
		return nil, fmt.Errorf("demand records: %s answers %s: %q", address, resp.Status, text)
	}
	all, err := io.ReadAll(io.LimitReader(resp.Body, maxRange+1))
	if err != nil {
		return nil, fmt.Errorf("demand records: %s: %w", address, err)
	}
	if len(all) > maxRange {
		return nil, fmt.Errorf("demand records: %s: %w", address, ErrTooLong)
	}
	return all, nil
}
