package rpz

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"cordon/blocklist"
)

// set is a zone as a naive secondary keeps it: a set of records.
type set map[string]bool

func setOf(z *Zone) set {
	all := set{}
	for rr := range z.All() {
		all[rr.String()] = true
	}
	return all
}

// apply takes in what an incremental transfer brings (RFC 1995 §4), and checks that
// it takes away what is there and adds what is not.
func (s set) apply(t *testing.T, transfer []dns.RR) {
	t.Helper()
	newest := transfer[0].(*dns.SOA)
	adding := true // so that the next SOA begins a difference
	for _, rr := range transfer[1:] {
		if soa, ok := rr.(*dns.SOA); ok {
			if adding && soa.Serial == newest.Serial {
				break // the last record
			}
			adding = !adding
		}
		if adding == s[rr.String()] {
			t.Fatalf("adding is %v, and it is there: %v: %v", adding, s[rr.String()], rr)
		}
		if adding {
			s[rr.String()] = true
		} else {
			delete(s, rr.String())
		}
	}
}

// TestDifferencesLeadFromAnyKeptZoneToTheNewest goes through random changes of random
// lists, and takes a secondary from each zone that is still known to the newest.
func TestDifferencesLeadFromAnyKeptZoneToTheNewest(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	taken := 0
	for range 40 {
		var h *history
		var before []*Zone
		list := randomList(t, r, "national", 80, 40)
		for serial := uint32(1); serial <= 8; serial++ {
			switch r.IntN(4) {
			case 0:
				list = randomList(t, r, "national", byte(80+r.IntN(2)), 1+r.IntN(40)) // another stop page, too
			default: // most of it stays
				other := *list
				next := *list.List
				keep := r.IntN(len(next.Entries))
				next.Entries = append(append(next.Entries[:0:0], next.Entries[:keep]...), next.Entries[keep+1:]...)
				next.Entries = append(next.Entries, entry(t, "domain "+randomName(r)+".fresh minors"))
				list = loaded(t, other.Name, list.List.Categories["minors"].IPv4[0].As4()[3], dedupe(next.Entries)...)
				list.List.AnswerTTL = next.AnswerTTL
			}
			if r.IntN(6) == 0 {
				list.List.AnswerTTL++
			}
			z := zone(t, serial, list)
			h = h.then(z)
			before = append(before, z)
		}
		for _, z := range before {
			since := h.since(z.serial)
			if since == nil {
				continue
			}
			taken++
			var transfer []dns.RR
			for rr := range h.incremental(since) {
				transfer = append(transfer, rr)
			}
			have := setOf(z)
			have.apply(t, transfer)
			if want := setOf(h.zone); !maps.Equal(have, want) {
				t.Fatalf("from serial %d: %d records, want %d", z.serial, len(have), len(want))
			}
		}
	}
	if taken < 50 {
		t.Errorf("only %d transfers were incremental: the test does not test", taken)
	}
}

// dedupe drops entries of the same name and scope, which no list has.
func dedupe(all []blocklist.Entry) []blocklist.Entry {
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(e blocklist.Entry) bool { was := seen[e.ID]; seen[e.ID] = true; return was })
}

// All records have the answers' TTL, those of the apex too.
func TestADifferenceChangesTheTimesOfTheApex(t *testing.T) {
	before, after := list(t, "host a.example minors"), list(t, "host a.example minors")
	after.List.AnswerTTL = 300
	old, now := zone(t, 1, before), zone(t, 2, after)
	var transfer []dns.RR
	for rr := range (&history{zone: now}).incremental([]*difference{differ(old, now, maxDifferenceBytes)}) {
		transfer = append(transfer, rr)
	}
	have := setOf(old)
	have.apply(t, transfer)
	if !maps.Equal(have, setOf(now)) {
		t.Errorf("have %v", have)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	var h *history
	lists := []*Loaded{list(t, "host a.example minors"), list(t, "host a.example minors", "host b.example minors")}
	for serial := range uint32(3 * maxDifferences) {
		h = h.then(zone(t, serial, lists[serial%2]))
	}
	if len(h.differences) != maxDifferences {
		t.Errorf("%d differences are kept", len(h.differences))
	}
	for i, d := range h.differences[1:] {
		if d.from != h.differences[i].to {
			t.Errorf("a gap between %d and %d", h.differences[i].to, d.from)
		}
	}
	if h.differences[len(h.differences)-1].to != h.zone.serial {
		t.Error("the last difference does not lead to the zone")
	}
}

func TestADifferenceThatIsTooLongIsNotKept(t *testing.T) {
	before, after := zone(t, 1, list(t, "host a.example minors")), zone(t, 2, list(t, "host b.example minors"))
	if d := differ(before, after, 10); d != nil {
		t.Errorf("%d bytes are kept of at most 10", d.size())
	}
}

func TestWhoIsFurtherBehindThanTheZoneIsLongGetsTheZone(t *testing.T) {
	var h *history
	h = h.then(zone(t, 1, list(t, "host a.example minors")))
	h = h.then(zone(t, 2, list(t, "host b.example minors")))
	if h.since(1) != nil {
		t.Error("a difference longer than the zone was given")
	}
	if h.since(99) != nil {
		t.Error("a difference from a serial that never was")
	}
}
