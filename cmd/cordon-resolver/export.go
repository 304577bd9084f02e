package main

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func exportsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "export",
		Short: "Give the lists in force in a form that other programs read",
	}
	c.AddCommand(exportRPZCommand())
	return c
}

func exportRPZCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "rpz FILE|-",
		Short: "Write the lists in force as a response policy zone; that is on record",
		Long: `Write what the running resolver enforces as a response policy zone, for resolvers
that cannot fetch it from rpz.listen. The file is replaced whole, and closed to
others (0600). Entries that such a zone cannot say stand at its end, in comments.

The lists are confidential: who read them out is in the block log.`,
		Args: cobra.ExactArgs(1),
	}
	config := withConfig(c)
	list := c.Flags().String("list", "", "only the list of this `NAME`; default all, in order of precedence")
	zone := c.Flags().String("zone", "", "`NAME` of the zone; default rpz.zone, or a random one that stays")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		export := func(out io.Writer) error {
			return call(*config, http.MethodGet, at("/rpz/export", "list", *list, "zone", *zone), nil, out)
		}
		if args[0] == "-" {
			return export(cmd.OutOrStdout())
		}
		return replaceFile(args[0], export)
	}
	return c
}

// replaceFile puts what write writes in the place of a file, whole or not at all.
func replaceFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err = errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
