package tlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/transparency-dev/tessera/api/layout"
)

// Source gives the bytes of a file of the log by its path in the layout
// ("checkpoint", "tile/0/000", "tile/entries/000.p/5").
type Source interface {
	// Read gives the whole file, fs.ErrNotExist where there is none, and an error
	// for paths outside the layout and files longer than the layout allows.
	Read(ctx context.Context, path string) ([]byte, error)
}

const (
	checkpointPath = layout.CheckpointPath
	maxCheckpoint  = 64 << 10 // leaves room for the signatures of many witnesses
	maxTile        = layout.TileWidth * hashSize
	maxBundle      = layout.EntryBundleWidth * (2 + MaxLeaf)
)

// Limit is the greatest length in bytes that the file at a path of the layout
// can have; ok is false for any other path. Servers of a log use it too: what
// it allows is all that anyone may ask for.
func Limit(path string) (limit int64, ok bool) {
	if path == checkpointPath {
		return maxCheckpoint, true
	}
	rest, isTile := strings.CutPrefix(path, "tile/")
	level, index, found := strings.Cut(rest, "/")
	if !isTile || !found {
		return 0, false
	}
	entries := level == "entries"
	if entries {
		level = "0"
	}
	l, i, p, err := layout.ParseTileLevelIndexPartial(level, index)
	if err != nil {
		return 0, false
	}
	// One spelling for each file: "tile/00/000" and the like are refused.
	if entries && path == layout.EntriesPath(i, p) {
		return maxBundle, true
	}
	if !entries && path == layout.TilePath(l, i, p) {
		return maxTile, true
	}
	return 0, false
}

// FolderSource reads a log from a folder.
func FolderSource(dir string) Source { return folder(dir) }

type folder string

func (dir folder) Read(_ context.Context, path string) ([]byte, error) {
	limit, ok := Limit(path)
	if !ok {
		return nil, fmt.Errorf("%q is not a path of a transparency log", path)
	}
	f, err := os.OpenInRoot(string(dir), path)
	if err != nil {
		return nil, fmt.Errorf("read transparency log %s: %w", string(dir), err)
	}
	defer f.Close()
	return readAll(f, path, limit)
}

// HTTPSource reads a log over HTTPS from below base
// ("https://audit.isp.example:8446/").
func HTTPSource(base string, client *http.Client) Source {
	return &web{base: strings.TrimSuffix(base, "/"), client: client}
}

type web struct {
	base   string
	client *http.Client
}

func (w *web) Read(ctx context.Context, path string) ([]byte, error) {
	limit, ok := Limit(path)
	if !ok {
		return nil, fmt.Errorf("%q is not a path of a transparency log", path)
	}
	address, err := url.JoinPath(w.base, path)
	if err != nil {
		return nil, fmt.Errorf("address of the transparency log: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("address of the transparency log: %w", err)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read transparency log: %w", err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return readAll(resp.Body, address, limit)
	case http.StatusNotFound, http.StatusGone:
		return nil, fmt.Errorf("read transparency log: %s: %w", address, fs.ErrNotExist)
	default:
		return nil, fmt.Errorf("read transparency log: %s answers %s", address, resp.Status)
	}
}

func readAll(r io.Reader, name string, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read transparency log: %s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read transparency log: %s is longer than the %d bytes that it may have", name, limit)
	}
	return b, nil
}

// readPartial reads the file of width p (0 means full) that path names, or else
// the full one, which replaces it when the log has grown past it.
func readPartial(ctx context.Context, src Source, path func(p uint8) string, p uint8) (raw []byte, name string, err error) {
	name = path(p)
	raw, err = src.Read(ctx, name)
	if p > 0 && errors.Is(err, fs.ErrNotExist) {
		if full, fullErr := src.Read(ctx, path(0)); fullErr == nil {
			return full, path(0), nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, name, &DamageError{Path: name, Reason: "the file is missing"}
	}
	return raw, name, err
}
