package oversight

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cordon/audit"
	"cordon/audit/tlog"
	"cordon/authority"
	"cordon/blocklist"
)

// settleTime bounds what may pass between the swap of a list and its record: a
// resolver answers by a new list just before it records it, and finishes what
// was under way by the old one. Longer is a finding.
const settleTime = 5 * time.Minute

// audit verifies an audit log, against its raw records where they can be had,
// and against the register.
func (v *verification) audit(ctx context.Context, m *mirror, r *registerView) error {
	cp, report, times, err := v.log(ctx, m)
	if err != nil {
		return v.missing(m, err)
	}
	raw := v.records(m)
	defer func() { _ = raw.close() }() // nothing was written
	verified, err := audit.Verify(ctx, m.local(), cp, raw.source())
	if err != nil {
		return err
	}
	raw.settle(verified)
	v.takeOver(m.name, verified.Findings)
	v.found.unreported += verified.Unreported
	report.Audit = &AuditReport{Records: verified.Records, Decisions: verified.Decisions, Events: verified.Events,
		Next: verified.Next, Compared: verified.Compared, Removed: verified.Removed}
	if verified.Removed > 0 {
		v.notChecked("%s: of %d leaves the raw records are gone, since their retention has passed.", m.name, verified.Removed)
	}
	c := &crossCheck{v: v, log: m.name, register: r, times: times, lists: map[string]*inForce{}, elsewhere: map[string]uint64{}}
	if err := c.walk(ctx, m, cp); err != nil {
		return err
	}
	report.Audit.Lists = c.finish()
	return nil
}

// records opens what raw records can be had from; nil where nothing is named.
func (v *verification) records(m *mirror) *rawRecords {
	if m.blocklog == "" {
		v.notChecked("%s: no block log is at hand, so that the raw records are those that were sealed was not looked at.", m.name)
		return nil
	}
	good := v.desk.compared[m.name]
	if good == nil {
		good = map[uint64]bool{}
		v.desk.compared[m.name] = good
	}
	r := &rawRecords{good: good}
	if remote(m.blocklog) {
		r.from = audit.NewHTTPRecords(m.blocklog, m.client)
	} else {
		f := audit.NewFolderRecords(m.blocklog)
		r.from, r.done = f, f.Close
	}
	return r
}

// takeOver turns what package audit found into findings. Gaps are left to the
// cross-check, which knows their reasons.
func (v *verification) takeOver(name string, found []audit.Finding) {
	for _, a := range found {
		f := Finding{Severity: Alarm, Log: name, Leaf: at(a.Leaf), First: a.First, Last: a.Last, What: a.Detail}
		switch a.Kind {
		case audit.FindingDamaged:
			v.damaged(name, f.Leaf, "the official's own copy is damaged: %s", a.Detail)
			continue
		case audit.FindingGap:
			continue
		case audit.FindingLeaf:
			f.Code = CodeLeaf
		case audit.FindingHole:
			f.Code, f.What = CodeHole, "records of the resolver are missing: "+a.Detail
		case audit.FindingOverlap:
			f.Code, f.What = CodeOverlap, "records of the resolver are covered twice: "+a.Detail
		case audit.FindingDigest:
			f.Code = CodeRawDigest
		case audit.FindingTally:
			f.Code, f.What = CodeRawTally, "the leaf does not say what its records say: "+a.Detail
		case audit.FindingRecords:
			f.Severity, f.Code, f.What = Warning, CodeRawRecords, "the raw records cannot be had, though nothing says that their retention has passed: "+a.Detail
		default:
			f.Code = a.Kind
		}
		v.found.add(f)
	}
}

// crossCheck holds one audit log against the register, leaf by leaf.
type crossCheck struct {
	v         *verification
	log       string
	register  *registerView // nil: there is none
	times     *timeline
	lists     map[string]*inForce    // by name in the resolver's configuration
	elsewhere map[string]uint64      // decisions by lists of authorities whose register is not followed
	latest    time.Time              // of the leaves so far
	unmatched uint64                 // lists applied that are newer than the copy of the register
	alias     map[string]*aliasCount // by entry
}

// inForce is what is known of one list of the resolver.
type inForce struct {
	Applied
	since    time.Time // when the present serial was applied
	previous uint64    // serial before; 0: none
	highest  uint64
	ordered  *blocklist.Ordered // the rollback that holds, if any
	early    map[uint64]early   // decisions by serials that are not applied yet
}

// Applied is the data of the event list.applied, as the resolver writes it.
type Applied = blocklist.Applied

// early is the first decision by a list that was not applied yet.
type early struct {
	leaf        uint64
	first, last uint64
	at          time.Time
	entry       string
}

type aliasCount struct {
	entry, listed string
	count         uint64
	names         map[string]bool
}

func (c *crossCheck) find(leaf uint64, severity Severity, code string, first, last, serial uint64, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	c.v.found.grouped(strings.Join([]string{code, c.log, fmt.Sprint(serial), what}, "|"), leaf,
		Finding{Severity: severity, Code: code, Log: c.log, First: first, Last: last, Serial: serial, What: what})
}

func (c *crossCheck) walk(ctx context.Context, m *mirror, cp tlog.Checkpoint) error {
	for l, err := range m.local().Leaves(ctx, cp, 0) {
		if stop, err := c.v.walkError(m.name, err); stop {
			return err
		}
		leaf, err := audit.ParseLeaf(l.Data)
		if err != nil {
			continue // audit.Verify found it
		}
		switch {
		case leaf.Decisions != nil:
			c.latest = leaf.Decisions.To
			c.decisions(l.Index, leaf.Decisions)
		case leaf.Event != nil:
			c.latest = leaf.Event.At
			if err := c.event(l.Index, leaf.Event); err != nil {
				c.find(l.Index, Alarm, CodeLeaf, leaf.First, leaf.Last, 0, "the data of the event %s is not what a resolver writes: %v", leaf.Type, err)
			}
		case leaf.Gap != nil:
			severity := Warning
			if leaf.Gap.Reason == audit.GapRewritten {
				severity = Alarm
			}
			c.find(l.Index, severity, CodeGap, min(leaf.Gap.Expected, leaf.Gap.Resume), max(leaf.Gap.Expected, leaf.Gap.Resume)-1, 0,
				"on %s the auditor expected record %d and the block log went on with %d (%s): %s", minute(leaf.Gap.At), leaf.Gap.Expected, leaf.Gap.Resume, leaf.Gap.Reason, leaf.Gap.Detail)
		}
	}
	return nil
}

// event takes in an event of the resolver. The error says that its data is not
// of the form that a resolver writes.
func (c *crossCheck) event(index uint64, e *audit.Event) error {
	switch e.Type {
	case "list.applied":
		var a Applied
		if err := json.Unmarshal(e.Data, &a); err != nil {
			return err
		}
		c.applied(index, e, a)
	case "list.refused":
		var r blocklist.Refused
		if err := json.Unmarshal(e.Data, &r); err != nil {
			return err
		}
		c.find(index, Notice, CodeRefused, e.Seq, e.Seq, 0, "the resolver refused an update of list %s (reason %q); the list in force stayed", r.List, r.Reason)
	case "started":
		var s struct {
			Weaker []string        `json:"weaker"`
			Repair json.RawMessage `json:"repair"`
		}
		if err := json.Unmarshal(e.Data, &s); err != nil {
			return err
		}
		for _, w := range s.Weaker {
			c.find(index, Notice, CodeWeaker, e.Seq, e.Seq, 0, "the resolver was started with a setting that weakens a promise: %s", w)
		}
	case "stopped":
	case "gap":
		c.find(index, Warning, CodeGap, e.Seq, e.Seq, 0, "the resolver itself put a gap on record: %s", e.Data)
	case "guard.released", "override":
		var o blocklist.Ordered
		if err := json.Unmarshal(e.Data, &o); err != nil {
			return err
		}
		c.ordered(index, e, o)
	case "guard.held", "exemption", "list.dumped", "list.served":
		c.find(index, Notice, CodeIntervention, e.Seq, e.Seq, 0, "%s: %s", e.Type, e.Data)
	default:
		c.find(index, Notice, CodeUnknownRecord, e.Seq, e.Seq, 0, "an event of type %q, which this program does not know; it is sealed like any other", e.Type)
	}
	return nil
}

// ordered takes in what a person at the resolver ordered.
func (c *crossCheck) ordered(index uint64, e *audit.Event, o blocklist.Ordered) {
	c.find(index, Notice, CodeIntervention, e.Seq, e.Seq, 0, "%s (account %s) ordered %q on list %s, serial %d, giving this reason: %s",
		o.Name, o.Account, o.Action, o.List, o.Serial, o.Reason)
	if o.Action == blocklist.RollBack {
		c.list(o.List).ordered = &o
	}
}

// list is what is known of one of the resolver's lists.
func (c *crossCheck) list(name string) *inForce {
	l := c.lists[name]
	if l == nil {
		l = &inForce{early: map[uint64]early{}}
		c.lists[name] = l
	}
	return l
}

// applied checks that a list that a resolver put in force was published.
func (c *crossCheck) applied(index uint64, e *audit.Event, a Applied) {
	l := c.list(a.List)
	switch {
	case a.Serial > l.highest:
		l.ordered = nil // a newer list ends a rollback
	case a.Serial < l.highest && l.ordered != nil && l.ordered.To == a.Serial:
		c.find(index, Warning, CodeListBack, e.Seq, e.Seq, a.Serial, "the resolver went back from list %d to list %d of %s on %s, by the order of %s, which is on record",
			l.highest, a.Serial, a.List, minute(e.At), l.ordered.Name)
	case a.Serial < l.highest:
		c.find(index, Alarm, CodeListBack, e.Seq, e.Seq, a.Serial, "the resolver went back from list %d to list %d of %s on %s", l.highest, a.Serial, a.List, minute(e.At))
	}
	if l.Authority != "" && a.Authority != l.Authority {
		c.find(index, Warning, CodeListOther, e.Seq, e.Seq, a.Serial, "the list %s was of %s and is of %s since %s", a.List, l.Authority, a.Authority, minute(e.At))
	}
	if a.Serial != l.Serial {
		l.previous, l.since = l.Serial, e.At
	}
	l.Applied, l.highest = a, max(l.highest, a.Serial)
	delete(l.early, a.Serial)
	if !c.ours(a.Authority) {
		return
	}
	published := c.register.lists[a.Serial]
	switch {
	case published == nil && c.times.of(index).After(c.register.mirrored):
		c.unmatched++
	case published == nil:
		c.find(index, Alarm, CodeListUnknown, e.Seq, e.Seq, a.Serial, "the resolver put a list %d with %d entries in force on %s (SHA-256 %s), and the register says that no such list was published",
			a.Serial, a.Entries, minute(e.At), a.ListSHA256)
	case published.ListSHA256 != a.ListSHA256 || published.TargetSHA256 != a.TargetSHA256:
		c.find(index, Alarm, CodeListOther, e.Seq, e.Seq, a.Serial, "the resolver put another list in force than was published under serial %d: it has SHA-256 %s (target %s), published were %s (target %s)",
			a.Serial, a.ListSHA256, a.TargetSHA256, published.ListSHA256, published.TargetSHA256)
	}
}

// ours tells whether an authority's register is followed.
func (c *crossCheck) ours(authority string) bool {
	return c.register != nil && c.register.authority == authority
}

// decisions checks each line of a tally.
func (c *crossCheck) decisions(index uint64, d *audit.Decisions) {
	for _, line := range d.Tally {
		c.match(index, d, line.List, line.Serial, line.Entry, line.Count)
		c.name(line)
		for _, also := range line.Also {
			c.match(index, d, also.List, also.Serial, also.Entry, 0)
		}
	}
	for _, o := range d.Other {
		c.match(index, d, o.List, o.Serial, o.Entry, o.Count)
	}
}

// match checks that decisions by an entry were by a list in force that held it.
func (c *crossCheck) match(index uint64, d *audit.Decisions, list string, serial uint64, entry string, count uint64) {
	l := c.lists[list]
	if l == nil {
		l = &inForce{early: map[uint64]early{}}
		c.lists[list] = l
	}
	switch {
	case serial > l.highest || l.Serial == 0:
		if _, ok := l.early[serial]; !ok {
			l.early[serial] = early{leaf: index, first: d.FirstSeq, last: d.LastSeq, at: d.From, entry: entry}
		}
	case serial != l.Serial && serial != l.previous, serial != l.Serial && d.From.Sub(l.since) > settleTime:
		c.find(index, Warning, CodeListStale, d.FirstSeq, d.LastSeq, serial, "names were blocked by list %d of %s, which list %d had replaced on %s", serial, list, l.Serial, minute(l.since))
	}
	if l.Authority != "" && !c.ours(l.Authority) {
		c.elsewhere[l.Authority] += count
		return
	}
	if c.register == nil {
		return
	}
	published := c.register.lists[serial]
	if published == nil {
		return // said where the list was applied, or where it was not
	}
	if holds, known := c.register.holds(published, entry); known && !holds {
		c.find(index, Alarm, CodeEntry, d.FirstSeq, d.LastSeq, serial, "a name was blocked by an entry %s, which list %d does not hold", entry, serial)
	}
}

// name counts names that are blocked though they are not covered by the entry
// themselves: an alias (CNAME, DNAME) led to it.
func (c *crossCheck) name(line audit.Line) {
	l := c.lists[line.List]
	if l == nil || !c.ours(l.Authority) {
		return
	}
	m := c.register.measure(line.Entry)
	if m == nil || covers(m.Name, m.Scope, line.Name) {
		return
	}
	if c.alias == nil {
		c.alias = map[string]*aliasCount{}
	}
	a := c.alias[line.Entry]
	if a == nil {
		a = &aliasCount{entry: line.Entry, listed: m.Name, names: map[string]bool{}}
		c.alias[line.Entry] = a
	}
	a.count += line.Count
	if len(a.names) < maxFindings {
		a.names[line.Name] = true
	}
}

func covers(listed string, scope blocklist.Scope, name string) bool {
	return name == listed || scope == blocklist.ScopeDomain && strings.HasSuffix(name, "."+listed)
}

// finish says what is known at the end of the log.
func (c *crossCheck) finish() []InForce {
	if c.unmatched > 0 {
		c.v.notChecked("%s: %d lists were applied after the register was mirrored last; mirror it and verify again.", c.log, c.unmatched)
	}
	for _, authority := range slices.Sorted(maps.Keys(c.elsewhere)) {
		c.v.notChecked("%s: %d blocks by lists of %s, whose register is not followed here, were not held against decisions.", c.log, c.elsewhere[authority], authority)
	}
	for _, entry := range slices.Sorted(maps.Keys(c.alias)) {
		a := c.alias[entry]
		names := slices.Sorted(maps.Keys(a.names))
		some := strings.Join(names[:min(3, len(names))], ", ")
		c.v.found.add(Finding{Severity: Notice, Code: CodeAlias, Log: c.log,
			What: fmt.Sprintf("%d blocks by %s (%s) were of names that are not the listed one, and led to it as aliases: %d names, such as %s", a.count, a.entry, a.listed, len(names), some)})
	}
	lists := []InForce{}
	for _, name := range slices.Sorted(maps.Keys(c.lists)) {
		l := c.lists[name]
		c.tooEarly(name, l)
		if l.Serial > 0 {
			lists = append(lists, InForce{List: name, Authority: l.Authority, Serial: l.Serial, Since: l.since})
		}
	}
	return lists
}

// tooEarly finds decisions by lists that were never put on record as applied.
func (c *crossCheck) tooEarly(name string, l *inForce) {
	for _, serial := range slices.Sorted(maps.Keys(l.early)) {
		e := l.early[serial]
		if c.latest.Sub(e.at) <= settleTime {
			continue // the record may still come
		}
		severity := Alarm
		if c.register != nil && c.register.lists[serial] != nil {
			severity = Warning // a kill between the swap and the record would do it
		}
		c.v.found.add(Finding{Severity: severity, Code: CodeListMissing, Log: c.log, Leaf: at(e.leaf), First: e.first, Last: e.last, Serial: serial,
			What: fmt.Sprintf("names were blocked by a list %d of %q (entry %s) that the resolver never put on record as applied", serial, name, e.entry)})
	}
}

// measure gives the proposal behind an entry; nil where there is none.
func (v *registerView) measure(entry string) *authority.Proposed {
	m, err := v.good.Find(entry, time.Time{})
	if err != nil || m.Proposed.ID != entry {
		return nil
	}
	return m.Proposed
}
