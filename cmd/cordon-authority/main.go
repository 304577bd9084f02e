// Command cordon-authority is the side that lists: officers propose, approve
// and lift measures in a register that cannot be rewritten unseen, and the list
// that follows from it is signed by several people and published.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"cordon/authority"
	"cordon/cmd/internal/program"
)

func main() { os.Exit(program.Main(command())) }

// desk is what the commands share: where the authority is, and how its keys are
// opened.
type desk struct {
	data           string
	json           bool
	passphraseFile string // of the key that a person signs with
	keyFile        string // of an officer whose key is not in the keys folder
}

func command() *cobra.Command {
	d := &desk{}
	root := program.Root("cordon-authority", "Propose, approve, sign and publish a list of blocked names", `An authority lives in a folder (--data): its settings (authority.yaml), its procedure, its register, its keys,
and what waits for signatures. A name gets onto the list in these steps, each by the person it is for:

  cordon-authority init --name "Office" --procedure procedure-france.yaml --officer alice --officer bruno --officer chloe
  cordon-authority propose bad.example --category terrorism --decision D-1 --as alice
  cordon-authority approve bad.example --as bruno
  cordon-authority approve bad.example --as chloe
  cordon-authority sign --key targets-1
  cordon-authority sign --key targets-2
  cordon-authority publish

and off it by "lift", two signatures and "publish". Keys are opened with the passphrase in the file that authority.yaml
names (passphrase_file), else in CORDON_PASSPHRASE, else the terminal asks for it.`)
	root.PersistentFlags().StringVar(&d.data, "data", ".", "`folder` of the authority")
	root.PersistentFlags().BoolVar(&d.json, "json", false, "print JSON, for programs")
	root.PersistentFlags().StringVar(&d.passphraseFile, "passphrase-file", "", "`file` with the passphrase of the key that you sign with, if it has one of its own")
	root.AddCommand(
		d.initCommand(), d.proposeCommand(), d.approveCommand(), d.reviewCommand(), d.noteCommand(), d.liftCommand(), d.listCommand(),
		d.signCommand(), d.discardCommand(), d.publishCommand(), d.refreshCommand(), d.statusCommand(),
		d.rotateCommand(), d.recipientCommand(), d.keygenCommand(), d.passphraseCommand(),
	)
	return root
}

// work opens the authority for one command.
func (d *desk) work(c *cobra.Command, do func(context.Context, *authority.Office) error) error {
	return d.open(c, false, do)
}

// look opens the authority to read it.
func (d *desk) look(c *cobra.Command, do func(context.Context, *authority.Office) error) error {
	return d.open(c, true, do)
}

func (d *desk) open(c *cobra.Command, readOnly bool, do func(context.Context, *authority.Office) error) (err error) {
	settings, err := authority.LoadSettings(d.data)
	if err != nil {
		return err
	}
	office, err := authority.OpenOffice(c.Context(), authority.OfficeConfig{
		Dir: d.data, Clock: time.Now, ReadOnly: readOnly,
		Keys: &keyring{dir: settings.Keys, machineFile: settings.PassphraseFile, personalFile: d.passphraseFile, personalKey: d.keyFile},
		Waiting: func(lock string) {
			fmt.Fprintf(c.ErrOrStderr(), "another command works on this authority; waiting for it (%s)\n", lock)
		},
	})
	if err != nil {
		return err
	}
	// A command that was ended by its context still closes the register in order.
	defer func() {
		if closing := office.Close(context.WithoutCancel(c.Context())); err == nil {
			err = closing
		}
	}()
	return do(c.Context(), office)
}

// print writes v as JSON where that was asked for, else the text.
func (d *desk) print(c *cobra.Command, v any, text string, args ...any) error {
	if d.json {
		return printJSON(c.OutOrStdout(), v)
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), text+"\n", args...)
	return err
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// next tells a person what comes next; programs that read the output are not
// troubled by it.
func (d *desk) next(c *cobra.Command, format string, args ...any) {
	if !d.json {
		fmt.Fprintf(c.ErrOrStderr(), format+"\n", args...)
	}
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	if word[len(word)-1] == 'y' {
		return fmt.Sprintf("%d %sies", n, word[:len(word)-1])
	}
	return fmt.Sprintf("%d %ss", n, word)
}
