// Package program is the frame that all programs of cordon share on the command
// line: how they report an error, how they tell their version, what help looks
// like.
package program

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"cordon/cmd/internal/daemon"
)

// Main runs a program's root command and returns its exit code: 0, or 1 with
// one line on standard error that says what is wrong. A command that wants
// another code returns an error with a method ExitCode() int.
func Main(root *cobra.Command) int {
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", root.Name(), err)
	if coded, ok := err.(interface{ ExitCode() int }); ok {
		return coded.ExitCode()
	}
	return 1
}

// Root makes a program's root command.
func Root(name, short, long string) *cobra.Command {
	root := &cobra.Command{
		Use:           name,
		Short:         short,
		Long:          long,
		SilenceUsage:  true, // an error says what to do; the whole usage would bury it
		SilenceErrors: true, // Main prints them
		Version:       daemon.Version(),
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(&cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), daemon.Version())
			return err
		},
	})
	return root
}
