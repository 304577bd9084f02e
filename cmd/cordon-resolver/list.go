package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"cordon/resolver"
)

func listCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "See and rule what the guards have stopped, and look into the lists",
		Long: `What a guard has stopped stays so until somebody releases it, with a name and a reason; both are in the
block log, with the local account that asked. None of these commands can make a name lead to the stop page
that the authority has not signed for.`,
	}
	c.AddCommand(heldCommand(), releaseCommand(), holdCommand(), rollbackCommand(),
		showCommand(), searchCommand(), diffCommand(), dryRunCommand(), exportCommand(), verifyCommand())
	return c
}

// question is a command that asks with GET, prints JSON if told to, and else what
// say makes of the answer.
func question[T any](c *cobra.Command, path func(args []string) (string, error), say func(io.Writer, *T)) *cobra.Command {
	config := withConfig(c)
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		at, err := path(args)
		if err != nil {
			return err
		}
		var answer T
		raw, err := ask(*config, at, &answer)
		if err != nil {
			return err
		}
		if *asJSON {
			_, err := cmd.OutOrStdout().Write(raw)
			return err
		}
		say(cmd.OutOrStdout(), &answer)
		return nil
	}
	return c
}

// at puts a path and its parameters together; names and values alternate.
func at(path string, parameters ...string) string {
	v := make(url.Values)
	for i := 0; i < len(parameters); i += 2 {
		v.Set(parameters[i], parameters[i+1])
	}
	return path + "?" + v.Encode()
}

func heldCommand() *cobra.Command {
	return question(&cobra.Command{
		Use:   "held",
		Short: "Show what guards and people have stopped",
		Args:  cobra.NoArgs,
	}, func([]string) (string, error) { return "/list/held", nil }, func(out io.Writer, all *[]resolver.Held) {
		nothing := true
		for i := range *all {
			h := &(*all)[i]
			nothing = nothing && !sayHeld(out, h)
			for _, a := range h.Aside {
				nothing = false
				fmt.Fprintf(out, "  %s  %s (scope %s)  by guard %s since %s: it %s\n", a.ID, a.Name, a.Scope, a.Guard, a.Since.Local().Format(time.DateTime), a.Because)
			}
			for _, r := range h.Released {
				fmt.Fprintf(out, "  released: %s  %s  by %s (account %s) on %s: %s\n", r.ID, r.Name, r.Ruling.Name, r.Ruling.Account, r.Ruling.At.Local().Format(time.DateTime), r.Ruling.Reason)
			}
		}
		if nothing {
			fmt.Fprintln(out, "nothing is held")
		}
	})
}

// sayHeld says in short what is stopped of a list, and whether anything is.
func sayHeld(out io.Writer, h *resolver.Held) bool {
	if u := h.Update; u != nil {
		fmt.Fprintf(out, "list %s: serial %d is HELD since %s by guard %s: it %s; serial %d stays in force\n  look: cordon-resolver list diff %s running held; release: cordon-resolver list release %s --update %d --name NAME --reason REASON\n",
			h.List, u.Serial, u.Since.Local().Format(time.DateTime), u.Guard, u.Because, h.Serial, h.List, h.List, u.Serial)
	}
	if b := h.Rollback; b != nil {
		fmt.Fprintf(out, "list %s: ROLLED BACK from serial %d to %d by %s on %s: %s\n", h.List, b.From, b.To, b.Ruling.Name, b.Ruling.At.Local().Format(time.DateTime), b.Ruling.Reason)
	}
	if h.InAll > 0 {
		fmt.Fprintf(out, "list %s: %d entries are SET ASIDE and not enforced; see cordon-resolver list held\n", h.List, h.InAll)
	}
	if h.Pending > 0 {
		fmt.Fprintf(out, "list %s: %d entries are not in force yet\n", h.List, h.Pending)
	}
	return h.Update != nil || h.Rollback != nil || h.InAll > 0
}

// order is a command that tells the resolver to do something, in a person's name.
func order(c *cobra.Command, path string, fill func(o *resolver.Orders, args []string) error) *cobra.Command {
	config := withConfig(c)
	name := c.Flags().String("name", "", "who orders it: `NAME` of a person")
	reason := c.Flags().String("reason", "", "why, for the record")
	for _, flag := range []string{"name", "reason"} {
		if err := c.MarkFlagRequired(flag); err != nil {
			panic(err) // a flag that the line above defines
		}
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		o := resolver.Orders{List: args[0], Name: *name, Reason: *reason}
		if err := fill(&o, args[1:]); err != nil {
			return err
		}
		var answer struct {
			Done string `json:"done"`
		}
		in, out := io.Pipe()
		read := make(chan error, 1)
		go func() { read <- json.NewDecoder(in).Decode(&answer) }()
		err := call(*config, http.MethodPost, path, o, out)
		out.CloseWithError(err)
		if readErr := <-read; err == nil {
			err = readErr
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "list %s: %s; it is on record\n", o.List, answer.Done)
		return nil
	}
	return c
}

func releaseCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "release LIST [ENTRY...]",
		Short: "Enforce entries that are set aside, or with --update a list that is held",
		Args:  cobra.MinimumNArgs(1),
	}
	update := c.Flags().Uint64("update", 0, "`serial` of the list that is held as a whole")
	return order(c, "/list/release", func(o *resolver.Orders, entries []string) error {
		o.Entries, o.Update = entries, *update
		if (len(entries) == 0) == (*update == 0) {
			return fmt.Errorf("say what to release: ids of entries, or --update with the serial of the held list; cordon-resolver list held shows both")
		}
		return nil
	})
}

func holdCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "hold LIST [ENTRY...]",
		Short: "Set entries aside that are enforced, or with --update hold a list that is on trial, until it is released",
		Args:  cobra.MinimumNArgs(1),
	}
	update := c.Flags().Uint64("update", 0, "`serial` of the list that is on trial, here or on other nodes")
	return order(c, "/list/hold", func(o *resolver.Orders, entries []string) error {
		o.Entries, o.Update = entries, *update
		if (len(entries) == 0) == (*update == 0) {
			return fmt.Errorf("say what to hold: ids of entries, or --update with the serial of the list on trial")
		}
		return nil
	})
}

func rollbackCommand() *cobra.Command {
	return order(&cobra.Command{
		Use:   "rollback LIST",
		Short: "Put the list before this one in force again, until a newer one comes",
		Args:  cobra.ExactArgs(1),
	}, "/list/rollback", func(*resolver.Orders, []string) error { return nil })
}

func sayFound(out io.Writer, f *resolver.Found) {
	for _, i := range f.Items {
		fmt.Fprintf(out, "%s  %s (scope %s)  %s  %s\n  legal basis %s; decision %s\n  notified %s, in force %s, to be re-checked by %s\n", i.ID, i.Name, i.Scope, i.Category, i.State,
			i.LegalBasis, i.Decision, i.Notified.Format(time.DateTime), i.InForce.Format(time.DateTime), i.ReviewBy)
		if i.Aside != nil {
			fmt.Fprintf(out, "  set aside since %s: it %s\n", i.Aside.Since.Local().Format(time.DateTime), i.Aside.Because)
		}
	}
	fmt.Fprintf(out, "%d of %d entries of list %s, serial %d\n", len(f.Items), f.InAll, f.List, f.Serial)
}

func showCommand() *cobra.Command {
	return question(&cobra.Command{
		Use:   "show LIST ENTRY|NAME",
		Short: "Show an entry by its id, or those with a name",
		Args:  cobra.ExactArgs(2),
	}, func(args []string) (string, error) { return at("/list/show", "list", args[0], "entry", args[1]), nil }, sayFound)
}

func searchCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "search LIST [TEXT]",
		Short: "Find entries by text in the name, category, state or review date",
		Args:  cobra.RangeArgs(1, 2),
	}
	category := c.Flags().String("category", "", "of this category")
	state := c.Flags().String("state", "", "enforced, quarantined, overridden or pending")
	review := c.Flags().String("review-by", "", "to be re-checked by this `day` (2006-01-02) or earlier")
	return question(c, func(args []string) (string, error) {
		holds := ""
		if len(args) == 2 {
			holds = args[1]
		}
		return at("/list/search", "list", args[0], "holds", holds, "category", *category, "state", *state, "review_by", *review), nil
	}, sayFound)
}

func diffCommand() *cobra.Command {
	return question(&cobra.Command{
		Use:   "diff LIST A B",
		Short: "Compare two lists at hand: a serial in the store, running, or held",
		Args:  cobra.ExactArgs(3),
	}, func(args []string) (string, error) {
		return at("/list/diff", "list", args[0], "from", args[1], "to", args[2]), nil
	}, func(out io.Writer, d *resolver.Differences) {
		for _, one := range d.Some {
			switch {
			case one.Was == nil:
				fmt.Fprintf(out, "+ %s  %s (scope %s)  %s\n", one.Is.ID, one.Is.Name, one.Is.Scope, one.Is.Category)
			case one.Is == nil:
				fmt.Fprintf(out, "- %s  %s (scope %s)  %s\n", one.Was.ID, one.Was.Name, one.Was.Scope, one.Was.Category)
			default:
				fmt.Fprintf(out, "~ %s  %s (scope %s)  in other words\n", one.Is.ID, one.Is.Name, one.Is.Scope)
			}
		}
		fmt.Fprintf(out, "%d of %d differences of list %s from serial %d to %d\n", len(d.Some), d.InAll, d.List, d.From, d.To)
	})
}

func exportCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "export LIST",
		Short: "Print the whole list in force; that is on record",
		Long:  "Print the whole list in force as its authority wrote it (cordon-list/1). The list is confidential: who read it out is in the block log.",
		Args:  cobra.ExactArgs(1),
	}
	config := withConfig(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return call(*config, http.MethodGet, at("/list/export", "list", args[0]), nil, cmd.OutOrStdout())
	}
	return c
}

func verifyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify [LIST] FILE",
		Short: "Verify a publication folder, a file of the list store, or a list in clear, as the resolver would",
		Args:  cobra.RangeArgs(1, 2),
	}
	config := withConfig(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		conf, err := resolver.LoadConfig(*config)
		if err != nil {
			return err
		}
		list, file := "", args[len(args)-1] // "": the only one
		if len(args) == 2 {
			list = args[0]
		}
		v, err := resolver.VerifyList(cmd.Context(), *conf, list, file, time.Now)
		if err != nil {
			return err
		}
		out, s := cmd.OutOrStdout(), v.Summary
		fmt.Fprintf(out, "good: list %s, serial %s of %s, %d entries, issued %s, valid until %s, SHA-256 %s\n", s.Name, strconv.FormatUint(s.Serial, 10), s.Authority, s.Entries,
			s.Issued.Format(time.DateTime), s.ValidUntil.Format(time.DateTime), v.SHA256)
		if !v.Signed {
			fmt.Fprintln(out, "NOT SIGNED: it is a list in clear, which no resolver takes")
		}
		for _, a := range v.Aside {
			fmt.Fprintf(out, "would be set aside: %s  %s (scope %s): it %s\n", a.ID, a.Name, a.Scope, a.Because)
		}
		if v.Pending > 0 {
			fmt.Fprintf(out, "%d entries are not in force yet\n", v.Pending)
		}
		return nil
	}
	return c
}
