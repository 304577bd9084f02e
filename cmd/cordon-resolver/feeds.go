package main

import (
	"fmt"
	"io"
	"time"

	"cordon/rpz/feed"
)

// sayFeed prints the state of one of the operator's feeds.
func sayFeed(out io.Writer, s *feed.Status) {
	if !s.Loaded {
		fmt.Fprintf(out, "feed %s: NOTHING IN FORCE, from %s\n", s.Name, s.Source)
	} else {
		fmt.Fprintf(out, "feed %s: serial %d, %d rules, from %s, known to be the newest at %s\n", s.Name, s.Serial, s.Rules.Active, s.Source, s.Confirmed.Local().Format(time.DateTime))
	}
	if s.Alarm != "" {
		fmt.Fprintf(out, "  ALARM: %s\n", s.Alarm)
	} else if s.Failure != "" {
		fmt.Fprintf(out, "  the last look failed: %s\n", s.Failure)
	}
	if c := s.Rules; c.Unsupported+c.Refused+c.Invalid > 0 {
		fmt.Fprintf(out, "  not in force: %d unsupported, %d refused, %d invalid\n", c.Unsupported, c.Refused, c.Invalid)
		for _, rule := range s.Shunned {
			fmt.Fprintf(out, "    %s\n", rule)
		}
	}
}
