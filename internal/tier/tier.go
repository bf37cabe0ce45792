// Package tier is the bounded map that a cache keeps in its process: hits take
// no lock, and a policy says what is evicted. It knows no time and no coherence:
// who inserts decides whether an entry may be there, who reads whether it is
// still good.
//
// A tier is made of shards. Each has a hash table that readers look things up in
// while it changes (table.go), and the policy's state (adaptive.go), which only
// inserts and removals touch, under the shard's lock.
package tier

import (
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"
)

// An Entry is what a key maps to. What callers may see of it never changes once
// it is in a tier. What a hit looks at comes first.
type Entry[K comparable, V any] struct {
	key      K
	Value    V
	Deadline int64 // by the caller's clock; math.MaxInt64: none

	visited  atomic.Uint32 // hits since the policy last looked at it, at most visitMax; racing hits may lose one
	Missing  bool          // the key is known not to be there; Value is zero
	NoSource bool          // Missing, and a loader said that there is nothing to load

	// Guarded by the shard's lock: what the policy knows.
	freq          uint8 // at stamp
	mark          mark
	Born          int64 // when Redis was asked for it, or told, on the clock of Deadline
	prev, next    *Entry[K, V]
	weight        uint32 // bytes that it counts for
	stamp, duelAt uint16
}

// Key returns the entry's key.
func (e *Entry[K, V]) Key() K { return e.key }

// Next returns the next of a list of entries that left.
func (e *Entry[K, V]) Next() *Entry[K, V] { return e.next }

// Bounds of a tier.
type Bounds struct {
	Entries int   // at least 1
	Bytes   int64 // the sum of the entries' weights; 0: not bounded, and not counted
}

// EntryBytes is what an entry weighs beside its key's and its value's bytes: about
// what it takes with a key and a value of 16 bytes, with its part of the table and
// the policy's ghosts.
const EntryBytes = 128

// weight returns what an entry counts for whose value has size bytes, 0 where
// nothing is counted, and whether it may be stored: one that weighs more than a
// tenth of the bound would evict too many others.
func (t *Tier[K, V]) weight(key K, size int) (weight uint32, fits bool) {
	if t.bounds.Bytes == 0 {
		return 0, true
	}
	n := EntryBytes + int64(size)
	if t.hash.kind == stringKey {
		n += int64(len(text(&key)))
	} else {
		n += int64(unsafe.Sizeof(key))
	}
	return uint32(min(n, math.MaxUint32)), n <= min(t.bounds.Bytes/10, math.MaxUint32)
}

const (
	maxShards      = 16
	minShardSlots  = 256
	maxByteShards  = 4 // so that what weighs a tenth of the bound has room in each
	minShardBytes  = 1 << 20
	minBuckets     = 2
	resizeFraction = 8 // a shard that is full by bytes tells the policy of a change by 1/8
)

// Tier holds no more than its bounds at any time. Safe for concurrent use.
type Tier[K comparable, V any] struct {
	tables [maxShards]atomic.Pointer[table[K, V]] // one for each shard; hits read it, inserts seldom write it
	hash   hasher[K]
	mask   uint64 // of a shard's number
	policy Policy
	bounds Bounds
	shards []shard[K, V]
}

type shard[K comparable, V any] struct {
	table    *atomic.Pointer[table[K, V]] // in Tier.tables
	mu       sync.Mutex                   // guards all below, and every change of the table
	entries  int                          // the shard's part of the bounds
	maxBytes int64
	bytes    int64
	adaptive adaptive[K, V] // other policies use its main queue alone
	evicted  uint64
	_        [64]byte // shards are locked by different cores
}

// New returns an empty tier. Memory is taken as entries come.
func New[K comparable, V any](b Bounds, p Policy) *Tier[K, V] {
	n := maxShards
	if b.Bytes > 0 {
		n = maxByteShards
	}
	for n > 1 && (b.Entries/n < minShardSlots || b.Bytes > 0 && b.Bytes/int64(n) < minShardBytes) {
		n /= 2
	}
	t := &Tier[K, V]{hash: newHasher[K](), mask: uint64(n - 1), policy: p, bounds: b, shards: make([]shard[K, V], n)}
	for i := range t.shards {
		s := &t.shards[i]
		s.entries = (b.Entries + i) / n
		s.maxBytes = (b.Bytes + int64(i)) / int64(n)
		s.adaptive.init(s.entries, &t.hash)
		s.table = &t.tables[i]
		s.table.Store(newTable[K, V](minBuckets))
	}
	return t
}

// shardBits are bits of the hash that choose neither a bucket nor a tag.
const shardBits = 20

func (t *Tier[K, V]) table(hash uint64) *table[K, V] {
	return t.tables[hash>>shardBits&t.mask%maxShards].Load()
}

func (t *Tier[K, V]) shard(hash uint64) *shard[K, V] {
	return &t.shards[hash>>shardBits&t.mask]
}

// Load returns the entry of key, or nil, and counts the access for eviction.
// Only with LRU does it lock anything.
func (t *Tier[K, V]) Load(key K) *Entry[K, V] {
	// Most keys are strings of 8 to 16 bytes, and in their home bucket: this is
	// load for those, without a call.
	if t.hash.kind == stringKey && isShort(text(&key)) {
		hash := t.hash.short(text(&key))
		tb := t.table(hash)
		b := &tb.buckets[tb.home(hash)]
		if match := matching(b.meta.Load(), hash); match != 0 {
			if e := b.slot[bits.TrailingZeros64(match)/8].Load(); e != nil && sameShort(text(&key), text(&e.key)) {
				if t.policy == Adaptive {
					e.hit()
				} else {
					t.renew(hash, e)
				}
				return e
			}
		}
	}
	return t.load(key)
}

func (t *Tier[K, V]) load(key K) *Entry[K, V] {
	hash := t.hash.hash(key)
	e := t.table(hash).find(hash, key)
	switch {
	case e == nil:
	case t.policy == Adaptive:
		e.hit()
	default:
		t.renew(hash, e)
	}
	return e
}

// Peek is Load that counts no access.
func (t *Tier[K, V]) Peek(key K) *Entry[K, V] {
	hash := t.hash.hash(key)
	return t.table(hash).find(hash, key)
}

// renew makes e the youngest of its shard, where that matters, if it is there.
func (t *Tier[K, V]) renew(hash uint64, e *Entry[K, V]) {
	if t.policy != LRU {
		return
	}
	s := t.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table.Load().find(hash, e.key) == e {
		s.adaptive.main.rotate(e)
	}
}

// Store puts e in as the entry of key, in place of any other, which it returns.
// The others that it returns, as a list, left to make room. size is that of e's
// value, for the bound in bytes; where it is more than a tenth of that, e is not
// stored. now is the time by the clock of the deadlines: what has expired leaves
// first, where it is met.
func (t *Tier[K, V]) Store(key K, e *Entry[K, V], size int, now int64) (old, evicted *Entry[K, V]) {
	weight, fits := t.weight(key, size)
	if !fits {
		return t.Delete(key), nil
	}
	e.key, e.weight = key, weight
	hash := t.hash.hash(key)
	s := t.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()

	tb := s.table.Load()
	old = tb.find(hash, key)
	linked := old != nil
	if !linked {
		s.arrive(t.policy, hash, e)
	}
	for s.needsRoom(linked, old, e) {
		gone := s.evict(t.policy, now)
		if gone == old {
			linked = false // and stays in the table, where e takes its place
			s.arrive(t.policy, hash, e)
			continue
		}
		tb.remove(t.hash.hash(gone.key), gone)
		gone.next, evicted = evicted, gone
		s.evicted++
	}
	switch {
	case old == nil:
		tb = s.grow(tb, &t.hash)
		tb.insert(hash, e)
	default:
		tb.replace(hash, old, e)
	}
	if linked {
		s.replace(t.policy, old, e)
	} else {
		s.add(t.policy, e)
	}
	return old, evicted
}

// Delete takes the entry of key out and returns it, or nil if there is none.
func (t *Tier[K, V]) Delete(key K) *Entry[K, V] {
	hash := t.hash.hash(key)
	s := t.shard(hash)
	if s.table.Load().find(hash, key) == nil {
		return nil // most invalidations are for keys that are not held here
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	tb := s.table.Load()
	e := tb.find(hash, key)
	if e == nil {
		return nil
	}
	tb.remove(hash, e)
	s.bytes -= int64(e.weight)
	if t.policy == Adaptive {
		s.adaptive.delete(e)
	} else {
		s.adaptive.main.remove(e)
	}
	return e
}

// Take takes all entries out, in a time that does not depend on their number,
// and returns them. It takes them shard by shard: what is stored meanwhile is
// taken or stays.
func (t *Tier[K, V]) Take() *Taken[K, V] {
	taken := &Taken[K, V]{tier: t, tables: make([]*table[K, V], len(t.shards))}
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		taken.tables[i] = s.table.Swap(newTable[K, V](minBuckets))
		s.adaptive.empty()
		s.bytes = 0
		s.mu.Unlock()
	}
	return taken
}

// Taken is what was in a tier. Safe for concurrent use.
type Taken[K comparable, V any] struct {
	tier   *Tier[K, V]
	mu     sync.Mutex // guards every change of tables
	tables []*table[K, V]
}

// Load returns the entry of key, or nil.
func (t *Taken[K, V]) Load(key K) *Entry[K, V] {
	hash := t.tier.hash.hash(key)
	return t.tables[hash>>shardBits&t.tier.mask].find(hash, key)
}

// Delete takes the entry of key out.
func (t *Taken[K, V]) Delete(key K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.Load(key); e != nil {
		hash := t.tier.hash.hash(key)
		t.tables[hash>>shardBits&t.tier.mask].remove(hash, e)
	}
}

// Entries returns all entries, in no order.
func (t *Taken[K, V]) Entries() (all []*Entry[K, V]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tb := range t.tables {
		tb.each(func(e *Entry[K, V]) { all = append(all, e) })
	}
	return all
}

// Entries returns all entries, shard by shard, in the order in which they would
// leave if nothing were used any more, roughly.
func (t *Tier[K, V]) Entries() (all []*Entry[K, V]) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, q := range []*queue[K, V]{&s.adaptive.window, &s.adaptive.main} {
			for e := q.head(); e != &q.root; e = e.next {
				all = append(all, e)
			}
		}
		s.mu.Unlock()
	}
	return all
}

// Counts of a tier, summed over its shards one after the other.
type Counts struct {
	Entries int
	Bytes   int64  // the sum of their weights
	Evicted uint64 // how many left to make room
}

// Counts returns what the tier holds.
func (t *Tier[K, V]) Counts() (c Counts) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		c.Entries += s.adaptive.len()
		c.Bytes += s.bytes
		c.Evicted += s.evicted
		s.mu.Unlock()
	}
	return c
}

// Bounds returns what New was given.
func (t *Tier[K, V]) Bounds() Bounds { return t.bounds }

// needsRoom says whether another entry has to leave before e can come, or take
// the place of old.
//
// REQUIRES: s.mu held.
func (s *shard[K, V]) needsRoom(linked bool, old, e *Entry[K, V]) bool {
	n, bytes := s.adaptive.len(), s.bytes+int64(e.weight)
	if linked {
		n--
		bytes -= int64(old.weight)
	}
	return n > 0 && (n >= s.entries || s.maxBytes > 0 && bytes > s.maxBytes)
}

// REQUIRES: s.mu held.
func (s *shard[K, V]) arrive(p Policy, hash uint64, e *Entry[K, V]) {
	if p == Adaptive {
		s.adaptive.arrive(hash, e)
	}
}

// REQUIRES: s.mu held.
func (s *shard[K, V]) add(p Policy, e *Entry[K, V]) {
	s.bytes += int64(e.weight)
	if p == Adaptive {
		s.adaptive.add(e)
	} else {
		s.adaptive.main.push(e)
	}
}

// REQUIRES: s.mu held.
func (s *shard[K, V]) replace(p Policy, old, e *Entry[K, V]) {
	s.bytes += int64(e.weight) - int64(old.weight)
	if p == Adaptive {
		s.adaptive.replace(old, e)
		return
	}
	q := &s.adaptive.main
	q.insert(e, old)
	q.remove(old)
	if p == LRU {
		q.rotate(e)
	}
}

// evict unlinks the entry that the policy says has to leave.
//
// REQUIRES: s.mu held, and an entry is there.
func (s *shard[K, V]) evict(p Policy, now int64) *Entry[K, V] {
	n := s.adaptive.len()
	if a := &s.adaptive; n < s.entries && (n*resizeFraction < a.capacity*(resizeFraction-1) || n*resizeFraction > a.capacity*(resizeFraction+1)) {
		a.resize(n) // full by bytes
	}
	var e *Entry[K, V]
	if p == Adaptive {
		e = s.adaptive.evict(now)
	} else {
		e = s.adaptive.main.head()
		s.adaptive.main.remove(e)
	}
	s.bytes -= int64(e.weight)
	return e
}

// grow returns a table that has room for one entry more.
//
// REQUIRES: s.mu held.
func (s *shard[K, V]) grow(tb *table[K, V], h *hasher[K]) *table[K, V] {
	if s.adaptive.len() < maxLoad*len(tb.buckets) {
		return tb
	}
	whole := s.entries/maxLoad + 1
	tb = tb.grown(min(2*len(tb.buckets), whole), h)
	s.table.Store(tb)
	return tb
}
