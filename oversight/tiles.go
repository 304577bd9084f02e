package oversight

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"

	"cordon/audit/tlog"
)

var ranges = compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

const hashSize = 32

// tiles writes the layout of a log that grows: bundles as they come, and the
// tiles over them, which are computed here and not taken from the server.
type tiles struct {
	dir     string
	disk    disk
	pending []pendingTile // by level; hashes of the tile that is not full yet
}

type pendingTile struct {
	index  uint64
	hashes [][]byte
}

// resumeTiles starts behind the full bundles of a log of size leaves, whose
// tiles are in dir.
func resumeTiles(ctx context.Context, dir string, d disk, size uint64) (*tiles, error) {
	t := &tiles{dir: dir, disk: d, pending: []pendingTile{{index: size / layout.TileWidth}}}
	local := tlog.FolderSource(dir)
	for level := uint64(1); size>>(layout.TileHeight*level) > 0; level++ {
		count := size >> (layout.TileHeight * level) // hashes at this level
		p := pendingTile{index: count / layout.TileWidth}
		if width := count % layout.TileWidth; width > 0 {
			path := layout.TilePath(level, p.index, uint8(width))
			raw, err := local.Read(ctx, path)
			if err != nil {
				return nil, err
			}
			if uint64(len(raw)) != width*hashSize {
				return nil, fmt.Errorf("%s has %d bytes: it is no tile of %d hashes", filepath.Join(dir, path), len(raw), width)
			}
			for i := range width {
				p.hashes = append(p.hashes, raw[i*hashSize:(i+1)*hashSize])
			}
		}
		t.pending = append(t.pending, p)
	}
	return t, nil
}

// bundle stores the next bundle, which was verified. The last one may be
// partial; finish has to follow then.
func (t *tiles) bundle(entries [][]byte) error {
	var raw []byte
	for _, e := range entries {
		raw = binary.BigEndian.AppendUint16(raw, uint16(len(e))) // at most tlog.MaxLeaf: it came out of a bundle
		raw = append(raw, e...)
	}
	partial := uint8(len(entries) % layout.TileWidth) // 0: full
	if err := t.write(layout.EntriesPath(t.pending[0].index, partial), raw); err != nil {
		return err
	}
	for _, e := range entries {
		if err := t.push(0, rfc6962.DefaultHasher.HashLeaf(e)); err != nil {
			return err
		}
	}
	return nil
}

// push adds a hash to a level, and the root of each tile that it fills to the
// level above.
func (t *tiles) push(level int, hash []byte) error {
	if level == len(t.pending) {
		t.pending = append(t.pending, pendingTile{})
	}
	p := &t.pending[level]
	p.hashes = append(p.hashes, hash)
	if len(p.hashes) < layout.TileWidth {
		return nil
	}
	if err := t.writeTile(level, 0); err != nil {
		return err
	}
	whole := ranges.NewEmptyRange(0)
	for _, h := range p.hashes {
		if err := whole.Append(h, nil); err != nil {
			return err
		}
	}
	root, err := whole.GetRootHash(nil)
	if err != nil {
		return err
	}
	*p = pendingTile{index: p.index + 1}
	return t.push(level+1, root)
}

// finish writes the partial tiles.
func (t *tiles) finish() error {
	for level := range t.pending {
		if n := len(t.pending[level].hashes); n > 0 {
			if err := t.writeTile(level, uint8(n)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tiles) writeTile(level int, partial uint8) error {
	var raw []byte
	for _, h := range t.pending[level].hashes {
		raw = append(raw, h...)
	}
	return t.write(layout.TilePath(uint64(level), t.pending[level].index, partial), raw)
}

func (t *tiles) write(path string, data []byte) error {
	full := filepath.Join(t.dir, filepath.FromSlash(path))
	if have, err := os.ReadFile(full); err == nil && string(have) == string(data) {
		return nil // an interrupted mirroring wrote it
	}
	if err := t.disk.replace(full, data); err != nil {
		return fmt.Errorf("store %s: %w", path, err)
	}
	return nil
}

// tidy removes the partial files of a log that are of no use any more, from the
// edge that it had at before leaves to the one that it has at size. A failure
// leaves files too many, and nothing else.
func tidy(dir string, d disk, before, size uint64) error {
	for level := uint64(0); size>>(layout.TileHeight*level) > 0; level++ {
		count := size >> (layout.TileHeight * level) // hashes at this level
		edge, width := count/layout.TileWidth, count%layout.TileWidth
		for index := before >> (layout.TileHeight * level) / layout.TileWidth; index <= edge; index++ {
			keep := "" // the tile is full: its partial files are superseded
			if index == edge && width > 0 {
				keep = fmt.Sprint(width)
			}
			paths := []string{layout.TilePath(level, index, 1)}
			if level == 0 {
				paths = append(paths, layout.EntriesPath(index, 1))
			}
			for _, path := range paths {
				if err := clearBut(d, filepath.Dir(filepath.Join(dir, filepath.FromSlash(path))), keep); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// clearBut removes the files of a folder but one, and the folder when nothing is
// left.
func clearBut(d disk, folder, keep string) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	kept := false
	for _, e := range entries {
		if e.Name() == keep {
			kept = true
			continue
		}
		if err := d.remove(filepath.Join(folder, e.Name())); err != nil {
			return err
		}
	}
	if kept {
		return nil
	}
	return d.remove(folder)
}

// resuming reads from a server, except for full bundles that an interrupted
// mirroring has stored already. What it gives is verified by who reads it.
type resuming struct {
	tlog.Source // the server
	local       tlog.Source
	taken       map[string]bool // bundles that came from local
	distrusted  map[string]bool // bundles that did and were not what they should be
}

func (r *resuming) Read(ctx context.Context, path string) ([]byte, error) {
	if isFullBundle(path) && !r.distrusted[path] {
		if raw, err := r.local.Read(ctx, path); err == nil {
			r.taken[path] = true
			return raw, nil
		}
	}
	return r.Source.Read(ctx, path)
}

func isFullBundle(path string) bool {
	return strings.HasPrefix(path, "tile/entries/") && !strings.Contains(path, ".p/")
}
