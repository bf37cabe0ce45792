package tier

import (
	"math/bits"
	"sync/atomic"
)

// A table is a hash table that any number of goroutines look things up in while
// one, who holds the shard's lock, changes it. It grows by being replaced.
//
// An entry lies in its home bucket, or in the first one after it that has room.
// A bucket counts the entries that passed it by, so that who looks for a key
// knows where to stop, and nothing is left behind by what goes (as in F14,
// Facebook 2019).
type table[K comparable, V any] struct {
	buckets []bucket[K, V]
}

const (
	slots   = 7
	maxLoad = 5 // entries a bucket, on average: with 6, who looks for what is not there often looks into a second one
)

// bucket is one line of memory.
type bucket[K comparable, V any] struct {
	// The bytes of meta are, from the lowest, the tag of each slot, 0 if there
	// is nothing in it, and how many entries passed by. A change is one store,
	// so a reader sees either the state before it or the one after. A slot is
	// filled before its tag is set, and emptied after that is gone.
	meta atomic.Uint64
	slot [slots]atomic.Pointer[Entry[K, V]]
}

const (
	bytes7   = 0x01010101010101
	passed   = 1 << 56 // one entry that passed by
	maxPass  = 255     // then it is counted no more, and never will be less
	passBits = 56
)

func newTable[K comparable, V any](buckets int) *table[K, V] {
	return &table[K, V]{make([]bucket[K, V], buckets)}
}

// home is the bucket where the search for a key begins.
func (t *table[K, V]) home(hash uint64) int {
	i, _ := bits.Mul64(hash, uint64(len(t.buckets)))
	return int(i)
}

func (t *table[K, V]) after(i int) int {
	if i++; i < len(t.buckets) {
		return i
	}
	return 0
}

func tag(hash uint64) uint64 { return hash&0x7f | 0x80 }

// matching marks the lowest byte of meta that is the tag of hash, and perhaps some
// above it that are not: the key decides.
func matching(meta, hash uint64) uint64 {
	x := meta ^ tag(hash)*bytes7 | 0xff<<passBits
	return (x - bytes7) & ^x & (bytes7 << 7)
}

// find returns the entry of key, or nil. It needs no lock: an entry that is
// there from the call to its return is found.
func (t *table[K, V]) find(hash uint64, key K) *Entry[K, V] {
	i := t.home(hash)
	for range len(t.buckets) {
		b := &t.buckets[i]
		meta := b.meta.Load()
		for match := matching(meta, hash); match != 0; match &= match - 1 {
			if e := b.slot[bits.TrailingZeros64(match)/8].Load(); e != nil && e.key == key {
				return e
			}
		}
		if meta < passed {
			break
		}
		i = t.after(i)
	}
	return nil
}

// insert puts e in, whose key is not there.
//
// REQUIRES: the shard's lock held, and room.
func (t *table[K, V]) insert(hash uint64, e *Entry[K, V]) {
	for i := t.home(hash); ; i = t.after(i) {
		b := &t.buckets[i]
		meta := b.meta.Load()
		if free := ^meta & (bytes7 << 7); free != 0 {
			at := bits.TrailingZeros64(free) / 8
			b.slot[at].Store(e)
			b.meta.Store(meta | tag(hash)<<(8*at))
			return
		}
		if meta>>passBits < maxPass {
			b.meta.Store(meta + passed)
		}
	}
}

// at returns the slot that e is in.
//
// REQUIRES: the shard's lock held, and e in the table.
func (t *table[K, V]) at(hash uint64, e *Entry[K, V]) (b *bucket[K, V], slot int) {
	for i := t.home(hash); ; i = t.after(i) {
		b := &t.buckets[i]
		for slot := range slots {
			if b.slot[slot].Load() == e {
				return b, slot
			}
		}
	}
}

// replace puts e where old is, which has the same key. Whoever looks finds one
// or the other.
//
// REQUIRES: the shard's lock held, and old in the table.
func (t *table[K, V]) replace(hash uint64, old, e *Entry[K, V]) {
	b, slot := t.at(hash, old)
	b.slot[slot].Store(e)
}

// remove takes e out.
//
// REQUIRES: the shard's lock held, and e in the table.
func (t *table[K, V]) remove(hash uint64, e *Entry[K, V]) {
	last, slot := t.at(hash, e)
	last.meta.Store(last.meta.Load() &^ (0xff << (8 * slot)))
	last.slot[slot].Store(nil)
	for i := t.home(hash); &t.buckets[i] != last; i = t.after(i) {
		b := &t.buckets[i]
		if meta := b.meta.Load(); meta>>passBits < maxPass {
			b.meta.Store(meta - passed)
		}
	}
}

// grown returns a table of so many buckets with all entries of t.
//
// REQUIRES: the shard's lock held.
func (t *table[K, V]) grown(buckets int, h *hasher[K]) *table[K, V] {
	g := newTable[K, V](buckets)
	t.each(func(e *Entry[K, V]) { g.insert(h.hash(e.key), e) })
	return g
}

// REQUIRES: the shard's lock held.
func (t *table[K, V]) each(f func(*Entry[K, V])) {
	for i := range t.buckets {
		for j := range slots {
			if e := t.buckets[i].slot[j].Load(); e != nil {
				f(e)
			}
		}
	}
}
