// Package e2e shows cordon as its three users meet it: the real programs as
// processes of their own, real sockets, real authoritative servers (NSD), and
// nothing of the inside but the readers of the two logs. A test has a world of
// its own (world_test.go) in a laboratory internet that all share.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"cordon/test/await"
	"cordon/test/lab"
)

// programs are those that the tests run, by the name of their folder in cmd.
var programs = []string{"cordon-authority", "cordon-resolver", "cordon-auditor", "cordon-oversight", "cordon-stoppage"}

// bin is the folder of the programs, internet the one that resolvers resolve
// in, port where its servers answer. TestMain alone sets them.
var (
	bin      string
	internet *lab.Internet
	port     uint16
)

// TestMain builds the programs, unless CORDON_BIN names a folder that holds
// them, and starts the laboratory internet.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	bin = os.Getenv("CORDON_BIN")
	if bin == "" {
		dir, err := os.MkdirTemp("", "cordon-bin-")
		if err != nil {
			return fail(err)
		}
		defer os.RemoveAll(dir)
		if err := build(dir); err != nil {
			return fail(err)
		}
		bin = dir
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return fail(err)
	}
	for _, program := range programs {
		if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
			return fail(fmt.Errorf("%w; build it, or leave CORDON_BIN out", err))
		}
	}
	stop, err := serveInternet()
	if err != nil {
		return fail(err)
	}
	defer func() {
		if err := stop(); err != nil {
			code = fail(err)
		}
	}()
	return m.Run()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "end to end:", err)
	return 1
}

// build makes the programs as a release does, without the race detector: what
// is tested here is what people run.
func build(dir string) error {
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	for _, program := range programs {
		args = append(args, "cordon/cmd/"+program)
	}
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
}

// serveInternet signs the sample internet and serves it by NSD. On a machine
// without it the laboratory's own server stands in, which gives the same
// answers; where everything has to run (CI=true) that is a failure.
func serveInternet() (stop func() error, err error) {
	if internet, err = lab.Build(lab.Sample(), time.Now()); err != nil {
		return nil, err
	}
	if _, err := exec.LookPath("nsd"); err != nil {
		if os.Getenv("CI") == "true" {
			return nil, fmt.Errorf("nsd is not installed (Debian package nsd): %w", err)
		}
		fmt.Fprintln(os.Stderr, "end to end: nsd is not installed (Debian package nsd); the laboratory's own server answers in its place")
		server, err := internet.Listen(0)
		if err != nil {
			return nil, err
		}
		port = server.Port()
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(ctx) }()
		return func() error { cancel(); return <-ended }, nil
	}
	dir, err := os.MkdirTemp("", "cordon-nsd-")
	if err != nil {
		return nil, err
	}
	nsd, err := internet.StartNSD(dir, 0)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	port = nsd.Port()
	return func() error {
		err := nsd.Stop()
		os.RemoveAll(dir)
		return err
	}, nil
}

// patience bounds how long a test waits for what another process has to do. It
// is far more than any of it takes on a slow machine: running into it is a
// failure of the process, never of the machine's speed.
const patience = await.Patience
