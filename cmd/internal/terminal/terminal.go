// Package terminal asks the person at the terminal for a passphrase, in the
// programs that open or make keys.
package terminal

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/term"
)

// Prompt asks on the controlling terminal, without showing what is typed. It
// works where standard input and output are pipes; where there is no terminal
// it is an error.
func Prompt(label string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errors.New("there is no terminal to ask at; name a file with it (passphrase_file in the configuration, or --passphrase-file), or set CORDON_PASSPHRASE")
	}
	defer tty.Close()
	fmt.Fprint(tty, label)
	passphrase, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	return passphrase, err
}

// PromptNew asks twice, for a passphrase that a new key will have.
func PromptNew(label string) ([]byte, error) {
	first, err := Prompt("New " + label)
	if err != nil {
		return nil, err
	}
	again, err := Prompt("The same again: ")
	if err != nil {
		return nil, err
	}
	if string(first) != string(again) {
		return nil, errors.New("the two were not the same; nothing was made")
	}
	return first, nil
}
