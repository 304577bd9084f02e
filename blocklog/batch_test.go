package blocklog

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestABatchIsTheNaiveModel asks for few hashes, whose places collide, over batches
// that include the one at which the count of batches starts anew.
func TestABatchIsTheNaiveModel(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	b := &batch{number: math.MaxUint32 - 50}
	for range 100 {
		b.begin()
		model := map[uint64]int{}
		for record := range 2 * mostSeen {
			hash := random.Uint64N(3*mostSeen) * uint64(1+random.IntN(2)*(len(b.slots)-1))
			other, found := b.find(hash, record)
			want, known := model[hash]
			if found != known || found && other != want {
				t.Fatalf("hash %d: record %d, %v; want %d, %v", hash, other, found, want, known)
			}
			if !known && len(model) < mostSeen {
				model[hash] = record
			}
		}
	}
}
