package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cordon/cmd/internal/daemon"
	"cordon/oversight"
)

func (o *office) verifyCommand() *cobra.Command {
	c := o.withJSON(&cobra.Command{
		Use:   "verify",
		Short: "Hold the copies against each other, and report",
		Long: `Verify reads the copies that "mirror" made and asks no server, except for raw records where the configuration names a
place for them. The report begins with what it comes to, and ends with what was not looked at.`,
		Args: cobra.NoArgs,
	})
	c.RunE = func(c *cobra.Command, _ []string) error {
		d, _, err := o.desk(c)
		if err != nil {
			return err
		}
		return daemon.Run(c.Context(), func(ctx context.Context) error {
			r, err := d.Verify(ctx)
			if err != nil {
				return err
			}
			if o.json {
				err = printJSON(c.OutOrStdout(), r)
			} else {
				err = r.WriteText(c.OutOrStdout())
			}
			switch {
			case err != nil:
			case !r.OK():
				err = errFound
			case len(r.Missing) > 0:
				err = fmt.Errorf("log %s: %w", strings.Join(r.Missing, ", "), oversight.ErrNotMirrored)
			}
			return err
		})
	}
	return c
}

func (o *office) showCommand() *cobra.Command {
	c := &cobra.Command{Use: "show", Short: "Show what the copies say"}
	var f oversight.Filter
	var day string
	decisions := show(o, "decisions", "Count the blocks, by day, entry and name",
		func(ctx context.Context, d *oversight.Desk) ([]oversight.Decisions, error) {
			if day != "" {
				var err error
				if f.Day, err = time.Parse(time.DateOnly, day); err != nil {
					return nil, fmt.Errorf("--day %q is not a day: write it as 2026-11-24", day)
				}
			}
			return d.Decisions(ctx, f)
		}, oversight.WriteDecisions)
	decisions.Flags().StringVar(&f.Entry, "entry", "", "count only blocks by the entry of this `ID`")
	decisions.Flags().StringVar(&day, "day", "", "count only blocks of this day (UTC), `YYYY-MM-DD`")
	c.AddCommand(
		show(o, "lists", "Show each change of the list: what came, what went, and by which decision",
			func(ctx context.Context, d *oversight.Desk) ([]oversight.ListChange, error) { return d.Lists(ctx) }, oversight.WriteLists),
		decisions,
		show(o, "events", "Show what happened besides: lists applied and refused, gaps, starts and stops",
			func(ctx context.Context, d *oversight.Desk) ([]oversight.Happening, error) { return d.Events(ctx) }, oversight.WriteEvents),
	)
	return c
}

// show makes a command that reads something from the copies and writes it.
func show[T any](o *office, use, short string, read func(context.Context, *oversight.Desk) (T, error), write func(io.Writer, T) error) *cobra.Command {
	c := o.withJSON(&cobra.Command{Use: use, Short: short, Args: cobra.NoArgs})
	c.RunE = func(c *cobra.Command, _ []string) error {
		d, _, err := o.desk(c)
		if err != nil {
			return err
		}
		v, missing := read(c.Context(), d)
		if missing != nil && !errors.Is(missing, oversight.ErrNotMirrored) {
			return missing
		}
		if o.json {
			err = printJSON(c.OutOrStdout(), v)
		} else {
			err = write(c.OutOrStdout(), v)
		}
		return errors.Join(err, missing)
	}
	return c
}
