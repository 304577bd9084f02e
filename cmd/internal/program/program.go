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
// one line on standard error that says what is wrong.
func Main(root *cobra.Command) int {
	if err := root.ExecuteContext(context.Background()); err != nil {
		Complain(root, err)
		return 1
	}
	return 0
}

// Complain says on standard error what is wrong.
func Complain(root *cobra.Command, err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", root.Name(), err)
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
