package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cordon/resolver"
)

func statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what the running resolver enforces",
		Args:  cobra.NoArgs,
	}
	config := withConfig(c)
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		var s resolver.Status
		raw, err := ask(*config, "/status", &s)
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if *asJSON {
			_, err := out.Write(raw)
			return err
		}
		if s.Ready {
			fmt.Fprintf(out, "ready, since %s, version %s\n", s.Started.Local().Format(time.DateTime), s.Version)
		} else {
			fmt.Fprintf(out, "NOT READY: every answer is SERVFAIL until these lists are loaded: %s\n", strings.Join(s.Waiting, ", "))
		}
		for _, l := range s.Lists {
			overdue := ""
			if time.Now().After(l.ValidUntil) {
				overdue = "  OVERDUE: still enforced; ask the authority for a new list"
			}
			fmt.Fprintf(out, "list %s: serial %d of %s, %d entries, issued %s, valid until %s%s\n", l.Name, l.Serial, l.Authority, l.Entries,
				l.Issued.Format(time.DateOnly), l.ValidUntil.Format(time.DateOnly), overdue)
		}
		for i := range s.Held {
			sayHeld(out, &s.Held[i])
		}
		for i := range s.Feeds {
			sayFeed(out, &s.Feeds[i])
		}
		sayAnchors(out, &s)
		if s.Clock != "" {
			fmt.Fprintf(out, "THE CLOCK IS WRONG: %s; set it right\n", s.Clock)
		}
		return nil
	}
	return c
}

// sayAnchors says what validation starts from.
func sayAnchors(out io.Writer, status *resolver.Status) {
	s := &status.Anchors
	if s.Alarm != "" {
		fmt.Fprintf(out, "TRUST ANCHORS: %s\n", s.Alarm)
	}
	for _, z := range s.Zones {
		how := "as configured"
		switch {
		case s.File == "":
		case z.Seen.IsZero():
			how = "keys not seen yet"
		default:
			how = "keys seen " + z.Seen.Local().Format(time.DateTime)
		}
		fmt.Fprintf(out, "trust anchors of %s (%s):", z.Zone, how)
		for i, a := range z.Anchors {
			if i > 0 {
				fmt.Fprint(out, ",")
			}
			fmt.Fprintf(out, " %d %s %s", a.Tag, a.Algorithm, a.State)
			if a.Left > 0 {
				fmt.Fprintf(out, " for %s more", (time.Duration(a.Left) * time.Second).Round(time.Hour))
			}
		}
		fmt.Fprintln(out)
		if z.Failed != "" {
			fmt.Fprintf(out, "  the last look at its keys was of no use: %s\n", z.Failed)
		}
	}
}

func whyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "why NAME",
		Short: "Say whether the running resolver blocks a name, and by which entries",
		Args:  cobra.ExactArgs(1),
	}
	config := withConfig(c)
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		var w resolver.Why
		raw, err := ask(*config, "/why?name="+url.QueryEscape(args[0]), &w)
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if *asJSON {
			_, err := out.Write(raw)
			return err
		}
		if !w.Listed {
			fmt.Fprintf(out, "%s is not listed\n", w.Name)
		}
		for i, c := range w.Covering {
			how := "enforced"
			if i > 0 {
				how = "covered too"
			}
			e := c.Entry
			fmt.Fprintf(out, "%s: %s by list %s, serial %d\n  entry %s: %s (scope %s), category %s\n  legal basis %s; decision %s\n  notified %s, in force %s, to be re-checked by %s\n",
				w.Name, how, c.List, c.Serial, e.ID, e.Name, e.Scope, e.Category, e.LegalBasis, e.Decision,
				e.Notified.Format(time.DateOnly), e.InForce.Format(time.DateOnly), e.ReviewBy.Format(time.DateOnly))
		}
		for _, n := range w.Aside {
			fmt.Fprintf(out, "%s: NOT ENFORCED (%s) though covered by list %s, serial %d: entry %s: %s (scope %s)\n", w.Name, n.Item.State, n.List, n.Serial,
				n.Item.ID, n.Item.Name, n.Item.Scope)
			if a := n.Item.Aside; a != nil {
				fmt.Fprintf(out, "  since %s: it %s\n", a.Since.Local().Format(time.DateTime), a.Because)
			} else {
				fmt.Fprintf(out, "  it comes into force on %s\n", n.Item.InForce.Local().Format(time.DateTime))
			}
		}
		if w.Would != "" {
			fmt.Fprintf(out, "answer: %s\n", w.Would)
		}
		for i, f := range w.Feeds {
			how := "says"
			switch {
			case w.Listed:
				how = "would say, were the name not listed,"
			case i > 0:
				how = "would say, did none before it,"
			}
			fmt.Fprintf(out, "feed %s, serial %d, %s %s, by the rule %s\n", f.Feed, f.Serial, how, f.Action, f.Rule)
		}
		for _, d := range w.Last {
			fmt.Fprintf(out, "decided %s: record %d, %s, %s, questions: %d\n", d.Time.Local().Format(time.DateTime), d.Seq, d.Type, d.Action, d.Count)
		}
		if !w.Ready {
			fmt.Fprintln(out, "the resolver is not ready: a required list is not loaded, and every answer is SERVFAIL")
		}
		return nil
	}
	return c
}

// ask puts a question to the running resolver over its control socket.
func ask(config, path string, into any) ([]byte, error) {
	var raw bytes.Buffer
	if err := call(config, http.MethodGet, path, nil, &raw); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw.Bytes(), into); err != nil {
		return nil, fmt.Errorf("read the resolver's answer: %w", err)
	}
	return raw.Bytes(), nil
}

const (
	maxAnswer = 4 << 30         // bytes; a whole list may be exported
	patience  = 5 * time.Minute // for an answer
)

// call sends body, as JSON where it is not nil, and copies the answer to out.
func call(config, method, path string, body any, out io.Writer) error {
	conf, err := resolver.LoadConfig(config)
	if err != nil {
		return err
	}
	if conf.Control.Socket == "" {
		return fmt.Errorf("%s: control.socket is not set, so a running resolver cannot be asked; set it and restart", config)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", conf.Control.Socket)
		},
	}}
	defer client.CloseIdleConnections()
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequest(method, "http://resolver"+path, &sent)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		if op := new(net.OpError); errors.As(err, &op) {
			err = op.Err
		}
		return fmt.Errorf("ask the resolver at %s: %w; is it running, and may you open the socket?", conf.Control.Socket, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return errors.Join(errors.New(strings.TrimSpace(string(text))), err)
	}
	if _, err := io.Copy(out, io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return fmt.Errorf("read the resolver's answer: %w", err)
	}
	return nil
}
