package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/user"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"cordon/blocklist"
)

// What operators ask and order over the control socket, `cordon-resolver list ...`.
// Whoever may open the socket may ask; the kernel says which account that is, and
// what is ordered or read out is on record with it.

// Orders is the body of a POST to /list/release, /list/hold and /list/rollback.
type Orders struct {
	List    string   `json:"list"`
	Entries []string `json:"entries,omitempty"` // ids, to release or hold
	Update  uint64   `json:"update,omitempty"`  // serial of a list to release or hold as a whole instead
	Name    string   `json:"name"`              // of the person who orders it
	Reason  string   `json:"reason"`
}

// Held is what guards and people have stopped of one list.
type Held struct {
	List     string                `json:"list"`
	Serial   uint64                `json:"serial"` // in force; 0 if none is
	Update   *blocklist.HeldUpdate `json:"update,omitempty"`
	Rollback *blocklist.Rollback   `json:"rollback,omitempty"`
	Aside    []blocklist.SetAside  `json:"aside"`    // at most maxShown
	InAll    int                   `json:"in_all"`   // entries set aside
	Pending  int                   `json:"pending"`  // entries whose in_force lies ahead
	Released []blocklist.Released  `json:"released"` // entries that a person let come into force
}

// Found is what `list search` and `list show` give.
type Found struct {
	List   string           `json:"list"`
	Serial uint64           `json:"serial"` // of the list in force
	Items  []blocklist.Item `json:"items"`
	InAll  int              `json:"in_all"`
}

// Differences is what `list diff` gives.
type Differences struct {
	List  string                 `json:"list"`
	From  uint64                 `json:"from"`
	To    uint64                 `json:"to"`
	Some  []blocklist.Difference `json:"some"`
	InAll int                    `json:"in_all"`
}

// DryRun is what `list dry-run` gives.
type DryRun struct {
	List    string              `json:"list"`
	From    uint64              `json:"from"` // serial in force
	To      uint64              `json:"to"`   // serial that is tried
	Asked   int                 `json:"asked"`
	Changed []blocklist.Verdict `json:"changed"` // at most maxShown
	InAll   int                 `json:"in_all"`
}

const (
	maxShown     = 1000     // of entries, names or differences in one answer
	maxSearch    = 100      // entries that a search gives: it is no way to read the list out
	leastSearch  = 3        // bytes of the text that is searched for
	maxOrders    = 64 << 10 // bytes of a body with orders
	maxQuestions = 64 << 20 // bytes of a body with questions
)

// handleLists adds the operator's paths.
func (r *Resolver) handleLists(mux *http.ServeMux) {
	give := func(path string, answer func(*http.Request) (any, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) {
			v, err := answer(req)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			writeJSON(w, v)
		})
	}
	give("GET /list/held", func(*http.Request) (any, error) { return r.Held(), nil })
	give("GET /list/search", r.search)
	give("GET /list/show", r.show)
	give("GET /list/diff", r.diff)
	give("POST /list/dry-run", r.dryRun)
	give("POST /flush", r.flush)
	for path, order := range map[string]func(*blocklist.Watcher, Orders, blocklist.Ruling) (string, error){
		"POST /list/release": release, "POST /list/hold": hold, "POST /list/rollback": rollback,
	} {
		give(path, func(req *http.Request) (any, error) { return r.order(req, order) })
	}
	mux.HandleFunc("GET /list/export", r.export)
	mux.HandleFunc("GET /rpz/export", r.exportRPZ)
}

// watcher finds a configured list; without a name the only one.
func (r *Resolver) watcher(name string) (*blocklist.Watcher, error) {
	if name == "" && len(r.watchers) == 1 {
		return r.watchers[0], nil
	}
	for _, w := range r.watchers {
		if w.View().Name == name {
			return w, nil
		}
	}
	return nil, fmt.Errorf("list %q is not configured here", name)
}

// Held says what guards and people have stopped, list by list.
func (r *Resolver) Held() []Held {
	all := []Held{}
	for _, w := range r.watchers {
		v := w.View()
		h := Held{List: v.Name, Update: v.Held, Rollback: v.Rollback, Aside: []blocklist.SetAside{}, Released: v.Released}
		if l := v.Running; l != nil {
			h.Serial, h.InAll, h.Pending = l.List.Serial, len(l.Aside), l.Pending
			for _, a := range l.Aside[:min(len(l.Aside), maxShown)] {
				h.Aside = append(h.Aside, a.SetAside)
			}
		}
		all = append(all, h)
	}
	return all
}

// order reads what is ordered and by whom, and carries it out.
func (r *Resolver) order(req *http.Request, do func(*blocklist.Watcher, Orders, blocklist.Ruling) (string, error)) (any, error) {
	in := json.NewDecoder(http.MaxBytesReader(nil, req.Body, maxOrders))
	in.DisallowUnknownFields()
	var o Orders
	if err := in.Decode(&o); err != nil {
		return nil, fmt.Errorf("orders: %w", err)
	}
	w, err := r.watcher(o.List)
	if err != nil {
		return nil, err
	}
	done, err := do(w, o, blocklist.Ruling{Name: o.Name, Reason: o.Reason, Account: account(req)})
	if err != nil {
		return nil, err
	}
	return struct {
		Done string `json:"done"`
	}{done}, nil
}

func release(w *blocklist.Watcher, o Orders, by blocklist.Ruling) (string, error) {
	if o.Update == 0 {
		return fmt.Sprintf("%d entries released", len(o.Entries)), w.Release(o.Entries, by)
	}
	if len(o.Entries) > 0 {
		return "", errors.New("release entries of the list in force or a held update, not both at once")
	}
	return fmt.Sprintf("serial %d released", o.Update), w.ReleaseUpdate(o.Update, by)
}

func hold(w *blocklist.Watcher, o Orders, by blocklist.Ruling) (string, error) {
	if o.Update != 0 {
		if len(o.Entries) > 0 {
			return "", errors.New("hold entries of the list in force or an update on trial, not both at once")
		}
		return fmt.Sprintf("serial %d held", o.Update), w.HoldUpdate(o.Update, by)
	}
	return fmt.Sprintf("%d entries held", len(o.Entries)), w.Hold(o.Entries, by)
}

func rollback(w *blocklist.Watcher, _ Orders, by blocklist.Ruling) (string, error) {
	to, err := w.RollBack(by)
	return fmt.Sprintf("serial %d is in force again, until one newer than both comes", to), err
}

// search finds entries by name, text, category, state or review date.
func (r *Resolver) search(req *http.Request) (any, error) {
	w, err := r.watcher(req.FormValue("list"))
	if err != nil {
		return nil, err
	}
	q := blocklist.Query{Holds: req.FormValue("holds"), Category: req.FormValue("category"), Limit: maxSearch}
	if q.State, err = blocklist.ParseState(req.FormValue("state")); err != nil {
		return nil, err
	}
	if day := req.FormValue("review_by"); day != "" {
		if q.ReviewBy, err = blocklist.ParseDate(day); err != nil {
			return nil, err
		}
	}
	if len(q.Holds) < leastSearch && q.Category == "" && q.State == "" && q.ReviewBy.IsZero() {
		return nil, fmt.Errorf("search for at least %d characters of a name, a category, a state or a review date; list export gives the whole list", leastSearch)
	}
	return find(w.View().Name, w.Catalogue(), q), nil
}

// show gives single entries by id or name.
func (r *Resolver) show(req *http.Request) (any, error) {
	w, err := r.watcher(req.FormValue("list"))
	if err != nil {
		return nil, err
	}
	what := req.FormValue("entry")
	c := w.Catalogue()
	if item, ok := c.Get(what); ok {
		return Found{List: w.View().Name, Serial: c.Serial(), Items: []blocklist.Item{item}, InAll: 1}, nil
	}
	name, err := blocklist.CanonicalName(what)
	if err != nil {
		return nil, fmt.Errorf("%q is neither the id of an entry in force nor a name", what)
	}
	return find(w.View().Name, c, blocklist.Query{Name: name, Limit: maxSearch}), nil
}

func find(list string, c blocklist.Catalogue, q blocklist.Query) Found {
	items, total := c.Find(q)
	if items == nil {
		items = []blocklist.Item{}
	}
	return Found{List: list, Serial: c.Serial(), Items: items, InAll: total}
}

// generation finds a list at hand by what a person calls it: a serial, "running"
// or "held".
func generation(ctx context.Context, w *blocklist.Watcher, what string) (*blocklist.List, error) {
	v := w.View()
	switch what {
	case "running":
		if v.Running == nil {
			return nil, fmt.Errorf("list %s: no list is in force", v.Name)
		}
		return v.Running.List, nil
	case "held":
		if v.HeldList == nil {
			return nil, fmt.Errorf("list %s: no update is held, or it has not been fetched again since the start", v.Name)
		}
		return v.HeldList, nil
	}
	serial, err := strconv.ParseUint(what, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%q is no serial; write a number, running or held", what)
	}
	l, err := w.Generation(ctx, serial)
	if err == nil && l == nil {
		err = fmt.Errorf("list %s: serial %d is not at hand: the store keeps the last two", v.Name, serial)
	}
	return l, err
}

// diff compares two lists at hand.
func (r *Resolver) diff(req *http.Request) (any, error) {
	w, err := r.watcher(req.FormValue("list"))
	if err != nil {
		return nil, err
	}
	from, err := generation(req.Context(), w, req.FormValue("from"))
	if err != nil {
		return nil, err
	}
	to, err := generation(req.Context(), w, req.FormValue("to"))
	if err != nil {
		return nil, err
	}
	some, total := blocklist.Diff(from, to, maxShown)
	if some == nil {
		some = []blocklist.Difference{}
	}
	if total > maxSearch {
		if err := r.recordDump(req, w.View().Name, "diff", to.Serial, len(some)); err != nil {
			return nil, err
		}
	}
	return Differences{List: w.View().Name, From: from.Serial, To: to.Serial, Some: some, InAll: total}, nil
}

// dryRun says of a file of questions which would be answered otherwise.
func (r *Resolver) dryRun(req *http.Request) (any, error) {
	w, err := r.watcher(req.FormValue("list"))
	if err != nil {
		return nil, err
	}
	to, err := generation(req.Context(), w, req.FormValue("to"))
	if err != nil {
		return nil, err
	}
	var questions []blocklist.Question
	if err := json.NewDecoder(http.MaxBytesReader(nil, req.Body, maxQuestions)).Decode(&questions); err != nil {
		return nil, fmt.Errorf("questions: %w", err)
	}
	answer := DryRun{List: w.View().Name, To: to.Serial, Asked: len(questions), Changed: []blocklist.Verdict{}}
	if l := w.View().Running; l != nil {
		answer.From = l.List.Serial
	}
	changed, total, err := w.DryRun(req.Context(), to, questions, maxShown)
	answer.Changed, answer.InAll = append(answer.Changed, changed...), total
	return answer, err
}

// export gives the whole list in force, as its authority wrote it. That is on
// record before the first byte leaves.
func (r *Resolver) export(rw http.ResponseWriter, req *http.Request) {
	w, err := r.watcher(req.FormValue("list"))
	var l *blocklist.List
	if err == nil {
		l, err = generation(req.Context(), w, "running")
	}
	if err == nil {
		err = r.recordDump(req, w.View().Name, "export", l.Serial, len(l.Entries))
	}
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	// A long list takes longer than an answer otherwise may.
	_ = http.NewResponseController(rw).SetWriteDeadline(r.clock().Add(5 * time.Minute))
	rw.Header().Set("Content-Type", "application/x-ndjson")
	if err := l.Encode(rw); err != nil {
		r.log.Warn("the list could not be exported", "error", err)
	}
}

// recordDump puts on record that a list was read out, as it is confidential.
func (r *Resolver) recordDump(req *http.Request, list, what string, serial uint64, entries int) error {
	by := account(req)
	err := r.journal.Event("list.dumped", struct {
		List    string `json:"list"`
		What    string `json:"what"`
		Serial  uint64 `json:"serial"`
		Entries int    `json:"entries"`
		Account string `json:"account"`
	}{list, what, serial, entries, by})
	if err != nil {
		return fmt.Errorf("the list is not given, since that cannot be recorded: %w", err)
	}
	r.log.Warn("list read out over the control socket", "list", list, "what", what, "serial", serial, "entries", entries, "account", by)
	return nil
}

// peerKey finds the connection's peer in a request's context.
type peerKey struct{}

// withPeer keeps who is at the other end of a connection, as the kernel says
// (SO_PEERCRED, unix(7)).
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, peerAccount(c))
}

// account is the local account that asks.
func account(req *http.Request) string {
	who, _ := req.Context().Value(peerKey{}).(string)
	return who
}

func peerAccount(c net.Conn) string {
	const unknown = "unknown"
	u, ok := c.(*net.UnixConn)
	if !ok {
		return unknown
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return unknown
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil || err != nil {
		return unknown
	}
	uid := strconv.FormatUint(uint64(cred.Uid), 10)
	if a, err := user.LookupId(uid); err == nil {
		return a.Username
	}
	return "uid " + uid
}
