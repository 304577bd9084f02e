package rpz

import (
	"bytes"
	"iter"

	"github.com/miekg/dns"
)

// difference leads from one zone to the next (RFC 1995): what is taken away, then
// what is added. A name whose policy changes is in both.
type difference struct {
	zone           string
	from, to       uint32 // serials
	fromTTL, toTTL uint32
	removed, added nodes
}

// differ compares two zones of one name. It gives nil where the difference would
// take more than most bytes.
func differ(before, after *Zone, most int) *difference {
	d := &difference{zone: after.name, from: before.serial, to: after.serial, fromTTL: before.ttl, toTTL: after.ttl}
	old, now := before.nodes.cursor(), after.nodes.cursor()
	more, moreNow := old.next(), now.next()
	for more || moreNow {
		order := 0
		switch {
		case !moreNow:
			order = -1
		case !more:
			order = 1
		default:
			order = bytes.Compare(old.node.key, now.node.key)
		}
		var was, is node // the zero node where the name is not there
		if order <= 0 {
			was = old.node
		}
		if order >= 0 {
			is = now.node
		}
		var gone, come node
		if was.exact != is.exact {
			gone.exact, come.exact = was.exact, is.exact
		}
		if was.below != is.below {
			gone.below, come.below = was.below, is.below
		}
		d.removed.put(was.key, gone)
		d.added.put(is.key, come)
		if d.size() > most {
			return nil
		}
		if order <= 0 {
			more = old.next()
		}
		if order >= 0 {
			moreNow = now.next()
		}
	}
	d.removed.done()
	d.added.done()
	return d
}

func (d *difference) size() int { return len(d.removed.packed) + len(d.added.packed) }

// records is how many it takes in a transfer.
func (d *difference) records() int {
	apex := 2
	if d.fromTTL != d.toTTL {
		apex += 2
	}
	return apex + d.removed.records + d.added.records
}

// all gives the records of a difference sequence (RFC 1995 §4).
func (d *difference) all(yield func(dns.RR) bool) bool {
	for _, part := range []struct {
		serial, ttl uint32
		nodes       *nodes
	}{{d.from, d.fromTTL, &d.removed}, {d.to, d.toTTL, &d.added}} {
		if !yield(soa(d.zone, part.serial, part.ttl)) {
			return false
		}
		if d.fromTTL != d.toTTL && !yield(ns(d.zone, part.ttl)) {
			return false
		}
		for rr := range part.nodes.all(d.zone) {
			if !yield(rr) {
				return false
			}
		}
	}
	return true
}

// history is a zone and how it came from those before. Immutable.
type history struct {
	zone        *Zone
	differences []*difference // the last one leads to zone; without a gap
}

// Bounds of what is kept for incremental transfers; a peer that is further behind
// gets the whole zone.
const (
	maxDifferences     = 64
	maxDifferenceBytes = 16 << 20 // in all, and for one
)

// then is the history with one more zone.
func (h *history) then(z *Zone) *history {
	next := &history{zone: z}
	if h == nil || h.zone.name != z.name {
		return next
	}
	d := differ(h.zone, z, maxDifferenceBytes)
	if d == nil {
		return next
	}
	size := d.size()
	kept := h.differences[max(0, len(h.differences)-maxDifferences+1):]
	for i := len(kept) - 1; i >= 0; i-- {
		if size += kept[i].size(); size > maxDifferenceBytes {
			kept = kept[i+1:]
			break
		}
	}
	next.differences = append(append(next.differences, kept...), d)
	return next
}

// since gives the differences that lead from a serial to the zone; none where they
// are not at hand, or are longer than the zone.
func (h *history) since(serial uint32) []*difference {
	for i, d := range h.differences {
		if d.from != serial {
			continue
		}
		records := 0
		for _, d := range h.differences[i:] {
			records += d.records()
		}
		if records > h.zone.Records() {
			return nil
		}
		return h.differences[i:]
	}
	return nil
}

// incremental gives the records of an incremental transfer (RFC 1995 §4): the new
// SOA, the differences from the oldest to the newest, the new SOA.
func (h *history) incremental(since []*difference) iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		if !yield(h.zone.soa()) {
			return
		}
		for _, d := range since {
			if !d.all(yield) {
				return
			}
		}
		yield(h.zone.soa())
	}
}
