package blocklog

// batch finds equal decisions among those of one Append. It is a table of hashes
// with open addressing that is emptied by counting: a map would have to be cleared
// for each batch, and asked twice for each decision. Past mostSeen different
// decisions the others are not noted, and stay as they are.
type batch struct {
	number uint32 // of the batch; slots with another one are free
	noted  int
	slots  [4 * mostSeen]seen
}

const mostSeen = 64 // a batch of the transport

type seen struct {
	hash   uint64
	batch  uint32
	record int32 // its place among the records of the batch
}

// begin empties the table.
func (b *batch) begin() {
	b.noted = 0
	if b.number++; b.number == 0 { // after 2^32 batches those of long ago would seem new
		*b = batch{number: 1}
	}
}

// find gives the record that was noted under a hash; else the given one is noted.
func (b *batch) find(hash uint64, record int) (other int, found bool) {
	for i := hash; ; i++ {
		s := &b.slots[i%uint64(len(b.slots))]
		switch {
		case s.batch != b.number:
			if b.noted < mostSeen {
				*s = seen{hash, b.number, int32(record)}
				b.noted++
			}
			return 0, false
		case s.hash == hash:
			return int(s.record), true
		}
	}
}
