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
	"strings"
	"time"

	"github.com/spf13/cobra"

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
	questions := c.Flags().String("questions", "", "`FILE` of names, one a line; - is standard input")
	log := c.Flags().String("blocklog", "", "`DIR` of the block log: its names of the last 24 hours")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		var names []string
		var err error
		switch {
		case (*questions == "") == (*log == ""):
			return errors.New("say which questions: --questions FILE or --blocklog DIR")
		case *log != "":
			names, err = decided(*log, time.Now().Add(-24*time.Hour).Unix())
		case *questions == "-":
			names, err = namesOf(cmd.InOrStdin())
		default:
			var f *os.File
			if f, err = os.Open(*questions); err == nil {
				defer f.Close()
				names, err = namesOf(f)
			}
		}
		if err != nil {
			return err
		}
		var raw bytes.Buffer
		if err := call(*config, http.MethodPost, at("/list/dry-run", "list", args[0], "to", *with), names, &raw); err != nil {
			return err
		}
		var d resolver.DryRun
		if err := json.Unmarshal(raw.Bytes(), &d); err != nil {
			return fmt.Errorf("read the resolver's answer: %w", err)
		}
		out := cmd.OutOrStdout()
		for _, v := range d.Changed {
			if v.Was == "" {
				fmt.Fprintf(out, "+ %s would be blocked, by %s\n", v.Name, v.Would)
			} else {
				fmt.Fprintf(out, "- %s would be free; %s blocks it now\n", v.Name, v.Was)
			}
		}
		fmt.Fprintf(out, "%d of %d names would be answered otherwise with serial %d than with %d\n", d.InAll, d.Asked, d.To, d.From)
		return nil
	}
	return c
}

// namesOf reads names, one a line.
func namesOf(r io.Reader) (names []string, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if name := strings.TrimSpace(lines.Text()); name != "" && !strings.HasPrefix(name, "#") {
			names = append(names, name)
		}
	}
	return names, lines.Err()
}

// decided gives the names on which the block log holds decisions since a time (Unix
// seconds), each once.
func decided(dir string, since int64) (names []string, err error) {
	oldest, _, err := blocklog.Bounds(dir)
	if err != nil {
		return nil, err
	}
	in, err := blocklog.OpenReader(dir, oldest)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	seen := make(map[string]bool)
	for {
		record, _, err := in.Next()
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		if err != nil {
			return nil, err
		}
		if record.Decision == nil || record.Time < since {
			continue
		}
		name := blocklog.NameText(record.Decision.Name)
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
}
