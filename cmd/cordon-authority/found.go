package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cordon/authority"
	"cordon/cmd/internal/program"
	"cordon/cmd/internal/terminal"
	"cordon/signing"
)

func (d *desk) initCommand() *cobra.Command {
	f := authority.Founding{Root: authority.Holders{Number: 3, Threshold: 2}, Targets: authority.Holders{Number: 3, Threshold: 2}, Settings: authority.DefaultSettings()}
	var recipients, pages []string
	c := &cobra.Command{
		Use:   "init",
		Short: "Found an authority: its keys, its register, its root of trust",
		Long: `Found an authority in the folder --data. All keys are made here and now, encrypted with one passphrase; what is printed
says who takes which file away, off this machine, and gives it a passphrase of their own ("passphrase FILE").
The root of trust, which operators pin, is metadata/1.root.json in the folder that is published.`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&f.Name, "name", "", "`name` of the authority, as lists and pages give it")
	c.Flags().StringVar(&f.Procedure, "procedure", "", "procedure `file`; configs/procedure-france.yaml is one")
	c.Flags().StringVar(&f.Origin, "origin", "", "`name` of the register's log, such as authority.example/register (default: made from --name)")
	c.Flags().StringArrayVar(&f.Officers, "officer", nil, "an officer, as `NAME` or NAME:ROLE (repeatable)")
	c.Flags().StringArrayVar(&recipients, "recipient", nil, "whom lists are encrypted to, as `NAME=age1pq…` (repeatable)")
	c.Flags().StringArrayVar(&pages, "stop-page", nil, "where people are led, as `CATEGORY=IPV4,IPV6,URL` (repeatable; either address may be empty)")
	c.Flags().StringVar(&f.Settings.Publish, "publish", f.Settings.Publish, "`folder` that is served to operators (default: below --data)")
	c.Flags().StringVar(&f.Settings.Keys, "keys", f.Settings.Keys, "`folder` of private keys (default: below --data)")
	c.Flags().IntVar(&f.KDFLogN, "kdf-log-n", 0, "work to try one passphrase is 2^`N` (default 18, about a second)")
	c.Flags().IntVar(&f.Root.Number, "root-keys", f.Root.Number, "`number` of people who hold root keys")
	c.Flags().IntVar(&f.Root.Threshold, "root-threshold", f.Root.Threshold, "how `many` of them have to sign")
	c.Flags().IntVar(&f.Targets.Number, "targets-keys", f.Targets.Number, "`number` of people who sign lists")
	c.Flags().IntVar(&f.Targets.Threshold, "targets-threshold", f.Targets.Threshold, "how `many` of them have to sign")
	for _, flag := range []string{"name", "procedure", "officer"} {
		if err := c.MarkFlagRequired(flag); err != nil {
			panic(err)
		}
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		f.Dir, f.Clock = d.data, time.Now
		for _, r := range recipients {
			name, key, ok := strings.Cut(r, "=")
			if !ok {
				return fmt.Errorf("recipient %q: write NAME=age1pq…", r)
			}
			f.Recipients = append(f.Recipients, authority.Recipient{Name: name, Key: key})
		}
		f.Settings.StopPages = map[string]authority.StopPage{}
		for _, s := range pages {
			category, page, err := authority.ParseStopPage(s)
			if err != nil {
				return err
			}
			f.Settings.StopPages[category] = page
		}
		// Paths given here are relative to where the command runs, those in
		// authority.yaml to its folder.
		for flag, path := range map[string]*string{"publish": &f.Settings.Publish, "keys": &f.Settings.Keys, "passphrase-file": &d.passphraseFile} {
			if !c.Flags().Changed(flag) {
				continue
			}
			abs, err := filepath.Abs(*path)
			if err != nil {
				return err
			}
			*path = abs
		}
		f.Settings.PassphraseFile = d.passphraseFile
		var err error
		if f.Passphrase, err = signing.Passphrase(d.passphraseFile, program.PassphraseVariable, terminal.PromptNew); err != nil {
			return err
		}
		made, err := authority.Found(c.Context(), f)
		if err != nil {
			return err
		}
		return d.founded(c, f, made)
	}
	return c
}

// founded tells where everything is and what people have to do.
func (d *desk) founded(c *cobra.Command, f authority.Founding, made []authority.MadeKey) error {
	settings, err := authority.LoadSettings(d.data)
	if err != nil {
		return err
	}
	root := filepath.Join(settings.Publish, "metadata", "1.root.json")
	if d.json {
		return printJSON(c.OutOrStdout(), map[string]any{"keys": made, "root": root, "register": filepath.Join(d.data, authority.RegisterDir), "vkey": filepath.Join(d.data, authority.VerifierFile)})
	}
	w := c.OutOrStdout()
	fmt.Fprintf(w, "%s is founded in %s.\n\nKeys that people take away, each theirs, off this machine:\n", f.Name, d.data)
	for _, k := range made {
		if k.Person != "" {
			fmt.Fprintf(w, "  %-12s %s (%s)\n", k.Person, k.File, k.For)
		}
	}
	fmt.Fprintf(w, "\nKeys that stay on this machine:\n")
	for _, k := range made {
		if k.Person == "" {
			fmt.Fprintf(w, "  %s (%s)\n", k.File, k.For)
		}
	}
	fmt.Fprintf(w, "\nOperators pin %s.\nThe official verifies %s with %s.\n", root,
		filepath.Join(d.data, authority.RegisterDir), filepath.Join(d.data, authority.VerifierFile))
	d.next(c, "next: cordon-authority --data %s propose NAME --category CATEGORY --decision REFERENCE --as OFFICER", d.data)
	return nil
}

func (d *desk) recipientCommand() *cobra.Command {
	c := &cobra.Command{Use: "recipient", Short: "Those whom lists are encrypted to"}
	c.AddCommand(&cobra.Command{
		Use: "add NAME KEY", Short: "Encrypt lists to somebody too, from the next one on", Args: cobra.ExactArgs(2),
		Example: "  cordon-authority recipient add isp-2 age1pq1…",
		RunE: func(c *cobra.Command, args []string) error {
			// The lock keeps a list from being staged meanwhile.
			return d.lockOnly(c, func(s authority.Settings) error {
				if err := authority.AddRecipient(s.Recipients, authority.Recipient{Name: args[0], Key: args[1]}); err != nil {
					return err
				}
				d.next(c, "%s receives the next list: run \"sign --key HOLDER\"", args[0])
				return nil
			})
		},
	}, &cobra.Command{
		Use: "list", Short: "Show them", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := authority.LoadSettings(d.data)
			if err != nil {
				return err
			}
			list, err := authority.LoadRecipients(s.Recipients)
			if err != nil {
				return err
			}
			if d.json {
				return printJSON(c.OutOrStdout(), list)
			}
			for _, r := range list {
				fmt.Fprintf(c.OutOrStdout(), "%-20s %.24s…\n", r.Name, r.Key)
			}
			return nil
		},
	})
	return c
}

func (d *desk) keygenCommand() *cobra.Command {
	var logN int
	c := &cobra.Command{
		Use:   "keygen",
		Short: "Make a key, for who receives or signs lists",
		Long: `Make a key in a new file, mode 0600, always encrypted with a passphrase. A program that starts without a person gets
the passphrase from a file of mode 0600 (passphrase_file in its configuration), which can stand on another medium.`,
	}
	c.PersistentFlags().IntVar(&logN, "kdf-log-n", 0, "work to try one passphrase is 2^`N` (default 18, about a second)")
	passphrase := func() ([]byte, error) {
		return signing.Passphrase(d.passphraseFile, program.PassphraseVariable, terminal.PromptNew)
	}
	c.AddCommand(&cobra.Command{
		Use: "recipient FILE", Short: "Make an identity that lists can be encrypted to, and print its recipient (age1pq…)", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			secret, err := passphrase()
			if err != nil {
				return err
			}
			identity, recipient, err := signing.GenerateIdentity()
			if err != nil {
				return err
			}
			if err := signing.WriteSecret(args[0], signing.KindIdentity, []byte(identity), secret, logN); err != nil {
				return err
			}
			return d.print(c, map[string]string{"file": args[0], "recipient": recipient}, "%s", recipient)
		},
	}, &cobra.Command{
		Use: "signer FILE", Short: "Make a key for a new holder, and its public key in FILE.pub (see rotate-key)", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			secret, err := passphrase()
			if err != nil {
				return err
			}
			key, err := signing.GenerateKey()
			if err != nil {
				return err
			}
			if err := signing.WriteKey(args[0], key, secret, logN); err != nil {
				return err
			}
			if err := authority.WritePublicKey(args[0]+".pub", key.Public()); err != nil {
				return err
			}
			return d.print(c, map[string]string{"file": args[0], "public": args[0] + ".pub"}, "%s", args[0]+".pub")
		},
	})
	return c
}

func (d *desk) passphraseCommand() *cobra.Command {
	var newFile string
	var logN int
	c := &cobra.Command{
		Use:   "passphrase FILE",
		Short: "Give a signing key that you took away a passphrase of your own",
		Long: `Encrypt a signing key anew, into FILE.new, with a passphrase of your own; move it over FILE when you have tried it.
The present passphrase comes from --passphrase-file or CORDON_PASSPHRASE, the new one from --new-passphrase-file or the terminal.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			old, err := signing.Passphrase(d.passphraseFile, program.PassphraseVariable, terminal.Prompt)
			if err != nil {
				return err
			}
			key, err := signing.ReadKey(args[0], old)
			if err != nil {
				return err
			}
			// The environment holds the present one.
			fresh, err := signing.Passphrase(newFile, "", terminal.PromptNew)
			if err != nil {
				return err
			}
			if err := signing.WriteKey(args[0]+".new", key, fresh, logN); err != nil {
				return err
			}
			return d.print(c, map[string]string{"file": args[0] + ".new"}, "%s", args[0]+".new")
		},
	}
	c.Flags().StringVar(&newFile, "new-passphrase-file", "", "`file` with the new passphrase")
	c.Flags().IntVar(&logN, "kdf-log-n", 0, "work to try one passphrase is 2^`N` (default 18, about a second)")
	return c
}

// lockOnly runs do while no other command works on the authority.
func (d *desk) lockOnly(c *cobra.Command, do func(authority.Settings) error) error {
	unlock, err := authority.Lock(d.data, func(lock string) {
		fmt.Fprintf(c.ErrOrStderr(), "another command works on this authority; waiting for it (%s)\n", lock)
	})
	if err != nil {
		return err
	}
	settings, err := authority.LoadSettings(d.data)
	if err == nil {
		err = do(settings)
	}
	return errors.Join(err, unlock())
}
