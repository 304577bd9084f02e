package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"cordon/resolver"
)

func flushCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "flush NAME | --all",
		Short: "Make the running resolver forget what it has cached of a name",
		Long: `The resolver forgets the answers, records, denials, failures and delegations of the name, and the answers that
lead to it, and looks them up anew when they are asked for. The lists are not touched.`,
		Args: cobra.MaximumNArgs(1),
	}
	config := withConfig(c)
	var f resolver.Flush
	c.Flags().BoolVar(&f.All, "all", false, "forget everything")
	c.Flags().BoolVar(&f.Below, "below", false, "and of all names below it")
	c.Flags().StringVar(&f.Type, "type", "", "of one `TYPE` alone, such as AAAA")
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			f.Name = args[0]
		}
		var raw bytes.Buffer
		if err := call(*config, http.MethodPost, "/flush", f, &raw); err != nil {
			return err
		}
		if *asJSON {
			_, err := cmd.OutOrStdout().Write(raw.Bytes())
			return err
		}
		var done resolver.Flushed
		if err := json.Unmarshal(raw.Bytes(), &done); err != nil {
			return fmt.Errorf("read the resolver's answer: %w", err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "forgotten: %d answers, %d entries of the cache below them\n", done.Answers, done.Entries)
		return nil
	}
	return c
}
