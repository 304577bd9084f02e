package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cordon/authority"
	"cordon/blocklist"
)

// measureView is a measure as it is printed.
type measureView struct {
	ID         string          `json:"id"`
	Name       string          `json:"name"`
	Scope      blocklist.Scope `json:"scope"`
	Category   string          `json:"category"`
	LegalBasis string          `json:"legal_basis"`
	Decision   string          `json:"decision"`
	State      authority.State `json:"state"`
	InList     bool            `json:"in_list"` // of the last published list
	ProposedBy string          `json:"proposed_by"`
	ApprovedBy []string        `json:"approved_by"`
	Needed     int             `json:"approvals_needed"`
	LiftGround string          `json:"lift_ground,omitempty"`
	Withheld   string          `json:"withheld,omitempty"` // why the next list leaves it out
	Clocks     []clockView     `json:"clocks"`
}

type clockView struct {
	ID    string    `json:"id"`
	Start time.Time `json:"start"`
	Due   time.Time `json:"due"`
	State string    `json:"state"` // running, met, overdue
}

func view(o *authority.Office, m *authority.Measure) measureView {
	r, now := o.Register, o.Now()
	v := measureView{
		ID: m.Proposed.ID, Name: m.Proposed.Name, Scope: m.Proposed.Scope, Category: m.Proposed.Category, LegalBasis: m.Proposed.LegalBasis,
		Decision: m.Proposed.Decision, State: r.State(m, now), InList: m.InList(), ProposedBy: m.Proposed.By,
		ApprovedBy: []string{}, Needed: r.Procedure.Approvals.Number, Clocks: []clockView{},
	}
	for _, a := range m.Approvals {
		v.ApprovedBy = append(v.ApprovedBy, a.By)
	}
	if m.Lift != nil {
		v.LiftGround = m.Lift.Ground
	}
	if err := r.Withheld(m, now); err != nil {
		v.Withheld = err.Error()
	}
	for _, c := range r.Clocks(m) {
		state := "running"
		switch {
		case c.Over(now):
			state = "overdue"
			if c.Clock.OnExpiry == authority.Permits || c.Clock.OnExpiry == authority.Ends {
				state = "over" // nobody is late
			}
		case !c.Met.IsZero():
			state = "met"
		}
		v.Clocks = append(v.Clocks, clockView{ID: c.Clock.ID, Start: c.Start, Due: c.Due, State: state})
	}
	return v
}

// officer gives a command the flags of who signs a statement.
func (d *desk) officer(c *cobra.Command) *string {
	as := c.Flags().String("as", "", "the `officer` who signs")
	c.Flags().StringVar(&d.keyFile, "key-file", "", "`file` with the officer's key, where it is not in the keys folder")
	if err := c.MarkFlagRequired("as"); err != nil {
		panic(err)
	}
	return as
}

func (d *desk) proposeCommand() *cobra.Command {
	var p authority.Proposal
	var scope, requested, to, until string
	c := &cobra.Command{
		Use:     "propose NAME",
		Short:   "Propose a name for the list, and print the id of the measure",
		Example: "  cordon-authority propose bad.example --category terrorism --decision D-1 --as alice",
		Args:    cobra.ExactArgs(1),
	}
	as := d.officer(c)
	c.Flags().StringVar(&p.Category, "category", "", "`category` of the procedure")
	c.Flags().StringVar(&p.Decision, "decision", "", "`reference` of the decision")
	c.Flags().StringVar(&scope, "scope", "", "`host` (the name alone) or domain (everything below it too); default: the procedure's")
	c.Flags().StringVar(&requested, "requested", "", "`time` at which the removal request was sent, as 2026-01-02T15:04:05Z")
	c.Flags().StringVar(&to, "requested-to", "publisher or host", "to `whom`, or the request's reference")
	c.Flags().StringVar(&until, "until", "", "last `day` of the measure, as 2027-06-30")
	c.RunE = func(c *cobra.Command, args []string) error {
		p.Name = args[0]
		if scope != "" {
			var err error
			if p.Scope, err = blocklist.ParseScope(scope); err != nil {
				return err
			}
		}
		if requested != "" {
			at, err := parseTime(requested)
			if err != nil {
				return fmt.Errorf("--requested: %w", err)
			}
			p.Request = &authority.Request{At: at, To: to}
		}
		if until != "" {
			if err := p.Ends.UnmarshalText([]byte(until)); err != nil {
				return fmt.Errorf("--until: %w", err)
			}
		}
		return d.work(c, func(ctx context.Context, o *authority.Office) error {
			m, err := o.Propose(ctx, p, *as)
			if err != nil {
				return err
			}
			d.next(c, "proposed %s; next: %s more to approve: cordon-authority approve %s --as OFFICER", m.Proposed.Name,
				plural(o.Register.Procedure.Approvals.Number, "officer"), m.Proposed.ID)
			return d.print(c, view(o, m), "%s", m.Proposed.ID)
		})
	}
	return c
}

func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%q is not a time: write it as 2026-01-02T15:04:05Z", s)
	}
	return t.UTC(), nil
}

func (d *desk) approveCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "approve ID|NAME", Short: "Approve a measure", Args: cobra.ExactArgs(1),
		Example: "  cordon-authority approve 2026-0001 --as bruno",
	}
	as := d.officer(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return d.statement(c, func(ctx context.Context, o *authority.Office) (*authority.Measure, error) {
			return o.Approve(ctx, args[0], *as)
		}, func(v measureView) string {
			if missing := v.Needed - len(v.ApprovedBy); missing > 0 {
				return fmt.Sprintf("%s more to approve", plural(missing, "officer"))
			}
			if v.Withheld != "" {
				return v.Withheld
			}
			return "sign the list: cordon-authority sign --key HOLDER"
		})
	}
	return c
}

func (d *desk) reviewCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "review ID|NAME", Short: "Confirm a measure at its re-check", Args: cobra.ExactArgs(1),
		Example: "  cordon-authority review 2026-0001 --as alice",
	}
	as := d.officer(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return d.statement(c, func(ctx context.Context, o *authority.Office) (*authority.Measure, error) {
			return o.Review(ctx, args[0], *as)
		}, func(measureView) string { return "the next list has its new review date" })
	}
	return c
}

func (d *desk) noteCommand() *cobra.Command {
	var event, at string
	c := &cobra.Command{
		Use: "note ID|NAME", Short: "Note that one of the procedure's events happened to a measure", Args: cobra.ExactArgs(1),
		Example: "  cordon-authority note 2026-0001 --event removed --at 2026-03-02T12:00:00Z --as alice",
	}
	as := d.officer(c)
	c.Flags().StringVar(&event, "event", "", "`event` of the procedure")
	c.Flags().StringVar(&at, "at", "", "`time` at which it happened, as 2026-01-02T15:04:05Z (default: now)")
	c.RunE = func(c *cobra.Command, args []string) error {
		return d.statement(c, func(ctx context.Context, o *authority.Office) (*authority.Measure, error) {
			happened := o.Now()
			if at != "" {
				var err error
				if happened, err = parseTime(at); err != nil {
					return nil, fmt.Errorf("--at: %w", err)
				}
			}
			return o.Note(ctx, args[0], event, happened, *as)
		}, func(measureView) string { return "\"list\" shows the clocks that it meets" })
	}
	return c
}

func (d *desk) liftCommand() *cobra.Command {
	var ground string
	c := &cobra.Command{
		Use: "lift ID|NAME", Short: "End a measure; it leaves the list with the next publication", Args: cobra.ExactArgs(1),
		Example: "  cordon-authority lift bad.example --ground gone --as alice",
	}
	as := d.officer(c)
	c.Flags().StringVar(&ground, "ground", "", "`ground` of the procedure")
	c.RunE = func(c *cobra.Command, args []string) error {
		return d.statement(c, func(ctx context.Context, o *authority.Office) (*authority.Measure, error) {
			return o.Lift(ctx, args[0], ground, *as)
		}, func(v measureView) string {
			if !v.InList {
				return "it was in no list"
			}
			return "it is still in the published list: cordon-authority sign --key HOLDER, and publish, without delay"
		})
	}
	return c
}

// statement runs a statement about a measure and tells how the measure stands.
func (d *desk) statement(c *cobra.Command, do func(context.Context, *authority.Office) (*authority.Measure, error), next func(measureView) string) error {
	return d.work(c, func(ctx context.Context, o *authority.Office) error {
		m, err := do(ctx, o)
		if err != nil {
			return err
		}
		v := view(o, m)
		if err := d.print(c, v, "%s %s: %s, %d of %s", v.ID, v.Name, v.State, min(len(v.ApprovedBy), v.Needed), plural(v.Needed, "approval")); err != nil {
			return err
		}
		d.next(c, "next: %s", next(v))
		return nil
	})
}

func (d *desk) listCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "list",
		Short: "Show the measures, how each stands, and its clocks",
		Long:  "Show the measures that are not over: proposed, approved, listed, or lifted and still in the published list.",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return d.look(c, func(_ context.Context, o *authority.Office) error {
				views := []measureView{}
				for _, m := range o.Register.Measures {
					v := view(o, m)
					over := v.State == authority.StateLifted || v.State == authority.StateEnded
					if all || !over || v.InList {
						views = append(views, v)
					}
				}
				if d.json {
					return printJSON(c.OutOrStdout(), views)
				}
				return printMeasures(c.OutOrStdout(), views)
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "show those that are over too")
	return c
}

func printMeasures(w io.Writer, views []measureView) error {
	if len(views) == 0 {
		_, err := fmt.Fprintln(w, "no measures")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tNAME\tSCOPE\tCATEGORY\tSTATE\tAPPROVED BY\tCLOCKS")
	for _, v := range views {
		state := string(v.State)
		if v.InList && v.State != authority.StateListed {
			state += ", still in the list"
		}
		approved := strings.Join(v.ApprovedBy, ", ")
		if len(v.ApprovedBy) < v.Needed {
			approved = fmt.Sprintf("%s (%d of %d)", approved, len(v.ApprovedBy), v.Needed)
		}
		var clocks []string
		for _, c := range v.Clocks {
			clocks = append(clocks, fmt.Sprintf("%s %s %s", c.ID, c.State, c.Due.Format("2006-01-02 15:04")))
		}
		fmt.Fprintf(table, "%s\t%s\t%v\t%s\t%s\t%s\t%s\n", v.ID, v.Name, v.Scope, v.Category, state, strings.TrimSpace(approved), strings.Join(clocks, "; "))
	}
	return table.Flush()
}
