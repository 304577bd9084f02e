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

	"cordon/cmd/internal/program"
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
	root := command()
	err := root.ExecuteContext(context.Background())
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFound):
		return exitFound
	}
	program.Complain(root, err)
	return exitFailed
}

// errFound ends a command whose report says what was found.
var errFound = errors.New("something was found")

const defaultConfig = "/etc/cordon-oversight/cordon-oversight.yaml"

// office is what the commands share.
type office struct {
	config string
	json   bool
}

func command() *cobra.Command {
	o := &office{}
	root := program.Root("cordon-oversight", "Mirror, verify and show what an authority lists and resolvers block", `The official copies the authority's register and each resolver's audit log into a folder of their own (mirror), holds
the copies against each other (verify), and reads them (show). A server is trusted for nothing; what does not
continue what was seen before is kept as evidence.

Exit status: 0 in order, 1 something was found, 2 the command could not do its work.`)
	root.AddCommand(
		o.mirrorCommand(), o.verifyCommand(), o.showCommand(), o.watchCommand(), o.checkConfigCommand(), program.Identity("identity"),
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
			return signing.Passphrase(passphraseFile, program.PassphraseVariable, terminal.Prompt)
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

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
