package tlog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"

	"cordon/audit/tlog/tlogtest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("CORDON_TEST_APPEND_UNTIL_KILLED"); dir != "" {
		appendUntilKilled(dir, os.Getenv("CORDON_TEST_KEY"))
		return
	}
	goleak.VerifyTestMain(m)
}

func open(t *testing.T, dir string, signer note.Signer) *Log {
	t.Helper()
	l, err := Open(t.Context(), dir, signer, Options{CheckpointInterval: 100 * time.Millisecond, BatchAge: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.Background()) })
	return l
}

func appendLeaves(t *testing.T, l *Log, leaves ...[]byte) uint64 {
	t.Helper()
	first, err := l.Append(t.Context(), leaves...)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// all reads every leaf of the folder's log.
func all(t *testing.T, dir string, v note.Verifier) [][]byte {
	t.Helper()
	r := NewReader(FolderSource(dir), v)
	var leaves [][]byte
	for l, err := range r.Leaves(t.Context(), checkpointOf(t, r), 0) {
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, l.Data)
	}
	return leaves
}

func TestASignerKeyGivesItsVerifierKey(t *testing.T) {
	skey, vkey, err := GenerateKey("isp.example/audit")
	if err != nil {
		t.Fatal(err)
	}
	s, again, err := ParseKey(skey)
	if err != nil || again != vkey || s.Name() != "isp.example/audit" {
		t.Errorf("%s gives %q, %v; want %q", skey, again, err, vkey)
	}
	for _, bad := range []string{"", vkey, skey[:len(skey)-4], strings.Replace(skey, "isp", "xsp", 1)} {
		if _, got, err := ParseKey(bad); err == nil {
			t.Errorf("%q gives %q", bad, got)
		}
	}
	path := tlogtest.Dir(t) + "/audit.vkey"
	if err := os.WriteFile(path, []byte(vkey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if v, err := ReadVerifier(path); err != nil || v.KeyHash() != s.KeyHash() {
		t.Errorf("the file gives %v, %v", v, err)
	}
	if _, _, err := GenerateKey("two words"); err == nil {
		t.Error("a name with a space was accepted")
	}
}

func TestWhatIsAppendedIsPublishedInOrderAndVerifies(t *testing.T) {
	dir := tlogtest.Dir(t) + "/log"
	signer, verifier := keys(t)
	l := open(t, dir, signer)
	want := leavesOf(601)
	if first := appendLeaves(t, l, want[0]); first != 0 {
		t.Fatalf("the first leaf is at %d", first)
	}
	if first := appendLeaves(t, l, want[1:600]...); first != 1 { // more than two batches
		t.Fatalf("the second leaf is at %d", first)
	}
	if err := l.Published(t.Context(), 599); err != nil {
		t.Fatal(err)
	}
	if got := all(t, dir, verifier); len(got) != 600 {
		t.Fatalf("%d leaves are published", len(got))
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), []byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("appending to a closed log: %v", err)
	}
	l = open(t, dir, signer)
	if first := appendLeaves(t, l, want[600]); first != 600 {
		t.Fatalf("after opening again, the next leaf is at %d", first)
	}
	if err := l.Close(t.Context()); err != nil { // publishes
		t.Fatal(err)
	}
	got := all(t, dir, verifier)
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("leaf %d is %q", i, got[i])
		}
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder has mode %v, %v; want 0700", info.Mode(), err)
	}
}

func TestTheWriterAndTheModelAgreeOnEveryFile(t *testing.T) {
	dir := tlogtest.Dir(t)
	signer, _ := keys(t)
	l := open(t, dir, signer)
	appendLeaves(t, l, leavesOf(515)...)
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for path, want := range model(t, signer, leavesOf(515)) {
		got, err := FolderSource(dir).Read(t.Context(), path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs (%v)", path, err)
		}
	}
}

func TestASecondWriterIsTold(t *testing.T) {
	dir := tlogtest.Dir(t)
	signer, _ := keys(t)
	l := open(t, dir, signer)
	if _, err := Open(t.Context(), dir, signer, Options{}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("second Open: %v", err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	open(t, dir, signer)
}

func TestAnotherKeyCannotContinueALog(t *testing.T) {
	dir := tlogtest.Dir(t)
	signer, _ := keys(t)
	if err := open(t, dir, signer).Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	other, _ := keys(t)
	if _, err := Open(t.Context(), dir, other, Options{}); err == nil || !strings.Contains(err.Error(), "not signed by the key") {
		t.Fatalf("opened with another key: %v", err)
	}
	open(t, dir, signer)
}

func TestALeafThatIsTooLongIsRefusedAndTheLongestIsNot(t *testing.T) {
	dir := tlogtest.Dir(t)
	signer, verifier := keys(t)
	l := open(t, dir, signer)
	if _, err := l.Append(t.Context(), []byte("a"), make([]byte, MaxLeaf+1)); err == nil {
		t.Fatal("a leaf of 64 KiB was accepted")
	}
	if _, err := l.Append(t.Context()); err == nil {
		t.Fatal("no leaf was accepted")
	}
	appendLeaves(t, l, make([]byte, MaxLeaf))
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := all(t, dir, verifier); len(got) != 1 || len(got[0]) != MaxLeaf {
		t.Fatalf("%d leaves", len(got))
	}
}

func TestConcurrentAppendsKeepTheirLeavesInARow(t *testing.T) {
	dir := tlogtest.Dir(t)
	signer, verifier := keys(t)
	l := open(t, dir, signer)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			var mine [][]byte
			for i := range 10 {
				mine = append(mine, fmt.Appendf(nil, "%d %d", w, i))
			}
			if _, err := l.Append(t.Context(), mine...); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, got := range all(t, dir, verifier) {
		if want := fmt.Sprintf(" %d", i%10); !strings.HasSuffix(string(got), want) {
			t.Fatalf("leaf %d is %q", i, got)
		}
	}
}

func TestAFailedWriteIsReportedAndTheLogGoesOn(t *testing.T) {
	dir := tlogtest.Dir(t)
	signer, verifier := keys(t)
	l := open(t, dir, signer)
	// Permissions do not stop root: a file where a folder is needed does.
	if err := os.WriteFile(dir+"/tile", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), leaf(0), leaf(1)); err == nil {
		t.Fatal("appended without a place for tiles")
	}
	if err := os.Remove(dir + "/tile"); err != nil {
		t.Fatal(err)
	}
	if first := appendLeaves(t, l, leaf(0)); first != 0 {
		t.Fatalf("the leaf after the failure is at %d", first)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := all(t, dir, verifier); len(got) != 1 {
		t.Fatalf("%d leaves", len(got))
	}
}

// appendUntilKilled is the child of the test below: it prints the index of each
// leaf after Append has returned.
func appendUntilKilled(dir, skey string) {
	signer, err := note.NewSigner(skey)
	if err != nil {
		panic(err)
	}
	l, err := Open(context.Background(), dir, signer, Options{BatchAge: time.Millisecond})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	size, err := l.Size(context.Background())
	if err != nil {
		panic(err)
	}
	for i := int(size); ; i++ {
		index, err := l.Append(context.Background(), leaf(i))
		if err != nil || index != uint64(i) {
			fmt.Println(index, err)
			os.Exit(1)
		}
		fmt.Println(i + 1)
	}
}

func TestKillingTheWriterLosesNoLeafThatWasAcknowledged(t *testing.T) {
	dir := tlogtest.Dir(t)
	skey, vkey, err := GenerateKey("isp.example/audit")
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "CORDON_TEST_APPEND_UNTIL_KILLED="+dir, "CORDON_TEST_KEY="+skey)
		var stderr bytes.Buffer
		c.Stderr = &stderr
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		acknowledged := 0
		for n := 5 + rand.IntN(40); n > 0 && lines.Scan(); n-- {
			if _, err := fmt.Sscan(lines.Text(), &acknowledged); err != nil {
				t.Fatalf("the child says %q", lines.Text())
			}
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			fmt.Sscan(lines.Text(), &acknowledged)
		}
		io.Copy(io.Discard, out)
		c.Wait() // "signal: killed"
		if stderr.Len() > 0 {
			t.Errorf("the library wrote to the terminal: %s", stderr.String())
		}

		l := open(t, dir, signer) // publishes what was integrated
		got := all(t, dir, verifier)
		if len(got) < acknowledged {
			t.Fatalf("%d leaves were acknowledged, %d are there", acknowledged, len(got))
		}
		for i := range got {
			if !bytes.Equal(got[i], leaf(i)) {
				t.Fatalf("leaf %d is %q", i, got[i])
			}
		}
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkOpenAppendPublishClose(b *testing.B) {
	signer, _ := keys(b)
	dir := tlogtest.Dir(b)
	for b.Loop() {
		l, err := Open(b.Context(), dir, signer, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := l.Append(b.Context(), []byte("leaf")); err != nil {
			b.Fatal(err)
		}
		if err := l.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
