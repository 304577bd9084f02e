package blocklist

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"cordon/signing"
)

// Inspection says against what a publication is looked at.
type Inspection struct {
	Root     []byte // pinned
	Identity string // age; secret
	Limits   Limits
	Guard    *Guard
	Clock    func() time.Time
}

// Inspect verifies a publication that lies at path, as a resolver would that has
// nothing in force, and gives what it would enforce of it: either the folder that an
// authority publishes, or a file of a resolver's list store (SERIAL.tar). It
// changes nothing.
//
// A list in clear, as text or compressed, is looked at as well, as far as that goes
// without a signature: the Loaded then has no TargetSHA256.
func (in Inspection) Inspect(ctx context.Context, name, path string) (*Loaded, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		if l, err := in.clear(ctx, name, path); l != nil || err != nil {
			return l, err
		}
	}
	take := readStored
	origin := OriginStore
	if info.IsDir() {
		take, origin = in.fetch, OriginFetch
	}
	a, err := take(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	o := opener{name: name, root: in.Root, identity: in.Identity, limits: in.Limits, guard: in.Guard}
	l, err := o.open(ctx, a, origin)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l.reviewed(ctx, newStanding(name), in.Guard, nil, in.Clock())
}

// clear reads a list in clear; nil where the file is none.
func (in Inspection) clear(ctx context.Context, name, path string) (*Loaded, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	start, _ := r.Peek(4) // a file that is shorter is none of these
	l := &Loaded{Name: name, Origin: OriginStore}
	var sum [sha256.Size]byte
	switch {
	case bytes.HasPrefix(start, []byte("{")):
		text := sha256.New()
		if l.List, err = Parse(io.TeeReader(untilEnd{ctx, r}, text), in.Limits); err == nil {
			sum = [sha256.Size]byte(text.Sum(nil))
		}
	case bytes.Equal(start, zstdMagic):
		l.List, sum, err = decode(ctx, r, in.Limits)
	default:
		return nil, nil
	}
	if err == nil {
		l.ListSHA256 = hex.EncodeToString(sum[:])
		err = in.Guard.Check(ctx, Update{Next: l.List})
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l.reviewed(ctx, newStanding(name), in.Guard, nil, in.Clock())
}

// zstdMagic begins a compressed file (RFC 8878 §3.1.1).
var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

func readStored(_ context.Context, path string) (*signing.Accepted, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return unpack(bufio.NewReader(f))
}

func (in Inspection) fetch(ctx context.Context, path string) (*signing.Accepted, error) {
	dir, err := os.MkdirTemp("", "cordon-verify-") // 0700
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	client, err := signing.NewClient(signing.ClientConfig{Root: in.Root, Dir: dir, Source: signing.NewFolderSource(path), Clock: in.Clock})
	if err != nil {
		return nil, err
	}
	return client.Update(ctx)
}

// Generation gives a list that the watcher has at hand besides the one in force:
// the one that is held, or one that is stored; verified anew. nil without an error
// is none.
func (w *Watcher) Generation(ctx context.Context, serial uint64) (*List, error) {
	v := w.View()
	switch {
	case v.Running != nil && v.Running.List.Serial == serial:
		return v.Running.List, nil
	case v.HeldList != nil && v.HeldList.Serial == serial:
		return v.HeldList, nil
	}
	// A file that a rename replaces or removes is read as it was, or is not there.
	l, _, err := w.c.Store.load(ctx, serial, w.opener.reopen)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return l.List, nil
}

// Question is what a client asks for, as far as a list goes by it.
type Question struct {
	Name string `json:"name"`
	Type string `json:"type"` // as in a zone file; "" is A
}

// Verdict is what a list would change for a question.
type Verdict struct {
	Question
	Was   *Outcome `json:"was,omitempty"`   // now; nil where the name is not blocked
	Would *Outcome `json:"would,omitempty"` // with the other list
}

// Outcome is what a blocked question gets.
type Outcome struct {
	Entry  string `json:"entry"`  // its id
	Answer string `json:"answer"` // addresses, or NODATA
}

// DryRun compares for each question what the list in force does with what next
// would do, as the guards stand now, and gives at most most of the questions that
// would be answered otherwise, and how many there are.
func (w *Watcher) DryRun(ctx context.Context, next *List, questions []Question, most int) (changed []Verdict, total int, err error) {
	w.mu.Lock()
	st, running := w.standing.clone(), w.running
	w.mu.Unlock()
	would, err := (&Loaded{Name: w.c.Name, List: next}).reviewed(ctx, st, w.c.Guard, running, w.c.Clock())
	if err != nil {
		return nil, 0, err
	}
	for _, q := range questions {
		if q.Name, err = CanonicalName(q.Name); err != nil {
			continue // no list can hold it
		}
		if q.Type = strings.ToUpper(q.Type); q.Type == "" {
			q.Type = "A"
		}
		v := Verdict{Question: q, Was: running.outcome(q), Would: would.outcome(q)}
		if (v.Was == nil) == (v.Would == nil) && (v.Was == nil || v.Was.Answer == v.Would.Answer) {
			continue
		}
		total++
		if len(changed) < most {
			changed = append(changed, v)
		}
	}
	return changed, total, nil
}

// outcome is what a question gets from a list; nil where it is not blocked. l may
// be nil.
func (l *Loaded) outcome(q Question) *Outcome {
	if l == nil {
		return nil
	}
	number, ok := l.Index.Lookup(appendWire(nil, q.Name))
	if !ok {
		return nil
	}
	e := &l.List.Entries[number]
	page := l.List.Categories[e.Category]
	var addresses []netip.Addr
	switch q.Type {
	case "A":
		addresses = page.IPv4
	case "AAAA":
		addresses = page.IPv6
	}
	if len(addresses) == 0 {
		return &Outcome{Entry: e.ID, Answer: "NODATA"}
	}
	var texts []string
	for _, a := range addresses {
		texts = append(texts, a.String())
	}
	return &Outcome{Entry: e.ID, Answer: strings.Join(texts, ", ")}
}
