package resolver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"cordon/blocklist"
	"cordon/blocklog"
	"cordon/resolver/anchors"
	"cordon/resolver/policy"
	"cordon/rpz/feed"
)

// Status is what `cordon-resolver status` shows.
type Status struct {
	Version string           `json:"version"`
	Started time.Time        `json:"started"`
	Ready   bool             `json:"ready"` // every required list is loaded; before that all answers are SERVFAIL
	Lists   []policy.Summary `json:"lists"`
	Waiting []string         `json:"waiting"` // configured lists that are not loaded yet
	Held    []Held           `json:"held"`    // what guards and people have stopped, by list
	Feeds   []feed.Status    `json:"feeds"`   // the operator's own, in order of precedence
	Anchors anchors.Status   `json:"anchors"` // that DNSSEC validation starts from
	Clock   string           `json:"clock"`   // why the time cannot be right, or ""
}

// Why is what `cordon-resolver why NAME` shows.
type Why struct {
	Name     string            `json:"name"`
	Listed   bool              `json:"listed"`
	Covering []policy.Covering `json:"covering"` // the first is enforced
	Aside    []NotEnforced     `json:"aside"`    // entries that cover it and are not enforced
	Would    string            `json:"would"`    // what a question for it gets, in words
	Feeds    []FeedSays        `json:"feeds"`    // rules of the operator's feeds for it; they come after the lists
	Last     []LastDecision    `json:"last"`     // the last decisions on it, the latest first
	Ready    bool              `json:"ready"`
}

// NotEnforced is an entry of a list in force that a guard or a person has set
// aside, or whose time has not come.
type NotEnforced struct {
	List   string         `json:"list"`
	Serial uint64         `json:"serial"`
	Item   blocklist.Item `json:"item"`
}

// control serves the operator's questions over a UNIX socket: whoever may open
// the socket (owner and group, 0660) may ask.
type control struct {
	listener net.Listener
	server   *http.Server
}

func newControl(path string, r *Resolver, log *slog.Logger) (*control, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("control.socket: %w", err)
	}
	// A socket that a killed process left behind is not served by anyone; the
	// block log's lock has already shown that no other resolver runs here.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("control.socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control.socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("control.socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, r.Status()) })
	mux.HandleFunc("GET /why", func(w http.ResponseWriter, req *http.Request) {
		why, err := r.Why(req.FormValue("name"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		writeJSON(w, why)
	})
	r.handleLists(mux)
	return &control{listener: l, server: &http.Server{
		Handler:           mux,
		ConnContext:       withPeer,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      time.Minute, // an order waits for a list that is just being put in force
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}, nil
}

// run serves until ctx ends.
func (c *control) run(ctx context.Context) error { return serveHTTP(ctx, c.server, c.listener) }

// serveHTTP serves until ctx ends, then lets requests under way finish for a
// few seconds.
func serveHTTP(ctx context.Context, s *http.Server, l net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	err := s.Shutdown(grace)
	if err != nil {
		s.Close()
	}
	<-failed
	return nil
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.Encode(v) // a reader that went away is its own affair
}

// Status reports what is in force.
func (r *Resolver) Status() Status {
	g := r.policy.Current()
	s := Status{Version: r.version, Started: r.started, Ready: g.Ready(), Lists: g.Lists(), Waiting: []string{}, Held: r.Held(), Anchors: r.anchors.Status(), Clock: r.times.doubted(), Feeds: []feed.Status{}}
	if r.feeds != nil {
		s.Feeds = r.feeds.Status()
	}
	serials := g.Serials()
	for _, l := range r.config.Lists {
		if _, loaded := serials[l.Name]; !loaded {
			s.Waiting = append(s.Waiting, l.Name)
		}
	}
	return s
}

// Why says which entries cover a name as a person writes it.
func (r *Resolver) Why(name string) (Why, error) {
	canonical, err := blocklist.CanonicalName(name)
	if err != nil {
		return Why{}, err
	}
	wire, err := blocklist.WireName(canonical)
	if err != nil {
		return Why{}, err
	}
	g := r.policy.Current()
	w := Why{Name: canonical, Covering: g.Covering(wire), Aside: []NotEnforced{}, Would: g.Would(wire), Feeds: r.feedsSay(wire), Ready: g.Ready()}
	w.Listed = len(w.Covering) > 0
	for _, l := range r.watchers {
		running := l.View().Running
		if running == nil {
			continue
		}
		for _, item := range running.Covering(canonical) {
			if item.State != blocklist.Enforced {
				w.Aside = append(w.Aside, NotEnforced{List: running.Name, Serial: running.List.Serial, Item: item})
			}
		}
	}
	w.Last, err = r.lastDecisions(wire)
	return w, err
}

// LastDecision is a decision in the block log.
type LastDecision struct {
	Seq    uint64           `json:"seq"`
	Time   time.Time        `json:"time"`
	Type   string           `json:"type"` // of the question
	Action string           `json:"action"`
	Count  uint32           `json:"count"`
	By     []blocklog.Match `json:"by"`
}

const (
	maxLast  = 5       // decisions that are shown
	lastLook = 200_000 // records that are looked through for them, from the end
)

// lastDecisions looks for a name in the newest records of the block log.
func (r *Resolver) lastDecisions(name []byte) ([]LastDecision, error) {
	last := []LastDecision{}
	first, next, err := blocklog.Bounds(r.config.Blocklog.Dir)
	if err != nil {
		return last, fmt.Errorf("look into the block log: %w", err)
	}
	from := first
	if next > lastLook {
		from = max(first, next-lastLook)
	}
	in, err := blocklog.OpenReader(r.config.Blocklog.Dir, from)
	if err != nil {
		return last, fmt.Errorf("look into the block log: %w", err)
	}
	defer in.Close()
	for {
		record, _, err := in.Next()
		if errors.Is(err, io.EOF) {
			slices.Reverse(last)
			return last, nil
		}
		if err != nil {
			return last, fmt.Errorf("look into the block log: %w", err)
		}
		if d := record.Decision; d != nil && bytes.Equal(d.Name, name) {
			last = append(last, LastDecision{
				Seq: record.Seq, Time: time.Unix(record.Time, 0).UTC(), Type: blocklog.TypeText(d.Type),
				Action: d.Action.String(), Count: d.Count, By: slices.Clone(d.Matches),
			})
			last = last[max(0, len(last)-maxLast):]
		}
	}
}
