// Command cordon-auditor seals a resolver's block log into a transparency log
// that it alone holds the key of, and serves that log, read-only, to the
// oversight official. It runs as a user of its own, which can read the block log
// and not write it.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"cordon/audit"
	"cordon/cmd/internal/daemon"
	"cordon/cmd/internal/program"
	"cordon/cmd/internal/terminal"
	"cordon/configs"
	"cordon/signing"
)

func main() {
	os.Exit(program.Main(command()))
}

func command() *cobra.Command {
	root := program.Root("cordon-auditor", "Seal a resolver's block log into a transparency log for the oversight official", "")
	root.AddCommand(runCommand(), initCommand(), checkConfigCommand())
	return root
}

// withConfig gives a command the flag that names the configuration file.
func withConfig(c *cobra.Command) *string {
	return c.Flags().String("config", "/etc/cordon/cordon-auditor.yaml", "configuration `FILE`")
}

// load reads the configuration; its paths are absolute afterwards or relative
// to the working directory.
func load(path string) (audit.Config, error) {
	c := audit.DefaultConfig()
	if err := configs.Load(path, &c); err != nil {
		return c, err
	}
	base := configs.Dir(path)
	c.Resolve(func(p string) string { return configs.Resolve(base, p) })
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func runCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Seal and serve until SIGINT or SIGTERM, then seal what is left",
		Args:  cobra.NoArgs,
	}
	config := withConfig(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		conf, err := load(*config)
		if err != nil {
			return err
		}
		log, err := daemon.Logger(os.Stderr, conf.LogLevel)
		if err != nil {
			return fmt.Errorf("%s: %w", *config, err)
		}
		passphrase, err := passphraseOf(conf)
		if err != nil {
			return err
		}
		return daemon.Run(cmd.Context(), func(ctx context.Context) error {
			a, err := audit.New(ctx, conf, passphrase, daemon.Version(), time.Now, log)
			if err != nil {
				return err
			}
			if err := daemon.Ready(); err != nil {
				log.Warn("the service manager was not told", "error", err)
			}
			log.Info("sealing", "blocklog", conf.Blocklog, "log", conf.Log, "listen", conf.Listen, "metrics", conf.Metrics)
			return a.Run(ctx)
		})
	}
	return c
}

func initCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "init",
		Short: "Create the log's key, and the verifier key that readers need",
		Long: `Create the log's key, encrypted with a passphrase, and the verifier key, one
line that everyone who reads the log needs; hand it to the oversight official in
person. A key that is there is kept.`,
		Args: cobra.NoArgs,
	}
	config := withConfig(c)
	name := c.Flags().String("name", "", "`NAME` of the log, unique in the world and for ever, such as isp.example/cordon/node1 (required)")
	logN := c.Flags().Int("kdf-log-n", 0, "work to try one passphrase is 2^`N` (default 18, about a second)")
	if err := c.MarkFlagRequired("name"); err != nil {
		panic(err) // there is no flag of that name: a mistake in the lines above
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		conf, err := load(*config)
		if err != nil {
			return err
		}
		passphrase, err := passphraseOf(conf)
		if err != nil {
			return err
		}
		vkey, err := audit.CreateKey(conf, *name, passphrase, *logN)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "key: %s\nverifier key (%s): %s\n", conf.Key, conf.VerifierKey, vkey)
		return nil
	}
	return c
}

func checkConfigCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "check-config",
		Short: "Read the configuration, and say what is wrong with it",
		Args:  cobra.NoArgs,
	}
	config := withConfig(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		conf, err := load(*config)
		if err != nil {
			return err
		}
		if err := conf.Check(); err != nil {
			return fmt.Errorf("%s: %w", *config, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: good\n", *config)
		return nil
	}
	return c
}

// passphraseOf finds the passphrase of the log's key.
func passphraseOf(c audit.Config) ([]byte, error) {
	return signing.Passphrase(c.PassphraseFile, program.PassphraseVariable, terminal.Prompt)
}
