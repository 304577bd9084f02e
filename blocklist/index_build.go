package blocklist

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
)

// NewIndex indexes the entries of a list. An entry's number is its position in
// entries. It fails for names that are not canonical and for two entries with
// the same name and scope; a list that Parse accepted has neither.
func NewIndex(entries []Entry) (*Index, error) {
	return newIndex(context.Background(), entries, func(int) bool { return true })
}

// newIndex is NewIndex until ctx ends, over those of the entries whose number
// enforced takes; it is asked once for each, in order. Their numbers stay.
func newIndex(ctx context.Context, entries []Entry, enforced func(number int) bool) (*Index, error) {
	if uint64(len(entries)) >= none {
		return nil, fmt.Errorf("index: %d entries are more than it can number", len(entries))
	}
	b := builder{entries: entries, x: &Index{seed: maphash.MakeSeed()}}
	b.x.buckets = make([]bucket, len(entries)/perBucket+2)
	if err := b.spread(ctx, enforced); err != nil {
		return nil, err
	}
	b.gather()
	return b.x, b.layOut(ctx)
}

// builder lays out an Index: it finds the bucket of each entry, sorts the entries by
// bucket, and writes the records down in that order.
type builder struct {
	entries []Entry
	x       *Index
	size    uint64 // bytes of the records at most

	where []uint32 // bucket of each entry; outside for one that is not enforced
	order []uint32 // numbers of the entries that are, by bucket
}

const outside = none

// spread finds the bucket of each entry, and counts in start how many each has.
func (b *builder) spread(ctx context.Context, enforced func(number int) bool) error {
	x := b.x
	b.where = make([]uint32, len(b.entries))
	var room [maxWireName]byte
	for i := range b.entries {
		if err := ended(ctx, i); err != nil {
			return err
		}
		e := &b.entries[i]
		if err := CheckName(e.Name); err != nil {
			return fmt.Errorf("index entry %d (%s): %w", i, e.ID, err)
		}
		if e.Scope != ScopeHost && e.Scope != ScopeDomain {
			return fmt.Errorf("index entry %d (%s): no such %v", i, e.ID, e.Scope)
		}
		if !enforced(i) {
			b.where[i] = outside
			continue
		}
		wire := appendWire(room[:0], e.Name)
		labels := countLabels(wire)
		x.depths[labels>>6] |= 1 << (labels & 63)
		number, mask := x.place(wire[:len(wire)-1])
		x.buckets[number].start++
		x.buckets[number].mask |= mask
		b.where[i] = uint32(number)
		b.size += uint64(recordHead + len(wire) - 1 + numberSize)
		x.length++
	}
	if b.size > math.MaxUint32 {
		return errors.New("index: the names are longer than 4 GiB in all")
	}
	return nil
}

// gather sorts the numbers of the entries by bucket, in order within each.
func (b *builder) gather() {
	x := b.x
	b.order = make([]uint32, x.length)
	next := uint32(0)
	for i := range x.buckets {
		n := x.buckets[i].start
		x.buckets[i].start = next
		next += n
	}
	for i, bucket := range b.where {
		if bucket != outside {
			b.order[x.buckets[bucket].start] = uint32(i)
			x.buckets[bucket].start++ // becomes where the next bucket begins
		}
	}
	b.where = nil
}

// layOut writes the records.
func (b *builder) layOut(ctx context.Context) error {
	x := b.x
	x.records = make([]byte, 0, b.size)
	from := uint32(0)
	for i := range x.buckets {
		if err := ended(ctx, i); err != nil {
			return err
		}
		to := x.buckets[i].start
		start := len(x.records)
		for _, number := range b.order[from:to] {
			if err := b.add(start, number); err != nil {
				return err
			}
		}
		x.buckets[i].start = uint32(start)
		from = to
	}
	return nil
}

// add writes an entry into the bucket whose records begin at start: with that of the
// same name and another scope, if there is one.
func (b *builder) add(start int, number uint32) error {
	x, e := b.x, &b.entries[number]
	flag := byte(hasHost)
	if e.Scope == ScopeDomain {
		flag = hasDomain
	}
	var room [maxWireName]byte
	wire := appendWire(room[:0], e.Name)
	name := wire[:len(wire)-1]
	for at := start; at < len(x.records); {
		end := at + recordHead + int(x.records[at])
		flags := x.records[at+1]
		if string(x.records[at+recordHead:end]) != string(name) {
			at = end + numberSize*bits.OnesCount8(flags)
			continue
		}
		there := unpackRecord(flags, x.records[end:])
		if flags&flag != 0 {
			first := there.host
			if flag == hasDomain {
				first = there.domain
			}
			return fmt.Errorf("index: entries %d and %d have the same name and scope %v", first, number, e.Scope)
		}
		both := record{there.host, number}
		if flag == hasHost {
			both = record{number, there.domain}
		}
		x.records[at+1] = hasHost | hasDomain
		numbers := binary.LittleEndian.AppendUint32(nil, both.host)
		numbers = binary.LittleEndian.AppendUint32(numbers, both.domain)
		x.records = slices.Replace(x.records, end, end+numberSize, numbers...)
		return nil
	}
	x.records = append(x.records, byte(len(name)), flag)
	x.records = append(x.records, name...)
	x.records = binary.LittleEndian.AppendUint32(x.records, number)
	return nil
}
