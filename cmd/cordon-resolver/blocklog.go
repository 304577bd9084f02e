package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"cordon/blocklog"
)

func blocklogCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "blocklog",
		Short: "Read the journal of block decisions and events",
	}
	c.AddCommand(blocklogCatCommand())
	return c
}

// followEvery is how often --follow looks for new records.
const followEvery = 200 * time.Millisecond

func blocklogCatCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "cat DIR",
		Short: "Print the records as JSON lines",
		Args:  cobra.ExactArgs(1),
	}
	from := c.Flags().Uint64("from", 0, "start at this sequence `number` (default: the oldest record)")
	follow := c.Flags().BoolP("follow", "f", false, "go on with what is written from now on")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if *from == 0 {
			oldest, _, err := blocklog.Bounds(args[0])
			if err != nil {
				return err
			}
			*from = oldest
		}
		r, err := blocklog.OpenReader(args[0], *from)
		if err != nil {
			return err
		}
		defer r.Close()
		out := bufio.NewWriter(cmd.OutOrStdout())
		for {
			record, _, err := r.Next()
			if err == nil {
				if err := blocklog.WriteJSON(out, record); err != nil {
					return fmt.Errorf("print record %d: %w", record.Seq, err)
				}
				continue
			}
			if flushed := out.Flush(); flushed != nil {
				return flushed
			}
			if !errors.Is(err, io.EOF) {
				return err
			}
			if !*follow {
				return nil
			}
			select {
			case <-cmd.Context().Done():
				return nil
			case <-time.After(followEvery):
			}
		}
	}
	return c
}
