package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"cordon/audit"
	"cordon/audit/tlog"
	"cordon/blocklog"
	"cordon/configs"
	"cordon/signing"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cordon-auditor": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"key":    key,
			"block":  block,
			"await":  await,
			"verify": verify,
		},
	})
}

func TestTheExampleIsACompleteConfiguration(t *testing.T) {
	data, err := configs.Examples.ReadFile("cordon-auditor.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := audit.DefaultConfig()
	if err := configs.Parse("cordon-auditor.yaml", data, &c); err != nil {
		t.Fatal(err)
	}
	c.Resolve(func(p string) string { return p })
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

// key NAME makes the key of a log as init does, with little work for the
// passphrase, and sets CORDON_PASSPHRASE.
func key(ts *testscript.TestScript, _ bool, args []string) {
	skey, vkey, err := tlog.GenerateKey(args[0])
	ts.Check(err)
	ts.Check(os.Mkdir(ts.MkAbs("keys"), 0o700))
	ts.Check(signing.WriteSecret(ts.MkAbs("keys/audit.key"), signing.KindNoteSigner, []byte(skey), []byte("x"), 1))
	ts.Check(os.WriteFile(ts.MkAbs("keys/audit.vkey"), []byte(vkey+"\n"), 0o600))
	ts.Setenv("CORDON_PASSPHRASE", "x")
}

// block NAME... plays the resolver: it journals a decision for each name into
// the folder "blocklog".
func block(ts *testscript.TestScript, _ bool, args []string) {
	j, err := blocklog.Open(ts.MkAbs("blocklog"), blocklog.Options{})
	ts.Check(err)
	for _, name := range args {
		var wire []byte
		for label := range strings.SplitSeq(name, ".") {
			wire = append(append(wire, byte(len(label))), label...)
		}
		ts.Check(j.Append([]blocklog.Decision{{
			Matches: []blocklog.Match{{List: "national", Serial: 1, Entry: "E-1"}}, Name: append(wire, 0),
			Type: 1, Transport: blocklog.UDP, Action: blocklog.StopPage, Count: 1,
		}}))
	}
	ts.Check(j.Close())
}

func reader(ts *testscript.TestScript) *tlog.Reader {
	v, err := tlog.ReadVerifier(ts.MkAbs("keys/audit.vkey"))
	ts.Check(err)
	return tlog.NewReader(tlog.FolderSource(ts.MkAbs("log")), v)
}

// await N waits until the audit log in the folder "log" has published N leaves.
func await(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.ParseUint(args[0], 10, 64)
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		if cp, err := reader(ts).Checkpoint(ctx); err == nil && cp.Size >= n {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%d leaves were not published", n)
		case <-poll.C:
		}
	}
}

// verify prints the report on the audit log, with the block log at hand, and
// fails when there are findings (with "!": when there are none).
func verify(ts *testscript.TestScript, neg bool, _ []string) {
	r := reader(ts)
	cp, err := r.Checkpoint(context.Background())
	ts.Check(err)
	raw := audit.NewFolderRecords(ts.MkAbs("blocklog"))
	defer raw.Close()
	report, err := audit.Verify(context.Background(), r, cp, raw)
	ts.Check(err)
	text, err := json.Marshal(report)
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), string(text))
	if report.OK() == neg {
		ts.Fatalf("findings: %v", report.Findings)
	}
}
