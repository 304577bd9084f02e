// Command cordon-resolver is the ISP's part of cordon: a recursive, validating
// resolver that enforces exactly the signed lists and writes each block
// decision down before its answer leaves.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"cordon/cmd/internal/daemon"
	"cordon/cmd/internal/program"
	"cordon/resolver"
)

func main() {
	os.Exit(program.Main(command()))
}

func command() *cobra.Command {
	root := program.Root("cordon-resolver", "Resolve names, enforce signed blocking lists, and record what is blocked", "")
	root.AddCommand(runCommand(), checkConfigCommand(), statusCommand(), whyCommand(), listCommand(), flushCommand(), exportsCommand(), blocklogCommand(), program.Identity("lists[].identity"))
	return root
}

const defaultConfig = "/etc/cordon/cordon-resolver.yaml"

// withConfig gives a command the flag that names the configuration file.
func withConfig(c *cobra.Command) *string {
	return c.Flags().String("config", defaultConfig, "configuration `FILE`")
}

func runCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Resolve, enforce and record until told to stop",
		Args:  cobra.NoArgs,
	}
	config := withConfig(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		conf, err := resolver.LoadConfig(*config)
		if err != nil {
			return err
		}
		log, err := daemon.Logger(os.Stderr, conf.LogLevel)
		if err != nil {
			return fmt.Errorf("%s: %w", *config, err)
		}
		return daemon.Run(cmd.Context(), func(ctx context.Context) error {
			r, err := resolver.New(*conf, resolver.Surroundings{
				Log:     log,
				Version: daemon.Version(),
				Clock:   time.Now,
				Built:   daemon.Built(),
				Ready: func() {
					if err := daemon.Ready(); err != nil {
						log.Warn("the service manager was not told", "error", err)
					}
				},
			})
			if err != nil {
				return err
			}
			return r.Run(ctx)
		})
	}
	return c
}

func checkConfigCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "check-config",
		Short: "Read the configuration and what it names, and say what is wrong",
		Args:  cobra.NoArgs,
	}
	config := withConfig(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		conf, err := resolver.LoadConfig(*config)
		if err != nil {
			return err
		}
		if err := resolver.Check(*conf); err != nil {
			return fmt.Errorf("%s: %w", *config, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: good; %d lists\n", *config, len(conf.Lists))
		return nil
	}
	return c
}
