package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"cordon/cmd/internal/terminal"
	"cordon/signing"
)

func identityCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "identity FILE",
		Short: "Make the identity to which an authority encrypts its list",
		Long: `Make an age identity (hybrid, post-quantum) in a new FILE, mode 0600, encrypted with a passphrase,
and print its recipient. Hand the recipient to the authority; keep the file here, and name it as
lists[].identity in the configuration.`,
		Args: cobra.ExactArgs(1),
	}
	passphraseFile := c.Flags().String("passphrase-file", "", "`FILE` with the passphrase, mode 0600 (default: CORDON_PASSPHRASE, or ask)")
	logN := c.Flags().Int("kdf-log-n", 0, "work to try one passphrase is 2^`N` (default 18, about a second)")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		passphrase, err := signing.Passphrase(*passphraseFile, "CORDON_PASSPHRASE", terminal.PromptNew)
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
		fmt.Fprintln(cmd.OutOrStdout(), recipient)
		return nil
	}
	return c
}
