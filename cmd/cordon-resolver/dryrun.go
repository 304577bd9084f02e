package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/spf13/cobra"

	"cordon/blocklist"
	"cordon/blocklog"
	"cordon/resolver"
)

func dryRunCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "dry-run LIST",
		Short: "Say what another list would have changed for a file of questions, or a day of the block log",
		Args:  cobra.ExactArgs(1),
	}
	config := withConfig(c)
	with := c.Flags().String("with", "held", "the list to try: `held`, or a serial in the store")
	questions := c.Flags().String("questions", "", "`FILE` of questions, a name and perhaps a type (else A) a line; - is standard input")
	log := c.Flags().String("blocklog", "", "`DIR` of the block log: what was asked for in the last 24 hours and blocked")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		var asked []blocklist.Question
		var err error
		switch {
		case (*questions == "") == (*log == ""):
			return errors.New("say which questions: --questions FILE or --blocklog DIR")
		case *log != "":
			asked, err = decided(*log, time.Now().Add(-24*time.Hour).Unix())
		case *questions == "-":
			asked, err = questionsOf(cmd.InOrStdin(), "standard input")
		default:
			var f *os.File
			if f, err = os.Open(*questions); err == nil {
				defer f.Close()
				asked, err = questionsOf(f, *questions)
			}
		}
		if err != nil {
			return err
		}
		var raw bytes.Buffer
		if err := call(*config, http.MethodPost, at("/list/dry-run", "list", args[0], "to", *with), asked, &raw); err != nil {
			return err
		}
		var d resolver.DryRun
		if err := json.Unmarshal(raw.Bytes(), &d); err != nil {
			return fmt.Errorf("read the resolver's answer: %w", err)
		}
		out := cmd.OutOrStdout()
		for _, v := range d.Changed {
			switch {
			case v.Was == nil:
				fmt.Fprintf(out, "+ %s %s would be blocked, by %s: %s\n", v.Name, v.Type, v.Would.Entry, v.Would.Answer)
			case v.Would == nil:
				fmt.Fprintf(out, "- %s %s would be free; %s blocks it now\n", v.Name, v.Type, v.Was.Entry)
			default:
				fmt.Fprintf(out, "~ %s %s would get %s, by %s, in place of %s\n", v.Name, v.Type, v.Would.Answer, v.Would.Entry, v.Was.Answer)
			}
		}
		fmt.Fprintf(out, "%d of %d questions would be answered otherwise with serial %d than with %d\n", d.InAll, d.Asked, d.To, d.From)
		return nil
	}
	return c
}

// questionsOf reads questions, one a line: a name, and perhaps a type.
func questionsOf(r io.Reader, from string) (all []blocklist.Question, err error) {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		q := blocklist.Question{Name: fields[0], Type: "A"}
		if len(fields) > 1 {
			q.Type = strings.ToUpper(fields[1])
		}
		if len(fields) > 2 || !isType(q.Type) {
			return nil, fmt.Errorf("%s line %d: %q; write a name, and perhaps a type such as AAAA", from, n, lines.Text())
		}
		all = append(all, q)
	}
	return all, lines.Err()
}

// isType knows the types that have a name, and TYPE65280 for those that have none
// (RFC 3597 §5).
func isType(s string) bool {
	if _, ok := dns.StringToType[s]; ok {
		return true
	}
	digits, ok := strings.CutPrefix(s, "TYPE")
	_, err := strconv.ParseUint(digits, 10, 16)
	return ok && err == nil
}

// decided gives the questions on which the block log holds decisions since a time
// (Unix seconds), each once.
func decided(dir string, since int64) (all []blocklist.Question, err error) {
	oldest, _, err := blocklog.Bounds(dir)
	if err != nil {
		return nil, err
	}
	in, err := blocklog.OpenReader(dir, oldest)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	seen := make(map[blocklist.Question]bool)
	for {
		record, _, err := in.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if record.Decision == nil || record.Time < since {
			continue
		}
		q := blocklist.Question{Name: blocklog.NameText(record.Decision.Name), Type: blocklog.TypeText(record.Decision.Type)}
		if !seen[q] {
			seen[q] = true
			all = append(all, q)
		}
	}
}
