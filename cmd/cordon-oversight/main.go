// Command cordon-oversight is the official's part of cordon: it mirrors the
// authority's register and the resolvers' audit logs, verifies them against each
// other, and shows what they say.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"cordon/cmd/internal/daemon"
	"cordon/cmd/internal/terminal"
	"cordon/configs"
	"cordon/oversight"
	"cordon/signing"
)

// What a script may rely on.
const (
	exitFound  = 1 // something was found that asks for something
	exitFailed = 2 // the command could not do its work
)

func main() { os.Exit(run()) }

func run() int {
	err := command().ExecuteContext(context.Background())
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFound):
		return exitFound
	}
	fmt.Fprintf(os.Stderr, "cordon-oversight: %v\n", err)
	return exitFailed
}

// errFound ends a command whose report says what was found.
var errFound = errors.New("something was found")

const (
	defaultConfig = "/etc/cordon-oversight/cordon-oversight.yaml"
	passphraseEnv = "CORDON_PASSPHRASE"
)

// office is what the commands share.
type office struct {
	config string
	json   bool
}

func command() *cobra.Command {
	o := &office{}
	root := &cobra.Command{
		Use:   "cordon-oversight",
		Short: "Mirror, verify and show what an authority lists and resolvers block",
		Long: `The official copies the authority's register and each resolver's audit log into a folder of their own (mirror), holds
the copies against each other (verify), and reads them (show). A server is trusted for nothing; what does not
continue what was seen before is kept as evidence.

Exit status: 0 in order, 1 something was found, 2 the command could not do its work.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       daemon.Version(),
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		o.mirrorCommand(), o.verifyCommand(), o.showCommand(), o.watchCommand(), o.checkConfigCommand(), identityCommand(),
		&cobra.Command{
			Use: "version", Short: "Print the version", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				_, err := fmt.Fprintln(c.OutOrStdout(), daemon.Version())
				return err
			},
		},
	)
	return root
}

// withConfig gives a command the flag that names the configuration file.
func (o *office) withConfig(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&o.config, "config", defaultConfig, "configuration `FILE`")
	return c
}

// withJSON gives a command the flag for programs.
func (o *office) withJSON(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&o.json, "json", false, "print JSON, for programs")
	return o.withConfig(c)
}

// load reads and checks the configuration.
func (o *office) load() (oversight.Config, error) {
	conf := oversight.DefaultConfig()
	if err := configs.Load(o.config, &conf); err != nil {
		return conf, err
	}
	dir, err := filepath.Abs(configs.Dir(o.config))
	if err != nil {
		return conf, fmt.Errorf("%s: %w", o.config, err)
	}
	conf.Resolve(func(p string) string { return configs.Resolve(dir, p) })
	if err := conf.Validate(); err != nil {
		return conf, fmt.Errorf("%s: %w", o.config, err)
	}
	return conf, nil
}

// desk opens the folder of the configuration.
func (o *office) desk(c *cobra.Command) (*oversight.Desk, oversight.Config, error) {
	conf, err := o.load()
	if err != nil {
		return nil, conf, err
	}
	d, err := oversight.Open(conf, surroundings(c, conf.PassphraseFile))
	if err != nil {
		return nil, conf, fmt.Errorf("%s: %w", o.config, err)
	}
	return d, conf, nil
}

func surroundings(c *cobra.Command, passphraseFile string) oversight.Surroundings {
	return oversight.Surroundings{
		Clock: time.Now,
		Passphrase: func() ([]byte, error) {
			return signing.Passphrase(passphraseFile, passphraseEnv, terminal.Prompt)
		},
		Waiting: func(lock string) {
			fmt.Fprintf(c.ErrOrStderr(), "another command works on this folder; waiting for it (%s)\n", lock)
		},
	}
}

func (o *office) checkConfigCommand() *cobra.Command {
	return o.withConfig(&cobra.Command{
		Use:   "check-config",
		Short: "Read the configuration and what it names, and say what is wrong",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := o.load()
			if err != nil {
				return err
			}
			if err := oversight.Check(conf); err != nil {
				return fmt.Errorf("%s: %w", o.config, err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: good; %d logs\n", o.config, len(conf.Logs))
			return err
		},
	})
}

func identityCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "identity FILE",
		Short: "Make the identity to which an authority encrypts its lists",
		Long: `Make an age identity (hybrid, post-quantum) in a new FILE, mode 0600, encrypted with a passphrase,
and print its recipient. Hand the recipient to the authority ("cordon-authority recipient add official …"); keep the
file, and name it as identity in the configuration.`,
		Args: cobra.ExactArgs(1),
	}
	passphraseFile := c.Flags().String("passphrase-file", "", "`FILE` with the passphrase, mode 0600 (default: CORDON_PASSPHRASE, or ask)")
	logN := c.Flags().Int("kdf-log-n", 0, "work to try one passphrase is 2^`N` (default 18, about a second)")
	c.RunE = func(c *cobra.Command, args []string) error {
		passphrase, err := signing.Passphrase(*passphraseFile, passphraseEnv, terminal.PromptNew)
		if err != nil {
			return err
		}
		identity, recipient, err := signing.GenerateIdentity()
		if err != nil {
			return err
		}
		if err := signing.WriteSecret(args[0], signing.KindIdentity, []byte(identity), passphrase, *logN); err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), recipient)
		return err
	}
	return c
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
