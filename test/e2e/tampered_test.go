package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/mod/sumdb/note"

	"cordon/audit"
	"cordon/audit/tlog"
	"cordon/oversight"
	"cordon/signing"
)

// Promise 4: the record cannot be edited unseen, not even by who holds the audit
// log's key. The official has seen the log once before it is tampered with.
func TestTheAuditLogIsTamperedWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	national := w.found("national")
	serial := national.list("terrorism", "propagande.example")
	w.subscribe(national)
	r, a := w.startResolver(), w.startAuditor()
	r.enforces("national", serial)
	block := func(name string) {
		t.Helper()
		if err := w.blocked(w.ask(name, dns.TypeA), "terrorism"); err != nil {
			t.Error(err)
		}
		w.sealsEverything()
	}
	block("first.propagande.example")
	w.copyLog("audit", "seen")
	seen := len(w.leaves("seen"))
	block("second.propagande.example")
	block("third.propagande.example")
	r.terminate()
	a.terminate()
	leaves := w.leaves("audit")
	of := func(name string) int {
		t.Helper()
		for i, leaf := range leaves {
			if bytes.Contains(leaf, []byte(name)) {
				return i
			}
		}
		t.Fatalf("no leaf holds %s", name)
		return 0
	}
	first, second := of("first.propagande.example"), of("second.propagande.example")
	if first >= seen || second < seen {
		t.Fatalf("the leaves %d and %d are to lie on both sides of %d", first, second, seen)
	}
	covers := func(leaf int) (first, last uint64) {
		t.Helper()
		l, err := audit.ParseLeaf(leaves[leaf])
		if err != nil {
			t.Fatal(err)
		}
		return l.First, l.Last
	}
	at := func(leaf int) *uint64 { l := uint64(leaf); return &l }
	from, to := covers(second)
	rename := func(leaf int, from, to string) [][]byte {
		changed := slices.Clone(leaves)
		changed[leaf] = bytes.Replace(leaves[leaf], []byte(from), []byte(to), 1)
		return changed
	}
	without := func(leaf int) [][]byte { return slices.Delete(slices.Clone(leaves), leaf, leaf+1) }

	for _, c := range []struct {
		name   string
		tamper func(dir string)
		found  oversight.Finding // the one alarm, but for its words
	}{
		{"one leaf is altered in its file", func(dir string) {
			w.copyLog("audit", dir)
			w.alterEntries(dir, "second.propagande.example", "secund.propagande.example")
		}, oversight.Finding{Code: oversight.CodeServed, Leaf: at(second)}},
		{"one leaf is altered and the log signed anew", func(dir string) {
			w.sign(dir, rename(second, "second.propagande", "secund.propagande"))
		}, oversight.Finding{Code: oversight.CodeRawTally, Leaf: at(second), First: from, Last: to}},
		{"one leaf is dropped and the log signed anew", func(dir string) {
			w.sign(dir, without(second))
		}, oversight.Finding{Code: oversight.CodeHole, Leaf: at(second), First: from, Last: to}},
		{"one leaf that was seen is altered and the log signed anew", func(dir string) {
			w.sign(dir, rename(first, "first.propagande", "forst.propagande"))
		}, oversight.Finding{Code: oversight.CodeForked, Leaf: at(first)}},
		{"the log is rewritten from the start", func(dir string) {
			w.sign(dir, without(first))
		}, oversight.Finding{Code: oversight.CodeForked, Leaf: at(first)}},
		{"the log ends before what was seen", func(dir string) {
			w.sign(dir, leaves[:seen-1])
		}, oversight.Finding{Code: oversight.CodeShrunk, Leaf: at(seen - 1)}},
		{"another key signs", func(dir string) {
			skey, _, err := tlog.GenerateKey(logName)
			if err != nil {
				t.Fatal(err)
			}
			w.signWith(dir, skey, leaves)
		}, oversight.Finding{Code: oversight.CodeCheckpoint}},
	} {
		dir := "tampered/" + strings.ReplaceAll(c.name, " ", "-")
		official := func(log string) *official {
			return national.officialAt(strings.ReplaceAll(c.name, " ", "-"), fmt.Sprintf("    source: ../%s\n    blocklog: ../resolver/blocklog\n", log))
		}
		official("seen").run("mirror")
		c.tamper(dir)
		o := official(dir)
		// What is wrong with a log as it is served is found when it is mirrored,
		// what is wrong in it when it is verified; verify tells of both.
		mirrored, _, _ := output("cordon-oversight", "mirror", "--config", o.config)
		var report oversight.Report
		if out := o.fails("cordon-oversight", "verify", "--json", "--config", o.config); json.Unmarshal([]byte(out), &report) != nil {
			t.Fatalf("%s: verify failed otherwise than by a finding: %s", c.name, out)
		}
		c.found.Severity, c.found.Log = oversight.Alarm, "node1"
		var alarms []string
		for _, f := range report.Findings {
			if f.Severity == oversight.Alarm {
				f.What = ""
				alarms = append(alarms, f.String())
			}
		}
		if !slices.Equal(alarms, []string{c.found.String()}) {
			t.Errorf("%s: the official finds %q, not %q; mirror says:\n%s", c.name, alarms, c.found, mirrored)
		}
	}
	national.official().verifies()
}

// leaves reads those of a log of the world.
func (w *world) leaves(dir string) (all [][]byte) {
	w.t.Helper()
	verifier, err := tlog.ReadVerifier(w.path("keys/audit.vkey"))
	if err != nil {
		w.t.Fatal(err)
	}
	reader := tlog.NewReader(tlog.FolderSource(w.path(dir)), verifier)
	checkpoint, err := reader.Checkpoint(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	for leaf, err := range reader.Leaves(context.Background(), checkpoint, 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, bytes.Clone(leaf.Data))
	}
	return all
}

// copyLog copies what a log's readers see.
func (w *world) copyLog(from, to string) {
	w.t.Helper()
	if err := os.CopyFS(w.path(to+"/tile"), os.DirFS(w.path(from+"/tile"))); err != nil {
		w.t.Fatal(err)
	}
	w.write(to+"/checkpoint", w.read(from+"/checkpoint"))
}

// alterEntries replaces text wherever it stands in the entries of a log.
func (w *world) alterEntries(dir, from, to string) {
	w.t.Helper()
	altered := 0
	err := filepath.WalkDir(w.path(dir+"/tile/entries"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(data, []byte(from)) {
			return err
		}
		altered++
		return os.WriteFile(path, bytes.ReplaceAll(data, []byte(from), []byte(to)), 0o600)
	})
	if err != nil || altered == 0 {
		w.t.Fatalf("%d files were altered: %v", altered, err)
	}
}

// sign makes a log of leaves, signed with the audit log's own key, as who has
// taken over the auditor could.
func (w *world) sign(dir string, leaves [][]byte) {
	w.t.Helper()
	skey, err := signing.ReadSecret(w.path("auditor/audit.key"), signing.KindNoteSigner, []byte(strings.TrimSpace(w.read("keys/passphrase"))))
	if err != nil {
		w.t.Fatal(err)
	}
	w.signWith(dir, string(skey), leaves)
}

func (w *world) signWith(dir, skey string, leaves [][]byte) {
	w.t.Helper()
	signer, err := note.NewSigner(strings.TrimSpace(skey))
	if err != nil {
		w.t.Fatal(err)
	}
	ctx := context.Background()
	l, err := tlog.Open(ctx, w.path(dir), signer, tlog.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := l.Append(ctx, leaves...); err != nil {
		w.t.Error(err)
	}
	if err := l.Close(ctx); err != nil {
		w.t.Fatal(err)
	}
}
