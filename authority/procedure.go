package authority

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"cordon/blocklist"
	"cordon/configs"
)

// ProcedureFormat is the first field of a procedure file.
const ProcedureFormat = "cordon-procedure/1"

// maxProcedure bounds a procedure file in bytes: its text is a part of the
// register's first leaf, and a leaf holds at most 65,535 bytes.
const maxProcedure = 40 << 10

// Procedure is the law as data: what may be listed, by whom, after how many
// approvals, within which delays, in which words. Nothing of this is in code.
type Procedure struct {
	Format      string            `yaml:"format"`
	Name        string            `yaml:"name"`      // how people call the procedure
	Country     string            `yaml:"country"`   // ISO 3166-1 alpha-2, or "EU"
	Languages   []string          `yaml:"languages"` // BCP 47; every text is given in each of them
	Title       Text              `yaml:"title"`
	Sources     []string          `yaml:"sources"` // the texts that it was written from
	Roles       []Role            `yaml:"roles"`   // the first is given to an officer named without one
	Approvals   Approvals         `yaml:"approvals"`
	Categories  []Category        `yaml:"categories"`
	Proposals   Proposals         `yaml:"proposals"`
	Events      []NotedEvent      `yaml:"events"` // what officers note beside the events that the register knows
	Clocks      []Clock           `yaml:"clocks"`
	LiftGrounds []LiftGround      `yaml:"lift_grounds"`
	List        ListRules         `yaml:"list"`
	Glossary    map[string]string `yaml:"glossary"` // the law's own words for those of the software; shown, not interpreted

	text string // the file as it was read
}

// Text is a text in the procedure's languages.
type Text map[string]string

// Role is an office, and which statements those who hold it may sign.
type Role struct {
	ID    string      `yaml:"id"`
	Title Text        `yaml:"title"`
	May   []Statement `yaml:"may"`
}

// Statement is a kind of statement that an officer signs.
type Statement string

// The statements of officers.
const (
	Propose Statement = "propose"
	Approve Statement = "approve"
	Review  Statement = "review"
	Lift    Statement = "lift"
	Note    Statement = "note"
)

// Approvals says how many people stand behind a measure.
type Approvals struct {
	Number             int  `yaml:"number"`               // distinct officers who have to approve
	ProposerMayApprove bool `yaml:"proposer_may_approve"` // whether the proposer may be one of them
}

// Category is a kind of content that may be listed.
type Category struct {
	ID         string   `yaml:"id"`
	Title      Text     `yaml:"title"`
	LegalBasis string   `yaml:"legal_basis"`
	Measures   []string `yaml:"measures"` // what the law allows against it; listing asks for "blocking"
	From       Day      `yaml:"from"`     // first day on which it may be proposed
	Until      Day      `yaml:"until"`    // last day; none if absent
}

// Blocking is the measure that a category must allow for a name to be listed.
const Blocking = "blocking"

// Proposals says what a proposal has to carry.
type Proposals struct {
	Scope   blocklist.Scope `yaml:"scope"`   // where the officer gives none
	Request Demand          `yaml:"request"` // the removal request to publisher or host
	EndDate Demand          `yaml:"end_date"`
}

// Demand says whether a part of a proposal has to be there.
type Demand string

// The demands.
const (
	Required  Demand = "required"
	Optional  Demand = "optional"
	Forbidden Demand = "forbidden"
)

// NotedEvent is something that happens outside of the register and that an
// officer notes in it.
type NotedEvent struct {
	ID    string `yaml:"id"`
	Title Text   `yaml:"title"`
}

// The events that the register knows by itself. Clocks start and stop on them
// or on a NotedEvent.
const (
	EventRequested = "requested" // the removal request was sent (told in the proposal)
	EventProposed  = "proposed"
	EventApproved  = "approved" // the last approval that was needed
	EventNotified  = "notified" // first publication with the measure: operators are told
	EventReviewed  = "reviewed" // last re-check that confirmed the measure
	EventLifted    = "lifted"
	EventWithdrawn = "withdrawn" // first publication without the measure: operators are told
	EventEnds      = "ends"      // end of the last day that the decision covers
)

var registerEvents = []string{EventRequested, EventProposed, EventApproved, EventNotified, EventReviewed, EventLifted, EventWithdrawn, EventEnds}

// Clock is a delay of the procedure.
type Clock struct {
	ID       string   `yaml:"id"`
	Title    Text     `yaml:"title"`
	From     []string `yaml:"from"`      // starts on the latest of these events that has happened
	Until    []string `yaml:"until"`     // is met by any of these events
	Lasts    Span     `yaml:"lasts"`     //
	OnExpiry Effect   `yaml:"on_expiry"` // what follows when it runs out unmet
}

// Effect is what follows when a clock runs out.
type Effect string

// The effects.
const (
	Shows   Effect = "shows"   // it is shown as overdue, no more
	Permits Effect = "permits" // the measure may be listed from then on; a clock that was met forbids it
	Holds   Effect = "holds"   // nothing is published until the clock is met or the measure is lifted
	Ends    Effect = "ends"    // the measure leaves the list
)

// LiftGround is a reason to end a measure.
type LiftGround struct {
	ID    string `yaml:"id"`
	Title Text   `yaml:"title"`
}

// ListRules are the parts of a list that come from the procedure.
type ListRules struct {
	AnswerTTL uint32 `yaml:"answer_ttl"` // seconds; TTL of forged answers
	Validity  Span   `yaml:"validity"`   // after this a list is overdue
	ReviewBy  string `yaml:"review_by"`  // the clock whose end is each entry's review date
}

// Day is a calendar day, "2006-01-02"; the zero Day is none.
type Day struct{ time.Time }

// UnmarshalText reads a day.
func (d *Day) UnmarshalText(text []byte) error {
	t, err := time.Parse(time.DateOnly, string(text))
	if err != nil {
		return fmt.Errorf("%q is not a day: write it as 2015-02-05", text)
	}
	d.Time = t
	return nil
}

// MarshalJSON writes a day as a string, the zero Day as an empty one. Without it
// the method of time.Time would.
func (d Day) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads what MarshalJSON writes.
func (d *Day) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil || s == "" {
		*d = Day{}
		return err
	}
	return d.UnmarshalText([]byte(s))
}

func (d Day) String() string {
	if d.IsZero() {
		return ""
	}
	return d.Format(time.DateOnly)
}

// Over tells whether the day has passed at t; the zero Day never does.
func (d Day) Over(t time.Time) bool {
	return !d.IsZero() && !t.Before(d.AddDate(0, 0, 1))
}

// ParseProcedure reads a procedure file; name is its path, for errors. Each
// problem is told with file and line, all of them at once.
func ParseProcedure(name string, data []byte) (*Procedure, error) {
	if len(data) > maxProcedure {
		return nil, fmt.Errorf("%s: a procedure file has at most %d bytes, this one has %d", name, maxProcedure, len(data))
	}
	p := &Procedure{text: string(data)}
	if err := configs.Parse(name, data, p); err != nil {
		return nil, err
	}
	v := &validator{name: name, p: p}
	v.procedure()
	if len(v.problems) > 0 {
		return nil, errors.Join(v.problems...)
	}
	return p, nil
}

// SHA256 is the digest of the procedure file, in hexadecimal.
func (p *Procedure) SHA256() string {
	sum := sha256.Sum256([]byte(p.text))
	return hex.EncodeToString(sum[:])
}

// Category finds a category.
func (p *Procedure) Category(id string) (*Category, bool) {
	return find(p.Categories, func(c *Category) bool { return c.ID == id })
}

// Role finds a role.
func (p *Procedure) Role(id string) (*Role, bool) {
	return find(p.Roles, func(r *Role) bool { return r.ID == id })
}

// Clock finds a clock.
func (p *Procedure) Clock(id string) (*Clock, bool) {
	return find(p.Clocks, func(c *Clock) bool { return c.ID == id })
}

// LiftGround finds a ground to lift a measure.
func (p *Procedure) LiftGround(id string) (*LiftGround, bool) {
	return find(p.LiftGrounds, func(g *LiftGround) bool { return g.ID == id })
}

// NotedEvent finds an event that officers note.
func (p *Procedure) NotedEvent(id string) (*NotedEvent, bool) {
	return find(p.Events, func(e *NotedEvent) bool { return e.ID == id })
}

// ids lists the identifiers of a part of the procedure, for errors that say
// what could have been written.
func ids[T any](list []T, id func(*T) string) []string {
	var all []string
	for i := range list {
		all = append(all, id(&list[i]))
	}
	return all
}

func find[T any](list []T, is func(*T) bool) (*T, bool) {
	for i := range list {
		if is(&list[i]) {
			return &list[i], true
		}
	}
	return nil, false
}

// validator collects what is wrong with a procedure beyond its types.
type validator struct {
	name     string
	p        *Procedure
	file     *ast.File // parsed when the first problem is to be placed
	problems []error
}

// bad reports a problem at a place given as a YAML path ("$.clocks[0].from"),
// or at its nearest parent where the place is absent.
func (v *validator) bad(path, format string, args ...any) {
	v.problems = append(v.problems, fmt.Errorf("%s:%d: %s: %s", v.name, v.line(path), path[len("$."):], fmt.Sprintf(format, args...)))
}

var lastStep = regexp.MustCompile(`(\.[^.\[]+|\[\d+\])$`)

func (v *validator) line(path string) int {
	if v.file == nil {
		var err error
		if v.file, err = parser.ParseBytes([]byte(v.p.text), 0); err != nil {
			return 1
		}
	}
	for path != "$" {
		if p, err := yaml.PathString(path); err == nil {
			if node, err := p.FilterFile(v.file); err == nil && node != nil {
				return firstLine(node)
			}
		}
		path = lastStep.ReplaceAllString(path, "")
	}
	return 1
}

// firstLine is where a node starts: a mapping's own token is the colon of its
// first pair.
func firstLine(node ast.Node) int {
	if m, ok := node.(*ast.MappingNode); ok && len(m.Values) > 0 {
		return m.Values[0].Key.GetToken().Position.Line
	}
	return node.GetToken().Position.Line
}

var identifier = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)

func (v *validator) procedure() {
	p := v.p
	if p.Format != ProcedureFormat {
		v.bad("$.format", "is %q, this program reads %q", p.Format, ProcedureFormat)
	}
	if p.Name == "" {
		v.bad("$.name", "is missing: say how the procedure is called")
	}
	if !regexp.MustCompile(`^[A-Z]{2}$`).MatchString(p.Country) {
		v.bad("$.country", "is %q: write two capital letters (ISO 3166-1), or EU", p.Country)
	}
	if len(p.Languages) == 0 {
		v.bad("$.languages", "is missing: name at least one language, as in [fr, en]")
	}
	v.text("$.title", p.Title)
	if p.Approvals.Number < 1 || p.Approvals.Number > 16 {
		v.bad("$.approvals.number", "is %d: between 1 and 16 officers have to approve a measure", p.Approvals.Number)
	}
	v.roles()
	v.categories()
	v.proposals()
	v.clocks()
	v.list()
}

func (v *validator) roles() {
	p := v.p
	v.identifiers("$.roles", ids(p.Roles, func(r *Role) string { return r.ID }))
	known := []Statement{Propose, Approve, Review, Lift, Note}
	for i, r := range p.Roles {
		at := fmt.Sprintf("$.roles[%d]", i)
		v.text(at+".title", r.Title)
		for _, s := range r.May {
			if !slices.Contains(known, s) {
				v.bad(at+".may", "%q is no statement: write some of %v", s, known)
			}
		}
	}
	for _, s := range []Statement{Propose, Approve, Lift} {
		if !slices.ContainsFunc(p.Roles, func(r Role) bool { return slices.Contains(r.May, s) }) {
			v.bad("$.roles", "no role may %s: nothing could ever be listed and lifted", s)
		}
	}
}

func (v *validator) categories() {
	v.identifiers("$.categories", ids(v.p.Categories, func(c *Category) string { return c.ID }))
	for i, c := range v.p.Categories {
		at := fmt.Sprintf("$.categories[%d]", i)
		v.text(at+".title", c.Title)
		if err := freeText("the text", c.LegalBasis); err != nil {
			v.bad(at+".legal_basis", "%v: name the articles", err)
		}
		if len(c.Measures) == 0 {
			v.bad(at+".measures", "is missing: name what the law allows, as in [removal, blocking]")
		}
		if c.From.IsZero() {
			v.bad(at+".from", "is missing: give the first day on which the category applies")
		}
		if !c.Until.IsZero() && c.Until.Before(c.From.Time) {
			v.bad(at+".until", "%s is before %s, the first day", c.Until, c.From)
		}
	}
}

func (v *validator) proposals() {
	p := v.p
	if p.Proposals.Scope == 0 {
		v.bad("$.proposals.scope", "is missing: write host (the name alone) or domain (everything below it too)")
	}
	for path, d := range map[string]Demand{"$.proposals.request": p.Proposals.Request, "$.proposals.end_date": p.Proposals.EndDate} {
		if d != Required && d != Optional && d != Forbidden {
			v.bad(path, "is %q: write required, optional or forbidden", d)
		}
	}
	if len(p.Events) > 0 {
		v.identifiers("$.events", ids(p.Events, func(e *NotedEvent) string { return e.ID }))
	}
	for i, e := range p.Events {
		at := fmt.Sprintf("$.events[%d]", i)
		v.text(at+".title", e.Title)
		if slices.Contains(registerEvents, e.ID) {
			v.bad(at+".id", "%q is an event that the register knows by itself: choose another name", e.ID)
		}
	}
	v.identifiers("$.lift_grounds", ids(p.LiftGrounds, func(g *LiftGround) string { return g.ID }))
	for i, g := range p.LiftGrounds {
		v.text(fmt.Sprintf("$.lift_grounds[%d].title", i), g.Title)
	}
}

func (v *validator) clocks() {
	p := v.p
	v.identifiers("$.clocks", ids(p.Clocks, func(c *Clock) string { return c.ID }))
	events := append(slices.Clone(registerEvents), ids(p.Events, func(e *NotedEvent) string { return e.ID })...)
	for i, c := range p.Clocks {
		at := fmt.Sprintf("$.clocks[%d]", i)
		v.text(at+".title", c.Title)
		if len(c.From) == 0 {
			v.bad(at+".from", "is missing: name the event that starts the clock, as in [notified]")
		}
		for key, list := range map[string][]string{"from": c.From, "until": c.Until} {
			for _, e := range list {
				if !slices.Contains(events, e) {
					v.bad(at+"."+key, "%q is no event: write some of %v, or add it to events", e, events)
				}
			}
		}
		v.effect(at, &c)
	}
}

// effect keeps clocks that decide what is listed from running backwards: once a
// measure has left the list by a clock, nothing that is noted later brings it
// back.
func (v *validator) effect(at string, c *Clock) {
	only := func(events ...string) {
		for _, e := range c.From {
			if !slices.Contains(events, e) {
				v.bad(at+".from", "a clock that %s may not start on %q: write some of %v", c.OnExpiry, e, events)
			}
		}
	}
	switch c.OnExpiry {
	case Shows, Holds:
	case Permits:
		only(EventRequested, EventProposed)
	case Ends:
		only(EventProposed, EventApproved, EventNotified, EventReviewed, EventEnds)
		if len(c.Until) > 0 {
			v.bad(at+".until", "a clock that ends a measure is met by nothing: leave it out")
		}
	default:
		v.bad(at+".on_expiry", "is %q: write shows, permits, holds or ends", c.OnExpiry)
	}
}

func (v *validator) list() {
	l := v.p.List
	if l.AnswerTTL < 1 || l.AnswerTTL > 86400 {
		v.bad("$.list.answer_ttl", "is %d: write between 1 and 86400 seconds", l.AnswerTTL)
	}
	if l.Validity == (Span{}) {
		v.bad("$.list.validity", "is missing: say for how long a list is good, as in \"7 days\"")
	}
	if c, ok := v.p.Clock(l.ReviewBy); !ok {
		v.bad("$.list.review_by", "%q is no clock: name the clock whose end is each entry's review date", l.ReviewBy)
	} else if !slices.Contains(c.From, EventNotified) {
		v.bad("$.list.review_by", "clock %s does not start on %q, so that a new entry would have no review date", c.ID, EventNotified)
	}
}

// text checks that a text is there in every language of the procedure, and in
// no other.
func (v *validator) text(path string, t Text) {
	for _, lang := range v.p.Languages {
		if t[lang] == "" {
			v.bad(path, "has no text in %q, one of the procedure's languages", lang)
		}
	}
	for lang := range t {
		if !slices.Contains(v.p.Languages, lang) {
			v.bad(path, "has a text in %q, which is none of the procedure's languages %v", lang, v.p.Languages)
		}
	}
}

func (v *validator) identifiers(path string, list []string) {
	if len(list) == 0 {
		v.bad(path, "is missing: at least one is needed")
	}
	for i, id := range list {
		at := fmt.Sprintf("%s[%d].id", path, i)
		if !identifier.MatchString(id) {
			v.bad(at, "%q is no identifier: write up to 32 small letters, digits, - and _, a letter first", id)
		}
		if slices.Contains(list[:i], id) {
			v.bad(at, "%q stands twice", id)
		}
	}
}
