package tlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"cordon/audit/tlog/tlogtest"
)

// sizes around every edge of the tile layout.
var sizes = []int{0, 1, 2, 255, 256, 257, 511, 512, 700, 65535, 65536, 65537, 66100}

func TestLeavesOfALogOfAnySizeVerify(t *testing.T) {
	signer, verifier := keys(t)
	for _, n := range sizes {
		leaves := leavesOf(n)
		r := NewReader(model(t, signer, leaves), verifier)
		cp := checkpointOf(t, r)
		for _, from := range []int{0, n / 2, n - 1, n, n + 1} {
			if from < 0 {
				continue
			}
			next := from
			for l, err := range r.Leaves(t.Context(), cp, uint64(from)) {
				if err != nil {
					t.Fatalf("%d leaves from %d: %v", n, from, err)
				}
				if l.Index != uint64(next) || !bytes.Equal(l.Data, leaf(next)) {
					t.Fatalf("%d leaves from %d: leaf %d is %q", n, from, l.Index, l.Data)
				}
				next++
			}
			if next != max(n, from) {
				t.Fatalf("%d leaves from %d: ended at %d", n, from, next)
			}
		}
	}
}

func TestRootsAndProofsOfEarlierSizesMatchTheDefinition(t *testing.T) {
	signer, verifier := keys(t)
	for _, n := range []int{1, 3, 256, 300, 65537, 66100} {
		leaves := leavesOf(n)
		r := NewReader(model(t, signer, leaves), verifier)
		cp := checkpointOf(t, r)
		for _, m := range append(slices.Clone(sizes), 3, 4, 258, 300) {
			if m > n {
				continue
			}
			older := Checkpoint{Origin: cp.Origin, Size: uint64(m), Root: [32]byte(merkle(leaves[:m]))}
			if root, err := r.RootAt(t.Context(), cp, uint64(m)); err != nil || root != older.Root {
				t.Errorf("root of the first %d of %d leaves: %x, %v", m, n, root, err)
			}
			if err := r.Consistent(t.Context(), older, cp); err != nil {
				t.Errorf("%d to %d leaves: %v", m, n, err)
			}
			p, err := r.ConsistencyProof(t.Context(), cp, uint64(m))
			if err != nil {
				t.Fatal(err)
			}
			if err := VerifyConsistency(older, cp, p); err != nil {
				t.Errorf("proof from %d to %d leaves: %v", m, n, err)
			}
			if m == n || m == 0 {
				continue
			}
			older.Root[0] ^= 1
			if err := VerifyConsistency(older, cp, p); err == nil {
				t.Errorf("proof from %d to %d leaves holds for another root", m, n)
			}
			p, err = r.InclusionProof(t.Context(), cp, uint64(m))
			if err != nil {
				t.Fatal(err)
			}
			if err := VerifyInclusion(cp, Leaf{uint64(m), leaf(m)}, p); err != nil {
				t.Errorf("leaf %d in %d: %v", m, n, err)
			}
			if err := VerifyInclusion(cp, Leaf{uint64(m), leaf(m - 1)}, p); err == nil {
				t.Errorf("another leaf is proven to be leaf %d in %d", m, n)
			}
		}
	}
}

func TestASmallerCheckpointReadsTheFullTilesThatReplacedItsPartialOnes(t *testing.T) {
	signer, verifier := keys(t)
	small := NewReader(model(t, signer, leavesOf(300)), verifier)
	cp := checkpointOf(t, small)
	m := model(t, signer, leavesOf(600))
	// A partial tile goes away only once the full one is there.
	m["tile/1/000.p/1"] = model(t, signer, leavesOf(300))["tile/1/000.p/1"]
	grown := NewReader(m, verifier)
	n := 0
	for l, err := range grown.Leaves(t.Context(), cp, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(l.Data, leaf(n)) {
			t.Fatalf("leaf %d is %q", n, l.Data)
		}
		n++
	}
	if n != 300 {
		t.Fatalf("%d leaves", n)
	}
}

// replaceLeaf changes a leaf in its bundle, nothing else.
func replaceLeaf(m memory, path string, nth int, data string) {
	b := m[path]
	at := 0
	for range nth {
		at += 2 + int(binary.BigEndian.Uint16(b[at:]))
	}
	n := int(binary.BigEndian.Uint16(b[at:]))
	m[path] = slices.Concat(b[:at], binary.BigEndian.AppendUint16(nil, uint16(len(data))), []byte(data), b[at+2+n:])
}

func dropLeaf(m memory, path string, nth int) {
	b := m[path]
	at := 0
	for range nth {
		at += 2 + int(binary.BigEndian.Uint16(b[at:]))
	}
	m[path] = slices.Concat(b[:at], b[at+2+int(binary.BigEndian.Uint16(b[at:])):])
}

func TestDamageIsFoundAndNamed(t *testing.T) {
	signer, verifier := keys(t)
	clean := model(t, signer, leavesOf(700)) // bundles 0 and 1 full, 2 of 188
	p := func(i uint64) *uint64 { return &i }
	for _, c := range []struct {
		name   string
		change func(memory)
		path   string
		leaf   *uint64
	}{
		{"a leaf is altered", func(m memory) { replaceLeaf(m, "tile/entries/001", 44, "LEAF 300") },
			"tile/entries/001", p(300)},
		{"a leaf is altered in the last bundle", func(m memory) { replaceLeaf(m, "tile/entries/002.p/188", 8, "x") },
			"tile/entries/002.p/188", p(520)},
		{"a leaf is dropped", func(m memory) { dropLeaf(m, "tile/entries/000", 7) },
			"tile/entries/000", p(255)},
		{"a leaf is dropped and another put at the end", func(m memory) {
			dropLeaf(m, "tile/entries/000", 7)
			m["tile/entries/000"] = append(m["tile/entries/000"], 0, 1, 'x')
		}, "tile/entries/000", p(7)},
		{"the last leaf is dropped", func(m memory) { dropLeaf(m, "tile/entries/002.p/188", 187) },
			"tile/entries/002.p/188", p(699)},
		{"a bundle is missing", func(m memory) { delete(m, "tile/entries/001") },
			"tile/entries/001", p(256)},
		{"a bundle ends within a leaf", func(m memory) { m["tile/entries/000"] = m["tile/entries/000"][:100] },
			"tile/entries/000", nil},
		{"a hash is altered", func(m memory) { m["tile/0/001"] = flip(m["tile/0/001"]) },
			"tile/0/001", nil},
		{"a leaf and its hash are altered", func(m memory) {
			replaceLeaf(m, "tile/entries/001", 44, "LEAF 300")
			b := slices.Clone(m["tile/0/001"])
			copy(b[44*32:], rfc6962.DefaultHasher.HashLeaf([]byte("LEAF 300")))
			m["tile/0/001"] = b
		}, "tile/0/001", nil},
		{"a tile is missing", func(m memory) { delete(m, "tile/0/000") },
			"tile/0/000", nil},
		{"a tile is too short", func(m memory) { m["tile/0/000"] = m["tile/0/000"][:8160] },
			"tile/0/000", nil},
		{"a hash at the edge is altered", func(m memory) { m["tile/1/000.p/2"] = flip(m["tile/1/000.p/2"]) },
			"tile/0/000", nil},
		{"a hash of the last leaves is altered", func(m memory) { m["tile/0/002.p/188"] = flip(m["tile/0/002.p/188"]) },
			"tile/entries/002.p/188", p(512)},
		{"every file of the edge is rewritten, the checkpoint is not", func(m memory) {
			other := leavesOf(700)
			other[600] = []byte("x")
			forged := model(t, signer, other)
			delete(forged, checkpointPath)
			maps.Copy(m, forged)
		}, "checkpoint", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := clean.clone()
			c.change(m)
			r := NewReader(m, verifier)
			cp := checkpointOf(t, r)
			var damage *DamageError
			for l, err := range r.Leaves(t.Context(), cp, 0) {
				if err == nil && !bytes.Equal(l.Data, leaf(int(l.Index))) {
					t.Fatalf("leaf %d was given as %q", l.Index, l.Data)
				}
				if err != nil && !errors.As(err, &damage) {
					t.Fatal(err)
				}
			}
			if damage == nil {
				t.Fatal("not noticed")
			}
			if damage.Path != c.path {
				t.Errorf("named %s, want %s: %v", damage.Path, c.path, damage)
			}
			if c.leaf != nil && (damage.Leaf == nil || *damage.Leaf != *c.leaf) {
				t.Errorf("want leaf %d: %v", *c.leaf, damage)
			}
		})
	}
}

func flip(b []byte) []byte {
	b = slices.Clone(b)
	b[5] ^= 1
	return b
}

func TestALogRewrittenWithTheSameKeyIsAForkForWhoHoldsAnEarlierCheckpoint(t *testing.T) {
	signer, verifier := keys(t)
	mine := NewReader(model(t, signer, leavesOf(500)), verifier)
	held := checkpointOf(t, mine)
	for _, c := range []struct {
		name  string
		then  [][]byte
		where uint64
	}{
		{"a leaf is altered and all is signed anew", func() [][]byte {
			l := leavesOf(700)
			l[321] = []byte("x")
			return l
		}(), 321},
		{"a leaf is dropped and all is signed anew", slices.Delete(leavesOf(700), 3, 4), 3},
		{"the end is cut off", leavesOf(400), 400},
		{"it begins anew", [][]byte{[]byte("begin")}, 0},
		{"it is empty", nil, 0},
		{"as many leaves, one altered", func() [][]byte {
			l := leavesOf(500)
			l[499] = []byte("x")
			return l
		}(), 499},
	} {
		t.Run(c.name, func(t *testing.T) {
			theirs := NewReader(model(t, signer, c.then), verifier)
			now := checkpointOf(t, theirs)
			err := theirs.Consistent(t.Context(), held, now)
			var fork *ForkError
			if !errors.Is(err, ErrForked) || !errors.As(err, &fork) {
				t.Fatalf("compared: %v", err)
			}
			if fork.Older.Root != held.Root || fork.Newer.Root != now.Root {
				t.Errorf("the evidence is %+v", fork)
			}
			where, err := mine.FirstDifference(t.Context(), held, theirs, now)
			if err != nil || where != c.where {
				t.Errorf("first difference at %d, %v; want %d", where, err, c.where)
			}
		})
	}
	grown := NewReader(model(t, signer, leavesOf(700)), verifier)
	now := checkpointOf(t, grown)
	if err := grown.Consistent(t.Context(), held, now); err != nil {
		t.Errorf("a log that only grew: %v", err)
	}
	if where, err := mine.FirstDifference(t.Context(), held, grown, now); err != nil || where != 500 {
		t.Errorf("a log that only grew differs at %d, %v", where, err)
	}
}

func TestCheckpointsOfOtherKeysAndShapesAreRefused(t *testing.T) {
	signer, verifier := keys(t)
	m := model(t, signer, leavesOf(3))
	other, _ := keys(t)
	sign := func(text string) []byte {
		b, err := note.Sign(&note.Note{Text: text}, signer)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	root := "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
	for name, raw := range map[string][]byte{
		"signed by another key of the same name": model(t, other, leavesOf(3))[checkpointPath],
		"a changed size":                         bytes.Replace(m[checkpointPath], []byte("\n3\n"), []byte("\n4\n"), 1),
		"another origin, same key":               sign("other.example/audit\n0\n" + root + "\n"),
		"a short root":                           sign("isp.example/audit\n0\nAAAA\n"),
		"no size":                                sign("isp.example/audit\nmany\n" + root + "\n"),
		"nothing":                                nil,
	} {
		m := m.clone()
		m[checkpointPath] = raw
		if cp, err := NewReader(m, verifier).Checkpoint(t.Context()); err == nil {
			t.Errorf("%s: accepted as %+v", name, cp)
		}
	}
}

func TestOnlyPathsOfTheLayoutAreRead(t *testing.T) {
	dir := tlogtest.Dir(t)
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "tile", "0"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "tile", "0", "000")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"secret", "../secret", "tile/../secret", "tile/entries/../../secret", ".state/treeState", "", "tile", "tile/",
		"tile/0", "tile/64/000", "tile/00/000", "tile/0/0", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/x000/000",
		"/checkpoint", "checkpoint/", "tile/entries/000.p/", "tile/0/000", // the last is a link out of the folder
	} {
		if b, err := FolderSource(dir).Read(t.Context(), path); err == nil {
			t.Errorf("%q was read: %q", path, b)
		}
	}
	for path, limit := range map[string]int64{
		"checkpoint": 65536, "tile/0/000": 8192, "tile/63/x001/x234/067.p/255": 8192, "tile/entries/x001/000": maxBundle,
	} {
		if got, ok := Limit(path); !ok || got != limit {
			t.Errorf("Limit(%q) is %d, %v", path, got, ok)
		}
	}
}

func TestALogIsReadOverHTTPWithinLimits(t *testing.T) {
	signer, verifier := keys(t)
	m := model(t, signer, leavesOf(300))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		path := strings.TrimPrefix(req.URL.Path, "/log/")
		switch b, ok := m[path]; {
		case path == "tile/0/000.p/9":
			w.Write(make([]byte, maxTile+1))
		case path == "tile/0/000.p/8":
			w.WriteHeader(http.StatusForbidden)
		case ok:
			w.Write(b)
		default:
			http.NotFound(w, req)
		}
	}))
	defer server.Close()
	defer server.Client().CloseIdleConnections()
	src := HTTPSource(server.URL+"/log/", server.Client())
	r := NewReader(src, verifier)
	n := 0
	for _, err := range r.Leaves(t.Context(), checkpointOf(t, r), 0) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 300 {
		t.Errorf("%d leaves", n)
	}
	if _, err := src.Read(t.Context(), "tile/0/000.p/7"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	for _, path := range []string{"tile/0/000.p/9", "tile/0/000.p/8"} {
		if _, err := src.Read(t.Context(), path); err == nil || errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func FuzzLimit(f *testing.F) {
	for _, s := range []string{"checkpoint", "tile/0/000", "tile/entries/x001/234.p/5", "tile/../x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if _, ok := Limit(path); ok && (!filepath.IsLocal(path) || filepath.Clean(path) != path) {
			t.Fatalf("%q is in the layout", path)
		}
	})
}

// Whatever a server sends, no leaf is given out that the checkpoint does not bind.
func FuzzLeavesOfAHostileServer(f *testing.F) {
	signer, verifier := keys(f)
	clean := model(f, signer, leavesOf(258))
	paths := slices.Sorted(maps.Keys(clean))
	f.Add(0, []byte("x"))
	f.Add(3, clean["tile/entries/000"])
	f.Fuzz(func(t *testing.T, which int, content []byte) {
		m := clean.clone()
		path := paths[(which%len(paths)+len(paths))%len(paths)]
		m[path] = content
		r := NewReader(m, verifier)
		cp, err := r.Checkpoint(t.Context())
		if err != nil {
			return
		}
		n := 0
		for l, err := range r.Leaves(t.Context(), cp, 0) {
			if err != nil {
				return
			}
			if !bytes.Equal(l.Data, leaf(n)) {
				t.Fatalf("leaf %d is %q", n, l.Data)
			}
			n++
		}
		if n != 258 {
			t.Fatalf("%d leaves", n)
		}
	})
}
