package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cordon-authority": main})
}

func TestScripts(t *testing.T) {
	configs, err := filepath.Abs("../../configs")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("CORDON_PASSPHRASE", "correct horse battery")
			e.Setenv("CONFIGS", configs)
			e.Setenv("INIT", "--kdf-log-n=2")
			return os.MkdirAll(filepath.Join(e.WorkDir, "tmp"), 0o700)
		},
	})
}
