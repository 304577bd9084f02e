package program

import (
	"fmt"

	"github.com/spf13/cobra"

	"cordon/cmd/internal/terminal"
	"cordon/signing"
)

// PassphraseVariable is the environment variable with the passphrase of secrets
// whose configuration names no file with it.
const PassphraseVariable = "CORDON_PASSPHRASE"

// Identity makes the command by which a receiver of lists makes the identity that
// they are encrypted to. setting is the name that the configuration has for its
// file.
func Identity(setting string) *cobra.Command {
	c := &cobra.Command{
		Use:   "identity FILE",
		Short: "Make the identity to which an authority encrypts its lists",
		Long: `Make an age identity (hybrid, post-quantum) in a new FILE, mode 0600, encrypted with a passphrase, and print its
recipient. Hand the recipient to the authority ("cordon-authority recipient add NAME age1pq1…"); keep the file here, and
name it as ` + setting + ` in the configuration.`,
		Args: cobra.ExactArgs(1),
	}
	passphraseFile := c.Flags().String("passphrase-file", "", "`FILE` with the passphrase, mode 0600 (default: CORDON_PASSPHRASE, or ask)")
	logN := c.Flags().Int("kdf-log-n", 0, "work to try one passphrase is 2^`N` (default 18, about a second)")
	c.RunE = func(c *cobra.Command, args []string) error {
		passphrase, err := signing.Passphrase(*passphraseFile, PassphraseVariable, terminal.PromptNew)
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
