package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"cordon/blocklog"
)

// lookEvery is how often the window looks for news.
const lookEvery = 250 * time.Millisecond

// watch shows what happens until ctx ends: each record of the block log, the
// audit log's size when it changes, and programs that ended.
func (c *children) watch(ctx context.Context, w io.Writer) error {
	dir := c.path("resolver", "blocklog")
	_, next, err := blocklog.Bounds(dir)
	if err != nil {
		return err
	}
	// From the start of this run on: its records are the newest ones.
	journal, err := blocklog.OpenReader(dir, max(1, next-min(next-1, 2)))
	if err != nil {
		return err
	}
	defer journal.Close()
	sealed := ""
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := showRecords(w, journal); err != nil {
			return err
		}
		if size := auditSize(ctx); size != "" && size != sealed {
			sealed = size
			say(w, time.Now(), "audit log", "leaves, signed by the auditor: "+size)
		}
		select {
		case <-ctx.Done():
			fmt.Fprintln(w, "\nStopping; everything stays in", c.dir)
			return nil
		case child := <-c.ended:
			say(w, time.Now(), "ENDED", fmt.Sprintf("%s (%v); it is not started again. Its last lines:\n%s", child.name, child.err, lastLines(child.log, 5)))
		case <-tick.C:
		}
	}
}

// showRecords shows what was written since the last look.
func showRecords(w io.Writer, journal *blocklog.Reader) error {
	for {
		record, _, err := journal.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		at := time.Unix(record.Time, 0)
		if d := record.Decision; d != nil {
			m := d.Matches[0]
			times := ""
			if d.Count > 1 {
				times = fmt.Sprintf(", %d times", d.Count)
			}
			say(w, at, "blocked", fmt.Sprintf("%s %s by %s: %s (measure %s, list serial %d%s)",
				blocklog.NameText(d.Name), blocklog.TypeText(d.Type), d.Transport, d.Action, m.Entry, m.Serial, times))
			continue
		}
		say(w, at, record.Event.Kind, eventText(record.Event))
	}
}

// eventText puts the fields of an event that a person wants to see into words.
func eventText(e *blocklog.Event) string {
	var data struct {
		List    string
		Serial  uint64
		Entries int
		Reason  string
		Detail  string
	}
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return string(e.Data)
	}
	switch e.Kind {
	case "list.applied":
		return fmt.Sprintf("list %s: serial %d, names on it: %d", data.List, data.Serial, data.Entries)
	case "list.refused":
		return fmt.Sprintf("list %s: %s (%s); the running list stays in force", data.List, data.Reason, data.Detail)
	case "started", "stopped":
		return "resolver"
	}
	return string(e.Data)
}

func say(w io.Writer, at time.Time, what, text string) {
	fmt.Fprintf(w, "%s  %-13s %s\n", at.Local().Format(time.TimeOnly), what, text)
}

// auditSize asks the auditor's metrics for the number of leaves; "" if it does
// not answer.
func auditSize(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+auditorMetrics+"/metrics", nil)
	if err != nil {
		return ""
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if size, ok := strings.CutPrefix(line, "cordon_audit_size "); ok {
			return strings.TrimSpace(size)
		}
	}
	return ""
}
