package authority

import (
	"crypto/ed25519"
	"errors"
	"iter"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cordon/audit/tlog"
	"cordon/blocklist"
)

// office is a register with its officers, on a clock that the test moves.
type office struct {
	*Register
	t    testing.TB
	now  time.Time
	keys map[string]ed25519.PrivateKey
	raw  [][]byte // the leaves as they would stand in the log
}

const testOrigin = "register.example/test"

func key(name string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	return ed25519.NewKeyFromSeed(seed)
}

// newOffice founds a register with alice, bruno and chloe, who hold the
// procedure's first role, and dora, whose habilitation ends in 2026.
func newOffice(t testing.TB, p *Procedure) *office {
	t.Helper()
	o := &office{Register: &Register{}, t: t, now: time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC), keys: map[string]ed25519.PrivateKey{}}
	founded := &Founded{Type: LeafFounded, At: o.now, Authority: "Office of the example", Origin: testOrigin, Procedure: p.text, ProcedureSHA256: p.SHA256()}
	for _, name := range []string{"alice", "bruno", "chloe", "dora"} {
		o.keys[name] = key(name)
		officer := Officer{Name: name, Role: p.Roles[0].ID, Key: PublicKey(key(name).Public().(ed25519.PublicKey)), From: Day{o.now.Truncate(24 * time.Hour)}}
		if name == "dora" {
			officer.Until = Day{time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC)}
		}
		founded.Officers = append(founded.Officers, officer)
	}
	o.must(o.add(founded))
	return o
}

func (o *office) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// add takes a leaf in, as the log would hold it.
func (o *office) add(l Leaf) error {
	data, err := MarshalLeaf(l)
	if err != nil {
		return err
	}
	parsed, err := ParseLeaf(data)
	if err != nil {
		return err
	}
	if err := o.Add(parsed); err != nil {
		return err
	}
	o.raw = append(o.raw, data)
	return nil
}

// proposal is a good proposal of alice's that a test may spoil before it is
// signed.
func (o *office) proposal(name string) *Proposed {
	return &Proposed{Type: LeafProposed, At: o.now, ID: o.NextID(o.now), Name: name, Scope: blocklist.ScopeHost,
		Category: "terrorism", LegalBasis: "LCEN 6-1; CP 421-2-5", Decision: "D-1", By: "alice"}
}

func (o *office) sign(l Leaf, by string) Leaf {
	o.t.Helper()
	k, ok := o.keys[by]
	if !ok {
		k = key(by)
	}
	o.must(SignStatement(testOrigin, l, k))
	return l
}

func (o *office) propose(name string) *Measure {
	o.t.Helper()
	o.must(o.add(o.sign(o.proposal(name), "alice")))
	return o.Measures[len(o.Measures)-1]
}

func (o *office) state(kind string, m *Measure, by string, spoil ...func(*Stated)) error {
	o.t.Helper()
	s := &Stated{Type: kind, At: o.now, ID: m.Proposed.ID, Proposal: m.Digest, By: by}
	if kind == LeafLifted {
		s.Ground = "gone"
	}
	for _, f := range spoil {
		f(s)
	}
	return o.add(o.sign(s, by))
}

func (o *office) list(name string) *Measure {
	o.t.Helper()
	m := o.propose(name)
	o.must(o.state(LeafApproved, m, "bruno"))
	o.must(o.state(LeafApproved, m, "chloe"))
	return m
}

// publication is the leaf of a list published now.
func (o *office) publication() *Published {
	listed := o.Listed(o.now)
	added, removed := o.Changes(listed)
	p := &Published{Type: LeafPublished, At: o.now, Serial: 1, Issued: o.now, ValidUntil: o.Procedure.List.Validity.After(o.now),
		ListSHA256: strings.Repeat("ab", 32), TargetSHA256: strings.Repeat("cd", 32), TargetBytes: 100, TargetsVersion: 2,
		Entries: len(listed), Added: added, Removed: removed}
	if last := o.LastPublication(); last != nil {
		p.Serial, p.TargetsVersion = last.Serial+1, last.TargetsVersion+1
	}
	return p
}

func (o *office) publish() *Publication {
	o.t.Helper()
	o.must(o.add(o.publication()))
	return o.LastPublication()
}

func (o *office) leaves() iter.Seq2[tlog.Leaf, error] {
	return func(yield func(tlog.Leaf, error) bool) {
		for i, data := range o.raw {
			if !yield(tlog.Leaf{Index: uint64(i), Data: data}, nil) {
				return
			}
		}
	}
}

// refused checks that an error is there and helps.
func refused(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("was accepted, want an error that says %q", want)
	}
	if !strings.Contains(err.Error(), want) {
		t.Fatalf("%v\ndoes not say %q", err, want)
	}
}

func TestAMeasureGoesFromProposalToWithdrawal(t *testing.T) {
	o := newOffice(t, example(t, "france"))
	is := func(m *Measure, want State) {
		t.Helper()
		if got := o.State(m, o.now); got != want {
			t.Fatalf("measure is %s, want %s", got, want)
		}
	}
	m := o.propose("propagande.example")
	is(m, StateProposed)
	o.must(o.state(LeafApproved, m, "bruno"))
	is(m, StateProposed)
	if len(o.Listed(o.now)) != 0 {
		t.Fatal("listed after one approval of two")
	}
	o.must(o.state(LeafApproved, m, "chloe"))
	is(m, StateApproved)
	first := o.publish()
	is(m, StateListed)
	if !slices.Equal(first.Added, []string{m.Proposed.ID}) || first.Entries != 1 {
		t.Fatalf("publication %+v", first.Published)
	}

	o.now = o.now.AddDate(0, 1, 0)
	o.must(o.state(LeafReviewed, m, "alice"))
	second := o.publish()
	o.now = o.now.Add(time.Hour)
	o.must(o.state(LeafLifted, m, "alice"))
	is(m, StateLifted)
	if !m.InList() {
		t.Fatal("a measure is in the list until one is published without it")
	}
	third := o.publish()
	if m.InList() || third.Entries != 0 || !slices.Equal(third.Removed, []string{m.Proposed.ID}) {
		t.Fatalf("publication %+v", third.Published)
	}

	// What each list held can be said afterwards, with the dates of its time.
	notified := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	want := blocklist.Entry{ID: "2026-0001", Name: "propagande.example", Scope: blocklist.ScopeHost, Category: "terrorism",
		LegalBasis: "LCEN 6-1; CP 421-2-5", Decision: "D-1", Notified: notified, InForce: notified, ReviewBy: date(2026, 5, 2)}
	if got := o.EntriesOf(first); !reflect.DeepEqual(got, []blocklist.Entry{want}) {
		t.Errorf("first list:\n got %+v\nwant %+v", got, want)
	}
	want.ReviewBy = date(2026, 6, 2)
	if got := o.EntriesOf(second); !reflect.DeepEqual(got, []blocklist.Entry{want}) {
		t.Errorf("second list:\n got %+v\nwant %+v", got, want)
	}
	if got := o.EntriesOf(third); len(got) != 0 {
		t.Errorf("third list: %+v", got)
	}

	again, err := Replay(o.leaves())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again.Measures, o.Measures) || !reflect.DeepEqual(again.Publications, o.Publications) || again.Size != o.Size {
		t.Error("the register replayed from its leaves is another")
	}
}

func date(y int, m time.Month, d int) blocklist.Date {
	return blocklist.Date{Time: time.Date(y, m, d, 0, 0, 0, 0, time.UTC)}
}

func TestTheRegisterRefusesAProposal(t *testing.T) {
	o := newOffice(t, example(t, "france"))
	o.propose("taken.example")
	for name, c := range map[string]struct {
		spoil func(*Proposed)
		want  string
	}{
		"by somebody unknown":              {func(p *Proposed) { p.By = "zoe" }, "write one of alice, bruno, chloe, dora"},
		"in an unknown category":           {func(p *Proposed) { p.Category = "gossip" }, "write one of terrorism, minors, drugs, torture"},
		"in a category that is not listed": {func(p *Proposed) { p.Category = "torture" }, "allows removal and delisting, not blocking"},
		"with another legal basis":         {func(p *Proposed) { p.LegalBasis = "CP 1" }, "is not that of category terrorism"},
		"of a name in upper case":          {func(p *Proposed) { p.Name = "Bad.example" }, `write "bad.example"`},
		"of a name with a dot at its end":  {func(p *Proposed) { p.Name = "bad.example." }, "leave the trailing dot away"},
		"of an address":                    {func(p *Proposed) { p.Name = "192.0.2.1" }, "never addresses"},
		"of a name that has a measure":     {func(p *Proposed) { p.Name = "taken.example" }, "has a measure already, 2026-0001"},
		"under an id that is taken":        {func(p *Proposed) { p.ID = "2026-0001" }, "is taken"},
		"under an id with a space":         {func(p *Proposed) { p.ID = "2026 1" }, "up to 64"},
		"without a decision":               {func(p *Proposed) { p.Decision = "" }, "give the reference of the decision"},
		"with a decision of two lines":     {func(p *Proposed) { p.Decision = "D\n1" }, "cannot be seen"},
		"with an end date":                 {func(p *Proposed) { p.Ends = Day{date(2027, 1, 1).Time} }, "knows no end date"},
		"with a request in the future": {func(p *Proposed) {
			p.Request = &Request{At: o.now.Add(time.Hour), To: "host"}
		}, "has not come yet"},
		"before the leaf that precedes it": {func(p *Proposed) { p.At = o.now.Add(-time.Second) }, "is this machine's clock right"},
		"at a fraction of a second":        {func(p *Proposed) { p.At = o.now.Add(time.Millisecond) }, "whole seconds"},
	} {
		t.Run(name, func(t *testing.T) {
			p := o.proposal("new.example")
			c.spoil(p)
			refused(t, o.add(o.sign(p, p.By)), c.want)
		})
	}
	t.Run("signed by another officer", func(t *testing.T) {
		refused(t, o.add(o.sign(o.proposal("new.example"), "bruno")), "signature does not fit")
	})
	t.Run("signed for another register", func(t *testing.T) {
		p := o.proposal("new.example")
		o.must(SignStatement("elsewhere.example", p, o.keys["alice"]))
		refused(t, o.add(p), "signature does not fit")
	})
	t.Run("after the habilitation", func(t *testing.T) {
		later := *o
		later.now = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
		p := later.proposal("new.example")
		p.By = "dora"
		refused(t, later.add(later.sign(p, "dora")), "habilitation of dora ended on 2026-12-31")
	})
	if len(o.Measures) != 1 {
		t.Errorf("a refused proposal left a measure: %d", len(o.Measures))
	}
}

func TestTheRegisterRefusesAStatement(t *testing.T) {
	o := newOffice(t, example(t, "france"))
	half := o.propose("half.example")
	o.must(o.state(LeafApproved, half, "bruno"))
	lifted := o.list("lifted.example")
	o.must(o.state(LeafLifted, lifted, "bruno"))
	other := o.list("other.example")

	for name, c := range map[string]struct {
		kind  string
		of    *Measure
		by    string
		spoil func(*Stated)
		want  string
	}{
		"approval of an unknown measure":    {LeafApproved, half, "chloe", func(s *Stated) { s.ID = "2026-0999" }, "there is no measure 2026-0999"},
		"approval by the proposer":          {LeafApproved, half, "alice", nil, "proposed measure 2026-0001 (half.example) and may not approve it"},
		"second approval by one officer":    {LeafApproved, half, "bruno", nil, "approved measure 2026-0001 (half.example) already"},
		"approval by somebody unknown":      {LeafApproved, half, "zoe", nil, "is no officer"},
		"approval of another proposal":      {LeafApproved, half, "chloe", func(s *Stated) { s.Proposal = other.Digest }, "about another proposal"},
		"approval of what was lifted":       {LeafApproved, lifted, "dora", nil, "was lifted on 2026-03-02"},
		"second lift":                       {LeafLifted, lifted, "dora", nil, "was lifted on 2026-03-02"},
		"lift without a ground":             {LeafLifted, half, "alice", func(s *Stated) { s.Ground = "" }, "write one of gone, lawful"},
		"lift on an unknown ground":         {LeafLifted, half, "alice", func(s *Stated) { s.Ground = "whim" }, `"whim" is no ground`},
		"re-check of what was not approved": {LeafReviewed, half, "alice", nil, "has 1 of 2 approvals"},
		"note of an unknown event":          {LeafNoted, half, "alice", func(s *Stated) { s.Event = "rain"; s.Happened = o.now }, "write one of removed, blocked"},
		"note of the future": {LeafNoted, half, "alice", func(s *Stated) {
			s.Event, s.Happened = "blocked", o.now.Add(time.Second)
		}, "has not come yet"},
		"approval with a ground": {LeafApproved, half, "chloe", func(s *Stated) { s.Ground = "gone" }, "field of another type"},
	} {
		t.Run(name, func(t *testing.T) {
			spoil := c.spoil
			if spoil == nil {
				spoil = func(*Stated) {}
			}
			refused(t, o.state(c.kind, c.of, c.by, spoil), c.want)
		})
	}
	t.Run("approval signed by the proposer for another", func(t *testing.T) {
		s := &Stated{Type: LeafApproved, At: o.now, ID: half.Proposed.ID, Proposal: half.Digest, By: "chloe"}
		refused(t, o.add(o.sign(s, "alice")), "signature does not fit")
	})
	if o.State(half, o.now) != StateProposed {
		t.Error("a refused statement changed the measure")
	}
}

func TestTheRegisterRefusesAPublication(t *testing.T) {
	o := newOffice(t, example(t, "france"))
	o.list("a.example")
	o.publish()
	o.now = o.now.Add(time.Hour)
	o.list("b.example")
	o.propose("unapproved.example")
	for name, c := range map[string]struct {
		spoil func(*Published)
		want  string
	}{
		"with an old serial":          {func(p *Published) { p.Serial = 1 }, "does not follow 1"},
		"with an old targets version": {func(p *Published) { p.TargetsVersion = 1 }, "is older than 2"},
		"that adds what is not approved": {func(p *Published) {
			p.Added, p.Entries = append(p.Added, "2026-0003"), 3
		}, "is not what was approved"},
		"that leaves out what is":          {func(p *Published) { p.Added, p.Entries = []string{}, 1 }, "is not what was approved"},
		"that removes what is in force":    {func(p *Published) { p.Removed, p.Entries = []string{"2026-0001"}, 1 }, "is not what was approved"},
		"that was issued after its time":   {func(p *Published) { p.Issued = p.At.Add(time.Second) }, "before it was issued"},
		"that was issued before the last":  {func(p *Published) { p.Issued = o.now.Add(-2 * time.Hour) }, "before list 1"},
		"that is good for too long":        {func(p *Published) { p.ValidUntil = p.ValidUntil.AddDate(1, 0, 0) }, "by the procedure it is"},
		"whose digest is none":             {func(p *Published) { p.ListSHA256 = "abc" }, "SHA-256"},
		"that holds nothing in its target": {func(p *Published) { p.TargetBytes = 0 }, "count from 1"},
	} {
		t.Run(name, func(t *testing.T) {
			p := o.publication()
			c.spoil(p)
			refused(t, o.add(p), c.want)
		})
	}
	o.publish()
}

func TestTheRegisterRefusesAFounding(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Founded)
		want  string
	}{
		"with another digest of the procedure":      {func(f *Founded) { f.ProcedureSHA256 = strings.Repeat("0", 64) }, "is not the digest"},
		"with too few officers beside the proposer": {func(f *Founded) { f.Officers = f.Officers[:2] }, "could give 1 at most: name more officers"},
		"with one officer twice":                    {func(f *Founded) { f.Officers = append(f.Officers, f.Officers[0]) }, "stands twice"},
		"with one key for two":                      {func(f *Founded) { f.Officers[1].Key = f.Officers[0].Key }, "have the same key"},
		"with an unknown role":                      {func(f *Founded) { f.Officers[0].Role = "king" }, "write one of agent"},
		"without a name":                            {func(f *Founded) { f.Authority = "" }, "authority is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			f := *newOffice(t, example(t, "france")).Founded
			f.Officers = slices.Clone(f.Officers)
			c.spoil(&f)
			refused(t, new(Register).Add(&f), c.want)
		})
	}
	t.Run("twice", func(t *testing.T) {
		o := newOffice(t, example(t, "france"))
		refused(t, o.Add(o.Founded), "founded already")
	})
	t.Run("that is missing", func(t *testing.T) {
		o := newOffice(t, example(t, "france"))
		refused(t, new(Register).Add(o.sign(o.proposal("a.example"), "alice")), "does not begin with its founding")
	})
}

func TestALeafHasOneSpelling(t *testing.T) {
	o := newOffice(t, example(t, "court"))
	p := o.proposal("judged.example")
	p.Category, p.LegalBasis, p.Ends = "copyright", "CPI L. 336-2 & <art>", Day{date(2027, 3, 10).Time}
	p.Signature = Signature{1, 2, 3}
	data, err := MarshalLeaf(p)
	o.must(err)
	want := `{"type":"proposed","at":"2026-03-02T10:00:00Z","id":"2026-0001","name":"judged.example","scope":"host","category":"copyright",` +
		`"legal_basis":"CPI L. 336-2 & <art>","decision":"D-1","ends":"2027-03-10","by":"alice","signature":"AQID"}`
	if string(data) != want {
		t.Errorf("got  %s\nwant %s", data, want)
	}
	if founded := string(o.raw[0]); !strings.Contains(founded, `"from":"2026-03-02","until":""}`) || !strings.Contains(founded, `"from":"2026-03-02","until":"2026-12-31"}`) {
		t.Errorf("days of officers in %s", founded[len(founded)-400:])
	}
}

func TestReplayFindsAForgedLeaf(t *testing.T) {
	o := newOffice(t, example(t, "france"))
	o.list("a.example")
	o.publish()
	for name, c := range map[string]struct {
		leaf     int
		old, new string
		want     string
	}{
		"a name changed under a proposal":    {1, `"a.example"`, `"b.example"`, "signature does not fit"},
		"a scope changed under a proposal":   {1, `"host"`, `"domain"`, "signature does not fit"},
		"an approval under another's name":   {2, `"bruno"`, `"dora"`, "signature does not fit"},
		"an approval at another time":        {3, `10:00:00Z`, `10:00:01Z`, "signature does not fit"},
		"a field that is not of the format":  {2, `"by"`, `"more":1,"by"`, "unknown field"},
		"a field in another spelling":        {2, `"by"`, `"By"`, "not written canonically"},
		"white space":                        {2, `,"by"`, `, "by"`, "not written canonically"},
		"a type that is not of the register": {2, `"approved"`, `"blessed"`, "unknown to this program"},
		"an approval made a lift":            {3, `"approved"`, `"lifted"`, "is no ground"},
	} {
		t.Run(name, func(t *testing.T) {
			forged := *o
			forged.raw = slices.Clone(o.raw)
			text := string(forged.raw[c.leaf])
			if !strings.Contains(text, c.old) {
				t.Fatalf("leaf %s holds no %s", text, c.old)
			}
			forged.raw[c.leaf] = []byte(strings.Replace(text, c.old, c.new, 1))
			r, err := Replay(forged.leaves())
			refused(t, err, c.want)
			var at *LeafError
			if !errors.As(err, &at) || at.Index != uint64(c.leaf) {
				t.Errorf("%v does not name leaf %d", err, c.leaf)
			}
			if r.Size != uint64(c.leaf) {
				t.Errorf("the register went on to leaf %d", r.Size)
			}
		})
	}
	t.Run("an approval left out", func(t *testing.T) {
		forged := *o
		forged.raw = slices.Delete(slices.Clone(o.raw), 3, 4)
		_, err := Replay(forged.leaves())
		refused(t, err, "is not what was approved")
	})
}

func TestCheckListFindsAListThatTheRegisterNamesButNobodyApproved(t *testing.T) {
	o := newOffice(t, example(t, "france"))
	o.list("a.example")
	pages := map[string]blocklist.StopPage{"terrorism": {Page: "https://stop.example/", IPv4: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}
	list, err := o.Assemble(1, o.now, pages)
	o.must(err)
	for name, c := range map[string]struct {
		spoil func(*blocklist.List)
		want  string
	}{
		"as approved":       {func(*blocklist.List) {}, ""},
		"another scope":     {func(l *blocklist.List) { l.Entries[0].Scope = blocklist.ScopeDomain }, "otherwise than it was approved"},
		"another name":      {func(l *blocklist.List) { l.Entries[0].Name = "b.example" }, "otherwise than it was approved"},
		"a later review":    {func(l *blocklist.List) { l.Entries[0].ReviewBy = date(2036, 1, 1) }, "otherwise than it was approved"},
		"an entry left out": {func(l *blocklist.List) { l.Entries = nil }, "it leaves out 2026-0001"},
		"another authority": {func(l *blocklist.List) { l.Authority = "Somebody" }, "its header"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Replay(o.leaves())
			o.must(err)
			spoiled := *list
			spoiled.Entries = slices.Clone(list.Entries)
			c.spoil(&spoiled)
			spoiled.Sort()
			p := o.publication()
			p.ListSHA256, err = digest(&spoiled)
			o.must(err)
			o.must(r.Add(p))
			if err := r.CheckList(&spoiled); c.want == "" {
				o.must(err)
			} else {
				refused(t, err, c.want)
			}
		})
	}
}

// A register of some years: each measure with two approvals, a list published
// after every tenth.
func BenchmarkReplay(b *testing.B) {
	o := newOffice(b, example(b, "france"))
	for i := range 1000 {
		m := o.list("site" + strconv.Itoa(i) + ".example")
		if i%2 == 0 {
			o.must(o.state(LeafLifted, m, "alice"))
		}
		if i%10 == 0 {
			o.now = o.now.Add(time.Hour)
			o.publish()
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Replay(o.leaves()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(o.raw)), "leaves")
}
