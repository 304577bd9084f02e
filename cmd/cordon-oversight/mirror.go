package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"cordon/cmd/internal/daemon"
	"cordon/configs"
	"cordon/oversight"
)

func (o *office) mirrorCommand() *cobra.Command {
	var l oversight.LogConfig
	var data string
	c := o.withJSON(&cobra.Command{
		Use:   "mirror [URL | FOLDER | NAME]",
		Short: "Bring the copies of the logs and of the published lists up to date",
		Long: `Without an argument, everything in the configuration is mirrored; with one, the log of that name or source.
With --vkey, no configuration is needed: the log at URL is mirrored into --data.`,
		Example: `  cordon-oversight mirror --config cordon-oversight.yaml
  cordon-oversight mirror https://audit.isp.example:8446/ --vkey isp.vkey --data mirrors --ca ca.pem --cert me.pem --key me-key.pem`,
		Args: cobra.MaximumNArgs(1),
	})
	c.Flags().StringVar(&l.Vkey, "vkey", "", "verifier `KEY` of the log, or the file with it")
	c.Flags().StringVar(&data, "data", "", "`FOLDER` of the mirrors, with --vkey")
	c.Flags().StringVar(&l.Name, "name", "", "`NAME` of the log, with --vkey (default: made from its key)")
	c.Flags().StringVar(&l.CA, "ca", "", "`FILE` of certificates that may sign for the server, with --vkey")
	c.Flags().StringVar(&l.Cert, "cert", "", "`FILE` with the official's certificate, with --vkey")
	c.Flags().StringVar(&l.Key, "key", "", "`FILE` with its private key, with --vkey")
	c.RunE = func(c *cobra.Command, args []string) error {
		only := ""
		if len(args) == 1 {
			only = args[0]
		}
		d, err := o.mirrorDesk(c, l, data, only)
		if err != nil {
			return err
		}
		if l.Vkey != "" {
			only = ""
		}
		return daemon.Run(c.Context(), func(ctx context.Context) error {
			steps, err := d.Mirror(ctx, only)
			if err != nil {
				return err
			}
			return o.report(c, steps)
		})
	}
	return c
}

// mirrorDesk opens the folder of the configuration, or the one that flags name.
func (o *office) mirrorDesk(c *cobra.Command, l oversight.LogConfig, data, source string) (*oversight.Desk, error) {
	if l.Vkey == "" {
		if data != "" {
			return nil, errors.New("--data goes with --vkey; without it the configuration names the folder")
		}
		d, _, err := o.desk(c)
		return d, err
	}
	if source == "" || data == "" {
		return nil, errors.New("with --vkey, name the log's URL or folder, and --data")
	}
	if l.Name == "" {
		var err error
		if l.Name, err = oversight.NameOf(l.Vkey); err != nil {
			return nil, err
		}
	}
	l.Source, l.Kind = source, oversight.KindAudit // the kind matters to "verify" alone
	conf := oversight.DefaultConfig()
	conf.Data, conf.Logs = data, []oversight.LogConfig{l}
	here, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	conf.Resolve(func(p string) string { return configs.Resolve(here, p) })
	if err := conf.Validate(); err != nil {
		return nil, err
	}
	return oversight.Open(conf, surroundings(c, ""))
}

// report says how the mirroring went.
func (o *office) report(c *cobra.Command, steps []oversight.Step) error {
	var failed []error
	found := false
	for _, s := range steps {
		if s.Err != nil {
			failed = append(failed, s.Err)
		}
		found = found || s.Finding != nil
	}
	if o.json {
		if err := printJSON(c.OutOrStdout(), steps); err != nil {
			return err
		}
	} else {
		for _, s := range steps {
			printStep(c.OutOrStdout(), s)
		}
	}
	if found {
		for _, err := range failed {
			fmt.Fprintf(c.ErrOrStderr(), "cordon-oversight: %v\n", err)
		}
		return errFound
	}
	return errors.Join(failed...)
}

func printStep(w io.Writer, s oversight.Step) {
	switch {
	case s.Finding != nil:
		fmt.Fprintf(w, "%s: %s\n", s.Name, s.Finding)
	case s.Err != nil: // told on standard error output
	case s.Lists != nil:
		fmt.Fprintf(w, "%s: a new list was verified and kept\n", s.Name)
	case s.From == s.To && s.To == 0:
		fmt.Fprintf(w, "%s: nothing new\n", s.Name)
	case s.From == s.To:
		fmt.Fprintf(w, "%s: nothing new; %d leaves\n", s.Name, s.To)
	default:
		fmt.Fprintf(w, "%s: %d new leaves, each verified; %d in all\n", s.Name, s.To-s.From, s.To)
	}
}

func (o *office) watchCommand() *cobra.Command {
	c := o.withConfig(&cobra.Command{
		Use:   "watch",
		Short: "Mirror and verify again and again, until SIGINT or SIGTERM",
		Long: `Mirror every interval of the configuration, and verify where something has changed. Each change and each finding that
is new is a line of JSON on standard error output. It never ends by itself.`,
		Args: cobra.NoArgs,
	})
	c.RunE = func(c *cobra.Command, _ []string) error {
		return daemon.Run(c.Context(), func(ctx context.Context) error {
			d, conf, err := o.desk(c)
			if err != nil {
				return err
			}
			log, err := daemon.Logger(c.ErrOrStderr(), conf.LogLevel)
			if err != nil {
				return fmt.Errorf("%s: log_level: %w", o.config, err)
			}
			return d.Watch(ctx, conf.Interval, log, func() {
				if err := daemon.Ready(); err != nil {
					log.Warn("service manager not told", "error", err)
				}
			})
		})
	}
	return c
}
