package rpz

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"cordon/blocklist"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testZone = "x7q2.invalid."

// entry writes "domain propagande.example terrorism" as an entry.
func entry(t testing.TB, text string) blocklist.Entry {
	t.Helper()
	f := strings.Fields(text)
	scope, err := blocklist.ParseScope(f[0])
	if err != nil {
		t.Fatal(err)
	}
	return blocklist.Entry{ID: "id-" + f[0] + "-" + f[1], Name: f[1], Scope: scope, Category: f[2]}
}

// loaded is a list in force; number makes its stop pages differ from another list's.
func loaded(t testing.TB, name string, number byte, entries ...blocklist.Entry) *Loaded {
	t.Helper()
	l := &blocklist.List{
		Header: blocklist.Header{Authority: "Office", Serial: 1, AnswerTTL: 60, Categories: map[string]blocklist.StopPage{
			"terrorism": {IPv4: []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, number})}, IPv6: []netip.Addr{netip.MustParseAddr("2001:db8::80")}},
			"minors":    {IPv4: []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, number})}},
		}},
		Entries: entries,
	}
	l.Sort()
	x, err := blocklist.NewIndex(l.Entries)
	if err != nil {
		t.Fatal(err)
	}
	return &Loaded{Name: name, List: l, Index: x, AsOf: time.Unix(1_700_000_000, 0)}
}

func list(t testing.TB, texts ...string) *Loaded {
	t.Helper()
	var entries []blocklist.Entry
	for _, text := range texts {
		entries = append(entries, entry(t, text))
	}
	return loaded(t, "national", 80, entries...)
}

func zone(t testing.TB, serial uint32, lists ...*Loaded) *Zone {
	t.Helper()
	z, err := NewZone(testZone, lists)
	if err != nil {
		t.Fatal(err)
	}
	return z.WithSerial(serial)
}

// owners gives the zone's records, the apex's apart, as "owner type" in order.
func owners(z *Zone) (all []string) {
	for rr := range z.nodes.all(z.name) {
		all = append(all, strings.TrimSuffix(rr.Header().Name, "."+testZone)+" "+dns.TypeToString[rr.Header().Rrtype])
	}
	return all
}

func TestAnEntryIsItsNameAndForADomainTheWildcardBelow(t *testing.T) {
	got := owners(zone(t, 1, list(t, "domain propagande.example terrorism", "host images.example minors")))
	want := []string{
		"images.example A",
		"propagande.example A", "propagande.example AAAA", "*.propagande.example A", "*.propagande.example AAAA",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// A wildcard covers nothing below a name that exists (RFC 4592 §2.2.2): what exists
// below an entry of scope domain needs a wildcard of its own.
func TestADeeperEntryFreesNeitherItsSiblingsNorWhatIsBelowIt(t *testing.T) {
	got := owners(zone(t, 1, list(t, "domain example.org minors", "host a.b.example.org minors")))
	want := []string{
		"example.org A", "*.example.org A",
		"b.example.org A", "*.b.example.org A", // not listed, but now it exists
		"a.b.example.org A", "*.a.b.example.org A", // listed as a host; below it the domain goes on
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestTheZoneIsServedInCanonicalOrderWithoutACNAME(t *testing.T) {
	z := zone(t, 7, randomList(t, rand.New(rand.NewPCG(1, 1)), "national", 80, 60))
	var all []dns.RR
	for rr := range z.All() {
		all = append(all, rr)
	}
	if len(all) != z.Records()+2 {
		t.Errorf("%d records, and Records is %d", len(all), z.Records())
	}
	for i, rr := range all {
		switch rr := rr.(type) {
		case *dns.SOA:
			if (i != 0 && i != len(all)-1) || rr.Serial != 7 {
				t.Errorf("record %d is %v", i, rr)
			}
		case *dns.NS:
			if i != 1 {
				t.Errorf("record %d is %v", i, rr)
			}
		case *dns.A, *dns.AAAA:
			if rr.Header().Ttl != 60 || !dns.IsSubDomain(testZone, rr.Header().Name) {
				t.Errorf("record %v", rr)
			}
		default:
			t.Errorf("a policy zone of ours holds %v", rr)
		}
		if i > 1 && i < len(all)-1 && reversed(all[i].Header().Name) < reversed(all[i-1].Header().Name) {
			t.Errorf("%s comes after %s", all[i].Header().Name, all[i-1].Header().Name)
		}
	}
}

// reversed makes names comparable in canonical order (RFC 4034 §6.1).
func reversed(name string) string {
	labels := dns.SplitDomainName(name)
	slices.Reverse(labels)
	return strings.Join(labels, "\x00")
}

// randomList draws names from few labels, so that they often lie below each other.
func randomList(t testing.TB, r *rand.Rand, name string, number byte, size int) *Loaded {
	t.Helper()
	seen := map[string]bool{}
	var entries []blocklist.Entry
	for range size {
		e := entry(t, []string{"host", "domain"}[r.IntN(2)]+" "+randomName(r)+" "+[]string{"terrorism", "minors"}[r.IntN(2)])
		if !seen[e.ID] {
			seen[e.ID] = true
			entries = append(entries, e)
		}
	}
	return loaded(t, name, number, entries...)
}

func randomName(r *rand.Rand) string {
	labels := []string{"a", "b", "ab", "a-b", "_a"}
	name := []string{"org", "com"}[r.IntN(2)]
	for range 1 + r.IntN(4) {
		name = labels[r.IntN(len(labels))] + "." + name
	}
	return name
}

// records is a zone as a server keeps it, by owner.
type records map[string][]string

func recordsOf(z *Zone) records {
	all := records{}
	for rr := range z.nodes.all(z.name) {
		all.add(rr)
	}
	return all
}

func (r records) add(rr dns.RR) {
	owner := strings.TrimSuffix(rr.Header().Name, "."+testZone)
	r[owner] = append(r[owner], strings.TrimPrefix(rr.String(), rr.Header().Name))
}

// closest looks a name up as the DNS does: the wildcard of the closest encloser, and no
// other (RFC 4592 §3.3.1). BIND and Unbound find policies so.
func (r records) closest(name string) []string {
	if found := r[name]; found != nil {
		return found
	}
	exists := func(name string) bool {
		for owner := range r {
			if owner == name || strings.HasSuffix(owner, "."+name) {
				return true
			}
		}
		return false
	}
	for name != "" {
		_, name, _ = strings.Cut(name, ".")
		if exists(name) {
			return r["*."+name]
		}
	}
	return nil
}

// nearest looks a name up by all wildcards above it, the nearest first, as PowerDNS and
// Knot Resolver do.
func (r records) nearest(name string) []string {
	if found := r[name]; found != nil {
		return found
	}
	for name != "" {
		_, name, _ = strings.Cut(name, ".")
		if found := r["*."+name]; found != nil {
			return found
		}
	}
	return nil
}

// TestAZoneSaysOfEachNameWhatTheListsSay asks random zones of several lists for
// random names, by both ways in which servers look policies up.
func TestAZoneSaysOfEachNameWhatTheListsSay(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 3))
	blocked, free := 0, 0
	for range 300 {
		lists := []*Loaded{randomList(t, r, "national", 80, 1+r.IntN(12)), randomList(t, r, "other", 81, r.IntN(12))}
		all := recordsOf(zone(t, 1, lists...))
		for range 60 {
			name := randomName(r)
			var want []string
			for _, l := range lists {
				wire, err := blocklist.WireName(name)
				if err != nil {
					t.Fatal(err)
				}
				if n, ok := l.Index.Lookup(wire); ok {
					one := records{}
					policyOf(l.List.Categories[l.List.Entries[n].Category], l.List.AnswerTTL).each(name+"."+testZone, func(rr dns.RR) bool { one.add(rr); return true })
					want = one[name]
					break
				}
			}
			if want == nil {
				free++
			} else {
				blocked++
			}
			for way, got := range map[string][]string{"closest": all.closest(name), "nearest": all.nearest(name)} {
				if !slices.Equal(got, want) {
					t.Fatalf("%s by the %s wildcard: %q, and the lists say %q\nzone %q", name, way, got, want, all)
				}
			}
		}
	}
	if blocked < 1000 || free < 1000 {
		t.Errorf("%d blocked and %d free names: the test sees one side only", blocked, free)
	}
}

func TestWhatIsSetAsideIsNotGivenOnwards(t *testing.T) {
	l := list(t, "domain google.example terrorism", "host images.example minors")
	l.Aside = []blocklist.Aside{{Entry: 0}}
	if got := owners(zone(t, 1, l)); !slices.Equal(got, []string{"images.example A"}) {
		t.Errorf("got %q", got)
	}
}

func TestWhatAZoneCannotSayIsCountedAndNamed(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 61)+".", 4) // 248 octets
	z := zone(t, 1, list(t,
		"host "+long+"abc minors",                                 // with the zone's name, past 255
		"domain "+long[62:]+strings.Repeat("b", 52)+".org minors", // itself fits, its wildcard does not
		"domain 32.0.0.0.0.rpz-ip minors",                         // would block every address
		"host images.example minors"))
	left, all := z.LeftOut()
	if all != 3 || len(left) != 3 {
		t.Fatalf("left out: %d, %v", all, left)
	}
	for _, l := range left {
		if l.List != "national" || l.Entry == "" || l.Name == "" || l.Because == "" {
			t.Errorf("left out: %+v", l)
		}
	}
	for rr := range z.All() {
		if n := len(rr.Header().Name); n > 254 {
			t.Errorf("an owner of %d characters", n)
		}
		if strings.Contains(rr.Header().Name, "rpz-") {
			t.Errorf("a trigger: %v", rr)
		}
	}
	var text strings.Builder
	if _, err := z.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(text.String(), "; left out: list national"); n != 3 {
		t.Errorf("the file names %d of 3:\n%s", n, text.String())
	}
}

func TestTheFileReadsBackAsTheZone(t *testing.T) {
	z := zone(t, 42, randomList(t, rand.New(rand.NewPCG(4, 4)), "national", 80, 200))
	var text strings.Builder
	n, err := z.WriteTo(&text)
	if err != nil || n != int64(text.Len()) {
		t.Fatalf("%d of %d bytes: %v", n, text.Len(), err)
	}
	if first, _, _ := strings.Cut(text.String(), "\n"); !strings.Contains(first, "SOA\tlocalhost. nobody.invalid. 42 ") {
		t.Errorf("the first line is %q", first)
	}
	var want, got []string
	for rr := range z.All() {
		want = append(want, rr.String())
	}
	parser := dns.NewZoneParser(strings.NewReader(text.String()), ".", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		got = append(got, rr.String())
	}
	if parser.Err() != nil || !slices.Equal(got, want[:len(want)-1]) {
		t.Errorf("%d records of %d: %v", len(got), len(want)-1, parser.Err())
	}
}

func TestAZoneOfNoListIsNotMade(t *testing.T) {
	if _, err := NewZone(testZone, nil); err == nil {
		t.Error("a zone that unblocks everything was made")
	}
}

func TestZoneNamesThatNoServerTakesAreRefused(t *testing.T) {
	for _, bad := range []string{"", ".", "a..b", "a b.invalid", `a"b.invalid`, "*.invalid", `a\.b`, strings.Repeat("abcdefg.", 9)} {
		if got, err := CheckName(bad); err == nil {
			t.Errorf("%q became %q", bad, got)
		}
	}
	if got, err := CheckName("X7q2.Invalid"); err != nil || got != testZone {
		t.Errorf("%q, %v", got, err)
	}
}

// millionNames is a list as long as those that the design is for.
func millionNames(b *testing.B) *Loaded {
	entries := make([]blocklist.Entry, 1_000_000)
	for i := range entries {
		entries[i] = blocklist.Entry{ID: fmt.Sprint(i), Name: fmt.Sprintf("listed-%07d.example", i*7919%10_000_000), Scope: blocklist.ScopeDomain, Category: "minors"}
	}
	return loaded(b, "national", 80, entries...)
}

func BenchmarkZoneOfAMillionNames(b *testing.B) {
	l := millionNames(b)
	b.ReportAllocs()
	for b.Loop() {
		z, err := NewZone(testZone, []*Loaded{l})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(z.nodes.packed))/1e6, "bytes/name")
	}
}

func BenchmarkDifferenceOfAMillionNames(b *testing.B) {
	l := millionNames(b)
	z := zone(b, 1, l)
	l.Aside = []blocklist.Aside{{Entry: 500_000}}
	next := zone(b, 2, l)
	b.ReportAllocs()
	for b.Loop() {
		if d := differ(z, next, maxDifferenceBytes); d.records() != 4 {
			b.Fatalf("%d records", d.records())
		}
	}
}
