// Command cordon-demo starts every program of cordon on one machine, on loopback,
// with fictitious people, so that a person can see the whole way from a decision to
// a verified record of its enforcement. It supervises nothing: a program that ends
// is reported and not started again.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"cordon/cmd/internal/daemon"
	"cordon/cmd/internal/program"
)

func main() {
	// Children are told of this process's death (PR_SET_PDEATHSIG), which the
	// kernel binds to the thread that started them: they are all started from
	// this goroutine, and it keeps its thread.
	runtime.LockOSThread()
	os.Exit(program.Main(command()))
}

func command() *cobra.Command {
	c := program.Root("cordon-demo", "Every program of cordon on loopback, with lines to paste", `Start the authority's, the provider's and the official's programs on loopback, with fictitious people and
two listed names, and show what happens. Ctrl-C stops everything. The folder is kept: the next start goes on in it.`)
	c.Args = cobra.NoArgs
	data := c.Flags().String("data", "demo-data", "`DIR` that everything is kept in")
	offline := c.Flags().Bool("offline", false, "bring a small signed internet, even where there is a route to the real one")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, err := filepath.Abs(*data)
		if err != nil {
			return err
		}
		return daemon.Run(cmd.Context(), func(ctx context.Context) error {
			return demo(ctx, dir, *offline)
		})
	}
	c.AddCommand(internetCommand())
	return c
}

// demo founds what is not there yet, starts the programs and shows what they do
// until ctx ends, then stops them in the reverse order.
func demo(ctx context.Context, dir string, offline bool) (err error) {
	programs, err := programFolder()
	if err != nil {
		return err
	}
	if !offline && !hasRoute(ctx) {
		fmt.Println("There is no route to the Internet's root servers: the demo brings a small signed internet of its own.")
		offline = true
	}
	s := &stage{dir: dir, programs: programs, offline: offline}
	if err := s.found(ctx); err != nil {
		return err
	}
	c := &children{stage: s}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := c.start(ctx); err != nil {
		return err
	}
	s.guide(os.Stdout)
	return c.watch(ctx, os.Stdout)
}

// programFolder is where the other programs are: beside this one.
func programFolder() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the programs: %w", err)
	}
	dir := filepath.Dir(self)
	for _, name := range []string{"cordon-authority", "cordon-resolver", "cordon-auditor", "cordon-stoppage", "cordon-oversight"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("find the programs: %w; build all of them (make build)", err)
		}
	}
	return dir, nil
}
