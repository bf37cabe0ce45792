// Package tier is the bounded map that a cache keeps in its process: a
// concurrent hash map whose hits take no lock, and a queue that says what to
// evict. It knows no time and no coherence: who inserts decides whether an
// entry may be there, who reads whether it is still good.
package tier

import (
	"sync"
	"sync/atomic"

	"github.com/puzpuzpuz/xsync/v4"
)

// An Entry is what a key maps to. Its exported fields never change once it is
// in a tier.
type Entry[K comparable, V any] struct {
	Value    V
	Deadline int64 // on the clock of internal/clock; clock.Never: none
	Born     int64 // when Redis was asked for it, or told, on the same clock
	Missing  bool  // the key is known not to be there; Value is zero
	NoSource bool  // Missing, and a loader said that there is nothing to load

	key        K
	visited    atomic.Bool // hit since the queue last looked at it
	prev, next *Entry[K, V]
}

type entries[K comparable, V any] = xsync.Map[K, *Entry[K, V]]

// Tier holds at most Cap entries. Eviction is FIFO with a second chance (the
// CLOCK of Corbató, 1968): an entry that was hit since it came, or since it was
// last spared, is spared once more. Safe for concurrent use.
type Tier[K comparable, V any] struct {
	m   atomic.Pointer[entries[K, V]]
	cap int

	// mu guards the queue, n and evicted, and every change of m: whoever
	// holds it sees the queue and the map agree. Load takes no lock.
	mu      sync.Mutex
	queue   Entry[K, V] // ring through a sentinel; queue.next is the oldest
	n       int
	evicted uint64
}

// New returns an empty tier. capacity is at least 1; nothing is allocated in
// proportion to it.
func New[K comparable, V any](capacity int) *Tier[K, V] {
	t := &Tier[K, V]{cap: capacity}
	t.Take()
	return t
}

// Load returns the entry of key, or nil, and counts the access for eviction.
func (t *Tier[K, V]) Load(key K) *Entry[K, V] {
	e, _ := t.m.Load().Load(key)
	if e != nil && !e.visited.Load() { // written only while it changes: hits of a hot entry share its line
		e.visited.Store(true)
	}
	return e
}

// Store puts e in as the entry of key, in place of any other.
func (t *Tier[K, V]) Store(key K, e *Entry[K, V]) {
	e.key = key
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, ok := t.m.Load().Load(key); ok {
		t.unlink(old)
	} else if t.n >= t.cap {
		t.evict()
	}
	e.prev, e.next = t.queue.prev, &t.queue
	e.prev.next, e.next.prev = e, e
	t.n++
	t.m.Load().Store(key, e)
}

// Delete takes the entry of key out, if there is one.
func (t *Tier[K, V]) Delete(key K) {
	if _, ok := t.m.Load().Load(key); !ok {
		return // most invalidations are for keys that are not held here
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.m.Load().LoadAndDelete(key); ok {
		t.unlink(e)
	}
}

// Take takes all entries out, in a time that does not depend on their number,
// and returns them.
func (t *Tier[K, V]) Take() *Taken[K, V] {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue.prev, t.queue.next = &t.queue, &t.queue
	t.n = 0
	return &Taken[K, V]{t.m.Swap(xsync.NewMap[K, *Entry[K, V]]())}
}

// Taken is what was in a tier. Safe for concurrent use.
type Taken[K comparable, V any] struct{ m *entries[K, V] }

// Load returns the entry of key, or nil.
func (t *Taken[K, V]) Load(key K) *Entry[K, V] {
	e, _ := t.m.Load(key)
	return e
}

// Delete takes the entry of key out.
func (t *Taken[K, V]) Delete(key K) { t.m.Delete(key) }

// Len returns the number of entries, at most Cap at any time.
func (t *Tier[K, V]) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// Cap returns the capacity.
func (t *Tier[K, V]) Cap() int { return t.cap }

// Evicted returns how many entries left to make room.
func (t *Tier[K, V]) Evicted() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.evicted
}

// maxSpared bounds the work of one eviction, which runs under a lock.
const maxSpared = 64

// evict takes out the oldest entry that was not hit since the queue last
// looked at it, or the next one after maxSpared that were.
//
// REQUIRES: t.mu held, t.n > 0.
func (t *Tier[K, V]) evict() {
	for range min(t.n, maxSpared) {
		e := t.queue.next
		if !e.visited.Load() {
			break
		}
		e.visited.Store(false)
		e.prev.next, e.next.prev = e.next, e.prev
		e.prev, e.next = t.queue.prev, &t.queue
		e.prev.next, e.next.prev = e, e
	}
	e := t.queue.next
	t.m.Load().Delete(e.key)
	t.unlink(e)
	t.evicted++
}

// REQUIRES: t.mu held.
func (t *Tier[K, V]) unlink(e *Entry[K, V]) {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
	t.n--
}
