package fifo

import (
	"fmt"
	"iter"

	"github.com/flipcache/flipcache/internal/bounded"
)

// Options says how a container is made. Only Capacity is required.
type Options[K comparable, V any] struct {
	// Capacity is how many entries it holds at most, 1 or more. Memory is
	// taken as entries come, not in advance.
	Capacity int

	// OnEvict is called once for each entry that leaves, with why it left. A
	// value that Set replaces leaves no entry: Set returns it.
	//
	// It runs on the goroutine whose call took the entry out, when the
	// container is consistent again and, if it has locks, unlocked: it may
	// call any method. If it panics, so does that call; the container
	// stays usable.
	OnEvict func(key K, value V, why Reason)
}

// A Reason says why an entry left.
type Reason uint8

// Why entries leave.
const (
	Evicted Reason = iota // it made room for a new key
	Deleted               // by Delete
	Cleared               // by Clear
	Expired               // the TTL that SetTTL gave it was over
)

// String returns "evicted", "deleted", "cleared" or "expired".
func (r Reason) String() string {
	switch r {
	case Evicted:
		return "evicted"
	case Deleted:
		return "deleted"
	case Cleared:
		return "cleared"
	case Expired:
		return "expired"
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// open makes q what o asks for, and returns what to call for each entry that
// leaves.
func (o Options[K, V]) open(q *bounded.Queue[K, V]) (func(K, V, Reason), error) {
	if err := q.Open(o.Capacity); err != nil {
		return nil, fmt.Errorf("fifo: %w", err)
	}
	if o.OnEvict == nil {
		return func(K, V, Reason) {}, nil
	}
	return o.OnEvict, nil
}

// Cache is a FIFO container for one goroutine. Not safe for concurrent use:
// that is [Locked].
type Cache[K comparable, V any] struct {
	q       bounded.Queue[K, V]
	onEvict func(K, V, Reason)
}

// New returns an empty Cache, or an error where o.Capacity is below 1.
func New[K comparable, V any](o Options[K, V]) (*Cache[K, V], error) {
	c := new(Cache[K, V])
	var err error
	if c.onEvict, err = o.open(&c.q); err != nil {
		return nil, err
	}
	return c, nil
}

// Get returns the value of key.
func (c *Cache[K, V]) Get(key K) (value V, found bool) { return c.q.Get(key, false) }

// Peek is Get: here reading changes no order.
func (c *Cache[K, V]) Peek(key K) (value V, found bool) { return c.q.Get(key, false) }

// Contains reports whether key is there.
func (c *Cache[K, V]) Contains(key K) bool {
	_, found := c.q.Get(key, false)
	return found
}

// Set sets the value of key, and returns the value that it replaced. The entry
// of a new key is the youngest; one that is there keeps its place. Where a new
// key finds the container full, the oldest entry is evicted. A key that is not
// equal to itself (a NaN) is evicted at once.
func (c *Cache[K, V]) Set(key K, value V) (old V, replaced bool) {
	old, replaced, out, evicted := c.q.Set(key, value, false)
	if evicted {
		c.onEvict(out.Key, out.Value, Evicted)
	}
	return old, replaced
}

// Delete takes the entry of key out, and reports whether there was one.
func (c *Cache[K, V]) Delete(key K) bool {
	e, found := c.q.Delete(key)
	if found {
		c.onEvict(e.Key, e.Value, Deleted)
	}
	return found
}

// Clear takes all entries out, oldest first.
func (c *Cache[K, V]) Clear() {
	all := c.q.Entries()
	c.q.Clear()
	for _, e := range all {
		c.onEvict(e.Key, e.Value, Cleared)
	}
}

// Oldest returns the entry that came first, the next to be evicted.
func (c *Cache[K, V]) Oldest() (key K, value V, found bool) {
	e, found := c.q.Oldest()
	return e.Key, e.Value, found
}

// Len returns the number of entries, at most Cap.
func (c *Cache[K, V]) Len() int { return c.q.Len() }

// Cap returns the capacity.
func (c *Cache[K, V]) Cap() int { return c.q.Cap() }

// All ranges over the entries as they are when the loop begins, oldest first. The
// loop may call any method.
func (c *Cache[K, V]) All() iter.Seq2[K, V] { return bounded.All(c.q.Entries) }

// Keys ranges over the keys as they are when the loop begins, oldest first. The
// loop may call any method.
func (c *Cache[K, V]) Keys() iter.Seq[K] { return bounded.Keys(c.q.Entries) }
