package fifo

import (
	"fmt"
	"iter"
	"sync/atomic"
	"time"

	"github.com/flipcache/flipcache/internal/bounded"
	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/tier"
)

// Concurrent is a container for any number of goroutines, whose hits take no
// lock and do not wait for those that insert. It is what package hybrid keeps
// locally.
//
// Its entries stand in two FIFO queues, and what is worth keeping is learned from
// how often and how soon keys come back, also after they were evicted or deleted:
// it holds more of what will be used again than LRU does, and neither a scan nor a
// loop over more keys than it holds empties it. How, and what it was measured
// with, is in docs/decisions/0010-local-tier.md.
//
// It holds no more than its capacity at any moment. A key that was set is there
// until other keys are set, at least until the next. It is divided into up to 16
// shards, each with its part of the capacity, and of at least 256 entries.
type Concurrent[K comparable, V any] struct {
	tier    *tier.Tier[K, V]
	clock   *clock.Coarse
	timed   atomic.Bool // an entry with an end was set
	onEvict func(K, V, Reason)
}

// NewConcurrent returns an empty Concurrent, or an error where o.Capacity is below
// 1. OnEvict, if there is one, is called by several goroutines at once.
func NewConcurrent[K comparable, V any](o Options[K, V]) (*Concurrent[K, V], error) {
	if err := bounded.CheckCapacity(o.Capacity); err != nil {
		return nil, fmt.Errorf("fifo: %w", err)
	}
	if o.OnEvict == nil {
		o.OnEvict = func(K, V, Reason) {}
	}
	return &Concurrent[K, V]{
		tier:    tier.New[K, V](tier.Bounds{Entries: o.Capacity}, tier.Adaptive),
		clock:   clock.NewCoarse(),
		onEvict: o.OnEvict,
	}, nil
}

// Get returns the value of key, and counts that it was used.
func (c *Concurrent[K, V]) Get(key K) (value V, found bool) {
	if e := c.tier.Load(key); e != nil && c.live(e) {
		return e.Value, true
	}
	return value, false
}

// Peek is Get that counts no use.
func (c *Concurrent[K, V]) Peek(key K) (value V, found bool) {
	if e := c.tier.Peek(key); e != nil && c.live(e) {
		return e.Value, true
	}
	return value, false
}

// Contains reports whether key is there. It counts no use.
func (c *Concurrent[K, V]) Contains(key K) bool {
	_, found := c.Peek(key)
	return found
}

// Set sets the value of key, without an end, and returns the value that it
// replaced. Where a new key finds its shard full, an entry is evicted. A key that
// is not equal to itself (a NaN) is evicted at once.
func (c *Concurrent[K, V]) Set(key K, value V) (old V, replaced bool) {
	return c.set(key, value, clock.Never)
}

// SetTTL is Set for a value that ends after ttl, to the nanosecond; at once where
// that is 0 or less. An entry that has ended is not found any more, and keeps its
// place until another needs it.
//
// Call Close when a Concurrent is no longer used on which SetTTL was called.
func (c *Concurrent[K, V]) SetTTL(key K, value V, ttl time.Duration) (old V, replaced bool) {
	c.timed.Store(true)
	deadline := int64(clock.Never)
	if now := clock.Now(); int64(ttl) < clock.Never-now {
		deadline = now + max(0, int64(ttl))
	}
	return c.set(key, value, deadline)
}

func (c *Concurrent[K, V]) set(key K, value V, deadline int64) (old V, replaced bool) {
	if key != key {
		c.onEvict(key, value, Evicted)
		return old, false
	}
	var now int64
	if c.timed.Load() {
		now = clock.Now()
	}
	before, out := c.tier.Store(key, &tier.Entry[K, V]{Value: value, Deadline: deadline}, 0, now)
	if before != nil {
		if before.Deadline > now {
			old, replaced = before.Value, true
		} else {
			c.onEvict(key, before.Value, Expired)
		}
	}
	for ; out != nil; out = out.Next() {
		c.leave(out, now, Evicted)
	}
	return old, replaced
}

// leave calls OnEvict.
func (c *Concurrent[K, V]) leave(e *tier.Entry[K, V], now int64, why Reason) {
	if e.Deadline <= now {
		why = Expired
	}
	c.onEvict(e.Key(), e.Value, why)
}

// Delete takes the entry of key out, and reports whether there was one. When the
// key is set again soon, what was known of its use counts.
func (c *Concurrent[K, V]) Delete(key K) bool {
	e := c.tier.Delete(key)
	if e == nil {
		return false
	}
	now := clock.Now()
	c.leave(e, now, Deleted)
	return e.Deadline > now
}

// Clear takes all entries out. What is set meanwhile may be taken out or stay.
func (c *Concurrent[K, V]) Clear() {
	now := clock.Now()
	for _, e := range c.tier.Take().Entries() {
		c.leave(e, now, Cleared)
	}
}

// Len returns the number of entries, at most Cap, those among them that have
// ended and whose place nobody has needed yet.
func (c *Concurrent[K, V]) Len() int { return c.tier.Counts().Entries }

// Cap returns the capacity.
func (c *Concurrent[K, V]) Cap() int { return c.tier.Bounds().Entries }

// All ranges over the entries, in no order, each shard as it is when the loop
// begins. The loop may call any method, and so may others while it runs.
func (c *Concurrent[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, e := range c.tier.Entries() {
			if c.live(e) && !yield(e.Key(), e.Value) {
				return
			}
		}
	}
}

// Keys ranges over the keys, as All does.
func (c *Concurrent[K, V]) Keys() iter.Seq[K] {
	return func(yield func(K) bool) {
		for key := range c.All() {
			if !yield(key) {
				return
			}
		}
	}
}

// Close ends the ticker that SetTTL has need of, and waits for it. Everything goes
// on to work.
func (c *Concurrent[K, V]) Close() { c.clock.Close() }

func (c *Concurrent[K, V]) live(e *tier.Entry[K, V]) bool {
	return e.Deadline == clock.Never || c.clock.Ahead(e.Deadline, clock.Never)
}

// See the same line in package hybrid.
var _ = (*Concurrent[string, string]).Get
