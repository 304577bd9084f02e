package oversight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"cordon/audit/tlog"
	"cordon/authority"
	"cordon/blocklist"
	"cordon/signing"
)

// registerView is the register as other parts of a verification need it.
type registerView struct {
	name      string
	authority string
	good      *authority.Register // up to the first leaf that breaks a rule
	broken    *uint64             // that leaf; nil: none
	mirrored  time.Time           // the copy has everything that stood in it then
	lists     map[uint64]*registered
}

// registered is a list as the register has it.
type registered struct {
	*authority.Published
	leaf    uint64
	allowed *authority.Publication // nil: from the leaf that breaks a rule on
	entries map[string]bool        // ids; nil before they were asked for
}

// holds tells whether the list has an entry; known is false where that cannot be
// said.
func (v *registerView) holds(l *registered, entry string) (holds, known bool) {
	if l.allowed == nil {
		return false, false
	}
	if l.entries == nil {
		l.entries = map[string]bool{}
		for _, e := range v.good.EntriesOf(l.allowed) {
			l.entries[e.ID] = true
		}
	}
	return l.entries[entry], true
}

// register verifies the register and gives it back; nil where nothing can be
// made of it.
func (v *verification) register(ctx context.Context, m *mirror) (*registerView, error) {
	cp, report, _, err := v.log(ctx, m)
	if err != nil {
		return nil, v.missing(m, err)
	}
	r, err := authority.Replay(m.local().Leaves(ctx, cp, 0))
	view := &registerView{name: m.name, good: r, mirrored: report.Mirrored, lists: map[uint64]*registered{}}
	var rule *authority.LeafError
	if errors.As(err, &rule) {
		view.broken = &rule.Index
		v.found.add(Finding{Severity: Alarm, Code: CodeRegister, Log: m.name, Leaf: view.broken,
			What: fmt.Sprintf("the register holds what its rules do not allow: %v", rule.Err)})
		v.notChecked("%s: what follows leaf %d was not replayed, since the rules were broken there.", m.name, rule.Index)
	} else if stop, err := v.walkError(m.name, err); stop {
		return nil, err
	}
	if r.Founded == nil {
		v.notChecked("%s: the register is empty, so nothing can be held against it.", m.name)
		return nil, nil
	}
	view.authority = r.Founded.Authority
	if r.Founded.Origin != cp.Origin {
		v.found.add(Finding{Severity: Alarm, Code: CodeOrigin, Log: m.name, Leaf: at(0),
			What: fmt.Sprintf("the register was founded as %q and stands in the log %q: its statements were signed for another log", r.Founded.Origin, cp.Origin)})
	}
	if err := v.collect(ctx, m, cp, view); err != nil {
		return nil, err
	}
	report.Register = summarize(r, v.report.At)
	return view, nil
}

// collect notes every publication in the register, those past a broken rule too,
// so that a resolver is not blamed for the authority's fault.
func (v *verification) collect(ctx context.Context, m *mirror, cp tlog.Checkpoint, view *registerView) error {
	for leaf, err := range m.local().Leaves(ctx, cp, 0) {
		if stop, err := v.walkError(m.name, err); stop {
			return err
		}
		parsed, err := authority.ParseLeaf(leaf.Data)
		if err != nil {
			continue // a rule is broken there
		}
		if l, ok := parsed.(*authority.Published); ok && view.lists[l.Serial] == nil {
			view.lists[l.Serial] = &registered{Published: l, leaf: leaf.Index}
		}
	}
	for _, p := range view.good.Publications {
		view.lists[p.Serial].allowed = p
	}
	return nil
}

func summarize(r *authority.Register, now time.Time) *RegisterReport {
	s := &RegisterReport{
		Authority: r.Founded.Authority, Procedure: r.Procedure.Name, Officers: len(r.Founded.Officers),
		Verified: r.Size, Measures: len(r.Measures), States: map[string]int{}, Lists: len(r.Publications),
	}
	for _, m := range r.Measures {
		s.States[string(r.State(m, now))]++
	}
	if last := r.LastPublication(); last != nil {
		s.Serial, s.Entries, s.Published = last.Serial, last.Entries, last.At
	}
	return s
}

// publication compares what was published with what was approved.
func (v *verification) publication(ctx context.Context, r *registerView) error {
	p := v.desk.publication
	if p == nil {
		v.notChecked("The publication is not followed: whether what was published is what was approved was checked by digest alone, not entry by entry.")
		return nil
	}
	report := &PublicationReport{}
	v.report.Publication = report
	if err := v.lastAttempt(publicationName, p.dir, &report.Mirrored); err != nil {
		return err
	}
	identity, err := v.desk.identity()
	if err != nil {
		return err
	}
	if identity == "" {
		v.notChecked("No identity is configured, so the published lists could not be decrypted and compared entry by entry.")
	}
	files, err := p.files()
	if err != nil {
		return err
	}
	targets := map[string][]byte{} // by digest
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, err := readKept(file)
		if err != nil {
			return err
		}
		if err := signing.VerifyAccepted(p.root, &k.Accepted); err != nil {
			v.found.add(Finding{Severity: Alarm, Code: CodePublication, Log: publicationName,
				What: fmt.Sprintf("a publication that was kept (%s) does not verify from the pinned root on: %v", file, err)})
			continue
		}
		report.Kept++
		sum := digest(k.Accepted.Target)
		targets[sum] = k.Accepted.Target
		if r != nil {
			v.registered(r, k, sum, identity)
		}
	}
	if r == nil || identity == "" {
		return nil
	}
	for _, published := range r.good.Publications {
		target := targets[published.TargetSHA256]
		if target == nil {
			if target, err = p.target(published.TargetSHA256); errors.Is(err, fs.ErrNotExist) {
				v.notChecked("%s: list %d of %s could not be had, so its entries were not compared; the register says what they should be.", publicationName, published.Serial, day(published.Issued))
				continue
			} else if err != nil {
				v.damaged(publicationName, nil, "list %d: %v", published.Serial, err)
				continue
			}
		}
		v.compare(r, published, target, identity)
		report.Compared++
	}
	return nil
}

// registered checks that the register knows what was signed.
func (v *verification) registered(r *registerView, k *kept, sum, identity string) {
	for _, l := range r.lists {
		if l.TargetSHA256 == sum {
			return
		}
	}
	if k.At.After(r.mirrored) {
		v.notChecked("%s: a list that was first seen on %s is newer than the copy of the register.", publicationName, minute(k.At))
		return
	}
	f := Finding{Severity: Alarm, Code: CodeUnregistered, Log: publicationName,
		What: fmt.Sprintf("a list was signed and published that the register does not know (target %s)", sum)}
	if list, err := open(k.Accepted.Target, identity); err == nil {
		f.Serial = list.Serial
		f.What += ": " + differences(list.Entries, r.good.Entries(list.Issued))
	}
	v.found.add(f)
}

// compare holds a published list against the register.
func (v *verification) compare(r *registerView, p *authority.Publication, target []byte, identity string) {
	found := func(code, format string, args ...any) {
		v.found.add(Finding{Severity: Alarm, Code: code, Log: r.name, Leaf: at(p.Index), Serial: p.Serial, What: fmt.Sprintf(format, args...)})
	}
	list, err := open(target, identity)
	if errors.Is(err, signing.ErrNotRecipient) {
		v.found.add(Finding{Severity: Warning, Code: CodeUnreadable, Log: r.name, Leaf: at(p.Index), Serial: p.Serial,
			What: "the list was not encrypted to the official's identity, so it could not be compared; the authority has to add it to the recipients"})
		return
	}
	if err != nil {
		found(CodeUnreadable, "the published list cannot be read: %v", err)
		return
	}
	sum, err := list.SHA256()
	if err != nil {
		found(CodeUnreadable, "the published list cannot be written down again: %v", err)
		return
	}
	approved := r.good.EntriesOf(p)
	switch {
	case !sameEntries(list.Entries, approved):
		found(CodeUnapproved, "what was published is not what was approved: %s", differences(list.Entries, approved))
	case list.Authority != r.authority, list.Serial != p.Serial, !list.Issued.Equal(p.Issued), !list.ValidUntil.Equal(p.ValidUntil), list.AnswerTTL != r.good.Procedure.List.AnswerTTL:
		found(CodeUnapproved, "the list's header is not what the register says: it has authority %q, serial %d, issued %s, valid until %s, answer TTL %d",
			list.Authority, list.Serial, list.Issued.Format(time.RFC3339), list.ValidUntil.Format(time.RFC3339), list.AnswerTTL)
	case fmt.Sprintf("%x", sum) != p.ListSHA256:
		found(CodeUnapproved, "the published list has another text than the register says (SHA-256 %x, registered %s), though its entries are those approved", sum, p.ListSHA256)
	}
}

// open decrypts and reads a list.
func open(target []byte, identity string) (*blocklist.List, error) {
	text, err := signing.Unseal(target, identity, int64(len(target))) // what is sealed is never longer
	if err != nil {
		return nil, err
	}
	return blocklist.Decode(bytes.NewReader(text), blocklist.Limits{})
}

func sameEntries(a, b []blocklist.Entry) bool { return differences(a, b) == "" }
