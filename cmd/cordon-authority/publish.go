package main

import (
	"context"
	"crypto"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cordon/authority"
	"cordon/signing"
)

func (d *desk) signCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "sign --key NAME|FILE [ID|NAME]...",
		Short: "Add a signature to the list that follows from the register (or to new keys that are staged)",
		Long: `The first to sign has the list assembled, encrypted and staged; everyone who signs has it assembled anew from the register
and compared with what is staged. Where the register has gone on, the list is made anew, and earlier signatures are
dropped. Measures that are named have to be on the list, else nothing is signed.`,
		Example: "  cordon-authority sign --key targets-1\n  cordon-authority sign --key /media/usb/targets-2.key",
	}
	c.Flags().StringVar(&name, "key", "", "holder (`NAME`), or the file with their key")
	if err := c.MarkFlagRequired("key"); err != nil {
		panic(err)
	}
	c.RunE = func(c *cobra.Command, measures []string) error {
		return d.work(c, func(ctx context.Context, o *authority.Office) error {
			key, err := d.signer(o, name)
			if err != nil {
				return err
			}
			s, err := o.Sign(ctx, key, measures...)
			if err != nil {
				return err
			}
			if s.Anew != "" {
				d.next(c, "%s: it was made anew, and earlier signatures were dropped", s.Anew)
			}
			if err := d.print(c, s, "%s", stagingText(s)); err != nil {
				return err
			}
			if s.Complete {
				d.next(c, "next: all signatures are there: cordon-authority publish")
			} else {
				d.next(c, "next: cordon-authority sign --key %s", strings.Join(s.Missing, " | "))
			}
			return nil
		})
	}
	return c
}

func (d *desk) signer(o *authority.Office, name string) (crypto.Signer, error) {
	k := &keyring{dir: o.Settings.Keys, machineFile: o.Settings.PassphraseFile, personalFile: d.passphraseFile}
	return k.Signer(name)
}

func stagingText(s *authority.Staging) string {
	what := fmt.Sprintf("keys (root %d)", s.Version)
	if s.Serial > 0 {
		what = fmt.Sprintf("list %d (%s; adds %d, removes %d)", s.Serial, plural(s.Entries, "entry"), len(s.Added), len(s.Removed))
	} else if s.Role == signing.RoleTargets {
		what = "list"
	}
	text := fmt.Sprintf("%s: %d of %s", what, len(s.Signed), plural(s.Threshold, "signature"))
	if len(s.Signed) > 0 {
		text += " (" + strings.Join(s.Signed, ", ") + ")"
	}
	if !s.Complete {
		text += "; missing: one of " + strings.Join(s.Missing, ", ")
	}
	return text
}

func (d *desk) publishCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "publish [ID|NAME]...",
		Short: "Put out what is staged, once it has signatures enough",
		Long: `Write the publication into the folder that is served. It is assembled anew and compared before; the register says what is
published before it goes out. Interrupted, it is ended by running it again. Measures that are named have to be on the list.`,
		RunE: func(c *cobra.Command, measures []string) error {
			return d.work(c, func(ctx context.Context, o *authority.Office) error {
				out, err := o.Publish(ctx, measures...)
				if err != nil {
					return err
				}
				if out.Serial == 0 {
					return d.print(c, out, "published keys (root %d) in %s", out.Publication.RootVersion, out.Folder)
				}
				return d.print(c, out, "published list %d: %s (added %d, removed %d), SHA-256 %s, in %s",
					out.Serial, plural(out.Entries, "entry"), len(out.Added), len(out.Removed), out.ListSHA256, out.Folder)
			})
		},
	}
}

func (d *desk) discardCommand() *cobra.Command {
	return &cobra.Command{
		Use: "discard", Short: "Throw away what is staged, with its signatures", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return d.work(c, func(_ context.Context, o *authority.Office) error {
				gone, err := o.Discard()
				if err != nil {
					return err
				}
				return d.print(c, map[string][]string{"discarded": gone}, "discarded what was staged for %s", strings.Join(gone, " and "))
			})
		},
	}
}

func (d *desk) refreshCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "refresh",
		Short: "Sign snapshot and timestamp anew with the online keys (for cron)",
		Long: `Sign snapshot and timestamp anew, so that operators go on to take what is published for fresh. Run it from cron, several
times within the timestamp's expiry (authority.yaml, expiry). It changes nothing that people signed.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return d.work(c, func(_ context.Context, o *authority.Office) error {
				p, err := o.Refresh()
				if err != nil {
					return err
				}
				return d.print(c, map[string]time.Time{"timestamp_expires": p.TimestampExpires, "snapshot_expires": p.SnapshotExpires},
					"fresh until %s", p.TimestampExpires.Format(time.RFC3339))
			})
		},
	}
}

func (d *desk) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show what is published, what waits for whom, and what runs out", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return d.look(c, func(_ context.Context, o *authority.Office) error {
				s, err := o.Status()
				if err != nil {
					return err
				}
				return d.print(c, s, "%s", statusText(s))
			})
		},
	}
}

func statusText(s *authority.Status) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%s (%s), %s in the register", s.Authority, s.Procedure, plural(int(s.RegisterSize), "statement"))
	if s.Serial == 0 {
		line("published: no list yet")
	} else {
		line("published: list %d, %s, valid until %s, in %s", s.Serial, plural(s.Entries, "entry"), s.ValidUntil.Format(time.RFC3339), s.Folder)
	}
	line("recipients: %s", strings.Join(s.Recipients, ", "))
	line("next list: adds %d, removes %d", len(s.Added), len(s.Removed))
	for i := range s.Staged {
		line("staged: %s", stagingText(&s.Staged[i]))
	}
	if s.Interrupted {
		line("the last publication was interrupted: run \"publish\" to end it")
	}
	if s.Holds != "" {
		line("nothing may be published:\n%s", s.Holds)
	}
	for _, e := range []struct {
		what string
		at   time.Time
	}{{"root", s.RootExpires}, {"targets", s.TargetsExpires}, {"snapshot", s.SnapshotExpires}, {"timestamp", s.TimestampExpires}} {
		if !e.at.IsZero() {
			line("%s expires %s", e.what, e.at.Format(time.RFC3339))
		}
	}
	if len(s.Expired) > 0 {
		line("EXPIRED: %s", strings.Join(s.Expired, ", "))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (d *desk) rotateCommand() *cobra.Command {
	var r authority.Rotation
	var public string
	c := &cobra.Command{
		Use:   "rotate-key --role ROLE [--revoke HOLDER] [--add HOLDER=FILE.pub]",
		Short: "Revoke or replace a key: stage new roles, which root holders sign",
		Long: `Stage a new root of trust in which a key is revoked, added, or replaced. Then, in steps:

  cordon-authority keygen signer targets-4.key                       (the new holder)
  cordon-authority rotate-key --role targets --revoke targets-2 --add targets-4=targets-4.key.pub
  cordon-authority sign --key root-1                                 (root holders, as many as the threshold asks)
  cordon-authority sign --key root-2
  cordon-authority sign --key targets-1                              (a list signed by keys that still count)
  cordon-authority sign --key targets-4.key
  cordon-authority publish`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&r.Role, "role", "targets", "`role`: root, targets, snapshot or timestamp")
	c.Flags().StringVar(&r.Revoke, "revoke", "", "`holder` whose key no longer counts")
	c.Flags().StringVar(&public, "add", "", "new holder and public key, as `HOLDER=FILE.pub`")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if public != "" {
			name, file, ok := strings.Cut(public, "=")
			if !ok {
				return fmt.Errorf("--add %q: write HOLDER=FILE.pub", public)
			}
			pub, err := authority.ReadPublicKey(file)
			if err != nil {
				return err
			}
			r.Name, r.New = name, pub
		}
		return d.work(c, func(_ context.Context, o *authority.Office) error {
			s, err := o.Rotate(r)
			if err != nil {
				return err
			}
			d.next(c, "next: cordon-authority sign --key %s", strings.Join(s.Missing, " | "))
			return d.print(c, s, "%s", stagingText(s))
		})
	}
	return c
}
