package blocklist

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"
)

// Index is what the query path reads: which entry covers a name. It is built
// beside the live one and never changed afterwards, so any number of goroutines
// may read it.
//
// A name is covered by what is listed at the name itself or at one of its endings in
// whole labels, so a look-up asks for each ending that could be listed, the longest
// first, until one is. What bounds it in a long list is memory that is not in the
// processor's cache. So there are two arrays: a small one of buckets, which says of
// most names that are not listed that they are not, and of the others where their
// bucket's records lie; and a large one of the records, in the order of the buckets. A
// name that is listed costs one place in each, one that is not most often one in the
// small one. Nothing in it is a pointer: the garbage collector has nothing to
// follow, however long the list. (A radix over reversed labels, which this was, has
// a place in memory for each level; docs/performance.md compares.)
type Index struct {
	seed    maphash.Seed // new for each index, so that nobody outside can aim at it
	buckets []bucket     // and one that ends the last
	records []byte       // see appendRecord
	depths  [2]uint64    // bit n is set where a name of n labels is listed
	length  int          // entries
}

// bucket is where the names lie whose hash falls there: perBucket on the average.
type bucket struct {
	start uint32 // in Index.records; the next one's is the end
	mask  uint32 // two bits for each of the names, by their hash
}

const perBucket = 2

// none stands for no entry.
const none = math.MaxUint32

// A record is a byte for the length of the name, a byte for what of these is there,
// the name in wire form without the root's label, and the number of the entry with
// scope host and of that with scope domain, little-endian.
const (
	hasHost = 1 << iota
	hasDomain

	recordHead = 2
	numberSize = 4
)

// record is a record, unpacked.
type record struct{ host, domain uint32 }

// Len is the number of entries.
func (x *Index) Len() int { return x.length }

// Lookup finds the most specific entry that covers name, which is in
// uncompressed wire form and lower case. An entry for the very name comes before
// one for a name above, and among the two for the very name the one with scope
// host before the one with scope domain. An entry's number is its position in
// what NewIndex was given. Lookup does not allocate. Bytes that are no name are
// covered by nothing.
func (x *Index) Lookup(name []byte) (entry uint32, ok bool) {
	labels := countLabels(name)
	for at := 0; labels > 0; labels-- {
		if x.depths[labels>>6]>>(labels&63)&1 != 0 {
			if r, found := x.find(name[at : len(name)-1]); found {
				if at == 0 && r.host != none {
					return r.host, true
				}
				if r.domain != none {
					return r.domain, true
				}
			}
		}
		at += int(name[at]) + 1
	}
	return 0, false
}

// Covering appends the numbers of all entries that cover name to entries, the
// most specific first: the first is the one that Lookup gives. It allocates only
// where entries has no room.
func (x *Index) Covering(entries []uint32, name []byte) []uint32 {
	labels := countLabels(name)
	for at := 0; labels > 0; labels-- {
		if x.depths[labels>>6]>>(labels&63)&1 != 0 {
			if r, found := x.find(name[at : len(name)-1]); found {
				if at == 0 && r.host != none {
					entries = append(entries, r.host)
				}
				if r.domain != none {
					entries = append(entries, r.domain)
				}
			}
		}
		at += int(name[at]) + 1
	}
	return entries
}

// countLabels counts the labels of a name in wire form, without the root's: 0 where
// it is not one, or the root itself, which nothing covers.
func countLabels(name []byte) (labels int) {
	if len(name) < 3 || len(name) > maxWireName {
		return 0
	}
	last := len(name) - 1
	at := 0
	for at < last {
		n := int(name[at])
		if n == 0 || n > maxLabel {
			return 0
		}
		labels++
		at += n + 1
	}
	if at != last || name[last] != 0 {
		return 0
	}
	return labels
}

// find looks for what is listed at a name, given without the root's label.
func (x *Index) find(name []byte) (record, bool) {
	number, mask := x.place(name)
	b := &x.buckets[number]
	if b.mask&mask != mask {
		return record{}, false
	}
	rest := x.records[b.start:x.buckets[number+1].start]
	for len(rest) > 0 {
		end := recordHead + int(rest[0])
		flags := rest[1]
		if string(rest[recordHead:end]) == string(name) {
			return unpackRecord(flags, rest[end:]), true
		}
		rest = rest[end+numberSize*bits.OnesCount8(flags):]
	}
	return record{}, false
}

// place says in which bucket a name is, and with which bits.
func (x *Index) place(name []byte) (number uint64, mask uint32) {
	h := maphash.Bytes(x.seed, name)
	// The high bits choose the bucket, as evenly as the hash is spread.
	number, _ = bits.Mul64(h, uint64(len(x.buckets)-1))
	return number, 1<<(h&31) | 1<<(h>>5&31)
}

func unpackRecord(flags byte, numbers []byte) record {
	r := record{none, none}
	if flags&hasHost != 0 {
		r.host, numbers = binary.LittleEndian.Uint32(numbers), numbers[numberSize:]
	}
	if flags&hasDomain != 0 {
		r.domain = binary.LittleEndian.Uint32(numbers)
	}
	return r
}
