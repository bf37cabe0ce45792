// Package bounded is the map in a line that lru and fifo are made of: at most
// so many entries, oldest first. It knows no lock and no callback; those who
// wrap it do.
package bounded

import (
	"fmt"
	"iter"
)

// An Entry is a key and its value.
type Entry[K comparable, V any] struct {
	Value V // beside the links of a node: a hit needs these and not the key
	Key   K
}

// A Queue maps keys to values, and its entries stand in a line. Nothing but
// Clear and Entries takes longer the more there are. Open it first; do not copy
// it. Not safe for concurrent use.
type Queue[K comparable, V any] struct {
	m    map[K]*node[K, V]
	line node[K, V] // a ring through a sentinel: line.next is the oldest, line.prev the youngest
	cap  int
}

type node[K comparable, V any] struct {
	prev, next *node[K, V] // older, younger
	Entry[K, V]
}

// Open makes q an empty queue, or returns an error where capacity is below 1.
// Memory grows with what is in it, not with capacity.
func (q *Queue[K, V]) Open(capacity int) error {
	if err := CheckCapacity(capacity); err != nil {
		return err
	}
	q.cap = capacity
	q.Clear()
	return nil
}

// CheckCapacity returns an error where capacity is below 1.
func CheckCapacity(capacity int) error {
	if capacity < 1 {
		return fmt.Errorf("capacity %d is below 1: set Options.Capacity", capacity)
	}
	return nil
}

// Len returns the number of entries, at most Cap.
func (q *Queue[K, V]) Len() int { return len(q.m) }

// Cap returns the capacity.
func (q *Queue[K, V]) Cap() int { return q.cap }

// Get returns the value of key. Where renew is true, its entry is the youngest
// from now on.
func (q *Queue[K, V]) Get(key K, renew bool) (value V, found bool) {
	n, ok := q.m[key]
	if !ok {
		return value, false
	}
	if renew {
		q.renew(n)
	}
	return n.Value, true
}

// Set sets the value of key, and returns the one that it replaces. The entry of
// a new key is the youngest; whether one that is there becomes it, renew says.
// Where a new key finds the queue full, the oldest entry goes, and is returned.
// A key that is not equal to itself (a NaN) could never be found again: its
// entry goes at once.
func (q *Queue[K, V]) Set(key K, value V, renew bool) (old V, replaced bool, out Entry[K, V], evicted bool) {
	if n, ok := q.m[key]; ok {
		old, n.Value = n.Value, value
		if renew {
			q.renew(n)
		}
		return old, true, out, false
	}
	if key != key {
		return old, false, Entry[K, V]{value, key}, true
	}
	var n *node[K, V]
	if len(q.m) < q.cap {
		n = new(node[K, V])
	} else {
		n = q.line.next // its memory serves the new entry
		out, evicted = n.Entry, true
		q.remove(n)
	}
	n.Entry = Entry[K, V]{value, key}
	q.m[key] = n
	q.push(n)
	return old, false, out, evicted
}

// Delete takes the entry of key out and returns it.
func (q *Queue[K, V]) Delete(key K) (e Entry[K, V], found bool) {
	n, ok := q.m[key]
	if !ok {
		return e, false
	}
	q.remove(n)
	return n.Entry, true
}

// Oldest returns the oldest entry.
func (q *Queue[K, V]) Oldest() (e Entry[K, V], found bool) {
	if n := q.line.next; n != &q.line {
		return n.Entry, true
	}
	return e, false
}

// Clear takes all entries out.
func (q *Queue[K, V]) Clear() {
	q.m = make(map[K]*node[K, V])
	q.line.prev, q.line.next = &q.line, &q.line
}

// Entries returns all entries, oldest first.
func (q *Queue[K, V]) Entries() []Entry[K, V] {
	all := make([]Entry[K, V], 0, len(q.m))
	for n := q.line.next; n != &q.line; n = n.next {
		all = append(all, n.Entry)
	}
	return all
}

func (q *Queue[K, V]) remove(n *node[K, V]) {
	delete(q.m, n.Key)
	n.prev.next, n.next.prev = n.next, n.prev
}

func (q *Queue[K, V]) push(n *node[K, V]) {
	n.prev, n.next = q.line.prev, &q.line
	n.prev.next, n.next.prev = n, n
}

func (q *Queue[K, V]) renew(n *node[K, V]) {
	n.prev.next, n.next.prev = n.next, n.prev
	q.push(n)
}

// All ranges over what entries returns when the loop begins.
func All[K comparable, V any](entries func() []Entry[K, V]) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, e := range entries() {
			if !yield(e.Key, e.Value) {
				return
			}
		}
	}
}

// Keys ranges over the keys of what entries returns when the loop begins.
func Keys[K comparable, V any](entries func() []Entry[K, V]) iter.Seq[K] {
	return func(yield func(K) bool) {
		for _, e := range entries() {
			if !yield(e.Key) {
				return
			}
		}
	}
}
