package main

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"cordon/signing"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cordon-resolver": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"identity": identity,
			"await":    await,
		},
	})
}

// identity FILE makes an age identity with little work for its passphrase, and
// sets CORDON_PASSPHRASE.
func identity(ts *testscript.TestScript, _ bool, args []string) {
	id, _, err := signing.GenerateIdentity()
	ts.Check(err)
	ts.Check(signing.WriteSecret(ts.MkAbs(args[0]), signing.KindIdentity, []byte(id), []byte("x"), 1))
	ts.Check(os.WriteFile(ts.MkAbs("passphrase"), []byte("x\n"), 0o600))
	ts.Setenv("CORDON_PASSPHRASE", "x")
}

// await SOCKET waits until somebody answers at a UNIX socket.
func await(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("unix", ts.MkAbs(args[0]))
		if err == nil {
			ts.Check(c.Close())
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("nobody answers: %v", err)
		}
	}
}
