package authority

import (
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"cordon/audit/tlog"
	"cordon/blocklist"
)

// Register is the state that follows from a register's leaves. It is a value in
// memory: what changes it is a leaf, and only a leaf that the rules allow.
type Register struct {
	Founded      *Founded
	Procedure    *Procedure
	Measures     []*Measure     // in the order of their proposals
	Publications []*Publication // in the order of their serials
	Size         uint64         // number of leaves

	byID   map[string]*Measure
	byName map[string][]*Measure
	latest time.Time // of the last leaf
}

// Measure is one name and what was decided about it.
type Measure struct {
	Proposed  *Proposed
	Digest    string     // SHA-256 of the proposed leaf; each statement about the measure names it
	Approvals []Recorded // distinct officers
	Reviews   []Recorded
	Notes     []Recorded
	Lift      *Recorded // nil: not lifted

	proposedIndex  uint64
	approvedIndex  uint64    // of the last approval that was needed
	approvedAt     time.Time // zero: not enough approvals yet
	notifiedIndex  uint64
	notifiedAt     time.Time // issue of the first list with the measure; zero: none yet
	withdrawnIndex uint64
	withdrawnAt    time.Time // issue of the first list without it; zero: none yet
}

// Recorded is a statement and its place in the register.
type Recorded struct {
	Index uint64
	*Stated
}

// Publication is a list that was published and its place in the register.
type Publication struct {
	Index uint64
	*Published
}

// LeafError says which leaf of a register breaks which rule.
type LeafError struct {
	Index uint64
	Err   error
}

func (e *LeafError) Error() string { return fmt.Sprintf("register leaf %d: %v", e.Index, e.Err) }

// Unwrap gives the rule's own error.
func (e *LeafError) Unwrap() error { return e.Err }

// Replay builds the register from all its leaves, in order, from the first. It
// checks each against the rules: form, order of time, the officer's signature
// and habilitation, the procedure, and that a publication lists exactly what
// was in force. On the first leaf that breaks one it returns a *LeafError and
// the register as it was before that leaf.
//
// That the leaves are those of the log that a checkpoint commits to is for the
// caller to ensure: tlog.Reader.Leaves yields no others.
func Replay(leaves iter.Seq2[tlog.Leaf, error]) (*Register, error) {
	r := &Register{}
	for leaf, err := range leaves {
		if err != nil {
			return r, fmt.Errorf("read register: %w", err)
		}
		if leaf.Index != r.Size {
			return r, fmt.Errorf("read register: leaf %d came where leaf %d was expected", leaf.Index, r.Size)
		}
		l, err := ParseLeaf(leaf.Data)
		if err == nil {
			err = r.Add(l)
		}
		if err != nil {
			return r, &LeafError{Index: leaf.Index, Err: err}
		}
	}
	return r, nil
}

// Add checks a leaf and takes it in as the register's next. After an error the
// register is unchanged.
func (r *Register) Add(l Leaf) error {
	if err := r.Check(l); err != nil {
		return err
	}
	switch l := l.(type) {
	case *Founded:
		p, err := ParseProcedure("procedure", []byte(l.Procedure))
		if err != nil {
			return err
		}
		r.Founded, r.Procedure = l, p
		r.byID, r.byName = map[string]*Measure{}, map[string][]*Measure{}
	case *Proposed:
		digest, err := digestOf(l)
		if err != nil {
			return err
		}
		m := &Measure{Proposed: l, Digest: digest, proposedIndex: r.Size}
		r.Measures = append(r.Measures, m)
		r.byID[l.ID] = m
		r.byName[l.Name] = append(r.byName[l.Name], m)
	case *Stated:
		r.byID[l.ID].take(Recorded{Index: r.Size, Stated: l}, r.Procedure.Approvals.Number)
	case *Published:
		for _, id := range l.Added {
			if m := r.byID[id]; m.notifiedAt.IsZero() {
				m.notifiedAt, m.notifiedIndex = l.Issued, r.Size
			}
		}
		for _, id := range l.Removed {
			r.byID[id].withdrawnAt, r.byID[id].withdrawnIndex = l.Issued, r.Size
		}
		r.Publications = append(r.Publications, &Publication{Index: r.Size, Published: l})
	}
	r.latest = l.when()
	r.Size++
	return nil
}

func (m *Measure) take(s Recorded, needed int) {
	switch s.Type {
	case LeafApproved:
		m.Approvals = append(m.Approvals, s)
		if len(m.Approvals) == needed {
			m.approvedAt, m.approvedIndex = s.At, s.Index
		}
	case LeafReviewed:
		m.Reviews = append(m.Reviews, s)
	case LeafNoted:
		m.Notes = append(m.Notes, s)
	case LeafLifted:
		m.Lift = &s
	}
}

// Check tells whether a leaf could be the register's next; its error says what
// to do instead.
func (r *Register) Check(l Leaf) error {
	if err := wholeSeconds(l.when()); err != nil {
		return fmt.Errorf("at: %w", err)
	}
	founded, isFounded := l.(*Founded)
	switch {
	case isFounded && r.Size > 0:
		return errors.New("the register was founded already")
	case isFounded:
		return checkFounded(founded)
	case r.Size == 0:
		return errors.New("the register does not begin with its founding")
	case l.when().Before(r.latest):
		return fmt.Errorf("at: %s is before the register's last leaf (%s): is this machine's clock right?",
			l.when().Format(time.RFC3339), r.latest.Format(time.RFC3339))
	}
	switch l := l.(type) {
	case *Proposed:
		return r.checkProposed(l)
	case *Stated:
		return r.checkStated(l)
	case *Published:
		return r.checkPublished(l)
	}
	return fmt.Errorf("a %T is no leaf of a register", l)
}

// wholeSeconds: times in the register are UTC and whole seconds, so that there
// is one way to write each.
func wholeSeconds(t time.Time) error {
	if _, offset := t.Zone(); offset != 0 || t.Nanosecond() != 0 || t.Year() < 2000 || t.Year() > 9000 {
		return fmt.Errorf("%s is not a time in UTC and whole seconds", t.Format(time.RFC3339Nano))
	}
	return nil
}

func checkFounded(f *Founded) error {
	p, err := ParseProcedure("procedure", []byte(f.Procedure))
	if err != nil {
		return err
	}
	if p.SHA256() != f.ProcedureSHA256 {
		return fmt.Errorf("procedure_sha256: %s is not the digest of the procedure (%s)", f.ProcedureSHA256, p.SHA256())
	}
	if err := freeText("authority", f.Authority); err != nil {
		return err
	}
	if err := freeText("origin", f.Origin); err != nil {
		return err
	}
	for i, o := range f.Officers {
		if !officerName.MatchString(o.Name) {
			return fmt.Errorf("officer %q: a name is up to 32 small letters, digits, - and _, a letter first", o.Name)
		}
		for _, other := range f.Officers[:i] {
			if other.Name == o.Name {
				return fmt.Errorf("officer %q stands twice", o.Name)
			}
			if slices.Equal(other.Key, o.Key) {
				return fmt.Errorf("officers %q and %q have the same key: each signs with a key of their own", other.Name, o.Name)
			}
		}
		if _, ok := p.Role(o.Role); !ok {
			return fmt.Errorf("officer %q: %q is no role of the procedure: write one of %s", o.Name, o.Role,
				strings.Join(ids(p.Roles, func(r *Role) string { return r.ID }), ", "))
		}
	}
	return checkStaffed(p, f.Officers)
}

// checkStaffed makes sure that something can ever be listed: somebody proposes,
// and enough others (or enough in all) approve.
func checkStaffed(p *Procedure, officers []Officer) error {
	may := func(o Officer, what Statement) bool {
		role, _ := p.Role(o.Role)
		return slices.Contains(role.May, what)
	}
	most := 0
	for i, proposer := range officers {
		if !may(proposer, Propose) {
			continue
		}
		approvers := 0
		for j, o := range officers {
			if may(o, Approve) && (i != j || p.Approvals.ProposerMayApprove) {
				approvers++
			}
		}
		most = max(most, approvers)
	}
	if most < p.Approvals.Number {
		return fmt.Errorf("the procedure asks for %d approvals, and these officers could give %d at most: name more officers", p.Approvals.Number, most)
	}
	return nil
}

var officerName = identifier

// maxText bounds what people write into a leaf, in bytes; what goes into a list
// has to be text that the list's format allows.
const maxText = 256

func freeText(field, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%s is missing", field)
	case len(s) > maxText:
		return fmt.Errorf("%s has %d bytes: at most %d are kept", field, len(s), maxText)
	case strings.TrimSpace(s) != s:
		return fmt.Errorf("%s %q begins or ends with white space", field, s)
	case strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsGraphic(c) || c == unicode.ReplacementChar }):
		return fmt.Errorf("%s %q holds a character that cannot be seen, or broken UTF-8", field, s)
	}
	return nil
}

// officer finds who signs, and checks that they may make the statement then.
func (r *Register) officer(name string, what Statement, at time.Time) (*Officer, error) {
	o, ok := find(r.Founded.Officers, func(o *Officer) bool { return o.Name == name })
	if !ok {
		return nil, fmt.Errorf("%q is no officer of this register: write one of %s", name,
			strings.Join(ids(r.Founded.Officers, func(o *Officer) string { return o.Name }), ", "))
	}
	if at.Before(o.From.Time) {
		return nil, fmt.Errorf("the habilitation of %s begins on %s", name, o.From)
	}
	if o.Until.Over(at) {
		return nil, fmt.Errorf("the habilitation of %s ended on %s", name, o.Until)
	}
	role, _ := r.Procedure.Role(o.Role)
	if !slices.Contains(role.May, what) {
		return nil, fmt.Errorf("%s is %s, a role that may not %s", name, o.Role, what)
	}
	return o, nil
}

var measureID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (r *Register) checkProposed(l *Proposed) error {
	o, err := r.officer(l.By, Propose, l.At)
	if err != nil {
		return err
	}
	if !measureID.MatchString(l.ID) {
		return fmt.Errorf("id %q: an id is up to 64 letters, digits, dots, - and _", l.ID)
	}
	if r.byID[l.ID] != nil {
		return fmt.Errorf("id %s is taken", l.ID)
	}
	if err := blocklist.CheckName(l.Name); err != nil {
		return err
	}
	for _, m := range r.byName[l.Name] {
		if r.live(m, l.At) {
			return fmt.Errorf("%s has a measure already, %s (%s): lift it first to change it", l.Name, m.Proposed.ID, r.State(m, l.At))
		}
	}
	if err := r.checkCategory(l.Category, l.At); err != nil {
		return err
	}
	if c, _ := r.Procedure.Category(l.Category); l.LegalBasis != c.LegalBasis {
		return fmt.Errorf("legal_basis %q is not that of category %s (%q)", l.LegalBasis, l.Category, c.LegalBasis)
	}
	if err := freeText("decision", l.Decision); err != nil {
		return fmt.Errorf("%w: give the reference of the decision", err)
	}
	if err := r.checkDemands(l); err != nil {
		return err
	}
	return verifyStatement(r.Founded.Origin, l, o.Key, l.Signature)
}

func (r *Register) checkCategory(id string, at time.Time) error {
	c, ok := r.Procedure.Category(id)
	switch {
	case !ok:
		return fmt.Errorf("category %q is none of the procedure's: write one of %s", id,
			strings.Join(ids(r.Procedure.Categories, func(c *Category) string { return c.ID }), ", "))
	case !slices.Contains(c.Measures, Blocking):
		return fmt.Errorf("category %s allows %s, not %s", id, strings.Join(c.Measures, " and "), Blocking)
	case at.Before(c.From.Time):
		return fmt.Errorf("category %s begins on %s", id, c.From)
	case c.Until.Over(at):
		return fmt.Errorf("category %s ended on %s", id, c.Until)
	}
	return nil
}

func (r *Register) checkDemands(l *Proposed) error {
	switch demand := r.Procedure.Proposals.Request; {
	case l.Request == nil && demand == Required:
		return errors.New("the procedure asks for the removal request: say when it was sent, and to whom")
	case l.Request != nil && demand == Forbidden:
		return errors.New("the procedure knows no removal request: leave it out")
	case l.Request != nil:
		if err := errors.Join(wholeSeconds(l.Request.At), freeText("recipient of the removal request", l.Request.To)); err != nil {
			return fmt.Errorf("request: %w", err)
		}
		if l.Request.At.After(l.At) {
			return fmt.Errorf("request: %s has not come yet", l.Request.At.Format(time.RFC3339))
		}
	}
	switch demand := r.Procedure.Proposals.EndDate; {
	case l.Ends.IsZero() && demand == Required:
		return errors.New("the procedure asks for an end date: give the last day of the measure, as in 2027-06-30")
	case !l.Ends.IsZero() && demand == Forbidden:
		return errors.New("the procedure knows no end date: leave it out")
	case l.Ends.Over(l.At):
		return fmt.Errorf("the measure would have ended on %s already", l.Ends)
	}
	return nil
}

// statementOf says which right each leaf about a measure asks for.
var statementOf = map[string]Statement{LeafApproved: Approve, LeafReviewed: Review, LeafNoted: Note, LeafLifted: Lift}

func (r *Register) checkStated(l *Stated) error {
	m := r.byID[l.ID]
	if m == nil {
		return fmt.Errorf("there is no measure %s", l.ID)
	}
	o, err := r.officer(l.By, statementOf[l.Type], l.At)
	if err != nil {
		return err
	}
	if l.Proposal != m.Digest {
		return fmt.Errorf("the statement is about another proposal than that of measure %s", l.ID)
	}
	if m.Lift != nil && l.Type != LeafNoted {
		return fmt.Errorf("measure %s (%s) was lifted on %s: propose it anew", l.ID, m.Proposed.Name, m.Lift.At.Format(time.DateOnly))
	}
	if l.Type != LeafNoted && r.over(m, Ends, l.At) {
		return fmt.Errorf("measure %s (%s) has ended: propose it anew", l.ID, m.Proposed.Name)
	}
	if l.Type != LeafLifted && l.Ground != "" || l.Type != LeafNoted && (l.Event != "" || !l.Happened.IsZero()) {
		return fmt.Errorf("a leaf of type %q has a field of another type", l.Type)
	}
	switch l.Type {
	case LeafApproved:
		err = r.checkApproved(m, l)
	case LeafReviewed:
		if m.approvedAt.IsZero() {
			err = fmt.Errorf("measure %s has %d of %d approvals: what is not approved needs no re-check", l.ID, len(m.Approvals), r.Procedure.Approvals.Number)
		}
	case LeafNoted:
		err = r.checkNoted(l)
	case LeafLifted:
		if _, ok := r.Procedure.LiftGround(l.Ground); !ok {
			err = fmt.Errorf("%q is no ground to lift a measure: write one of %s", l.Ground,
				strings.Join(ids(r.Procedure.LiftGrounds, func(g *LiftGround) string { return g.ID }), ", "))
		}
	}
	if err != nil {
		return err
	}
	return verifyStatement(r.Founded.Origin, l, o.Key, l.Signature)
}

func (r *Register) checkApproved(m *Measure, l *Stated) error {
	if l.By == m.Proposed.By && !r.Procedure.Approvals.ProposerMayApprove {
		return fmt.Errorf("%s proposed measure %s (%s) and may not approve it: another officer has to", l.By, l.ID, m.Proposed.Name)
	}
	if slices.ContainsFunc(m.Approvals, func(a Recorded) bool { return a.By == l.By }) {
		return fmt.Errorf("%s approved measure %s (%s) already: another officer has to", l.By, l.ID, m.Proposed.Name)
	}
	return r.checkCategory(m.Proposed.Category, l.At)
}

func (r *Register) checkNoted(l *Stated) error {
	if _, ok := r.Procedure.NotedEvent(l.Event); !ok {
		return fmt.Errorf("%q is no event that is noted: write one of %s", l.Event,
			strings.Join(ids(r.Procedure.Events, func(e *NotedEvent) string { return e.ID }), ", "))
	}
	if err := wholeSeconds(l.Happened); err != nil {
		return fmt.Errorf("happened: %w", err)
	}
	if l.Happened.After(l.At) {
		return fmt.Errorf("happened: %s has not come yet", l.Happened.Format(time.RFC3339))
	}
	return nil
}

var hexSHA256 = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (r *Register) checkPublished(l *Published) error {
	last := r.LastPublication()
	switch {
	case last != nil && l.Serial <= last.Serial:
		return fmt.Errorf("serial %d does not follow %d", l.Serial, last.Serial)
	case last != nil && l.TargetsVersion < last.TargetsVersion:
		return fmt.Errorf("targets version %d is older than %d", l.TargetsVersion, last.TargetsVersion)
	case last != nil && l.Issued.Before(last.Issued):
		return fmt.Errorf("the list was issued at %s, before list %d", l.Issued.Format(time.RFC3339), last.Serial)
	case l.Serial == 0 || l.TargetsVersion <= 0 || l.TargetBytes <= 0:
		return errors.New("serial, targets version and length of the target count from 1")
	case l.Issued.After(l.At):
		return errors.New("the list was published before it was issued")
	case !hexSHA256.MatchString(l.ListSHA256) || !hexSHA256.MatchString(l.TargetSHA256):
		return errors.New("a digest is not a SHA-256 in hexadecimal")
	}
	if err := wholeSeconds(l.Issued); err != nil {
		return fmt.Errorf("issued: %w", err)
	}
	if want := r.Procedure.List.Validity.After(l.Issued); !l.ValidUntil.Equal(want) {
		return fmt.Errorf("valid until %s; by the procedure it is %s", l.ValidUntil.Format(time.RFC3339), want.Format(time.RFC3339))
	}
	if err := r.Ready(l.At); err != nil {
		return err
	}
	listed := r.Listed(l.Issued)
	if !slices.Equal(listed, r.Listed(l.At)) {
		return errors.New("a clock ran out between issue and publication and changes what is listed: the list has to be made anew")
	}
	added, removed := r.Changes(listed)
	if l.Entries != len(listed) || !slices.Equal(l.Added, added) || !slices.Equal(l.Removed, removed) {
		return fmt.Errorf("list %d is not what was approved: it has %d entries, adds %v and removes %v; the register has %d, adds %v and removes %v",
			l.Serial, l.Entries, l.Added, l.Removed, len(listed), added, removed)
	}
	return nil
}
