package tlog

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"testing"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

// memory is a log as a map of its files: the naive model that the reader is
// tested against, written from the definitions of tlog-tiles and RFC 6962.
type memory map[string][]byte

func (m memory) Read(_ context.Context, path string) ([]byte, error) {
	if _, ok := Limit(path); !ok {
		return nil, fmt.Errorf("%q is not in the layout", path)
	}
	b, ok := m[path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return b, nil
}

// merkle is MTH of RFC 6962 §2.1.
func merkle(leaves [][]byte) []byte {
	switch len(leaves) {
	case 0:
		return rfc6962.DefaultHasher.EmptyRoot()
	case 1:
		return rfc6962.DefaultHasher.HashLeaf(leaves[0])
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	return rfc6962.DefaultHasher.HashChildren(merkle(leaves[:k]), merkle(leaves[k:]))
}

func leaf(i int) []byte { return fmt.Appendf(nil, "leaf %d", i) }

func leavesOf(n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = leaf(i)
	}
	return all
}

// model writes the log of the leaves as it stands at their number.
func model(t testing.TB, signer note.Signer, leaves [][]byte) memory {
	t.Helper()
	m := memory{}
	put := func(dir string, n int, each func(i int) []byte) {
		for tile := 0; tile*256 < n; tile++ {
			var b []byte
			w := min(256, n-tile*256)
			for i := range w {
				b = append(b, each(tile*256+i)...)
			}
			name := fmt.Sprintf("tile/%s/%03d", dir, tile)
			if tile >= 1000 {
				name = fmt.Sprintf("tile/%s/x%03d/%03d", dir, tile/1000, tile%1000)
			}
			if w < 256 {
				name += fmt.Sprintf(".p/%d", w)
			}
			m[name] = b
		}
	}
	put("entries", len(leaves), func(i int) []byte {
		return append(binary.BigEndian.AppendUint16(nil, uint16(len(leaves[i]))), leaves[i]...)
	})
	hashes := make([][]byte, len(leaves))
	for i := range leaves {
		hashes[i] = rfc6962.DefaultHasher.HashLeaf(leaves[i])
	}
	for level := 0; len(hashes) > 0; level++ {
		put(fmt.Sprint(level), len(hashes), func(i int) []byte { return hashes[i] })
		var above [][]byte
		for i := 0; i+256 <= len(hashes); i += 256 {
			row := hashes[i : i+256]
			for len(row) > 1 {
				var next [][]byte
				for j := 0; j < len(row); j += 2 {
					next = append(next, rfc6962.DefaultHasher.HashChildren(row[j], row[j+1]))
				}
				row = next
			}
			above = append(above, row[0])
		}
		hashes = above
	}
	text := log.Checkpoint{Origin: signer.Name(), Size: uint64(len(leaves)), Hash: merkle(leaves)}.Marshal()
	signed, err := note.Sign(&note.Note{Text: string(text)}, signer)
	if err != nil {
		t.Fatal(err)
	}
	m[checkpointPath] = signed
	return m
}

func (m memory) clone() memory { return maps.Clone(m) }

func keys(t testing.TB) (note.Signer, note.Verifier) {
	t.Helper()
	skey, vkey, err := GenerateKey("isp.example/audit")
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

// checkpointOf reads the checkpoint, which has to verify.
func checkpointOf(t testing.TB, r *Reader) Checkpoint {
	t.Helper()
	cp, err := r.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return cp
}
