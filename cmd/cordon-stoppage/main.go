// Command cordon-stoppage serves the page that people see who asked for a
// blocked site.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"cordon/cmd/internal/daemon"
	"cordon/cmd/internal/program"
	"cordon/stoppage"
)

func main() {
	os.Exit(program.Main(command()))
}

func command() *cobra.Command {
	root := program.Root("cordon-stoppage", "Serve the page that people see who asked for a blocked site", "")
	var path string
	withConfig := func(c *cobra.Command) *cobra.Command {
		c.Flags().StringVar(&path, "config", "/etc/cordon/cordon-stoppage.yaml", "configuration `file`")
		return c
	}
	root.AddCommand(withConfig(&cobra.Command{
		Use:   "run",
		Short: "Serve the page until SIGINT or SIGTERM",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return daemon.Run(c.Context(), func(ctx context.Context) error { return run(ctx, path) })
		},
	}), withConfig(&cobra.Command{
		Use:   "check-config",
		Short: "Check the configuration and the texts, and say what is wrong with them",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, texts, err := stoppage.LoadConfig(path)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: correct; %d categories in %d languages\n", path, len(texts.Categories), len(texts.Languages))
			return err
		},
	}))
	return root
}

func run(ctx context.Context, path string) error {
	c, texts, err := stoppage.LoadConfig(path)
	if err != nil {
		return err
	}
	log, err := daemon.Logger(os.Stderr, c.LogLevel)
	if err != nil {
		return fmt.Errorf("%s: log_level: %w", path, err)
	}
	server, err := stoppage.New(*c, texts, log)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := server.Listen(ctx); err != nil {
		return err
	}
	if err := daemon.Ready(); err != nil {
		log.Warn("service manager not told", "error", err)
	}
	return server.Serve(ctx)
}
