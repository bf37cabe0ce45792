package fifo

import (
	"iter"
	"sync"

	"github.com/flipcache/flipcache/internal/bounded"
)

// Locked is a FIFO container that any number of goroutines may use at once. Its
// capacity holds at every moment, and no method calls out while it is locked.
type Locked[K comparable, V any] struct {
	mu sync.Mutex // guards q
	q  bounded.Queue[K, V]

	onEvict func(K, V, Reason)
}

// NewLocked returns an empty Locked, or an error where o.Capacity is below 1.
func NewLocked[K comparable, V any](o Options[K, V]) (*Locked[K, V], error) {
	c := new(Locked[K, V])
	var err error
	if c.onEvict, err = o.open(&c.q); err != nil {
		return nil, err
	}
	return c, nil
}

// Get returns the value of key.
func (c *Locked[K, V]) Get(key K) (value V, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.q.Get(key, false)
}

// Peek is Get: here reading changes no order.
func (c *Locked[K, V]) Peek(key K) (value V, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.q.Get(key, false)
}

// Contains reports whether key is there.
func (c *Locked[K, V]) Contains(key K) bool {
	_, found := c.Peek(key)
	return found
}

// Set sets the value of key, and returns the value that it replaced. The entry
// of a new key is the youngest; one that is there keeps its place. Where a new
// key finds the container full, the oldest entry is evicted. A key that is not
// equal to itself (a NaN) is evicted at once.
func (c *Locked[K, V]) Set(key K, value V) (old V, replaced bool) {
	old, replaced, out, evicted := c.set(key, value)
	if evicted {
		c.onEvict(out.Key, out.Value, Evicted)
	}
	return old, replaced
}

func (c *Locked[K, V]) set(key K, value V) (V, bool, bounded.Entry[K, V], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.q.Set(key, value, false)
}

// Delete takes the entry of key out, and reports whether there was one.
func (c *Locked[K, V]) Delete(key K) bool {
	e, found := c.remove(key)
	if found {
		c.onEvict(e.Key, e.Value, Deleted)
	}
	return found
}

func (c *Locked[K, V]) remove(key K) (bounded.Entry[K, V], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.q.Delete(key)
}

// Clear takes all entries out at once; OnEvict hears of them oldest first.
func (c *Locked[K, V]) Clear() {
	c.mu.Lock()
	all := c.q.Entries()
	c.q.Clear()
	c.mu.Unlock()
	for _, e := range all {
		c.onEvict(e.Key, e.Value, Cleared)
	}
}

// Oldest returns the entry that came first, the next to be evicted.
func (c *Locked[K, V]) Oldest() (key K, value V, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, found := c.q.Oldest()
	return e.Key, e.Value, found
}

// Len returns the number of entries, at most Cap.
func (c *Locked[K, V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.q.Len()
}

// Cap returns the capacity.
func (c *Locked[K, V]) Cap() int { return c.q.Cap() }

// All ranges over the entries as they are when the loop begins, oldest first. The
// loop may call any method, and so may others while it runs.
func (c *Locked[K, V]) All() iter.Seq2[K, V] { return bounded.All(c.entries) }

// Keys ranges over the keys as they are when the loop begins, oldest first. The
// loop may call any method, and so may others while it runs.
func (c *Locked[K, V]) Keys() iter.Seq[K] { return bounded.Keys(c.entries) }

func (c *Locked[K, V]) entries() []bounded.Entry[K, V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.q.Entries()
}
